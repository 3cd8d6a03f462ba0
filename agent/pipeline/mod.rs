//! Cameras' pictures in, verdicts out: worker threads that share the models fairly.
//!
//! Guarantees
//! - Cameras are served by what they have had ([`fair`]): one that is quick, or whose model is slow, cannot starve another.
//! - Frames of one camera may be in the network at the same time on several workers, but they are judged, and their
//!   verdicts sent, in the order in which they were captured.
//! - A frame on which the model fails, even by a panic, gives "no verdict", and the worker goes on.
//! - The channel of verdicts is bounded; when the receiver is slow, workers wait and the slots drop old frames.
//! - A new model ([`Pipeline::swap`]) is taken up by each worker between two frames. What a model has seen is judged by what goes with
//!   that model, so that no frame is lost or mixed up while two are at work.
//! - Cameras come, go and are configured otherwise while the others are inspected.

mod fair;
mod lane;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::engine::{Engine, Kind};
use crate::fail;
use crate::frame::Captured;
use crate::health::{Report, Sample};
use crate::inspector::{Inspector, Judge};
use crate::model::preprocess::Placement;
use crate::mqtt::payload::ModelRef;
use crate::pulse::{Pulse, Pulses};
use crate::shared::Shared;
use crate::stop::Stop;
use crate::verdict::Verdict;

use lane::Ticket;
pub use lane::{Lane, Settings};

/// Between two looks whether there is room for a verdict.
const FULL: Duration = Duration::from_millis(5);

/// A verdict, and whose.
pub type Judged = (Arc<Lane>, Verdict);

/// Wakes workers when a frame has come.
#[derive(Default)]
pub struct Bell {
    /// The virtual time of [`fair`].
    lock: Mutex<f64>,
    rung: Condvar,
}

