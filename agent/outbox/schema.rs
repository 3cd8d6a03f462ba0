//! The outbox's tables, its quota, and what happens when the file is damaged.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use tracing::{error, warn};

use super::Quota;
use super::salvage::{Salvaged, salvage};

const FILE: &str = "outbox.sqlite";
/// What is being salvaged of a damaged one.
const SALVAGED: &str = "outbox.salvaged.sqlite";
/// A file that is there to be given up when others have filled the disk, and its bytes: SQLite's log takes 4 MiB and more before it
/// is written back.
const RESERVE: (&str, usize) = ("reserve", 6 << 20);
/// Sizes are counted as a row takes room on the disk: beside payload and topic about 200 bytes, with subject and indexes.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
        retain INTEGER NOT NULL, subject TEXT, behind INTEGER NOT NULL, at INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX IF NOT EXISTS images ON messages (id) WHERE kind = 2;
    CREATE INDEX IF NOT EXISTS replied ON messages (id) WHERE kind = 3;
    CREATE INDEX IF NOT EXISTS behind ON messages (id) WHERE behind;
    CREATE INDEX IF NOT EXISTS subjects ON messages (subject) WHERE subject IS NOT NULL;
    CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS alarms (id TEXT PRIMARY KEY, body TEXT NOT NULL, active INTEGER NOT NULL DEFAULT 1) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS replies (n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS looks (n INTEGER PRIMARY KEY AUTOINCREMENT, alarm TEXT NOT NULL UNIQUE, look BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS scenes (n INTEGER PRIMARY KEY AUTOINCREMENT, image TEXT NOT NULL UNIQUE, scene BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS dead (
        id INTEGER PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL, reason TEXT NOT NULL);
    -- Sizes kept by triggers, so that no sum over the table is needed at every append.
    CREATE TABLE IF NOT EXISTS sizes (images INTEGER PRIMARY KEY, n INTEGER NOT NULL, bytes INTEGER NOT NULL);
    INSERT OR IGNORE INTO sizes VALUES (0, 0, 0), (1, 0, 0);
    CREATE TRIGGER IF NOT EXISTS grow AFTER INSERT ON messages BEGIN
        UPDATE sizes SET n = n + 1, bytes = bytes + length(new.payload) + length(new.topic) + 200
            WHERE images = (new.kind = 2); END;
    CREATE TRIGGER IF NOT EXISTS shrink AFTER DELETE ON messages BEGIN
        UPDATE sizes SET n = n - 1, bytes = bytes - length(old.payload) - length(old.topic) - 200
            WHERE images = (old.kind = 2); END;
";
/// Without what makes many insertions slow.
const BARE: &str = "DROP TRIGGER grow; DROP TRIGGER shrink; DROP INDEX images; DROP INDEX replied; DROP INDEX behind; DROP INDEX subjects;";
/// Sizes of what is there.
const SIZES: &str = "
    UPDATE sizes SET n = (SELECT count(*) FROM messages WHERE (kind = 2) = sizes.images),
        bytes = (SELECT coalesce(sum(length(payload) + length(topic) + 200), 0) FROM messages WHERE (kind = 2) = sizes.images);
";
/// Of the first files, which had one lane and counted payloads alone.
const ONE_LANE: &str = "
    ALTER TABLE messages ADD COLUMN subject TEXT;
    ALTER TABLE messages ADD COLUMN behind INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE messages DROP COLUMN offline;
    ALTER TABLE alarms ADD COLUMN active INTEGER NOT NULL DEFAULT 1;
    DROP TRIGGER grow;
    DROP TRIGGER shrink;
    UPDATE sizes SET bytes = (SELECT coalesce(sum(length(payload) + length(topic) + 200), 0) FROM messages
        WHERE (kind = 2) = sizes.images);
";

/// Takes a state folder for this process, for as long as the file is held.
///
/// # Errors
/// Another inspectd uses it, or it cannot be made or written.
pub fn lock(dir: &Path) -> Result<File> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let lock = File::create(dir.join("lock")).context("cannot write there")?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => bail!("another inspectd uses this state folder"),
        Err(TryLockError::Error(e)) => Err(e).context("cannot lock it"),
    }
}

/// Messages in the file, which is only read; 0 where there is none.
pub fn waiting(dir: &Path) -> Result<u64> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Ok(0);
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    Ok(connection.query_row("SELECT coalesce(sum(n), 0) FROM sizes", [], |row| row.get::<_, i64>(0))? as u64)
}

