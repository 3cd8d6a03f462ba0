//! What one frame or one order changes in the alarm book, before it is recorded.

use jiff::Timestamp;
use uuid::Uuid;

use super::quiet::Quiet;
use crate::mqtt::payload::{Alarm, AlarmBody, Transition};
use crate::taught::{Look, Scene};

/// What one frame or one order changes.
#[derive(Debug, Default)]
pub struct Entry {
    pub(super) events: Vec<(Uuid, Transition, Alarm)>,
    /// What is quiet from now on, where that changes.
    pub(super) quiets: Option<Vec<Quiet>>,
    /// Alarms that can be acknowledged no more.
    pub(super) forgotten: Vec<Uuid>,
    /// What the alarms look like, so that an operator can teach them.
    pub(super) looks: Vec<(Uuid, Look)>,
    pub(super) image: Option<(String, Vec<u8>)>,
    pub(super) scene: Option<Scene>,
    pub(super) at: Timestamp,
}

impl Entry {
    /// Nothing yet.
    pub(super) fn new(at: Timestamp) -> Self {
        Self { at, ..Self::default() }
    }

    /// What else changes at the same time; of pictures there is one, the first.
    pub fn add(&mut self, other: Self) {
        self.at = self.at.max(other.at);
        self.events.extend(other.events);
        self.forgotten.extend(other.forgotten);
        self.looks.extend(other.looks);
        self.image = self.image.take().or(other.image);
        self.quiets = other.quiets.or(self.quiets.take());
    }

    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.quiets.is_none()
    }

    /// What happened, for the log.
    pub fn changes(&self) -> impl Iterator<Item = (Transition, &AlarmBody)> {
        self.events.iter().map(|(_, transition, alarm)| (*transition, &alarm.body))
    }
}
