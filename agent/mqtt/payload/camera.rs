//! `…/cameras/{camera}/state`: what a camera is doing, and how well.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::frame::source::Transport;
use crate::health::{Fault, Figures};
use crate::trigger::TriggerCounts;

/// What a camera is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CameraPhase {
    /// Being opened.
    Opening,
    /// Pictures come.
    Streaming,
    /// Given up for now; it will be opened again.
    Reconnecting,
    /// The same picture comes again and again.
    Frozen,
    /// Pictures come, with too little light.
    Dark,
    /// Pictures come, with too much light.
    Overexposed,
    /// Pictures come, and are softer than usual.
    Defocused,
    /// Pictures come, of another place than usual.
    Moved,
    /// Pictures come, through something on the lens.
    Dirty,
}

impl From<Fault> for CameraPhase {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Frozen => Self::Frozen,
            Fault::Dark => Self::Dark,
            Fault::Overexposed => Self::Overexposed,
            Fault::Defocused => Self::Defocused,
            Fault::Moved => Self::Moved,
            Fault::Dirty => Self::Dirty,
        }
    }
}

/// `…/cameras/{camera}/state`: retained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CameraState {
    /// `inspect.camera/1`
    #[schemars(extend("const" = "inspect.camera/1"))]
    pub schema: String,
    /// The camera.
    pub camera: String,
    /// What it is doing.
    pub state: CameraPhase,
    /// Why, in words, where it is not well.
    pub reason: Option<String>,
    /// Since when, RFC 3339.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
    /// Frames inspected a second, over the last seconds.
    pub fps: f32,
    /// Pictures that came: the sum of `inspected`, `no_verdict`, `dropped` and those under way.
    pub captured: u64,
    /// Pictures with a verdict.
    pub inspected: u64,
    /// Pictures that a newer one replaced before they could be inspected.
    pub dropped: u64,
    /// Pictures that could not be decoded whole, or on which the model failed.
    pub no_verdict: u64,
    /// Findings that were counted in a flood alarm instead of raising one each.
    pub suppressed: u64,
    /// Times that the camera was given up and opened again.
    pub reopened: u64,
    /// The anomaly check.
    pub anomaly: AnomalyState,
    /// What is wrong with its picture; `state` says the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// What was measured of its picture, where that is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<Figures>,
    /// What became of its triggers, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggers: Option<TriggerCounts>,
    /// What the way from the camera counts, where it does (GenICam).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<TransportState>,
}

/// The way from a camera to the agent, counted since the agent started.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TransportState {
    /// Pictures, packets and buffers.
    #[serde(flatten)]
    pub counts: Transport,
    /// What the camera has appended to its newest picture.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub chunks: BTreeMap<String, f64>,
}

/// How far the anomaly check is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum AnomalyState {
    /// It does not run.
    Off,
    /// It knows too little of this stream to alarm.
    Learning {
        /// Frames that are missing.
        missing: u64,
    },
    /// It alarms above `threshold`.
    Calibrated {
        /// In units of the frame's raw score.
        threshold: f32,
    },
}
