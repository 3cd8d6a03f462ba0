//! Two RTSP servers: GStreamer's as a child, and one of a few lines whose every time stamp the test decides.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{eventually, root};

/// Debian's own Python, which has the GStreamer bindings.
pub fn gst(args: &[&str]) -> Child {
    Command::new("/usr/bin/python3")
        .arg(root().join("tests/support/gst.py"))
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 with GStreamer is installed by `make test`")
}

/// 320x240, raw, 20 pictures a second, at `rtsp://127.0.0.1:PORT/test`.
pub struct Rtsp(Child);

impl Rtsp {
    pub fn serve(port: u16) -> Self {
        Self::serve_with(port, &[])
    }

    /// With a method (basic, digest), a user and a password.
    pub fn serve_with(port: u16, more: &[&str]) -> Self {
        let port_text = port.to_string();
        let child = gst(&[&["rtsp", &port_text], more].concat());
        eventually(20, "the RTSP server listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self(child)
    }

    /// By its name without `SIG`.
    pub fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
    }
}

impl Drop for Rtsp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A picture of the scripted server.
#[derive(Clone, Copy)]
pub struct Sent {
    /// RTP time stamp, 90,000 a second.
    pub stamp: u32,
    /// Before it is sent.
    pub wait: Duration,
}

/// Plays its script to each connection, then closes it; raw, 64x64, over TCP.
pub struct Scripted {
    pub port: u16,
}

const SIDE: u16 = 64;

impl Scripted {
    pub fn start(script: Vec<Sent>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let script = script.clone();
                std::thread::spawn(move || play(stream, port, &script));
            }
        });
        Self { port }
    }
}

fn play(mut stream: TcpStream, port: u16, script: &[Sent]) -> Option<()> {
    let mut requests = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut method, mut number) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            if requests.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if method.is_empty() {
                line.split(' ').next()?.clone_into(&mut method);
            }
            if line.starts_with("CSeq") {
                number.clone_from(&line);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut answer = format!("RTSP/1.0 200 OK\r\n{number}Session: 1\r\n");
        match method.as_str() {
            "DESCRIBE" => {
                let sdp = format!(
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 raw/90000\r\n\
                     a=fmtp:96 sampling=YCbCr-4:2:2; width={SIDE}; height={SIDE}; depth=8; colorimetry=BT601-5\r\na=control:t\r\n"
                );
                let length = sdp.len();
                write!(answer, "Content-Base: rtsp://127.0.0.1:{port}/\r\nContent-Type: application/sdp\r\n").ok()?;
                write!(answer, "Content-Length: {length}\r\n\r\n{sdp}").ok()?;
            }
            "SETUP" => answer += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n",
            _ => answer += "\r\n",
        }
        stream.write_all(answer.as_bytes()).ok()?;
        if method == "PLAY" {
            break;
        }
    }
    // What the client says while it plays is of no interest, but must not fill the connection.
    std::thread::spawn(move || std::io::copy(&mut requests.take(1 << 20), &mut std::io::sink()));
    for (n, sent) in (0_u16..).zip(script) {
        std::thread::sleep(sent.wait);
        stream.write_all(&packet(n, *sent)).ok()?;
    }
    // The thread that listens has the same connection.
    stream.shutdown(std::net::Shutdown::Both).ok()
}

/// A picture as one packet (RFC 4175), grey, in the frame of RTSP's interleaving.
fn packet(number: u16, sent: Sent) -> Vec<u8> {
    let row = 2 * SIDE;
    let mut rtp = vec![0x80, 0xe0];
    rtp.extend(number.to_be_bytes());
    rtp.extend(sent.stamp.to_be_bytes());
    rtp.extend([0, 0, 0, 7, 0, 0]);
    for line in 0..SIDE {
        rtp.extend(row.to_be_bytes());
        rtp.extend(line.to_be_bytes());
        rtp.extend((u16::from(line + 1 < SIDE) << 15).to_be_bytes());
    }
    rtp.extend(std::iter::repeat_n(128_u8, usize::from(row * SIDE)));
    let mut framed = vec![b'$', 0];
    framed.extend((rtp.len() as u16).to_be_bytes());
    framed.extend(rtp);
    framed
}
