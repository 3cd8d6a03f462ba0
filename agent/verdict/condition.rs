//! Alarms about a camera itself (kind `camera`): parts that it missed, and what is wrong with its picture. One of each class a camera.
//!
//! They live in the alarm book beside those of findings, with the same states, the same orders of operators, and the same way into
//! the outbox; only what raises and clears them is another: not a track, but the camera saying so.

use jiff::Timestamp;
use uuid::Uuid;

use super::book::{AlarmBook, Entry, body, settle, worsened};
use crate::config::Severity;
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

impl AlarmBook {
    /// Something is wrong with a camera. Said again, it changes nothing but with `counts`: then each time is an event, with the number
    /// of times.
    pub fn begins(&mut self, camera: &str, finding: &Finding, frame: FrameRef, counts: bool, now: Timestamp) -> Entry {
        let mut entry = Entry::new(now);
        let Some(page) = self.cameras.get_mut(camera) else { return entry };
        let transition = match page.conditions.get_mut(&finding.class) {
            Some(_) if !counts => return entry,
            Some(alarm) => {
                worsened(&mut alarm.body, body(camera, frame, finding, None));
                alarm.body.count = alarm.body.count.map(|count| count + 1);
                Transition::Updated
            }
            None => {
                let body = AlarmBody { count: counts.then_some(1), ..body(camera, frame, finding, None) };
                let alarm = Alarm { schema: "inspect.alarm/1".into(), raised_at: now, body };
                page.conditions.insert(finding.class.clone(), alarm);
                Transition::Raised
            }
        };
        if let Some(alarm) = page.conditions.get_mut(&finding.class) {
            settle(&mut alarm.body, &self.quiets, now);
            entry.events.push((Uuid::now_v7(), transition, alarm.clone()));
        }
        entry
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
    pub fn missed(&mut self, camera: &str, finding: &Finding, frame: FrameRef, now: Timestamp) -> Entry {
        if let Some(page) = self.cameras.get_mut(camera) {
            page.served = 0;
        }
        self.begins(camera, finding, frame, true, now)
    }

    /// A part was inspected; `clear_after` of them in a row clear the alarm about those that were not.
    pub fn served(&mut self, camera: &str, now: Timestamp) -> Entry {
        let enough = self.config.clear_after.get();
        let Some(page) = self.cameras.get_mut(camera) else { return Entry::new(now) };
        page.served += 1;
        if page.served < enough { Entry::new(now) } else { self.ends(camera, MISSED, now) }
    }
}
