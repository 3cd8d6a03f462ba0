//! Reads all figures at a moment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::histogram::Counts as Times;
use super::{Kind, Meter, Stage};
use crate::config::Severity;
use crate::frame::feed::Phase;
use crate::health::Fault;
use crate::mqtt::payload::{BrokerState, ModelRef};
use crate::mqtt::status::LinkStatus;
use crate::outbox::{Counts, Outbox};
use crate::pipeline::Pipeline;
use crate::pulse;
use crate::system::SystemState;
use crate::verdict::book::AlarmBook;

/// Where figures are read.
#[derive(Clone)]
pub struct Probe {
    /// Cameras, model, and what goes round.
    pub pipeline: Arc<Pipeline>,
    /// What waits.
    pub outbox: Arc<Outbox>,
    /// What is active.
    pub book: Arc<Mutex<AlarmBook>>,
    /// The connection to the broker.
    pub status: Arc<LinkStatus>,
    /// What is counted along the way.
    pub meter: Arc<Meter>,
    /// Site and gateway.
    pub whose: [String; 2],
    /// The disk that is looked at.
    pub state_dir: PathBuf,
    /// Since when.
    pub started: Instant,
}

/// All figures at a moment.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Whose they are: site and gateway.
    pub whose: [String; 2],
    /// Since the start.
    pub uptime: Duration,
    /// The active bundle.
    pub model: Arc<ModelRef>,
    /// By name.
    pub cameras: BTreeMap<String, CameraFigures>,
    /// By stage, in their order.
    pub stages: [Times; Stage::ALL.len()],
    /// Capture to verdict.
    pub latency: Times,
    /// How long ago each stage went round.
    pub idle: BTreeMap<String, Duration>,
    /// Alarms raised since the start.
    pub raised: BTreeMap<Kind, u64>,
    /// Alarms that are active.
    pub active: BTreeMap<Severity, u64>,
    /// The queue; nothing where its file cannot be read.
    pub outbox: Option<Counts>,
    /// For how long its oldest message has waited.
    pub oldest: Option<Duration>,
    /// The broker is there.
    pub is_connected: bool,
    /// The connection.
    pub broker: BrokerState,
    /// The machine.
    pub system: SystemState,
}

/// Of a camera.
#[derive(Debug, Clone, Default)]
pub struct CameraFigures {
    /// Pictures that came.
    pub captured: u64,
    /// Those with a verdict.
    pub inspected: u64,
    /// Those without.
    pub no_verdict: u64,
    /// Those for which there was no time.
    pub dropped: u64,
    /// Pictures come.
    pub is_streaming: bool,
    /// How often it was opened again.
    pub reopened: u64,
    /// What is wrong with its picture.
    pub faults: Vec<Fault>,
    /// Alarms that were not raised because too many were active.
    pub suppressed: u64,
}

/// How the agent is, in a word and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `ok`, `degraded` (something that it needs is away or wrong), or `stuck`: it does not go on by itself.
    pub status: &'static str,
    /// Why, in words.
    pub reasons: Vec<String>,
    /// The agent's version.
    pub version: &'static str,
    /// The active bundle.
    pub model: String,
    /// Seconds since the start.
    pub uptime_s: u64,
}

impl Probe {
    /// All figures, now. What cannot be read stays zero.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let lanes = self.pipeline.lanes();
        let cameras = lanes.iter().map(|lane| {
            // What is under way counts as captured only, so it is read last.
            let (inspected, no_verdict) = lane.counts();
            let (captured, dropped) = lane.feed.counts();
            let status = lane.feed.status();
            let is_streaming = status.phase == Phase::Streaming;
            // Of pictures that do not come any more nothing is said.
            let faults = lane.picture().filter(|_| is_streaming).map(|(_, faults)| faults.into_keys().collect());
            let figures = CameraFigures {
                captured,
                inspected,
                no_verdict,
                dropped,
                is_streaming,
                reopened: status.reopened,
                faults: faults.unwrap_or_default(),
                suppressed: lane.suppressed.load(std::sync::atomic::Ordering::Relaxed),
            };
            (lane.name().to_string(), figures)
        });
        let cameras = cameras.collect();
        // Alarms wait for the book's lock: it is held for this alone.
        let active = {
            let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            book.by_severity()
        };
        Figures {
            whose: self.whose.clone(),
            uptime: self.started.elapsed(),
            model: self.pipeline.model(),
            cameras,
            stages: self.meter.stages(),
            latency: self.meter.latency(),
            idle: self.pipeline.pulses.ages(),
            raised: self.meter.alarms(),
            active,
            outbox: self.outbox.counts().ok(),
            oldest: self.outbox.oldest().unwrap_or_default(),
            is_connected: self.outbox.is_online(),
            broker: self.status.get().0,
            system: SystemState::read(&self.state_dir),
        }
    }

    /// How it is. A stage that stands still is the one thing that a new start would mend.
    #[must_use]
    pub fn health(&self) -> Health {
        let stuck = self.pipeline.pulses.stuck(pulse::STILL);
        let mut reasons: Vec<String> = Vec::new();
        for lane in self.pipeline.lanes().iter() {
            let (name, status) = (lane.name(), lane.feed.status());
            if status.phase != Phase::Streaming {
                let phase = if status.phase == Phase::Opening { "is being opened" } else { "is away" };
                let reason = status.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                reasons.push(format!("camera {name} {phase}{reason}"));
            } else if let Some((_, faults)) = lane.picture() {
                reasons.extend(faults.into_values().map(|reason| format!("camera {name}: {reason}")));
            }
        }
        if !self.outbox.is_online() {
            let loss = self.status.get().0.last_loss.map(|loss| format!(": {loss}")).unwrap_or_default();
            reasons.push(format!("the broker is away{loss}"));
        }
        reasons.extend(self.outbox.trouble());
        reasons.extend(self.status.get().1);
        let status = match (&stuck, reasons.is_empty()) {
            (Some(_), _) => "stuck",
            (None, false) => "degraded",
            (None, true) => "ok",
        };
        let still =
            |(stage, age): (String, Duration)| format!("{stage} has stood still for {:.0} s", age.as_secs_f64());
        if let Some(stuck) = stuck {
            reasons.insert(0, still(stuck));
        }
        let model = self.pipeline.model();
        Health {
            status,
            reasons,
            version: env!("CARGO_PKG_VERSION"),
            model: format!("{} {}", model.name, model.version),
            uptime_s: self.started.elapsed().as_secs(),
        }
    }
}
