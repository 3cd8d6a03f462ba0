//! Foreign detectors, from the folder on disk to findings in pixels of the frame, on the real ONNX Runtime.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::config::{AnomalyConfig, CameraConfig};
use crate::frame::view::View;
use crate::frame::{Image, Region};
use crate::inspector::{Inspector, Judge};
use crate::model::bundle::Bundle;
use crate::model::onnx::{GraphProto, data_type as dt};
use crate::model::{golden, runtime};
use crate::mqtt::payload::Finding;
use made::{BLUE, Made, RED, SIDE, bundle, class, frame, manifest, network, value, write};

mod made;

/// Opens, verifies, and looks at a frame.
fn inspect(dir: &Path, image: &Image, view: &View) -> Vec<Finding> {
    inspect_for(dir, image, view, &["*"])
}

/// For a camera that looks for these classes.
fn inspect_for(dir: &Path, image: &Image, view: &View, classes: &[&str]) -> Vec<Finding> {
    let bundle = Bundle::open(dir).unwrap();
    let mut session = runtime::Session::new(&runtime::load(None).unwrap(), &bundle).unwrap();
    golden::verify(&bundle, &mut session).unwrap();
    let classes: Vec<String> = classes.iter().map(ToString::to_string).collect();
    let mut judge = Judge::new(&AnomalyConfig::default(), 1.0, &bundle.manifest).only(&classes);
    assert!(judge.check().is_none(), "without features there is no anomaly check");
    let mut inspector = Inspector::new(session, &bundle);
    let placement = inspector.look(image, view).unwrap();
    let judgement = judge.judge(&inspector.forward, &placement);
    assert!(judgement.anomaly.is_none());
    judgement.findings
}

fn close(findings: &[Finding], wanted: &[(&str, f32, [f32; 4])]) {
    assert_eq!(findings.len(), wanted.len(), "{findings:?}");
    for (f, (class, score, bbox)) in findings.iter().zip(wanted) {
        assert_eq!(f.class, *class);
        assert!((f.score - score).abs() < 1e-4, "{f:?}");
        assert!(f.bbox.iter().zip(bbox).all(|(a, b)| (a - b).abs() < 0.01), "{f:?} {wanted:?}");
    }
}

fn refused(dir: &TempDir) -> String {
    format!("{:#}", Bundle::open(dir.path()).unwrap_err())
}

/// What golden vectors say to the bundle.
fn proved(dir: &TempDir) -> anyhow::Result<f32> {
    let bundle = Bundle::open(dir.path())?;
    golden::verify(&bundle, &mut runtime::Session::new(&runtime::load(None)?, &bundle)?)
}

/// A crack in the middle of the input, twice, and a pore; then something under its threshold, and something that lies
/// in the padding of a letterboxed frame of 2:1.
const YOLO11: [[f32; 6]; 5] = [
    [32.0, 32.0, 20.0, 10.0, 0.1, 0.9],
    [33.0, 32.0, 20.0, 10.0, 0.2, 0.8],
    [32.0, 32.0, 20.0, 10.0, 0.7, 0.1],
    [10.0, 32.0, 4.0, 4.0, 0.4, 0.2],
    [32.0, 6.0, 8.0, 8.0, 0.1, 0.9],
];

#[test]
fn yolo11_letterboxed_in_either_layout() {
    for by_column in [true, false] {
        let dir = bundle(&[Made::rows(&YOLO11, by_column)], &json!({"detector": {"format": "yolov8", "overlap": 0.7}}));
        // 128x64 lies in the rows 16 to 48 of the input, at half its size.
        let found = inspect(dir.path(), &frame(128, 64, RED), &View::default());
        let bbox = [44.0, 22.0, 84.0, 42.0];
        close(&found, &[("weld/crack", 0.9, bbox), ("weld/pore", 0.7, bbox)]);
        assert!(inspect(dir.path(), &frame(128, 64, BLUE), &View::default()).is_empty(), "red is what it looks for");
        // The right half of a frame of 256x64, and a frame that stands upright: columns 16 to 48.
        let half = inspect(dir.path(), &frame(256, 64, RED), &Region([0.5, 0.0, 1.0, 1.0]).into());
        close(&half[..1], &[("weld/crack", 0.9, [172.0, 22.0, 212.0, 42.0])]);
        let upright = inspect(dir.path(), &frame(32, 64, RED), &View::default());
        close(&upright[..1], &[("weld/crack", 0.9, [6.0, 27.0, 26.0, 37.0])]);
    }
}

