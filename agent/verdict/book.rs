//! The alarm book: what is active on this gateway, and what each verdict changes in it.
//!
//! Deciding and recording are apart: [`AlarmBook::decide`] says what a frame changes, [`AlarmBook::record`] puts that
//! into the outbox in one transaction (snapshot, event, retained state, and the alarm itself for the next start). A
//! record that failed, because the disk is full, can be tried again with the same ids until it holds.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tracing::warn;
use uuid::Uuid;

use super::track::{Change, Tracker};
use super::{Verdict, snapshot};
use crate::config::AlarmConfig;
use crate::frame::{Frame, Image};
use crate::mqtt::payload::{Alarm, AlarmBody, AlarmEvent, AlarmState, Finding, FrameRef, ModelRef, Transition};
use crate::mqtt::topics::Topics;
use crate::outbox::{Kind, Message, Outbox};
use crate::taught::{Look, Scene};

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

/// What one frame changes.
#[derive(Debug, Default)]
pub struct Entry {
    events: Vec<(Uuid, Transition, Alarm)>,
    /// What the alarms look like, so that an operator can teach them.
    looks: Vec<(Uuid, Look)>,
    image: Option<(String, Vec<u8>)>,
    scene: Option<Scene>,
    at: Timestamp,
}

impl Entry {
    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// What happened, for the log.
    pub fn changes(&self) -> impl Iterator<Item = (Transition, &AlarmBody)> {
        self.events.iter().map(|(_, transition, alarm)| (*transition, &alarm.body))
    }
}

/// The book.
pub struct AlarmBook {
    identity: Identity,
    topics: Topics,
    config: AlarmConfig,
    cameras: HashMap<Arc<str>, Page>,
}

struct Page {
    tracker: Tracker,
    active: HashMap<u64, Alarm>,
}

impl AlarmBook {
    /// A book for these cameras that goes on with the alarms of the run before. Alarms of a camera that is not
    /// configured any more are cleared.
    ///
    /// # Errors
    /// The outbox cannot be read or written.
    pub fn open(identity: Identity, config: &AlarmConfig, cameras: &[Arc<str>], outbox: &Outbox) -> Result<Self> {
        let page = || Page { tracker: Tracker::new(config), active: HashMap::new() };
        let mut book = Self {
            topics: Topics::new(&identity.site, &identity.gateway),
            identity,
            config: config.clone(),
            cameras: cameras.iter().map(|name| (Arc::clone(name), page())).collect(),
        };
        let mut orphans = Entry { at: Timestamp::now(), ..Entry::default() };
        for saved in outbox.alarms()? {
            let alarm: Alarm = match serde_json::from_str(&saved) {
                Ok(alarm) => alarm,
                Err(e) => {
                    warn!("a saved alarm cannot be read and is left out: {e}");
                    continue;
                }
            };
            if let Some(page) = book.cameras.get_mut(alarm.body.camera.as_str()) {
                let track = page.tracker.restore(finding_of(&alarm.body));
                page.active.insert(track, alarm);
            } else {
                orphans.events.push((Uuid::now_v7(), Transition::Cleared, cleared(alarm)));
            }
        }
        book.record(&orphans, outbox)?;
        Ok(book)
    }

    /// Active alarms.
    #[must_use]
    pub fn active(&self) -> usize {
        self.cameras.values().map(|page| page.active.len()).sum()
    }

