//! The durable queue between what was decided and the broker.
//!
//! Invariants
//! 1. When [`Outbox::transaction`] returns, what was pushed in it is on the disk (SQLite, WAL, `synchronous = FULL`:
//!    the log is fsynced at every commit): all of the transaction or nothing.
//! 2. A message leaves the queue only by [`Outbox::delivered`] (the broker acknowledged it), [`Outbox::set_aside`] (the
//!    broker will never take it) or a quota, and each of the three is counted in the same transaction:
//!    appended = delivered + dropped + dead + queued, at every instant and across restarts.
//! 3. Sequence numbers of events are given out in the transaction that appends the event, so they have no gaps.
//! 4. The queue is bounded in rows and bytes. When it is full, the oldest snapshots go first, then replies, then what is about
//!    alarms that are over, then the rest; last of all the empty messages that take an alarm off the broker, since nothing
//!    else ever would. An alarm that came and went while the broker was away goes as a whole.
//! 5. There are two lanes, each in order: what comes while the broker is there need not wait behind what has gathered while it
//!    was away. What is about an alarm of which something still waits in the backlog joins it there, so that the
//!    transitions of one alarm never overtake each other.
//!
//! What it does not promise: that a message is delivered once. After a cut the broker may see it again, with the same
//! id.

pub mod examples;
mod salvage;
mod schema;
mod transaction;

pub use schema::lock;
pub use transaction::Transaction;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Notify;

/// Replies to commands that are remembered.
pub const REPLIES: usize = 1000;
/// Bytes that are kept of a message that the broker will never take.
const DEAD_BYTES: i64 = 64 * 1024;

/// What a message is, which decides what goes first when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub enum Kind {
    /// An alarm's transition.
    Event = 0,
    /// An alarm's present state, retained.
    Alarm = 1,
    /// A snapshot.
    Image = 2,
    /// The answer to a command.
    Reply = 3,
    /// A class that was taught.
    Lesson = 4,
}

/// Where a message waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub enum Lane {
    /// It came while the broker was there.
    Live = 0,
    /// It came while the broker was away, or is about an alarm of which something waits here.
    Backlog = 1,
}

/// A message to be appended.
#[derive(Debug, Clone)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Full topic.
    pub topic: String,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// The alarm that it is about; messages about the same one are sent in order.
    pub subject: Option<String>,
}

/// A message that waits.
#[derive(Debug, Clone)]
pub struct Queued {
    /// Grows with every message; never used twice.
    pub id: i64,
    /// The message.
    pub message: Message,
    /// It was appended while the broker was away, or by an earlier run.
    pub offline: bool,
}

/// Bounds of the queue.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    /// Messages of all kinds.
    pub messages: u64,
    /// Bytes of snapshots.
    pub image_bytes: u64,
    /// Bytes of the other kinds.
    pub event_bytes: u64,
}

/// The counters, since the outbox was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Ever appended.
    pub appended: u64,
    /// Acknowledged by the broker.
    pub delivered: u64,
    /// Given up because the queue was full.
    pub dropped: u64,
    /// Set aside because the broker would never take them.
    pub dead: u64,
    /// Waiting.
    pub queued: u64,
}

/// A message that the broker will never take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Its topic.
    pub topic: String,
    /// Why.
    pub reason: String,
}

/// The queue. Shared between the side that decides and the side that sends.
pub struct Outbox {
    connection: Mutex<Connection>,
    quota: Quota,
    online: AtomicBool,
    /// The last message that was there when the broker came.
    backlog: AtomicI64,
    /// While the broker is away: the last message that it may have got.
    sent: AtomicI64,
    trouble: Mutex<Option<String>>,
    /// Held while this process uses the folder.
    _lock: File,
    /// Wakes the sending side.
    pub appended: Arc<Notify>,
}