#[test]
fn a_turned_camera_with_a_region_and_a_mask_finds_in_pixels_of_the_captured_frame() {
    let dir = bundle(&[Made::rows(&YOLO11, true)], &json!({"detector": {"format": "yolov8"}}));
    // The lower half of a frame of 64x256, turned clockwise to 128x64; in the turned one the box is 44 to 84, 22 to 42.
    let camera = |keys: &str| {
        let text = format!("name = \"a\"\nsource.synthetic = {{}}\nrotate = 90\n{keys}");
        toml::from_str::<CameraConfig>(&text).unwrap().view()
    };
    let upright = frame(64, 256, RED);
    let found = inspect(dir.path(), &upright, &camera("roi = [0.0, 0.5, 1.0, 1.0]"));
    close(&found[..1], &[("weld/crack", 0.9, [22.0, 256.0 - 84.0, 42.0, 256.0 - 44.0])]);
    let found = inspect(
        dir.path(),
        &upright,
        &camera("roi = [0.0, 0.5, 1.0, 1.0]\nflip = \"vertical\"\nmasks = [[0, 0, 1, 0.6]]"),
    );
    close(&found[..1], &[("weld/crack", 0.9, [22.0, 256.0 - 84.0, 42.0, 256.0 - 44.0])]);
    let masked = "roi = [0.0, 0.5, 1.0, 1.0]\nmasks = [[[0.2, 0.6], [0.8, 0.6], [0.8, 0.9], [0.2, 0.9]]]";
    assert!(inspect(dir.path(), &upright, &camera(masked)).is_empty(), "it lies in the mask");
    let corner = "roi = [[0.0, 0.5], [1.0, 0.5], [0.1, 0.7], [0.0, 1.0]]";
    assert!(inspect(dir.path(), &upright, &camera(corner)).is_empty(), "it lies outside of the polygon");
}

#[test]
fn the_overlap_of_the_bundle_counts() {
    let dir = bundle(&[Made::rows(&YOLO11, true)], &json!({"detector": {"format": "yolov8", "overlap": 0.95}}));
    let found = inspect(dir.path(), &frame(128, 64, RED), &View::default());
    assert_eq!(found.len(), 3, "19 of 21 parts in common are two things now: {found:?}");
}

#[test]
fn yolov5_and_decoded_yolox() {
    let rows = [[32.0, 32.0, 20.0, 10.0, 0.9, 0.1, 0.8], [10.0, 32.0, 4.0, 4.0, 0.2, 0.9, 0.9]];
    for format in ["yolov5", "yolox-decoded"] {
        let dir = bundle(&[Made::rows(&rows, false)], &json!({"detector": {"format": format}}));
        let found = inspect(dir.path(), &frame(128, 64, RED), &View::default());
        close(&found, &[("weld/crack", 0.72, [44.0, 22.0, 84.0, 42.0])]);
    }
}

#[test]
fn yolox_with_its_cells_corner_and_blue_first() {
    let mut rows = vec![[0.0_f32; 7]; 64 + 16 + 4];
    // Column 2, row 1 of the cells of stride 16: centre 36, 24, size 20x10.
    rows[64 + 4 + 2] = [0.25, 0.5, 1.25_f32.ln(), 0.625_f32.ln(), 0.9, 0.1, 0.8];
    let outputs = [Made::rows(&rows, false)];
    let edit = json!({
        "input": {"fit": "letterbox-corner", "std": [1.0, 1.0, 1.0], "channel_order": "bgr"},
        "detector": {"format": "yolox", "overlap": 0.45},
    });
    let dir = write(&network(&outputs, 0, 255.0), &outputs, manifest(&outputs, &edit));
    let found = inspect(dir.path(), &frame(128, 64, BLUE), &View::default());
    close(&found, &[("weld/crack", 0.72, [52.0, 38.0, 92.0, 58.0])]);
    assert!(inspect(dir.path(), &frame(128, 64, RED), &View::default()).is_empty(), "blue comes first");
}

#[test]
fn end_to_end() {
    let rows = [[22.0, 27.0, 42.0, 37.0, 0.9, 1.0], [22.0, 27.0, 42.0, 37.0, 0.6, 0.0], [0.0; 6]];
    let dir = bundle(&[Made::rows(&rows, false)], &json!({"detector": {"format": "end-to-end"}}));
    let bbox = [44.0, 22.0, 84.0, 42.0];
    let found = inspect(dir.path(), &frame(128, 64, RED), &View::default());
    close(&found, &[("weld/crack", 0.9, bbox), ("weld/pore", 0.6, bbox)]);
}

