//! Takes updates: from what is wanted to a bundle that is active for good, or given up. One task beside the inspection.
//!
//! Guarantees
//! - The order is that of [`super`]: nothing is asked for before [`admission`](super::admission) has let it in, nothing is assembled
//!   but of chunks with the signed hashes, nothing reaches the runtime of this process before it has proved itself in another one.
//! - Chunks come over a connection of their own; neither alarms nor commands wait for them.
//! - Every step is in the [`Ledger`] before it counts. After a restart it goes on with the step at which it was.
//! - A bundle on trial that fails on frames, is too slow, or hangs is given up, and the one before inspects again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use jiff::Timestamp;
use semver::Version;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use super::admission::{self, Admitted, Circumstances, Desired};
use super::desk::{Desk, Word};
use super::index::{self, Chunk, Digest, Recipe};
use super::ledger::{Ledger, Phase, Slot};
use super::prove::{Found, Prover};
use super::release::Release;
use super::reported::{CandidateRef, Reported, SCHEMA};
use super::shadow::{Shadow, ShadowReport};
use super::store::{Store, Wanted};
use super::tap::{Seen, Tap};
use super::transfer::Transfer;
use super::trust::Keyring;
use super::{boot, disk};
use crate::anomaly::memory::Mark;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::engine;
use crate::exit::Exit;
use crate::fitting;
use crate::glob::glob;
use crate::keeper::Keeper;
use crate::model::bundle::Bundle;
use crate::model::runtime::Environment;
use crate::mqtt::board::Board;
use crate::mqtt::link::{Event, Link, LinkOptions};
use crate::mqtt::payload::ModelRef;
use crate::mqtt::topics::Topics;
use crate::outbox::Outbox;
use crate::pipeline::Pipeline;
use crate::stop::Stop;
use crate::taught::School;

/// How often things are looked at while frames are compared, and otherwise.
const TICKS: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(200)];
/// Share of the disk that stays free.
const KEEP_FREE: f64 = 0.05;
/// A frame that is so long in the network hangs there.
const HANGS: Duration = Duration::from_secs(10);
/// What the broker has kept has come by then.
const GATHER: Duration = Duration::from_secs(2);
/// After so long what stood in the way is looked at again.
const AGAIN: Duration = Duration::from_secs(60);
/// Figures are reported this often.
const FIGURES: Duration = Duration::from_secs(1);
/// A connection that lasted this long resets the back-off.
const WELL_AFTER: Duration = Duration::from_secs(10);
/// Of fewer frames no mean time is taken.
const FEW: u64 = 10;
/// A bundle on trial may fail on so many frames, and beyond that on one in a hundred.
const FAILURES: u64 = 3;

/// What the updater works with.
pub struct Parts {
    /// The configuration.
    pub config: Arc<Config>,
    /// The runtime.
    pub environment: Environment,
    /// Topics of this gateway.
    pub topics: Topics,
    /// Who may sign.
    pub keys: Keyring,
    /// How to reach the broker, under an id of its own.
    pub link: LinkOptions,
    /// What inspects.
    pub pipeline: Arc<Pipeline>,
    /// What cameras have learned.
    pub keeper: Arc<Keeper>,
    /// What operators have taught.
    pub school: Arc<School>,
    /// Where examples lie that were seen by a network.
    pub outbox: Arc<Outbox>,
    /// Where states are published.
    pub board: Arc<Board>,
    /// Frames.
    pub tap: Arc<Tap>,
    /// Words of operators.
    pub desk: Arc<Desk>,
    /// When to end.
    pub stop: Stop,
    /// Set where an operator or the service manager has asked for it.
    pub asked: Stop,
}

/// What is being done.
enum Stage {
    Idle,
    /// The index comes, or the chunks that it names.
    Receiving(Box<Receiving>),
    /// The candidate looks on.
    Shadow(Box<Looking>),
    /// It waits for an operator's word.
    Waiting,
    /// It inspects, with a way back.
    Trial {
        frames: u64,
        moved: Instant,
    },
}

