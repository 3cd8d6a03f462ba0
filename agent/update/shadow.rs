//! What a candidate sees beside the active bundle, and whether that is good enough. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::prove::Found;
use super::release::Promotion;
use crate::model::decode::iou;
use crate::mqtt::payload::{AlarmKind, Finding};

/// Boxes that overlap this much are the same thing.
const SAME: f32 = 0.3;

/// A comparison, frame by frame.
#[derive(Debug, Default)]
pub struct Shadow {
    frames: u64,
    agreeing: u64,
    new: u64,
    gone: u64,
    active_ms: Vec<f32>,
    candidate_ms: Vec<f32>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShadowReport {
    /// Frames that both have seen.
    pub frames: u64,
    /// Share that both call good, or both defective.
    pub agreement: f64,
    /// Findings that the active one does not have, on 1,000 frames.
    pub new_findings: f64,
    /// Findings that only the active one has, on 1,000 frames.
    pub missing_findings: f64,
    /// Median time of the candidate by that of the active one.
    pub slowdown: f64,
}

impl Shadow {
    /// A frame that both have seen; the anomaly check's findings do not count, since the candidate's has learned nothing yet.
    pub fn add(&mut self, active: &[Finding], active_ms: f32, candidate: &[Found], candidate_ms: f32) {
        let active: Vec<&Finding> = active.iter().filter(|f| f.kind == AlarmKind::Defect && f.look.is_none()).collect();
        let known = |found: &&Found| active.iter().any(|f| iou(f.bbox, found.bbox) > SAME);
        let seen = |finding: &&&Finding| candidate.iter().any(|f| iou(f.bbox, finding.bbox) > SAME);
        self.frames += 1;
        self.agreeing += u64::from(active.is_empty() == candidate.is_empty());
        self.new += candidate.iter().filter(|found| !known(found)).count() as u64;
        self.gone += active.iter().filter(|finding| !seen(finding)).count() as u64;
        self.active_ms.push(active_ms);
        self.candidate_ms.push(candidate_ms);
    }

    /// Frames so far.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// So far.
    #[must_use]
    pub fn report(&self) -> ShadowReport {
        let frames = self.frames.max(1) as f64;
        ShadowReport {
            frames: self.frames,
            agreement: self.agreeing as f64 / frames,
            new_findings: 1000.0 * self.new as f64 / frames,
            missing_findings: 1000.0 * self.gone as f64 / frames,
            slowdown: f64::from(median(&self.candidate_ms)) / f64::from(median(&self.active_ms).max(0.001)),
        }
    }
}

impl ShadowReport {
    /// Whether it is good enough to be tried out.
    ///
    /// # Errors
    /// What is not, in words.
    pub fn judge(&self, by: &Promotion) -> Result<(), String> {
        if self.agreement < by.min_agreement {
            return Err(format!(
                "it agrees with the active one on {:.3} of the frames, {} are wanted",
                self.agreement, by.min_agreement
            ));
        }
        if self.new_findings > by.max_new_findings {
            return Err(format!(
                "it finds {:.1} on 1,000 frames that the active one does not, {} are allowed",
                self.new_findings, by.max_new_findings
            ));
        }
        if self.slowdown > by.max_slowdown {
            return Err(format!(
                "it is {:.1} times as slow as the active one, {} are allowed",
                self.slowdown, by.max_slowdown
            ));
        }
        Ok(())
    }
}

fn median(values: &[f32]) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Severity;

    fn finding(bbox: [f32; 4]) -> Finding {
        let (kind, class) = (AlarmKind::Defect, "c".into());
        Finding { kind, class, severity: Severity::Major, score: 0.9, bbox, look: None, appearance: None }
    }

    fn found(bbox: [f32; 4]) -> Found {
        Found { class: "d".into(), score: 0.9, bbox }
    }

    #[test]
    fn what_differs_is_counted_and_judged() {
        let (here, there) = ([0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]);
        let mut shadow = Shadow::default();
        shadow.add(&[], 10.0, &[], 20.0);
        shadow.add(&[finding(here)], 10.0, &[found(here)], 20.0);
        shadow.add(&[finding(here)], 10.0, &[found(there)], 20.0);
        shadow.add(&[finding(here)], 10.0, &[], 20.0);
        let report = shadow.report();
        let wanted =
            ShadowReport { frames: 4, agreement: 0.75, new_findings: 250.0, missing_findings: 500.0, slowdown: 2.0 };
        assert_eq!(report, wanted);
        assert!(report.judge(&Promotion::default()).is_ok());
        for (by, message) in [
            (Promotion { min_agreement: 0.8, ..Promotion::default() }, "agrees with the active one on 0.750"),
            (Promotion { max_new_findings: 100.0, ..Promotion::default() }, "finds 250.0 on 1,000 frames"),
            (Promotion { max_slowdown: 1.5, ..Promotion::default() }, "2.0 times as slow"),
        ] {
            assert!(report.judge(&by).unwrap_err().contains(message));
        }
    }
}
