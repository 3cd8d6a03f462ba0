//! RTSP streams, over TCP or UDP, through FFmpeg's own libraries (OpenCV's capture hides why an opening failed, which
//! pictures are damaged, when they were taken, and cannot be told to use UDP).
//!
//! Guarantees: no call outlives its time-out, nor a stop; the password reaches the server and nothing else (FFmpeg's own log
//! is off, and no message of ours repeats the address); the password file is read at each opening; a picture that FFmpeg
//! knows to be damaged, and every later one that may be built upon it up to the next key picture, is
//! [`Next::Unreadable`].
//!
//! What cannot be known: over UDP FFmpeg does not tell of packets that were lost. A picture that lost a part is noticed when
//! its data do not decode; one that was lost as a whole, by the gap in the time stamps.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ffmpeg_next as av;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling;

use super::source::{FrameSource, Next};
use super::taint::Taint;
use super::{Image, PixelFormat};
use crate::config::{Limits, RtspSource, RtspTransport};
use crate::stop::Stop;

/// How long packets that come out of order are waited for, over UDP.
const REORDER: Duration = Duration::from_millis(200);
/// A stream whose packets come must give a picture in this time: a decoder that starts midway waits for a key picture.
const FIRST_KEY: Duration = Duration::from_secs(12);

/// An open stream.
pub struct Rtsp {
    input: av::format::context::Input,
    decoder: av::decoder::Video,
    stream: usize,
    /// Seconds a tick of the stream's clock.
    tick: f64,
    deadline: Deadline,
    read_timeout: Duration,
    transport: RtspTransport,
    max_pixels: u64,
    taint: Taint,
    scaler: Option<scaling::Context>,
    frame: av::frame::Video,
    bgr: av::frame::Video,
}

impl Rtsp {
    /// Opens a stream.
    ///
    /// # Errors
    /// Why there is none: not reached, refused, not found, no video. Neither address nor password is part of it.
    pub fn open(config: &RtspSource, limits: &Limits, stop: Stop) -> Result<Self> {
        let seconds = |s: f64| Duration::from_secs_f64(s);
        let (open_timeout, read_timeout) = (seconds(config.open_timeout_s.get()), seconds(config.read_timeout_s.get()));
        let url = config.full_url()?;
        av::init().context("FFmpeg does not start")?;
        // Its messages go to stderr, unasked, and some hold the address.
        av::log::set_level(av::log::Level::Quiet);
        let deadline = Deadline::default();
        deadline.set(open_timeout);
        let interrupt = {
            let deadline = deadline.clone();
            move || stop.is_set() || deadline.has_passed()
        };
        let opened = av::format::input_with_interrupt_and_dictionary(&url, interrupt, options(config, open_timeout));
        // Interrupted while it waits for an answer, FFmpeg calls that invalid data.
        let late = deadline.has_passed();
        let reason = |e| if late { silent(open_timeout, config.transport) } else { explain(e, config) };
        let input = opened.map_err(|e| anyhow!("{}: {}", config.host(), reason(e)))?;
        let stream = input.streams().best(av::media::Type::Video);
        let Some(stream) = stream else {
            bail!("{}: the server has no video stream at this path", config.host());
        };
        let (index, base) = (stream.index(), stream.time_base());
        let mut context = av::codec::Context::from_parameters(stream.parameters())?;
        let independent = matches!(context.id(), av::codec::Id::MJPEG | av::codec::Id::RAWVIDEO);
        // Threads by slice, since threads by picture hold back a picture for each of them.
        context.set_threading(av::threading::Config { kind: av::threading::Type::Slice, ..Default::default() });
        let mut decoder = context.decoder();
        decoder.set_packet_time_base(base);
        let decoder = decoder.video().map_err(|e| anyhow!("{}: no decoder for its video: {e}", config.host()))?;
        // What is left of a stream that stopped while it was looked at has no size yet.
        if deadline.has_passed() && decoder.width() == 0 {
            bail!("{}: {}", config.host(), silent(open_timeout, config.transport));
        }
        Ok(Self {
            input,
            decoder,
            stream: index,
            tick: f64::from(base),
            deadline,
            read_timeout,
            transport: config.transport,
            max_pixels: limits.max_pixels(),
            taint: Taint::new(independent, config.transport == RtspTransport::Udp),
            scaler: None,
            frame: av::frame::Video::empty(),
            bgr: av::frame::Video::empty(),
        })
    }