    /// What a verdict changes. Must be called once a verdict, in the camera's order. A snapshot that cannot be made
    /// (a side over 65,535 px) is left out; the alarm is not.
    pub fn decide(&mut self, camera: &str, verdict: &Verdict, now: Timestamp) -> Entry {
        let (Some(page), Some(frame), None) = (self.cameras.get_mut(camera), verdict.frame(), &verdict.no_verdict)
        else {
            return Entry::default(); // a frame without a verdict says nothing about any alarm
        };
        let changes = page.tracker.step(&verdict.findings, (frame.image.width, frame.image.height));
        if changes.is_empty() {
            return Entry::default();
        }
        let raises = changes.iter().any(|c| !matches!(c, Change::Cleared(..)));
        let snapshot = || {
            picture(&frame.image, verdict, &self.config)
                .inspect_err(|e| warn!(camera, "an alarm goes without a snapshot: {e:#}"))
                .ok()
        };
        let image = if raises { snapshot() } else { None };
        let scene = if image.is_some() { verdict.scene.clone() } else { None };
        let mut entry = Entry { image, scene, at: now, ..Entry::default() };
        for change in changes {
            let (transition, alarm) = match change {
                Change::Raised(track, finding) => {
                    let body = body(camera, frame, &finding, entry.image.as_ref());
                    entry.looks.extend(finding.look.map(|look| (body.alarm, look)));
                    let alarm = Alarm { schema: "inspect.alarm/1".into(), raised_at: now, body };
                    page.active.insert(track, alarm.clone());
                    (Transition::Raised, alarm)
                }
                Change::Updated(track, finding) => {
                    let Some(alarm) = page.active.get_mut(&track) else { continue };
                    let new = body(camera, frame, &finding, entry.image.as_ref());
                    entry.looks.extend(finding.look.map(|look| (alarm.body.alarm, look)));
                    alarm.body = AlarmBody { alarm: alarm.body.alarm, state: alarm.body.state, ..new };
                    (Transition::Updated, alarm.clone())
                }
                Change::Cleared(track, _) => {
                    let Some(alarm) = page.active.remove(&track) else { continue };
                    (Transition::Cleared, cleared(alarm))
                }
            };
            entry.events.push((Uuid::now_v7(), transition, alarm));
        }
        entry
    }

    /// Alarms of a camera that were not raised because too many were active.
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
                transaction.push(&Message { kind: Kind::Image, topic, payload: jpeg.clone(), retain: false })?;
                if let Some(scene) = &entry.scene {
                    transaction.save_scene(hash, scene.bytes())?;
                }
            }
            for (alarm, look) in &entry.looks {
                transaction.save_look(&alarm.to_string(), look.values())?;
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
                let payload = serde_json::to_vec(&event).context("an event cannot be written as JSON")?;
                transaction.push(&Message {
                    kind: Kind::Event,
                    topic: self.topics.events(),
                    payload,
                    retain: false,
                })?;
                let key = alarm.body.alarm.to_string();
                let payload = if *transition == Transition::Cleared {
                    transaction.forget_alarm(&key)?;
                    Vec::new() // an empty retained message takes the alarm off the broker
                } else {
                    let saved = serde_json::to_string(alarm).context("an alarm cannot be written as JSON")?;
                    transaction.save_alarm(&key, &saved)?;
                    saved.into_bytes()
                };
                let topic = self.topics.alarm(&key);
                transaction.push(&Message { kind: Kind::Alarm, topic, payload, retain: true })?;
            }
            Ok(())
        })
    }
}

fn picture(image: &Image, verdict: &Verdict, config: &AlarmConfig) -> Result<(String, Vec<u8>)> {
    let most = config.snapshot_kib.get() as usize * 1024;
    let jpeg = snapshot::render(image, &verdict.findings, verdict.heat.as_ref(), most)?;
    Ok((hex::encode(Sha256::digest(&jpeg)), jpeg))
}

fn body(camera: &str, frame: &Frame, finding: &Finding, image: Option<&(String, Vec<u8>)>) -> AlarmBody {
    AlarmBody {
        alarm: Uuid::now_v7(),
        camera: camera.to_owned(),
        state: AlarmState::Unacknowledged,
        kind: finding.kind,
        class: finding.class.clone(),
        severity: finding.severity,
        score: finding.score,
        bbox: finding.bbox,
        frame: FrameRef {
            seq: frame.seq,
            captured_at: Timestamp::try_from(frame.captured_at).unwrap_or_default(),
            width: frame.image.width,
            height: frame.image.height,
        },
        image: image.map(|(hash, _)| hash.clone()),
    }
}

fn cleared(alarm: Alarm) -> Alarm {
    let state = match alarm.body.state {
        AlarmState::Acknowledged => AlarmState::Normal,
        _ => AlarmState::ReturnedToNormalUnacknowledged,
    };
    Alarm { body: AlarmBody { state, ..alarm.body }, ..alarm }
}

fn finding_of(body: &AlarmBody) -> Finding {
    let AlarmBody { kind, class, severity, score, bbox, .. } = body.clone();
    Finding { kind, class, severity, score, bbox, look: None }
}

#[cfg(test)]
mod tests;
