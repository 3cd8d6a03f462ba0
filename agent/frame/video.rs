//! Video files, through OpenCV.
//!
//! The backend is always named: OpenCV's `CAP_ANY` would try one after the other and hide which one failed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Vector};
use opencv::videoio::{self, VideoCapture, VideoCaptureTrait, VideoCaptureTraitConst};

use super::source::{FrameSource, Next};
use super::{Image, PixelFormat};
use crate::config::{Limits, VideoSource};

/// An open file.
pub struct Video {
    capture: VideoCapture,
    repeat: bool,
    pace: Duration,
    max_pixels: u64,
    mat: Mat,
}

impl Video {
    /// Opens a video file.
    ///
    /// # Errors
    /// It is missing or its format is not known.
    pub fn open(config: &VideoSource, limits: &Limits) -> Result<Self> {
        let path = &config.path;
        if !path.is_file() {
            bail!("the video file {} is missing", path.display());
        }
        let capture = VideoCapture::from_file_with_params(path, videoio::CAP_FFMPEG, &Vector::new())?;
        if !capture.is_opened()? {
            bail!("{} is no video that FFmpeg can read", path.display());
        }
        let fps = capture.get(videoio::CAP_PROP_FPS).unwrap_or(0.0);
        let fps = if fps.is_finite() && (0.1..=1000.0).contains(&fps) { fps } else { 25.0 };
        let pace = Duration::from_secs_f64(1.0 / fps);
        Ok(Self { capture, repeat: config.repeat, pace, max_pixels: limits.max_pixels(), mat: Mat::default() })
    }

    fn retrieve(&mut self) -> Result<Next> {
        if !self.capture.retrieve(&mut self.mat, 0)? || self.mat.empty() {
            return Ok(Next::Unreadable { origin: None, reason: "the frame could not be decoded".into() });
        }
        let size = self.mat.size()?;
        let (width, height) = (size.width as u32, size.height as u32);
        if u64::from(width) * u64::from(height) > self.max_pixels {
            let reason = format!("{width}x{height} pixels are over the limit (limits.max_megapixels)");
            return Ok(Next::Unreadable { origin: None, reason });
        }
        let format = match self.mat.typ() {
            t if t == opencv::core::CV_8UC3 => PixelFormat::Bgr8,
            t if t == opencv::core::CV_8UC1 => PixelFormat::Mono8,
            t => bail!("OpenCV gave pixels of type {t}, which is neither 8-bit BGR nor grey"),
        };
        let pixels = self.mat.data_bytes()?.to_vec();
        Ok(Image { width, height, format, pixels, origin: None, truth: None }.into())
    }
}

impl FrameSource for Video {
    fn next(&mut self, _due: Instant) -> Result<Next> {
        if self.capture.grab()? {
            return self.retrieve();
        }
        // Where it cannot be wound back the supervisor opens it again, which has the same effect.
        let again = self.repeat && self.capture.set(videoio::CAP_PROP_POS_FRAMES, 0.0)? && self.capture.grab()?;
        if again { self.retrieve() } else { Ok(Next::Ended) }
    }

    fn pace(&self) -> Option<Duration> {
        Some(self.pace)
    }
}