    /// Fetches packets until a picture is decoded; `Some` is what is wrong with it.
    fn decode(&mut self) -> Result<Option<&'static str>> {
        self.deadline.set(self.read_timeout);
        let began = Instant::now();
        let mut packet = av::Packet::empty();
        loop {
            match self.decoder.receive_frame(&mut self.frame) {
                Ok(()) => break,
                Err(av::Error::Other { errno: av::error::EAGAIN }) => {}
                Err(_) => return Ok(Some(self.taint.damaged(Instant::now()))),
            }
            match packet.read(&mut self.input) {
                Ok(()) => {}
                Err(av::Error::Eof) => bail!("the server ended the stream"),
                Err(av::Error::Exit) => bail!(silent(self.read_timeout, self.transport)),
                Err(av::Error::Other { errno: av::error::EAGAIN }) => continue,
                Err(e) => bail!("the stream broke off: {e}"),
            }
            if packet.stream() != self.stream {
                continue;
            }
            if began.elapsed() > FIRST_KEY {
                let seconds = FIRST_KEY.as_secs();
                bail!(
                    "what the server sends gives no picture for {seconds} s: let the camera send key pictures more often"
                );
            }
            self.deadline.set(self.read_timeout);
            if packet.is_corrupt() {
                self.taint.damaged(Instant::now());
            }
            if self.decoder.send_packet(&packet).is_err() {
                return Ok(Some(self.taint.damaged(Instant::now())));
            }
        }
        let whole = !self.frame.is_corrupt() && !self.frame.has_decode_errors();
        Ok(self.taint.judge(whole, self.frame.is_key(), self.frame.timestamp(), Instant::now()))
    }

    fn image(&mut self) -> Result<Next> {
        let (width, height, format) = (self.frame.width(), self.frame.height(), self.frame.format());
        if u64::from(width) * u64::from(height) > self.max_pixels {
            let reason = format!("{width}x{height} pixels are over the limit (limits.max_megapixels)");
            return Ok(Next::Unreadable { origin: None, reason });
        }
        let grey = matches!(format, Pixel::GRAY8);
        if !grey {
            let asked = scaling::context::Definition { format, width, height };
            let scaler = match self.scaler.take() {
                Some(scaler) if *scaler.input() == asked => scaler,
                _ => {
                    self.bgr = av::frame::Video::empty();
                    let flags = scaling::Flags::BILINEAR | scaling::Flags::ACCURATE_RND;
                    scaling::Context::get(format, width, height, Pixel::BGR24, width, height, flags)
                        .with_context(|| format!("pixels of the format {format:?} cannot be converted"))?
                }
            };
            self.scaler.insert(scaler).run(&self.frame, &mut self.bgr)?;
        }
        let (frame, format) = if grey { (&self.frame, PixelFormat::Mono8) } else { (&self.bgr, PixelFormat::Bgr8) };
        let (row, stride) = (width as usize * format.channels(), frame.stride(0));
        let mut pixels = Vec::with_capacity(row * height as usize);
        frame.data(0).chunks(stride).take(height as usize).for_each(|line| pixels.extend_from_slice(&line[..row]));
        let image = Image { width, height, format, pixels, origin: None, truth: None };
        Ok(Next::Picture { image, clock: self.clock() })
    }

    /// Presentation time, which FFmpeg has unwrapped. A negative one is none.
    fn clock(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.frame.timestamp()? as f64 * self.tick).ok()
    }
}

impl FrameSource for Rtsp {
    fn next(&mut self, due: Instant) -> Result<Next> {
        match self.decode()? {
            Some(reason) => Ok(Next::Unreadable { origin: None, reason: reason.into() }),
            // Decoded all the same, since the next pictures are built upon it.
            None if Instant::now() < due => Ok(Next::Idle),
            None => self.image(),
        }
    }

    fn live(&self) -> bool {
        true
    }
}

/// When FFmpeg has to give up; it asks a hundred times a second or so.
#[derive(Clone, Default)]
struct Deadline(Arc<Mutex<Option<Instant>>>);

impl Deadline {
    fn set(&self, from_now: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now().checked_add(from_now);
    }

    fn has_passed(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|deadline| Instant::now() >= deadline)
    }
}

fn options(config: &RtspSource, open_timeout: Duration) -> av::Dictionary<'static> {
    let mut options = av::Dictionary::new();
    let transport = match config.transport {
        RtspTransport::Tcp => "tcp",
        RtspTransport::Udp => "udp",
    };
    options.set("rtsp_transport", transport);
    options.set("allowed_media_types", "video");
    // What a server's description may lead to.
    options.set("protocol_whitelist", "rtsp,rtsps,rtp,srtp,udp,tcp,tls,crypto");
    options.set("max_delay", &REORDER.as_micros().to_string());
    options.set("buffer_size", "4194304");
    // No longer than half the time-out may it look at the stream before it gives the first picture.
    // Nobody asks how many pictures a second it has: to find out takes twenty of them, two seconds at ten a second, and where that is
    // cut short by the time-out in the midst of a packet, nothing after it is understood.
    options.set("fpsprobesize", "0");
    options.set("analyzeduration", &(open_timeout / 2).as_micros().to_string());
    options
}

fn silent(timeout: Duration, transport: RtspTransport) -> String {
    let hint = match transport {
        RtspTransport::Tcp => "",
        RtspTransport::Udp => " (over UDP: if a firewall or a switch holds it up, set `transport = \"tcp\"`)",
    };
    format!("the server sent nothing for {} s{hint}", timeout.as_secs_f64())
}

