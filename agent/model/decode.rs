//! From the head's maps to boxes: cells over the class's threshold, distances to sides, then non-maximum suppression
//! per class.

use super::bundle::{Manifest, OutputKind};
use super::{Detection, FeatureMap};

/// Candidates that go into suppression, best first; more are left out.
const MAX_CANDIDATES: usize = 1000;
/// Detections a frame.
const MAX_DETECTIONS: usize = 300;
/// Overlap from which on two boxes of a class are the same thing.
const NMS_IOU: f32 = 0.6;

/// Decodes the outputs of one network.
#[derive(Debug)]
pub struct Head {
    thresholds: Vec<f32>,
}

impl Head {
    /// For a bundle.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        Self { thresholds: manifest.classes.iter().map(|c| c.threshold).collect() }
    }

    /// From now on everything from this score on is decoded, whatever the classes' thresholds.
    pub fn listen_from(&mut self, score: f32) {
        self.thresholds.fill(score);
    }

    /// Adds the detections, in input pixels, best first.
    pub fn decode(&self, maps: &[(OutputKind, FeatureMap)], detections: &mut Vec<Detection>) {
        let of = |kind| maps.iter().filter(move |(k, _)| *k == kind).map(|(_, map)| map);
        for scores in of(OutputKind::Scores) {
            let Some(distances) = of(OutputKind::Distances).find(|d| d.stride == scores.stride) else { continue };
            self.candidates(scores, distances, detections);
        }
        detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        detections.truncate(MAX_CANDIDATES);
        suppress(detections);
    }

    fn candidates(&self, scores: &FeatureMap, distances: &FeatureMap, detections: &mut Vec<Detection>) {
        let plane = scores.width * scores.height;
        let (size, stride) = ((scores.width * scores.stride, scores.height * scores.stride), scores.stride as f32);
        for (class, (threshold, values)) in self.thresholds.iter().zip(scores.data.chunks_exact(plane)).enumerate() {
            for (cell, &score) in values.iter().enumerate().filter(|(_, s)| **s >= *threshold) {
                let centre = |n: usize| (n as f32 + 0.5) * stride;
                let (x, y) = (centre(cell % scores.width), centre(cell / scores.width));
                let [left, top, right, bottom] = [0, 1, 2, 3].map(|k| distances.data[k * plane + cell] * stride);
                let cut = |value: f32, most: usize| value.clamp(0.0, most as f32);
                let bbox =
                    [cut(x - left, size.0), cut(y - top, size.1), cut(x + right, size.0), cut(y + bottom, size.1)];
                if bbox[2] > bbox[0] && bbox[3] > bbox[1] {
                    detections.push(Detection { class, score: score.clamp(0.0, 1.0), bbox });
                }
            }
        }
    }
}

/// Keeps the best of boxes of a class that overlap; `detections` come best first.
fn suppress(detections: &mut Vec<Detection>) {
    let mut kept: Vec<Detection> = Vec::new();
    for candidate in detections.drain(..) {
        let same = |k: &Detection| k.class == candidate.class && iou(k.bbox, candidate.bbox) > NMS_IOU;
        if kept.len() < MAX_DETECTIONS && !kept.iter().any(same) {
            kept.push(candidate);
        }
    }
    *detections = kept;
}

/// Intersection over union of two boxes.
#[must_use]
pub fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let side = |low: usize, high: usize| (a[high].min(b[high]) - a[low].max(b[low])).max(0.0);
    let area = |r: [f32; 4]| (r[2] - r[0]).max(0.0) * (r[3] - r[1]).max(0.0);
    let common = side(0, 2) * side(1, 3);
    common / (area(a) + area(b) - common).max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(channels: usize, stride: usize, data: Vec<f32>) -> FeatureMap {
        FeatureMap { channels, height: 4, width: 4, stride, data }
    }

    #[test]
    fn a_cell_becomes_the_box_around_its_centre() {
        let mut scores = vec![0.1; 32];
        scores[16 + 5] = 0.9; // class 1, row 1, column 1
        let mut distances = vec![0.0; 64];
        for (k, d) in [1.0, 0.5, 2.0, 1.5].into_iter().enumerate() {
            distances[k * 16 + 5] = d;
        }
        let maps = [(OutputKind::Scores, map(2, 8, scores)), (OutputKind::Distances, map(4, 8, distances))];
        let mut found = Vec::new();
        Head { thresholds: vec![0.5, 0.5] }.decode(&maps, &mut found);
        assert_eq!(found, [Detection { class: 1, score: 0.9, bbox: [4.0, 8.0, 28.0, 24.0] }]);
    }

    #[test]
    fn the_better_of_two_overlapping_boxes_stays() {
        let one = |class, score, x| Detection { class, score, bbox: [x, 0.0, x + 10.0, 10.0] };
        let mut found = vec![one(0, 0.9, 0.0), one(0, 0.8, 1.0), one(1, 0.7, 1.0), one(0, 0.6, 8.0)];
        suppress(&mut found);
        assert_eq!(found.iter().map(|d| d.score).collect::<Vec<_>>(), [0.9, 0.7, 0.6]);
    }

    /// models/train/decode_fixture.py made the file.
    #[test]
    fn decodes_what_the_training_side_decodes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/decode.json");
        let fixture: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let floats = |v: &serde_json::Value| {
            v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect::<Vec<_>>()
        };
        let classes = fixture["classes"].as_u64().unwrap() as usize;
        let mut maps = Vec::new();
        for map in fixture["maps"].as_array().unwrap() {
            let [stride, height, width] = ["stride", "rows", "columns"].map(|k| map[k].as_u64().unwrap() as usize);
            for (kind, key, channels) in
                [(OutputKind::Scores, "scores", classes), (OutputKind::Distances, "distances", 4)]
            {
                maps.push((kind, FeatureMap { channels, height, width, stride, data: floats(&map[key]) }));
            }
        }
        let mut found = Vec::new();
        Head { thresholds: vec![fixture["floor"].as_f64().unwrap() as f32; classes] }.decode(&maps, &mut found);
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

    proptest! {
        #[test]
        fn iou_is_symmetric_and_bounded(a in prop::array::uniform4(0.0_f32..100.0), b in prop::array::uniform4(0.0_f32..100.0)) {
            let v = iou(a, b);
            prop_assert!((0.0..=1.0).contains(&v));
            prop_assert!((v - iou(b, a)).abs() < 1e-6);
        }
    }
}
