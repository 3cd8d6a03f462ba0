//! The best of many candidates: bounded selection, then suppression of what overlaps.

use std::cmp::Ordering;

use crate::model::Detection;

/// Candidates that go into suppression, best first; more are left out.
pub const MAX_CANDIDATES: usize = 1000;
/// Detections a frame.
pub const MAX_DETECTIONS: usize = 300;

/// Collects candidates and keeps the best [`MAX_CANDIDATES`]; of equal ones those that came first.
pub(super) struct Candidates {
    size: [f32; 2],
    /// With the number of its coming; up to twice as many as are kept.
    kept: Vec<(usize, Detection)>,
    offered: usize,
    /// The worst score of the best [`MAX_CANDIDATES`] at the last look.
    floor: f32,
}

impl Candidates {
    /// For an input of this width and height.
    pub(super) fn new(size: [usize; 2]) -> Self {
        Self { size: size.map(|n| n as f32), kept: Vec::new(), offered: 0, floor: f32::NEG_INFINITY }
    }

    /// Takes a candidate in, cut at the input's sides, unless nothing is left of its box.
    pub(super) fn offer(&mut self, class: usize, score: f32, [x0, y0, x1, y1]: [f32; 4]) {
        let [width, height] = self.size;
        let bbox = [x0.clamp(0.0, width), y0.clamp(0.0, height), x1.clamp(0.0, width), y1.clamp(0.0, height)];
        // Written so that no comparison holds for NaN.
        if !(score > self.floor && bbox[2] > bbox[0] && bbox[3] > bbox[1]) {
            return;
        }
        self.kept.push((self.offered, Detection { class, score: score.clamp(0.0, 1.0), bbox }));
        self.offered += 1;
        if self.kept.len() >= 2 * MAX_CANDIDATES {
            self.kept.select_nth_unstable_by(MAX_CANDIDATES - 1, better);
            self.kept.truncate(MAX_CANDIDATES);
            self.floor = self.kept.last().map_or(self.floor, |(_, worst)| worst.score);
        }
    }

    /// Centre and size instead of corners.
    pub(super) fn offer_centred(&mut self, class: usize, score: f32, [x, y, w, h]: [f32; 4]) {
        self.offer(class, score, [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0]);
    }

    /// The best, in order, without those that a better one of their class overlaps by more than this.
    pub(super) fn best(mut self, overlap: Option<f32>, detections: &mut Vec<Detection>) {
        self.kept.sort_unstable_by(better);
        self.kept.truncate(MAX_CANDIDATES);
        for (_, candidate) in self.kept {
            if detections.len() >= MAX_DETECTIONS {
                break;
            }
            let same = |kept: &Detection, most| kept.class == candidate.class && iou(kept.bbox, candidate.bbox) > most;
            if !overlap.is_some_and(|most| detections.iter().any(|kept| same(kept, most))) {
                detections.push(candidate);
            }
        }
    }
}

fn better((came, a): &(usize, Detection), (later, b): &(usize, Detection)) -> Ordering {
    b.score.total_cmp(&a.score).then(came.cmp(later))
}

/// Of the classes whose thresholds are reached, that of the highest score. NaN reaches none.
pub(super) fn top(scores: impl Iterator<Item = f32>, thresholds: &[f32]) -> Option<(usize, f32)> {
    let mut best: Option<(usize, f32)> = None;
    for (class, (score, threshold)) in scores.zip(thresholds).enumerate() {
        if score >= *threshold && best.is_none_or(|(_, most)| score > most) {
            best = Some((class, score));
        }
    }
    best
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

    #[test]
    fn the_better_of_two_overlapping_boxes_stays() {
        let one = [(0, 0.9, 0.0), (0, 0.8, 1.0), (1, 0.7, 1.0), (0, 0.6, 8.0)];
        let kept = |overlap| {
            let mut candidates = Candidates::new([100, 100]);
            for (class, score, x) in one {
                candidates.offer(class, score, [x, 0.0, x + 10.0, 10.0]);
            }
            let mut found = Vec::new();
            candidates.best(overlap, &mut found);
            found.iter().map(|d| d.score).collect::<Vec<_>>()
        };
        assert_eq!(kept(Some(0.6)), [0.9, 0.7, 0.6]);
        assert_eq!(kept(Some(0.9)), [0.9, 0.8, 0.7, 0.6], "9 of 11 parts in common");
        assert_eq!(kept(Some(0.05)), [0.9, 0.7], "2 of 18 parts in common");
        assert_eq!(kept(None), [0.9, 0.8, 0.7, 0.6]);
    }

    #[test]
    fn of_very_many_the_best_stay_in_little_memory() {
        let mut candidates = Candidates::new([1_000_000, 10]);
        let score = |n: u64| (n * 7919 % 100_003) as f32 / 100_003.0;
        for n in 0..100_003_u64 {
            candidates.offer(0, score(n), [n as f32, 0.0, n as f32 + 1.0, 10.0]);
            assert!(candidates.kept.len() < 2 * MAX_CANDIDATES);
        }
        let mut found = Vec::new();
        candidates.best(None, &mut found);
        let wanted: Vec<_> = (0..MAX_DETECTIONS).map(|n| (100_002 - n) as f32 / 100_003.0).collect();
        assert_eq!(found.iter().map(|d| d.score).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn of_equals_the_first_stay() {
        let mut candidates = Candidates::new([10_000, 10]);
        for n in 0..5000 {
            candidates.offer(n, 0.5, [n as f32, 0.0, n as f32 + 1.0, 10.0]);
        }
        let mut found = Vec::new();
        candidates.best(Some(0.6), &mut found);
        assert!(found.iter().map(|d| d.class).eq(0..MAX_DETECTIONS));
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
