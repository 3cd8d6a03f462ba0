//! `cameras.trigger`: which pictures are inspected.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{Count, DeadTime, Fraction, Milliseconds, Queue, Seconds};

/// `cameras.trigger`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TriggerConfig {
    /// What makes a picture one that is inspected; all others are passed over.
    pub on: TriggerOn,
    /// Edges of a line that follow so soon, in ms, belong to the same part.
    #[serde(default)]
    pub debounce_ms: DeadTime,
    /// A trigger that is followed by no picture for so long is missed: the alarm `missed` says so.
    #[serde(default = "deadline")]
    pub deadline_ms: Milliseconds,
    /// Pictures that may wait for their inspection, in order; a part is missed where there would be more. With 0 a newer picture
    /// takes the place of one that waits.
    #[serde(default)]
    pub queue: Queue,
}

fn deadline() -> Milliseconds {
    Milliseconds::of(1000.0)
}

/// What triggers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriggerOn {
    /// The MQTT command `trigger` alone.
    Command,
    /// Every so many pictures.
    Every(Count),
    /// Every so many seconds.
    IntervalS(Seconds),
    /// Something is there that is not always there.
    Motion(MotionConfig),
    /// A line of a GPIO chip: a light barrier, a controller's output.
    Line(LineConfig),
}

impl TriggerOn {
    /// Whether a picture is inspected only where it was asked for.
    #[must_use]
    pub fn asks(&self) -> bool {
        matches!(self, Self::Command | Self::IntervalS(_) | Self::Line(_))
    }
}

/// `trigger.on.motion`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MotionConfig {
    /// Share of the picture that has to differ from what is usually there.
    pub area: Fraction,
    /// Levels of grey, of 255, by which it has to differ.
    pub levels: Count,
}

impl Default for MotionConfig {
    fn default() -> Self {
        Self { area: Fraction::of(0.01), levels: Count::of(20) }
    }
}

/// `trigger.on.line`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LineConfig {
    /// The chip, for instance `/dev/gpiochip0` (`gpiodetect`).
    pub chip: PathBuf,
    /// Its line (`gpioinfo`).
    pub offset: u32,
    /// Which edge is a part.
    #[serde(default)]
    pub edge: LineEdge,
}

/// An edge of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineEdge {
    /// Low to high.
    #[default]
    Rising,
    /// High to low.
    Falling,
    /// Either.
    Both,
}
