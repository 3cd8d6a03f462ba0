//! Commands from the control room, and their replies.
//!
//! Guarantees
//! - Every command whose topic has a proper id gets a reply, also one that is unknown, malformed or retained. The broker
//!   is told that a command has arrived when its reply is in the outbox, not before: what a power cut interrupts comes again.
//! - A copy of a command (QoS 1 may bring one, and so may a control room that asks again) is not executed a second time: it
//!   gets the reply of the first, for the last [`outbox::REPLIES`](crate::outbox::REPLIES) ids, across restarts. The one
//!   exception is a power cut between doing it and keeping the reply; so each command may be done twice without harm.
//! - They are executed one after the other on a thread of their own; neither inspection nor delivery waits for them. When
//!   more than [`WAITING`] wait, the next is answered "busy" and forgotten.
//! - Of lessons from the site the latest of each class waits, for at most as many classes as may be taught.

mod alarms;
mod order;
mod teach;
mod trigger;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use jiff::Timestamp;
use serde_json::Value;
use tracing::{info, warn};

pub use alarms::{Acknowledge, Comment, ListAlarms, Quieten, Release, Shelve};
pub use order::{Approve, Changeover, Forget, ListLessons, Order, Products, Relearn, Reload, Rollback, Teach, Trigger};
use trigger::Deferred;
pub use trigger::Pictures;

use crate::config::Name;
use crate::keeper::Keeper;
use crate::mqtt::link::Receipt;
use crate::mqtt::payload::Reply;
use crate::mqtt::topics::Topics;
use crate::outbox::{Kind, Message, Outbox};
use crate::pipeline::Pipeline;
use crate::reload::Reloader;
use crate::taught::{self, School};
use crate::update::desk::Desk;
use crate::verdict::book::AlarmBook;

/// Commands that may wait for their turn.
const WAITING: usize = 32;
/// No command is longer.
const MAX_BYTES: usize = 64 * 1024;
/// Letters of an error in a reply, which may quote what was wrong.
const MAX_ERROR: usize = 1000;
/// Receipts on their way back; more than brokers let wait, since one that is lost stays open until the next connection.
const RECEIPTS: usize = 4096;

/// A command as it came.
#[derive(Debug)]
pub struct Incoming {
    /// Its full topic.
    pub topic: String,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// The broker had kept it.
    pub retained: bool,
    /// What has to be acknowledged when it is answered.
    pub receipt: Option<Receipt>,
}

enum Item {
    Command(Incoming),
    /// There are lessons in the letterbox.
    Lessons,
}

/// Receipts of what was answered.
type Answered = tokio::sync::mpsc::Sender<Receipt>;

/// Lessons that wait: the latest of each class.
type Pile = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Where commands and lessons are dropped in, without waiting.
#[derive(Clone)]
pub struct Letterbox {
    sender: SyncSender<Item>,
    pile: Pile,
    topics: Topics,
}

/// What comes out of a letterbox.
pub struct Inbox {
    items: Receiver<Item>,
    pile: Pile,
    answered: Answered,
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
    /// What is active.
    pub book: Arc<Mutex<AlarmBook>>,
    /// What goes out.
    pub outbox: Arc<Outbox>,
    /// Where words about updates are left.
    pub updates: Arc<Desk>,
    /// The cameras.
    pub pipeline: Arc<Pipeline>,
    /// What takes up a changed configuration.
    pub reloader: Arc<Reloader>,
    /// Commands that wait for a picture.
    pub pictures: Pictures,
}

impl Office {
    /// Answers commands and takes in lessons until the last letterbox is gone.
    pub fn work(&self, inbox: &Inbox) {
        for item in &inbox.items {
            if let Item::Command(incoming) = item {
                self.take(incoming, &inbox.answered);
            }
            let lessons = std::mem::take(&mut *inbox.pile.lock().unwrap_or_else(PoisonError::into_inner));
            lessons.iter().for_each(|(class, payload)| self.receive(class, payload));
        }
    }

    /// Answers a command, or has it answered when a picture has come.
    fn take(&self, mut incoming: Incoming, answered: &Answered) {
        let receipt = incoming.receipt.take();
        match self.trigger(&incoming, receipt, answered) {
            Deferred::Waits => {}
            Deferred::Not(Some(receipt)) if self.answer(&incoming) => drop(answered.try_send(receipt)), // else it comes again
            Deferred::Not(receipt) => {
                if receipt.is_none() {
                    self.answer(&incoming);
                }
            }
        }
    }

