//! Every format by numbers whose boxes are known, then by numbers that mean nothing.

use proptest::prelude::*;

use super::*;

fn spec(kind: OutputKind, stride: u32) -> OutputSpec {
    OutputSpec { name: "out".to_owned(), kind, stride, channels: 0 }
}

fn head(format: Format, thresholds: &[f32]) -> Head {
    Head { format: Some(format), thresholds: thresholds.to_vec(), overlap: OVERLAP }
}

/// Outputs as kind, stride, shape, values.
type Given<'a> = (OutputKind, u32, &'a [usize], &'a [f32]);

fn decode(head: &Head, size: [usize; 2], given: &[Given]) -> Result<Vec<Detection>> {
    let specs: Vec<_> = given.iter().map(|(kind, stride, ..)| spec(*kind, *stride)).collect();
    let outputs: Vec<_> = given
        .iter()
        .zip(&specs)
        .map(|((_, _, shape, data), spec)| Output { spec, shape: shape.to_vec(), data })
        .collect();
    let mut found = Vec::new();
    head.decode(&outputs, size, &mut found)?;
    Ok(found)
}

fn rows(format: Format, thresholds: &[f32], shape: &[usize], data: &[f32]) -> Result<Vec<Detection>> {
    decode(&head(format, thresholds), [64, 32], &[(OutputKind::Rows, 0, shape, data)])
}

fn found(class: usize, score: f32, bbox: [f32; 4]) -> Detection {
    Detection { class, score, bbox }
}

#[test]
fn a_cell_becomes_the_box_around_its_centre() {
    let mut scores = vec![0.1; 32];
    scores[16 + 5] = 0.9; // class 1, row 1, column 1
    let mut distances = vec![0.0; 64];
    for (k, d) in [1.0, 0.5, 2.0, 1.5].into_iter().enumerate() {
        distances[k * 16 + 5] = d;
    }
    let given: [Given; 2] =
        [(OutputKind::Scores, 8, &[1, 2, 4, 4], &scores), (OutputKind::Distances, 8, &[1, 4, 4, 4], &distances)];
    let detections = decode(&head(Format::Fcos, &[0.5, 0.5]), [32, 32], &given).unwrap();
    assert_eq!(detections, [found(1, 0.9, [4.0, 8.0, 28.0, 24.0])]);
}

/// models/train/decode_fixture.py made the file.
#[test]
fn decodes_what_the_training_side_decodes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/decode.json");
    let fixture: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let floats = |v: &serde_json::Value| -> Vec<f32> {
        v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    };
    let classes = fixture["classes"].as_u64().unwrap() as usize;
    let maps: Vec<_> = fixture["maps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|map| {
            let [stride, rows, columns] = ["stride", "rows", "columns"].map(|k| map[k].as_u64().unwrap() as usize);
            (
                stride,
                [1, classes, rows, columns],
                [1, 4, rows, columns],
                floats(&map["scores"]),
                floats(&map["distances"]),
            )
        })
        .collect();
    let given: Vec<Given> = maps
        .iter()
        .flat_map(|(stride, scores, distances, a, b)| {
            [
                (OutputKind::Scores, *stride as u32, &scores[..], &a[..]),
                (OutputKind::Distances, *stride as u32, &distances[..], &b[..]),
            ]
        })
        .collect();
    let floor = fixture["floor"].as_f64().unwrap() as f32;
    let (stride, [_, _, rows, columns], ..) = maps[0];
    let size = [columns * stride, rows * stride];
    let found = decode(&head(Format::Fcos, &vec![floor; classes]), size, &given).unwrap();
    let expected = fixture["detections"].as_array().unwrap();
    assert!(expected.len() == 100 && found.len() >= 100, "{} of {}", found.len(), expected.len());
    for (ours, theirs) in found.iter().zip(expected) {
        assert_eq!(ours.class, theirs["class"].as_u64().unwrap() as usize);
        assert!((ours.score - theirs["score"].as_f64().unwrap() as f32).abs() <= 1e-4);
        for (a, b) in ours.bbox.iter().zip(floats(&theirs["box"])) {
            assert!((a - b).abs() <= 1e-4, "{ours:?} {theirs}");
        }
    }
}

#[test]
fn rows_of_yolov8_lie_either_way() {
    let table = [[20.0, 10.0, 8.0, 4.0, 0.1, 0.7, 0.2], [40.0, 20.0, 100.0, 6.0, 0.6, 0.0, 0.0], [9.0; 7].map(|_| 0.0)];
    let by_row = table.concat();
    let by_column: Vec<f32> = (0..7).flat_map(|c| table.map(|row| row[c])).collect();
    let wanted = [found(1, 0.7, [16.0, 8.0, 24.0, 12.0]), found(0, 0.6, [0.0, 17.0, 64.0, 23.0])];
    assert_eq!(rows(Format::Yolov8, &[0.5; 3], &[1, 3, 7], &by_row).unwrap(), wanted);
    assert_eq!(rows(Format::Yolov8, &[0.5; 3], &[1, 7, 3], &by_column).unwrap(), wanted);
}

