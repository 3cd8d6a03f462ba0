//! V4L2 devices, RTSP streams and video files, through OpenCV.
//!
//! The backend is always named: OpenCV's `CAP_ANY` would try one after the other and hide which one failed. Opening
//! and reading of a stream have time-outs, given when it is opened, since later they are ignored. After a failed read
//! the source has to be opened again.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Vector};
use opencv::videoio::{self, VideoCapture, VideoCaptureTrait, VideoCaptureTraitConst, VideoWriter};

use super::source::{FrameSource, Next};
use super::{Image, PixelFormat};
use crate::config::{Limits, RtspSource, V4l2Source, VideoSource};

/// An open capture.
pub struct Video {
    capture: VideoCapture,
    kind: Kind,
    max_pixels: u64,
    mat: Mat,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Live,
    File { repeat: bool, pace: Duration },
}

impl Video {
    /// Opens a video file.
    ///
    /// # Errors
    /// It is missing or its format is not known.
    pub fn open_file(config: &VideoSource, limits: &Limits) -> Result<Self> {
        let path = &config.path;
        if !path.is_file() {
            bail!("the video file {} is missing", path.display());
        }
        let capture = open(&path.to_string_lossy(), videoio::CAP_FFMPEG, &[])
            .with_context(|| format!("{} is no video that FFmpeg can read", path.display()))?;
        let fps = capture.get(videoio::CAP_PROP_FPS).unwrap_or(0.0);
        let fps = if fps.is_finite() && (0.1..=1000.0).contains(&fps) { fps } else { 25.0 };
        let kind = Kind::File { repeat: config.repeat, pace: Duration::from_secs_f64(1.0 / fps) };
        Ok(Self { capture, kind, max_pixels: limits.max_pixels(), mat: Mat::default() })
    }

    /// Opens a V4L2 device.
    ///
    /// # Errors
    /// It is missing, in use, or does not offer this size or format.
    pub fn open_v4l2(config: &V4l2Source, limits: &Limits) -> Result<Self> {
        let device = &config.device;
        if !Path::new(device).exists() {
            bail!("the device {} is missing: is the camera plugged in? (`ls /dev/v4l/by-id`)", device.display());
        }
        let mut params = Vec::new();
        let mut set = |key, value: Option<i32>| params.extend(value.map(|v| [key, v]).into_iter().flatten());
        let fourcc = match config.format.as_ref().map(|f| f.as_str().as_bytes()) {
            Some(&[a, b, c, d]) => Some(VideoWriter::fourcc(a.into(), b.into(), c.into(), d.into())?),
            _ => None,
        };
        set(videoio::CAP_PROP_FOURCC, fourcc);
        set(videoio::CAP_PROP_FRAME_WIDTH, config.width.map(|n| n.get() as i32));
        set(videoio::CAP_PROP_FRAME_HEIGHT, config.height.map(|n| n.get() as i32));
        let capture = open(&device.to_string_lossy(), videoio::CAP_V4L2, &params)
            .with_context(|| format!("{} cannot be opened: is it a camera, free, and readable?", device.display()))?;
        Ok(Self { capture, kind: Kind::Live, max_pixels: limits.max_pixels(), mat: Mat::default() })
    }

    /// Opens an RTSP stream over TCP.
    ///
    /// # Errors
    /// The server does not answer in time or refuses. The address is not repeated, since it may hold a password.
    pub fn open_rtsp(config: &RtspSource, limits: &Limits) -> Result<Self> {
        let millis = |s: f64| (s * 1000.0) as i32;
        let params = [
            videoio::CAP_PROP_OPEN_TIMEOUT_MSEC,
            millis(config.open_timeout_s.get()),
            videoio::CAP_PROP_READ_TIMEOUT_MSEC,
            millis(config.read_timeout_s.get()),
        ];
        let capture = open(&config.full_url()?, videoio::CAP_FFMPEG, &params).with_context(|| {
            format!(
                "the RTSP server {} gave no stream within {} s: check address, user and password",
                config.host(),
                config.open_timeout_s.get()
            )
        })?;
        Ok(Self { capture, kind: Kind::Live, max_pixels: limits.max_pixels(), mat: Mat::default() })
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
    fn next(&mut self, due: Instant) -> Result<Next> {
        if self.capture.grab()? {
            let early = self.live() && Instant::now() < due;
            return if early { Ok(Next::Idle) } else { self.retrieve() };
        }
        match self.kind {
            Kind::Live => bail!("the stream ended or sent nothing within its time-out"),
            Kind::File { repeat: false, .. } => Ok(Next::Ended),
            Kind::File { repeat: true, .. } => {
                if !self.capture.set(videoio::CAP_PROP_POS_FRAMES, 0.0)? || !self.capture.grab()? {
                    return Ok(Next::Ended); // opened again by the supervisor, which has the same effect
                }
                self.retrieve()
            }
        }
    }

    fn live(&self) -> bool {
        self.kind == Kind::Live
    }

    fn pace(&self) -> Option<Duration> {
        match self.kind {
            Kind::Live => None,
            Kind::File { pace, .. } => Some(pace),
        }
    }
}

fn open(name: &str, backend: i32, params: &[i32]) -> Result<VideoCapture> {
    let capture = VideoCapture::from_file_with_params(name, backend, &Vector::from_slice(params))?;
    if !capture.is_opened()? {
        bail!("OpenCV could not open it");
    }
    Ok(capture)
}
