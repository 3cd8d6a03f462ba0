//! Commands from the control room, and their replies.
//!
//! Guarantees
//! - Every command whose topic has a proper id gets a reply, also one that is unknown, malformed or retained.
//! - A copy of a command (QoS 1 may bring one, and so may a control room that asks again) is not executed a second time: it
//!   gets the reply of the first, for the last [`outbox::REPLIES`](crate::outbox::REPLIES) ids, across restarts.
//! - They are executed one after the other on a thread of their own; neither inspection nor delivery waits for them. When
//!   more than [`WAITING`] wait, the next is answered "busy".
//! - A reply goes through the outbox: it arrives, after an outage too.

mod order;
mod teach;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use anyhow::{Context, Result, anyhow, ensure};
use jiff::Timestamp;
use serde_json::Value;
use tracing::{info, warn};

pub use order::{Changeover, Forget, ListLessons, Order, Products, Relearn, Teach};

use crate::config::Name;
use crate::keeper::Keeper;
use crate::mqtt::payload::Reply;
use crate::mqtt::topics::Topics;
use crate::outbox::{Kind, Message, Outbox};
use crate::taught::School;

/// Commands that may wait for their turn.
const WAITING: usize = 32;
/// No command is longer.
const MAX_BYTES: usize = 256 * 1024;

/// A command as it came.
#[derive(Debug)]
pub struct Incoming {
    /// Its full topic.
    pub topic: String,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// The broker had kept it.
    pub retained: bool,
}

/// Where commands are dropped in, without waiting.
#[derive(Clone)]
pub struct Letterbox {
    sender: SyncSender<Incoming>,
    office: Arc<Office>,
}

/// Answers commands.
pub struct Office {
    /// Where replies and lessons go.
    pub topics: Topics,
    /// The gateway's name.
    pub gateway: String,
    /// What cameras have learned.
    pub keeper: Arc<Keeper>,
    /// What operators have taught.
    pub school: Arc<School>,
    /// What goes out.
    pub outbox: Arc<Outbox>,
}

impl Office {
    /// Its letterbox, and what comes out of it.
    #[must_use]
    pub fn letterbox(self: &Arc<Self>) -> (Letterbox, Receiver<Incoming>) {
        let (sender, receiver) = sync_channel(WAITING);
        (Letterbox { sender, office: Arc::clone(self) }, receiver)
    }

    /// Answers commands until the last letterbox is gone.
    pub fn work(&self, incoming: &Receiver<Incoming>) {
        incoming.iter().for_each(|incoming| self.answer(&incoming));
    }

    /// Answers one command, unless its topic says nothing that could be answered.
    fn answer(&self, incoming: &Incoming) {
        if let Some(class) = self.topics.taught(&incoming.topic) {
            self.receive(class, &incoming.payload);
            return;
        }
        let Some((command, id)) = self.topics.command(&incoming.topic) else { return };
        let Ok(id) = Name::new(id) else {
            warn!(
                topic = incoming.topic,
                "a command whose id is not 1 to 64 letters, digits, '.', '-' or '_' is ignored"
            );
            return;
        };
        if let Err(e) = self.respond(command, id.as_str(), incoming) {
            warn!(command, %id, "its reply cannot be kept: {e:#}");
        }
    }

    fn respond(&self, command: &str, id: &str, incoming: &Incoming) -> Result<()> {
        if let Some(earlier) = self.outbox.reply(id)? {
            return self.send(id, earlier.into_bytes(), false);
        }
        let done = self.execute(command, incoming);
        match &done {
            Ok(result) => info!(command, id, %result, "done"),
            Err(e) => warn!(command, id, "refused: {e:#}"),
        }
        self.reply(command, id, done)
    }

    fn execute(&self, command: &str, incoming: &Incoming) -> Result<Value> {
        ensure!(!incoming.retained, "commands must not be retained: publish it again without, and clear the topic");
        ensure!(incoming.payload.len() <= MAX_BYTES, "a command may have {MAX_BYTES} bytes");
        Order::parse(command, &incoming.payload)?.execute(self)
    }

    fn reply(&self, command: &str, id: &str, done: Result<Value>) -> Result<()> {
        let (ok, error, result) = match done {
            Ok(result) => (true, None, result),
            Err(e) => (false, Some(format!("{e:#}")), Value::Null),
        };
        let (schema, at) = ("inspect.reply/1".to_owned(), Timestamp::now());
        let reply = Reply { schema, id: id.to_owned(), command: command.to_owned(), at, ok, error, result };
        self.send(id, serde_json::to_vec(&reply)?, true)
    }

    fn send(&self, id: &str, payload: Vec<u8>, is_new: bool) -> Result<()> {
        self.outbox.transaction(|transaction| {
            if is_new {
                transaction.save_reply(id, std::str::from_utf8(&payload).context("a reply is text")?)?;
            }
            transaction.push(&Message { kind: Kind::Event, topic: self.topics.reply(id), payload, retain: false })
        })
    }
}

impl Letterbox {
    /// Takes a command in; gives at once the reply that says so when there is no room.
    pub fn drop_in(&self, incoming: Incoming) {
        let Err(TrySendError::Full(incoming)) = self.sender.try_send(incoming) else { return };
        let Some((command, id)) = self.office.topics.command(&incoming.topic) else { return };
        let busy = anyhow!("busy: {WAITING} commands wait; ask again later, with another id");
        if let Err(e) = Name::new(id).map_err(|e| anyhow!(e)).and_then(|_| self.office.reply(command, id, Err(busy))) {
            warn!(command, id, "a command is dropped: {e:#}");
        }
    }
}
