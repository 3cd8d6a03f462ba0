//! Takes updates: from what is wanted to a bundle that is active for good, or given up. One task beside the inspection.
//!
//! Guarantees
//! - The order is that of [`super`]: nothing is asked for before [`admission`](super::admission) has let it in, nothing is assembled
//!   but of chunks with the signed hashes, nothing reaches the runtime of this process before it has proved itself in another one.
//! - Chunks come over a connection of their own; neither alarms nor commands wait for them.
//! - Every step is in the [`Ledger`] before it counts. After a restart it goes on with the step at which it was.
//! - A bundle on trial that fails on frames, is too slow, or hangs is given up, and the one before inspects again.

mod taking;
mod telling;
mod trying;
mod wish;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{Instant, sleep};
use tracing::{debug, error, warn};

use super::desk::{Desk, Word};
use super::index::{Digest, Recipe};
use super::ledger::{Ledger, Phase, Slot};
use super::prove::Prover;
use super::shadow::{Shadow, ShadowReport};
use super::store::Store;
use super::tap::{Seen, Tap};
use super::transfer::Transfer;
use super::trust::Keyring;
use crate::anomaly::memory::Mark;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::keeper::Keeper;
use crate::model::runtime::Environment;
use crate::mqtt::board::Board;
use crate::mqtt::link::{Event, Link, LinkOptions};
use crate::mqtt::payload::ModelRef;
use crate::mqtt::topics::Topics;
use crate::outbox::Outbox;
use crate::pipeline::Pipeline;
use crate::shared::Shared;
use crate::stop::Stop;
use crate::taught::School;

/// How often things are looked at while frames are compared, while chunks come, and otherwise.
const TICKS: [Duration; 3] = [Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(200)];
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
    pub config: Arc<Shared<Config>>,
    /// The runtime.
    pub environment: Environment,
    /// Topics of this gateway.
    pub topics: Topics,
    /// Who may sign.
    pub keys: Keyring,
    /// How to reach the broker, under an id of its own.
    pub link: watch::Receiver<LinkOptions>,
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
    /// The candidate is made on the spot.
    Making(JoinHandle<Result<Digest>>),
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

/// What was decided about last.
#[derive(PartialEq)]
enum Decided {
    /// Nothing yet, or it has to be looked at again.
    Open,
    /// That nothing is wanted.
    Nothing,
    /// About this wish.
    Wish(Vec<u8>),
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
    decided: Decided,
    /// The release in it, whatever became of it.
    about: Option<Digest>,
    /// Why it was refused.
    refused: Option<String>,
    shadow: Option<ShadowReport>,
    transferred: (u64, u64),
    /// Something that is made though it is not wanted any more.
    abandoned: Option<JoinHandle<Result<Digest>>>,
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
            decided: Decided::Open,
            about: None,
            refused: None,
            shadow: None,
            transferred: (0, 0),
            abandoned: None,
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
            let options = self.parts.link.borrow_and_update().clone();
            let connected = tokio::select! {
                connected = Link::connect(&options) => connected,
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
        match self.stage {
            Stage::Shadow(_) => TICKS[0],
            Stage::Receiving(_) => TICKS[1],
            _ => TICKS[2],
        }
    }

    async fn serve(&mut self, mut link: Link) {
        let (stop, mut changed) = (self.parts.stop.clone(), self.parts.link.clone());
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
                Ok(()) = changed.changed() => {
                    link.disconnect().await;
                    return;
                }
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

    /// Nothing is done any more. What is being made cannot be ended, and its slot is not used before it has.
    fn idle(&mut self) {
        self.held = None;
        if let Stage::Making(work) = std::mem::replace(&mut self.stage, Stage::Idle) {
            self.abandoned = Some(work);
        }
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
                self.decided = Decided::Open; // a clock, a disk or a date may have changed
            }
            if self.decided == Decided::Open && self.gathered && self.gathering.is_none() {
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
                Stage::Making(work) if !work.is_finished() => Ok(Stage::Making(work)),
                Stage::Making(work) => self.step_made(work),
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

    fn noted(&mut self, step: impl FnOnce(&mut Ledger) -> Result<()>) {
        if let Err(e) = block_in_place(|| step(&mut self.ledger)) {
            error!("how far the update is cannot be noted: {e:#}");
        }
    }
}

/// Throws away what an update has left: chunks, and half-made bundles.
fn clean(ledger: &Ledger) {
    block_in_place(|| {
        if let Ok(store) = Store::open(&ledger.chunks(), &[]) {
            store.clear();
        }
        let slots = [Slot::A, Slot::B].map(|slot| ledger.folder(slot));
        let beside = slots[0].parent().and_then(|folder| std::fs::read_dir(folder).ok());
        for path in beside.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())) {
            if !slots.contains(&path) {
                let _ = std::fs::remove_dir_all(path); // what stays is tried again at the next update
            }
        }
    });
}

/// Whether an error is this machine's (a full disk, no more processes), and not the candidate's.
fn is_ours(error: &anyhow::Error) -> bool {
    error.chain().any(<dyn std::error::Error>::is::<std::io::Error>)
}
