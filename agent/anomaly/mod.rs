//! The zero-shot check: finds what does not look like the rest, without a label and without hand-picked good frames.
//!
//! Guarantees: a score depends on its frame and earlier ones of the same camera only; memory is bounded
//! ([`bank::FRAMES`] frames of [`bank::PATCHES`] patches); before enough frames were seen it says that it is learning instead of alarming.

pub mod bank;
pub mod calibrate;
pub mod embed;
mod grid;
pub mod memory;
pub mod region;
pub mod shelf;

use bank::Bank;
use calibrate::Calibration;
pub use calibrate::Standing;
use embed::Embedding;
use memory::Memory;
pub use region::Region;

use crate::model::FeatureMap;

/// One in so many places counts as a frame's strongest, by their mean: one place alone is noisier,
const STRONGEST: usize = 64;
/// and so are fewer than this, where small inputs have few places.
const FEWEST: usize = 4;
/// Share of a map's mean that is taken off its strongest places for the frame's score.
const COMMON: f32 = 0.4;
/// Frames in the bank from which on scores count for the threshold.
const SETTLED: usize = 4;

/// How far each patch is from what was seen before.
#[derive(Debug, Clone, Default)]
pub struct HeatMap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Network input pixels a cell, in x and y.
    pub cell: [f32; 2],
    /// `width * height` distances, 0 (seen before) to about 1.
    pub data: Vec<f32>,
}

impl HeatMap {
    fn strongest(&self) -> f32 {
        let mut data = self.data.clone();
        let n = data.len().div_ceil(STRONGEST).max(FEWEST).min(data.len());
        if n < data.len() {
            data.select_nth_unstable_by(n, |a, b| b.total_cmp(a));
        }
        data[..n].iter().sum::<f32>() / n.max(1) as f32
    }

    fn mean(&self) -> f32 {
        self.data.iter().sum::<f32>() / self.data.len().max(1) as f32
    }
}

/// What the check says about a frame.
#[derive(Debug, Clone)]
pub struct Anomaly {
    /// The frame's raw score: larger is stranger. Comparable within one camera.
    pub score: f32,
    /// How sure it is that the frame is anomalous, 0 to 1, 0.5 at the threshold; none while learning.
    pub probability: Option<f32>,
    /// Where.
    pub map: HeatMap,
    /// Whether the score can be judged yet, and at which threshold.
    pub standing: Standing,
    /// What is over the threshold, as boxes of input pixels; empty while learning.
    pub regions: Vec<Region>,
}

/// The check of one camera.
pub struct Check {
    bank: Bank,
    calibration: Calibration,
    patch: Embedding,
}

impl Check {
    /// With the wanted share of false alarms among good frames, and the camera's sensitivity (1 is neutral).
    #[must_use]
    pub fn new(false_alarm_rate: f64, sensitivity: f64) -> Self {
        Self {
            bank: Bank::default(),
            calibration: Calibration::new(false_alarm_rate, sensitivity),
            patch: Embedding::default(),
        }
    }

    /// All that it has learned.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let mut memory = Memory { scores: self.calibration.scores().collect(), ..Memory::default() };
        self.bank.save(&mut memory);
        memory
    }

    /// Frames that it has seen.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.bank.offered()
    }

    /// Goes on with what was learned before; with [`Memory::default`] it begins anew.
    pub fn remember(&mut self, memory: &Memory) {
        self.bank = Bank::restored(memory);
        self.calibration.forget();
        memory.scores.iter().for_each(|score| self.calibration.add(*score));
    }

    /// Whether it alarms yet.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.calibration.standing() {
            Standing::Learning { missing } => {
                Standing::Learning { missing: missing + SETTLED.saturating_sub(self.bank.frames()) }
            }
            calibrated @ Standing::Calibrated { .. } => calibrated,
        }
    }

    /// Scores the next frame of the stream, then learns from it; but not from one that is not to be trusted.
    pub fn score(&mut self, features: &[FeatureMap], is_trusted: bool) -> Anomaly {
        self.patch.embed(features);
        let map = self.bank.distances(&self.patch);
        // A frame that is a little strange all over (light, sharpness) is less so than one with a strange place.
        let everywhere = COMMON * map.mean();
        let score = (map.strongest() - everywhere).max(0.0);
        let standing = self.standing();
        let probability = standing.is_calibrated().then(|| self.calibration.probability(score));
        let over = standing.threshold().filter(|threshold| score > *threshold);
        let regions = over.map_or_else(Vec::new, |threshold| {
            region::find(&map, threshold + everywhere, |peak| self.calibration.probability(peak - everywhere))
        });
        // With fewer frames to compare with, everything looks stranger than it will later.
        if is_trusted {
            if self.bank.frames() >= SETTLED {
                self.calibration.add(score);
            }
            self.bank.offer(&self.patch, over.is_some());
        }
        Anomaly { score, probability, map, standing, regions }
    }
}

#[cfg(test)]
mod tests;
