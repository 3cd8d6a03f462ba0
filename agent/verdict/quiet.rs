//! What keeps alarms quiet, and the state of an alarm that follows from it (ISA-18.2). Pure.
//!
//! An alarm that is quiet is recorded and published like any other; its state says that nobody is to be called. Out of service
//! comes before suppressed by design, and that before shelved. What is on the shelf has an end; the others last until they
//! are taken back.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::glob::glob;
use crate::mqtt::payload::{AlarmBody, AlarmState, Transition};

/// Why alarms are quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// An operator has put them off.
    Shelved,
    /// The plant's state makes them meaningless.
    SuppressedByDesign,
    /// Maintenance.
    OutOfService,
}

impl Why {
    /// The state of an alarm that is quiet for it.
    #[must_use]
    pub fn state(self) -> AlarmState {
        match self {
            Self::Shelved => AlarmState::Shelved,
            Self::SuppressedByDesign => AlarmState::SuppressedByDesign,
            Self::OutOfService => AlarmState::OutOfService,
        }
    }

    /// What happens to an alarm when it begins.
    #[must_use]
    pub fn begins(self) -> Transition {
        match self {
            Self::Shelved => Transition::Shelved,
            Self::SuppressedByDesign => Transition::Suppressed,
            Self::OutOfService => Transition::RemovedFromService,
        }
    }

    /// What happens to an alarm when it ends.
    #[must_use]
    pub fn ends(self) -> Transition {
        match self {
            Self::Shelved => Transition::Unshelved,
            Self::SuppressedByDesign => Transition::Unsuppressed,
            Self::OutOfService => Transition::ReturnedToService,
        }
    }
}

/// Alarms that are quiet: one, or all of a camera and some classes, those to come as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quiet {
    /// Why.
    pub why: Why,
    /// Which.
    #[serde(flatten)]
    pub which: Which,
    /// Until when, RFC 3339; until it is taken back where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub until: Option<Timestamp>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What was said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Which alarms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Which {
    /// One.
    One {
        /// Its id.
        alarm: Uuid,
    },
    /// Of a camera.
    All {
        /// The camera.
        camera: String,
        /// Name of classes, in which * is any text.
        class: String,
    },
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One { alarm } => write!(f, "alarm {alarm}"),
            Self::All { camera, class } => write!(f, "class {class} of camera {camera}"),
        }
    }
}

impl Which {
    /// Whether an alarm is one of these.
    #[must_use]
    pub fn holds(&self, body: &AlarmBody) -> bool {
        match self {
            Self::One { alarm } => *alarm == body.alarm,
            Self::All { camera, class } => *camera == body.camera && glob(class, &body.class),
        }
    }
}

impl Quiet {
    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// What keeps an alarm quiet now, and until when.
#[must_use]
pub fn reason(body: &AlarmBody, list: &[Quiet], now: Timestamp) -> Option<(Why, Option<Timestamp>)> {
    let covering = list.iter().filter(|quiet| !quiet.is_over(now) && quiet.which.holds(body));
    covering.map(|quiet| (quiet.why, quiet.until)).max() // of two times on the shelf the longer one counts
}

/// The state of an active alarm.
#[must_use]
pub fn state(acknowledged: bool, quiet: Option<Why>) -> AlarmState {
    match quiet {
        Some(why) => why.state(),
        None if acknowledged => AlarmState::Acknowledged,
        None => AlarmState::Unacknowledged,
    }
}

/// The state of an alarm whose finding is gone. One that was quiet called nobody, so that nobody need answer it.
#[must_use]
pub fn state_gone(acknowledged: bool, state: AlarmState) -> AlarmState {
    match state {
        AlarmState::Unacknowledged if !acknowledged => AlarmState::ReturnedToNormalUnacknowledged,
        _ => AlarmState::Normal,
    }
}

/// Why an alarm in this state is quiet.
#[must_use]
pub fn why(state: AlarmState) -> Option<Why> {
    [Why::Shelved, Why::SuppressedByDesign, Why::OutOfService].into_iter().find(|why| why.state() == state)
}