/// What to tell a technician.
fn explain(error: av::Error, config: &RtspSource) -> String {
    let text = match error {
        av::Error::HttpUnauthorized if config.user.is_none() => {
            "the server wants a user and a password (401): set `user` and `password_file`"
        }
        av::Error::HttpUnauthorized => "the server refused user or password (401): see `user` and `password_file`",
        av::Error::HttpForbidden => "the server forbids this stream to this user (403)",
        av::Error::HttpNotFound => "the server has no stream at this path (404): see `url`",
        av::Error::HttpBadRequest => "the server did not understand the request (400): see `url`",
        av::Error::HttpServerError => "the server failed (5xx): restart the camera if it goes on",
        av::Error::HttpOther4xx if config.transport == RtspTransport::Udp => {
            "the server refused the request (4xx): perhaps it has no UDP, set `transport = \"tcp\"`"
        }
        av::Error::HttpOther4xx => {
            "the server refused the request (4xx): perhaps it has no TCP, set `transport = \"udp\"`"
        }
        av::Error::Exit => return silent(Duration::from_secs_f64(config.open_timeout_s.get()), config.transport),
        av::Error::InvalidData => "what answers there does not speak RTSP, or gave no description of a stream",
        av::Error::Eof => "the server closed the connection at once",
        av::Error::ProtocolNotFound => "this FFmpeg cannot do the address's protocol",
        av::Error::Other { errno } => match std::io::Error::from_raw_os_error(errno).kind() {
            ErrorKind::ConnectionRefused => "nothing listens at this address and port (connection refused)",
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                "there is no way to it (no route): see cable, address and network mask"
            }
            ErrorKind::TimedOut => "it does not answer (time-out): is it switched on, is the address right?",
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "the server broke off the connection",
            // FFmpeg says EIO where the resolver found nothing.
            _ if errno == av::error::EIO => "no answer: is the name in `url` right (can it be resolved)?",
            _ => return format!("cannot be opened: {error}"),
        },
        _ => return format!("cannot be opened: {error}"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::{RtspUrl, Seconds};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// A server that answers everything with one status line, and what comes of it.
    fn answered(status: &'static str, user: Option<&str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("rtsp://{}/x", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || {
                    let mut request = [0; 4096];
                    while let Ok(n @ 1..) = stream.read(&mut request) {
                        let text = String::from_utf8_lossy(&request[..n]).into_owned();
                        let number = text.lines().find(|l| l.starts_with("CSeq")).unwrap_or("CSeq: 1").to_owned();
                        let realm = "WWW-Authenticate: Basic realm=\"camera\"";
                        if write!(stream, "RTSP/1.0 {status}\r\n{number}\r\n{realm}\r\n\r\n").is_err() {
                            return;
                        }
                    }
                });
            }
        });
        failure(&url, user)
    }

    fn failure(url: &str, user: Option<&str>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "s3cr:t@/%\n").unwrap();
        let config = RtspSource {
            url: RtspUrl::new(url).unwrap(),
            transport: RtspTransport::Tcp,
            user: user.map(str::to_owned),
            password_file: user.map(|_| file),
            open_timeout_s: Seconds::of(1.0),
            read_timeout_s: Seconds::of(1.0),
        };
        let error = Rtsp::open(&config, &Limits::default(), Stop::default()).err().unwrap();
        let text = format!("{error:#} {error:?}");
        assert!(!text.contains("s3cr") && !text.contains("rtsp://"), "{text}");
        println!("{error:#}");
        format!("{error:#}")
    }

    #[test]
    fn why_there_is_no_stream() {
        for (status, user, words) in [
            ("401 Unauthorized", Some("me"), "refused user or password (401)"),
            ("401 Unauthorized", None, "wants a user and a password (401)"),
            ("403 Forbidden", Some("me"), "(403)"),
            ("404 Not Found", None, "no stream at this path (404)"),
            ("503 Service Unavailable", None, "(5xx)"),
            ("454 Session Not Found", None, "(4xx)"),
        ] {
            let found = answered(status, user);
            assert!(found.contains(words), "{status}: {found}");
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(failure(&format!("rtsp://{free}/x"), Some("me")).contains("connection refused"));
        assert!(failure("rtsp://no-such-host.invalid/x", Some("me")).contains("resolved"));
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let began = Instant::now();
        assert!(failure(&format!("rtsp://{}/x", silent.local_addr().unwrap()), None).contains("nothing for 1 s"));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }

    #[test]
    fn a_stop_ends_an_opening_at_once() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = RtspSource {
            url: RtspUrl::new(&format!("rtsp://{}/x", silent.local_addr().unwrap())).unwrap(),
            transport: RtspTransport::Tcp,
            user: None,
            password_file: None,
            open_timeout_s: Seconds::of(60.0),
            read_timeout_s: Seconds::of(60.0),
        };
        let stop = Stop::default();
        let opening = {
            let stop = stop.clone();
            std::thread::spawn(move || Rtsp::open(&config, &Limits::default(), stop).is_err())
        };
        std::thread::sleep(Duration::from_millis(200));
        let began = Instant::now();
        stop.set();
        assert!(opening.join().unwrap());
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}
