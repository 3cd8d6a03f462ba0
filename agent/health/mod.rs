//! The health of the picture: whether what a camera sends can be inspected at all, whatever it shows.
//!
//! Guarantees
//! - What is measured of a picture ([`Sample`]) depends on that picture alone and may be measured on any thread; what is made
//!   of it ([`Watch`]) depends on the order of the stream and on nothing else: no clock, no I/O, no chance.
//! - "Usual" is what this camera itself has shown. It is learned from pictures without a fault only, and kept from being
//!   carried away by a fault that grows slowly. Until it is known, only what needs no comparison is reported.
//! - One odd picture reports nothing, and a value at a threshold does not flap ([`latch`]).
//! - Memory is bounded: about 170 kB a camera.
//!
//! It does not know what is in the picture: a product that is replaced by one that looks unlike it may seem to be a fault, so
//! that [`Watch::reset`] is to be called then.

mod dirt;
mod exposure;
mod focus;
mod latch;
mod place;
mod sample;
mod sharpness;
mod small;
mod standstill;
mod usual;
mod watch;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use sample::Sample;
pub use watch::Watch;

/// What can be wrong with a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The same picture comes again and again.
    Frozen,
    /// Too little light.
    Dark,
    /// Too much light.
    Overexposed,
    /// Softer than usual.
    Defocused,
    /// The camera looks elsewhere.
    Moved,
    /// Something sticks to the lens.
    Dirty,
}

impl Fault {
    /// All there are.
    pub const ALL: [Self; 6] = [Self::Frozen, Self::Dark, Self::Overexposed, Self::Defocused, Self::Moved, Self::Dirty];

    /// The class of its alarm.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Dark => "dark",
            Self::Overexposed => "overexposed",
            Self::Defocused => "defocused",
            Self::Moved => "moved",
            Self::Dirty => "dirty",
        }
    }
}

/// A fault that begins or ends with this picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which.
    pub fault: Fault,
    /// Begins, or else ends.
    pub began: bool,
    /// In words, with what was measured.
    pub reason: String,
    /// 0 to 1; a half is at the threshold.
    pub score: f32,
}

/// What was measured, for the camera's state topic.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Figures {
    /// Mean grey: 0 is black, 1 is white.
    pub brightness: f32,
    /// Share of pixels that are black.
    pub black: f32,
    /// Share of pixels that are saturated.
    pub saturated: f32,
    /// How steep edges are as a share of what is usual here, over the last frames: 1 as ever, 0.5 where they are twice as
    /// wide. Null where that is not known, or the picture has no edges.
    pub sharpness: Option<f32>,
    /// How far the picture lies from where it was learned, in pixels of the frame. Null where that is not known, or the scene
    /// has nothing steady.
    pub shift_px: Option<f32>,
    /// For how many seconds the very same picture has come.
    pub same_s: f64,
    /// Share of the picture that looks dirty. Null where that is not known.
    pub dirty: Option<f32>,
    /// Frames that are missing until everything can be judged that can be judged here.
    pub learning: u32,
}

/// What is known of the picture's health after a frame.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Faults there are. Where this is not empty, what was inspected is not to be trusted.
    pub active: BTreeSet<Fault>,
    /// What began or ended with this frame.
    pub changes: Vec<Change>,
    /// What was measured.
    pub figures: Figures,
}

#[cfg(test)]
mod tests;
