//! Which bundle is the active one, and how far an update is: one small file, replaced as a whole at every step.
//!
//! Guarantees
//! - After a power cut at any moment the file says what it said before a step or after it, and the bundle that it names as active is
//!   whole: slots are made complete before they are named, and one that is named is never written to.
//! - The floor is raised before a bundle becomes active, and lies outside of the slots' folder and this file.
//! - A bundle on trial that ends the agent is given up after [`STARTS`] starts, also across reboots.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::admission::{Admitted, Desired, Floor};
use super::index::Digest;
use super::release::{Promotion, Release};
use crate::durable;
use crate::fail;

/// So many starts a bundle on trial has.
pub const STARTS: u32 = 3;
/// Releases that were given up and are not taken again.
const GIVEN_UP: usize = 64;

/// How far an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing is under way.
    #[default]
    Idle,
    /// Chunks come.
    Receiving,
    /// All is here, as it was signed, and its structure is harmless.
    Verified,
    /// It lies in its slot and has proved itself by its golden vectors, in a process of its own.
    Staged,
    /// It sees live frames beside the active one.
    Shadow,
    /// It is the active one, with a way back.
    Trial,
    /// It is the active one.
    Committed,
    /// It was given up; the one before is active.
    RolledBack,
}

/// Where a bundle lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The folder `a`.
    A,
    /// The folder `b`.
    B,
}

/// A bundle in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Where.
    pub slot: Slot,
    /// Hash of the release's text.
    pub release: Digest,
    /// Hash of its `bundle.json`.
    pub bundle: Digest,
}

/// A bundle that is on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// Where it goes.
    pub installed: Installed,
    /// What was signed.
    pub release: Release,
    /// The message that wants it, with its signature.
    pub desired: Desired,
    /// Starts of the agent since it was begun.
    pub starts: u32,
}

/// A way back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// What was active before; none: the configured bundle.
    pub previous: Option<Installed>,
    /// Starts of the agent since.
    pub starts: u32,
    /// By which it is judged.
    pub promotion: Promotion,
    /// Seconds that the one before took for a frame.
    pub baseline: Option<f64>,
}

/// A release that is not taken again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenUp {
    release: Digest,
    reason: String,
}

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Page {
    phase: Phase,
    reason: Option<String>,
    active: Option<Installed>,
    /// What was active before the active one was committed.
    previous: Option<Installed>,
    candidate: Option<Candidate>,
    trial: Option<Trial>,
    given_up: VecDeque<GivenUp>,
}

/// The ledger of a gateway.
#[derive(Debug)]
pub struct Ledger {
    state: PathBuf,
    page: Page,
    /// None where it cannot be read: then nothing is taken.
    floor: Result<Floor, String>,
    /// The disk has refused what counts all the same.
    unsaved: bool,
}

