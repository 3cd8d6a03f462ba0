//! Video4Linux devices: USB cameras and frame grabbers.
//!
//! Guarantees: size, format and controls are as configured before the first picture, or the opening fails and says what the
//! camera does offer; a picture that the driver marks as damaged, or that is cut off, is [`Next::Unreadable`] (JPEG is
//! decoded strictly, which OpenCV's capture does not do); the device is looked up by its name at each opening, so that a
//! camera that comes back as another `/dev/videoN` is found by its name under `/dev/v4l/by-id`.
//!
//! `settings` and `pixels` are pure; `device` is all that speaks with the kernel, through the crate `v4l`.

mod device;
mod pixels;
mod settings;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::source::{FrameSource, Next, Transport};
use crate::config::{Limits, V4l2Source};
use device::{Kernel, Stream};
use settings::Format;

/// An open device.
pub struct V4l2 {
    stream: Stream,
    format: Format,
    max_pixels: u64,
    transport: Transport,
    last: Option<u32>,
    read_timeout: Duration,
    // Behind the stream, since it has to be open longer.
    _kernel: Kernel,
}

impl V4l2 {
    /// Opens a device, sets it up and starts it.
    ///
    /// # Errors
    /// It is missing, in use, no camera, or does not offer what is configured.
    pub fn open(config: &V4l2Source, limits: &Limits) -> Result<Self> {
        let device = &config.device;
        if !device.exists() {
            bail!("the device {} is missing: is the camera plugged in?{}", device.display(), others(device));
        }
        let context = || format!("{} cannot be used", device.display());
        let mut kernel = Kernel::open(device).with_context(context)?;
        let format = settings::apply(&mut kernel, config).with_context(context)?;
        let read_timeout = Duration::from_secs_f64(config.read_timeout_s.get());
        let stream = kernel.stream(read_timeout).with_context(context)?;
        let (max_pixels, transport) = (limits.max_pixels(), Transport::default());
        Ok(Self { stream, format, max_pixels, transport, last: None, read_timeout, _kernel: kernel })
    }

    /// Counts pictures that the driver had to throw away.
    fn count(&mut self, sequence: u32, whole: bool) {
        let lost = self.last.map_or(0, |last| sequence.wrapping_sub(last).saturating_sub(1));
        // A driver that does not count says 0 for each, one that starts anew goes back.
        if lost < 1 << 16 {
            self.transport.underruns += u64::from(lost);
        }
        self.last = Some(sequence);
        if whole {
            self.transport.completed += 1;
        } else {
            self.transport.incomplete += 1;
        }
    }
}

impl FrameSource for V4l2 {
    fn next(&mut self, due: Instant) -> Result<Next> {
        let buffer = match self.stream.next() {
            Ok(buffer) => buffer,
            Err(e) if e.kind() == std::io::ErrorKind::TimedOut => {
                bail!("the camera sent nothing for {} s", self.read_timeout.as_secs_f64())
            }
            Err(e) => return Err(e).context("the camera stopped: was it unplugged?"),
        };
        let (sequence, clock, damaged) = (buffer.sequence, buffer.clock, buffer.damaged);
        let next = if damaged {
            let reason = "the driver marked the picture as damaged (USB: cable, hub, or too many cameras on one)";
            Next::Unreadable { origin: None, reason: reason.into() }
        } else if Instant::now() < due {
            Next::Idle
        } else {
            match pixels::decode(&self.format, buffer.bytes, self.max_pixels) {
                Ok(image) => Next::Picture { image, clock },
                Err(reason) => Next::Unreadable { origin: None, reason },
            }
        };
        self.count(sequence, !matches!(next, Next::Unreadable { .. }));
        Ok(next)
    }

    fn live(&self) -> bool {
        true
    }

    fn transport(&self) -> Option<Transport> {
        Some(self.transport)
    }
}

/// Which names there are where one is missing.
fn others(device: &Path) -> String {
    let folder = Path::new("/dev/v4l/by-id");
    let names = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> = names.map(|entry| entry.path().display().to_string()).collect();
    names.sort();
    match (names.is_empty(), device.starts_with("/dev/v4l")) {
        (true, true) => " No camera is (`ls /dev/v4l/by-id`)".into(),
        (true, false) => " (`ls /dev/v4l/by-id`)".into(),
        (false, _) => format!(" There are: {}", names.join(", ")),
    }
}
