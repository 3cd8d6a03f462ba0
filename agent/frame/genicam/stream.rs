//! A camera that runs: its buffers become pictures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use aravis::glib::object::Cast;
use aravis::prelude::{CameraExt, CameraExtManual, DeviceExt, StreamExt};
use aravis::{Buffer, BufferPayloadType, BufferStatus, Camera, ChunkParser, Device, Stream};
use aravis::{GvStream, GvStreamPacketResend};
use tracing::info;

use super::pixels::Layout;
use super::{control, discovery};
use crate::config::{GenicamSource, Limits, TriggerMode};
use crate::frame::source::{FrameSource, Next, Transport};
use crate::stop::Stop;

/// So long at most is the stop signal not looked at,
const TICK: Duration = Duration::from_millis(200);
/// and a camera that is to be told when to take a picture kept waiting for that.
const SOON: Duration = Duration::from_millis(5);
/// A camera that has sent nothing for this long is asked whether it is still ours.
const QUIET: Duration = Duration::from_secs(1);
/// GigE Vision's control channel privilege: who controls the camera. On USB3 Vision the version of its protocol.
const PRIVILEGE: u64 = 0x0A00;
const USB_VERSION: u64 = 0;
/// In the privilege: exclusive or ordinary control by us.
const OURS: u32 = 0b11;

/// An open camera.
pub struct Genicam {
    camera: Camera,
    device: Device,
    stream: Stream,
    gige: bool,
    trigger: TriggerMode,
    timeout: Duration,
    max_pixels: u64,
    stop: Stop,
    /// Set by Aravis's heartbeat.
    lost: Arc<AtomicBool>,
    /// The camera does not answer any more.
    gone: bool,
    /// When something came from it last, be it an answer.
    heard: Instant,
    chunks: Vec<String>,
    parser: Option<ChunkParser>,
    values: BTreeMap<String, f64>,
}

impl Genicam {
    /// Opens, sets and starts a camera.
    ///
    /// # Errors
    /// See [`super::open`].
    pub fn open(config: &GenicamSource, limits: &Limits, stop: &Stop) -> Result<Self> {
        let camera = discovery::open(&config.camera, stop)?;
        let device = camera.device().context("the camera has no device")?;
        let lost = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&lost);
        device.connect_control_lost(move |_| flag.store(true, Ordering::Release));
        control::configure(&camera, config)?;
        control::transport(&camera, config)?;

        let failed = |what: &'static str| move |e: aravis::glib::Error| anyhow!("{what}: {}", e.message());
        let (_, _, width, height) = camera.region().map_err(failed("the camera does not say its region"))?;
        let payload = camera.payload().map_err(failed("the camera does not say its PayloadSize"))?;
        let max_pixels = limits.max_pixels();
        let pixels = u64::from(width.unsigned_abs()) * u64::from(height.unsigned_abs());
        ensure!(pixels <= max_pixels, "{width}x{height} pixels are over the limit (limits.max_megapixels)");
        // No format has more than 4 bytes a pixel; chunks are small.
        ensure!(u64::from(payload) <= max_pixels * 4 + (1 << 20), "a PayloadSize of {payload} bytes makes no sense");

