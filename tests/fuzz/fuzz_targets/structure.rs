//! The check of a network's structure, before ONNX Runtime sees it; and what is worked out of a network that passed.
#![no_main]

use inspectd::model::extract::cost;
use inspectd::model::onnx::ModelProto;
use inspectd::model::structure::{Limits, vet};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fuzz_target!(|bytes: &[u8]| {
    if vet(bytes, &Limits::default()).is_ok() {
        let model = ModelProto::decode(bytes).expect("what was vetted is ONNX");
        let _ = cost::cost(&model, 320, 320);
    }
});
