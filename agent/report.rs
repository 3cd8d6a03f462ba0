//! What the daemon says of itself: the gateway's and the cameras' states, and the results of frames.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;
use tracing::error;

use crate::config::{MqttConfig, ResultsMode};
use crate::frame::Captured;
use crate::frame::feed::{Phase, Status};
use crate::health::Fault;
use crate::metrics::histogram::Counts;
use crate::metrics::{Probe, Stage};
use crate::mqtt::board::Board;
use crate::mqtt::payload::{
    AnomalyState, BrokerState, CameraPhase, CameraState, DeadLetter, FrameResult, GatewayState, ModelRef, OutboxState,
    Outcome, StageState, TransportState,
};
use crate::mqtt::session::Passing;
use crate::mqtt::topics::Topics;
use crate::outbox::{self, Dead};
use crate::pipeline::Lane;
use crate::system::SystemState;
use crate::trigger::Fired;
use crate::verdict::Verdict;

/// How often states are looked at.
pub const TICK: Duration = Duration::from_millis(250);
/// A broker that speaks MQTT 5 throws results away that it could not hand on in this time.
const RESULT_EXPIRY: Duration = Duration::from_secs(60);
/// How often figures are published when nothing else has changed.
const FIGURES: Duration = Duration::from_secs(10);

/// Publishes states: at once when something has changed, figures every ten seconds.
pub struct Reporter {
    topics: Topics,
    probe: Probe,
    times: Vec<Counts>,
    last: HashMap<Arc<str>, Shown>,
    gateway_due: Instant,
    counts: outbox::Counts,
    dead: Option<DeadLetter>,
    trouble: Option<String>,
    broker: BrokerState,
    model: Arc<ModelRef>,
    /// Cameras that were named last.
    shown: usize,
}

struct Shown {
    at: Instant,
    inspected: u64,
    fps: f32,
    phase: Option<(Phase, Option<String>, bool, Vec<Fault>)>,
}

impl Reporter {
    /// Of what is read there.
    #[must_use]
    pub fn new(topics: Topics, probe: Probe) -> Self {
        let model = probe.pipeline.model();
        Self {
            topics,
            probe,
            times: Vec::new(),
            last: HashMap::new(),
            gateway_due: Instant::now(),
            counts: outbox::Counts::default(),
            dead: None,
            trouble: None,
            broker: BrokerState::default(),
            model,
            shown: 0,
        }
    }

    fn gateway(&mut self, online: bool, reason: Option<String>) -> GatewayState {
        match self.probe.outbox.counts() {
            Ok(counts) => {
                if counts.dead != self.counts.dead {
                    let last = self.probe.outbox.last_dead().unwrap_or_default(); // the counter says it all the same
                    self.dead = last.map(|Dead { topic, reason }| DeadLetter { topic, reason });
                }
                self.counts = counts;
            }
            Err(e) => error!("the outbox's counters cannot be read, the last ones stand: {e:#}"),
        }
        let counts = self.counts;
        GatewayState {
            schema: "inspect.state/1".into(),
            online,
            reason,
            agent: env!("CARGO_PKG_VERSION").into(),
            uptime_s: self.probe.started.elapsed().as_secs(),
            bundle: ModelRef::clone(&self.probe.pipeline.model()),
            stages: self.stages(),
            raised: self.raised(),
            outbox: OutboxState {
                appended: counts.appended,
                delivered: counts.delivered,
                dropped: counts.dropped,
                dead: counts.dead,
                queued: counts.queued,
                oldest_s: self.probe.outbox.oldest().ok().flatten().unwrap_or_default().as_secs(),
                dead_letter: self.dead.clone(),
            },
            broker: self.broker.clone(),
            cameras: self.cameras(),
            system: online.then(|| SystemState::read(&self.probe.state_dir)),
        }
    }

