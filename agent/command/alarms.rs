//! What operators command about alarms, as types, and how it is done.

use std::sync::{MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Office;
use crate::config::Name;
use crate::config::value::Minutes;
use crate::mqtt::payload::Alarm;
use crate::verdict::book::AlarmBook;
use crate::verdict::life::{Action, Note};
use crate::verdict::quiet::{Quiet, Which, Why};

/// Alarms that one command may name.
const ALARMS: usize = 100;
/// Letters of a name, and of a comment.
const LETTERS: (usize, usize) = (100, 1000);
/// Of each kind the latest that a reply lists, so that it fits into the smallest packet that can be configured,
const LISTED: usize = 30;
/// and letters of a comment in it.
const EXCERPT: usize = 80;

/// `…/commands/ack/{id}`: somebody knows of these alarms.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// Their ids: active ones, or such as are over and were not acknowledged.
    #[schemars(length(min = 1, max = 100))]
    pub alarms: Vec<Uuid>,
    /// The operator.
    #[serde(default)]
    pub by: Option<String>,
    /// What he says.
    #[serde(default)]
    pub comment: Option<String>,
}

/// `…/commands/comment/{id}`: something is said about these alarms.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Comment {
    /// Their ids.
    #[schemars(length(min = 1, max = 100))]
    pub alarms: Vec<Uuid>,
    /// The operator.
    #[serde(default)]
    pub by: Option<String>,
    /// What he says.
    pub comment: String,
}

/// `…/commands/shelve/{id}`: these are put off: single alarms, or all of a camera and class, those to come as well.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shelve {
    /// Ids of active alarms; or `camera`.
    #[schemars(length(max = 100))]
    #[serde(default)]
    pub alarms: Vec<Uuid>,
    /// The camera.
    #[serde(default)]
    pub camera: Option<Name>,
    /// Name of classes, in which * is any text; all of the camera where none is given.
    #[serde(default)]
    pub class: Option<String>,
    /// For how long, at most a week.
    pub minutes: Minutes,
    /// The operator.
    #[serde(default)]
    pub by: Option<String>,
    /// Why.
    #[serde(default)]
    pub comment: Option<String>,
}

/// `…/commands/suppress/{id}` (the plant's state makes them meaningless), `…/commands/out_of_service/{id}` (maintenance): alarms of
/// a camera and class are quiet until it is taken back.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quieten {
    /// The camera.
    pub camera: Name,
    /// Name of classes, in which * is any text; all of the camera where none is given.
    #[serde(default)]
    pub class: Option<String>,
    /// The operator.
    #[serde(default)]
    pub by: Option<String>,
    /// Why.
    #[serde(default)]
    pub comment: Option<String>,
}

/// `…/commands/unshelve/{id}`, `unsuppress`, `in_service`: takes back what was shelved, suppressed or taken out of service, named as
/// it was then.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Ids of alarms that were shelved one by one; or `camera`.
    #[schemars(length(max = 100))]
    #[serde(default)]
    pub alarms: Vec<Uuid>,
    /// The camera.
    #[serde(default)]
    pub camera: Option<Name>,
    /// Name of classes, as it was given then.
    #[serde(default)]
    pub class: Option<String>,
    /// The operator.
    #[serde(default)]
    pub by: Option<String>,
    /// Why.
    #[serde(default)]
    pub comment: Option<String>,
}

/// `…/commands/alarms/{id}`: what is active, what is over and not acknowledged, and what is quiet.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListAlarms {}

impl Office {
    pub(super) fn acknowledge(&self, Acknowledge { alarms, by, comment }: &Acknowledge) -> Result<Value> {
        self.act(&Action::Acknowledge(some(alarms)?, note(by.as_ref(), comment.as_ref())?))
    }

    pub(super) fn comment(&self, Comment { alarms, by, comment }: &Comment) -> Result<Value> {
        self.act(&Action::Comment(some(alarms)?, note(by.as_ref(), Some(comment))?))
    }

