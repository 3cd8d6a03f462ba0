use std::collections::HashSet;

use super::*;
use crate::frame::scene::SceneKind;
use crate::frame::scene::checks::{assert_boxes_move, corners, digest};

fn config(width: u32, height: u32) -> SceneConfig {
    SceneConfig { kind: SceneKind::Steel, width, height, seed: 7, speed: 24.0, defects_per_frame: 0.1 }
}

#[test]
fn the_same_on_every_machine() {
    // One defect of each kind is in these pictures. A change of the look changes the numbers, and nothing else may.
    let scene = Strip::new(SceneConfig { defects_per_frame: 0.4, ..config(640, 480) });
    let (pixels, truth) = scene.render(1000);
    let classes: HashSet<_> = truth.iter().map(|truth| truth.class).collect();
    assert_eq!(classes.len(), CLASSES.len(), "{truth:?}");
    assert_eq!(pixels.len(), 640 * 480 * 3);
    assert_eq!(digest(&pixels), 0xF53A_07C3_05CC_D9B1, "{:#X}", digest(&pixels));
}

#[test]
fn frames_do_not_depend_on_each_other() {
    let scene = Strip::new(config(160, 120));
    let late = scene.render(900);
    assert_ne!(scene.render(3), late);
    assert_eq!(scene.render(900), late);
    assert_eq!(Strip::new(config(160, 120)).render(900), late);
    assert_ne!(Strip::new(SceneConfig { seed: 8, ..config(160, 120) }).render(900).0, late.0);
}

#[test]
fn as_many_defects_as_configured() {
    // Also where the strip moves by more than a frame, and where several defects share a cell.
    for (speed, defects_per_frame) in [(31.3, 0.2), (400.0, 0.2), (28.0, 3.5)] {
        let frames: u64 = if defects_per_frame > 1.0 { 200 } else { 3000 };
        let scene = Strip::new(SceneConfig { speed, defects_per_frame, ..config(64, 64) });
        let ids: HashSet<_> = (0..frames).flat_map(|frame| scene.render(frame).1).map(|truth| truth.id).collect();
        let ratio = ids.len() as f32 / frames as f32 / defects_per_frame;
        assert!((0.85..1.15).contains(&ratio), "{ratio} at {speed} px a frame");
    }
}

#[test]
fn defects_are_inside_their_boxes_and_nowhere_else() {
    let busy = SceneConfig { speed: 640.0, defects_per_frame: 6.0, ..config(640, 480) };
    let clean = Strip::new(SceneConfig { defects_per_frame: 0.0, ..busy.clone() });
    let busy = Strip::new(busy);
    for frame in 0..4 {
        let (pixels, truth) = busy.render(frame);
        let (bare, nothing) = clean.render(frame);
        assert!(nothing.is_empty() && !truth.is_empty());
        let change = |x: i64, y: i64| {
            let at = (3 * (y * 640 + x)) as usize;
            (at..at + 3).map(|n| pixels[n].abs_diff(bare[n])).fold(0, u8::max)
        };
        // Those too little visible for the truth count here.
        let placed = busy.placed(busy.config.offset(frame));
        let boxed = |x: i64, y: i64| {
            placed.iter().any(|defect| {
                (defect.extent.x..defect.extent.x + defect.patch.width as i64).contains(&x)
                    && (defect.extent.y..defect.extent.y + defect.patch.height as i64).contains(&y)
            })
        };
        for (x, y) in (0..480).flat_map(|y| (0..640).map(move |x| (x, y))) {
            assert!(change(x, y) == 0 || boxed(x, y), "frame {frame} differs at {x}, {y}");
        }
        for truth in &truth {
            let [x0, y0, x1, y1] = corners(truth);
            assert!(0 <= x0 && x0 < x1 && x1 <= 640 && 0 <= y0 && y0 < y1 && y1 <= 480, "{truth:?}");
            let inside = || (y0..y1).flat_map(|y| (x0..x1).map(move |x| (x, y)));
            let changed = inside().filter(|&(x, y)| change(x, y) > 0).count();
            assert!(changed * 20 > inside().count(), "{changed} pixels of {truth:?}");
            assert!(inside().any(|(x, y)| change(x, y) >= 20), "{truth:?} is hard to see");
            // And it fits: the edges that the frame does not cut are touched.
            assert!((x0..x1).any(|x| change(x, y0) > 0) && (x0..x1).any(|x| change(x, y1 - 1) > 0), "{truth:?}");
        }
    }
}

#[test]
fn defects_have_the_size_they_should() {
    for scale in [0.4, 1.0, 2.5] {
        let mut classes = HashSet::new();
        for n in 0..300 {
            let patch = Patch::new(&mut Rng::new(7, Stream::Defect, n), scale);
            let longest = patch.width.max(patch.height) as f32 / scale;
            assert!((11.0..=90.0).contains(&longest), "{} of {longest} px", patch.class);
            assert!(patch.width.max(patch.height) <= defect::reach(scale) as usize);
            classes.insert(patch.class);
        }
        assert_eq!(classes, HashSet::from(CLASSES));
    }
}

#[test]
fn boxes_move_with_the_strip() {
    let scene = Strip::new(SceneConfig { speed: 10.5, ..config(320, 240) });
    assert_boxes_move(|frame| scene.render(frame).1, 320);
}

#[test]
fn little_of_a_defect_is_not_in_the_truth() {
    let scene = Strip::new(SceneConfig { speed: 3.0, defects_per_frame: 0.2, ..config(160, 120) });
    let mut left_out = 0;
    for frame in 0..200 {
        let named: HashSet<_> = scene.render(frame).1.iter().map(|truth| truth.id).collect();
        for defect in scene.placed(scene.config.offset(frame)) {
            let width = defect.patch.width as i64;
            let visible = (defect.extent.x + width).min(160) - defect.extent.x.max(0);
            assert_eq!(named.contains(&defect.id), visible * 10 >= width * 3, "{visible} of {width}");
            left_out += u32::from(visible > 0 && visible * 10 < width * 3);
        }
    }
    assert!(left_out > 10, "{left_out}");
}

#[test]
fn a_strip_that_stands_still_shows_no_defect_and_never_the_same_picture() {
    let scene = Strip::new(SceneConfig { speed: 0.0, ..config(160, 120) });
    let pictures: HashSet<_> = (0..20).map(|frame| digest(&scene.render(frame).0)).collect();
    assert_eq!(pictures.len(), 20);
    assert!(scene.render(5).1.is_empty());
}

#[test]
fn looks_the_same_everywhere() {
    // What has learnt the first frames must find the later ones normal.
    let scene = Strip::new(SceneConfig { defects_per_frame: 0.0, ..config(640, 480) });
    for frame in [0, 100, 40_000, 5_000_000] {
        let pixels = scene.render(frame).0;
        let count = pixels.len() as f64;
        let mean = pixels.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let spread = (pixels.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count).sqrt();
        assert!((122.0..138.0).contains(&mean) && (7.0..11.0).contains(&spread), "{mean} {spread} in {frame}");
    }
}

#[test]
fn any_size_and_any_frame() {
    for (width, height) in [(64, 64), (64, 1200), (1501, 65), (33_000, 64)] {
        let scene = Strip::new(SceneConfig { speed: 10_000.0, defects_per_frame: 1.0, ..config(width, height) });
        for frame in [0, 1, u64::MAX] {
            assert_eq!(scene.render(frame).0.len(), (width * height * 3) as usize);
        }
    }
}
