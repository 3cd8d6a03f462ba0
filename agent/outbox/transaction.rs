//! What can be written in one durable transaction: messages, and what the next start needs to know.

use anyhow::Result;
use rusqlite::{OptionalExtension, params};

use super::{Message, REPLIES, schema};

/// An open transaction.
pub struct Transaction<'a> {
    pub(super) inner: rusqlite::Transaction<'a>,
    pub(super) backlog: i64,
    pub(super) pushed: u64,
}

impl Transaction<'_> {
    /// The next event's sequence number, from 1.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn next_seq(&mut self) -> Result<u64> {
        schema::count(&self.inner, "seq", 1)?;
        schema::counter(&self.inner, "seq")
    }

    /// Appends a message.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push(&mut self, message: &Message) -> Result<()> {
        let mut statement = self.inner.prepare_cached(
            "INSERT INTO messages (kind, topic, payload, retain, subject, behind, at) VALUES (?1, ?2, ?3, ?4, ?5, \
             ?5 IS NOT NULL AND EXISTS (SELECT 1 FROM messages WHERE subject = ?5 AND (behind OR id <= ?6)), unixepoch())",
        )?;
        let Message { kind, topic, payload, retain, subject } = message;
        statement.execute(params![*kind as i64, topic, payload, retain, subject, self.backlog])?;
        self.pushed += 1;
        Ok(())
    }

    /// Keeps the reply to a command, and forgets the oldest beyond [`REPLIES`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_reply(&mut self, id: &str, body: &str) -> Result<()> {
        self.inner.execute("INSERT OR REPLACE INTO replies (id, body) VALUES (?1, ?2)", [id, body])?;
        self.inner
            .execute("DELETE FROM replies WHERE n <= (SELECT max(n) FROM replies) - ?1", [i64::try_from(REPLIES)?])?;
        Ok(())
    }

    /// Keeps an alarm across restarts; `active` is whether its messages go last when the queue is full.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_alarm(&mut self, id: &str, body: &str, active: bool) -> Result<()> {
        let mut statement =
            self.inner.prepare_cached("INSERT OR REPLACE INTO alarms (id, body, active) VALUES (?1, ?2, ?3)")?;
        statement.execute(params![id, body, active])?;
        Ok(())
    }

    /// Notes something under a name, in place of what was noted there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_note(&mut self, name: &str, value: &str) -> Result<()> {
        self.inner.execute("INSERT OR REPLACE INTO notes (name, value) VALUES (?1, ?2)", [name, value])?;
        Ok(())
    }

    /// Forgets an alarm that is over.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn forget_alarm(&mut self, id: &str) -> Result<()> {
        self.inner.execute("DELETE FROM alarms WHERE id = ?1", [id]).optional()?;
        Ok(())
    }
}
