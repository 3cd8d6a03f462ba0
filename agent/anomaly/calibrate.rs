//! A threshold out of the stream's own scores, some of which belong to defective frames.
//!
//! Method: the logarithms of the scores of good frames are taken as about normal. Location is their median. Scale is the
//! larger of two: what the lower half says (median minus 15.87 % quantile), and what the part just above the median says
//! (70 % quantile minus median, over 0.524), both one standard deviation of a normal distribution. Defects stretch the far end
//! of the upper half, of which nothing is used; scores of good frames are often skewed, which the lower half does not see: by
//! it alone 1.8 % of good frames of four sets alarmed where 0.1 % were wanted, with both one of 2,089. The threshold for a
//! false-alarm rate `p` is then `exp(location + z(1 - p) * scale)`, with the scale widened by two of the quantiles' own standard
//! errors at this number of frames, so that a short history alarms later, not more often. A share of defective frames moves median
//! and upper quantile up, which again errs on the quiet side; the scale from above is never more than twice that from below,
//! so that 30 % of them and more do not silence a camera.

use std::collections::VecDeque;

use crate::mqtt::payload::AnomalyState;

/// Frames before it may alarm.
pub const LEARNING: usize = 24;
/// Scores kept; older ones are forgotten, so that the threshold follows slow change.
pub const HISTORY: usize = 2048;
/// The lower side of log scores is never taken as narrower than this: scores of a lifeless test picture have no spread.
const MIN_SCALE: f64 = 0.02;
/// Of the upper half only what is below this quantile counts,
const UPPER: f64 = 0.7;
/// which lies so many standard deviations above the median.
const UPPER_DEVIATIONS: f64 = 0.5244;
/// Scores of good frames are not skewed more than this; what is, are defects.
const SKEW: f64 = 2.0;
/// Scores between two fits.
const REFIT: usize = 16;

/// Whether scores can be judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standing {
    /// Too few frames were seen.
    Learning {
        /// Frames that are missing.
        missing: usize,
    },
    /// Scores above the threshold are anomalous.
    Calibrated {
        /// In units of the raw score.
        threshold: f32,
    },
}

impl Standing {
    /// Whether it alarms.
    #[must_use]
    pub fn is_calibrated(self) -> bool {
        matches!(self, Self::Calibrated { .. })
    }

    /// The threshold, if there is one.
    #[must_use]
    pub fn threshold(self) -> Option<f32> {
        match self {
            Self::Learning { .. } => None,
            Self::Calibrated { threshold } => Some(threshold),
        }
    }
}

impl From<Standing> for AnomalyState {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Learning { missing } => Self::Learning { missing: missing as u64 },
            Standing::Calibrated { threshold } => Self::Calibrated { threshold },
        }
    }
}

/// The threshold of one camera.
#[derive(Debug, Clone)]
pub struct Calibration {
    z: f64,
    sensitivity: f64,
    scores: VecDeque<f32>,
    since_fit: usize,
    fit: Option<Fit>,
}

#[derive(Debug, Clone, Copy)]
struct Fit {
    location: f64,
    scale: f64,
}

impl Calibration {
    /// For a wanted false-alarm rate (share of good frames) and sensitivity (1 is neutral).
    #[must_use]
    pub fn new(false_alarm_rate: f64, sensitivity: f64) -> Self {
        let z = normal_quantile(1.0 - false_alarm_rate);
        Self { z, sensitivity, scores: VecDeque::with_capacity(HISTORY), since_fit: 0, fit: None }
    }

    /// Whether scores can be judged now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.fit {
            Some(fit) => Standing::Calibrated { threshold: self.threshold(fit) },
            None => Standing::Learning { missing: LEARNING.saturating_sub(self.scores.len()).max(1) },
        }
    }

    /// The latest scores, the oldest first.
    pub fn scores(&self) -> impl Iterator<Item = f32> {
        self.scores.iter().copied()
    }

    fn threshold(&self, fit: Fit) -> f32 {
        (fit.location + self.z * fit.scale / self.sensitivity).exp() as f32
    }

    /// How sure it is that a score is anomalous: 0.5 at the threshold, 0.95 as far above it as it is above the median.
    #[must_use]
    pub fn probability(&self, score: f32) -> f32 {
        let Some(fit) = self.fit else { return 0.0 };
        let distance =
            (f64::from(score.max(1e-9)).ln() - fit.location) / (self.z * fit.scale / self.sensitivity).max(1e-9);
        (1.0 / (1.0 + (-3.0 * (distance - 1.0)).exp())) as f32
    }

    /// Begins anew.
    pub fn forget(&mut self) {
        self.scores.clear();
        (self.since_fit, self.fit) = (0, None);
    }

    /// Takes a score into the history.
    pub fn add(&mut self, score: f32) {
        if self.scores.len() == HISTORY {
            self.scores.pop_front();
        }
        self.scores.push_back(score);
        self.since_fit += 1;
        // Few scores change the fit quickly, many slowly.
        if self.scores.len() >= LEARNING && (self.since_fit >= REFIT || self.scores.len() < 4 * LEARNING) {
            self.since_fit = 0;
            self.fit = Some(fit(self.scores.iter().copied()));
        }
    }
}

