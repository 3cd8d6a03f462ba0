//! Keeps one camera going, for ever.
//!
//! Guarantees: a source that ends, fails, panics or hangs is given up and opened again after an exponential back-off
//! with jitter (1 s to 60 s); no camera can hold up another. Each opening has a reader thread of its own. A reader
//! that hangs inside a driver cannot be ended from outside: it is left behind, whatever it still delivers is thrown
//! away, and at most [`MAX_STUCK`] such threads may exist before the supervisor waits for one of them to come back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tracing::{info, warn};

use super::clock::SourceClock;
use super::feed::{Feed, Phase};
use super::source::{self, Next};
use crate::backoff::Backoff;
use crate::config::{CameraConfig, Limits, SourceConfig};
use crate::fail;
use crate::pulse::Pulse;
use crate::stop::Stop;

/// Reader threads that hang in a driver.
pub const MAX_STUCK: usize = 3;
/// A camera that streamed this long is well again: its next failure starts at the first delay, so that one that fails again
/// and again is opened once in three seconds at the most.
const WELL_AFTER: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(100);
/// At the end a reader has this long to let go of its camera, so that the next program can have it at once.
const FAREWELL: Duration = Duration::from_millis(800);

/// Runs a camera on this thread until `stop`.
pub fn supervise(config: &CameraConfig, limits: &Limits, feed: &Arc<Feed>, pulse: &Pulse, stop: &Stop) {
    let mut backoff = backoff(config);
    let mut stuck: Vec<JoinHandle<()>> = Vec::new();
    while !stop.is_set() {
        stuck.retain(|reader| !reader.is_finished());
        let (reason, streamed) = if stuck.len() >= MAX_STUCK {
            let reason = "readers hang in the driver; a restart of the camera or the gateway may be needed";
            (format!("{MAX_STUCK} {reason}"), Duration::ZERO)
        } else {
            one_opening(config, limits, feed, (pulse, stop), &mut stuck)
        };
        if stop.is_set() {
            return;
        }
        if streamed > WELL_AFTER {
            backoff.reset();
        }
        let delay = backoff.next_delay();
        warn!(camera = %feed.name, attempt = backoff.attempts(), "{reason}; next attempt in {:.1} s", delay.as_secs_f64());
        feed.set_phase(Phase::Reconnecting, Some(reason));
        if pulse.wait(stop, delay) {
            return;
        }
    }
}

/// 1 s to 60 s; a folder costs nothing to look at, and a first part in it must not wait for a minute. A GenICam camera
/// is looked for by one broadcast packet, and its line may stand still meanwhile.
fn backoff(config: &CameraConfig) -> Backoff {
    let cheap = matches!(config.source, SourceConfig::Folder(_) | SourceConfig::Genicam(_));
    let most = if cheap { 5 } else { 60 };
    Backoff::new(Duration::from_secs(1), Duration::from_secs(most))
}

/// One opening from start to end: why it ended, and for how long pictures came. A reader that hangs is added to `stuck`.
fn one_opening(
    config: &CameraConfig,
    limits: &Limits,
    feed: &Arc<Feed>,
    (pulse, stop): (&Pulse, &Stop),
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
        pulse.beat();
        fail::stall("capture");
        match end.recv_timeout(TICK) {
            Ok(reason) => return (reason, reader.streamed()),
            Err(RecvTimeoutError::Disconnected) => return ("the reader is gone".to_owned(), reader.streamed()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let silent = reader.silent_for();
        if stop.is_set() && end.recv_timeout(FAREWELL).is_ok() {
            return ("stopped".to_owned(), reader.streamed());
        }
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
        self.set_busy(None);
        let before = feed.status().transport.unwrap_or_default();
        // A picture that is asked for is never passed over for its rate.
        let asked = config.trigger.as_ref().is_some_and(|trigger| trigger.on.asks()) || config.source.is_triggered();
        let limit = config.fps.filter(|_| !asked).map(|fps| Duration::from_secs_f64(1.0 / fps.get()));
        // The slower of the source's own pace and the limit.
        let pace = limit.max(source.pace()).unwrap_or_default();
        let mut clock = SourceClock::default();
        let mut due = Instant::now();
        while !stop.is_set() {
            let early = due.saturating_duration_since(Instant::now());
            if !source.live() {
                if !early.is_zero() && stop.wait(early) {
                    return Ok(());
                }
                // One that can be asked is asked when somebody wants a picture.
                if !feed.wait_for_wish(TICK) {
                    if self.abandoned.load(Ordering::Acquire) {
                        return Ok(());
                    }
                    continue;
                }
            }
            self.set_busy(Some(Instant::now()));
            for _ in 0..feed.take_untold() {
                source.fire()?;
            }
            let next = source.next(due)?;
            self.set_busy(None);
            if self.abandoned.load(Ordering::Acquire) {
                return Ok(());
            }
            feed.count(&*source, before);
            if matches!(next, Next::Ended) {
                return Ok(());
            }
            if !feed.is_streaming() {
                info!(camera = %feed.name, "streaming");
                feed.set_phase(Phase::Streaming, None);
            }
            if matches!(next, Next::Idle) {
                // Where nothing was there to be read, nothing is made up for: it would come in a burst, and be dropped.
                if !source.live() {
                    due = due.max(Instant::now());
                }
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
