//! A candidate runs in a process of its own first: what it does there (crash, hang, eat memory) happens there.
//!
//! Guarantees: not a byte of the candidate reaches this process's runtime before it has answered its golden vectors and the shadow's
//! frames over there, in time. The process over there has a limit of memory and of processor time, and where the kernel has
//! Landlock no access to files; it ends with this one.

pub mod child;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::frame::view::View;
use crate::frame::{Image, PixelFormat};

/// Until it has answered its golden vectors.
const READY: Duration = Duration::from_secs(20);
/// For one frame.
const FRAME: Duration = Duration::from_secs(10);
/// No answer is longer.
const LONGEST: usize = 1 << 20;

/// Before a frame's pixels, a line.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    width: u32,
    height: u32,
    channels: usize,
    bgr: bool,
    view: View,
}

/// What the process answers, a line each.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The golden vectors hold.
    Ready,
    /// A frame was inspected.
    Frame {
        /// What was found: class, score, box in the frame's pixels.
        found: Vec<Found>,
        /// How long preparation and forward pass took.
        ms: f32,
    },
    /// It cannot go on.
    Failed(String),
}

/// Something that the candidate has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The class.
    pub class: String,
    /// How sure.
    pub score: f32,
    /// x0, y0, x1, y1 in pixels of the frame.
    pub bbox: [f32; 4],
}

/// The process, as it is seen from here.
pub struct Prover {
    child: Child,
    frames: SyncSender<Vec<u8>>,
    answers: Receiver<Answer>,
    /// Since when it has a frame that it has not answered.
    busy: Option<Instant>,
}

impl Drop for Prover {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prover {
    /// Starts it on the bundle in a folder, with so much memory.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(bundle: &Path, runtime: Option<&Path>, memory: u64) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("prove").arg("--bundle").arg(bundle).arg("--memory").arg(memory.to_string());
        if let Some(runtime) = runtime {
            command.arg("--runtime").arg(runtime);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("the process in which a bundle proves itself cannot be started")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (frames, waiting) = sync_channel::<Vec<u8>>(1);
        let (sender, answers) = sync_channel(4);
        let (input, output) = input.zip(output).context("it has no pipes")?;
        thread::Builder::new().name("prove-frames".into()).spawn(move || write(input, &waiting))?;
        thread::Builder::new().name("prove-answers".into()).spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            loop {
                line.clear();
                let read = std::io::Read::take(&mut output, LONGEST as u64).read_until(b'\n', &mut line);
                let Ok(answer) = read.map_err(|_| ()).and_then(|_| serde_json::from_slice(&line).map_err(|_| ()))
                else {
                    return;
                };
                if sender.send(answer).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { child, frames, answers, busy: Some(Instant::now()) })
    }

    /// Waits until it has answered its golden vectors.
    ///
    /// # Errors
    /// It has not, and why.
    pub fn ready(&mut self) -> Result<()> {
        match self.answers.recv_timeout(READY) {
            Ok(Answer::Ready) => {
                self.busy = None;
                Ok(())
            }
            Ok(Answer::Failed(reason)) => Err(anyhow!(reason)),
            Ok(Answer::Frame { .. }) => bail!("it answers what it was not asked"),
            Err(RecvTimeoutError::Timeout) => {
                bail!("it does not answer its golden vectors within {} s", READY.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    /// Shows it a frame, unless it is still at another; whether it took it.
    pub fn show(&mut self, image: &Image, view: &View) -> bool {
        if self.busy.is_some() {
            return false;
        }
        let header = Header {
            width: image.width,
            height: image.height,
            channels: image.format.channels(),
            bgr: image.format == PixelFormat::Bgr8,
            view: view.clone(),
        };
        let Ok(mut message) = serde_json::to_vec(&header) else { return false };
        message.push(b'\n');
        message.extend_from_slice(&image.pixels);
        match self.frames.try_send(message) {
            Ok(()) => self.busy = Some(Instant::now()),
            // A process that has ended says so in its answers.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return false,
        }
        true
    }

    /// What it says about the frame that it was shown; none yet.
    ///
    /// # Errors
    /// It has failed, ended, or takes too long.
    pub fn answer(&mut self) -> Result<Option<(Vec<Found>, f32)>> {
        match self.answers.try_recv() {
            Ok(Answer::Frame { found, ms }) => {
                self.busy = None;
                Ok(Some((found, ms)))
            }
            Ok(Answer::Failed(reason)) => Err(anyhow!(reason)),
            Ok(Answer::Ready) => bail!("it answers what it was not asked"),
            Err(TryRecvError::Disconnected) => Err(self.ended()),
            Err(TryRecvError::Empty) => match self.busy {
                Some(since) if since.elapsed() > FRAME => bail!("it takes over {} s for a frame", FRAME.as_secs()),
                _ => Ok(None),
            },
        }
    }

    fn ended(&mut self) -> anyhow::Error {
        let _ = self.child.kill(); // its pipe is closed, so it is ending anyway
        match self.child.wait() {
            Ok(status) => anyhow!("it has ended its process ({status})"),
            Err(e) => anyhow!("it has ended its process: {e}"),
        }
    }
}

fn write(mut input: ChildStdin, waiting: &Receiver<Vec<u8>>) {
    for message in waiting {
        if input.write_all(&message).and_then(|()| input.flush()).is_err() {
            return;
        }
    }
}