fn fit(scores: impl Iterator<Item = f32>) -> Fit {
    let mut logs: Vec<f64> = scores.map(|s| f64::from(s.max(1e-9)).ln()).collect();
    logs.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        let at = q * (logs.len() - 1) as f64;
        let (low, rest) = (at.floor() as usize, at.fract());
        logs[low] + rest * (logs[(low + 1).min(logs.len() - 1)] - logs[low])
    };
    let location = quantile(0.5);
    // Standard error of a scale from these quantiles: about 1.2 / sqrt(n), and two of it on top.
    let widened = 1.0 + 2.4 / (logs.len() as f64).sqrt();
    let below = (location - quantile(0.1587)).max(MIN_SCALE);
    let above = ((quantile(UPPER) - location) / UPPER_DEVIATIONS).min(SKEW * below);
    Fit { location, scale: below.max(above) * widened }
}

/// Quantile of the standard normal distribution (Acklam's rational approximation, relative error under 1.2e-9).
fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -39.696_830_286_653_76,
        220.946_098_424_520_5,
        -275.928_510_446_968_7,
        138.357_751_867_269,
        -30.664_798_066_147_16,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -54.476_098_798_224_06,
        161.585_836_858_040_9,
        -155.698_979_859_886_6,
        66.801_311_887_719_72,
        -13.280_681_552_885_72,
    ];
    const C: [f64; 6] = [
        -0.007_784_894_002_430_293,
        -0.322_396_458_041_136_5,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [0.007_784_695_709_041_462, 0.322_467_129_070_039_8, 2.445_134_137_142_996, 3.754_408_661_907_416];
    let poly = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, k| sum * x + k);
    let p = p.clamp(1e-12, 1.0 - 1e-12);
    if p < 0.02425 {
        let q = (-2.0 * p.ln()).sqrt();
        poly(&C, q) / (poly(&D, q) * q + 1.0)
    } else if p > 1.0 - 0.02425 {
        -normal_quantile(1.0 - p)
    } else {
        let (q, r) = (p - 0.5, (p - 0.5) * (p - 0.5));
        poly(&A, r) * q / (poly(&B, r) * r + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn stream(rng: &mut StdRng, defective: f64) -> (f32, bool) {
        let noise: f64 = normal_quantile(rng.random_range(1e-9..1.0 - 1e-9));
        let bad = rng.random_range(0.0..1.0) < defective;
        (((noise * 0.1 - 1.0).exp() * if bad { 2.5 } else { 1.0 }) as f32, bad)
    }

    #[test]
    fn quantiles_of_the_normal_distribution() {
        for (p, z) in [(0.5, 0.0), (0.841_344_746, 1.0), (0.999, 3.090_232_306), (0.01, -2.326_347_874)] {
            assert!((normal_quantile(p) - z).abs() < 1e-6, "{p}");
        }
    }

    #[test]
    fn says_how_many_frames_are_missing() {
        let mut calibration = Calibration::new(0.001, 1.0);
        assert_eq!(calibration.standing(), Standing::Learning { missing: LEARNING });
        (0..LEARNING - 1).for_each(|_| calibration.add(0.3));
        assert_eq!(calibration.standing(), Standing::Learning { missing: 1 });
        calibration.add(0.3);
        assert!(calibration.standing().is_calibrated());
    }

    #[test]
    fn keeps_the_wanted_rate_and_finds_defects_in_a_stream_that_holds_some() {
        for share in [0.0, 0.05, 0.2, 0.3] {
            let mut rng = StdRng::seed_from_u64(5);
            let mut calibration = Calibration::new(0.001, 1.0);
            let (mut good, mut alarms, mut bad, mut found) = (0, 0, 0, 0);
            for _ in 0..40_000 {
                let (score, defective) = stream(&mut rng, share);
                if let Some(threshold) = calibration.standing().threshold() {
                    let alarm = score > threshold;
                    if defective {
                        bad += 1;
                        found += u32::from(alarm);
                    } else {
                        good += 1;
                        alarms += u32::from(alarm);
                    }
                }
                calibration.add(score);
            }
            let rate = f64::from(alarms) / f64::from(good);
            assert!(rate < 0.002, "{share}: {rate}");
            assert!(share > 0.0 || rate > 0.0002, "too quiet: {rate}");
            // Where nearly a third of the frames are defective, it becomes less sure, and not silent.
            let wanted = if share < 0.25 { 0.95 } else { 0.5 };
            assert!(bad == 0 || f64::from(found) / f64::from(bad) > wanted, "{share}: {found} of {bad}");
        }
    }

    #[test]
    fn probability_rises_through_a_half_at_the_threshold() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut calibration = Calibration::new(0.001, 1.0);
        (0..500).for_each(|_| calibration.add(stream(&mut rng, 0.0).0));
        let threshold = calibration.standing().threshold().unwrap();
        assert!((calibration.probability(threshold) - 0.5).abs() < 0.01);
        assert!(calibration.probability(threshold * 2.0) > 0.9);
        assert!(calibration.probability(threshold / 1.3) < 0.2);
        let mut keen = Calibration { sensitivity: 2.0, ..calibration.clone() };
        keen.fit = calibration.fit;
        assert!(keen.standing().threshold().unwrap() < threshold);
    }
}
