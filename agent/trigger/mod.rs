//! Which pictures are inspected, where it is not all of them.
//!
//! Guarantees
//! - A trigger gets the first picture that was captured after it, and a picture serves one trigger of a part. (Any number of commands
//!   may share it.)
//! - A part whose picture did not come within the deadline, or was not inspected because others waited, is a
//!   [`Captured::Missed`](crate::frame::Captured::Missed), which goes the way of a picture and ends in the alarm `missed`.
//! - Who waits for a verdict is answered, whatever happens to the picture.

mod gate;
pub mod line;
mod motion;
pub mod timer;

use std::fmt;
use std::time::{Instant, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use gate::{Gate, Refused};

use crate::mqtt::payload::FrameResult;

/// What has fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The MQTT command.
    Command,
    /// The clock.
    Interval,
    /// A line.
    Line,
}

/// A trigger on its way to its picture, and with it to the verdict.
#[derive(Debug)]
pub struct Fired {
    /// What has fired.
    pub by: By,
    /// When.
    pub at: Instant,
    /// The same by the wall clock.
    pub at_wall: SystemTime,
    /// Until when there has to be a picture.
    pub deadline: Instant,
    /// Who waits for the verdict.
    pub waiter: Option<Waiter>,
}

impl Fired {
    /// Whether a part goes uninspected where this gets no picture.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.by == By::Line
    }
}

/// Triggers of a camera, counted since the agent started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerCounts {
    /// Triggers that were taken.
    pub fired: u64,
    /// Edges that belonged to the one before.
    pub bounced: u64,
    /// Parts without a picture that was inspected.
    pub missed: u64,
    /// Pictures that nothing asked for.
    pub passed_over: u64,
}

/// What a [`Waiter`] does with the result of its picture, or with the reason why there is none.
type Answer = Box<dyn FnOnce(Result<&FrameResult, &str>) + Send>;

/// Somebody who waits for a verdict. One that is dropped is told that there is none.
pub struct Waiter {
    answer: Option<Answer>,
    /// The picture itself is wanted as well.
    pub wants_picture: bool,
}

impl Waiter {
    /// Who does this with the verdict, once.
    #[must_use]
    pub fn new(answer: impl FnOnce(Result<&FrameResult, &str>) + Send + 'static) -> Self {
        Self { answer: Some(Box::new(answer)), wants_picture: false }
    }

    /// Who wants the picture as well.
    #[must_use]
    pub fn with_picture(mut self, wants_picture: bool) -> Self {
        self.wants_picture = wants_picture;
        self
    }

    /// The verdict, or why there is none.
    pub fn answer(mut self, result: Result<&FrameResult, &str>) {
        if let Some(answer) = self.answer.take() {
            answer(result);
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer(Err("the picture was not inspected: a newer one took its place, or its camera was stopped"));
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiter")
    }
}
