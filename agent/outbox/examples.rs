//! What can be taught: how alarms and the pictures that go with them look to the network, for a while after they are gone.
//!
//! Guarantees: bounded ([`LOOKS`], [`SCENES`]), written in the transaction of the alarm that they belong to, and all by the
//! network that runs.

use anyhow::Result;
use rusqlite::{OptionalExtension, params};

use super::{Outbox, Transaction};

/// Alarms whose look is remembered.
pub const LOOKS: usize = 2000;
/// Pictures of which every region can be looked up; each takes about 100 KB.
pub const SCENES: usize = 64;

impl Outbox {
    /// What an alarm looks like; `None` where it is unknown, or too old.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn look(&self, alarm: &str) -> Result<Option<Vec<f32>>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT look FROM looks WHERE alarm = ?1")?;
        let bytes: Option<Vec<u8>> = statement.query_row([alarm], |row| row.get(0)).optional()?;
        Ok(bytes.map(|bytes| bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()))
    }

    /// What the network has seen of the picture with this hash; `None` where it is unknown, or too old.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn scene(&self, image: &str) -> Result<Option<Vec<u8>>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT scene FROM scenes WHERE image = ?1")?;
        Ok(statement.query_row([image], |row| row.get(0)).optional()?)
    }

    /// Forgets all looks and scenes, unless they are by the network of this mark; those that come from now on are.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn looks_are_by(&self, is_same: impl Fn(&str) -> bool, mark: &str) -> Result<()> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT value FROM notes WHERE name = 'mark'")?;
        let known: Option<String> = statement.query_row([], |row| row.get(0)).optional()?;
        if !known.is_some_and(|known| is_same(&known)) {
            connection.execute("DELETE FROM looks", [])?;
            connection.execute("DELETE FROM scenes", [])?;
            connection.execute("INSERT OR REPLACE INTO notes (name, value) VALUES ('mark', ?1)", [mark])?;
        }
        Ok(())
    }
}

impl Transaction<'_> {
    /// Keeps what an alarm looks like, also after it was cleared, and forgets the oldest beyond [`LOOKS`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_look(&mut self, alarm: &str, look: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = look.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.inner
            .prepare_cached(
                "INSERT INTO looks (alarm, look) VALUES (?1, ?2) ON CONFLICT (alarm) DO UPDATE SET look = ?2",
            )?
            .execute(params![alarm, bytes])?;
        self.inner
            .prepare_cached("DELETE FROM looks WHERE n <= (SELECT max(n) FROM looks) - ?1")?
            .execute([i64::try_from(LOOKS)?])?;
        Ok(())
    }

    /// Keeps what the network has seen of a picture, and forgets the oldest beyond [`SCENES`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_scene(&mut self, image: &str, scene: &[u8]) -> Result<()> {
        self.inner
            .prepare_cached("INSERT OR REPLACE INTO scenes (image, scene) VALUES (?1, ?2)")?
            .execute(params![image, scene])?;
        self.inner
            .prepare_cached("DELETE FROM scenes WHERE n <= (SELECT max(n) FROM scenes) - ?1")?
            .execute([i64::try_from(SCENES)?])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Quota;

    #[test]
    fn the_latest_are_kept_until_another_network_comes() {
        let dir = tempfile::tempdir().unwrap();
        let quota = Quota { messages: 100, image_bytes: 1 << 20, event_bytes: 1 << 20 };
        let outbox = Outbox::open(dir.path(), quota).unwrap();
        outbox.looks_are_by(|_| false, "one").unwrap();
        for n in 0..=SCENES {
            outbox
                .transaction(|t| {
                    t.save_look(&n.to_string(), &[n as f32])?;
                    t.save_scene(&n.to_string(), &[7, n as u8])
                })
                .unwrap();
        }
        assert_eq!(outbox.scene("0").unwrap(), None);
        assert_eq!(outbox.scene("1").unwrap(), Some(vec![7, 1]));
        outbox.looks_are_by(|known| known == "one", "one").unwrap();
        assert_eq!((outbox.look("5").unwrap(), outbox.scene("5").unwrap()), (Some(vec![5.0]), Some(vec![7, 5])));
        outbox.looks_are_by(|known| known == "two", "two").unwrap();
        assert_eq!((outbox.look("5").unwrap(), outbox.scene("5").unwrap()), (None, None));
    }
}
