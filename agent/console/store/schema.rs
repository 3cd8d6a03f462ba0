//! The tables, and how a store of an earlier agent becomes one of this.

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;

/// What `user_version` says.
const VERSION: i64 = 1;

/// Times are milliseconds since 1970, ids and hashes as they are written.
const TABLES: &str = "
CREATE TABLE event (
    id TEXT PRIMARY KEY,
    site TEXT NOT NULL, gateway TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    at INTEGER NOT NULL, alarm TEXT NOT NULL, transition TEXT NOT NULL,
    body TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX event_of_alarm ON event (alarm, at);
CREATE INDEX event_by_time ON event (at);
CREATE INDEX event_by_number ON event (site, gateway, epoch, seq);

-- One row an alarm: what its latest event says.
CREATE TABLE alarm (
    alarm TEXT PRIMARY KEY,
    site TEXT NOT NULL, gateway TEXT NOT NULL, camera TEXT NOT NULL,
    kind TEXT NOT NULL, class TEXT NOT NULL, severity INTEGER NOT NULL, score REAL NOT NULL,
    state TEXT NOT NULL, open INTEGER NOT NULL,
    raised_at INTEGER NOT NULL, changed_at INTEGER NOT NULL, acknowledged_at INTEGER, cleared_at INTEGER,
    epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
    image TEXT, comment TEXT, received_at INTEGER NOT NULL
);
-- Apart, since lists are filtered by the rest.
CREATE TABLE alarm_body (alarm TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX alarm_quiet ON alarm (state, raised_at) WHERE open = 0 AND state <> 'normal';
CREATE INDEX alarm_received ON alarm (received_at) WHERE open = 0;
CREATE INDEX alarm_by_time ON alarm (raised_at, alarm);
CREATE INDEX alarm_open ON alarm (open, raised_at) WHERE open = 1;
CREATE INDEX alarm_of_camera ON alarm (site, gateway, camera, raised_at);
CREATE INDEX alarm_of_class ON alarm (class, raised_at);

-- How far each gateway's numbers have come. An epoch begins where a gateway was set up anew and counts from 1 again.
CREATE TABLE gateway (
    site TEXT NOT NULL, gateway TEXT NOT NULL, epoch INTEGER NOT NULL, top INTEGER NOT NULL, latest INTEGER NOT NULL,
    PRIMARY KEY (site, gateway)
) WITHOUT ROWID;
CREATE TABLE gap (
    site TEXT NOT NULL, gateway TEXT NOT NULL, epoch INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    noticed_at INTEGER NOT NULL,
    PRIMARY KEY (site, gateway, epoch, first)
) WITHOUT ROWID;

CREATE TABLE image (sha256 TEXT PRIMARY KEY, at INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX image_by_time ON image (at);

CREATE TABLE command (
    id TEXT PRIMARY KEY, site TEXT NOT NULL, gateway TEXT NOT NULL, command TEXT NOT NULL, payload TEXT NOT NULL,
    by TEXT NOT NULL, at INTEGER NOT NULL, ok INTEGER, error TEXT, result TEXT, replied_at INTEGER
) WITHOUT ROWID;
CREATE INDEX command_pending ON command (at) WHERE replied_at IS NULL;
CREATE TABLE command_alarm (alarm TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (alarm, id)) WITHOUT ROWID;
CREATE INDEX command_alarm_by_command ON command_alarm (id);

CREATE TABLE person (name TEXT PRIMARY KEY, role TEXT NOT NULL, password TEXT NOT NULL, created_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE session (token TEXT PRIMARY KEY, person TEXT NOT NULL, seen_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE token (name TEXT PRIMARY KEY, role TEXT NOT NULL, token TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL) WITHOUT ROWID;

-- What a webhook has not been told yet.
CREATE TABLE told (n INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
";

/// Makes the tables where there are none.
///
/// # Errors
/// The store is of a later agent, or the disk refuses.
pub fn prepare(connection: &mut Connection) -> Result<()> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    ensure!(
        version <= VERSION,
        "the store was made by a later inspectd (version {version}, this one knows {VERSION}): use that one, or another --state"
    );
    if version == 0 {
        let transaction = connection.transaction()?;
        transaction.execute_batch(TABLES).context("cannot make the store's tables")?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    Ok(())
}
