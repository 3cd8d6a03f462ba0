use std::collections::HashSet;

use super::*;
use crate::frame::scene::SceneKind;
use crate::frame::scene::checks::{assert_boxes_move, corners, digest};

fn config(width: u32, height: u32) -> SceneConfig {
    SceneConfig { kind: SceneKind::Boards, width, height, seed: 7, speed: 24.0, defects_per_frame: 0.2 }
}

#[test]
fn the_same_on_every_machine() {
    // A change of the look changes the number, and nothing else may.
    let panel = Panel::new(SceneConfig { defects_per_frame: 10.0, speed: 640.0, ..config(640, 480) });
    let (pixels, truth) = panel.render(1);
    let classes: HashSet<_> = truth.iter().map(|truth| truth.class).collect();
    assert_eq!(classes.len(), CLASSES.len(), "{truth:?}");
    assert_eq!(pixels.len(), 640 * 480 * 3);
    assert_eq!(digest(&pixels), 0x7C6B_7E70_B009_C73F, "{:#X}", digest(&pixels));
}

#[test]
fn frames_do_not_depend_on_each_other() {
    let panel = Panel::new(config(320, 240));
    let late = panel.render(900);
    assert_ne!(panel.render(3), late);
    assert_eq!(panel.render(900), late);
    assert_eq!(Panel::new(config(320, 240)).render(900), late);
    assert_ne!(Panel::new(SceneConfig { seed: 8, ..config(320, 240) }).render(900).0, late.0);
}

#[test]
fn as_many_defects_as_configured() {
    for (speed, defects_per_frame) in [(31.3, 0.2), (1000.0, 0.7), (320.0, 3.5)] {
        let panel = Panel::new(SceneConfig { speed, defects_per_frame, ..config(320, 240) });
        let frames = 400;
        let placed = (0..frames).flat_map(|frame| panel.placed(panel.config.offset(frame)));
        let seen = placed.filter(|placed| placed.extent.seen(&panel.config, LEAST_VISIBLE).is_some());
        let ids: HashSet<_> = seen.map(|placed| placed.id).collect();
        let ratio = ids.len() as f32 / frames as f32 / defects_per_frame;
        assert!((0.85..1.15).contains(&ratio), "{ratio} at {speed} px a frame");
    }
}

#[test]
fn defects_are_inside_their_boxes_and_nowhere_else() {
    let mut classes = HashSet::new();
    for seed in 0..12 {
        let busy = SceneConfig { seed, speed: 400.0, defects_per_frame: 6.0, ..config(640, 480) };
        let clean = Panel::new(SceneConfig { defects_per_frame: 0.0, ..busy.clone() });
        let busy = Panel::new(busy);
        for frame in 1..3 {
            let (pixels, truth) = busy.render(frame);
            let (bare, nothing) = clean.render(frame);
            assert!(nothing.is_empty() && !truth.is_empty());
            let change = |x: i64, y: i64| {
                let at = (3 * (y * 640 + x)) as usize;
                pixels[at].abs_diff(bare[at])
            };
            // Those too little visible for the truth count here.
            let placed = busy.placed(busy.config.offset(frame));
            let boxed = |x: i64, y: i64| {
                placed.iter().any(|Placed { extent, .. }| {
                    (extent.x..extent.x + extent.width as i64).contains(&x)
                        && (extent.y..extent.y + extent.height as i64).contains(&y)
                })
            };
            for (x, y) in (0..480).flat_map(|y| (0..640).map(move |x| (x, y))) {
                assert!(change(x, y) == 0 || boxed(x, y), "seed {seed} frame {frame} differs at {x}, {y}");
            }
            for truth in &truth {
                let [x0, y0, x1, y1] = corners(truth);
                assert!(0 <= x0 && x0 < x1 && x1 <= 640 && 0 <= y0 && y0 < y1 && y1 <= 480, "{truth:?}");
                let changed = |x: i64| (y0..y1).filter(|&y| change(x, y) > 150).count();
                assert!((x0..x1).map(changed).sum::<usize>() > 10, "{truth:?} is hard to see");
                // And the margin is as in the data set.
                if x0 > 0 && x1 < 640 {
                    assert!((x0..x0 + 10).all(|x| changed(x) == 0) && changed(x0 + 10) > 0, "{truth:?}");
                    assert!((x1 - 10..x1).all(|x| changed(x) == 0) && changed(x1 - 11) > 0, "{truth:?}");
                }
                classes.insert(truth.class);
            }
        }
    }
    assert_eq!(classes, HashSet::from(CLASSES));
}