/// Opens the file, and makes a new one where it is missing or damaged. On a full disk the reserve makes room.
pub fn open(dir: &Path) -> Result<Connection> {
    let path = dir.join(FILE);
    let salvaged = dir.join(SALVAGED);
    if !path.exists() && salvaged.exists() {
        std::fs::rename(&salvaged, &path).context("what was salvaged cannot be put in place")?; // cut off between two renames
    }
    let reserve = dir.join(RESERVE.0);
    let (mut opened, mut given_up) = (connect(&path), false);
    if let Err(e) = &opened
        && !is_damage(e)
        && std::fs::remove_file(&reserve).is_ok()
    {
        warn!("the outbox cannot be opened ({e:#}); its reserve of disk is given up for it: make room on that disk");
        given_up = true;
        opened = connect(&path);
    }
    match opened {
        Ok(connection) => {
            // Real bytes, since a hole holds no room; where there is none, it is made at a later start.
            if !given_up && !reserve.exists() && std::fs::write(&reserve, vec![0; RESERVE.1]).is_err() {
                let _ = std::fs::remove_file(&reserve);
            }
            Ok(connection)
        }
        Err(e) if is_damage(&e) => {
            replace_damaged(dir, &e)?;
            connect(&path)
        }
        Err(e) => Err(e),
    }
}

/// Makes a new file out of what is whole in the damaged one, and only when it is complete puts it in its place; cut off at any
/// moment, the next start does the same again.
fn replace_damaged(dir: &Path, damage: &anyhow::Error) -> Result<()> {
    let (path, new) = (dir.join(FILE), dir.join(SALVAGED));
    let with = |path: &Path, suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(with(&new, suffix)); // of a time before that was cut off
    }
    // Nothing of it counts before it is whole: no log, no waiting for the disk, and indexes and sizes when all is in.
    let mut connection = Connection::open(&new)?;
    connection.execute_batch(&format!("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {TABLES} {BARE}"))?;
    let Salvaged { messages, lost } = salvage(&path, &mut connection)?;
    connection.execute_batch(&format!("{SIZES} {TABLES}"))?;
    connection.close().map_err(|(_, e)| e)?;
    File::open(&new)?.sync_all().context("what was salvaged cannot be written")?;
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let aside = dir.join(format!("outbox.damaged-{stamp}.sqlite"));
    for suffix in ["-wal", "-shm", ""] {
        let old = with(&path, suffix);
        if old.exists() {
            let to = with(&aside, suffix);
            std::fs::rename(&old, to).with_context(|| format!("cannot set {} aside", old.display()))?;
        }
    }
    std::fs::rename(&new, &path).context("what was salvaged cannot be put in place")?;
    File::open(dir)?.sync_all()?;
    let aside = aside.display();
    error!(
        "the outbox was damaged ({damage:#}); it was set aside as {aside}: {messages} messages were saved out of it, {lost} were lost"
    );
    Ok(())
}

fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
            Some(check),
        )
        .into());
    }
    // The log is cut back after it has grown, so that a long transaction does not hold the disk for ever.
    connection.pragma_update(None, "journal_size_limit", 4 << 20)?;
    let columns = |name: &str| -> rusqlite::Result<bool> {
        connection
            .query_row("SELECT count(*) FROM pragma_table_info('messages') WHERE name = ?1", [name], |row| row.get(0))
    };
    let lacks = |column: &str| -> rusqlite::Result<bool> { Ok(columns("id")? && !columns(column)?) };
    let lanes = if lacks("behind")? { ONE_LANE } else { "" };
    // Of files that did not know when a message came: all of them just now. As a default, since a change of each row would write all of a
    // full queue once more, on a disk that may be full.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let dates = if lacks("at")? {
        format!("ALTER TABLE messages ADD COLUMN at INTEGER NOT NULL DEFAULT {now};")
    } else {
        String::new()
    };
    connection.execute_batch(&format!("BEGIN; {lanes} {dates} {TABLES} COMMIT;"))?;
    Ok(connection)
}

fn is_damage(error: &anyhow::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    error
        .downcast_ref::<rusqlite::Error>()
        .and_then(rusqlite::Error::sqlite_error_code)
        .is_some_and(|code| matches!(code, DatabaseCorrupt | NotADatabase))
}

/// Adds to a counter.
pub fn count(connection: &Connection, name: &str, n: u64) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO counters (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = value + ?2",
    )?;
    statement.execute(params![name, n as i64])?;
    Ok(())
}

