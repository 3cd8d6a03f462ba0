//! What is published, as types; their JSON Schemas are what `inspectd schema` prints.
//!
//! Fields are added, never changed in meaning, within `/1`; readers ignore what they do not know.

mod camera;

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use camera::{AnomalyState, CameraPhase, CameraState, TransportState};

use crate::config::Severity;
use crate::health::Fault;
use crate::system::SystemState;
use crate::taught::Look;

/// What happened to an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// It is new.
    Raised,
    /// It became worse.
    Updated,
    /// An operator has seen it.
    Acknowledged,
    /// An operator has put it off, until `until`.
    Shelved,
    /// Its time on the shelf is over, or an operator has taken it off.
    Unshelved,
    /// The plant's state keeps it quiet.
    Suppressed,
    /// The plant's state does so no more.
    Unsuppressed,
    /// It is kept quiet for maintenance.
    RemovedFromService,
    /// Maintenance is over.
    ReturnedToService,
    /// An operator has said something about it.
    Commented,
    /// The finding is gone.
    Cleared,
}

/// The state of an alarm after ISA-18.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlarmState {
    /// Active, and nobody has seen it.
    Unacknowledged,
    /// Active, and an operator knows.
    Acknowledged,
    /// The finding is gone, and nobody had seen it.
    ReturnedToNormalUnacknowledged,
    /// The finding is gone.
    Normal,
    /// Put off by an operator.
    Shelved,
    /// Kept quiet by the plant's state.
    SuppressedByDesign,
    /// Switched off for maintenance.
    OutOfService,
}

/// What an alarm is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlarmKind {
    /// A defect that the model names.
    Defect,
    /// Something that does not look like the rest.
    Anomaly,
    /// The camera.
    Camera,
    /// The model.
    Model,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FrameRef {
    /// Counts the camera's pictures since the agent started.
    pub seq: u64,
    /// Time of capture, RFC 3339.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub captured_at: Timestamp,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// Which model said so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ModelRef {
    /// The bundle's name.
    pub name: String,
    /// Its semantic version.
    pub version: String,
    /// Hash of its manifest.
    pub sha256: String,
}

/// `…/events`: one transition of one alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlarmEvent {
    /// `inspect.event/1`
    #[schemars(extend("const" = "inspect.event/1"))]
    pub schema: String,
    /// This event's id (`UUIDv7`); a second copy carries the same one.
    #[schemars(extend("format" = "uuid"))]
    pub id: Uuid,
    /// Counts the gateway's events without gaps, from 1.
    pub seq: u64,
    /// When it was decided, RFC 3339.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// The plant.
    pub site: String,
    /// The gateway.
    pub gateway: String,
    /// What happened.
    pub transition: Transition,
    /// The alarm as it is now.
    #[serde(flatten)]
    pub body: AlarmBody,
    /// Which model said so.
    pub model: ModelRef,
    /// It was queued while the broker was away.
    pub replayed: bool,
}

/// `…/alarms/{id}`: an active alarm's present state, retained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alarm {
    /// `inspect.alarm/1`
    #[schemars(extend("const" = "inspect.alarm/1"))]
    pub schema: String,
    /// When it was raised, RFC 3339.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub raised_at: Timestamp,
    /// The alarm as it is now.
    #[serde(flatten)]
    pub body: AlarmBody,
}

/// Where a picture looks strange: cells over a part of the frame, row by row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeatPatch {
    /// x0, y0, x1, y1 in pixels of the frame as captured.
    #[serde(rename = "box")]
    pub bbox: [f32; 4],
    /// Cells a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Base64 of a byte a cell: 0 is as the rest of the frame, 255 the strangest place.
    pub values: String,
}

/// What an alarm and its events share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlarmBody {
    /// The alarm's id (`UUIDv7`), the same in all of its events.
    #[schemars(extend("format" = "uuid"))]
    pub alarm: Uuid,
    /// The camera.
    pub camera: String,
    /// Its state.
    pub state: AlarmState,
    /// What it is about.
    pub kind: AlarmKind,
    /// The defect's class; `unknown` where nothing names it.
    pub class: String,
    /// How bad it is.
    pub severity: Severity,
    /// How sure, 0 to 1.
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub score: f32,
    /// x0, y0, x1, y1 in pixels of the frame as captured.
    #[serde(rename = "box")]
    pub bbox: [f32; 4],
    /// The frame in which it was seen last.
    pub frame: FrameRef,
    /// Hash of the snapshot, published under `images/`.
    pub image: Option<String>,
    /// Where it looks strange, for an anomaly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heat: Option<HeatPatch>,
    /// An operator knows; also said while `state` says something else.
    #[serde(default)]
    pub acknowledged: bool,
    /// When its time on the shelf ends, RFC 3339; while `state` is `shelved`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub until: Option<Timestamp>,
    /// Who did the last thing that was done by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What was said about it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Findings that the summary alarm of a flood (class `flood`) stands for, or parts that were missed (class `missed`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Why, in words, where it is about the camera.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was wrong with the picture, so that this is not to be trusted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untrusted: Vec<Fault>,
}

