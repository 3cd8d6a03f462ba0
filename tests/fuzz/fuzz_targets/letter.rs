//! What the control room gets over MQTT: a topic up to the first line break, then the payload.
#![no_main]

use inspectd::console::letter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let (topic, rest) = bytes.split_at(at);
    if let Ok(topic) = std::str::from_utf8(topic) {
        let _ = letter::read(topic, rest.get(1..).unwrap_or_default().to_vec(), false);
    }
});