#[test]
fn a_square_tensor_lies_as_the_format_exports_it() {
    // Five rows of five columns: one class, and 0.9 in the last of the first row.
    let mut data = [0.0; 25];
    data[..5].copy_from_slice(&[20.0, 10.0, 8.0, 4.0, 0.9]);
    let transposed: Vec<f32> = (0..25).map(|n| data[n % 5 * 5 + n / 5]).collect();
    let wanted = [found(0, 0.9, [16.0, 8.0, 24.0, 12.0])];
    assert_eq!(rows(Format::Yolov8, &[0.5], &[1, 5, 5], &transposed).unwrap(), wanted);
}

#[test]
fn objectness_multiplies_the_class_scores() {
    let data = [
        [20.0, 10.0, 8.0, 4.0, 0.8, 0.1, 0.9], // 0.72
        [40.0, 20.0, 8.0, 4.0, 0.5, 0.9, 0.9], // 0.45: under the threshold, though no factor is
    ];
    for format in [Format::Yolov5, Format::YoloxDecoded] {
        let detections = rows(format, &[0.5; 2], &[1, 2, 7], &data.concat()).unwrap();
        assert_eq!(detections, [found(1, 0.8 * 0.9, [16.0, 8.0, 24.0, 12.0])]);
    }
}

#[test]
fn cells_of_yolox_go_by_stride_then_row_then_column() {
    // An input of 64x32 has 8x4 cells of stride 8, 4x2 of 16 and 2x1 of 32.
    let mut data = [[0.0_f32; 6]; 32 + 8 + 2];
    let (size, bare) = ([2.0_f32.ln(), 0.5_f32.ln()], [1.0, 0.9]);
    for (at, cell) in [(8 + 3, 0), (32 + 4 + 2, 1), (40 + 1, 2)] {
        data[at] = [0.5, 0.25, size[0], size[1], bare[0] - cell as f32 * 0.1, bare[1]];
    }
    let detections = rows(Format::Yolox, &[0.5], &[1, 42, 6], &data.concat()).unwrap();
    let centred = |x: f32, y: f32, stride: f32| [x - stride, y - stride / 4.0, x + stride, y + stride / 4.0];
    let wanted = [centred(28.0, 10.0, 8.0), centred(40.0, 20.0, 16.0), [16.0, 0.0, 64.0, 16.0]];
    assert_eq!(detections.len(), 3);
    for (detection, wanted) in detections.iter().zip(wanted) {
        for (a, b) in detection.bbox.iter().zip(wanted) {
            assert!((a - b).abs() < 1e-3, "{detection:?} {wanted:?}");
        }
    }
    let message = rows(Format::Yolox, &[0.5], &[1, 41, 6], &data[..41].concat()).unwrap_err().to_string();
    assert!(message.contains("42 cells"), "{message}");
}

#[test]
fn final_rows_stay_as_they_are() {
    let data = [
        [16.0, 8.0, 24.0, 12.0, 0.9, 1.0],
        [16.0, 8.0, 24.0, 12.0, 0.8, 1.0], // no suppression
        [50.0, 8.0, 90.0, 12.0, 0.7, 0.0],
        [16.0, 8.0, 24.0, 12.0, 0.3, 0.0],  // under the threshold
        [0.0, 0.0, 0.0, 0.0, 0.0, -1.0],    // filled up
        [30.0, 8.0, 20.0, 12.0, 0.95, 0.0], // the right side left of the left one
    ];
    let detections = rows(Format::EndToEnd, &[0.5; 2], &[1, 6, 6], &data.concat()).unwrap();
    let bbox = [16.0, 8.0, 24.0, 12.0];
    assert_eq!(detections, [found(1, 0.9, bbox), found(1, 0.8, bbox), found(0, 0.7, [50.0, 8.0, 64.0, 12.0])]);
}

