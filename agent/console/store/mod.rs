//! What the console knows: SQLite in WAL mode, and pictures as files beside it.
//!
//! Guarantees
//! - When [`Store::take`] returns, what it was given is on the disk (`synchronous = FULL`), all of it or nothing. The broker is told
//!   after that, so that nothing is lost whatever ends the console.
//! - An event counts once, by its id, however often it comes, and finds its place by its number and time however late.
//! - Numbers of a gateway's events that did not come are a [`Gap`] until they do.
//! - One writer, several readers; a reader never waits for the writer.

mod alarms;
mod commands;
mod figures;
mod images;
mod intake;
mod people;
mod retention;
mod schema;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

pub use alarms::{AlarmRow, Counts, EventRow, Page, Query, View};
pub use commands::CommandRow;
pub use figures::{Bucket, Figures};
pub use intake::{Gap, Item, Taken};
pub use people::{NewToken, Person, Role};
pub use retention::{Gone, Keep};

/// Connections for reading.
const READERS: usize = 4;
/// A reader waits so long for one of them.
const PATIENCE: Duration = Duration::from_secs(10);

/// The store.
pub struct Store {
    dir: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    returned: Condvar,
    /// Held for as long as the store is open.
    _lock: File,
}

impl Store {
    /// Opens the store in this folder, which is made where it is missing.
    ///
    /// # Errors
    /// The disk refuses, another console uses it, or it is damaged or of a later agent.
    pub fn open(dir: &Path) -> Result<Self> {
        if !dir.is_dir() {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
            private(dir)?;
        }
        let lock = File::create(dir.join("lock")).with_context(|| format!("cannot write to {}", dir.display()))?;
        if lock.try_lock().is_err() {
            bail!("another console uses {}: give each its own --state", dir.display());
        }
        let path = dir.join("console.db");
        let of = || format!("cannot open the store {}", path.display());
        let mut writer = Connection::open(&path).with_context(of)?;
        // Before the file has a first page; later it has no effect.
        writer.pragma_update(None, "auto_vacuum", "INCREMENTAL").with_context(of)?;
        writer.pragma_update(None, "journal_mode", "WAL").with_context(of)?;
        writer.pragma_update(None, "synchronous", "FULL")?;
        writer.pragma_update(None, "journal_size_limit", 64 << 20)?;
        writer.busy_timeout(PATIENCE)?;
        schema::prepare(&mut writer).with_context(of)?;
        let reader = || -> Result<Connection> {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let reader = Connection::open_with_flags(&path, flags).with_context(of)?;
            reader.busy_timeout(PATIENCE)?;
            reader.pragma_update(None, "cache_size", -16_384)?;
            Ok(reader)
        };
        let readers = (0..READERS).map(|_| reader()).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            dir: dir.to_owned(),
            writer: Mutex::new(writer),
            readers: Mutex::new(readers),
            returned: Condvar::new(),
            _lock: lock,
        })
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a query on a connection that only reads.
    fn read<R>(&self, f: impl FnOnce(&Connection) -> Result<R>) -> Result<R> {
        let pool = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut pool, _) = self
            .returned
            .wait_timeout_while(pool, PATIENCE, |pool| pool.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let reader = pool.pop().context("too many ask at once: try again later")?;
        drop(pool);
        f(&Borrowed { store: self, reader: Some(reader) })
    }

    /// A value that is kept under a name.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        let query = "SELECT value FROM setting WHERE name = ?1";
        self.read(|reader| Ok(reader.query_row(query, [name], |row| row.get(0)).optional()?))
    }

    /// Keeps a value under a name.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        let text = "INSERT INTO setting VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2";
        self.writer().execute(text, [name, value])?;
        Ok(())
    }
}

/// A connection that goes back whatever happens.
struct Borrowed<'s> {
    store: &'s Store,
    reader: Option<Connection>,
}

impl std::ops::Deref for Borrowed<'_> {
    type Target = Connection;

    #[allow(clippy::expect_used)]
    fn deref(&self) -> &Connection {
        self.reader.as_ref().expect("it is taken when it is dropped")
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.store.readers.lock().unwrap_or_else(PoisonError::into_inner).extend(self.reader.take());
        self.store.returned.notify_one();
    }
}

/// Passwords' hashes lie in it: nobody else needs to read it.
fn private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot make {} private", dir.display()))
}

/// A time as it is kept.
fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// A time that was kept.
fn time(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
