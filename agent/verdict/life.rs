//! What operators do to alarms: acknowledge, comment, and keep quiet (shelve, suppress, take out of service).
//!
//! Guarantees: an order is carried out whole or not at all; the same order again changes nothing; each change is an event. As
//! in the rest of the book, [`AlarmBook::act`] only says what changes, and [`AlarmBook::apply`] comes after it was recorded.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use jiff::Timestamp;
use uuid::Uuid;

use super::book::{AlarmBook, Entry, Page, settle};
use super::quiet::{self, Quiet, Which, Why};
use crate::config::Severity;
use crate::mqtt::payload::{Alarm, AlarmState, Transition};

/// What can be kept quiet at the same time.
pub const QUIETS: usize = 256;

/// Who says so, and what else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// The operator.
    pub by: Option<String>,
    /// What he says.
    pub comment: Option<String>,
}

/// What an operator or the plant wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Somebody knows of these alarms.
    Acknowledge(Vec<Uuid>, Note),
    /// Something is said about these alarms.
    Comment(Vec<Uuid>, Note),
    /// These are quiet from now on.
    Quieten(Vec<Quiet>),
    /// These are quiet no more, as far as this reason goes.
    Release(Why, Vec<Which>, Note),
}

impl AlarmBook {
    /// The active alarms.
    pub fn alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.cameras.values().flat_map(Page::alarms)
    }

    /// How many are active, by severity.
    #[must_use]
    pub fn by_severity(&self) -> BTreeMap<Severity, u64> {
        let mut counts = BTreeMap::from(Severity::ALL.map(|severity| (severity, 0)));
        self.alarms().for_each(|alarm| *counts.entry(alarm.body.severity).or_default() += 1);
        counts
    }

    /// Those that are over and that nobody has acknowledged, the oldest first.
    #[must_use]
    pub fn returned(&self) -> impl DoubleEndedIterator<Item = &Alarm> {
        self.returned.iter()
    }

    /// What is quiet.
    #[must_use]
    pub fn quiets(&self) -> &[Quiet] {
        &self.quiets
    }

    fn find(&self, id: Uuid) -> Result<&Alarm> {
        match self.alarms().chain(&self.returned).find(|alarm| alarm.body.alarm == id) {
            Some(alarm) => Ok(alarm),
            None => {
                bail!("alarm {id} is neither active here nor waiting to be acknowledged; `alarms` lists those that are")
            }
        }
    }

    /// What an order changes.
    ///
    /// # Errors
    /// An alarm that is not there, a camera that is not there, too much is quiet, or the disk refuses at the moment.
    pub fn act(&self, action: &Action, now: Timestamp) -> Result<Entry> {
        ensure!(!self.waiting, "nothing can be recorded at the moment (is the disk full?): try again later");
        let mut entry = Entry::new(now);
        match action {
            Action::Acknowledge(alarms, note) => {
                for id in each_once(alarms) {
                    let mut alarm = self.find(id)?.clone();
                    if alarm.body.acknowledged {
                        continue;
                    }
                    alarm.body.acknowledged = true;
                    say(&mut alarm, note);
                    match alarm.body.state {
                        AlarmState::ReturnedToNormalUnacknowledged => alarm.body.state = AlarmState::Normal,
                        _ => settle(&mut alarm.body, &self.quiets, now),
                    }
                    entry.events.push((Uuid::now_v7(), Transition::Acknowledged, alarm));
                }
            }
            Action::Comment(alarms, note) => {
                for id in each_once(alarms) {
                    let mut alarm = self.find(id)?.clone();
                    let before = (alarm.body.by.clone(), alarm.body.comment.clone());
                    say(&mut alarm, note);
                    if (&alarm.body.by, &alarm.body.comment) != (&before.0, &before.1) {
                        entry.events.push((Uuid::now_v7(), Transition::Commented, alarm));
                    }
                }
            }
            Action::Quieten(new) => {
                let mut list = self.quiets.clone();
                for quiet in new {
                    self.check(&quiet.which)?;
                    list.retain(|old| (old.why, &old.which) != (quiet.why, &quiet.which));
                    list.push(quiet.clone());
                }
                list.retain(|quiet| !quiet.is_over(now));
                ensure!(
                    list.len() <= QUIETS,
                    "{QUIETS} things are quiet already; take some back first (`alarms` lists them)"
                );
                let note = new.first().map(|q| Note { by: q.by.clone(), comment: q.comment.clone() });
                self.resettle(list, &note.unwrap_or_default(), &mut entry);
            }
            Action::Release(why, which, note) => {
                let mut list = self.quiets.clone();
                for which in which {
                    let before = list.len();
                    list.retain(|old| (old.why, &old.which) != (*why, which));
                    ensure!(
                        list.len() < before,
                        "{which} is not there to be taken back; name it as it was named then (`alarms` lists what is quiet)"
                    );
                }
                self.resettle(list, note, &mut entry);
            }
        }
        Ok(entry)
    }

    /// What the passing of time changes: what comes off the shelf.
    #[must_use]
    pub fn tick(&self, now: Timestamp) -> Entry {
        let mut entry = Entry::new(now);
        let is_active = |which: &Which| self.alarms().any(|alarm| which.holds(&alarm.body));
        // What is quiet for one alarm ends with it.
        let stays = |quiet: &&Quiet| {
            !quiet.is_over(now) && (matches!(quiet.which, Which::All { .. }) || is_active(&quiet.which))
        };
        let list: Vec<Quiet> = self.quiets.iter().filter(stays).cloned().collect();
        if !self.waiting && list.len() < self.quiets.len() {
            self.resettle(list, &Note::default(), &mut entry);
        }
        entry
    }

    /// What brings all states in line with what is quiet now.
    pub(super) fn settled(&self, now: Timestamp) -> Entry {
        let mut entry = Entry::new(now);
        self.resettle(
            self.quiets.iter().filter(|quiet| !quiet.is_over(now)).cloned().collect(),
            &Note::default(),
            &mut entry,
        );
        if entry.events.is_empty() {
            entry.quiets = None;
        }
        entry
    }

    fn check(&self, which: &Which) -> Result<()> {
        match which {
            Which::One { alarm } => {
                ensure!(self.alarms().any(|a| a.body.alarm == *alarm), "alarm {alarm} is not active here");
            }
            Which::All { camera, .. } => {
                let names = || self.cameras.keys().map(AsRef::as_ref).collect::<BTreeSet<&str>>();
                let is_here = self.cameras.contains_key(camera.as_str());
                ensure!(is_here, "there is no camera {camera}; there are {}", Vec::from_iter(names()).join(", "));
            }
        }
        Ok(())
    }

    /// The states that follow from another list.
    fn resettle(&self, list: Vec<Quiet>, note: &Note, entry: &mut Entry) {
        for alarm in self.alarms() {
            let (mut alarm, before) = (alarm.clone(), (alarm.body.state, alarm.body.until));
            settle(&mut alarm.body, &list, entry.at);
            if (alarm.body.state, alarm.body.until) != before {
                let transition = match (quiet::why(before.0), quiet::why(alarm.body.state)) {
                    (_, Some(why)) => why.begins(),
                    (Some(why), None) => why.ends(),
                    (None, None) => Transition::Updated,
                };
                say(&mut alarm, note);
                entry.events.push((Uuid::now_v7(), transition, alarm));
            }
        }
        entry.quiets = Some(list);
    }

    /// Takes over what was recorded.
    pub fn apply(&mut self, entry: &Entry) {
        for (_, _, alarm) in &entry.events {
            let id = alarm.body.alarm;
            let active = self
                .cameras
                .values_mut()
                .flat_map(|page| page.active.values_mut().chain(&mut page.flood).chain(page.conditions.values_mut()));
            active.filter(|a| a.body.alarm == id).for_each(|a| a.clone_from(alarm));
            if alarm.body.state == AlarmState::Normal {
                self.returned.retain(|a| a.body.alarm != id);
            } else if let Some(returned) = self.returned.iter_mut().find(|a| a.body.alarm == id) {
                returned.clone_from(alarm);
            }
        }
        if let Some(list) = &entry.quiets {
            self.quiets.clone_from(list);
        }
    }
}

fn each_once(alarms: &[Uuid]) -> BTreeSet<Uuid> {
    alarms.iter().copied().collect()
}

/// What was said stays until something else is said.
fn say(alarm: &mut Alarm, note: &Note) {
    if note.by.is_some() {
        alarm.body.by.clone_from(&note.by);
    }
    if note.comment.is_some() {
        alarm.body.comment.clone_from(&note.comment);
    }
}

#[cfg(test)]
mod tests;