/// `…/state`: the gateway, retained; its offline form is the last will.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GatewayState {
    /// `inspect.state/1`
    #[schemars(extend("const" = "inspect.state/1"))]
    pub schema: String,
    /// Whether the agent is connected.
    pub online: bool,
    /// Why not (`stopped`, or `connection lost`, sent by the broker), or what is wrong though it is online.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The agent's version.
    pub agent: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// The active bundle.
    pub bundle: ModelRef,
    /// The queue.
    pub outbox: OutboxState,
    /// The connection to the broker.
    #[serde(default)]
    pub broker: BrokerState,
    /// Its cameras' names.
    pub cameras: Vec<String>,
    /// How long frames have taken since the state before this one, by stage (queue, prepare, forward, judge, record) and from capture to
    /// verdict (latency); none where there were no frames.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stages: BTreeMap<String, StageState>,
    /// Alarms raised since the agent started, by class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub raised: BTreeMap<String, u64>,
    /// The machine, while the agent is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemState>,
}

/// How long a stage takes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct StageState {
    /// Milliseconds that half of the frames took at most.
    pub p50_ms: f32,
    /// Milliseconds that 99 of 100 took at most.
    pub p99_ms: f32,
}

/// The connection to the broker, since the agent started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BrokerState {
    /// `5` or `3.1.1`; empty before the first connection.
    pub mqtt_version: String,
    /// Connections so far.
    pub connections: u64,
    /// Why the last one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_loss: Option<String>,
    /// How often another client of the same id took over.
    pub taken_over: u64,
}

/// The queue in front of the broker, counted since it was made: `appended` is the sum of the other four.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct OutboxState {
    /// Messages ever appended.
    pub appended: u64,
    /// Acknowledged by the broker.
    pub delivered: u64,
    /// Given up because the queue was full.
    pub dropped: u64,
    /// Set aside because the broker would never take them.
    pub dead: u64,
    /// Waiting.
    pub queued: u64,
    /// Seconds that the oldest of them has waited.
    #[serde(default)]
    pub oldest_s: u64,
    /// What was set aside last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
}

/// A message that the broker would never take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// Its topic.
    pub topic: String,
    /// Why, in words.
    pub reason: String,
}

/// What an inspected frame was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was found.
    Good,
    /// Something was found.
    Defective,
    /// It could not be inspected: it is neither good nor defective.
    NoVerdict,
}

/// Something found in a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Named by the model, or an anomaly.
    pub kind: AlarmKind,
    /// The defect's class; `unknown` where nothing names it.
    pub class: String,
    /// How bad it is.
    pub severity: Severity,
    /// How sure, 0 to 1.
    pub score: f32,
    /// x0, y0, x1, y1 in pixels of the frame as captured.
    #[serde(rename = "box")]
    pub bbox: [f32; 4],
    /// By which it can be taught; not published.
    #[serde(skip)]
    #[schemars(skip)]
    pub look: Option<Look>,
    /// By which it is known again in the next frame; not published.
    #[serde(skip)]
    #[schemars(skip)]
    pub appearance: Option<Look>,
}

/// `…/cameras/{camera}/results`: one inspected frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FrameResult {
    /// `inspect.result/1`
    #[schemars(extend("const" = "inspect.result/1"))]
    pub schema: String,
    /// The camera.
    pub camera: String,
    /// Counts the camera's pictures since the agent started.
    pub seq: u64,
    /// Time of capture, RFC 3339.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub captured_at: Timestamp,
    /// When it was asked for, RFC 3339, where a trigger did.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggered_at: Option<Timestamp>,
    /// File name, for a camera that is a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What it was found to be.
    pub outcome: Outcome,
    /// What is wrong with the picture, so that what was found is not to be trusted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untrusted: Vec<Fault>,
    /// Why there is no verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The anomaly check's raw score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anomaly: Option<f32>,
    /// How sure the anomaly check is that something is wrong, 0 to 1, 0.5 at its threshold; left out while it is learning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anomaly_probability: Option<f32>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Hash of the picture, published under `images/`, where somebody has asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// From capture to verdict.
    pub latency_ms: f32,
}

/// `…/replies/{id}`: what became of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// `inspect.reply/1`
    #[schemars(extend("const" = "inspect.reply/1"))]
    pub schema: String,
    /// The command's id.
    pub id: String,
    /// The command.
    pub command: String,
    /// When it was done or refused, RFC 3339.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// Whether it was done; if not, nothing was changed.
    pub ok: bool,
    /// Why it was refused, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What came of it; depends on the command.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub result: serde_json::Value,
}