struct Receiving {
    store: Store,
    recipes: Option<Vec<Recipe>>,
    transfer: Transfer,
}

struct Looking {
    prover: Prover,
    shadow: Shadow,
    shown: Option<Seen>,
}

/// The updater.
pub struct Updater {
    parts: Parts,
    ledger: Ledger,
    stage: Stage,
    /// The active bundle, and the mark of its features.
    active: ModelRef,
    mark: Mark,
    /// What is wanted, by topic.
    wanted: BTreeMap<String, Vec<u8>>,
    /// The wish that was decided about last.
    decided: Option<Vec<u8>>,
    /// The release in it, whatever became of it.
    about: Option<Digest>,
    /// Why it was refused.
    refused: Option<String>,
    shadow: Option<ShadowReport>,
    transferred: (u64, u64),
    /// What the broker has kept is being gathered until then; before, nothing is decided.
    gathering: Option<Instant>,
    /// What is wanted has been seen since the start.
    gathered: bool,
    /// Something of this machine stands in the way, and until when it is waited for.
    held: Option<(String, Instant)>,
    /// When a refusal, or what the disk has refused, is looked at again.
    again: Instant,
    /// What was reported last, and when.
    reported: (Option<(Phase, Option<String>)>, Instant),
}

impl Updater {
    /// Goes on from where the ledger says it was.
    #[must_use]
    pub fn new(parts: Parts, ledger: Ledger, active: ModelRef, mark: Mark) -> Self {
        let now = Instant::now();
        let stage = match ledger.trial() {
            Some(_) => Stage::Trial { frames: 0, moved: now },
            None => Stage::Idle,
        };
        if ledger.candidate().is_none() {
            clean(&ledger); // of what was given up
        }
        Self {
            parts,
            ledger,
            stage,
            active,
            mark,
            wanted: BTreeMap::new(),
            decided: None,
            about: None,
            refused: None,
            shadow: None,
            transferred: (0, 0),
            gathering: None,
            gathered: false,
            held: None,
            again: now + AGAIN,
            reported: (None, now),
        }
    }

    /// Runs until it is told to stop.
    pub async fn run(mut self) {
        self.tick(None);
        let mut backoff = Backoff::default();
        let stop = self.parts.stop.clone();
        while !stop.is_set() {
            self.report();
            let connected = tokio::select! {
                connected = Link::connect(&self.parts.link) => connected,
                () = stop.stopped() => break,
            };
            match connected {
                Ok(link) => {
                    let begun = Instant::now();
                    self.serve(link).await;
                    if begun.elapsed() > WELL_AFTER {
                        backoff.reset();
                    }
                }
                // Most often the session has said so, but this is a client of its own.
                Err(e) => {
                    debug!("no connection for updates: {e}");
                    self.tick(None);
                }
            }
            let delay = backoff.next_delay();
            let again = Instant::now() + delay;
            while Instant::now() < again && !stop.is_set() {
                tokio::select! {
                    () = sleep(self.pause()) => self.tick(None),
                    () = stop.stopped() => {}
                }
            }
        }
        // A thread that has died is no reason to forgive the bundle on trial.
        if self.parts.asked.is_set()
            && let Err(e) = self.ledger.stopped()
        {
            warn!("it cannot be noted that the agent was stopped: {e:#}");
        }
    }

    fn pause(&self) -> Duration {
        TICKS[usize::from(!matches!(self.stage, Stage::Shadow(_)))]
    }

