//! Keeps one camera going, for ever.
//!
//! Guarantees: a source that ends, fails, panics or hangs is given up and opened again after an exponential back-off
//! with jitter (1 s to 60 s); no camera can hold up another. Each opening has a reader thread of its own. A reader
//! that hangs inside a driver cannot be ended from outside: it is left behind, whatever it still delivers is thrown
//! away, and at most [`MAX_STUCK`] such threads may exist before the supervisor waits for one of them to come back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use tracing::{info, warn};

use super::clock::{SourceClock, Timeline};
use super::slot::Slot;
use super::source::{self, Next};
use super::{Captured, Frame};
use crate::backoff::Backoff;
use crate::config::{CameraConfig, Limits, SourceConfig};
use crate::stop::Stop;

/// Reader threads that hang in a driver.
pub const MAX_STUCK: usize = 3;
/// A camera that streamed this long is well again: its next failure starts at the first delay, so that one that fails again
/// and again is opened once in three seconds at the most.
const WELL_AFTER: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(100);

/// What a camera is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Being opened for the first time.
    Opening,
    /// Pictures come.
    Streaming,
    /// Given up for now; it will be opened again.
    Reconnecting,
}

/// The state of a camera, as others may see it.
#[derive(Debug, Clone)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// Why, in words, where it is not well.
    pub reason: Option<String>,
    /// Since when.
    pub since: SystemTime,
    /// Times that it was opened again.
    pub reopened: u64,
}

/// A camera's slot, state and the way to wake inference.
pub struct Feed {
    /// Name from the configuration.
    pub name: Arc<str>,
    /// The newest picture.
    pub slot: Slot<Captured>,
    status: Mutex<Status>,
    seq: AtomicU64,
    timeline: Mutex<Timeline>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Feed {
    /// A feed that calls `wake` after each picture.
    #[must_use]
    pub fn new(name: Arc<str>, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        let status = Status { phase: Phase::Opening, reason: None, since: SystemTime::now(), reopened: 0 };
        Self {
            name,
            slot: Slot::default(),
            status: Mutex::new(status),
            seq: AtomicU64::new(0),
            timeline: Mutex::default(),
            wake,
        }
    }

    /// The state now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_phase(&self, phase: Phase, reason: Option<String>) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.phase != phase {
            status.since = SystemTime::now();
            status.reopened += u64::from(phase == Phase::Reconnecting);
        }
        status.phase = phase;
        status.reason = reason;
    }

    /// Puts a picture that is as old as its arrival into the slot.
    pub fn deliver(&self, next: Next) {
        self.deliver_by(next, &mut SourceClock::default());
    }

    /// Stamps a picture, by the clock of its source where that has one, and puts it into the slot.
    fn deliver_by(&self, next: Next, clock: &mut SourceClock) {
        let device = match &next {
            Next::Picture { clock, .. } => *clock,
            Next::Unreadable { .. } => None,
            Next::Idle | Next::Ended => return,
        };
        let stamp = {
            let mut timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
            let (wall, arrival) = (SystemTime::now(), Instant::now());
            timeline.stamp(clock.capture(device, arrival), arrival, wall)
        };
        if let Some(back) = stamp.stepped_back {
            warn!(camera = %self.name, "the wall clock went back {:.1} s: times of pictures before and after are not in order", back.as_secs_f64());
        }
        let (captured_at, captured) = (stamp.captured_at, stamp.captured);
        let seq = || self.seq.fetch_add(1, Ordering::Relaxed);
        match next {
            Next::Picture { image, .. } => {
                self.slot.put(Captured::Frame(Frame { seq: seq(), captured_at, captured, image }));
            }
            Next::Unreadable { origin, reason } => {
                self.slot.put(Captured::Unreadable { seq: seq(), captured_at, origin, reason });
            }
            Next::Idle | Next::Ended => return,
        }
        (self.wake)();
    }
}

/// Runs a camera on this thread until `stop`.
pub fn supervise(config: &CameraConfig, limits: &Limits, feed: &Arc<Feed>, stop: &Stop) {
    let mut backoff = backoff(config);
    let mut stuck: Vec<JoinHandle<()>> = Vec::new();
    while !stop.is_set() {
        stuck.retain(|reader| !reader.is_finished());
        let (reason, streamed) = if stuck.len() >= MAX_STUCK {
            let reason = "readers hang in the driver; a restart of the camera or the gateway may be needed";
            (format!("{MAX_STUCK} {reason}"), Duration::ZERO)
        } else {
            one_opening(config, limits, feed, stop, &mut stuck)
        };
        if stop.is_set() {
            return;
        }
        if streamed > WELL_AFTER {
            backoff.reset();
        }
        let delay = backoff.next_delay();
        warn!(camera = %feed.name, attempt = backoff.attempts(), "{reason}; opened again in {:.1} s", delay.as_secs_f64());
        feed.set_phase(Phase::Reconnecting, Some(reason));
        if stop.wait(delay) {
            return;
        }
    }
}

