//! One camera on its way through the pipeline: its pictures, how they are looked at, and who judges them, in their order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::fair::Account;
use crate::config::CameraConfig;
use crate::frame::Captured;
use crate::frame::feed::Feed;
use crate::frame::view::View;
use crate::health::{Fault, Figures, Report, Sample, Watch};
use crate::inspector::Judge;
use crate::shared::Shared;

/// Models that a camera has not taken up yet.
const COMING: usize = 2;

/// How a camera's pictures are looked at.
#[derive(Debug, Clone)]
pub struct Settings {
    /// As configured.
    pub camera: CameraConfig,
    /// What of each picture is inspected, and how it is turned for it.
    pub view: View,
    /// Which of the pipeline's models inspects; 0 is the gateway's.
    pub engine: usize,
}

impl Settings {
    /// Of a camera, inspected by this model.
    #[must_use]
    pub fn new(camera: CameraConfig, engine: usize) -> Self {
        Self { view: camera.view(), camera, engine }
    }
}

/// A camera.
pub struct Lane {
    /// Its slot and state.
    pub feed: Arc<Feed>,
    settings: Shared<Settings>,
    pub(super) account: Mutex<Account>,
    tickets: AtomicU64,
    turn: Mutex<Turn>,
    turned: Condvar,
    health: Mutex<Option<Health>>,
    inspected: AtomicU64,
    no_verdict: AtomicU64,
    /// Alarms that were not raised because too many were active.
    pub suppressed: AtomicU64,
}

/// The health of a camera's picture.
struct Health {
    watch: Watch,
    /// From when its time counts.
    since: Instant,
    figures: Figures,
    /// What is wrong, and why, in words.
    active: BTreeMap<Fault, String>,
}

impl Health {
    fn of(settings: &Settings) -> Option<Self> {
        let config = settings.camera.watched()?;
        Some(Self {
            watch: Watch::new(config),
            since: Instant::now(),
            figures: Figures::default(),
            active: BTreeMap::new(),
        })
    }
}

/// A judge, and for what.
struct Seat {
    settings: Arc<Settings>,
    /// The model that it goes with.
    generation: u64,
    judge: Judge,
}

pub(super) struct Turn {
    ticket: u64,
    now: Seat,
    /// The one before, for frames that were taken or seen in its time.
    old: Option<Seat>,
    /// Of models that come, with their numbers; at most [`COMING`], since a camera that is away takes none of them up.
    coming: VecDeque<(u64, Judge)>,
}

impl Turn {
    /// The judge that learns from the next frame on.
    fn newest(&mut self) -> &mut Judge {
        self.coming.back_mut().map_or(&mut self.now.judge, |(_, judge)| judge)
    }

    /// Who judges a frame that was taken under these settings and seen by this model; nobody where both have changed meanwhile.
    pub(super) fn judge_of(&mut self, settings: &Arc<Settings>, generation: u64) -> Option<&mut Judge> {
        while self.coming.front().is_some_and(|(number, _)| *number <= generation)
            && let Some((generation, judge)) = self.coming.pop_front()
        {
            let next = Seat { settings: Arc::clone(&self.now.settings), generation, judge };
            self.old = Some(std::mem::replace(&mut self.now, next));
        }
        let fits = |seat: &Seat| Arc::ptr_eq(&seat.settings, settings) && seat.generation <= generation;
        if fits(&self.now) {
            Some(&mut self.now.judge)
        } else {
            self.old.as_mut().filter(|old| fits(old)).map(|old| &mut old.judge)
        }
    }
}

impl Lane {
    /// A lane for a camera, whose judge goes with this model.
    #[must_use]
    pub fn new(feed: Arc<Feed>, settings: Settings, generation: u64, judge: Judge) -> Self {
        let health = Mutex::new(Health::of(&settings));
        let settings = Shared::new(settings);
        let now = Seat { settings: settings.get(), generation, judge };
        Self {
            feed,
            settings,
            account: Mutex::default(),
            tickets: AtomicU64::new(0),
            turn: Mutex::new(Turn { ticket: 0, now, old: None, coming: VecDeque::new() }),
            turned: Condvar::new(),
            health,
            inspected: AtomicU64::new(0),
            no_verdict: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.feed.name
    }

    /// How its pictures are looked at.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.get()
    }