    async fn serve(&mut self, mut link: Link) {
        let stop = self.parts.stop.clone();
        for topic in self.parts.topics.desired() {
            if link.subscribe(&topic).is_err() {
                return;
            }
        }
        // What was wanted before may not be any more.
        self.wanted.clear();
        self.gathering = Some(Instant::now() + GATHER);
        if let Stage::Receiving(receiving) = &mut self.stage {
            receiving.transfer.reconnected();
        }
        loop {
            tokio::select! {
                event = link.next() => match event {
                    Event::Message { topic, payload, .. } => self.message(&link, topic, payload),
                    Event::Refused => {
                        self.refuse("the broker does not let this user read model/desired or blobs".to_owned());
                    }
                    event if event.is_last() => return,
                    _ => {}
                },
                () = sleep(self.pause()) => self.tick(Some(&link)),
                () = stop.stopped() => {
                    link.disconnect().await;
                    return;
                }
            }
        }
    }

    fn message(&mut self, link: &Link, topic: String, payload: Vec<u8>) {
        if self.parts.topics.desired().contains(&topic) {
            if payload.is_empty() {
                self.wanted.remove(&topic);
            } else {
                self.wanted.insert(topic, payload);
            }
            if self.gathering.is_none() {
                self.consider();
            }
        } else if let Stage::Receiving(receiving) = &mut self.stage
            && let Some(wanted) = receiving.transfer.asked(&topic)
        {
            match block_in_place(|| receiving.store.put(&wanted.chunk, &payload)) {
                Ok(()) => {
                    receiving.transfer.came(&topic);
                    link.unsubscribe(&topic);
                }
                // It is asked for again in a while: what lies there may be put right, or the disk has room again.
                Err(e) => warn!(topic, "{e:#}"),
            }
        }
        self.tick(Some(link));
    }

    /// What is wanted of this gateway alone comes before what is wanted of the site.
    fn consider(&mut self) {
        let wish = self.parts.topics.desired().iter().find_map(|topic| self.wanted.get(topic).cloned());
        if wish == self.decided {
            return;
        }
        self.decided.clone_from(&wish);
        let before = self.refused.take();
        let desired = wish.as_ref().and_then(|wish| serde_json::from_slice::<Desired>(wish).ok());
        self.about = desired.map(|desired| Digest::of(desired.release.as_bytes()));
        match wish {
            None => self.drop_candidate(),
            Some(wish) => {
                if let Err(e) = self.decide(&wish) {
                    self.refused = before; // the same reason again is no news
                    self.refuse(format!("{e:#}"));
                }
            }
        }
        self.report();
    }

    /// A release that is on its way, and not on trial yet, is not wanted any more.
    fn drop_candidate(&mut self) {
        if self.ledger.trial().is_none() && self.ledger.candidate().is_some() {
            info!("the release that was on its way is not wanted any more");
            (self.stage, self.held) = (Stage::Idle, None);
            self.noted(Ledger::forget);
            clean(&self.ledger);
        }
    }

    fn decide(&mut self, wish: &[u8]) -> Result<()> {
        let admitted = admission::read(wish, &self.parts.keys)?;
        let candidate = self.ledger.candidate().map(|c| c.installed.release);
        if candidate == Some(admitted.sha256) {
            return Ok(());
        }
        if self.ledger.active().map(|a| a.release) == Some(admitted.sha256) {
            self.drop_candidate();
            return Ok(());
        }
        if let Some((reason, is_last)) = self.ledger.given_up(&admitted.sha256) {
            // The report says so anyway while nothing else has happened.
            let known = format!("it was given up on this gateway, and has to be signed again: {reason}");
            self.drop_candidate();
            return if is_last { Ok(()) } else { Err(anyhow!(known)) };
        }
        ensure!(self.ledger.trial().is_none(), "another release is on trial; this one is looked at when that is over");
        admission::decide(&admitted, &self.here()?)?;
        info!(name = admitted.release.name, counter = admitted.release.counter, signer = %admitted.signer, "an update is wanted");
        self.begin(&admitted)
    }

