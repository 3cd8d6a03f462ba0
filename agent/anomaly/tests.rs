use super::*;

/// Feature maps of a frame of smooth texture, with something else in one corner if `odd`.
fn frame(seed: usize, odd: bool) -> Vec<FeatureMap> {
    let side = 8;
    let mut data = Vec::new();
    for c in 0..16 {
        for cell in 0..side * side {
            let (x, y) = (cell % side, cell / side);
            let wobble = ((seed * 31 + c * 7 + cell * 13) % 17) as f32 / 60.0;
            let strange = odd && x >= 5 && y >= 5;
            data.push(if strange { ((c * 5) % 16) as f32 / 8.0 } else { (c % 4) as f32 / 4.0 + wobble });
        }
    }
    vec![FeatureMap { channels: 16, height: side, width: side, stride: 16, data }]
}

#[test]
fn the_odd_one_stands_out_and_is_boxed() {
    let mut check = Check::new(0.001, 1.0);
    let mut normal = 0.0_f32;
    for seed in 0..80 {
        let anomaly = check.score(&frame(seed, false), true);
        if seed > 1 {
            normal = normal.max(anomaly.score);
        }
        if seed < calibrate::LEARNING {
            assert!(!anomaly.standing.is_calibrated() && anomaly.regions.is_empty() && anomaly.probability.is_none());
        }
    }
    let anomaly = check.score(&frame(81, true), true);
    assert!(anomaly.score > 2.0 * normal, "{} against {normal}", anomaly.score);
    let bbox = anomaly.regions[0].bbox;
    assert!(bbox[0] >= 48.0 && bbox[1] >= 48.0 && bbox[2] == 128.0 && bbox[3] == 128.0, "{bbox:?}");
    assert!(anomaly.regions[0].score > 0.5 && anomaly.probability.unwrap() > 0.5);
}

#[test]
fn a_stream_with_a_fifth_of_defects_does_not_learn_them_as_normal() {
    let mut check = Check::new(0.001, 1.0);
    let (mut odd, mut even) = (Vec::new(), Vec::new());
    for n in 0..200 {
        let is_odd = n % 5 == 2;
        let score = check.score(&frame(n, is_odd), true).score;
        if n > 20 {
            if is_odd { odd.push(score) } else { even.push(score) }
        }
    }
    let lowest = odd.iter().copied().fold(f32::MAX, f32::min);
    let highest = even.iter().copied().fold(0.0, f32::max);
    assert!(lowest > highest, "{lowest} against {highest}");
}

#[test]
fn frames_of_another_shape_are_compared_all_the_same() {
    let mut check = Check::new(0.001, 1.0);
    check.score(&frame(1, false), true);
    let mut wide = frame(2, false);
    wide[0].height = 4;
    wide[0].data.truncate(16 * 32);
    let anomaly = check.score(&wide, true);
    assert_eq!((anomaly.map.width, anomaly.map.height), (8, 4));
    assert!(anomaly.score.is_finite());
}