    /// Answers one command, unless its topic says nothing that could be answered; whether that is done with.
    fn answer(&self, incoming: &Incoming) -> bool {
        let Some((command, id)) = self.topics.command(&incoming.topic) else { return true };
        let Ok(id) = Name::new(id) else {
            warn!(
                topic = incoming.topic,
                "a command whose id is not 1 to 64 letters, digits, '.', '-' or '_' is ignored"
            );
            return true;
        };
        let answered = self.respond(command, id.as_str(), incoming);
        if let Err(e) = &answered {
            warn!(command, %id, "its reply cannot be kept, the broker will send it again: {e:#}");
        }
        answered.is_ok()
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
        ensure!(
            !incoming.retained,
            "commands must not be retained: clear the topic, and publish it without and with another id"
        );
        ensure!(incoming.payload.len() <= MAX_BYTES, "a command may have {MAX_BYTES} bytes");
        Order::parse(command, &incoming.payload)?.execute(self)
    }

    fn reply(&self, command: &str, id: &str, done: Result<Value>) -> Result<()> {
        self.send(id, reply(command, id, done)?, true)
    }

    fn send(&self, id: &str, payload: Vec<u8>, is_new: bool) -> Result<()> {
        send(&self.outbox, &self.topics, id, payload, is_new)
    }
}

fn send(outbox: &Outbox, topics: &Topics, id: &str, payload: Vec<u8>, is_new: bool) -> Result<()> {
    outbox.transaction(|transaction| {
        if is_new {
            transaction.save_reply(id, std::str::from_utf8(&payload).context("a reply is text")?)?;
        }
        let (kind, topic) = (Kind::Reply, topics.reply(id));
        transaction.push(&Message { kind, topic, payload, retain: false, subject: None })
    })
}

fn reply(command: &str, id: &str, done: Result<Value>) -> Result<Vec<u8>> {
    let (ok, error, result) = match done {
        Ok(result) => (true, None, result),
        Err(e) => (false, Some(format!("{e:#}").chars().take(MAX_ERROR).collect()), Value::Null),
    };
    let (schema, at) = ("inspect.reply/1".to_owned(), Timestamp::now());
    let reply = Reply { schema, id: id.to_owned(), command: command.to_owned(), at, ok, error, result };
    Ok(serde_json::to_vec(&reply)?)
}

impl Letterbox {
    /// A letterbox, what comes out of it, and the receipts of what was answered.
    #[must_use]
    pub fn new(topics: Topics) -> (Self, Inbox, tokio::sync::mpsc::Receiver<Receipt>) {
        let (sender, items) = sync_channel(WAITING);
        let (answered, receipts) = tokio::sync::mpsc::channel(RECEIPTS);
        let pile = Pile::default();
        let letterbox = Self { sender, pile: Arc::clone(&pile), topics };
        (letterbox, Inbox { items, pile, answered }, receipts)
    }

    /// Takes a command or a lesson in.
    #[must_use]
    pub fn drop_in(&self, mut incoming: Incoming) -> Received {
        if let Some(class) = self.topics.taught(&incoming.topic) {
            let mut pile = self.pile.lock().unwrap_or_else(PoisonError::into_inner);
            if pile.len() < taught::CLASSES || pile.contains_key(class) {
                pile.insert(class.to_owned(), incoming.payload);
            } else {
                warn!("{} is left out: too many lessons come at once", incoming.topic);
            }
            drop(pile);
            let _ = self.sender.try_send(Item::Lessons); // when it is full, the next item in it will do
            return Received::Done(None);
        }
        incoming.payload.truncate(MAX_BYTES + 1); // more is not needed to refuse it
        match self.sender.try_send(Item::Command(incoming)) {
            Err(TrySendError::Full(Item::Command(incoming))) => Received::Done(self.busy(&incoming.topic)),
            _ => Received::Waits,
        }
    }

    fn busy(&self, topic: &str) -> Option<(String, Vec<u8>)> {
        let (command, id) = self.topics.command(topic)?;
        let busy = anyhow!("busy: {WAITING} commands wait; ask again later");
        Some((self.topics.reply(Name::new(id).ok()?.as_str()), reply(command, id, Err(busy)).ok()?))
    }
}

/// What became of something that was dropped in.
pub enum Received {
    /// It waits for its turn; its receipt comes back when it is answered.
    Waits,
    /// It can be acknowledged: it will come again by itself, or there was no room, which this message (topic, payload) says.
    Done(Option<(String, Vec<u8>)>),
}