impl Bell {
    /// A frame has come.
    pub fn ring(&self) {
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.rung.notify_one();
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

/// A model, as workers take it up.
struct Model {
    generation: u64,
    kind: Arc<Kind>,
    /// For workers that have none of this generation yet.
    inspectors: Vec<Inspector>,
    tally: Tally,
}

impl Model {
    fn of(generation: u64, engine: Engine) -> Self {
        let Engine { kind, inspectors } = engine;
        Self { generation, kind, inspectors, tally: Tally::default() }
    }
}

struct Models {
    gateway: Model,
    /// Of cameras that have one of their own, from number 1 on; a number is never used again.
    others: BTreeMap<usize, Model>,
    last: usize,
}

impl Models {
    fn get(&mut self, engine: usize) -> Option<&mut Model> {
        if engine == 0 { Some(&mut self.gateway) } else { self.others.get_mut(&engine) }
    }
}

/// All lanes, and the models.
pub struct Pipeline {
    lanes: Shared<Vec<Arc<Lane>>>,
    /// Rung by the cameras.
    pub bell: Arc<Bell>,
    /// By [`Settings::engine`].
    models: Mutex<Models>,
    /// Whether its threads, and those before and after it, make progress.
    pub pulses: Arc<Pulses>,
}

impl Pipeline {
    /// Without cameras, with the gateway's model.
    #[must_use]
    pub fn new(bell: Arc<Bell>, engine: Engine) -> Self {
        let models = Models { gateway: Model::of(0, engine), others: BTreeMap::new(), last: 0 };
        Self { lanes: Shared::default(), bell, models: Mutex::new(models), pulses: Arc::default() }
    }

    /// One more model; gives its number.
    pub fn add(&self, engine: Engine) -> usize {
        let mut models = self.models();
        models.last += 1;
        let number = models.last;
        models.others.insert(number, Model::of(0, engine));
        number
    }

    /// Lets go of all models but the gateway's and these.
    pub fn keep(&self, engines: &[usize]) {
        self.models().others.retain(|number, _| engines.contains(number));
    }

    /// The cameras, in the order of the configuration.
    #[must_use]
    pub fn lanes(&self) -> Arc<Vec<Arc<Lane>>> {
        self.lanes.get()
    }

    /// From now on these cameras are inspected.
    pub fn set_lanes(&self, lanes: Vec<Arc<Lane>>) {
        self.lanes.set(lanes);
    }

    fn models(&self) -> MutexGuard<'_, Models> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the next frame on another model inspects in place of the gateway's; `judge` makes a judge for a lane. `alike` is whether
    /// it sees as the one before, so that what cameras have learned goes on.
    pub fn swap(&self, engine: Engine, mut judge: impl FnMut(&Lane) -> Judge, alike: bool) {
        let mut models = self.models();
        let generation = models.gateway.generation + 1;
        let mut next = Model::of(generation, engine);
        next.inspectors.iter_mut().for_each(|inspector| inspector.generation = generation);
        for lane in self.lanes().iter().filter(|lane| lane.settings().engine == 0) {
            lane.expect(generation, judge(lane), alike);
        }
        models.gateway = next;
    }

    /// What inspects from the next frame on under this number, and its generation.
    #[must_use]
    pub fn kind(&self, engine: usize) -> Option<(Arc<Kind>, u64)> {
        self.models().get(engine).map(|model| (Arc::clone(&model.kind), model.generation))
    }

    /// The gateway's model, which inspects from the next frame on.
    #[must_use]
    pub fn model(&self) -> Arc<ModelRef> {
        Arc::clone(&self.models().gateway.kind.model)
    }

    /// What the gateway's present model has done since it was taken up.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.models().gateway.tally
    }

    /// The worker's inspector of that model, of the newest generation that it can have; notes that a frame goes in.
    fn begin<'w>(&self, engine: usize, worker: &'w mut BTreeMap<usize, Inspector>) -> Option<&'w mut Inspector> {
        let mut models = self.models();
        worker.retain(|number, _| *number == 0 || models.others.contains_key(number));
        let model = models.get(engine)?;
        if worker.get(&engine).is_none_or(|mine| mine.generation != model.generation)
            && let Some(newer) = model.inspectors.pop()
        {
            worker.insert(engine, newer);
        }
        let mine = worker.get_mut(&engine)?;
        model.tally.under_way += u64::from(mine.generation == model.generation);
        Some(mine)
    }

    /// Notes that it came out of the network.
    fn end(&self, engine: usize, inspector: &Inspector, is_frame: bool, has_failed: bool) {
        let mut models = self.models();
        let Some(model) = models.get(engine).filter(|model| model.generation == inspector.generation) else { return };
        let tally = &mut model.tally;
        tally.under_way = tally.under_way.saturating_sub(1);
        tally.frames += u64::from(is_frame);
        tally.failed += u64::from(is_frame && has_failed);
        tally.seconds += inspector.times.looked().as_secs_f64() * f64::from(u8::from(is_frame));
    }

    /// The next frame, of the camera that has had least; `None` when it is time to stop.
    fn take(&self, pulse: &Pulse, stop: &Stop) -> Option<(Captured, Ticket)> {
        let mut now = self.bell.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while !stop.is_set() {
            pulse.beat();
            let lanes = self.lanes();
            let waiting = lanes.iter().filter(|lane| lane.feed.is_waiting());
            let next = waiting.min_by(|a, b| a.account().start(*now).total_cmp(&b.account().start(*now)));
            if let Some(lane) = next {
                if let Some(taken) = lane.take() {
                    *now = lane.account().serve(*now);
                    return Some(taken);
                }
                continue;
            }
            // The time-out is for `stop`, which rings no bell.
            let waited = self.bell.rung.wait_timeout(now, Duration::from_millis(100));
            now = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    /// Works on this thread until `stop`, then finishes the frame at hand. Verdicts go out with their lane.
    pub fn work(&self, verdicts: &SyncSender<Judged>, stop: &Stop) {
        let (mut worker, pulse) = (BTreeMap::new(), self.pulses.begin("inference"));
        while let Some((captured, ticket)) = self.take(&pulse, stop) {
            fail::stall("inference");
            let engine = ticket.settings.engine;
            let verdict = match self.begin(engine, &mut worker) {
                None => Verdict::none(
                    captured,
                    Some("the camera was given another model before this frame was inspected".to_owned()),
                    self.model(),
                ),
                Some(inspector) => {
                    let looked = look(&ticket, inspector, &captured);
                    // What comes now may have to wait, for the camera's order or for the disk, which is no fault of the model.
                    let is_frame = matches!(captured, Captured::Frame(_));
                    self.end(engine, inspector, is_frame, looked.is_err());
                    if is_frame {
                        ticket.lane.account().learn(inspector.times.looked().as_secs_f64());
                    }
                    judge(inspector, captured, looked, &ticket)
                }
            };
            // What no picture came of is none that was captured.
            if !matches!(verdict.captured, Captured::Missed { .. }) {
                ticket.lane.count(verdict.no_verdict.is_none());
            }
            if let Some(reason) = &verdict.no_verdict {
                let file = verdict.origin().map(ToString::to_string);
                warn!(camera = %ticket.lane.name(), file, "no verdict: {reason}");
            }
            if !send(verdicts, (Arc::clone(&ticket.lane), verdict), &pulse) {
                return; // the receiver has stopped
            }
        }
    }
}

/// Waits for room, and is alive meanwhile; false where nobody receives any more.
fn send(verdicts: &SyncSender<Judged>, mut judged: Judged, pulse: &Pulse) -> bool {
    loop {
        match verdicts.try_send(judged) {
            Ok(()) => return true,
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(back)) => judged = back,
        }
        pulse.beat();
        std::thread::sleep(FULL);
    }
}

