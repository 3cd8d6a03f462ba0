//! The shipped model over drawn circuit boards: no picture of any data set is needed to see that it names defects.

use std::collections::BTreeMap;

use inspectd::frame::scene::{Scene, SceneConfig, SceneKind};
use inspectd::frame::view::View;
use inspectd::frame::{Image, PixelFormat};
use inspectd::inspector::Inspector;
use inspectd::model::bundle::Bundle;
use inspectd::model::decode::iou;
use inspectd::model::runtime::{self, Session};

use crate::support::bundle;

const BOARDS: u64 = 150;
const SIDE: u32 = 640;
/// Defects a board, on average.
const DEFECTS: f32 = 5.0;
/// Boxes of defects some pixels long: a shift of two is much.
const SAME: f32 = 0.4;
/// A detection that overlaps a defect this much is about that defect, though it may have the wrong name.
const NEAR: f32 = 0.1;

#[test]
fn three_of_four_defects_are_named_right_and_hardly_any_is_invented() {
    let bundle = Bundle::open(&bundle()).unwrap();
    let session = Session::new(&runtime::load(None).unwrap(), &bundle).unwrap();
    let mut inspector = Inspector::new(session, &bundle);
    let classes = &bundle.manifest.classes;
    let (mut defects, mut right, mut invented) = (0, 0, 0);
    let mut by_class: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for seed in 1000..1000 + BOARDS {
        // A board as wide as the picture, and another one for each seed.
        let kind = SceneKind::Boards;
        let config =
            SceneConfig { kind, width: SIDE, height: SIDE, seed, speed: SIDE as f32, defects_per_frame: DEFECTS };
        let (pixels, truth) = Scene::new(config).render(1);
        let format = PixelFormat::Rgb8;
        let image = Image { width: SIDE, height: SIDE, format, pixels, origin: None, truth: None };
        let placement = inspector.look(&image, &View::default()).unwrap();
        let found: Vec<_> = inspector
            .forward
            .detections
            .iter()
            .map(|d| (classes[d.class].name.as_str(), placement.to_frame(d.bbox)))
            .collect();
        for defect in &truth {
            let named = found.iter().any(|(class, bbox)| *class == defect.class && iou(*bbox, defect.bbox) >= SAME);
            let (all, ok) = by_class.entry(defect.class.to_string()).or_default();
            *all += 1;
            *ok += u32::from(named);
            (defects, right) = (defects + 1, right + u32::from(named));
        }
        invented += found.iter().filter(|(_, bbox)| !truth.iter().any(|t| iou(*bbox, t.bbox) >= NEAR)).count();
    }
    let false_rate = invented as f64 * 20.0 / BOARDS as f64;
    println!("{right} of {defects} defects named right, {false_rate:.2} invented per 20 boards; {by_class:?}");
    // The floor of these weights: over 300 boards 1,180 of 1,500, and 1.5 invented. Wanted are four of five, and one.
    assert!(f64::from(right) >= 0.75 * f64::from(defects), "{right} of {defects}");
    assert!(false_rate <= 2.0, "{invented} invented on {BOARDS} boards");
}
