//! What is wanted of a gateway, its release, and an index of chunks.
#![no_main]

use inspectd::update::admission;
use inspectd::update::release::Release;
use inspectd::update::trust::Keyring;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = admission::read(bytes, &Keyring::default());
    if let Ok(release) = Release::read(bytes) {
        let _ = release.bytes();
    }
});