impl Outbox {
    /// Opens or makes the outbox in a folder. A damaged file is set aside, never deleted, and what is whole in it is kept.
    ///
    /// # Errors
    /// The folder cannot be written, or another process uses it.
    pub fn open(dir: &Path, quota: Quota) -> Result<Self> {
        let context = || format!("cannot open the outbox in {}", dir.display());
        let lock = schema::lock(dir).with_context(context)?;
        let connection = schema::open(dir).with_context(context)?;
        let sent = schema::sent(&connection).with_context(context)?;
        Ok(Self {
            connection: Mutex::new(connection),
            quota,
            online: AtomicBool::new(false),
            backlog: AtomicI64::new(0),
            sent: AtomicI64::new(sent),
            trouble: Mutex::new(None),
            _lock: lock,
            appended: Arc::default(),
        })
    }

    /// Messages that wait in a folder's outbox, without opening it for use: safe beside a running daemon.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn waiting(dir: &Path) -> Result<u64> {
        schema::waiting(dir).with_context(|| format!("cannot read the outbox in {}", dir.display()))
    }

    /// For how long the oldest message has waited; nothing where none waits, or where that is not known.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn oldest(&self) -> Result<Option<Duration>> {
        let connection = self.lock();
        // Since when is not known of what came while the clock was not set.
        let mut statement = connection.prepare_cached(
            "SELECT CASE WHEN at > 1767225600 THEN unixepoch() - at END FROM messages ORDER BY id LIMIT 1",
        )?;
        let age: Option<Option<i64>> = statement.query_row([], |row| row.get(0)).optional()?;
        // A clock that was set back since then makes it no younger than now.
        Ok(age.flatten().map(|age| Duration::from_secs(age.max(0) as u64)))
    }

    /// Why nothing can be recorded at the moment, if so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says, or takes back, that nothing can be recorded.
    pub fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolls it back when it is dropped, so the connection stays usable.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker is there: what waits now is the backlog.
    ///
    /// # Errors
    /// The file cannot be read; then all that comes is taken for backlog as well.
    pub fn went_online(&self) -> Result<()> {
        let connection = self.lock();
        schema::sending(&connection)?;
        self.backlog.store(schema::latest(&connection)?, Ordering::Release);
        self.online.store(true, Ordering::Release);
        Ok(())
    }

    /// The broker is gone.
    ///
    /// # Errors
    /// The file cannot be written; then more is taken for sent than was.
    pub fn went_offline(&self) -> Result<()> {
        let connection = self.lock();
        self.online.store(false, Ordering::Release);
        self.sent.store(i64::MAX, Ordering::Release);
        self.sent.store(schema::sent_until_now(&connection)?, Ordering::Release);
        Ok(())
    }

    /// The last message of the backlog; while the broker is away all are.
    fn backlog(&self) -> i64 {
        if self.is_online() { self.backlog.load(Ordering::Acquire) } else { i64::MAX }
    }

    /// Whether the broker is there.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.online.load(Ordering::Acquire)
    }

    /// Runs `f` in one durable transaction and wakes the sending side.
    ///
    /// # Errors
    /// The disk is full or gone, or `f` failed: then nothing of it was kept.
    pub fn transaction<R>(&self, f: impl FnOnce(&mut Transaction) -> Result<R>) -> Result<R> {
        let (result, pushed) = self.commit(f)?;
        if pushed > 0 {
            self.appended.notify_one();
        }
        Ok(result)
    }

    fn commit<R>(&self, f: impl FnOnce(&mut Transaction) -> Result<R>) -> Result<(R, u64)> {
        let mut connection = self.lock();
        let inner = connection.transaction()?;
        let mut transaction = Transaction { inner, backlog: self.backlog(), pushed: 0 };
        let result = f(&mut transaction)?;
        let Transaction { inner, pushed, .. } = transaction;
        if pushed > 0 {
            schema::count(&inner, "appended", pushed)?;
            let sent = if self.is_online() { i64::MAX } else { self.sent.load(Ordering::Acquire) };
            schema::make_room(&inner, self.quota, sent)?;
        }
        inner.commit().context("the outbox could not be written: is the disk full?")?;
        Ok((result, pushed))
    }

    /// The oldest `limit` messages of a lane behind `after`, in order.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn peek(&self, lane: Lane, after: i64, limit: usize) -> Result<Vec<Queued>> {
        let (connection, backlog) = (self.lock(), self.backlog());
        let read = |which: &str, after: i64, limit: usize| -> rusqlite::Result<Vec<Queued>> {
            let sql = format!(
                "SELECT id, kind, topic, payload, retain, subject FROM messages WHERE {which} AND id > ?1 ORDER BY id LIMIT ?3"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![after, backlog, limit as i64], |row| {
                let kind = match row.get::<_, i64>(1)? {
                    0 => Kind::Event,
                    1 => Kind::Alarm,
                    2 => Kind::Image,
                    3 => Kind::Reply,
                    _ => Kind::Lesson,
                };
                let (id, topic, payload) = (row.get(0)?, row.get(2)?, row.get(3)?);
                let message = Message { kind, topic, payload, retain: row.get(4)?, subject: row.get(5)? };
                Ok(Queued { id, message, offline: id <= backlog })
            })?;
            rows.collect()
        };
        let found = match lane {
            Lane::Live => read("id > ?2 AND NOT behind", after, limit),
            Lane::Backlog => read("id <= ?2", after, limit).and_then(|mut found| {
                if found.len() < limit {
                    found.extend(read("id > ?2 AND behind", after, limit - found.len())?);
                }
                Ok(found)
            }),
        };
        found.context("the outbox cannot be read")
    }

    /// Removes messages that the broker acknowledged.
    ///
    /// # Errors
    /// The file cannot be written; they will be sent again.
    pub fn delivered(&self, ids: &[i64]) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let mut removed = 0;
        {
            let mut statement = transaction.prepare_cached("DELETE FROM messages WHERE id = ?1")?;
            for id in ids {
                removed += statement.execute([id])? as u64;
            }
        }
        schema::count(&transaction, "delivered", removed)?;
        transaction.commit()?;
        Ok(())
    }

    /// Moves a message that the broker will never take out of the way of the others.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_aside(&self, id: i64, reason: &str) -> Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        // Of an empty payload `substr` makes NULL.
        transaction.execute(
            "INSERT OR REPLACE INTO dead (id, topic, payload, reason) SELECT id, topic, coalesce(substr(payload, 1, ?3), x''), ?2 FROM messages WHERE id = ?1",
            params![id, reason, DEAD_BYTES],
        )?;
        let removed = transaction.execute("DELETE FROM messages WHERE id = ?1", [id])?;
        // The table is for looking up what went wrong, so the latest will do.
        transaction.execute("DELETE FROM dead WHERE id NOT IN (SELECT id FROM dead ORDER BY id DESC LIMIT 100)", [])?;
        schema::count(&transaction, "dead", removed as u64)?;
        transaction.commit()?;
        Ok(())
    }

    /// What was set aside last.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn last_dead(&self) -> Result<Option<Dead>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT topic, reason FROM dead ORDER BY id DESC LIMIT 1")?;
        let dead = |row: &rusqlite::Row| Ok(Dead { topic: row.get(0)?, reason: row.get(1)? });
        statement.query_row([], dead).optional().context("the dead letters cannot be read")
    }

    /// The counters.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn counts(&self) -> Result<Counts> {
        let connection = self.lock();
        let get = |name| schema::counter(&connection, name);
        let queued = connection.query_row("SELECT coalesce(sum(n), 0) FROM sizes", [], |row| row.get::<_, i64>(0))?;
        Ok(Counts {
            appended: get("appended")?,
            delivered: get("delivered")?,
            dropped: get("dropped")?,
            dead: get("dead")?,
            queued: queued as u64,
        })
    }

    /// The alarms that were active or not yet acknowledged when the last transaction ended: what was saved under each id.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn alarms(&self) -> Result<Vec<String>> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT body FROM alarms ORDER BY id")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>().context("the saved alarms cannot be read")
    }
}

impl Outbox {
    /// The reply to a command that was answered before.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn reply(&self, id: &str) -> Result<Option<String>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT body FROM replies WHERE id = ?1")?;
        statement.query_row([id], |row| row.get(0)).optional().context("the replies cannot be read")
    }
}

impl Outbox {
    /// What was noted under a name.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn note(&self, name: &str) -> Result<Option<String>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT value FROM notes WHERE name = ?1")?;
        statement.query_row([name], |row| row.get(0)).optional().context("the notes cannot be read")
    }
}

#[cfg(test)]
mod tests;
