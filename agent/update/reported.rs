//! `…/model/reported`, retained: how far an update is, and why it is no further.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::index::Digest;
use super::ledger::Phase;
use super::shadow::ShadowReport;
use crate::mqtt::payload::ModelRef;

/// What stands in `schema`.
pub const SCHEMA: &str = "inspect.reported/1";

/// `…/model/reported`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reported {
    /// `inspect.reported/1`
    #[schemars(extend("const" = "inspect.reported/1"))]
    pub schema: String,
    /// How far it is.
    pub phase: Phase,
    /// Share of this phase that is done, 0 to 1.
    pub progress: f64,
    /// Why the last release was refused or given up, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The active bundle.
    pub active: ModelRef,
    /// Hash of the active bundle's release; none for the configured bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Digest>,
    /// Hash of the release that was decided about last: `phase` and `reason` are about this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Digest>,
    /// The release that is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateRef>,
    /// Bytes that have come for it.
    pub received: u64,
    /// Bytes that have to.
    pub needed: u64,
    /// What came of its frames beside the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowReport>,
    /// The largest counter that was ever taken.
    pub floor: u64,
}

/// Names a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CandidateRef {
    /// The bundle's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The release's counter.
    pub counter: u64,
    /// Hash of the release's text.
    pub sha256: Digest,
}
