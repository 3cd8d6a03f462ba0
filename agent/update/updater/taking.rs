//! From a release that is taken to a bundle that has proved itself beside the active one.

use anyhow::{Context, Result, anyhow};
use tokio::task::{JoinHandle, block_in_place};
use tracing::info;

use super::{Looking, Receiving, Stage, Updater};
use crate::glob::glob;
use crate::model::bundle::Manifest;
use crate::mqtt::link::Link;
use crate::update::index::{self, Chunk, Digest, Recipe};
use crate::update::ledger::Phase;
use crate::update::prove::{Found, Prover};
use crate::update::release::Release;
use crate::update::shadow::Shadow;
use crate::update::store::{Store, Wanted};
use crate::update::transfer::Transfer;
use crate::update::{boot, made};

impl Updater {
    fn store(&self) -> Result<Store> {
        let mut bundles = vec![self.parts.config.get().model.bundle.clone()];
        bundles.extend(self.ledger.active().map(|a| self.ledger.folder(a.slot)));
        if let Some(slot) = self.ledger.candidate().map(|c| self.ledger.folder(c.installed.slot)) {
            bundles.extend([slot.with_extension("new"), slot.with_extension("old"), slot]);
        }
        Store::open(&self.ledger.chunks(), &bundles)
    }

    /// Takes the candidate up where it is.
    pub(super) fn receive(&mut self) -> Result<Stage> {
        if self.abandoned.as_ref().is_some_and(|work| !work.is_finished()) {
            return Ok(Stage::Idle);
        }
        if !self.goes_on() {
            return Ok(Stage::Idle);
        }
        let candidate = self.ledger.candidate().context("there is no candidate")?;
        if let Some(order) = candidate.release.order.clone() {
            let (slot, environment) = (self.ledger.folder(candidate.installed.slot), self.parts.environment.clone());
            let mut bases = vec![self.parts.config.get().model.bundle.clone()];
            bases.extend(self.ledger.active().map(|a| self.ledger.folder(a.slot)));
            let threads = self.parts.config.get().model.workers();
            let work = move || made::make(&order, &bases, &slot, &environment, threads);
            return Ok(Stage::Making(tokio::task::spawn_blocking(work)));
        }
        let store = block_in_place(|| self.store())?;
        let transfer = Transfer::new(vec![index_chunk(&candidate.release)?], self.rate());
        Ok(Stage::Receiving(Box::new(Receiving { store, recipes: None, transfer })))
    }

    fn rate(&self) -> f64 {
        self.parts.config.get().update.max_kib_per_s.get() as f64 * 1024.0
    }

    pub(super) fn step_receiving(&mut self, mut receiving: Box<Receiving>, link: Option<&Link>) -> Result<Stage> {
        let release = self.ledger.candidate().context("there is no candidate")?.release.clone();
        if receiving.recipes.is_none() {
            let wanted = index_chunk(&release)?;
            if let Some(index) = block_in_place(|| receiving.store.get(&wanted.chunk)) {
                let recipes = index::decode(&release, &index).context("its index")?;
                let missing = block_in_place(|| receiving.store.missing(&release, &recipes));
                receiving.transfer = Transfer::new(missing, self.rate());
                receiving.recipes = Some(recipes);
            } else if receiving.transfer.is_done() {
                receiving.transfer = Transfer::new(vec![wanted], self.rate()); // it came, and is damaged already
            }
        }
        self.transferred = receiving.transfer.progress();
        if let (Some(recipes), true) = (&receiving.recipes, receiving.transfer.is_done()) {
            let missing = block_in_place(|| receiving.store.missing(&release, recipes));
            if missing.is_empty() {
                return block_in_place(|| self.stage_candidate(&mut receiving.store, recipes, &release));
            }
            receiving.transfer = Transfer::new(missing, self.rate()); // damaged meanwhile
        }
        if let Some(link) = link {
            let topics = self.parts.topics.clone();
            for topic in receiving.transfer.ask(|wanted| topics.blob(&wanted.blob.to_string(), wanted.n)) {
                link.unsubscribe(&topic); // what is retained comes again with a new subscription
                let _ = link.subscribe(&topic); // a connection that is gone is noticed elsewhere
            }
        }
        Ok(Stage::Receiving(receiving))
    }

    /// All is here: makes the bundle, looks at its structure, and lets it prove itself.
    fn stage_candidate(&mut self, store: &mut Store, recipes: &[Recipe], release: &Release) -> Result<Stage> {
        let installed = self.ledger.candidate().context("there is no candidate")?.installed;
        if boot::open(&self.ledger, installed).is_err() {
            store.assemble(release, recipes, &self.ledger.folder(installed.slot))?;
        }
        self.prove(release)
    }

