//! The alarm book: what is active on this gateway, and what each verdict changes in it.
//!
//! Deciding and recording are apart: [`AlarmBook::decide`] says what a frame changes, [`AlarmBook::record`] puts that
//! into the outbox in one transaction (snapshot, event, retained state, and the alarm itself for the next start). A
//! record that failed, because the disk is full, can be tried again with the same ids until it holds.
//!
//! What operators do is in `life.rs`. An alarm that is over and that nobody has acknowledged stays in the book, though not on
//! the broker, so that it still can be; the latest [`RETURNED`] of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tracing::warn;
use uuid::Uuid;

pub use super::entry::Entry;
use super::quiet::{self, Quiet};
use super::track::{Change, Tracker};
use super::{Verdict, snapshot};
use crate::config::{AlarmConfig, Severity};
use crate::frame::{Frame, Image};
use crate::mqtt::payload::{
    Alarm, AlarmBody, AlarmEvent, AlarmKind, AlarmState, Finding, FrameRef, ModelRef, Transition,
};
use crate::mqtt::topics::Topics;
use crate::outbox::{Kind, Message, Outbox, Transaction};

/// The class of the summary alarm that stands for more findings than may be active.
pub const FLOOD: &str = "flood";
/// Alarms that are over and can still be acknowledged.
pub const RETURNED: usize = 1000;
/// Under which the quiet ones are kept.
const QUIET: &str = "quiet";

/// Who speaks.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The plant.
    pub site: String,
    /// The gateway.
    pub gateway: String,
    /// The active bundle.
    pub model: ModelRef,
}

/// The book.
pub struct AlarmBook {
    identity: Identity,
    topics: Topics,
    pub(super) config: AlarmConfig,
    pub(super) cameras: HashMap<Arc<str>, Page>,
    /// Over, and not acknowledged; the oldest first.
    pub(super) returned: VecDeque<Alarm>,
    pub(super) quiets: Vec<Quiet>,
    /// What was decided waits for the disk: nothing else may be recorded before it.
    pub waiting: bool,
}

pub(super) struct Page {
    pub(super) tracker: Tracker,
    /// By the tracks' numbers.
    pub(super) active: HashMap<u64, Alarm>,
    pub(super) flood: Option<Alarm>,
    /// What is wrong with the camera itself, by class.
    pub(super) conditions: BTreeMap<String, Alarm>,
    /// Parts in a row that were inspected.
    pub(super) served: u64,
}

impl Page {
    fn new(config: &AlarmConfig) -> Self {
        let (active, conditions) = (HashMap::new(), BTreeMap::new());
        Self { tracker: Tracker::new(config), active, flood: None, conditions, served: 0 }
    }

    /// Its active alarms.
    pub(super) fn alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.active.values().chain(&self.flood).chain(self.conditions.values())
    }
}

impl AlarmBook {
    /// A book for these cameras that goes on with the alarms of the run before. Alarms of a camera that is not
    /// configured any more are cleared.
    ///
    /// # Errors
    /// The outbox cannot be read or written.
    pub fn open(identity: Identity, config: &AlarmConfig, cameras: &[Arc<str>], outbox: &Outbox) -> Result<Self> {
        let quiets = outbox.note(QUIET)?.map_or_else(Vec::new, |text| {
            serde_json::from_str(&text).unwrap_or_else(|e| {
                warn!("what was shelved or suppressed cannot be read and is forgotten: {e}");
                Vec::new()
            })
        });
        let mut book = Self {
            topics: Topics::new(&identity.site, &identity.gateway),
            identity,
            config: config.clone(),
            cameras: cameras.iter().map(|name| (Arc::clone(name), Page::new(config))).collect(),
            returned: VecDeque::new(),
            quiets,
            waiting: false,
        };
        let mut orphans = Entry::new(Timestamp::now());
        for saved in outbox.alarms()? {
            let alarm: Alarm = match serde_json::from_str(&saved) {
                Ok(alarm) => alarm,
                Err(e) => {
                    warn!("a saved alarm cannot be read and is left out: {e}");
                    continue;
                }
            };
            if is_gone(alarm.body.state) {
                book.returned.push_back(alarm);
            } else if let Some(page) = book.cameras.get_mut(alarm.body.camera.as_str()) {
                if let (FLOOD, Some(count)) = (alarm.body.class.as_str(), alarm.body.count) {
                    page.tracker.restore_flood(count);
                    page.flood = Some(alarm);
                } else if alarm.body.kind == AlarmKind::Camera {
                    page.conditions.insert(alarm.body.class.clone(), alarm);
                } else {
                    let track = page.tracker.restore(finding_of(&alarm.body));
                    page.active.insert(track, alarm);
                }
            } else {
                book.clear(alarm, &mut orphans);
            }
        }
        book.record(&orphans, outbox)?;
        // What is quiet may have been lost with a damaged file, or be over.
        let now = orphans.at;
        let settled = book.settled(now);
        book.record(&settled, outbox)?;
        book.apply(&settled);
        Ok(book)
    }

