//! What every scene's tests need.

use std::collections::HashMap;

use crate::frame::Truth;

/// FNV-1a.
pub fn digest(pixels: &[u8]) -> u64 {
    pixels.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// The box in whole pixels.
pub fn corners(truth: &Truth) -> [i64; 4] {
    truth.bbox.map(|at| at as i64)
}

/// At 10.5 px a frame boxes move by 10 px and 11 px in turn, and keep their ids.
#[track_caller]
pub fn assert_boxes_move(truth: impl Fn(u64) -> Vec<Truth>, width: i64) {
    let mut before: HashMap<u64, [i64; 4]> = HashMap::new();
    let mut moved = 0;
    for frame in 0..200 {
        let step = 10 + i64::from(frame % 2 == 0);
        let now: HashMap<_, _> = truth(frame).iter().map(|truth| (truth.id, corners(truth))).collect();
        for (id, [x0, y0, x1, y1]) in &now {
            let Some(was) = before.get(id) else { continue };
            assert_eq!([*y0, *y1], [was[1], was[3]]);
            if *x0 > 0 && was[2] < width {
                assert_eq!([x0 + step, x1 + step], [was[0], was[2]]);
                moved += 1;
            }
        }
        before = now;
    }
    assert!(moved > 50, "{moved}");
}
