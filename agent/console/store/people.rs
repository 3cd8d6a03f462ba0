//! Who may do what: people with passwords and their sessions, and other systems with tokens.
//!
//! Passwords are kept as argon2id; sessions and tokens are random, and only their SHA-256 is kept.

use anyhow::{Context, Result, bail, ensure};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Store, millis, time};
use crate::config::Name;

/// A session that was not used for so long is over.
const IDLE: SignedDuration = SignedDuration::from_hours(12);
/// Sessions of all people; of more the ones that were not used longest end.
const SESSIONS: i64 = 1000;
/// Letters of a password.
const LETTERS: std::ops::RangeInclusive<usize> = 10..=200;
/// People, and tokens.
const MOST: i64 = 1000;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See all, answer alarms, teach.
    Operator,
    /// And push models, configure, and say who may do what.
    Engineer,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Engineer => "engineer",
        }
    }

    fn of(word: &str) -> Self {
        if word == "engineer" { Self::Engineer } else { Self::Operator }
    }
}

/// Somebody, or another system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Person {
    /// The name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Since when.
    pub created_at: Timestamp,
}

/// A token, as it is said once.
#[derive(Debug, Serialize)]
pub struct NewToken {
    /// The token.
    pub token: String,
}

/// 256 random bits.
fn random() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

fn digest(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

/// argon2id; takes some 20 ms and 19 MiB.
fn hashed(password: &str) -> Result<String> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    Ok(hash.map_err(|e| anyhow::anyhow!("the password cannot be hashed: {e}"))?.to_string())
}

fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