    /// Active alarms.
    #[must_use]
    pub fn active(&self) -> usize {
        self.alarms().count()
    }

    /// Another configuration, and other cameras; what is active goes on. Alarms of a camera that is gone are cleared.
    ///
    /// # Errors
    /// That cannot be recorded at the moment; nothing has changed then.
    pub fn configure(
        &mut self,
        config: &AlarmConfig,
        cameras: &[Arc<str>],
        outbox: &Outbox,
        now: Timestamp,
    ) -> Result<()> {
        ensure!(!self.waiting, "alarms cannot be recorded at the moment (is the disk full?): try again later");
        let gone: Vec<Arc<str>> = self.cameras.keys().filter(|name| !cameras.contains(name)).cloned().collect();
        let alarms = gone.iter().filter_map(|name| self.cameras.get(name)).flat_map(Page::alarms);
        let (alarms, returned) = (alarms.cloned().collect::<Vec<_>>(), self.returned.clone());
        let mut entry = Entry::new(now);
        alarms.into_iter().for_each(|alarm| self.clear(alarm, &mut entry));
        if let Err(e) = self.record(&entry, outbox) {
            self.returned = returned;
            return Err(e);
        }
        gone.iter().for_each(|name| drop(self.cameras.remove(name)));
        self.cameras.values_mut().for_each(|page| page.tracker.configure(config));
        for name in cameras {
            self.cameras.entry(Arc::clone(name)).or_insert_with(|| Page::new(config));
        }
        self.config = config.clone();
        Ok(())
    }

    /// What a verdict changes. Must be called once a verdict, in the camera's order. A snapshot that cannot be made
    /// (a side over 65,535 px) is left out; the alarm is not.
    pub fn decide(&mut self, camera: &str, verdict: &Verdict, now: Timestamp) -> Entry {
        if self.identity.model != *verdict.model {
            self.identity.model = ModelRef::clone(&verdict.model); // from now on another one says so
        }
        let (Some(page), Some(frame), None) = (self.cameras.get_mut(camera), verdict.frame(), &verdict.no_verdict)
        else {
            return Entry::default(); // a frame without a verdict says nothing about any alarm
        };
        let seconds = Timestamp::try_from(frame.captured_at).unwrap_or(now).as_millisecond() as f64 / 1000.0;
        let changes = page.tracker.step(&verdict.findings, (frame.image.width, frame.image.height), seconds);
        if changes.is_empty() {
            return Entry::default();
        }
        let raises = changes.iter().any(|c| !matches!(c, Change::Cleared(..) | Change::Ebb));
        let snapshot = || {
            picture(&frame.image, verdict, &self.config)
                .inspect_err(|e| warn!(camera, "an alarm goes without a snapshot: {e:#}"))
                .ok()
        };
        let image = if raises { snapshot() } else { None };
        let scene = if image.is_some() { verdict.scene.clone() } else { None };
        let mut entry = Entry { image, scene, at: now, ..Entry::default() };
        let mut gone = Vec::new();
        let hash = entry.image.as_ref().map(|(hash, _)| hash.as_str());
        for change in changes {
            let (transition, alarm) = match change {
                Change::Raised(track, finding) => {
                    let body = body(camera, of(frame), &finding, hash);
                    entry.looks.extend(finding.look.map(|look| (body.alarm, look)));
                    let alarm = Alarm { schema: "inspect.alarm/1".into(), raised_at: now, body };
                    (Transition::Raised, page.active.entry(track).insert_entry(alarm).into_mut())
                }
                Change::Updated(track, finding) => {
                    let Some(alarm) = page.active.get_mut(&track) else { continue };
                    entry.looks.extend(finding.look.as_ref().map(|look| (alarm.body.alarm, look.clone())));
                    worsened(&mut alarm.body, body(camera, of(frame), &finding, hash));
                    (Transition::Updated, alarm)
                }
                Change::Flood(count) => {
                    let body = AlarmBody { count: Some(count), ..body(camera, of(frame), &flood(verdict), hash) };
                    let alarm = Alarm { schema: "inspect.alarm/1".into(), raised_at: now, body };
                    (Transition::Raised, page.flood.insert(alarm))
                }
                Change::Rising(count) => {
                    let Some(alarm) = page.flood.as_mut() else { continue };
                    worsened(&mut alarm.body, body(camera, of(frame), &flood(verdict), hash));
                    alarm.body.count = Some(count);
                    (Transition::Updated, alarm)
                }
                Change::Cleared(track, _) => {
                    gone.extend(page.active.remove(&track));
                    continue;
                }
                Change::Ebb => {
                    gone.extend(page.flood.take());
                    continue;
                }
            };
            alarm.body.untrusted = verdict.untrusted();
            if alarm.body.kind == AlarmKind::Anomaly {
                let size = (frame.image.width, frame.image.height);
                alarm.body.heat = verdict.heat.as_ref().and_then(|heat| heat.patch(size));
            }
            settle(&mut alarm.body, &self.quiets, now);
            entry.events.push((Uuid::now_v7(), transition, alarm.clone()));
        }
        for alarm in gone {
            self.clear(alarm, &mut entry);
        }
        entry
    }

