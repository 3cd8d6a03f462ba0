//! Between a camera and its inspection: which of its pictures wait, what it is doing, and its numbers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::clock::{SourceClock, Timeline};
use super::slot::Slot;
use super::source::{FrameSource, Next, Transport};
use super::{Captured, Frame};
use tracing::warn;

use crate::config::TriggerConfig;
use crate::trigger::timer::Timer;
use crate::trigger::{Fired, Gate, Refused, TriggerCounts};

/// Missed parts that may wait to be told; of more, the oldest are counted alone.
const MISSED: usize = 256;

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
    /// What its transport has counted since the agent started, over all openings.
    pub transport: Option<Transport>,
    /// What the camera has appended to its newest picture.
    pub chunks: BTreeMap<String, f64>,
}

/// A camera's pictures that wait, its state, and the way to wake inference.
pub struct Feed {
    /// Name from the configuration.
    pub name: Arc<str>,
    slot: Slot<Captured>,
    missed: Mutex<VecDeque<Captured>>,
    gate: Mutex<Gate>,
    fired: Condvar,
    timer: OnceLock<Arc<Timer>>,
    status: Mutex<Status>,
    trouble: Mutex<Option<String>>,
    seq: AtomicU64,
    timeline: Mutex<Timeline>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Feed {
    /// A feed that calls `wake` after each picture.
    #[must_use]
    pub fn new(name: Arc<str>, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        let status = Status {
            phase: Phase::Opening,
            reason: None,
            since: SystemTime::now(),
            reopened: 0,
            transport: None,
            chunks: BTreeMap::new(),
        };
        Self {
            name,
            slot: Slot::default(),
            missed: Mutex::default(),
            gate: Mutex::default(),
            fired: Condvar::new(),
            timer: OnceLock::new(),
            status: Mutex::new(status),
            trouble: Mutex::default(),
            seq: AtomicU64::new(0),
            timeline: Mutex::default(),
            wake,
        }
    }

    /// Deadlines of its triggers are told by this clock.
    #[must_use]
    pub fn with_timer(self, timer: Arc<Timer>) -> Self {
        let _ = self.timer.set(timer); // it is new, so there is none
        self
    }

    /// Which pictures are inspected from now on; `exposes` is whether the signal of the trigger's line exposes them as well.
    pub fn configure(&self, trigger: Option<&TriggerConfig>, exposes: bool) {
        let left_out = self.slot.set_capacity(trigger.map_or(1, |trigger| trigger.queue.get().max(1) as usize));
        left_out.into_iter().for_each(|captured| self.replaced(captured));
        let mut gate = self.gate();
        gate.configure(trigger);
        gate.set_exposes(exposes);
        drop(gate);
        if !trigger.is_some_and(|trigger| matches!(trigger.on, crate::config::TriggerOn::Line(_))) {
            self.set_trigger_trouble(None);
        }
    }

    /// The camera is gone; who waits for a picture of it is told so.
    pub fn close(&self) {
        self.gate().close();
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state now.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if status.reason.is_none() {
            status.reason.clone_from(&self.trouble.lock().unwrap_or_else(PoisonError::into_inner));
        }
        status
    }

    /// Whether pictures come.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).phase == Phase::Streaming
    }