    pub(super) fn step_made(&mut self, work: JoinHandle<Result<Digest>>) -> Result<Stage> {
        // It has ended, so that nothing is waited for.
        let bundle =
            block_in_place(|| tokio::runtime::Handle::current().block_on(work)).context("its extraction")??;
        let release = self.ledger.candidate().context("there is no candidate")?.release.clone();
        block_in_place(|| {
            self.ledger.made(bundle)?;
            self.prove(&release)
        })
    }

    /// The bundle in its slot proves itself in another process.
    fn prove(&mut self, release: &Release) -> Result<Stage> {
        let installed = self.ledger.candidate().context("there is no candidate")?.installed;
        let folder = self.ledger.folder(installed.slot);
        let bundle = boot::open(&self.ledger, installed)?;
        self.is_enough(&bundle.manifest)?;
        self.ledger.advance(Phase::Verified)?;
        let memory = self.parts.config.get().update.max_memory_mib.get() << 20;
        let mut prover = Prover::start(&folder, self.parts.config.get().model.runtime.as_deref(), memory)?;
        prover.ready()?;
        self.ledger.advance(Phase::Staged)?;
        info!(name = release.name, counter = release.counter, "an update has proved itself and looks on");
        self.ledger.advance(Phase::Shadow)?;
        let _ = self.parts.tap.take(); // of a time before
        Ok(Stage::Shadow(Box::new(Looking { prover, shadow: Shadow::default(), shown: None })))
    }

    /// What a camera looks for, and the active bundle knows, a new one must know as well: else the camera would be blind for it, and nobody
    /// would be told.
    pub(super) fn is_enough(&self, manifest: &Manifest) -> Result<()> {
        let config = self.parts.config.get();
        let (Some((active, _)), anomaly) = (self.parts.pipeline.kind(0), config.anomaly.enabled) else { return Ok(()) };
        for camera in config.cameras.iter().filter(|camera| camera.model.is_none()) {
            // Each pattern for itself, or their absence.
            let looks_for = if camera.classes.is_empty() { vec![&[][..]] } else { camera.classes.chunks(1).collect() };
            for patterns in looks_for.into_iter().filter(|patterns| active.manifest.serves(patterns, anomaly).is_ok()) {
                let blind = || {
                    let name = camera.name();
                    format!("camera {name} would be blind: change `classes` of the camera, then sign it again")
                };
                manifest.serves(patterns, anomaly).with_context(blind)?;
            }
        }
        Ok(())
    }

    pub(super) fn step_shadow(&mut self, mut looking: Box<Looking>) -> Result<Stage> {
        let promotion = self.ledger.candidate().context("there is no candidate")?.release.promotion;
        let answer = looking.prover.answer().context("beside the active one")?;
        if let Some((found, ms)) = answer
            && let Some(seen) = looking.shown.take()
        {
            let wanted = &seen.settings.camera.classes;
            let looked_for = |found: &Found| wanted.iter().any(|p| glob(p, &found.class));
            let found: Vec<Found> = found.into_iter().filter(looked_for).collect();
            looking.shadow.add(&seen.findings, seen.ms, &found, ms);
            self.shadow = Some(looking.shadow.report());
        }
        if looking.shadow.frames() >= u64::from(promotion.shadow_frames) {
            if let Some(report) = self.shadow.filter(|report| report.frames > 0) {
                report.judge(&promotion).map_err(|reason| anyhow!(reason))?;
            }
            if promotion.approve || self.parts.config.get().update.approve {
                info!("an update waits for the command approve");
                return Ok(Stage::Waiting);
            }
            // While the broker is away nobody knows whether it is still wanted.
            if !self.gathered || self.gathering.is_some() {
                return Ok(Stage::Shadow(looking));
            }
            drop(looking); // and its process with it, before a third copy of the network is made
            return self.promote();
        }
        if looking.shown.is_none() {
            match self.parts.tap.take() {
                Some(seen) => {
                    if looking.prover.show(&seen.image, &seen.settings.view) {
                        looking.shown = Some(seen);
                    }
                }
                None => self.parts.tap.open(),
            }
        }
        Ok(Stage::Shadow(looking))
    }
}

/// The index as a chunk: the only one of its blob.
fn index_chunk(release: &Release) -> Result<Wanted> {
    let index = release.index.context("the release has no index")?;
    let chunk = Chunk { bytes: index.bytes as usize, sha256: index.sha256 };
    Ok(Wanted { blob: index.sha256, n: 0, chunk })
}
