//! What operators say about an update, between the thread of commands and the updater.

use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail, ensure};

use super::ledger::Phase;

/// A word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// The candidate may become the active bundle.
    Approve,
    /// The candidate, or what is on trial, is to be given up; who says so.
    RollBack(String),
}

#[derive(Debug, Default)]
struct Inner {
    phase: Phase,
    waits: bool,
    word: Option<Word>,
}

/// Where words are left.
#[derive(Debug, Default)]
pub struct Desk(Mutex<Inner>);

impl Desk {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the update is now.
    pub fn show(&self, phase: Phase, waits: bool) {
        let mut inner = self.lock();
        (inner.phase, inner.waits) = (phase, waits);
    }

    /// Leaves a word.
    ///
    /// # Errors
    /// It makes no sense now, and why.
    pub fn say(&self, word: Word) -> Result<()> {
        let mut inner = self.lock();
        match word {
            Word::Approve => ensure!(inner.waits, "no update waits for approval"),
            Word::RollBack(_) => match inner.phase {
                Phase::Receiving | Phase::Verified | Phase::Staged | Phase::Shadow | Phase::Trial => {}
                Phase::Committed => {
                    bail!("the update is committed: sign the release before it with --rollback-to and push that")
                }
                Phase::Idle | Phase::RolledBack => bail!("no update is under way"),
            },
        }
        inner.word = Some(word);
        Ok(())
    }

    /// The word that was left last.
    pub fn take(&self) -> Option<Word> {
        self.lock().word.take()
    }
}