#[test]
fn queries_are_read_with_softmax_or_sigmoid() {
    let boxes = [[0.5, 0.5, 0.25, 0.5], [0.25, 0.25, 0.25, 0.25]];
    let one = |format, logits: &[f32]| {
        let given: [Given; 2] = [
            (OutputKind::Logits, 0, &[1, 2, logits.len() / 2], logits),
            (OutputKind::Boxes, 0, &[1, 2, 4], boxes.as_flattened()),
        ];
        decode(&head(format, &[0.5; 2]), [64, 32], &given)
    };
    let bbox = [24.0, 8.0, 40.0, 24.0];
    let close = |found: &[Detection], score: f32| {
        assert_eq!((found.len(), found[0].class, found[0].bbox), (1, 1, bbox));
        assert!((found[0].score - score).abs() < 1e-6, "{found:?}");
    };
    // e^3 / (e^1 + e^3 + e^2); in the second query "no object" wins.
    let sum = 1.0_f32.exp() + 3.0_f32.exp() + 2.0_f32.exp();
    close(&one(Format::Detr, &[1.0, 3.0, 2.0, 1.0, 1.5, 3.0]).unwrap(), 3.0_f32.exp() / sum);
    close(&one(Format::RtDetr, &[-1.0, 2.0, -1.0, -0.1]).unwrap(), 1.0 / (1.0 + (-2.0_f32).exp()));
    // One channel more: its logit means nothing to the others.
    close(&one(Format::RtDetr, &[-1.0, 2.0, 9.0, -1.0, -0.1, 9.0]).unwrap(), 1.0 / (1.0 + (-2.0_f32).exp()));
    assert!(one(Format::Detr, &[1.0, 3.0, 1.0, 1.0]).unwrap_err().to_string().contains("no object"));
}

#[test]
fn the_best_class_is_one_of_those_over_their_own_threshold() {
    let data = [20.0, 10.0, 8.0, 4.0, 0.6, 0.4];
    let class =
        |thresholds: &[f32]| rows(Format::Yolov8, thresholds, &[1, 6, 1], &data).unwrap().first().map(|d| d.class);
    assert_eq!(class(&[0.5, 0.3]), Some(0));
    assert_eq!(class(&[0.7, 0.3]), Some(1));
    assert_eq!(class(&[0.7, 0.5]), None);
}

#[test]
fn the_bundle_says_how_much_may_overlap() {
    // 9 of 11 parts in common.
    let data = [[20.0, 10.0, 10.0, 10.0, 0.9], [21.0, 10.0, 10.0, 10.0, 0.8]].concat();
    let count = |overlap| {
        let head = Head { overlap, ..head(Format::Yolov8, &[0.5]) };
        decode(&head, [64, 32], &[(OutputKind::Rows, 0, &[1, 2, 5], &data)]).unwrap().len()
    };
    assert_eq!((count(0.8), count(0.85), count(1.0)), (1, 2, 2));
}

#[test]
fn what_cannot_be_the_format_is_named() {
    let refused = |format, shape: &[usize], data: &[f32]| rows(format, &[0.5; 2], shape, data).unwrap_err().to_string();
    assert!(refused(Format::Yolov8, &[1, 7, 9], &[0.0; 63]).contains("6 columns"));
    assert!(refused(Format::Yolov5, &[1, 6, 9], &[0.0; 54]).contains("7 columns"));
    assert!(refused(Format::EndToEnd, &[2, 9, 6], &[0.0; 108]).contains("not (1, rows, 6)"));
    assert!(refused(Format::Yolov8, &[6, 9], &[0.0; 54]).contains("not (1, rows, 6)"));
    assert!(refused(Format::Yolov8, &[1, 6, 9], &[0.0; 53]).contains("does not hold"));
    assert!(refused(Format::Yolov8, &[1, 2, 6], &[[0.0; 6], [1.0, 1.0, 1.0, 1.0, 7.5, 0.0]].concat()).contains("7.5"));
    assert!(refused(Format::Yolov5, &[1, 1, 7], &[1.0, 1.0, 1.0, 1.0, -3.0, 0.0, 0.0]).contains("-3"));
    assert!(refused(Format::EndToEnd, &[1, 1, 6], &[1.0, 1.0, 1.0, 1.0, 0.9, 2.0]).contains("class 2"));
    assert!(refused(Format::EndToEnd, &[1, 1, 6], &[1.0, 1.0, 1.0, 1.0, 0.9, 0.5]).contains("class 0.5"));
    assert!(refused(Format::EndToEnd, &[1, 1, 6], &[1.0, 1.0, 1.0, 1.0, 12.0, 1.0]).contains("score 12"));
    let nothing = decode(&head(Format::Detr, &[0.5]), [64, 32], &[]).unwrap_err().to_string();
    assert!(nothing.contains("no output of kind logits"), "{nothing}");
}

#[test]
fn values_that_are_no_numbers_are_no_detections() {
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for value in bad {
        for at in 0..4 {
            let mut row = [20.0, 10.0, 8.0, 4.0, 0.9, 1.0];
            row[at] = value;
            for format in [Format::Yolov8, Format::EndToEnd] {
                for d in rows(format, &[0.5; 2], &[1, 1, 6], &row).unwrap() {
                    assert!(!value.is_nan() && d.bbox.iter().all(|v| v.is_finite()), "{d:?}");
                }
            }
        }
    }
    assert!(rows(Format::Yolov8, &[0.0], &[1, 1, 5], &[20.0, 10.0, 8.0, 4.0, f32::NAN]).unwrap().is_empty());
    assert!(rows(Format::EndToEnd, &[0.0], &[1, 1, 6], &[2.0, 1.0, 8.0, 4.0, 0.9, f32::NAN]).unwrap().is_empty());
}