    fn here(&self) -> Result<Circumstances> {
        let (gateway, update) = (&self.parts.config.gateway, &self.parts.config.update);
        Ok(Circumstances {
            site: gateway.site.to_string(),
            gateway: gateway.name.to_string(),
            hardware: std::env::consts::ARCH.to_owned(),
            agent: Version::parse(env!("CARGO_PKG_VERSION"))?,
            now: Timestamp::now(),
            floor: self.ledger.floor()?,
            active: self.active.sha256.parse().ok(),
            max_bytes: update.max_bundle_mib.get() << 20,
            disk: disk::space(&gateway.state_dir)?,
            keep_free: KEEP_FREE,
        })
    }

    /// The candidate is still signed by somebody who is trusted, and still for here and now.
    fn is_still_good(&self) -> Result<()> {
        let candidate = self.ledger.candidate().context("there is no candidate")?;
        let admitted = admission::read(&serde_json::to_vec(&candidate.desired)?, &self.parts.keys)?;
        admission::still_good(&admitted, &self.here()?)
    }

    fn refuse(&mut self, reason: String) {
        if self.refused.as_ref() != Some(&reason) {
            warn!("an update is refused: {reason}");
            self.refused = Some(reason);
        }
    }

    fn begin(&mut self, admitted: &Admitted) -> Result<()> {
        block_in_place(|| self.ledger.begin(admitted))?;
        (self.stage, self.shadow, self.held) = (Stage::Idle, None, None);
        Ok(())
    }

    fn store(&self) -> Result<Store> {
        let mut bundles = vec![self.parts.config.model.bundle.clone()];
        bundles.extend(self.ledger.active().map(|a| self.ledger.folder(a.slot)));
        if let Some(slot) = self.ledger.candidate().map(|c| self.ledger.folder(c.installed.slot)) {
            bundles.extend([slot.with_extension("new"), slot.with_extension("old"), slot]);
        }
        Store::open(&self.ledger.chunks(), &bundles)
    }

    /// Takes the candidate up where it is.
    fn receive(&self) -> Result<Stage> {
        self.is_still_good()?;
        let release = &self.ledger.candidate().context("there is no candidate")?.release;
        let store = block_in_place(|| self.store())?;
        let transfer = Transfer::new(vec![index_chunk(release)], self.rate());
        Ok(Stage::Receiving(Box::new(Receiving { store, recipes: None, transfer })))
    }

    fn rate(&self) -> f64 {
        self.parts.config.update.max_kib_per_s.get() as f64 * 1024.0
    }

    /// One step, whatever is being done.
    fn tick(&mut self, link: Option<&Link>) {
        let now = Instant::now();
        if self.gathering.is_some_and(|until| now >= until) {
            (self.gathering, self.gathered) = (None, true);
            self.consider();
        }
        if let Some(word) = self.parts.desk.take() {
            self.heard(word);
        }
        if now >= self.again {
            self.again = now + AGAIN;
            if self.refused.is_some() {
                self.decided = None; // a clock, a disk or a date may have changed
            }
            if self.decided.is_none() && !self.wanted.is_empty() && self.gathering.is_none() {
                self.consider();
            }
            self.noted(Ledger::save);
        }
        if self.held.as_ref().is_none_or(|(_, until)| now >= *until) {
            self.held = None;
            let stepped = match std::mem::replace(&mut self.stage, Stage::Idle) {
                Stage::Idle if self.ledger.candidate().is_some() && self.ledger.trial().is_none() => self.receive(),
                Stage::Idle => Ok(Stage::Idle),
                Stage::Waiting => Ok(Stage::Waiting),
                Stage::Receiving(receiving) => self.step_receiving(receiving, link),
                Stage::Shadow(looking) => self.step_shadow(looking),
                Stage::Trial { frames, moved } => self.step_trial(frames, moved),
            };
            match stepped {
                Ok(stage) => self.stage = stage,
                Err(e) if is_ours(&e) && self.ledger.trial().is_none() => {
                    warn!("an update waits: {e:#}");
                    self.held = Some((format!("{e:#}"), now + AGAIN));
                }
                Err(e) => self.give_up(&format!("{e:#}")),
            }
        }
        self.report();
    }

