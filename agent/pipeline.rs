//! Cameras' slots in, verdicts out: worker threads that share the model fairly.
//!
//! Guarantees
//! - Cameras are served in turn: one that is quick cannot starve another.
//! - Frames of one camera may be in the network at the same time on several workers, but they are judged, and their
//!   verdicts sent, in the order in which they were captured.
//! - A frame on which the model fails, even by a panic, gives "no verdict", and the worker goes on.
//! - The channel of verdicts is bounded; when the receiver is slow, workers wait and the slots drop old frames.
//! - A new model ([`Pipeline::swap`]) is taken up by each worker between two frames. What a model has seen is judged by what goes with
//!   that model, so that no frame is lost or mixed up while two are at work.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::frame::Captured;
use crate::frame::supervisor::Feed;
use crate::frame::view::View;
use crate::inspector::{Inspector, Judge};
use crate::model::preprocess::Placement;
use crate::mqtt::payload::ModelRef;
use crate::stop::Stop;
use crate::verdict::Verdict;

/// Models that a camera has not taken up yet.
const COMING: usize = 2;

/// Wakes workers when a frame has come.
#[derive(Default)]
pub struct Bell {
    lock: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    /// A frame has come.
    pub fn ring(&self) {
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.rung.notify_one();
    }
}

/// One camera on its way through the pipeline.
pub struct Lane {
    /// Its slot and state.
    pub feed: Arc<Feed>,
    view: Arc<View>,
    tickets: AtomicU64,
    turn: Mutex<Turn>,
    turned: Condvar,
    inspected: AtomicU64,
    no_verdict: AtomicU64,
    /// Alarms that were not raised because too many were active.
    pub suppressed: AtomicU64,
}

struct Turn {
    ticket: u64,
    judge: Judge,
    /// The model that `judge` goes with.
    generation: u64,
    /// Of the model before, for frames that it has still seen.
    old: Option<Judge>,
    /// Of models that come, with their numbers; at most [`COMING`], since a camera that is away takes none of them up.
    coming: VecDeque<(u64, Judge)>,
}

impl Turn {
    /// The judge that learns from the next frame on.
    fn newest(&mut self) -> &mut Judge {
        self.coming.back_mut().map_or(&mut self.judge, |(_, judge)| judge)
    }

    fn judge_of(&mut self, generation: u64) -> &mut Judge {
        while self.coming.front().is_some_and(|(number, _)| *number <= generation)
            && let Some((number, next)) = self.coming.pop_front()
        {
            self.old = Some(std::mem::replace(&mut self.judge, next));
            self.generation = number;
        }
        match &mut self.old {
            Some(old) if generation < self.generation => old,
            _ => &mut self.judge,
        }
    }
}

impl Lane {
    /// A lane for a camera.
    #[must_use]
    pub fn new(feed: Arc<Feed>, view: View, judge: Judge) -> Self {
        Self {
            feed,
            view: Arc::new(view),
            tickets: AtomicU64::new(0),
            turn: Mutex::new(Turn { ticket: 0, judge, generation: 0, old: None, coming: VecDeque::new() }),
            turned: Condvar::new(),
            inspected: AtomicU64::new(0),
            no_verdict: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Pictures with a verdict, and without.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.inspected.load(Ordering::Relaxed), self.no_verdict.load(Ordering::Relaxed))
    }

    /// How each picture is looked at.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Looks at the camera's judge.
    pub fn with_judge<R>(&self, f: impl FnOnce(&Judge) -> R) -> R {
        f(self.turn.lock().unwrap_or_else(PoisonError::into_inner).newest())
    }

    /// Changes what the camera's judge knows, between two frames.
    pub fn change_judge<R>(&self, f: impl FnOnce(&mut Judge) -> R) -> R {
        f(self.turn.lock().unwrap_or_else(PoisonError::into_inner).newest())
    }

    fn take(&self) -> Option<(Captured, Ticket<'_>)> {
        self.feed.slot.take_with(|captured| {
            let number = self.tickets.fetch_add(1, Ordering::Relaxed);
            (captured, Ticket { lane: self, number })
        })
    }
}