impl Store {
    /// Makes the first engineer where there is nobody; gives the name and the password, which is never told again.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn first_person(&self, now: Timestamp) -> Result<Option<(&'static str, String)>> {
        if !self.people()?.is_empty() {
            return Ok(None);
        }
        let password: String = random().chars().take(20).collect();
        self.add_person("admin", Role::Engineer, &password, now)?;
        Ok(Some(("admin", password)))
    }

    /// Adds somebody.
    ///
    /// # Errors
    /// The name is taken or none, the password too short, or the disk refuses.
    pub fn add_person(&self, name: &str, role: Role, password: &str, now: Timestamp) -> Result<()> {
        let name = Name::new(name).map_err(anyhow::Error::msg).context("the name")?;
        fits(password)?;
        let hash = hashed(password)?;
        let writer = self.writer();
        let count: i64 = writer.query_row("SELECT count(*) FROM person", [], |row| row.get(0))?;
        ensure!(count < MOST, "there are {MOST} people already");
        let row = params![name.as_str(), role.word(), hash, millis(now)];
        ensure!(
            writer.execute("INSERT OR IGNORE INTO person VALUES (?1, ?2, ?3, ?4)", row)? == 1,
            "{name} is there already"
        );
        Ok(())
    }

    /// A new password for somebody, whose sessions end; it is never told again.
    ///
    /// # Errors
    /// There is no such person, or the disk refuses.
    pub fn reset_password(&self, name: &str) -> Result<String> {
        let password: String = random().chars().take(20).collect();
        let hash = hashed(&password)?;
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        let known = transaction.execute("UPDATE person SET password = ?2 WHERE name = ?1", [name, &hash])?;
        ensure!(known == 1, "there is no user {name}");
        transaction.execute("DELETE FROM session WHERE person = ?1", [name])?;
        transaction.commit()?;
        Ok(password)
    }

    /// Removes somebody, and ends the sessions.
    ///
    /// # Errors
    /// There is no such person, it is the last engineer, or the disk refuses.
    pub fn remove_person(&self, name: &str) -> Result<()> {
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        ensure!(transaction.execute("DELETE FROM person WHERE name = ?1", [name])? == 1, "there is no {name}");
        let text = "SELECT count(*) FROM person WHERE role = 'engineer'";
        let engineers: i64 = transaction.query_row(text, [], |row| row.get(0))?;
        ensure!(engineers > 0, "{name} is the last engineer: add another one first");
        transaction.execute("DELETE FROM session WHERE person = ?1", [name])?;
        Ok(transaction.commit()?)
    }

    /// Another password; all of the person's sessions but this one end.
    ///
    /// # Errors
    /// It is too short, or the disk refuses.
    pub fn change_password(&self, name: &str, new: &str, session: &str) -> Result<()> {
        fits(new)?;
        let hash = hashed(new)?;
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        transaction.execute("UPDATE person SET password = ?2 WHERE name = ?1", [name, &hash])?;
        transaction.execute("DELETE FROM session WHERE person = ?1 AND token <> ?2", [name, &digest(session)])?;
        Ok(transaction.commit()?)
    }

    /// Who that is, if the password is right. Takes the same time where there is no such person.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn checked(&self, name: &str, password: &str) -> Result<Option<Role>> {
        // Of no password.
        const NOBODY: &str =
            "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let text = "SELECT role, password FROM person WHERE name = ?1";
        let row = |row: &rusqlite::Row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
        let found = self.read(|reader| Ok(reader.query_row(text, [name], row).optional()?))?;
        let (role, hash) = found.map_or((None, NOBODY.to_owned()), |(role, hash)| (Some(role), hash));
        Ok(verify(password, &hash).then(|| role.map(|role| Role::of(&role))).flatten())
    }

    /// Begins a session; gives its token.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn begin_session(&self, name: &str, now: Timestamp) -> Result<String> {
        let token = random();
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        transaction.execute("DELETE FROM session WHERE seen_at < ?1", [millis(now) - IDLE.as_millis() as i64])?;
        transaction.execute("INSERT INTO session VALUES (?1, ?2, ?3)", params![digest(&token), name, millis(now)])?;
        let text =
            "DELETE FROM session WHERE token IN (SELECT token FROM session ORDER BY seen_at DESC LIMIT -1 OFFSET ?1)";
        transaction.execute(text, [SESSIONS])?;
        transaction.commit()?;
        Ok(token)
    }

    /// Whose session it is; it goes on by being used.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn in_session(&self, token: &str, now: Timestamp) -> Result<Option<Person>> {
        let (token, text) = (
            digest(token),
            "SELECT person.name, person.role, person.created_at, seen_at FROM session JOIN person ON person.name = session.person WHERE token = ?1 AND seen_at >= ?2",
        );
        let found = self.read(|reader| {
            let row = |row: &rusqlite::Row| {
                let role: String = row.get(1)?;
                Ok((
                    Person { name: row.get(0)?, role: Role::of(&role), created_at: time(row.get(2)?) },
                    row.get::<_, i64>(3)?,
                ))
            };
            let values = params![token, millis(now) - IDLE.as_millis() as i64];
            Ok(reader.prepare_cached(text)?.query_row(values, row).optional()?)
        })?;
        if let Some((_, seen)) = &found
            && millis(now) - seen > 60_000
        {
            self.writer().execute("UPDATE session SET seen_at = ?2 WHERE token = ?1", params![token, millis(now)])?;
        }
        Ok(found.map(|(person, _)| person))
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn end_session(&self, token: &str) -> Result<()> {
        self.writer().execute("DELETE FROM session WHERE token = ?1", [digest(token)])?;
        Ok(())
    }

    /// Everybody.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn people(&self) -> Result<Vec<Person>> {
        self.persons("SELECT name, role, created_at FROM person ORDER BY name")
    }

    /// The other systems that may come in.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn tokens(&self) -> Result<Vec<Person>> {
        self.persons("SELECT name, role, created_at FROM token ORDER BY name")
    }

    fn persons(&self, text: &str) -> Result<Vec<Person>> {
        self.read(|reader| {
            let mut statement = reader.prepare_cached(text)?;
            let rows = statement.query_map([], |row| {
                let role: String = row.get(1)?;
                Ok(Person { name: row.get(0)?, role: Role::of(&role), created_at: time(row.get(2)?) })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// A token for another system.
    ///
    /// # Errors
    /// The name is taken or none, or the disk refuses.
    pub fn add_token(&self, name: &str, role: Role, now: Timestamp) -> Result<NewToken> {
        let name = Name::new(name).map_err(anyhow::Error::msg).context("the name")?;
        let token = format!("inspectd_{}", random());
        let writer = self.writer();
        let count: i64 = writer.query_row("SELECT count(*) FROM token", [], |row| row.get(0))?;
        ensure!(count < MOST, "there are {MOST} tokens already");
        let row = params![name.as_str(), role.word(), digest(&token), millis(now)];
        ensure!(
            writer.execute("INSERT OR IGNORE INTO token VALUES (?1, ?2, ?3, ?4)", row)? == 1,
            "{name} is there already"
        );
        Ok(NewToken { token })
    }

    /// Takes a token back.
    ///
    /// # Errors
    /// There is none, or the disk refuses.
    pub fn remove_token(&self, name: &str) -> Result<()> {
        if self.writer().execute("DELETE FROM token WHERE name = ?1", [name])? == 0 {
            bail!("there is no token {name}");
        }
        Ok(())
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn of_token(&self, token: &str) -> Result<Option<Person>> {
        let text = "SELECT name, role, created_at FROM token WHERE token = ?1";
        self.read(|reader| {
            let row = |row: &rusqlite::Row| {
                let role: String = row.get(1)?;
                Ok(Person { name: row.get(0)?, role: Role::of(&role), created_at: time(row.get(2)?) })
            };
            Ok(reader.prepare_cached(text)?.query_row([digest(token)], row).optional()?)
        })
    }
}

fn fits(password: &str) -> Result<()> {
    let (least, most) = (LETTERS.start(), LETTERS.end());
    ensure!(LETTERS.contains(&password.chars().count()), "a password has {least} to {most} letters");
    Ok(())
}