    fn step_receiving(&mut self, mut receiving: Box<Receiving>, link: Option<&Link>) -> Result<Stage> {
        let release = self.ledger.candidate().context("there is no candidate")?.release.clone();
        if receiving.recipes.is_none() {
            let wanted = index_chunk(&release);
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
        let folder = self.ledger.folder(installed.slot);
        if boot::open(&self.ledger, installed).is_err() {
            store.assemble(release, recipes, &folder)?;
        }
        boot::open(&self.ledger, installed)?;
        self.ledger.advance(Phase::Verified)?;
        let memory = self.parts.config.update.max_memory_mib.get() << 20;
        let mut prover = Prover::start(&folder, self.parts.config.model.runtime.as_deref(), memory)?;
        prover.ready()?;
        self.ledger.advance(Phase::Staged)?;
        info!(name = release.name, counter = release.counter, "an update has proved itself and looks on");
        self.ledger.advance(Phase::Shadow)?;
        let _ = self.parts.tap.take(); // of a time before
        Ok(Stage::Shadow(Box::new(Looking { prover, shadow: Shadow::default(), shown: None })))
    }

    fn step_shadow(&mut self, mut looking: Box<Looking>) -> Result<Stage> {
        let promotion = self.ledger.candidate().context("there is no candidate")?.release.promotion;
        let answer = looking.prover.answer().context("beside the active one")?;
        if let Some((found, ms)) = answer
            && let Some(seen) = looking.shown.take()
        {
            let wanted = self.parts.config.cameras.get(seen.camera).map_or(&[][..], |camera| &camera.classes);
            let looked_for = |found: &Found| wanted.is_empty() || wanted.iter().any(|p| glob(p, &found.class));
            let found: Vec<Found> = found.into_iter().filter(looked_for).collect();
            looking.shadow.add(&seen.findings, seen.ms, &found, ms);
            self.shadow = Some(looking.shadow.report());
        }
        if looking.shadow.frames() >= u64::from(promotion.shadow_frames) {
            if let Some(report) = self.shadow.filter(|report| report.frames > 0) {
                report.judge(&promotion).map_err(|reason| anyhow!(reason))?;
            }
            if promotion.approve || self.parts.config.update.approve {
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
                    if looking.prover.show(&seen.image, seen.roi) {
                        looking.shown = Some(seen);
                    }
                }
                None => self.parts.tap.open(),
            }
        }
        Ok(Stage::Shadow(looking))
    }

    /// The candidate becomes the active bundle, between two frames.
    fn promote(&mut self) -> Result<Stage> {
        self.is_still_good()?;
        let candidate = self.ledger.candidate().context("there is no candidate")?.clone();
        let bundle = block_in_place(|| boot::open(&self.ledger, candidate.installed))?;
        let before = self.parts.pipeline.tally();
        let baseline = (before.frames > 0).then(|| before.seconds / before.frames as f64);
        // From here on a crash of this process counts as one of the bundle.
        block_in_place(|| self.ledger.try_out(baseline))?;
        self.swap_in(&bundle)?;
        info!(name = candidate.release.name, counter = candidate.release.counter, "an update is on trial");
        Ok(Stage::Trial { frames: 0, moved: Instant::now() })
    }

