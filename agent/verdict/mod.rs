//! From what the model and the anomaly check say to a verdict, and from verdicts to alarms.

pub mod book;
pub mod condition;
pub mod entry;
pub mod heat;
pub mod life;
pub mod quiet;
pub mod rules;
pub mod scorecard;
pub mod snapshot;
pub mod track;

use std::sync::Arc;

use self::heat::Heat;
use crate::frame::{Captured, Frame};
use crate::health::{Fault, Report};
use crate::inspector::Times;
use crate::mqtt::payload::{Finding, ModelRef, Outcome};
use crate::taught::Scene;

/// The verdict on one picture.
#[derive(Debug)]
pub struct Verdict {
    /// The picture, or what came in its place.
    pub captured: Captured,
    /// What was found; empty for a good one.
    pub findings: Vec<Finding>,
    /// Why there is none.
    pub no_verdict: Option<String>,
    /// The anomaly check's raw score.
    pub anomaly: Option<f32>,
    /// The same as a probability, once the check has learned.
    pub probability: Option<f32>,
    /// Where it looks strange, if it does.
    pub heat: Option<Heat>,
    /// What the network has seen, where something was found.
    pub scene: Option<Scene>,
    /// Seconds from capture.
    pub latency: f32,
    /// How long the parts of the inspection took.
    pub times: Times,
    /// Which model has looked.
    pub model: Arc<ModelRef>,
    /// What is wrong with the picture itself, where that is watched.
    pub health: Option<Report>,
}

impl Verdict {
    /// Nothing was found; or nothing can be said, and why.
    #[must_use]
    pub fn none(captured: Captured, no_verdict: Option<String>, model: Arc<ModelRef>) -> Self {
        Self {
            captured,
            findings: Vec::new(),
            no_verdict,
            anomaly: None,
            probability: None,
            heat: None,
            scene: None,
            latency: 0.0,
            times: Times::default(),
            model,
            health: None,
        }
    }

    /// What is wrong with the picture, so that all else that is said of it is not to be trusted.
    #[must_use]
    pub fn untrusted(&self) -> Vec<Fault> {
        self.health.iter().flat_map(|report| report.active.iter().copied()).collect()
    }

    /// Good, defective, or none.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match (&self.no_verdict, self.findings.is_empty()) {
            (Some(_), _) => Outcome::NoVerdict,
            (None, true) => Outcome::Good,
            (None, false) => Outcome::Defective,
        }
    }

    /// The picture, where there is one.
    #[must_use]
    pub fn frame(&self) -> Option<&Frame> {
        match &self.captured {
            Captured::Frame(frame) => Some(frame),
            Captured::Unreadable { .. } | Captured::Missed { .. } => None,
        }
    }

    /// The file's name, where there is one.
    #[must_use]
    pub fn origin(&self) -> Option<&Arc<str>> {
        match &self.captured {
            Captured::Frame(frame) => frame.image.origin.as_ref(),
            Captured::Unreadable { origin, .. } => origin.as_ref(),
            Captured::Missed { .. } => None,
        }
    }
}
