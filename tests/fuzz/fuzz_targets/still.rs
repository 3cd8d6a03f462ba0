//! A picture out of a folder: JPEG, PNG, BMP, TIFF, PNM. What is decoded is whole.
#![no_main]

use inspectd::frame::still;
use libfuzzer_sys::fuzz_target;

/// Small, so that time is spent on formats and not on pixels.
const MOST: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(image) = still::decode(bytes, MOST) {
        let pixels = u64::from(image.width) * u64::from(image.height);
        assert!((1..=MOST).contains(&pixels));
        assert_eq!(image.pixels.len() as u64, pixels * image.format.channels() as u64);
    }
});