/// A frame's place in its camera's order; the next one's turn comes when it is dropped, whatever happened.
struct Ticket<'a> {
    lane: &'a Lane,
    number: u64,
}

impl<'a> Ticket<'a> {
    fn wait(&self) -> MutexGuard<'a, Turn> {
        let guard = self.lane.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = self.lane.turned.wait_while(guard, |turn| turn.ticket != self.number);
        mine.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.wait().ticket += 1;
        self.lane.turned.notify_all();
    }
}

/// A model's work since it was taken up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Frames that it has seen.
    pub frames: u64,
    /// Those on which it has failed.
    pub failed: u64,
    /// Frames that are in it now.
    pub under_way: u64,
    /// Seconds that preparation and forward pass took, over all frames.
    pub seconds: f64,
}

/// The model that workers take up.
struct Next {
    generation: u64,
    model: Arc<ModelRef>,
    inspectors: Vec<Inspector>,
    tally: Tally,
}

/// All lanes, and who is next.
pub struct Pipeline {
    /// In the order of the configuration.
    pub lanes: Vec<Lane>,
    /// Rung by the cameras.
    pub bell: Arc<Bell>,
    next: AtomicUsize,
    model: Mutex<Next>,
}

impl Pipeline {
    /// For these lanes, with this model.
    #[must_use]
    pub fn new(lanes: Vec<Lane>, bell: Arc<Bell>, model: ModelRef) -> Self {
        let next = Next { generation: 0, model: Arc::new(model), inspectors: Vec::new(), tally: Tally::default() };
        Self { lanes, bell, next: AtomicUsize::new(0), model: Mutex::new(next) }
    }

    fn next_model(&self) -> MutexGuard<'_, Next> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the next frame on another model inspects: an inspector for each worker, a judge for each lane. `alike` is whether it
    /// sees as the one before, so that what cameras have learned goes on.
    pub fn swap(&self, mut inspectors: Vec<Inspector>, judges: Vec<Judge>, alike: bool) {
        let mut next = self.next_model();
        let generation = next.generation + 1;
        inspectors.iter_mut().for_each(|inspector| inspector.generation = generation);
        for (lane, mut judge) in self.lanes.iter().zip(judges) {
            let mut turn = lane.turn.lock().unwrap_or_else(PoisonError::into_inner);
            if alike && let (Some(check), Some(learned)) = (judge.check_mut(), turn.newest().check()) {
                check.remember(&learned.memory());
            }
            turn.coming.push_back((generation, judge));
            if turn.coming.len() > COMING {
                turn.coming.pop_front();
            }
        }
        let model = inspectors.first().map_or_else(|| Arc::clone(&next.model), |first| Arc::clone(&first.model));
        *next = Next { generation, model, inspectors, tally: Tally::default() };
    }

    /// The model that inspects from the next frame on.
    #[must_use]
    pub fn model(&self) -> Arc<ModelRef> {
        Arc::clone(&self.next_model().model)
    }

