//! Frames and where they come from.
//!
//! A [`Frame`] is a picture that was received or decoded WHOLE. What could not be is a [`Captured::Unreadable`], which
//! travels the same way and ends as "no verdict", so that an uninspected part is known; and so does a part of which no picture
//! came, a [`Captured::Missed`].

pub mod clock;
pub mod feed;
pub mod folder;
pub mod genicam;
pub mod jpeg;
pub mod rtsp;
pub mod scene;
pub mod slot;
pub mod source;
pub mod still;
pub mod supervisor;
pub mod synthetic;
pub mod taint;
pub mod v4l2;
pub mod video;
pub mod view;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::trigger::Fired;

/// Order and depth of the samples, in `GenICam`'s names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelFormat {
    /// One byte a pixel.
    Mono8,
    /// Red, green, blue.
    Rgb8,
    /// Blue, green, red.
    Bgr8,
}

impl PixelFormat {
    /// Bytes a pixel.
    #[must_use]
    pub const fn channels(self) -> usize {
        match self {
            Self::Mono8 => 1,
            Self::Rgb8 | Self::Bgr8 => 3,
        }
    }
}

/// What is really to be seen in a generated picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// The kind of defect.
    pub class: &'static str,
    /// x0, y0, x1, y1 in pixels.
    pub bbox: [f32; 4],
    /// The same defect seen in several frames keeps its id.
    pub id: u64,
}

/// A picture as a source gives it: rows from the top, no padding between rows.
#[derive(Debug, Clone)]
pub struct Image {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Layout of `pixels`.
    pub format: PixelFormat,
    /// `width * height * format.channels()` bytes.
    pub pixels: Vec<u8>,
    /// File name, where there is one.
    pub origin: Option<Arc<str>>,
    /// Ground truth, where the source draws its own pictures.
    pub truth: Option<Vec<Truth>>,
}

/// A picture with its place in the camera's stream.
#[derive(Debug)]
pub struct Frame {
    /// Counts the pictures of a camera since the agent started, from 0.
    pub seq: u64,
    /// Wall clock at capture.
    pub captured_at: SystemTime,
    /// Monotonic clock at capture, for latencies.
    pub captured: Instant,
    /// The picture.
    pub image: Image,
    /// The triggers that asked for it.
    pub fired: Vec<Fired>,
}

/// What a camera hands on.
#[derive(Debug)]
pub enum Captured {
    /// A whole picture.
    Frame(Frame),
    /// Something came, and it was no whole picture.
    Unreadable {
        /// As [`Frame::seq`].
        seq: u64,
        /// As [`Frame::captured_at`].
        captured_at: SystemTime,
        /// File name, where there is one.
        origin: Option<Arc<str>>,
        /// What is wrong with it.
        reason: String,
        /// As [`Frame::fired`].
        fired: Vec<Fired>,
    },
    /// A part was there, and no picture of it is inspected.
    Missed {
        /// Of the picture that came next.
        seq: u64,
        /// When the part was there.
        captured_at: SystemTime,
        /// Why.
        reason: String,
    },
}

impl Captured {
    /// The triggers that asked for it; afterwards there are none.
    pub fn take_fired(&mut self) -> Vec<Fired> {
        match self {
            Self::Frame(frame) => std::mem::take(&mut frame.fired),
            Self::Unreadable { fired, .. } => std::mem::take(fired),
            Self::Missed { .. } => Vec::new(),
        }
    }
}

/// A rectangle relative to the frame: x0, y0, x1, y1 in 0..=1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Region(pub [f32; 4]);

impl Default for Region {
    fn default() -> Self {
        Self([0.0, 0.0, 1.0, 1.0])
    }
}

impl Region {
    /// The region of a picture of this size in whole pixels (x, y, width, height), at least one pixel in each
    /// direction.
    #[must_use]
    pub fn pixels(self, width: u32, height: u32) -> (u32, u32, u32, u32) {
        let span = |low: f32, high: f32, size: u32| {
            let start = ((f64::from(low) * f64::from(size)).round() as u32).min(size.saturating_sub(1));
            let end = ((f64::from(high) * f64::from(size)).round() as u32).clamp(start + 1, size.max(start + 1));
            (start, end - start)
        };
        let [x0, y0, x1, y1] = self.0;
        let (x, w) = span(x0, x1, width);
        let (y, h) = span(y0, y1, height);
        (x, y, w, h)
    }
}
