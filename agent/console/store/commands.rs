//! Commands that were given here, and what came of them.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;
use serde_json::Value;

use super::{Store, millis, time};

/// Why a command that nobody has answered is over; an answer that comes nevertheless counts.
pub(super) const UNANSWERED: &str =
    "the gateway has not answered: it is away, or does not get commands from this broker";

/// A command.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CommandRow {
    /// Its id.
    pub id: String,
    /// The site.
    pub site: String,
    /// The gateway.
    pub gateway: String,
    /// The command.
    pub command: String,
    /// What it says.
    pub payload: Value,
    /// Who has given it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Whether it was done; nothing while nobody has answered.
    pub ok: Option<bool>,
    /// Why it was not.
    pub error: Option<String>,
    /// What came of it.
    pub result: Option<Value>,
    /// When it was answered.
    pub replied_at: Option<Timestamp>,
}

impl Store {
    /// Keeps a command that is given, and which alarms it is about.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn give(&self, command: &CommandRow, alarms: &[String]) -> Result<()> {
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        let text =
            "INSERT INTO command (id, site, gateway, command, payload, by, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let CommandRow { id, site, gateway, command: name, payload, by, at, .. } = command;
        transaction.execute(text, params![id, site, gateway, name, payload.to_string(), by, millis(*at)])?;
        for alarm in alarms {
            transaction.execute("INSERT OR IGNORE INTO command_alarm VALUES (?1, ?2)", [alarm, id])?;
        }
        Ok(transaction.commit()?)
    }

    /// Commands that nobody has answered, given after this time: the first first.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn unanswered(&self, since: Timestamp) -> Result<Vec<CommandRow>> {
        self.list("WHERE replied_at IS NULL AND at >= ?1 ORDER BY at LIMIT 100000", &[&millis(since)])
    }

    /// Commands about an alarm, the first first.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn commands_about(&self, alarm: &str) -> Result<Vec<CommandRow>> {
        self.list("WHERE id IN (SELECT id FROM command_alarm WHERE alarm = ?1) ORDER BY at LIMIT 1000", &[&alarm])
    }

    /// One command.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn command(&self, id: &str) -> Result<Option<CommandRow>> {
        self.read(|reader| {
            let text = format!("SELECT {COLUMNS} FROM command WHERE id = ?1");
            Ok(reader.prepare_cached(&text)?.query_row([id], read).optional()?)
        })
    }

    /// Says of commands that were not answered for so long that nobody will; gives them and the alarms they were about.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn expire(&self, patience: SignedDuration, now: Timestamp) -> Result<Vec<String>> {
        let text =
            "UPDATE command SET ok = 0, error = ?3, replied_at = ?2 WHERE replied_at IS NULL AND at < ?1 RETURNING id";
        let (before, now) = (millis(now) - patience.as_millis() as i64, millis(now));
        let writer = self.writer();
        let mut statement = writer.prepare_cached(text)?;
        let rows = statement.query_map(params![before, now, UNANSWERED], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// A command that the broker does not take, and why.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn refuse(&self, id: &str, reason: &str, now: Timestamp) -> Result<()> {
        let text = "UPDATE command SET ok = 0, error = ?2, replied_at = ?3 WHERE id = ?1 AND replied_at IS NULL";
        self.writer().execute(text, params![id, reason, millis(now)])?;
        Ok(())
    }

    /// The alarms that a command is about.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn alarms_of(&self, command: &str) -> Result<Vec<String>> {
        self.read(|reader| {
            let mut statement = reader.prepare_cached("SELECT alarm FROM command_alarm WHERE id = ?1")?;
            let rows = statement.query_map([command], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    fn list(&self, which: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<CommandRow>> {
        self.read(|reader| {
            let mut statement = reader.prepare_cached(&format!("SELECT {COLUMNS} FROM command {which}"))?;
            let rows = statement.query_map(values, read)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }
}

const COLUMNS: &str = "id, site, gateway, command, payload, by, at, ok, error, result, replied_at";

fn read(row: &Row) -> rusqlite::Result<CommandRow> {
    // They were written by us.
    let json = |text: String| serde_json::from_str(&text).unwrap_or_default();
    Ok(CommandRow {
        id: row.get(0)?,
        site: row.get(1)?,
        gateway: row.get(2)?,
        command: row.get(3)?,
        payload: json(row.get(4)?),
        by: row.get(5)?,
        at: time(row.get(6)?),
        ok: row.get(7)?,
        error: row.get(8)?,
        result: row.get::<_, Option<String>>(9)?.map(json),
        replied_at: row.get::<_, Option<i64>>(10)?.map(time),
    })
}

impl Store {
    /// The alarm that a webhook is to be told of next: its number and what it says.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn untold(&self) -> Result<Option<(i64, String)>> {
        let text = "SELECT n, body FROM told ORDER BY n LIMIT 1";
        self.read(|reader| {
            Ok(reader.prepare_cached(text)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
        })
    }

    /// It was told.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn told(&self, n: i64) -> Result<()> {
        self.writer().execute("DELETE FROM told WHERE n = ?1", [n])?;
        Ok(())
    }
}
