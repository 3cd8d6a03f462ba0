//! Alarms about a camera itself (kind `camera`): parts that it missed, and what is wrong with its picture. One of each class a camera.
//!
//! They live in the alarm book beside those of findings, with the same states, the same orders of operators, and the same way into
//! the outbox; only what raises and clears them is another: not a track, but the camera saying so.

use jiff::Timestamp;
use uuid::Uuid;

use super::Verdict;
use super::book::{AlarmBook, Entry, body, picture, settle, worsened};
use crate::config::Severity;
use crate::frame::Image;
use crate::mqtt::payload::{Alarm, AlarmBody, AlarmKind, Finding, FrameRef, Transition};

/// The class of the alarm about parts that were not inspected.
pub const MISSED: &str = "missed";

/// What is wrong with a camera, as a finding, so that the rules of the configuration count for it as for any other.
#[must_use]
pub fn finding(class: &str, score: f32, frame: &FrameRef) -> Finding {
    let bbox = [0.0, 0.0, frame.width as f32, frame.height as f32];
    let (kind, class, severity) = (AlarmKind::Camera, class.to_owned(), Severity::Major);
    Finding { kind, class, severity, score, bbox, look: None, appearance: None }
}

/// What a camera says of itself.
#[derive(Clone, Copy)]
pub struct Said<'s> {
    /// What is wrong.
    pub finding: &'s Finding,
    /// Why, in words.
    pub reason: &'s str,
    /// Where it was seen.
    pub frame: &'s FrameRef,
    /// Each time is an event.
    pub counts: bool,
    /// What it looks like.
    pub picture: Option<(&'s Image, &'s Verdict)>,
}

impl AlarmBook {
    /// Something is wrong with a camera. Said again, it changes nothing but with `counts`: then each time is an event, with the number
    /// of times.
    pub fn begins(&mut self, camera: &str, said: &Said, now: Timestamp) -> Entry {
        let Said { finding, reason, frame, counts, picture: shown } = *said;
        let mut entry = Entry::new(now);
        let Some(page) = self.cameras.get_mut(camera) else { return entry };
        let is_told = counts || !page.conditions.contains_key(&finding.class);
        let image = shown.filter(|_| is_told).and_then(|(image, verdict)| picture(image, verdict, &self.config).ok());
        let hash = image.as_ref().map(|(hash, _)| hash.as_str());
        let mut new = body(camera, frame.clone(), finding, hash);
        new.reason = Some(reason.to_owned());
        let transition = match page.conditions.get_mut(&finding.class) {
            Some(_) if !counts => return entry,
            Some(alarm) => {
                worsened(&mut alarm.body, new);
                alarm.body.count = alarm.body.count.map(|count| count + 1);
                Transition::Updated
            }
            None => {
                let body = AlarmBody { count: counts.then_some(1), ..new };
                let alarm = Alarm { schema: "inspect.alarm/1".into(), raised_at: now, body };
                page.conditions.insert(finding.class.clone(), alarm);
                Transition::Raised
            }
        };
        if let Some(alarm) = page.conditions.get_mut(&finding.class) {
            settle(&mut alarm.body, &self.quiets, now);
            entry.events.push((Uuid::now_v7(), transition, alarm.clone()));
        }
        entry.image = image;
        entry
    }

    /// Whether this is said of a camera.
    #[must_use]
    pub fn is_said(&self, camera: &str, class: &str) -> bool {
        self.cameras.get(camera).is_some_and(|page| page.conditions.contains_key(class))
    }

    /// It is right again.
    pub fn ends(&mut self, camera: &str, class: &str, now: Timestamp) -> Entry {
        let mut entry = Entry::new(now);
        let gone = self.cameras.get_mut(camera).and_then(|page| page.conditions.remove(class));
        if let Some(alarm) = gone {
            self.clear(alarm, &mut entry);
        }
        entry
    }

    /// A part was not inspected: each is an event, of one alarm.
    pub fn missed(&mut self, camera: &str, finding: &Finding, reason: &str, frame: &FrameRef, now: Timestamp) -> Entry {
        if let Some(page) = self.cameras.get_mut(camera) {
            page.served = 0;
        }
        self.begins(camera, &Said { finding, reason, frame, counts: true, picture: None }, now)
    }

    /// A part was inspected; `clear_after` of them in a row clear the alarm about those that were not.
    pub fn served(&mut self, camera: &str, now: Timestamp) -> Entry {
        let enough = self.config.clear_after.get();
        let Some(page) = self.cameras.get_mut(camera) else { return Entry::new(now) };
        page.served += 1;
        if page.served < enough { Entry::new(now) } else { self.ends(camera, MISSED, now) }
    }
}
