//! What is thrown away, so that the disk never fills: what is too old, and the oldest where it is too much. Alarms that are not over stay,
//! and the pictures of those that are open.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use rusqlite::params;
use tracing::warn;

use super::{Store, images, millis};

/// Rows a transaction, so that what comes need not wait.
const CHUNK: i64 = 500;

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// For so long.
    pub age: SignedDuration,
    /// Bytes of all, of which pictures may have nine tenths.
    pub bytes: u64,
}

/// What was thrown away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gone {
    /// Alarms with their events.
    pub alarms: usize,
    /// Pictures.
    pub images: usize,
}

impl Store {
    /// Bytes of the tables that are in use, and of pictures.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn size(&self) -> Result<(u64, u64)> {
        self.read(|reader| {
            let pragma = |name: &str| reader.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            let tables = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
            let images: i64 = reader.query_row("SELECT coalesce(sum(bytes), 0) FROM image", [], |row| row.get(0))?;
            Ok((tables.max(0) as u64, images.max(0) as u64))
        })
    }

    /// Throws away what is not to be kept; what it does between two chunks can be seen by everybody.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn tidy(&self, keep: &Keep, now: Timestamp) -> Result<Gone> {
        let (mut gone, before) = (Gone::default(), millis(now) - keep.age.as_millis() as i64);
        while self.size()?.1 > keep.bytes / 10 * 9 {
            let images = self.drop_images("1", i64::MAX)?;
            gone.images += images;
            if images == 0 {
                break;
            }
            give_way();
        }
        loop {
            let images = self.drop_images("at < ?2", before)?;
            gone.images += images;
            if images < CHUNK as usize {
                break;
            }
            give_way();
        }
        loop {
            let (tables, pictures) = self.size()?;
            let is_full = tables + pictures > keep.bytes && tables > keep.bytes / 10;
            let alarms = self.drop_alarms(if is_full { i64::MAX } else { before })?;
            gone.alarms += alarms;
            if alarms < CHUNK as usize && (!is_full || alarms == 0) {
                break;
            }
            give_way();
        }
        let week = millis(now) - SignedDuration::from_hours(7 * 24).as_millis() as i64;
        let writer = self.writer();
        writer.execute("DELETE FROM gap WHERE noticed_at < ?1", [before])?;
        writer.execute(
            "DELETE FROM command WHERE at < ?1 AND replied_at IS NOT NULL AND id NOT IN
                (SELECT id FROM command_alarm WHERE alarm IN (SELECT alarm FROM alarm))",
            [week],
        )?;
        writer.execute("DELETE FROM command_alarm WHERE id NOT IN (SELECT id FROM command)", [])?;
        let untold = writer.execute("DELETE FROM told WHERE n <= (SELECT max(n) FROM told) - 10000", [])?;
        if untold > 0 {
            warn!("{untold} alarms that the webhook was not told of are given up, since too many wait");
        }
        // A row a page; they have to be asked for one by one.
        let mut vacuum = writer.prepare("PRAGMA incremental_vacuum(4096)")?;
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
        drop(pages);
        Ok(gone)
    }

    /// The oldest pictures of these, a chunk.
    fn drop_images(&self, which: &str, before: i64) -> Result<usize> {
        let writer = self.writer();
        let text = format!(
            "DELETE FROM image WHERE sha256 IN (SELECT sha256 FROM image WHERE {which} AND ?2 >= 0
                AND sha256 NOT IN (SELECT image FROM alarm WHERE open = 1 AND image IS NOT NULL) ORDER BY at LIMIT ?1) RETURNING sha256"
        );
        let mut statement = writer.prepare_cached(&text)?;
        let rows = statement.query_map(params![CHUNK, before], |row| row.get::<_, String>(0))?;
        let hashes = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        for sha256 in &hashes {
            let _ = fs::remove_file(images::path(&self.dir, sha256)); // one that is gone already is no loss
        }
        Ok(hashes.len())
    }

    /// The oldest alarms that are over, with their events, a chunk.
    fn drop_alarms(&self, before: i64) -> Result<usize> {
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        let text = "CREATE TEMP TABLE IF NOT EXISTS gone (alarm TEXT PRIMARY KEY)";
        transaction.execute_batch(text)?;
        transaction.execute("DELETE FROM gone", [])?;
        let text = "INSERT INTO gone SELECT alarm FROM alarm WHERE received_at < ?1 AND open = 0 AND state = 'normal'
                    ORDER BY received_at LIMIT ?2";
        let count = transaction.execute(text, params![before, CHUNK])?;
        transaction.execute_batch(
            "DELETE FROM event WHERE alarm IN (SELECT alarm FROM gone);
             DELETE FROM command_alarm WHERE alarm IN (SELECT alarm FROM gone);
             DELETE FROM alarm_body WHERE alarm IN (SELECT alarm FROM gone);
             DELETE FROM alarm WHERE alarm IN (SELECT alarm FROM gone);",
        )?;
        transaction.commit()?;
        Ok(count)
    }
}

/// Between two chunks: whoever waits for the store is not overtaken by the next one, which a lock alone does not promise.
fn give_way() {
    std::thread::sleep(Duration::from_millis(5));
}