impl Ledger {
    /// Opens it in a state folder. A file that cannot be read is set aside, and the configured bundle is the active one. Where the
    /// floor cannot be read, nothing is taken.
    #[must_use]
    pub fn open(state: &Path) -> Self {
        let (path, floor) = (state.join("update/ledger.json"), state.join("update-floor.json"));
        let page = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|e| {
                warn!("{} cannot be read ({e}); the configured bundle is the active one", path.display());
                let _ = fs::rename(&path, path.with_extension("damaged"));
                Page::default()
            }),
            Err(_) => Page::default(),
        };
        let floor = match fs::read(&floor) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| {
                let path = floor.display();
                format!("{path} is damaged: write {{\"counter\": N}} into it, N being that of the last release")
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Floor::default()),
            Err(e) => Err(format!("cannot read {}: {e}", floor.display())),
        };
        Self { state: state.to_path_buf(), page, floor, unsaved: false }
    }

    /// The folder of a slot.
    #[must_use]
    pub fn folder(&self, slot: Slot) -> PathBuf {
        self.state.join("model").join(match slot {
            Slot::A => "a",
            Slot::B => "b",
        })
    }

    /// The folder for chunks.
    #[must_use]
    pub fn chunks(&self) -> PathBuf {
        self.state.join("update/chunks")
    }

    /// How far an update is, and why it is no further.
    #[must_use]
    pub fn phase(&self) -> (Phase, Option<&str>) {
        (self.page.phase, self.page.reason.as_deref())
    }

    /// The active bundle; none: the configured one.
    #[must_use]
    pub fn active(&self) -> Option<Installed> {
        self.page.active
    }

    /// What is on its way.
    #[must_use]
    pub fn candidate(&self) -> Option<&Candidate> {
        self.page.candidate.as_ref()
    }

    /// The way back, while there is one.
    #[must_use]
    pub fn trial(&self) -> Option<&Trial> {
        self.page.trial.as_ref()
    }

    /// What was taken so far.
    ///
    /// # Errors
    /// It cannot be read, and what to do: without it an old release could be taken again.
    pub fn floor(&self) -> Result<Floor> {
        self.floor.clone().map_err(|reason| anyhow!(reason))
    }

    /// Why a release was given up, if it was; and whether nothing has happened since.
    #[must_use]
    pub fn given_up(&self, release: &Digest) -> Option<(&str, bool)> {
        let at = self.page.given_up.iter().position(|given| given.release == *release)?;
        let is_last = at + 1 == self.page.given_up.len() && self.page.phase == Phase::RolledBack;
        self.page.given_up.get(at).map(|given| (given.reason.as_str(), is_last))
    }

    /// Tries again to note what the disk has refused.
    ///
    /// # Errors
    /// It refuses again.
    pub fn save(&mut self) -> Result<()> {
        if self.unsaved {
            self.write(&self.page)?;
            self.unsaved = false;
        }
        Ok(())
    }

    /// A release is wanted and comes. What was on its way before is forgotten.
    ///
    /// # Errors
    /// The disk refuses, or a bundle is on trial; nothing has changed then.
    pub fn begin(&mut self, admitted: &Admitted) -> Result<()> {
        ensure!(self.page.trial.is_none(), "another release is on trial");
        // What is made on the spot has its hash when it is made.
        let bundle = admitted.release.bundle().unwrap_or_else(|| Digest::of(b""));
        let slot = if self.page.active.map(|a| a.slot) == Some(Slot::A) { Slot::B } else { Slot::A };
        let installed = Installed { slot, release: admitted.sha256, bundle };
        // From here on that slot is no way back any more.
        let previous = self.page.previous.filter(|p| p.slot != slot);
        let (release, desired) = (admitted.release.clone(), admitted.desired.clone());
        let candidate = Some(Candidate { installed, release, desired, starts: 0 });
        self.turn(Page { phase: Phase::Receiving, reason: None, candidate, previous, ..self.page.clone() })
    }

    /// The candidate has come further.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn advance(&mut self, phase: Phase) -> Result<()> {
        self.turn(Page { phase, reason: None, ..self.page.clone() })
    }

    /// The candidate was made on the spot, and is this bundle.
    ///
    /// # Errors
    /// There is none, or the disk refuses.
    pub fn made(&mut self, bundle: Digest) -> Result<()> {
        let mut page = self.page.clone();
        page.candidate.as_mut().context("there is no candidate")?.installed.bundle = bundle;
        self.turn(page)
    }

    /// The candidate becomes the active one, with a way back. The floor rises first.
    ///
    /// # Errors
    /// There is none, or the disk refuses; the old one is active then.
    pub fn try_out(&mut self, baseline: Option<f64>) -> Result<()> {
        let candidate = self.page.candidate.clone().context("there is no candidate")?;
        let floor = self.floor()?.raised(&candidate.release, candidate.installed.release);
        fail::point("floor.before");
        durable::write(&self.state.join("update-floor.json"), &serde_json::to_vec(&floor)?)?;
        self.floor = Ok(floor);
        fail::point("floor.after");
        let promotion = candidate.release.promotion;
        let trial = Trial { previous: self.page.active, starts: 0, promotion, baseline };
        self.turn(Page {
            phase: Phase::Trial,
            reason: None,
            active: Some(candidate.installed),
            trial: Some(trial),
            ..self.page.clone()
        })
    }

    /// The bundle on trial stays.
    ///
    /// # Errors
    /// There is none, or the disk refuses.
    pub fn commit(&mut self) -> Result<()> {
        let trial = self.page.trial.clone().context("nothing is on trial")?;
        let previous = trial.previous;
        self.turn(Page {
            phase: Phase::Committed,
            reason: None,
            candidate: None,
            trial: None,
            previous,
            ..self.page.clone()
        })
    }

    /// The candidate, or the bundle on trial, is given up and not taken again; what was active before is so again. This holds for
    /// this run also where the disk refuses to note it; [`Ledger::save`] tries again.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn give_up(&mut self, reason: &str) -> Result<()> {
        let page = &mut self.page;
        if let Some(candidate) = page.candidate.take() {
            let release = candidate.installed.release;
            page.given_up.retain(|given| given.release != release);
            page.given_up.push_back(GivenUp { release, reason: reason.to_owned() });
        }
        while page.given_up.len() > GIVEN_UP {
            page.given_up.pop_front();
        }
        if let Some(trial) = page.trial.take() {
            page.active = trial.previous;
        }
        (page.phase, page.reason) = (Phase::RolledBack, Some(reason.to_owned()));
        self.unsaved = true;
        self.save()
    }

    /// What was on its way is not wanted any more; it can be taken later.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn forget(&mut self) -> Result<()> {
        self.turn(Page { phase: Phase::Idle, reason: None, candidate: None, ..self.page.clone() })
    }

    /// The agent starts. Whether a bundle on trial, or one on its way, has had its starts and was given up; or cannot be counted,
    /// and is given up for this run.
    pub fn started(&mut self) -> bool {
        let mut page = self.page.clone();
        let starts = match (&mut page.trial, &mut page.candidate) {
            (Some(trial), _) => &mut trial.starts,
            (None, Some(candidate)) => &mut candidate.starts,
            (None, None) => return false,
        };
        *starts += 1;
        // While chunks come, which may take days, most ends are power cuts and no fault of the release.
        let most = if page.phase == Phase::Receiving { 10 * STARTS } else { STARTS };
        let reason = if *starts > most {
            format!("it ended the agent {most} times")
        } else if let Err(e) = self.turn(page) {
            format!("starts cannot be counted: {e:#}")
        } else {
            return false;
        };
        if let Err(e) = self.give_up(&reason) {
            warn!("it cannot be noted that an update is given up: {e:#}");
        }
        true
    }

    /// The agent ends because it was told to, which is no fault of the bundle on trial.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn stopped(&mut self) -> Result<()> {
        let mut page = self.page.clone();
        match (&mut page.trial, &mut page.candidate) {
            (Some(trial), _) => trial.starts = 0,
            (None, Some(candidate)) => candidate.starts = 0,
            (None, None) => return Ok(()),
        }
        self.turn(page)
    }

    /// The active bundle cannot be used: on trial it is given up, else the one before takes its place, or the configured one; it may
    /// be taken again. This holds for this run also where the disk refuses to note it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn fall_back(&mut self, reason: &str) -> Result<()> {
        if self.page.trial.is_some() {
            return self.give_up(reason);
        }
        let page = &mut self.page;
        page.candidate = None;
        page.active = page.previous.take();
        (page.phase, page.reason) = (Phase::RolledBack, Some(reason.to_owned()));
        self.unsaved = true;
        self.save()
    }

    fn turn(&mut self, page: Page) -> Result<()> {
        self.write(&page)?;
        (self.page, self.unsaved) = (page, false);
        Ok(())
    }

    fn write(&self, page: &Page) -> Result<()> {
        fail::point("ledger.before");
        durable::write(&self.state.join("update/ledger.json"), &serde_json::to_vec_pretty(page)?)?;
        fail::point("ledger.after");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
