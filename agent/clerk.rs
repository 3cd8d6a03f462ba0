//! Turns verdicts into alarms and results, on a thread of its own.
//!
//! Guarantee: what was decided is recorded before the next verdict is looked at; while the disk refuses, it waits, and the workers
//! behind it.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;
use tracing::{error, info, warn};

use crate::backoff::Backoff;
use crate::mqtt::payload::Transition;
use crate::outbox::Outbox;
use crate::pipeline::Pipeline;
use crate::report::Results;
use crate::stop::Stop;
use crate::update::tap::Tap;
use crate::verdict::Verdict;
use crate::verdict::book::{AlarmBook, Entry};
use crate::verdict::rules::Rules;
use crate::verdict::scorecard::Scorecard;

/// How often alarms are looked at for what the time changes.
const BOOK_TICK: Duration = Duration::from_secs(1);

/// Verdicts, each with its lane's index.
pub type Verdicts = Receiver<(usize, Verdict)>;

/// The clerk.
pub struct Clerk {
    /// What is active.
    pub book: Arc<Mutex<AlarmBook>>,
    /// Severity, size and zones by class.
    pub rules: Rules,
    /// What goes out.
    pub outbox: Arc<Outbox>,
    /// Frames' results.
    pub results: Results,
    /// Names and counters of the cameras.
    pub pipeline: Arc<Pipeline>,
    /// For a candidate that looks on.
    pub tap: Arc<Tap>,
    /// Ends the retrying of a record that the disk refuses.
    pub stop: Stop,
    /// When alarms were last looked at for what the time changes.
    pub ticked: Instant,
}

impl Clerk {
    /// Works until the last worker has ended.
    pub fn work(mut self, verdicts: &Verdicts, cards: &Mutex<Vec<Scorecard>>) {
        loop {
            if self.ticked.elapsed() >= BOOK_TICK {
                self.ticked = Instant::now();
                self.tick();
            }
            let (at, mut verdict) = match verdicts.recv_timeout(BOOK_TICK) {
                Ok(verdict) => verdict,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let pipeline = Arc::clone(&self.pipeline);
            let lane = &pipeline.lanes[at];
            let name = &lane.feed.name;
            self.tap.offer(&verdict, at, lane.view());
            if let Some(size) = verdict.frame().map(|frame| (frame.image.width, frame.image.height)) {
                self.rules.apply(name, size, &mut verdict.findings);
            }
            // Decided and recorded in one go, so that no command comes between.
            let mut book = lock(&self.book);
            let entry = book.decide(name, &verdict, Timestamp::now());
            let recorded = book.record(&entry, &self.outbox);
            lane.suppressed.store(book.suppressed(name), Ordering::Relaxed);
            book.waiting = recorded.is_err();
            drop(book);
            if let Some(truth) = verdict.frame().and_then(|f| f.image.truth.as_ref()) {
                let raised: Vec<_> =
                    entry.changes().filter(|(t, _)| *t == Transition::Raised).map(|(_, b)| b.bbox).collect();
                let ready = lane.with_judge(|j| j.check().is_none_or(|c| c.standing().is_calibrated()));
                cards.lock().unwrap_or_else(PoisonError::into_inner)[at].add(truth, &raised, ready);
            }
            self.see_through(&entry, recorded);
            self.results.send(&lane.feed.name, &verdict);
        }
    }

    /// What the passing of time changes.
    fn tick(&self) {
        let mut book = lock(&self.book);
        let entry = book.tick(Timestamp::now());
        match book.record(&entry, &self.outbox) {
            Ok(()) => {
                book.apply(&entry);
                said(&entry);
            }
            Err(e) => warn!("what comes off the shelf is tried again in a second: {e:#}"),
        }
    }

    /// Records until it holds: while the disk refuses, this thread waits, the workers wait behind it, and the cameras
    /// drop frames; but nothing that was decided is lost.
    fn see_through(&self, entry: &Entry, mut recorded: Result<()>) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        while let Err(e) = recorded {
            error!("an alarm cannot be recorded: {e:#}; inspection waits until it can");
            self.outbox.set_trouble(Some(format!("alarms cannot be recorded, inspection waits: {e:#}")));
            if self.stop.wait(backoff.next_delay()) {
                error!("stopped before an alarm could be recorded");
                return;
            }
            let mut book = lock(&self.book);
            recorded = book.record(entry, &self.outbox);
            book.waiting = recorded.is_err();
        }
        self.outbox.set_trouble(None);
        said(entry);
    }
}

fn lock(book: &Mutex<AlarmBook>) -> MutexGuard<'_, AlarmBook> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn said(entry: &Entry) {
    for (transition, body) in entry.changes() {
        info!(camera = %body.camera, class = %body.class, score = body.score, alarm = %body.alarm, "{transition:?}");
    }
}
