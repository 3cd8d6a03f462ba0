//! What is wanted of a gateway, as a message; and a release up to the first line break, with a signature or an index of chunks behind it.
#![no_main]

use inspectd::update::admission;
use inspectd::update::index::{self, Digest};
use inspectd::update::release::{FileSpec, Release};
use inspectd::update::trust::{self, Keyring};
use libfuzzer_sys::fuzz_target;

/// minisign's own.
const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

fuzz_target!(|bytes: &[u8]| {
    let keys = Keyring::new(vec![trust::public_key(KEY).expect("it is a key")], Vec::new());
    let _ = admission::read(bytes, &keys);
    let at = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let (text, rest) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    if let Ok(signature) = std::str::from_utf8(rest) {
        let _ = keys.verify(text, signature);
    }
    if let Ok(mut release) = Release::read(text) {
        // A true hash nobody guesses.
        release.index = Some(FileSpec { bytes: rest.len() as u64, sha256: Digest::of(rest) });
        if let Ok(recipes) = index::decode(&release, rest) {
            let chunks: u64 = recipes.iter().flat_map(|(_, chunks)| chunks).map(|chunk| chunk.bytes as u64).sum();
            assert_eq!(Some(chunks), release.bytes(), "the chunks are not the files");
        }
    }
});