    pub(super) fn set_phase(&self, phase: Phase, reason: Option<String>) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.phase != phase {
            status.since = SystemTime::now();
            status.reopened += u64::from(phase == Phase::Reconnecting);
        }
        status.phase = phase;
        status.reason = reason;
    }

    /// Takes over what the source counts; `before` are the counts of earlier openings.
    pub(super) fn count(&self, source: &dyn FrameSource, before: Transport) {
        if let Some(now) = source.transport() {
            let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            status.transport = Some(before + now);
            status.chunks = source.chunks();
        }
    }

    /// Why no triggers come, where none can.
    pub fn set_trigger_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Pictures that came, and those of them that another one has replaced.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        self.slot.counts()
    }

    /// What became of its triggers.
    #[must_use]
    pub fn trigger_counts(&self) -> TriggerCounts {
        self.gate().counts()
    }

    /// How long a trigger waits for its picture.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.gate().patience()
    }

    /// A trigger. Where it is not taken though it is no bounce, the part is missed.
    pub fn fire(&self, fired: Fired) {
        let refused = self.gate().fire(fired);
        match refused {
            Ok(()) => {
                self.fired.notify_all();
                if let Some(timer) = self.timer.get() {
                    timer.ring();
                }
            }
            Err((_, Refused::Bounced)) => {}
            Err((fired, Refused::Full)) => self.unserved(fired, "too many triggers wait for their pictures"),
        }
    }

    /// Tells which triggers have waited too long.
    pub fn expire(&self, now: Instant) {
        let late = self.gate().expired(now);
        for fired in late {
            let reason = format!("no picture within {} ms of the trigger", (fired.deadline - fired.at).as_millis());
            self.unserved(fired, &reason);
        }
    }

    /// When the next trigger has waited too long.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.gate().next_deadline()
    }

    /// Waits until a source that is asked for each picture should be asked, or for at most `timeout`; whether it should.
    pub(super) fn wait_for_wish(&self, timeout: Duration) -> bool {
        let waited = self.fired.wait_timeout_while(self.gate(), timeout, |gate| !gate.wants());
        waited.unwrap_or_else(PoisonError::into_inner).0.wants()
    }

    /// Triggers of which a source that has to be told does not know yet.
    pub(super) fn take_untold(&self) -> u32 {
        self.gate().take_untold()
    }

    fn unserved(&self, fired: Fired, reason: &str) {
        let Fired { at_wall, waiter, .. } = &fired;
        if fired.is_part() {
            self.miss(*at_wall, reason.to_owned());
        }
        if waiter.is_some()
            && let Some(waiter) = fired.waiter
        {
            waiter.answer(Err(reason));
        }
    }

    /// A part had a picture that nothing could be said of.
    pub fn count_missed(&self) {
        self.gate().missed();
    }

    /// A part goes uninspected.
    pub fn miss(&self, captured_at: SystemTime, reason: String) {
        self.gate().missed();
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        if missed.len() >= MISSED {
            missed.pop_front();
        }
        missed.push_back(Captured::Missed { seq: self.seq.load(Ordering::Relaxed), captured_at, reason });
        drop(missed);
        (self.wake)();
    }

    /// Takes a picture that is as old as its arrival.
    pub fn deliver(&self, next: Next) {
        self.deliver_by(next, &mut SourceClock::default());
    }

    /// Stamps a picture, by the clock of its source where that has one, and puts it where inspection takes it, if it is one that is
    /// inspected.
    pub(super) fn deliver_by(&self, next: Next, clock: &mut SourceClock) {
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
        let (image, unreadable) = match next {
            Next::Picture { image, .. } => (Some(image), None),
            Next::Unreadable { origin, reason } => (None, Some((origin, reason))),
            Next::Idle | Next::Ended => return,
        };
        let (overtaken, passed) = {
            let mut gate = self.gate();
            (gate.overtaken(captured), gate.pass(captured, image.as_ref()))
        };
        overtaken
            .into_iter()
            .for_each(|fired| self.unserved(fired, "its picture was lost: that of a later trigger came"));
        let Some(fired) = passed else { return };
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        let put = match (image, unreadable) {
            (Some(image), _) => Captured::Frame(Frame { seq, captured_at, captured, image, fired }),
            (None, reason) => {
                let (origin, reason) = reason.unwrap_or_default();
                Captured::Unreadable { seq, captured_at, origin, reason, fired }
            }
        };
        if let Some(replaced) = self.slot.put(put) {
            self.replaced(replaced);
        }
        (self.wake)();
    }

    fn replaced(&self, mut captured: Captured) {
        let reason = "others came before it could be inspected";
        captured.take_fired().into_iter().for_each(|fired| self.unserved(fired, reason));
    }

    /// Whether something waits.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.slot.is_full() || !self.missed.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes what waits longest and runs `f` before another may take the next one, for numbering that must follow the order of
    /// taking.
    pub fn take_with<R>(&self, f: impl FnOnce(Captured) -> R) -> Option<R> {
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        match missed.pop_front() {
            Some(captured) => Some(f(captured)),
            None => self.slot.take_with(f), // under the lock of both
        }
    }
}
