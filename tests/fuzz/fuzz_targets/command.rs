//! A command over MQTT: its name up to the first line break, then its payload.
#![no_main]

use inspectd::command::Order;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let (name, rest) = bytes.split_at(at);
    if let Ok(name) = std::str::from_utf8(name) {
        let _ = Order::parse(name, rest.get(1..).unwrap_or_default());
    }
});
