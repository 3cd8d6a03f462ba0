//! The kernel's side of a device, through the crate `v4l`. As little as can be, since no test reaches it without a
//! camera: it passes on and decides nothing.

use std::io;
use std::path::Path;
use std::time::Duration;

use v4l::buffer::{Flags, Type};
use v4l::capability::Flags as Capabilities;
use v4l::control::{self, Value};
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::io::mmap;
use v4l::io::traits::CaptureStream;
use v4l::video::Capture;
use v4l::video::capture::Parameters;
use v4l::{FourCC, Fraction};

use super::settings::{Control, Device, Format, Kind, Offer};

/// Buffers that the driver fills in turn.
const BUFFERS: u32 = 4;

/// An open device node.
pub struct Kernel(v4l::Device);

/// A stream of its pictures.
pub struct Stream(mmap::Stream<'static>);

/// A picture as the driver gives it.
pub struct Buffer<'a> {
    /// What it sent.
    pub bytes: &'a [u8],
    /// Its number.
    pub sequence: u32,
    /// The driver's clock, where it gives one.
    pub clock: Option<Duration>,
    /// The driver says that a part is missing.
    pub damaged: bool,
}

impl Kernel {
    /// Opens a node; a link is followed now.
    pub fn open(path: &Path) -> io::Result<Self> {
        let device = v4l::Device::with_path(path)?;
        let wanted = Capabilities::VIDEO_CAPTURE | Capabilities::STREAMING;
        let known =
            device.query_caps().map_err(|e| io::Error::new(e.kind(), format!("it is no video device ({e})")))?;
        if !known.capabilities.contains(wanted) {
            let words = "it gives no pictures (of the camera's devices, take the one that ends in index0)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, words));
        }
        Ok(Self(device))
    }

    /// Starts it with the first picture that is asked for.
    pub fn stream(&self, timeout: Duration) -> io::Result<Stream> {
        let mut stream = mmap::Stream::with_buffers(&self.0, Type::VideoCapture, BUFFERS)?;
        stream.set_timeout(timeout.min(Duration::from_secs(1 << 20))); // poll counts milliseconds in 31 bits
        Ok(Stream(stream))
    }

    fn rates(&self, fourcc: FourCC, width: u32, height: u32) -> String {
        let intervals = self.0.enum_frameintervals(fourcc, width, height).unwrap_or_default();
        let rates: Vec<String> = intervals
            .iter()
            .map(|interval| match &interval.interval {
                FrameIntervalEnum::Discrete(span) => format!("{:.4}", rate(*span)),
                FrameIntervalEnum::Stepwise(span) => format!("{:.4} to {:.4}", rate(span.max), rate(span.min)),
            })
            .map(|text| text.replace(".0000", ""))
            .collect();
        if rates.is_empty() { String::new() } else { format!(" ({})", rates.join(", ")) }
    }
}

impl Stream {
    /// The next picture.
    pub fn next(&mut self) -> io::Result<Buffer<'_>> {
        let (bytes, meta) = CaptureStream::next(&mut self.0)?;
        let (seconds, micros) = (u64::try_from(meta.timestamp.sec), u64::try_from(meta.timestamp.usec));
        let clock = seconds.ok().zip(micros.ok()).map(|(s, us)| Duration::from_secs(s) + Duration::from_micros(us));
        Ok(Buffer {
            bytes: &bytes[..bytes.len().min(meta.bytesused as usize)],
            sequence: meta.sequence,
            clock: clock.filter(|clock| !clock.is_zero()),
            damaged: meta.flags.contains(Flags::ERROR),
        })
    }
}

impl Device for Kernel {
    fn format(&self) -> io::Result<Format> {
        Capture::format(&self.0).map(|format| ours(&format))
    }

    fn set_format(&mut self, format: &Format) -> io::Result<Format> {
        let asked = v4l::Format::new(format.width, format.height, FourCC::new(&format.fourcc));
        Capture::set_format(&self.0, &asked).map(|format| ours(&format))
    }

    fn set_rate(&mut self, fps: f64) -> io::Result<f64> {
        let asked = Fraction::new(1000, (fps * 1000.0).round() as u32);
        self.0.set_params(&Parameters::new(asked)).map(|got| rate(got.interval))
    }

    fn offers(&self) -> Vec<Offer> {
        let formats = self.0.enum_formats().unwrap_or_default();
        let sizes = |fourcc: FourCC| {
            let sizes = self.0.enum_framesizes(fourcc).unwrap_or_default();
            let words = sizes.into_iter().map(|size| match size.size {
                FrameSizeEnum::Discrete(size) => {
                    format!("{}x{}{}", size.width, size.height, self.rates(fourcc, size.width, size.height))
                }
                FrameSizeEnum::Stepwise(size) => {
                    format!("{}x{} to {}x{}", size.min_width, size.min_height, size.max_width, size.max_height)
                }
            });
            words.collect()
        };
        formats.into_iter().map(|f| Offer { fourcc: f.fourcc.repr, sizes: sizes(f.fourcc) }).collect()
    }

    fn controls(&self) -> io::Result<Vec<Control>> {
        let all = self.0.query_controls()?.into_iter().filter(|c| !c.flags.contains(control::Flags::DISABLED));
        Ok(all
            .map(|c| Control {
                id: c.id,
                kind: match c.typ {
                    _ if c.flags.contains(control::Flags::READ_ONLY) => Kind::Fixed,
                    control::Type::Boolean => Kind::Switch,
                    control::Type::Menu | control::Type::IntegerMenu => Kind::Menu,
                    control::Type::Integer | control::Type::Integer64 | control::Type::Bitmask => Kind::Number,
                    _ => Kind::Fixed,
                },
                name: c.name,
                low: c.minimum,
                high: c.maximum,
                step: c.step,
                items: c.items.unwrap_or_default().into_iter().map(|(n, item)| (n.into(), item.to_string())).collect(),
            })
            .collect())
    }

    fn set(&mut self, control: &Control, value: i64) -> io::Result<()> {
        let value = match control.kind {
            Kind::Switch => Value::Boolean(value != 0),
            _ => Value::Integer(value),
        };
        self.0.set_control(v4l::Control { id: control.id, value })
    }
}

fn ours(format: &v4l::Format) -> Format {
    Format { fourcc: format.fourcc.repr, width: format.width, height: format.height, stride: format.stride }
}

/// Pictures a second of a span between two.
fn rate(span: Fraction) -> f64 {
    if span.numerator == 0 { 0.0 } else { f64::from(span.denominator) / f64::from(span.numerator) }
}