/// Any float, the usual ones more often, so that candidates come up.
fn number() -> impl Strategy<Value = f32> {
    prop_oneof![4 => 0.0_f32..1.0, 2 => -50.0_f32..100.0, 1 => any::<f32>(), 1 => Just(f32::NAN)]
}

fn sound(found: &Result<Vec<Detection>>, classes: usize, [width, height]: [usize; 2]) -> bool {
    found.iter().flatten().all(|d| {
        let [x0, y0, x1, y1] = d.bbox;
        let inside = 0.0 <= x0 && x0 < x1 && x1 <= width as f32 && 0.0 <= y0 && y0 < y1 && y1 <= height as f32;
        inside && (0.0..=1.0).contains(&d.score) && d.class < classes
    }) && found.iter().flatten().count() <= pick::MAX_DETECTIONS
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_rows_give_sound_boxes_or_an_error(
        // As many as an input of 64x32 has cells, so that no format is refused for its rows alone.
        data in prop::collection::vec(number(), 42 * 7),
        scores in prop::collection::vec(0.0_f32..1.0, 42 * 3),
        format in prop::sample::select(vec![Format::Yolov8, Format::Yolov5, Format::Yolox, Format::YoloxDecoded, Format::EndToEnd]),
        tame in any::<bool>(), by_column in any::<bool>(),
        threshold in 0.0_f32..1.0,
    ) {
        let (columns, first) = match format { Format::Yolov8 | Format::EndToEnd => (6, 4), _ => (7, 4) };
        let mut data = data[..42 * columns].to_vec();
        if tame {
            for (row, scores) in data.chunks_exact_mut(columns).zip(scores.chunks_exact(3)) {
                row[first..].copy_from_slice(&scores[..columns - first]);
                if format == Format::EndToEnd { row[5] = row[5].round(); }
            }
        }
        let mut shape = [1, 42, columns];
        if by_column {
            data = (0..columns).flat_map(|c| (0..42).map(move |r| r * columns + c)).map(|at| data[at]).collect();
            shape = [1, columns, 42];
        }
        let found = rows(format, &[threshold, 0.5], &shape, &data);
        prop_assert!(sound(&found, 2, [64, 32]), "{found:?}");
        prop_assert!(!tame || found.is_ok(), "{found:?}");
    }

    #[test]
    fn any_queries_give_sound_boxes(
        logits in prop::collection::vec(prop_oneof![number(), Just(f32::INFINITY), Just(f32::NEG_INFINITY)], 30 * 3),
        boxes in prop::collection::vec(number(), 30 * 4),
        softmax in any::<bool>(), threshold in 0.0_f32..1.0,
    ) {
        let format = if softmax { Format::Detr } else { Format::RtDetr };
        let given: [Given; 2] = [(OutputKind::Logits, 0, &[1, 30, 3], &logits), (OutputKind::Boxes, 0, &[1, 30, 4], &boxes)];
        let found = decode(&head(format, &[threshold, 0.5]), [64, 32], &given);
        prop_assert!(found.is_ok() && sound(&found, 2, [64, 32]), "{found:?}");
    }

    #[test]
    fn any_maps_give_sound_boxes(
        scores in prop::collection::vec(number(), 2 * 32), distances in prop::collection::vec(number(), 4 * 32),
    ) {
        let given: [Given; 2] = [(OutputKind::Scores, 8, &[1, 2, 4, 8], &scores), (OutputKind::Distances, 8, &[1, 4, 4, 8], &distances)];
        let found = decode(&head(Format::Fcos, &[0.3, 0.5]), [64, 32], &given);
        prop_assert!(found.is_ok() && sound(&found, 2, [64, 32]), "{found:?}");
    }

    #[test]
    fn any_shape_is_taken_or_refused(shape in prop::collection::vec(0_usize..9, 0..5), classes in 0_usize..3) {
        let data = vec![0.9; shape.iter().product()];
        for format in [Format::Yolov8, Format::Yolov5, Format::Yolox, Format::EndToEnd] {
            let _ = rows(format, &[0.5; 2][..classes], &shape, &data);
        }
        for format in [Format::Detr, Format::RtDetr, Format::Fcos] {
            for (a, b) in [(OutputKind::Logits, OutputKind::Boxes), (OutputKind::Scores, OutputKind::Distances)] {
                let given: [Given; 2] = [(a, 8, &shape, &data), (b, 8, &shape, &data)];
                let _ = decode(&head(format, &[0.5; 2][..classes]), [64, 32], &given);
            }
        }
    }
}