        let stream = camera.create_stream().map_err(failed("no stream: is a firewall in the way?"))?;
        let gige = camera.is_gv_device();
        if let Some(gv) = stream.downcast_ref::<GvStream>() {
            let resend = if config.resend { GvStreamPacketResend::Always } else { GvStreamPacketResend::Never };
            gv.set_packet_resend(resend);
        }
        (0..config.buffers.get()).for_each(|_| stream.push_buffer(Buffer::new_allocate(payload as usize)));
        let parser = if config.chunks.is_empty() { None } else { camera.create_chunk_parser() };
        // Made before it starts, so that it is stopped whatever happens.
        let this = Self {
            gige,
            trigger: config.trigger,
            timeout: Duration::from_secs_f64(config.frame_timeout_s.get()),
            max_pixels,
            stop: stop.clone(),
            lost,
            gone: false,
            heard: Instant::now(),
            chunks: config.chunks.iter().map(ToString::to_string).collect(),
            parser,
            values: BTreeMap::new(),
            camera,
            device,
            stream,
        };
        this.camera.start_acquisition().map_err(failed("AcquisitionStart"))?;
        let format = this.camera.pixel_format_as_string().map(String::from).unwrap_or_default();
        let packet = if gige { this.camera.gv_get_packet_size().ok() } else { None };
        let packet = packet.map(|bytes| format!(", {bytes} bytes a packet")).unwrap_or_default();
        info!("{} gives {width}x{height} {format}{packet}", config.camera);
        Ok(this)
    }

    fn take(&mut self, buffer: &Buffer) -> Next {
        let unreadable = |reason: String| Next::Unreadable { origin: None, reason };
        if buffer.status() != BufferStatus::Success {
            return unreadable(format!("the picture did not come whole: {}", why(buffer.status())));
        }
        // Of any other payload Aravis must not be asked for an image.
        if !matches!(buffer.payload_type(), BufferPayloadType::Image | BufferPayloadType::ExtendedChunkData) {
            return unreadable(format!("the camera sent no picture but {:?}", buffer.payload_type()));
        }
        let format = buffer.image_pixel_format();
        let Some(layout) = Layout::of(format.raw()) else {
            return unreadable(format!("pixel format {:#x} cannot be converted", format.raw()));
        };
        let (width, height) = (buffer.image_width().unsigned_abs(), buffer.image_height().unsigned_abs());
        if u64::from(width) * u64::from(height) > self.max_pixels {
            return unreadable(format!("{width}x{height} pixels are over the limit (limits.max_megapixels)"));
        }
        let padding = usize::try_from(buffer.image_padding().0).unwrap_or(0);
        match layout.convert(width, height, padding, buffer.image_data()) {
            Ok(image) => {
                self.read_chunks(buffer);
                let stamp = buffer.timestamp();
                Next::Picture { image, clock: (stamp > 0).then(|| Duration::from_nanos(stamp)) }
            }
            Err(e) => unreadable(format!("the picture did not come whole: {e:#}")),
        }
    }

    fn read_chunks(&mut self, buffer: &Buffer) {
        let Some(parser) = self.parser.as_ref().filter(|_| buffer.has_chunks()) else { return };
        for name in &self.chunks {
            let node = format!("Chunk{name}");
            let integer = || parser.integer_value(buffer, &node).map(|value| value as f64);
            if let Ok(value) = parser.float_value(buffer, &node).or_else(|_| integer()) {
                self.values.insert(name.clone(), value);
            }
        }
    }

    /// Whether the camera still answers, and to us.
    fn ask(&mut self) -> Result<()> {
        let register = if self.gige { PRIVILEGE } else { USB_VERSION };
        match self.device.read_register(register) {
            Ok((_, value)) if !self.gige || value & OURS != 0 => Ok(()),
            Ok(_) => {
                self.gone = true;
                bail!("the camera does not know us any more: it was restarted, or another program has taken it")
            }
            Err(e) => {
                self.gone = true;
                bail!("the camera does not answer any more ({}): look at its power and its cable", e.message())
            }
        }
    }
}

impl FrameSource for Genicam {
    fn next(&mut self, due: Instant) -> Result<Next> {
        let called = Instant::now();
        let slice = if self.trigger == TriggerMode::Software { SOON } else { TICK };
        loop {
            if self.lost.load(Ordering::Acquire) {
                self.gone = true;
                bail!("the control of the camera was lost: it does not answer, or another program has taken it");
            }
            if let Some(buffer) = self.stream.timeout_pop_buffer(slice.as_micros() as u64) {
                self.heard = Instant::now();
                let next = if Instant::now() < due { Next::Idle } else { self.take(&buffer) };
                self.stream.push_buffer(buffer);
                return Ok(next);
            }
            if self.stop.is_set() {
                return Ok(Next::Idle);
            }
            if self.heard.elapsed() >= QUIET {
                self.ask()?;
                self.heard = Instant::now();
            }
            if self.trigger != TriggerMode::FreeRun {
                return Ok(Next::Idle);
            }
            if self.trigger == TriggerMode::FreeRun && called.elapsed() >= self.timeout {
                bail!(
                    "the camera answers, but sent no picture within {} s: does a firewall stop UDP, is another host its \
                     destination, is the exposure longer?",
                    self.timeout.as_secs_f64()
                );
            }
        }
    }

    fn live(&self) -> bool {
        true
    }

    fn transport(&self) -> Option<Transport> {
        let count = |name: &str| self.stream.info_uint64_by_name(name);
        let packets = |name: &str| if self.gige { count(name) } else { 0 };
        Some(Transport {
            completed: count("n_completed_buffers"),
            incomplete: count("n_failures"),
            resent: packets("n_resent_packets"),
            missing: packets("n_missing_packets"),
            underruns: count("n_underruns"),
        })
    }

    fn chunks(&self) -> BTreeMap<String, f64> {
        self.values.clone()
    }

    fn fire(&mut self) -> Result<()> {
        if self.trigger == TriggerMode::Software {
            self.camera.software_trigger().map_err(|e| anyhow!("TriggerSoftware: {}", e.message()))?;
        }
        Ok(())
    }
}

impl Drop for Genicam {
    fn drop(&mut self) {
        if !self.gone {
            // What it answers is of no use any more.
            let _ = self.camera.stop_acquisition();
            return;
        }
        // Each farewell to a camera that is gone waits seconds for its answer, and the next opening need not.
        let last = (self.stream.clone(), self.device.clone(), self.camera.clone());
        let _ = thread::Builder::new().name("farewell".into()).spawn(move || drop(last));
    }
}

/// What is wrong with a buffer, in words.
fn why(status: BufferStatus) -> &'static str {
    match status {
        BufferStatus::Timeout => "packets are missing, and their time is over",
        BufferStatus::MissingPackets => "packets are missing",
        BufferStatus::WrongPacketId => "a packet has the wrong number",
        BufferStatus::SizeMismatch => "it is larger than the camera had said",
        BufferStatus::Aborted => "the camera was stopped",
        BufferStatus::PayloadNotSupported => "its payload is of an unknown type",
        _ => "its buffer was not filled",
    }
}