/// What was seen of a picture, and of its health.
type Looked = (Placement, Option<Sample>);

fn look(ticket: &Ticket, inspector: &mut Inspector, captured: &Captured) -> Result<Looked, String> {
    match captured {
        Captured::Unreadable { reason, .. } | Captured::Missed { reason, .. } => Err(reason.clone()),
        Captured::Frame(frame) => {
            let view = &ticket.settings.view;
            let sample = ticket.settings.camera.watched().is_some().then_some(&frame.image);
            let look = || inspector.look(&frame.image, view).map(|placement| (placement, sample.map(Sample::of)));
            match catch_unwind(AssertUnwindSafe(look)) {
                Ok(Ok(looked)) => Ok(looked),
                Ok(Err(e)) => Err(format!("{e:#}")),
                Err(_) => Err("the inspection of this frame panicked".to_owned()),
            }
        }
    }
}

fn judge(inspector: &Inspector, captured: Captured, looked: Result<Looked, String>, ticket: &Ticket) -> Verdict {
    let mut turn = ticket.wait();
    let begun = Instant::now();
    let mut health = None;
    let judged = looked.and_then(|(placement, sample)| {
        if let (Some(sample), Captured::Frame(frame)) = (sample, &captured) {
            let watch = || ticket.lane.watch(&sample, frame.captured);
            health = catch_unwind(AssertUnwindSafe(watch)).unwrap_or_default();
        }
        let is_trusted = health.as_ref().is_none_or(|report: &Report| report.active.is_empty());
        let judge = turn.judge_of(&ticket.settings, inspector.generation);
        let judge =
            judge.ok_or_else(|| "the camera was configured otherwise while this frame was inspected".to_owned())?;
        judge.trust(is_trusted);
        catch_unwind(AssertUnwindSafe(|| judge.judge(&inspector.forward, &placement)))
            .map_err(|_| "the judgement of this frame panicked".to_owned())
    });
    drop(turn);
    let mut times = inspector.times;
    times.judge = begun.elapsed();
    let latency = match &captured {
        Captured::Frame(frame) => {
            times.queue = ticket.taken.saturating_duration_since(frame.captured);
            frame.captured.elapsed().as_secs_f32()
        }
        Captured::Unreadable { .. } | Captured::Missed { .. } => 0.0,
    };
    let model = Arc::clone(&inspector.model);
    match judged {
        Ok(judgement) => Verdict {
            findings: judgement.findings,
            probability: judgement.anomaly.as_ref().and_then(|a| a.probability),
            anomaly: judgement.anomaly.map(|a| a.score),
            heat: judgement.heat,
            scene: judgement.scene,
            latency,
            times,
            health,
            ..Verdict::none(captured, None, model)
        },
        Err(reason) => Verdict { latency, times, health, ..Verdict::none(captured, Some(reason), model) },
    }
}