    /// Since the last time that it was asked.
    fn stages(&mut self) -> BTreeMap<String, StageState> {
        let names = Stage::ALL.iter().map(|stage| stage.as_str()).chain(["latency"]);
        let now = self.probe.meter.stages().into_iter().chain([self.probe.meter.latency()]);
        let now: Vec<Counts> = now.collect();
        let before = std::mem::replace(&mut self.times, now);
        let spans =
            self.times.iter().enumerate().map(|(n, now)| now.since(&before.get(n).copied().unwrap_or_default()));
        let ms = |counts: &Counts, share| counts.quantile(share).map(|seconds| (seconds * 1e4).round() as f32 / 10.0);
        let stage = |counts: Counts| Some(StageState { p50_ms: ms(&counts, 0.5)?, p99_ms: ms(&counts, 0.99)? });
        names.zip(spans).filter_map(|(name, counts)| Some((name.to_owned(), stage(counts)?))).collect()
    }

    fn raised(&self) -> BTreeMap<String, u64> {
        let mut raised = BTreeMap::new();
        for (kind, count) in self.probe.meter.alarms() {
            *raised.entry(kind.class).or_default() += count;
        }
        raised
    }

    fn cameras(&self) -> Vec<String> {
        self.probe.pipeline.lanes().iter().map(|lane| lane.name().to_string()).collect()
    }

    /// The last will.
    #[must_use]
    pub fn will(&mut self) -> Vec<u8> {
        json(&self.gateway(false, Some("connection lost".to_owned())))
    }

    /// To be called every [`TICK`].
    pub fn tick(&mut self, board: &Board) {
        let now = Instant::now();
        let (broker, contested) = self.probe.status.get();
        let trouble = self.probe.outbox.trouble().or(contested);
        let model = self.probe.pipeline.model();
        let lanes = self.probe.pipeline.lanes();
        self.last.retain(|name, _| lanes.iter().any(|lane| lane.name() == name));
        let is_new = lanes.iter().any(|lane| !self.last.contains_key(lane.name())) || lanes.len() != self.shown;
        if is_new || now >= self.gateway_due || trouble != self.trouble || broker != self.broker || model != self.model
        {
            (self.broker, self.model, self.shown) = (broker, model, lanes.len());
            self.trouble.clone_from(&trouble);
            board.set(&self.topics.state(), json(&self.gateway(true, trouble)));
            self.gateway_due = now + FIGURES;
        }
        for lane in lanes.iter() {
            let new = || Shown { at: now, inspected: lane.counts().0, fps: 0.0, phase: None };
            let shown = self.last.entry(Arc::clone(lane.name())).or_insert_with(new);
            let status = lane.feed.status();
            let anomaly = lane.with_judge(|j| j.check().map_or(AnomalyState::Off, |c| c.standing().into()));
            let is_learning = matches!(anomaly, AnomalyState::Learning { .. });
            let faults = lane.picture().map(|(_, faults)| faults.into_keys().collect()).unwrap_or_default();
            let phase = (status.phase, status.reason.clone(), is_learning, faults);
            let span = now - shown.at;
            if shown.phase.as_ref() == Some(&phase) && span < FIGURES {
                continue;
            }
            let inspected = lane.counts().0;
            if span > Duration::from_secs(2) || status.phase != Phase::Streaming {
                shown.fps = (inspected - shown.inspected) as f32 / span.as_secs_f32().max(0.1);
                (shown.at, shown.inspected) = (now, inspected);
            }
            shown.phase = Some(phase);
            board.set(&self.topics.camera_state(lane.name()), json(&camera(lane, status, shown.fps, anomaly)));
        }
    }

    /// The state that stays on the broker after a stop.
    pub fn stopped(&mut self, board: &Board) {
        let state = json(&self.gateway(false, Some("stopped".to_owned())));
        board.set(&self.topics.state(), state);
    }
}