    pub(super) fn shelve(&self, order: &Shelve) -> Result<Value> {
        let span = SignedDuration::from_millis((order.minutes.get() * 60_000.0) as i64);
        let until = Some(Timestamp::now().checked_add(span)?);
        let Note { by, comment } = note(order.by.as_ref(), order.comment.as_ref())?;
        let which = which(&order.alarms, order.camera.as_ref(), order.class.as_deref())?;
        let quiet = |which| Quiet { why: Why::Shelved, which, until, by: by.clone(), comment: comment.clone() };
        self.act(&Action::Quieten(which.into_iter().map(quiet).collect()))
    }

    pub(super) fn quieten(&self, why: Why, order: &Quieten) -> Result<Value> {
        let Note { by, comment } = note(order.by.as_ref(), order.comment.as_ref())?;
        let which = which(&[], Some(&order.camera), order.class.as_deref())?;
        let quiet = |which| Quiet { why, which, until: None, by: by.clone(), comment: comment.clone() };
        self.act(&Action::Quieten(which.into_iter().map(quiet).collect()))
    }

    pub(super) fn release(&self, why: Why, order: &Release) -> Result<Value> {
        let which = which(&order.alarms, order.camera.as_ref(), order.class.as_deref())?;
        self.act(&Action::Release(why, which, note(order.by.as_ref(), order.comment.as_ref())?))
    }

    fn book(&self) -> MutexGuard<'_, AlarmBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act(&self, action: &Action) -> Result<Value> {
        let mut book = self.book();
        let entry = book.act(action, Timestamp::now())?;
        book.record(&entry, &self.outbox)?;
        book.apply(&entry);
        let changed: Vec<Value> =
            entry.changes().map(|(_, body)| json!({ "alarm": body.alarm, "state": body.state })).collect();
        Ok(json!({ "changed": changed }))
    }

    pub(super) fn list_alarms(&self) -> Value {
        let book = self.book();
        let mut active: Vec<_> = book.alarms().collect();
        active.sort_by_key(|alarm| std::cmp::Reverse(alarm.body.alarm));
        let counts = [active.len(), book.returned().count(), book.quiets().len()];
        let shortened: Vec<Alarm> = active.into_iter().take(LISTED).cloned().map(shortened).collect();
        let returned: Vec<_> = book.returned().rev().take(LISTED).map(|alarm| alarm.body.alarm).collect();
        let quiet: Vec<Quiet> = book.quiets().iter().rev().take(LISTED).cloned().map(excerpt).collect();
        json!({
            "active": shortened, "returned": returned, "quiet": quiet,
            "counts": { "active": counts[0], "returned": counts[1], "quiet": counts[2] },
        })
    }
}

fn cut(text: Option<String>) -> Option<String> {
    text.map(|text| text.chars().take(EXCERPT).collect())
}

fn shortened(mut alarm: Alarm) -> Alarm {
    alarm.body.comment = cut(alarm.body.comment);
    alarm
}

fn excerpt(quiet: Quiet) -> Quiet {
    Quiet { comment: cut(quiet.comment), ..quiet }
}

/// Who says what, within bounds.
fn note(by: Option<&String>, comment: Option<&String>) -> Result<Note> {
    let fits = |text: Option<&String>, most| text.is_none_or(|text| text.chars().count() <= most);
    ensure!(fits(by, LETTERS.0), "by: a name has at most {} letters", LETTERS.0);
    ensure!(fits(comment, LETTERS.1), "comment: it may have {} letters", LETTERS.1);
    Ok(Note { by: by.cloned(), comment: comment.cloned() })
}

fn some(alarms: &[Uuid]) -> Result<Vec<Uuid>> {
    ensure!((1..=ALARMS).contains(&alarms.len()), "alarms: {} are named; there may be 1 to {ALARMS}", alarms.len());
    Ok(alarms.to_vec())
}

fn which(alarms: &[Uuid], camera: Option<&Name>, class: Option<&str>) -> Result<Vec<Which>> {
    if let Some(camera) = camera {
        ensure!(alarms.is_empty(), "name alarms or a camera, not both");
        let (camera, class) = (camera.to_string(), class.unwrap_or("*").to_owned());
        ensure!(class.len() <= 64, "class: it may have 64 letters");
        return Ok(vec![Which::All { camera, class }]);
    }
    ensure!(class.is_none(), "class: name the camera as well");
    Ok(some(alarms)?.into_iter().map(|alarm| Which::One { alarm }).collect())
}