    /// Pictures with a verdict, and without.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.inspected.load(Ordering::Relaxed), self.no_verdict.load(Ordering::Relaxed))
    }

    pub(super) fn count(&self, has_verdict: bool) {
        let counter = if has_verdict { &self.inspected } else { &self.no_verdict };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> MutexGuard<'_, Option<Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was measured of its picture last, and what is wrong with it, in words; nothing where that is not watched.
    #[must_use]
    pub fn picture(&self) -> Option<(Figures, BTreeMap<Fault, String>)> {
        self.health().as_ref().map(|health| (health.figures, health.active.clone()))
    }

    /// The scene is another one: what its picture usually looks like is learned anew.
    pub fn forget_scene(&self) {
        if let Some(health) = self.health().as_mut() {
            health.watch.reset();
        }
    }

    /// The next picture's health, in the order of the stream; nothing where that is not watched.
    pub(super) fn watch(&self, sample: &Sample, captured: Instant) -> Option<Report> {
        let mut health = self.health();
        let health = health.as_mut()?;
        let seconds = captured.saturating_duration_since(health.since).as_secs_f64();
        let report = health.watch.see(sample, seconds);
        health.figures = report.figures;
        for change in &report.changes {
            if change.began {
                health.active.insert(change.fault, change.reason.clone());
            }
        }
        health.active.retain(|fault, _| report.active.contains(fault));
        Some(report)
    }

    /// Looks at the camera's judge.
    pub fn with_judge<R>(&self, f: impl FnOnce(&Judge) -> R) -> R {
        f(self.turn().newest())
    }

    /// Changes what the camera's judge knows, between two frames.
    pub fn change_judge<R>(&self, f: impl FnOnce(&mut Judge) -> R) -> R {
        f(self.turn().newest())
    }

    /// From the next frame on its pictures are looked at otherwise, and by this judge, which goes with this model. It goes on with
    /// what was learned where `knows` says that this still holds.
    pub fn reconfigure(&self, settings: Settings, generation: u64, mut judge: Judge, knows: bool) {
        let mut turn = self.turn();
        if knows {
            hand_over(turn.newest(), &mut judge);
        }
        let mut health = self.health();
        if !knows || settings.camera.watched() != turn.now.settings.camera.watched() {
            *health = Health::of(&settings);
        }
        drop(health);
        let next = Seat { settings: self.settings.set(settings), generation, judge };
        turn.old = Some(std::mem::replace(&mut turn.now, next));
        turn.coming.clear();
    }

    /// A model comes that judges by this judge; `alike` is whether it sees as the one before, so that what was learned goes on.
    pub(super) fn expect(&self, generation: u64, mut judge: Judge, alike: bool) {
        let mut turn = self.turn();
        if alike {
            hand_over(turn.newest(), &mut judge);
        }
        turn.coming.push_back((generation, judge));
        if turn.coming.len() > COMING {
            turn.coming.pop_front();
        }
    }

    pub(super) fn take(self: &Arc<Self>) -> Option<(Captured, Ticket)> {
        self.feed.take_with(|captured| {
            let number = self.tickets.fetch_add(1, Ordering::Relaxed);
            let taken = Instant::now();
            (captured, Ticket { lane: Arc::clone(self), settings: self.settings.get(), taken, number })
        })
    }
}

fn hand_over(learned: &Judge, to: &mut Judge) {
    if let (Some(check), Some(learned)) = (to.check_mut(), learned.check()) {
        check.remember(&learned.memory());
    }
}

/// A frame's place in its camera's order; the next one's turn comes when it is dropped, whatever happened.
pub(super) struct Ticket {
    pub lane: Arc<Lane>,
    /// When it was taken.
    pub settings: Arc<Settings>,
    pub taken: Instant,
    number: u64,
}

impl Ticket {
    pub(super) fn wait(&self) -> MutexGuard<'_, Turn> {
        let mine = self.lane.turned.wait_while(self.lane.turn(), |turn| turn.ticket != self.number);
        mine.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.wait().ticket += 1;
        self.lane.turned.notify_all();
    }
}
