//! Cameras' slots in, verdicts out: worker threads that share the model fairly.
//!
//! Guarantees
//! - Cameras are served in turn: one that is quick cannot starve another.
//! - Frames of one camera may be in the network at the same time on several workers, but they are judged, and their
//!   verdicts sent, in the order in which they were captured.
//! - A frame on which the model fails, even by a panic, gives "no verdict", and the worker goes on.
//! - The channel of verdicts is bounded; when the receiver is slow, workers wait and the slots drop old frames.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::frame::supervisor::Feed;
use crate::frame::{Captured, Region};
use crate::inspector::{Inspector, Judge};
use crate::stop::Stop;
use crate::verdict::Verdict;

/// Wakes workers when a frame has come.
#[derive(Default)]
pub struct Bell {
    lock: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    /// A frame has come.
    pub fn ring(&self) {
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.rung.notify_one();
    }
}

/// One camera on its way through the pipeline.
pub struct Lane {
    /// Its slot and state.
    pub feed: Arc<Feed>,
    roi: Region,
    tickets: AtomicU64,
    turn: Mutex<Turn>,
    turned: Condvar,
    inspected: AtomicU64,
    no_verdict: AtomicU64,
    /// Alarms that were not raised because too many were active.
    pub suppressed: AtomicU64,
}

struct Turn {
    ticket: u64,
    judge: Judge,
}

impl Lane {
    /// A lane for a camera.
    #[must_use]
    pub fn new(feed: Arc<Feed>, roi: Region, judge: Judge) -> Self {
        Self {
            feed,
            roi,
            tickets: AtomicU64::new(0),
            turn: Mutex::new(Turn { ticket: 0, judge }),
            turned: Condvar::new(),
            inspected: AtomicU64::new(0),
            no_verdict: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Pictures with a verdict, and without.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.inspected.load(Ordering::Relaxed), self.no_verdict.load(Ordering::Relaxed))
    }

    /// Looks at the camera's judge.
    pub fn with_judge<R>(&self, f: impl FnOnce(&Judge) -> R) -> R {
        f(&self.turn.lock().unwrap_or_else(PoisonError::into_inner).judge)
    }

    /// Changes what the camera's judge knows, between two frames.
    pub fn change_judge<R>(&self, f: impl FnOnce(&mut Judge) -> R) -> R {
        f(&mut self.turn.lock().unwrap_or_else(PoisonError::into_inner).judge)
    }

    fn take(&self) -> Option<(Captured, Ticket<'_>)> {
        self.feed.slot.take_with(|captured| {
            let number = self.tickets.fetch_add(1, Ordering::Relaxed);
            (captured, Ticket { lane: self, number })
        })
    }
}

/// A frame's place in its camera's order; the next one's turn comes when it is dropped, whatever happened.
struct Ticket<'a> {
    lane: &'a Lane,
    number: u64,
}

impl<'a> Ticket<'a> {
    fn wait(&self) -> MutexGuard<'a, Turn> {
        let guard = self.lane.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = self.lane.turned.wait_while(guard, |turn| turn.ticket != self.number);
        mine.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.wait().ticket += 1;
        self.lane.turned.notify_all();
    }
}

/// All lanes, and who is next.
pub struct Pipeline {
    /// In the order of the configuration.
    pub lanes: Vec<Lane>,
    /// Rung by the cameras.
    pub bell: Arc<Bell>,
    next: AtomicUsize,
}

impl Pipeline {
    /// For these lanes.
    #[must_use]
    pub fn new(lanes: Vec<Lane>, bell: Arc<Bell>) -> Self {
        Self { lanes, bell, next: AtomicUsize::new(0) }
    }

    /// The next frame, in turn; `None` when it is time to stop.
    fn take(&self, stop: &Stop) -> Option<(usize, Captured, Ticket<'_>)> {
        let mut guard = self.bell.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !stop.is_set() {
            let first = self.next.load(Ordering::Relaxed);
            for at in (0..self.lanes.len()).map(|n| (first + n) % self.lanes.len()) {
                if let Some((captured, ticket)) = self.lanes[at].take() {
                    self.next.store(at + 1, Ordering::Relaxed);
                    return Some((at, captured, ticket));
                }
            }
            // The time-out is for `stop`, which rings no bell.
            let waited = self.bell.rung.wait_timeout(guard, Duration::from_millis(100));
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    /// Works on this thread until `stop`, then finishes the frame at hand. Verdicts go out with their lane's index.
    pub fn work(&self, inspector: &mut Inspector, verdicts: &SyncSender<(usize, Verdict)>, stop: &Stop) {
        while let Some((at, captured, ticket)) = self.take(stop) {
            let lane = &self.lanes[at];
            let verdict = inspect(lane, inspector, captured, &ticket);
            let counter = if verdict.no_verdict.is_some() { &lane.no_verdict } else { &lane.inspected };
            counter.fetch_add(1, Ordering::Relaxed);
            if let Some(reason) = &verdict.no_verdict {
                let file = verdict.origin().map(ToString::to_string);
                warn!(camera = %lane.feed.name, file, "no verdict: {reason}");
            }
            if verdicts.send((at, verdict)).is_err() {
                return; // the receiver has stopped
            }
        }
    }
}

fn inspect(lane: &Lane, inspector: &mut Inspector, captured: Captured, ticket: &Ticket) -> Verdict {
    let looked = match &captured {
        Captured::Unreadable { reason, .. } => Err(reason.clone()),
        Captured::Frame(frame) => match catch_unwind(AssertUnwindSafe(|| inspector.look(&frame.image, lane.roi))) {
            Ok(Ok(placement)) => Ok(placement),
            Ok(Err(e)) => Err(format!("{e:#}")),
            Err(_) => Err("the inspection of this frame panicked".to_owned()),
        },
    };
    let mut times = inspector.times;
    let mut turn = ticket.wait();
    let begun = Instant::now();
    let judged = looked.and_then(|placement| {
        catch_unwind(AssertUnwindSafe(|| turn.judge.judge(&inspector.forward, placement)))
            .map_err(|_| "the judgement of this frame panicked".to_owned())
    });
    drop(turn);
    times.judge = begun.elapsed();
    let latency = match &captured {
        Captured::Frame(frame) => frame.captured.elapsed().as_secs_f32(),
        Captured::Unreadable { .. } => 0.0,
    };
    match judged {
        Ok(judgement) => Verdict {
            captured,
            findings: judgement.findings,
            no_verdict: None,
            probability: judgement.anomaly.as_ref().and_then(|a| a.probability),
            anomaly: judgement.anomaly.map(|a| a.score),
            heat: judgement.heat,
            scene: judgement.scene,
            latency,
            times,
        },
        Err(reason) => {
            let (findings, no_verdict) = (Vec::new(), Some(reason));
            Verdict {
                captured,
                findings,
                no_verdict,
                anomaly: None,
                probability: None,
                heat: None,
                scene: None,
                latency,
                times,
            }
        }
    }
}
