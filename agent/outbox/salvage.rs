//! What can still be read of a damaged outbox is taken over into a new one.
//!
//! Guarantees: every message that is whole is kept, and none that is not (pictures are checked by their hash); sequence numbers
//! go on; the damaged file itself stays where it was set aside. What was delivered shortly before may be sent again, with the
//! same id.

use std::path::Path;

use anyhow::Result;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params, types::Value};
use sha2::{Digest, Sha256};

use super::{Kind, schema};

/// Rows after one that cannot be read which are tried one by one.
const STEPS: i64 = 200_000;

/// Ids are smaller: at one a microsecond they would last for 142 years.
const IDS: i64 = 1 << 52;

/// What was kept, and what was not.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Salvaged {
    /// Messages that wait again.
    pub messages: u64,
    /// Messages that the counters know of and that are gone.
    pub lost: u64,
}

/// Tables that are small, and how many columns each has.
const SMALL: [(&str, usize); 4] = [("counters", 2), ("alarms", 3), ("notes", 2), ("dead", 4)];

/// Copies what is whole out of the file at `from`.
///
/// # Errors
/// The new file cannot be written. What cannot be read is no error.
pub fn salvage(from: &Path, to: &mut Connection) -> Result<Salvaged> {
    let Ok(old) = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_WRITE) else {
        return Ok(Salvaged::default());
    };
    // Without it SQLite reads nothing of a file that was cut off.
    let _ = old.pragma_update(None, "writable_schema", true);
    let transaction = to.transaction()?;
    for (table, columns) in SMALL {
        let marks = (1..=columns).map(|n| format!("?{n}")).collect::<Vec<_>>().join(", ");
        let insert = format!("INSERT OR REPLACE INTO {table} VALUES ({marks})");
        let Ok(mut statement) = old.prepare(&format!("SELECT * FROM {table}")) else { continue };
        let all = |row: &Row| (0..columns).map(|n| row.get::<_, Value>(n)).collect::<rusqlite::Result<Vec<_>>>();
        let Ok(rows) = statement.query_map([], all) else { continue };
        for row in rows.map_while(Result::ok) {
            // A counter is no number below zero, whatever the page says now.
            if table != "counters" || matches!(row[..], [Value::Text(_), Value::Integer(0..IDS)]) {
                tolerant(transaction.execute(&insert, rusqlite::params_from_iter(row)))?;
            }
        }
    }
    let mut salvaged = Salvaged::default();
    each_message(&old, |row| {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO messages (id, kind, topic, payload, retain, subject, behind, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, unixepoch())",
        )?;
        salvaged.messages += u64::from(tolerant(insert.execute(rusqlite::params_from_iter(row)))?);
        Ok(())
    })?;
    // The counters may be unreadable, or older than the messages.
    let get = |name| schema::counter(&transaction, name);
    // Ids go on behind all that were ever given out.
    transaction.execute(
        "UPDATE sqlite_sequence SET seq = max(seq, (SELECT coalesce(max(id), 0) FROM dead)) WHERE name = 'messages'",
        [],
    )?;
    let known = get("delivered")? + get("dropped")? + get("dead")? + salvaged.messages;
    let appended = get("appended")?;
    salvaged.lost = appended.saturating_sub(known);
    schema::count(&transaction, "dropped", salvaged.lost)?;
    schema::count(&transaction, "appended", known.saturating_sub(appended))?;
    let latest: Option<i64> = transaction
        .query_row("SELECT max(json_extract(CAST(payload AS TEXT), '$.seq')) FROM messages WHERE kind = 0 AND json_valid(CAST(payload AS TEXT))", [], |row| row.get(0))
        .optional()?
        .flatten();
    let seq = get("seq")?;
    schema::count(&transaction, "seq", u64::try_from(latest.unwrap_or(0))?.saturating_sub(seq))?;
    transaction.commit()?;
    Ok(salvaged)
}

/// Every message that can be read: up and down by id, since a number that is damaged hides what is behind it. One that
/// cannot be read is stepped over.
fn each_message(old: &Connection, mut f: impl FnMut(Vec<Value>) -> Result<()>) -> Result<()> {
    let columns = "id, kind, topic, payload, retain, subject";
    for (which, order, begin, step) in [(">", "ASC", 0, 1), ("<", "DESC", IDS, -1)] {
        let sql = format!("SELECT {columns} FROM messages WHERE id {which} ?1 ORDER BY id {order}");
        let Ok(mut statement) = old.prepare(&sql) else { return Ok(()) };
        let (mut at, mut steps): (i64, i64) = (begin, 0);
        while steps < STEPS {
            let Ok(mut rows) = statement.query(params![at]) else { break };
            let end = loop {
                match rows.next().map(|row| row.map(values)) {
                    Ok(None) => break true,
                    Ok(Some(Ok((id, values)))) if (id - at).signum() == step && (1..IDS).contains(&id) => {
                        (at, steps) = (id, 0);
                        if is_whole(&values) {
                            f(values)?;
                        }
                    }
                    _ => break false,
                }
            };
            // Downwards the way is as long as ids are large; it begins where something can be read.
            if end || step < 0 {
                break;
            }
            (at, steps) = (at + 1, steps + 1);
        }
    }
    Ok(())
}

fn values(row: &Row) -> rusqlite::Result<(i64, Vec<Value>)> {
    Ok((row.get(0)?, (0..6).map(|n| row.get::<_, Value>(n)).collect::<rusqlite::Result<_>>()?))
}

/// Whether a row was taken; one that does not fit is left out.
fn tolerant(inserted: rusqlite::Result<usize>) -> Result<bool> {
    match inserted {
        Ok(_) => Ok(true),
        Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Whether a row is what was once written: a page that was torn or overwritten can still give something.
fn is_whole(row: &[Value]) -> bool {
    let [
        _,
        Value::Integer(kind),
        Value::Text(topic),
        Value::Blob(payload),
        Value::Integer(_),
        Value::Text(_) | Value::Null,
    ] = row
    else {
        return false;
    };
    if *kind == Kind::Image as i64 {
        topic.ends_with(&hex::encode(Sha256::digest(payload)))
    } else {
        payload.is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok()
    }
}