    /// An alarm's finding is gone.
    pub(super) fn clear(&mut self, mut alarm: Alarm, entry: &mut Entry) {
        alarm.body.state = quiet::state_gone(alarm.body.acknowledged, alarm.body.state);
        alarm.body.until = None;
        if alarm.body.state == AlarmState::ReturnedToNormalUnacknowledged {
            self.returned.push_back(alarm.clone());
            if self.returned.len() > RETURNED {
                entry.forgotten.extend(self.returned.pop_front().map(|oldest| oldest.body.alarm));
            }
        }
        entry.events.push((Uuid::now_v7(), Transition::Cleared, alarm));
    }

    /// Findings of a camera that were counted in a flood instead of raised.
    #[must_use]
    pub fn suppressed(&self, camera: &str) -> u64 {
        self.cameras.get(camera).map_or(0, |page| page.tracker.suppressed())
    }

    /// Appends an entry to the outbox: the snapshot before the events that name it.
    ///
    /// # Errors
    /// The outbox cannot be written; nothing of the entry was kept.
    pub fn record(&self, entry: &Entry, outbox: &Outbox) -> Result<()> {
        if entry.is_empty() {
            return Ok(());
        }
        outbox.transaction(|transaction| {
            if let Some((hash, jpeg)) = &entry.image {
                let topic = self.topics.image(hash);
                let (payload, retain, subject) = (jpeg.clone(), false, None);
                transaction.push(&Message { kind: Kind::Image, topic, payload, retain, subject })?;
                if let Some(scene) = &entry.scene {
                    transaction.save_scene(hash, scene.bytes())?;
                }
            }
            for (alarm, look) in &entry.looks {
                transaction.save_look(&alarm.to_string(), look.values())?;
            }
            if let Some(quiets) = &entry.quiets {
                transaction
                    .save_note(QUIET, &serde_json::to_string(quiets).context("what is quiet cannot be written")?)?;
            }
            for (id, transition, alarm) in &entry.events {
                let event = AlarmEvent {
                    schema: "inspect.event/1".into(),
                    id: *id,
                    seq: transaction.next_seq()?,
                    at: entry.at,
                    site: self.identity.site.clone(),
                    gateway: self.identity.gateway.clone(),
                    transition: *transition,
                    body: alarm.body.clone(),
                    model: self.identity.model.clone(),
                    replayed: false,
                };
                self.push(transaction, &event, alarm)?;
            }
            entry.forgotten.iter().try_for_each(|id| transaction.forget_alarm(&id.to_string()))
        })
    }