#[test]
fn a_camera_finds_the_classes_that_it_looks_for() {
    let rows = [[22.0, 27.0, 42.0, 37.0, 0.9, 1.0], [22.0, 27.0, 42.0, 37.0, 0.6, 0.0], [0.0; 6]];
    let dir = bundle(&[Made::rows(&rows, false)], &json!({"detector": {"format": "end-to-end"}}));
    let found = |classes| inspect_for(dir.path(), &frame(128, 64, RED), &View::default(), classes);
    close(&found(&["*/pore", "other/*"]), &[("weld/pore", 0.6, [44.0, 22.0, 84.0, 42.0])]);
    assert_eq!(found(&["weld/*"]).len(), 2);
    let manifest = Bundle::open(dir.path()).unwrap().manifest;
    let wrong = manifest.matching(&["weld/*".to_owned(), "steel/*".to_owned()]).unwrap_err().to_string();
    assert_eq!(wrong, "no class is called steel/*; there are weld/pore, weld/crack");
}

#[test]
fn detr_and_rt_detr_stretched() {
    let boxes = [[0.5, 0.5, 0.25, 0.5], [0.25, 0.25, 0.25, 0.25]];
    let bbox = [48.0, 16.0, 80.0, 48.0];
    let edit = |format: &str| json!({"input": {"fit": "stretch"}, "detector": {"format": format}});
    let detr = Made::queries([0.0, 0.0, 9.0], &[[0.0, 5.0, 0.0], [0.0, 0.0, 9.0]], &boxes);
    let dir = bundle(&detr, &edit("detr"));
    let score = 5.0_f32.exp() / (2.0 + 5.0_f32.exp());
    close(&inspect(dir.path(), &frame(128, 64, RED), &View::default()), &[("weld/crack", score, bbox)]);
    assert!(inspect(dir.path(), &frame(128, 64, BLUE), &View::default()).is_empty());

    let rt_detr = Made::queries([-9.0, -9.0], &[[-5.0, 2.0], [-5.0, -5.0]], &boxes);
    let dir = bundle(&rt_detr, &edit("rt-detr"));
    let score = 1.0 / (1.0 + (-2.0_f32).exp());
    close(&inspect(dir.path(), &frame(128, 64, RED), &View::default()), &[("weld/crack", score, bbox)]);
}

#[test]
fn every_output_must_answer_its_golden_vector() {
    let good = || {
        let queries = Made::queries([-9.0, -9.0], &[[-5.0, 2.0], [-5.0, -5.0]], &[[0.5, 0.5, 0.25, 0.5], [0.2; 4]]);
        [
            (vec![Made::rows(&YOLO11, true)], "yolov8"),
            (vec![Made::rows(&[[22.0, 27.0, 42.0, 37.0, 0.9, 1.0], [0.0; 6]], false)], "end-to-end"),
            (queries, "rt-detr"),
        ]
    };
    for (outputs, format) in good() {
        let (model, json) = (network(&outputs, 0, 1.0), manifest(&outputs, &json!({"detector": {"format": format}})));
        assert!(proved(&write(&model, &outputs, json.clone())).unwrap() < 0.1);
        for n in 0..outputs.len() {
            // Every single value, by hundredths: also a score beside boxes of many pixels.
            for at in 0..outputs[n].bright.len() {
                let (mut changed, _) = good().into_iter().find(|(_, f)| *f == format).unwrap();
                let value = &mut changed[n].bright[at];
                *value += 0.05_f32.max(value.abs() * 0.05);
                let message = proved(&write(&model, &changed, json.clone())).unwrap_err().to_string();
                assert!(message.contains("does not compute what was trained"), "{format} {n} {at}: {message}");
            }
        }
    }
}

#[test]
fn final_candidates_may_change_places_between_machines() {
    let rows = [[22.0, 27.0, 42.0, 37.0, 0.9, 1.0], [2.0, 7.0, 12.0, 17.0, 0.9, 0.0]];
    let there = [Made::rows(&rows, false)];
    let here = [Made::rows(&[rows[1], rows[0]], false)];
    let json = manifest(&there, &json!({"detector": {"format": "end-to-end"}}));
    proved(&write(&network(&here, 0, 1.0), &there, json)).unwrap();
    let json = manifest(&there, &json!({"detector": {"format": "yolov8"}}));
    proved(&write(&network(&here, 0, 1.0), &there, json)).unwrap_err();
}

#[test]
fn a_wrong_format_is_seen_by_the_golden_vectors() {
    let said = |rows: &[[f32; 6]], edit: &Value| {
        format!("{:#}", proved(&bundle(&[Made::rows(rows, false)], edit)).unwrap_err())
    };
    let as_rows = |format: &str| json!({"detector": {"format": format}});
    assert!(said(&YOLO11, &as_rows("end-to-end")).contains("numbered from 0"));
    assert!(said(&YOLO11, &as_rows("yolov5")).contains("7 columns"));
    let one = json!({"detector": {"format": "yolov8"}, "classes": [class("weld/pore", 0.5)]});
    assert!(said(&YOLO11[..4], &one).contains("all classes listed"));
    let logits = [[32.0, 32.0, 20.0, 10.0, 3.5, -2.0]];
    assert!(said(&logits, &as_rows("yolov8")).contains("sigmoid"));
}

