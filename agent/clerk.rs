//! Turns verdicts into alarms and results, on a thread of its own.
//!
//! Guarantee: what was decided is recorded before the next verdict is looked at; while the disk refuses, it waits, and the workers
//! behind it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;
use tracing::{error, info, warn};

use crate::backoff::Backoff;
use crate::config::{Config, TriggerOn};
use crate::fail;
use crate::frame::Captured;
use crate::health::Fault;
use crate::metrics::Meter;
use crate::mqtt::payload::{FrameRef, FrameResult, Transition};
use crate::outbox::{Kind, Message, Outbox};
use crate::pipeline::{Judged, Lane, Settings};
use crate::pulse::Pulse;
use crate::report::{self, Results};
use crate::shared::Shared;
use crate::stop::Stop;
use crate::trigger::Fired;
use crate::update::tap::Tap;
use crate::verdict::Verdict;
use crate::verdict::book::{self, AlarmBook, Entry};
use crate::verdict::condition::Said;
use crate::verdict::scorecard::Scorecard;
use crate::verdict::{condition, rules};

/// How often alarms are looked at for what the time changes.
const BOOK_TICK: Duration = Duration::from_secs(1);

/// Verdicts, each with its lane.
pub type Verdicts = Receiver<Judged>;
/// What the cameras that know the truth are worth, by name.
pub type Cards = Mutex<BTreeMap<Arc<str>, Scorecard>>;

/// The clerk.
pub struct Clerk {
    /// What is active.
    pub book: Arc<Mutex<AlarmBook>>,
    /// Severity, size and zones by class, and which results are wanted.
    pub current: Arc<Shared<Config>>,
    /// What goes out.
    pub outbox: Arc<Outbox>,
    /// Frames' results.
    pub results: Results,
    /// For a candidate that looks on.
    pub tap: Arc<Tap>,
    /// Ends the retrying of a record that the disk refuses.
    pub stop: Stop,
    /// When alarms were last looked at for what the time changes.
    pub ticked: Instant,
    /// Whether it makes progress.
    pub pulse: Arc<Pulse>,
    /// Counts what it sees.
    pub meter: Arc<Meter>,
}