    /// An event, and what it makes of the alarm's own topic and of what is kept for the next start.
    fn push(&self, transaction: &mut Transaction, event: &AlarmEvent, alarm: &Alarm) -> Result<()> {
        let key = alarm.body.alarm.to_string();
        let payload = serde_json::to_vec(event).context("an event cannot be written as JSON")?;
        let (topic, subject) = (self.topics.events(), Some(key.clone()));
        transaction.push(&Message { kind: Kind::Event, topic, payload, retain: false, subject })?;
        let saved = serde_json::to_string(alarm).context("an alarm cannot be written as JSON")?;
        if alarm.body.state == AlarmState::Normal {
            transaction.forget_alarm(&key)?;
        } else {
            transaction.save_alarm(&key, &saved, !is_gone(alarm.body.state))?;
        }
        // An empty retained message takes the alarm off the broker; what is gone is off already.
        let payload = match (event.transition, is_gone(alarm.body.state)) {
            (Transition::Cleared, _) => Vec::new(),
            (_, true) => return Ok(()),
            _ => saved.into_bytes(),
        };
        let (topic, subject) = (self.topics.alarm(&key), Some(key));
        transaction.push(&Message { kind: Kind::Alarm, topic, payload, retain: true, subject })
    }
}

/// Brings an active alarm's state in line with what is quiet.
pub(super) fn settle(body: &mut AlarmBody, quiets: &[Quiet], now: Timestamp) {
    let reason = quiet::reason(body, quiets, now);
    body.state = quiet::state(body.acknowledged, reason.map(|(why, _)| why));
    body.until = reason.and_then(|(_, until)| until);
}

pub(super) fn is_gone(state: AlarmState) -> bool {
    matches!(state, AlarmState::Normal | AlarmState::ReturnedToNormalUnacknowledged)
}

/// Where an alarm was seen.
#[must_use]
pub fn of(frame: &Frame) -> FrameRef {
    FrameRef {
        seq: frame.seq,
        captured_at: Timestamp::try_from(frame.captured_at).unwrap_or_default(),
        width: frame.image.width,
        height: frame.image.height,
    }
}

/// A frame as it is published: its hash, and JPEG.
///
/// # Errors
/// Sides over 65,535 px.
pub fn picture(image: &Image, verdict: &Verdict, config: &AlarmConfig) -> Result<(String, Vec<u8>)> {
    let most = config.snapshot_kib.get() as usize * 1024;
    let (findings, heat) =
        if config.snapshot_marks { (&verdict.findings[..], verdict.heat.as_ref()) } else { (&[][..], None) };
    let jpeg = snapshot::render(image, findings, heat, most)?;
    Ok((hex::encode(Sha256::digest(&jpeg)), jpeg))
}

pub(super) fn body(camera: &str, frame: FrameRef, finding: &Finding, image: Option<&str>) -> AlarmBody {
    AlarmBody {
        alarm: Uuid::now_v7(),
        camera: camera.to_owned(),
        state: AlarmState::Unacknowledged,
        kind: finding.kind,
        class: finding.class.clone(),
        severity: finding.severity,
        score: finding.score,
        bbox: finding.bbox,
        frame,
        image: image.map(str::to_owned),
        heat: None,
        acknowledged: false,
        until: None,
        by: None,
        comment: None,
        count: None,
        reason: None,
        untrusted: Vec::new(),
    }
}

/// What was seen now, with what the alarm has of its own.
pub(super) fn worsened(body: &mut AlarmBody, new: AlarmBody) {
    let (by, comment) = (body.by.take(), body.comment.take());
    *body = AlarmBody { alarm: body.alarm, acknowledged: body.acknowledged, by, comment, count: body.count, ..new };
}

/// What stands for a whole frame: the worst of its findings, and where they all lie.
fn flood(verdict: &Verdict) -> Finding {
    let all = &verdict.findings;
    let edge =
        |k: usize, f: fn(f32, f32) -> f32| all.iter().map(|finding| finding.bbox[k]).reduce(f).unwrap_or_default();
    Finding {
        kind: AlarmKind::Camera,
        class: FLOOD.into(),
        severity: all.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Major),
        score: all.iter().map(|finding| finding.score).fold(0.0, f32::max),
        bbox: [edge(0, f32::min), edge(1, f32::min), edge(2, f32::max), edge(3, f32::max)],
        look: None,
        appearance: None,
    }
}

fn finding_of(body: &AlarmBody) -> Finding {
    let AlarmBody { kind, class, severity, score, bbox, .. } = body.clone();
    Finding { kind, class, severity, score, bbox, look: None, appearance: None }
}

#[cfg(test)]
pub(super) mod tests;