/// A counter's value; 0 where it was never counted.
pub fn counter(connection: &Connection, name: &str) -> Result<u64> {
    let mut statement = connection.prepare_cached("SELECT coalesce(max(value), 0) FROM counters WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get::<_, i64>(0))? as u64)
}

/// Drops what is over the quota: oldest snapshots, then replies, then what is about alarms that are over, then the rest, and last
/// of all the empty messages that take alarms off the broker, since nothing else ever would. An alarm of which the broker
/// cannot have heard goes as a whole: all of its messages are behind `sent`.
pub fn make_room(connection: &Connection, quota: Quota, sent: i64) -> Result<()> {
    let size = |images: i64| -> Result<(u64, u64)> {
        let mut statement = connection.prepare_cached("SELECT n, bytes FROM sizes WHERE images = ?1")?;
        let (n, bytes) = statement.query_row([images], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
        Ok((n as u64, bytes as u64))
    };
    let mut dropped = 0;
    loop {
        let ((images, image_bytes), (events, event_bytes)) = (size(1)?, size(0)?);
        let crowded = images + events > quota.messages;
        let gone = if images > 0 && (image_bytes > quota.image_bytes || crowded) {
            drop_oldest(connection, "kind = 2")?
        } else if events > 0 && (event_bytes > quota.event_bytes || crowded) {
            let mut gone = drop_oldest(connection, "kind = 3")?;
            if gone == 0 {
                gone = drop_over(connection, sent)?;
            }
            for which in ["kind != 2 AND length(payload) > 0", "kind != 2"] {
                if gone == 0 {
                    gone = drop_oldest(connection, which)?;
                }
            }
            gone
        } else {
            0
        };
        dropped += gone;
        if gone == 0 {
            break;
        }
    }
    if dropped > 0 {
        count(connection, "dropped", dropped)?;
    }
    Ok(())
}

fn drop_oldest(connection: &Connection, which: &str) -> Result<u64> {
    let sql = format!("DELETE FROM messages WHERE id = (SELECT id FROM messages WHERE {which} ORDER BY id LIMIT 1)");
    Ok(connection.prepare_cached(&sql)?.execute([])? as u64)
}

/// Drops the oldest message about an alarm that is over, or all about it.
fn drop_over(connection: &Connection, sent: i64) -> Result<u64> {
    let mut statement = connection.prepare_cached(
        "SELECT id, subject, CASE WHEN kind = 0 AND id > ?1 AND json_valid(CAST(payload AS TEXT)) \
                THEN json_extract(CAST(payload AS TEXT), '$.transition') IS 'raised' END FROM messages \
         WHERE kind IN (0, 1) AND length(payload) > 0 \
           AND NOT EXISTS (SELECT 1 FROM alarms WHERE alarms.id = subject AND active) ORDER BY id LIMIT 1",
    )?;
    let found = statement.query_row([sent], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let gone = match found {
        Some((_, Some(subject), Some(true))) => {
            let subject: String = subject;
            connection.prepare_cached("DELETE FROM messages WHERE subject = ?1")?.execute([subject])?
        }
        Some((id, ..)) => {
            let id: i64 = id;
            connection.prepare_cached("DELETE FROM messages WHERE id = ?1")?.execute([id])?
        }
        None => 0,
    };
    Ok(gone as u64)
}

/// Under which it is noted what the broker may have got.
const SENT: &str = "sent";

/// Notes that from now on every message may have been sent.
pub fn sending(connection: &Connection) -> Result<()> {
    connection.execute("INSERT OR REPLACE INTO notes (name, value) VALUES (?1, 'all')", [SENT])?;
    Ok(())
}

/// Notes that what comes from now on was never sent.
pub fn sent_until_now(connection: &Connection) -> Result<i64> {
    let last = latest(connection)?;
    connection
        .execute("INSERT OR REPLACE INTO notes (name, value) VALUES (?1, ?2)", params![SENT, last.to_string()])?;
    Ok(last)
}

/// The last message that may have been sent, after a start.
pub fn sent(connection: &Connection) -> Result<i64> {
    let noted: Option<String> =
        connection.query_row("SELECT value FROM notes WHERE name = ?1", [SENT], |row| row.get(0)).optional()?;
    // None was noted, or the agent ended without a word while the broker was there.
    noted.and_then(|text| text.parse().ok()).map_or_else(|| sent_until_now(connection), Ok)
}

/// The latest message's id.
pub fn latest(connection: &Connection) -> Result<i64> {
    Ok(connection.query_row("SELECT coalesce(max(id), 0) FROM messages", [], |row| row.get(0))?)
}