impl Clerk {
    /// Works until the last worker has ended.
    pub fn work(mut self, verdicts: &Verdicts, cards: &Cards) {
        loop {
            self.pulse.beat();
            fail::stall("outbox");
            if self.ticked.elapsed() >= BOOK_TICK {
                self.ticked = Instant::now();
                self.tick();
            }
            match verdicts.recv_timeout(BOOK_TICK) {
                Ok((lane, verdict)) => self.take(&lane, verdict, cards),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Publishes a picture that somebody wants to see; gives its hash.
    fn publish(&self, verdict: &Verdict, config: &Config) -> Option<String> {
        let (hash, payload) = book::picture(&verdict.frame()?.image, verdict, &config.alarm)
            .inspect_err(|e| warn!("a picture cannot be shown: {e:#}"))
            .ok()?;
        let topic = self.results.topics().image(&hash);
        let message = Message { kind: Kind::Image, topic, payload, retain: false, subject: None };
        let pushed = self.outbox.transaction(|transaction| transaction.push(&message));
        pushed.inspect_err(|e| warn!("a picture cannot be published: {e:#}")).ok().map(|()| hash)
    }

    fn take(&mut self, lane: &Lane, mut verdict: Verdict, cards: &Cards) {
        let (begun, name, config) = (Instant::now(), lane.name(), self.current.get());
        let settings = lane.settings();
        if settings.engine == 0 {
            self.tap.offer(&verdict, &settings);
        }
        if let Some(size) = verdict.frame().map(|frame| (frame.image.width, frame.image.height)) {
            rules::apply(&config.alarm.rules, name, size, &mut verdict.findings);
        }
        let fired = verdict.captured.take_fired();
        let is_part = fired.iter().any(Fired::is_part);
        if is_part && verdict.no_verdict.is_some() {
            lane.feed.count_missed();
        }
        // Decided and recorded in one go, so that no command comes between.
        let mut book = lock(&self.book);
        let mut entry = book.decide(name, &verdict, Timestamp::now());
        entry.add(health(&mut book, &settings, &verdict, &config));
        entry.add(parts(&mut book, &settings, &verdict, is_part, &config));
        let recorded = book.record(&entry, &self.outbox);
        lane.suppressed.store(book.suppressed(name), Ordering::Relaxed);
        book.waiting = recorded.is_err();
        drop(book);
        if let Some(truth) = verdict.frame().and_then(|f| f.image.truth.as_ref()) {
            let raised: Vec<_> =
                entry.changes().filter(|(t, _)| *t == Transition::Raised).map(|(_, b)| b.bbox).collect();
            let ready = lane.with_judge(|j| j.check().is_none_or(|c| c.standing().is_calibrated()));
            let mut cards = cards.lock().unwrap_or_else(PoisonError::into_inner);
            cards.entry(Arc::clone(name)).or_default().add(truth, &raised, ready);
        }
        self.see_through(&entry, recorded);
        self.count(&entry);
        self.meter.frame(&verdict, begun.elapsed());
        self.results.send(&config.mqtt, name, &verdict, &fired);
        let waiters: Vec<_> = fired.into_iter().filter_map(|fired| Some((fired.at_wall, fired.waiter?))).collect();
        let image =
            if waiters.iter().any(|(_, waiter)| waiter.wants_picture) { self.publish(&verdict, &config) } else { None };
        for (at, waiter) in waiters {
            let image = image.clone().filter(|_| waiter.wants_picture);
            waiter.answer(Ok(&FrameResult { image, ..report::result(name, &verdict, Some(at)) }));
        }
    }

    fn count(&self, entry: &Entry) {
        let raised = entry.changes().filter(|(transition, _)| *transition == Transition::Raised);
        raised.for_each(|(_, alarm)| self.meter.raised(&alarm.camera, &alarm.class, alarm.severity));
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
            if self.pulse.wait(&self.stop, backoff.next_delay()) {
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

/// What becomes of the alarm about parts that were not inspected.
fn parts(book: &mut AlarmBook, settings: &Settings, verdict: &Verdict, is_part: bool, config: &Config) -> Entry {
    let (now, camera) = (Timestamp::now(), settings.camera.name());
    let has_parts = settings.camera.trigger.as_ref().is_some_and(|trigger| matches!(trigger.on, TriggerOn::Line(_)));
    match &verdict.captured {
        // There was a picture of the part, and nothing can be said of it.
        Captured::Frame(frame) if is_part && verdict.no_verdict.is_some() => {
            uninspected(book, camera, verdict, &book::of(frame), config)
        }
        Captured::Missed { seq, captured_at, .. } | Captured::Unreadable { seq, captured_at, .. }
            if is_part || matches!(verdict.captured, Captured::Missed { .. }) =>
        {
            let captured_at = Timestamp::try_from(*captured_at).unwrap_or(now);
            let frame = FrameRef { seq: *seq, captured_at, width: 0, height: 0 };
            uninspected(book, camera, verdict, &frame, config)
        }
        _ if !has_parts => book.ends(camera, condition::MISSED, now),
        _ if is_part && verdict.no_verdict.is_none() => book.served(camera, now),
        _ => Entry::default(),
    }
}

/// A part without a verdict, and why.
fn uninspected(book: &mut AlarmBook, camera: &str, verdict: &Verdict, frame: &FrameRef, config: &Config) -> Entry {
    let reason = verdict.no_verdict.as_deref().unwrap_or_default();
    let mut findings = vec![condition::finding(condition::MISSED, 1.0, frame)];
    rules::apply(&config.alarm.rules, camera, (1, 1), &mut findings);
    findings
        .first()
        .map_or_else(Entry::default, |finding| book.missed(camera, finding, reason, frame, Timestamp::now()))
}

/// What becomes of the alarms about the camera's picture. Those of an earlier run end when its health is known again.
fn health(book: &mut AlarmBook, settings: &Settings, verdict: &Verdict, config: &Config) -> Entry {
    let (now, mut entry, camera) = (Timestamp::now(), Entry::default(), settings.camera.name());
    let Some(frame) = verdict.frame() else { return entry };
    let report = verdict.health.as_ref();
    for change in report.iter().flat_map(|report| &report.changes).filter(|change| change.began) {
        let place = book::of(frame);
        let mut findings = vec![condition::finding(change.fault.as_str(), change.score, &place)];
        rules::apply(&config.alarm.rules, camera, (frame.image.width, frame.image.height), &mut findings);
        if let Some(finding) = findings.first() {
            let picture = Some((&frame.image, verdict));
            let said = Said { finding, reason: &change.reason, frame: &place, counts: false, picture };
            entry.add(book.begins(camera, &said, now));
        }
    }
    for fault in Fault::ALL {
        // Where its picture is watched and nothing is known of this frame, nothing has changed.
        let has_ended = report.map_or(settings.camera.watched().is_none(), |report| {
            let ended = report.changes.iter().any(|change| change.fault == fault && !change.began);
            let is_off = settings.camera.health.off.contains(&fault);
            ended || is_off || (report.figures.learning == 0 && !report.active.contains(&fault))
        });
        if has_ended && book.is_said(camera, fault.as_str()) {
            entry.add(book.ends(camera, fault.as_str(), now));
        }
    }
    entry
}

fn lock(book: &Mutex<AlarmBook>) -> MutexGuard<'_, AlarmBook> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn said(entry: &Entry) {
    for (transition, body) in entry.changes() {
        info!(camera = %body.camera, class = %body.class, score = body.score, alarm = %body.alarm, "{transition:?}");
    }
}
