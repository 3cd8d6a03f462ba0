//! From a candidate to the active bundle, or back.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::block_in_place;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{Decided, FAILURES, FEW, HANGS, Parts, Stage, Updater, clean};
use crate::anomaly::memory::Mark;
use crate::engine::Engine;
use crate::exit::{self, Exit};
use crate::fitting::{self, Want};
use crate::model::bundle::Bundle;
use crate::mqtt::payload::ModelRef;
use crate::update::boot;

impl Updater {
    /// The candidate becomes the active bundle, between two frames.
    pub(super) fn promote(&mut self) -> Result<Stage> {
        if !self.goes_on() {
            return Ok(Stage::Idle);
        }
        let candidate = self.ledger.candidate().context("there is no candidate")?.clone();
        let bundle = block_in_place(|| boot::open(&self.ledger, candidate.installed))?;
        // The configuration may have changed since it was staged.
        self.is_enough(&bundle.manifest)?;
        let before = self.parts.pipeline.tally();
        let baseline = (before.frames > 0).then(|| before.seconds / before.frames as f64);
        // From here on a crash of this process counts as one of the bundle.
        block_in_place(|| self.ledger.try_out(baseline))?;
        self.swap_in(&bundle)?;
        info!(name = candidate.release.name, counter = candidate.release.counter, "an update is on trial");
        Ok(Stage::Trial { frames: 0, moved: Instant::now() })
    }

    fn swap_in(&mut self, bundle: &Bundle) -> Result<()> {
        let Parts { config, environment, keeper, school, outbox, .. } = &self.parts;
        let workers = config.get().model.workers();
        let engine = block_in_place(|| boot::guarded(|| Engine::start(workers, environment, bundle)))?;
        let (kind, mark) = (Arc::clone(&engine.kind), engine.kind.mark.clone());
        let alike = mark.is_like(&self.mark);
        if !alike {
            warn!("the new network sees otherwise: cameras learn anew, and what was taught has to be taught again");
        }
        block_in_place(|| {
            keeper.network_changes(engine, alike, |lane| {
                kind.judge(&config.get().anomaly, &lane.settings().camera, Some(school))
            });
            school.set_mark(&mark);
            let known = serde_json::to_string(&mark).unwrap_or_default();
            let is_same = |text: &str| serde_json::from_str(text).is_ok_and(|known: Mark| known.is_like(&mark));
            if let Err(e) = outbox.looks_are_by(is_same, &known) {
                warn!("examples of the network before are still kept: {e:#}");
            }
        });
        (self.active, self.mark) = (ModelRef::of(bundle), mark);
        Ok(())
    }

    pub(super) fn step_trial(&mut self, frames: u64, moved: Instant) -> Result<Stage> {
        let trial = self.ledger.trial().context("nothing is on trial")?.clone();
        let tally = self.parts.pipeline.tally();
        ensure!(
            tally.failed <= FAILURES.max(tally.frames / 100),
            "on trial it fails on {} of {} frames",
            tally.failed,
            tally.frames
        );
        if let (Some(baseline), FEW..) = (trial.baseline, tally.frames) {
            let slowdown = tally.seconds / tally.frames as f64 / baseline.max(1e-6);
            let most = trial.promotion.max_slowdown;
            ensure!(
                slowdown <= most,
                "on trial it is {slowdown:.1} times as slow as the one before, {most} are allowed"
            );
        }
        let moved = if tally.frames == frames && tally.under_way > 0 { moved } else { Instant::now() };
        if moved.elapsed() > HANGS {
            // A thread cannot be ended from outside; the process can, and the one before is active when it comes back.
            self.noted(|ledger| ledger.give_up("on trial it hangs"));
            error!("the bundle on trial hangs: inspectd ends and starts again with the one before");
            exit::leave(Exit::Software as u8);
        }
        if tally.frames >= u64::from(trial.promotion.trial_frames) {
            if let Err(e) = block_in_place(|| self.ledger.commit()) {
                warn!("an update cannot be committed yet: {e:#}");
                self.held = Some((format!("{e:#}"), Instant::now() + Duration::from_secs(5)));
                return Ok(Stage::Trial { frames: tally.frames, moved: Instant::now() });
            }
            clean(&self.ledger);
            self.decided = Decided::Open; // something else may be wanted by now
            self.again = Instant::now();
            info!(name = self.active.name, version = self.active.version, "an update is committed");
            return Ok(Stage::Idle);
        }
        Ok(Stage::Trial { frames: tally.frames, moved })
    }

    /// The candidate, or what is on trial, is given up; what was active before is so again.
    pub(super) fn give_up(&mut self, reason: &str) {
        warn!("an update is given up: {reason}");
        let was_active = self.ledger.trial().is_some();
        self.idle();
        (self.decided, self.again) = (Decided::Open, Instant::now()); // something else may be wanted by now
        self.noted(|ledger| ledger.give_up(reason));
        clean(&self.ledger);
        if was_active && let Err(e) = self.restore() {
            error!("the bundle before cannot be taken up again, inspectd starts anew: {e:#}");
            exit::leave(Exit::Software as u8);
        }
        self.report();
    }

    fn restore(&mut self) -> Result<()> {
        let bundle = block_in_place(|| match self.ledger.active() {
            Some(installed) => boot::open(&self.ledger, installed),
            None => fitting::bundle(&Want::gateway(&self.parts.config.get()), &self.parts.environment),
        })?;
        if bundle.sha256 == self.active.sha256 {
            return Ok(()); // it has not been swapped in yet
        }
        self.swap_in(&bundle)
    }
}