fn camera(lane: &Lane, status: Status, fps: f32, anomaly: AnomalyState) -> CameraState {
    // What is under way counts as captured only, so it is read last.
    let (inspected, no_verdict) = lane.counts();
    let (captured, dropped) = lane.feed.counts();
    let (picture, mut faults) =
        lane.picture().map_or_else(Default::default, |(figures, faults)| (Some(figures), faults));
    if status.phase != Phase::Streaming {
        faults.clear(); // of pictures that do not come any more
    }
    CameraState {
        schema: "inspect.camera/1".into(),
        camera: lane.name().to_string(),
        state: match status.phase {
            Phase::Opening => CameraPhase::Opening,
            Phase::Streaming => faults.keys().next().map_or(CameraPhase::Streaming, |fault| (*fault).into()),
            Phase::Reconnecting => CameraPhase::Reconnecting,
        },
        reason: status.reason.or_else(|| faults.values().next().cloned()),
        since: Timestamp::try_from(status.since).unwrap_or_default(),
        fps: (fps * 10.0).round() / 10.0,
        captured,
        inspected,
        dropped,
        no_verdict,
        suppressed: lane.suppressed.load(Ordering::Relaxed),
        reopened: status.reopened,
        anomaly,
        faults: faults.into_keys().collect(),
        picture,
        triggers: lane.settings().camera.trigger.as_ref().map(|_| lane.feed.trigger_counts()),
        transport: status.transport.map(|counts| TransportState { counts, chunks: status.chunks }),
    }
}

/// Publishes inspected frames, as many as the configuration wants.
pub struct Results {
    topics: Topics,
    sender: mpsc::Sender<Passing>,
    sampled: HashMap<Arc<str>, Instant>,
}

impl Results {
    /// Under these topics.
    #[must_use]
    pub fn new(topics: Topics, sender: mpsc::Sender<Passing>) -> Self {
        Self { topics, sender, sampled: HashMap::new() }
    }

    /// The topics.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Sends a verdict's result if it is wanted. Never waits: with no room it is left out.
    pub fn send(&mut self, config: &MqttConfig, camera: &Arc<str>, verdict: &Verdict, fired: &[Fired]) {
        let wanted = match config.results {
            ResultsMode::Off => false,
            ResultsMode::All => true,
            ResultsMode::Defects => verdict.outcome() != Outcome::Good,
            ResultsMode::Sampled => {
                let due = self.sampled.get(camera).is_none_or(|at| at.elapsed() >= Duration::from_secs(1));
                if due {
                    self.sampled.insert(Arc::clone(camera), Instant::now());
                }
                due
            }
        };
        if wanted {
            let topic = self.topics.results(camera);
            let triggered = fired.iter().map(|fired| fired.at_wall).min();
            let (payload, expiry) = (json(&result(camera, verdict, triggered)), Some(RESULT_EXPIRY));
            let qos = config.results_qos.get() as u8;
            let _ = self.sender.try_send(Passing { topic, payload, qos, expiry });
        }
    }
}

/// What is told of a frame; `triggered` is when it was asked for, where it was.
#[must_use]
pub fn result(camera: &str, verdict: &Verdict, triggered: Option<SystemTime>) -> FrameResult {
    let (seq, at) = match &verdict.captured {
        Captured::Frame(frame) => (frame.seq, frame.captured_at),
        Captured::Unreadable { seq, captured_at, .. } | Captured::Missed { seq, captured_at, .. } => {
            (*seq, *captured_at)
        }
    };
    let triggered = triggered.or_else(|| matches!(verdict.captured, Captured::Missed { .. }).then_some(at));
    FrameResult {
        schema: "inspect.result/1".into(),
        camera: camera.to_owned(),
        seq,
        captured_at: Timestamp::try_from(at).unwrap_or_default(),
        triggered_at: triggered.map(|at| Timestamp::try_from(at).unwrap_or_default()),
        file: verdict.origin().map(ToString::to_string),
        outcome: verdict.outcome(),
        untrusted: verdict.untrusted(),
        reason: verdict.no_verdict.clone(),
        anomaly: verdict.anomaly,
        anomaly_probability: verdict.probability,
        findings: verdict.findings.clone(),
        image: None,
        latency_ms: verdict.latency * 1000.0,
    }
}

/// Our own types always become JSON; if one ever did not, an empty message is better than a dead daemon.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
