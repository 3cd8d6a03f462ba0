//! `bundle.json`, as it comes in an update or lies in a folder.
#![no_main]

use std::collections::BTreeMap;

use inspectd::model::bundle::Bundle;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let files = BTreeMap::from([("model.onnx".to_owned(), b"x".to_vec())]);
    let _ = Bundle::of(text, files);
});