/// 1 s to 60 s; a folder costs nothing to look at, and a first part in it must not wait for a minute.
fn backoff(config: &CameraConfig) -> Backoff {
    let most = if matches!(config.source, SourceConfig::Folder(_)) { 5 } else { 60 };
    Backoff::new(Duration::from_secs(1), Duration::from_secs(most))
}

/// One opening from start to end: why it ended, and for how long pictures came. A reader that hangs is added to `stuck`.
fn one_opening(
    config: &CameraConfig,
    limits: &Limits,
    feed: &Arc<Feed>,
    stop: &Stop,
    stuck: &mut Vec<JoinHandle<()>>,
) -> (String, Duration) {
    let reader = Arc::new(Reader {
        abandoned: AtomicBool::new(false),
        busy: Mutex::new(Some(Instant::now())),
        first: OnceLock::new(),
    });
    let (ended, end) = mpsc::sync_channel(1);
    let hang = Duration::from_secs_f64(config.hang_timeout_s.get()) + config.source.own_timeout();
    let spawned = {
        let (config, limits, feed) = (config.clone(), limits.clone(), Arc::clone(feed));
        let (reader, stop) = (Arc::clone(&reader), stop.clone());
        thread::Builder::new().name(format!("read-{}", config.name())).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| reader.run(&config, &limits, &feed, &stop)));
            let reason = match result {
                Ok(Ok(())) => "the source ended".to_owned(),
                Ok(Err(e)) => format!("{e:#}"),
                Err(_) => "the reader panicked".to_owned(),
            };
            let _ = ended.send(reason); // nobody listens any more when the reader was left behind
        })
    };
    let handle = match spawned {
        Ok(handle) => handle,
        Err(e) => return (format!("no thread for the camera: {e}"), Duration::ZERO),
    };
    loop {
        match end.recv_timeout(TICK) {
            Ok(reason) => return (reason, reader.streamed()),
            Err(RecvTimeoutError::Disconnected) => return ("the reader is gone".to_owned(), reader.streamed()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let silent = reader.silent_for();
        if stop.is_set() || silent > hang {
            reader.abandoned.store(true, Ordering::Release);
            stuck.push(handle);
            let reason = format!("the camera hangs: nothing for {:.0} s", silent.as_secs_f64());
            return (reason, reader.streamed().saturating_sub(silent));
        }
    }
}

struct Reader {
    /// Set by the supervisor when it has given this reader up.
    abandoned: AtomicBool,
    /// Since when the reader is inside a call of the source; `None` while it waits for the next picture to be due.
    busy: Mutex<Option<Instant>>,
    /// When the first picture came.
    first: OnceLock<Instant>,
}

impl Reader {
    fn silent_for(&self) -> Duration {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn streamed(&self) -> Duration {
        self.first.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    fn set_busy(&self, since: Option<Instant>) {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn run(&self, config: &CameraConfig, limits: &Limits, feed: &Feed, stop: &Stop) -> Result<()> {
        let mut source = source::open(&config.source, limits, stop)
            .with_context(|| format!("cannot open the {} camera", config.source.kind()))?;
        let limit = config.fps.map(|fps| Duration::from_secs_f64(1.0 / fps.get()));
        // The slower of the source's own pace and the limit.
        let pace = limit.max(source.pace()).unwrap_or_default();
        let mut clock = SourceClock::default();
        let mut due = Instant::now();
        while !stop.is_set() {
            let early = due.saturating_duration_since(Instant::now());
            if !source.live() && !early.is_zero() && stop.wait(early) {
                return Ok(());
            }
            self.set_busy(Some(Instant::now()));
            let next = source.next(due)?;
            self.set_busy(None);
            if self.abandoned.load(Ordering::Acquire) {
                return Ok(());
            }
            if matches!(next, Next::Ended) {
                return Ok(());
            }
            if feed.status().phase != Phase::Streaming {
                info!(camera = %feed.name, "streaming");
                feed.set_phase(Phase::Streaming, None);
            }
            if matches!(next, Next::Idle) {
                continue;
            }
            self.first.get_or_init(Instant::now);
            // From the plan, not from now, so that the rate is kept on average; never further behind than one pace.
            due = (due + pace).max(Instant::now().checked_sub(pace).unwrap_or(due));
            feed.deliver_by(next, &mut clock);
        }
        Ok(())
    }
}
