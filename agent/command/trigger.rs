//! The command `trigger`: a picture is inspected, and the reply is its verdict. It is answered when that is there, and no other command
//! waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::order::{self, Trigger};
use super::{Answered, Incoming, Office, reply, send};
use crate::config::{Milliseconds, Name};
use crate::mqtt::link::Receipt;
use crate::mqtt::payload::FrameResult;
use crate::trigger::{By, Fired, Waiter};

/// Commands that wait for a picture, by id, with the receipts of all their copies.
#[derive(Debug, Clone, Default)]
pub struct Pictures(Arc<Mutex<BTreeMap<String, Vec<Receipt>>>>);

impl Pictures {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Receipt>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is the first of its id; a copy waits with it.
    fn wait(&self, id: &Name, receipt: Option<Receipt>) -> bool {
        let mut all = self.all();
        let is_first = !all.contains_key(id.as_str());
        all.entry(id.as_str().to_owned()).or_default().extend(receipt);
        is_first
    }

    /// It is answered; gives what the broker is to be told.
    fn end(&self, id: &Name) -> Vec<Receipt> {
        self.all().remove(id.as_str()).unwrap_or_default()
    }
}

/// What became of a command.
pub(super) enum Deferred {
    /// It is answered later.
    Waits,
    /// It is to be answered now.
    Not(Option<Receipt>),
}

impl Office {
    /// Takes a command `trigger` that can be carried out.
    pub(super) fn trigger(&self, incoming: &Incoming, receipt: Option<Receipt>, answered: &Answered) -> Deferred {
        let Some((command @ (order::TRIGGER | order::SNAPSHOT), id)) = self.topics.command(&incoming.topic) else {
            return Deferred::Not(receipt);
        };
        let command = if command == order::TRIGGER { order::TRIGGER } else { order::SNAPSHOT };
        let (Ok(id), false) = (Name::new(id), incoming.retained) else { return Deferred::Not(receipt) };
        let Ok(trigger) = order::read::<Trigger>(command, &incoming.payload) else {
            return Deferred::Not(receipt);
        };
        let lanes = self.pipeline.lanes();
        let Some(lane) = lanes.iter().find(|lane| &**lane.name() == trigger.camera.as_str()) else {
            return Deferred::Not(receipt);
        };
        if !self.pictures.wait(&id, receipt) {
            return Deferred::Waits;
        }
        // Looked at while none of its name can come to an end, so that a copy is answered or waits, and fires nothing.
        if !self.outbox.reply(id.as_str()).is_ok_and(|reply| reply.is_none()) {
            self.pictures.end(&id);
            return Deferred::Not(receipt);
        }
        let (outbox, topics, answered) = (Arc::clone(&self.outbox), self.topics.clone(), answered.clone());
        let pictures = self.pictures.clone();
        let waiter = Waiter::new(move |result: Result<&FrameResult, &str>| {
            let name = id;
            let id = name.as_str();
            let done =
                result.map_err(|reason| anyhow!("{reason}")).and_then(|result| Ok(serde_json::to_value(result)?));
            match &done {
                Ok(_) => info!(command, id, "done"),
                Err(e) => warn!(command, id, "refused: {e:#}"),
            }
            let sent = reply(command, id, done).and_then(|payload| send(&outbox, &topics, id, payload, true));
            let receipts = pictures.end(&name); // after the reply is kept, so that a copy fires no second time
            match sent {
                Ok(()) => receipts.into_iter().for_each(|receipt| {
                    let _ = answered.try_send(receipt); // one that finds no room comes again
                }),
                Err(e) => warn!(command, id, "its reply cannot be kept, the broker will send it again: {e:#}"),
            }
        })
        .with_picture(command == order::SNAPSHOT);
        let at = Instant::now();
        let wait = trigger.deadline_ms.map(Milliseconds::get).map(|ms| Duration::from_secs_f64(ms / 1000.0));
        let deadline = at + wait.unwrap_or_else(|| lane.feed.patience());
        lane.feed.fire(Fired { by: By::Command, at, at_wall: SystemTime::now(), deadline, waiter: Some(waiter) });
        Deferred::Waits
    }

    /// Why a command `trigger` was not taken.
    pub(super) fn refuse_trigger(&self, trigger: &Trigger) -> Result<Value> {
        let lanes = self.pipeline.lanes();
        let names = || lanes.iter().map(|lane| &**lane.name()).collect::<Vec<_>>().join(", ");
        let found = lanes.iter().find(|lane| &**lane.name() == trigger.camera.as_str());
        found.with_context(|| format!("there is no camera {}; there are {}", trigger.camera, names()))?;
        Ok(json!({})) // it came between; a copy of it gets the reply
    }
}