    /// What the present model has done since it was taken up.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.next_model().tally
    }

    /// Takes up a new model, if there is one, and notes that a frame goes in.
    fn begin(&self, inspector: &mut Inspector) {
        let mut next = self.next_model();
        if inspector.generation != next.generation
            && let Some(newer) = next.inspectors.pop()
        {
            *inspector = newer;
        }
        if inspector.generation == next.generation {
            next.tally.under_way += 1;
        }
    }

    /// Notes that it came out of the network.
    fn end(&self, inspector: &Inspector, is_frame: bool, has_failed: bool) {
        let mut next = self.next_model();
        if inspector.generation == next.generation {
            let tally = &mut next.tally;
            tally.under_way = tally.under_way.saturating_sub(1);
            tally.frames += u64::from(is_frame);
            tally.failed += u64::from(is_frame && has_failed);
            tally.seconds +=
                (inspector.times.prepare + inspector.times.forward).as_secs_f64() * f64::from(u8::from(is_frame));
        }
    }

    /// The next frame, in turn; `None` when it is time to stop.
    fn take(&self, stop: &Stop) -> Option<(usize, Captured, Ticket<'_>)> {
        let mut guard = self.bell.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !stop.is_set() {
            let first = self.next.load(Ordering::Relaxed);
            for at in (0..self.lanes.len()).map(|n| (first + n) % self.lanes.len()) {
                if let Some((captured, ticket)) = self.lanes[at].take() {
                    self.next.store(at + 1, Ordering::Relaxed);
                    return Some((at, captured, ticket));
                }
            }
            // The time-out is for `stop`, which rings no bell.
            let waited = self.bell.rung.wait_timeout(guard, Duration::from_millis(100));
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    /// Works on this thread until `stop`, then finishes the frame at hand. Verdicts go out with their lane's index.
    pub fn work(&self, inspector: &mut Inspector, verdicts: &SyncSender<(usize, Verdict)>, stop: &Stop) {
        while let Some((at, captured, ticket)) = self.take(stop) {
            let lane = &self.lanes[at];
            self.begin(inspector);
            let looked = look(lane, inspector, &captured);
            // What comes now may have to wait, for the camera's order or for the disk, which is no fault of the model.
            self.end(inspector, matches!(captured, Captured::Frame(_)), looked.is_err());
            let verdict = judge(inspector, captured, looked, &ticket);
            let counter = if verdict.no_verdict.is_some() { &lane.no_verdict } else { &lane.inspected };
            counter.fetch_add(1, Ordering::Relaxed);
            if let Some(reason) = &verdict.no_verdict {
                let file = verdict.origin().map(ToString::to_string);
                warn!(camera = %lane.feed.name, file, "no verdict: {reason}");
            }
            if verdicts.send((at, verdict)).is_err() {
                return; // the receiver has stopped
            }
        }
    }
}

fn look(lane: &Lane, inspector: &mut Inspector, captured: &Captured) -> Result<Placement, String> {
    match captured {
        Captured::Unreadable { reason, .. } => Err(reason.clone()),
        Captured::Frame(frame) => match catch_unwind(AssertUnwindSafe(|| inspector.look(&frame.image, &lane.view))) {
            Ok(Ok(placement)) => Ok(placement),
            Ok(Err(e)) => Err(format!("{e:#}")),
            Err(_) => Err("the inspection of this frame panicked".to_owned()),
        },
    }
}

fn judge(inspector: &Inspector, captured: Captured, looked: Result<Placement, String>, ticket: &Ticket) -> Verdict {
    let mut times = inspector.times;
    let mut turn = ticket.wait();
    let begun = Instant::now();
    let judged = looked.and_then(|placement| {
        let judge = turn.judge_of(inspector.generation);
        catch_unwind(AssertUnwindSafe(|| judge.judge(&inspector.forward, &placement)))
            .map_err(|_| "the judgement of this frame panicked".to_owned())
    });
    drop(turn);
    times.judge = begun.elapsed();
    let latency = match &captured {
        Captured::Frame(frame) => frame.captured.elapsed().as_secs_f32(),
        Captured::Unreadable { .. } => 0.0,
    };
    match judged {
        Ok(judgement) => Verdict {
            captured,
            findings: judgement.findings,
            no_verdict: None,
            probability: judgement.anomaly.as_ref().and_then(|a| a.probability),
            anomaly: judgement.anomaly.map(|a| a.score),
            heat: judgement.heat,
            scene: judgement.scene,
            latency,
            times,
            model: Arc::clone(&inspector.model),
        },
        Err(reason) => {
            let (findings, no_verdict) = (Vec::new(), Some(reason));
            Verdict {
                captured,
                findings,
                no_verdict,
                anomaly: None,
                probability: None,
                heat: None,
                scene: None,
                latency,
                times,
                model: Arc::clone(&inspector.model),
            }
        }
    }
}
