//! What is reported.

use tokio::time::Instant;

use super::{FIGURES, Stage, Updater};
use crate::update::index::Digest;
use crate::update::ledger::Phase;
use crate::update::release::Release;
use crate::update::reported::{CandidateRef, Reported, SCHEMA};

impl Updater {
    pub(super) fn report(&mut self) {
        let (phase, reason) = self.ledger.phase();
        let reason = reason.map(str::to_owned);
        let waits = matches!(self.stage, Stage::Waiting).then(|| "it waits for the command approve".to_owned());
        let held = self.held.as_ref().map(|(reason, _)| reason.clone());
        let reason = waits.or(held).or_else(|| self.refused.clone()).or(reason);
        self.parts.desk.show(phase, matches!(self.stage, Stage::Waiting));
        // Figures change with every chunk and frame; once a second is often enough.
        let (last, at) = &self.reported;
        if last.as_ref() == Some(&(phase, reason.clone())) && at.elapsed() < FIGURES {
            return;
        }
        self.reported = (Some((phase, reason.clone())), Instant::now());
        let candidate = self.ledger.candidate().map(|c| reference(&c.release, c.installed.release));
        let (received, needed) = self.transferred;
        let share = |done: u64, all: u64| if all == 0 { 0.0 } else { (done as f64 / all as f64).min(1.0) };
        let progress = match (&self.stage, self.ledger.trial(), self.ledger.candidate()) {
            (Stage::Receiving(_), ..) => share(received, needed),
            (Stage::Shadow(looking), _, Some(c)) => {
                share(looking.shadow.frames(), c.release.promotion.shadow_frames.into())
            }
            (Stage::Trial { frames, .. }, Some(trial), _) => share(*frames, trial.promotion.trial_frames.into()),
            (Stage::Waiting, ..) => 1.0,
            _ => f64::from(u8::from(phase == Phase::Committed)),
        };
        let reported = Reported {
            schema: SCHEMA.into(),
            phase,
            progress: (progress * 100.0).floor() / 100.0,
            reason,
            wanted: self.about,
            active: self.active.clone(),
            release: self.ledger.active().map(|a| a.release),
            candidate,
            received,
            needed,
            shadow: self.shadow,
            floor: self.ledger.floor().map_or(0, |floor| floor.counter),
        };
        if let Ok(payload) = serde_json::to_vec(&reported) {
            self.parts.board.set(&self.parts.topics.reported(), payload);
        }
    }
}

fn reference(release: &Release, sha256: Digest) -> CandidateRef {
    CandidateRef { name: release.name.clone(), version: release.version.to_string(), counter: release.counter, sha256 }
}