#[test]
fn networks_that_do_not_fit_are_refused_at_the_door() {
    let outputs = || vec![Made::rows(&YOLO11, true)];
    let form = json!({"detector": {"format": "yolov8"}});
    let with = |edit: &Value| {
        let mut all = form.clone();
        all.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        refused(&bundle(&outputs(), &all))
    };
    for (edit, words) in [
        (json!({"input": {"fit": "aspect"}}), "fixed at (1, 3, 64, 64): input.fit must be stretch or a letterbox"),
        (json!({"input": {"size": 96}}), "fixed at (1, 3, 64, 64), but input.size is 96"),
        (json!({"input": {"name": "image"}}), "input is called images, not image"),
        (json!({"input": {"channel_order": "gbr"}}), "unknown variant `gbr`"),
        (json!({"detector": {"format": "yolo"}}), "unknown variant `yolo`, expected one of"),
        (json!({"detector": {"format": "yolov8", "overlap": 0.0}}), "detector.overlap must be over 0"),
        (json!({"detector": {"format": "yolov8", "nms": 0.5}}), "unknown field `nms`"),
        (json!({"detector": {"format": "end-to-end", "overlap": 0.5}}), "detector.overlap is of no use"),
        (json!({"detector": {"format": "rt-detr"}}), "rt-detr needs an output of kind logits"),
        (json!({"detector": {"format": "fcos"}}), "fcos needs an output of kind scores"),
        (json!({"detector": null}), "detector.format says nothing of their form"),
        (json!({"classes": []}), "a detector needs classes"),
        (json!({"outputs": []}), "outputs is empty"),
        (json!({"outputs": [{"name": "output0", "kind": "rows", "stride": 8}]}), "neither stride nor channels"),
        (json!({"outputs": [{"name": "output0", "kind": "rows"}, {"name": "output0", "kind": "rows"}]}), "twice"),
        (
            json!({"outputs": [{"name": "output0", "kind": "rows"}, {"name": "b", "kind": "rows"}]}),
            "one output of kind rows, not 2",
        ),
        (
            json!({"outputs": [{"name": "output0", "kind": "rows"}, {"name": "b", "kind": "boxes"}]}),
            "has no output of kind boxes",
        ),
        (json!({"golden": {"outputs": {}}}), "has no golden vector"),
        (json!({"golden": {"tolerance": 0.0}}), "golden.tolerance must be"),
        (json!({"input": {"multiple_of": 16}, "detector": {"format": "yolox"}}), "multiple_of that 32 divides"),
    ] {
        let message = with(&edit);
        assert!(message.contains(words), "{edit}: {message}");
    }
    let changed = |change: fn(&mut GraphProto)| {
        let mut model = network(&outputs(), 0, 1.0);
        change(model.graph.as_mut().unwrap());
        refused(&write(&model, &outputs(), manifest(&outputs(), &form)))
    };
    let half = changed(|graph| graph.output[0] = value("output0", dt::FLOAT16, &[1, 6, 5]));
    assert!(half.contains("output0 is float16; inputs and outputs must be float32"), "{half}");
    let half = changed(|graph| graph.input[0] = value("images", dt::FLOAT16, &[1, 3, SIDE, SIDE]));
    assert!(half.contains("images is float16"), "{half}");
    let two = changed(|graph| graph.input.push(value("orig_target_sizes", dt::INT64, &[1, 2])));
    assert!(two.contains("one input") && two.contains("orig_target_sizes"), "{two}");
    let batch = changed(|graph| graph.input[0] = value("images", dt::FLOAT, &[8, 3, SIDE, SIDE]));
    assert!(batch.contains("(8, 3, 64, 64), not (1, 3, height, width)"), "{batch}");
    let gone = changed(|graph| graph.output[0].name = "seen".to_owned());
    assert!(gone.contains("no output called output0; it has seen"), "{gone}");
}

#[test]
fn the_examples_of_the_documentation_are_good_manifests() {
    let text = include_str!("../../docs/foreign-models.md");
    let blocks: Vec<_> = text.split("```json\n").skip(1).filter_map(|part| part.split("```").next()).collect();
    let formats: Vec<_> = blocks
        .iter()
        .map(|block| {
            let manifest: crate::model::bundle::Manifest = serde_json::from_str(block).expect(block);
            manifest.check().expect(block);
            manifest.format().unwrap().to_string()
        })
        .collect();
    assert_eq!(formats, ["yolov8", "yolov5", "yolox", "rt-detr"]);
}