#[test]
fn defects_do_what_their_names_say() {
    // Pieces of copper and of bare board, holes included, before and after.
    for seed in 0..30 {
        let panel = Panel::new(SceneConfig { seed, speed: 640.0, defects_per_frame: 4.0, ..config(640, 480) });
        for Placed { defect, .. } in panel.defects(3, 0) {
            let around = |changed: bool| {
                let (wide, high) = (defect.width as i64, defect.height as i64);
                let copper = |x: i64, y: i64| {
                    let marked = changed && defect.marks[(y * wide + x) as usize];
                    panel.copper.pixel(defect.x + x, defect.y + y) != marked
                };
                [true, false].map(|kind| pieces(wide, high, |x, y| copper(x, y) == kind))
            };
            let ([copper, bare], [then_copper, then_bare]) = (around(false), around(true));
            let about = format!("{} of seed {seed} at {}, {}", defect.class, defect.x, defect.y);
            assert_eq!(defect.copper, ["pcb/short", "pcb/spur", "pcb/spurious_copper"].contains(&defect.class));
            match defect.class {
                "pcb/short" => assert!(then_copper < copper || then_bare > bare, "{about}"),
                "pcb/open" | "pcb/spurious_copper" => assert!(then_copper > copper, "{about}"),
                "pcb/pin_hole" => assert!(then_bare > bare, "{about}"),
                // Specks may stand apart.
                "pcb/mouse_bite" => assert!(then_bare <= bare + 1, "{about}: {bare} to {then_bare}"),
                _ => assert!(then_copper <= copper + 1, "{about}"),
            }
        }
    }
}

/// Pieces that hang together, of pixels of a box.
fn pieces(width: i64, height: i64, of: impl Fn(i64, i64) -> bool) -> usize {
    let mut left: HashSet<(i64, i64)> =
        (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).filter(|&(x, y)| of(x, y)).collect();
    let mut count = 0;
    while let Some(&first) = left.iter().next() {
        count += 1;
        let mut open = vec![first];
        while let Some((x, y)) = open.pop() {
            if left.remove(&(x, y)) {
                open.extend([(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]);
            }
        }
    }
    count
}

#[test]
fn boxes_move_with_the_panel() {
    let panel = Panel::new(SceneConfig { speed: 10.5, ..config(640, 480) });
    assert_boxes_move(|frame| panel.render(frame).1, 640);
}

#[test]
fn at_the_speed_of_its_length_each_frame_shows_the_same_board() {
    let panel = Panel::new(SceneConfig { speed: 640.0, defects_per_frame: 0.0, ..config(640, 480) });
    let (first, later) = (panel.render(0).0, panel.render(9).0);
    assert!(first.iter().zip(&later).all(|(a, b)| a.abs_diff(*b) < 30));
    // Nearly all is either copper or bare.
    let clear = first.iter().filter(|&&value| !(40..215).contains(&value)).count();
    assert_eq!(clear, first.len());
    let dark = first.iter().filter(|&&value| value < 40).count() as f32 / first.len() as f32;
    assert!((0.05..0.5).contains(&dark), "{dark}");
}

#[test]
fn any_size_and_any_frame() {
    for (width, height) in [(64, 64), (64, 1200), (1501, 65), (33_000, 64)] {
        let panel = Panel::new(SceneConfig { speed: 10_000.0, defects_per_frame: 1.0, ..config(width, height) });
        for frame in [0, 1, u64::MAX] {
            assert_eq!(panel.render(frame).0.len(), (width * height * 3) as usize);
        }
    }
    let still = Panel::new(SceneConfig { speed: 0.0, ..config(160, 120) });
    assert!(still.render(5).1.is_empty() && still.render(5) != still.render(6));
    let slow = Panel::new(SceneConfig { speed: 0.001, defects_per_frame: 10.0, ..config(320, 240) });
    assert!(slow.placed(0).len() <= MOST as usize);
}