    fn swap_in(&mut self, bundle: &Bundle) -> Result<()> {
        let Parts { config, environment, pipeline, keeper, school, outbox, .. } = &self.parts;
        let (inspectors, mark) = block_in_place(|| boot::guarded(|| engine::inspectors(config, environment, bundle)))?;
        let alike = mark.is_like(&self.mark);
        if !alike {
            warn!("the new network sees otherwise: cameras learn anew, and what was taught has to be taught again");
        }
        let judges = engine::judges(config, bundle, school);
        block_in_place(|| {
            keeper.network_changes(&mark, alike, judges, |judges| pipeline.swap(inspectors, judges, alike));
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

    fn step_trial(&mut self, frames: u64, moved: Instant) -> Result<Stage> {
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
            std::process::exit(i32::from(Exit::Software as u8));
        }
        if tally.frames >= u64::from(trial.promotion.trial_frames) {
            if let Err(e) = block_in_place(|| self.ledger.commit()) {
                warn!("an update cannot be committed yet: {e:#}");
                self.held = Some((format!("{e:#}"), Instant::now() + Duration::from_secs(5)));
                return Ok(Stage::Trial { frames: tally.frames, moved: Instant::now() });
            }
            clean(&self.ledger);
            self.decided = None; // something else may be wanted by now
            self.again = Instant::now();
            info!(name = self.active.name, version = self.active.version, "an update is committed");
            return Ok(Stage::Idle);
        }
        Ok(Stage::Trial { frames: tally.frames, moved })
    }

    fn heard(&mut self, word: Word) {
        match (word, &self.stage) {
            (Word::Approve, Stage::Waiting) => match self.promote() {
                Ok(stage) => self.stage = stage,
                Err(e) => self.give_up(&format!("{e:#}")),
            },
            (Word::RollBack(by), _) if self.ledger.candidate().is_some() => {
                self.give_up(&format!("rolled back by {by}"));
            }
            _ => {}
        }
    }

    /// The candidate, or what is on trial, is given up; what was active before is so again.
    fn give_up(&mut self, reason: &str) {
        warn!("an update is given up: {reason}");
        let was_active = self.ledger.trial().is_some();
        (self.stage, self.held) = (Stage::Idle, None);
        (self.decided, self.again) = (None, Instant::now()); // something else may be wanted by now
        self.noted(|ledger| ledger.give_up(reason));
        clean(&self.ledger);
        if was_active && let Err(e) = self.restore() {
            error!("the bundle before cannot be taken up again, inspectd starts anew: {e:#}");
            std::process::exit(i32::from(Exit::Software as u8));
        }
        self.report();
    }

    fn restore(&mut self) -> Result<()> {
        let bundle = block_in_place(|| match self.ledger.active() {
            Some(installed) => boot::open(&self.ledger, installed),
            None => fitting::bundle(&self.parts.config, &self.parts.environment),
        })?;
        if bundle.sha256 == self.active.sha256 {
            return Ok(()); // it has not been swapped in yet
        }
        self.swap_in(&bundle)
    }

    fn noted(&mut self, step: impl FnOnce(&mut Ledger) -> Result<()>) {
        if let Err(e) = block_in_place(|| step(&mut self.ledger)) {
            error!("how far the update is cannot be noted: {e:#}");
        }
    }

    fn report(&mut self) {
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

/// Throws away what an update has left: chunks, and half-made bundles.
fn clean(ledger: &Ledger) {
    block_in_place(|| {
        if let Ok(store) = Store::open(&ledger.chunks(), &[]) {
            store.clear();
        }
        for slot in [Slot::A, Slot::B].map(|slot| ledger.folder(slot)) {
            let _ = std::fs::remove_dir_all(slot.with_extension("new")); // most often there is none
            let _ = std::fs::remove_dir_all(slot.with_extension("old"));
        }
    });
}

/// Whether an error is this machine's (a full disk, no more processes), and not the candidate's.
fn is_ours(error: &anyhow::Error) -> bool {
    error.chain().any(<dyn std::error::Error>::is::<std::io::Error>)
}

fn reference(release: &Release, sha256: Digest) -> CandidateRef {
    CandidateRef { name: release.name.clone(), version: release.version.to_string(), counter: release.counter, sha256 }
}

/// The index as a chunk: the only one of its blob.
fn index_chunk(release: &Release) -> Wanted {
    let chunk = Chunk { bytes: release.index.bytes as usize, sha256: release.index.sha256 };
    Wanted { blob: release.index.sha256, n: 0, chunk }
}
