//! Figures of the agent, for its own state, for Prometheus and for whoever asks how it is.
//!
//! The way of a figure: [`Meter`] counts what nobody else does, [`Probe`] collects all of them at a moment into [`Figures`], which are
//! written by [`exposition`]; [`serve`] answers on the machine itself, where the configuration wants it.

pub mod exposition;
pub mod histogram;
mod probe;
pub mod serve;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use probe::{CameraFigures, Figures, Health, Probe};

use crate::config::Severity;
use crate::verdict::Verdict;
use histogram::{Counts, Histogram};

/// Kinds of alarms that are counted by name; those of a model are fewer, and more can be taught in years.
const KINDS: usize = 1024;
/// What is beyond.
const OTHERS: &str = "other";

/// What alarms are counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// Where.
    pub camera: String,
    /// What; of more kinds than can be counted, `other`.
    pub class: String,
    /// How bad.
    pub severity: Severity,
}

/// A stage of a frame's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Stage {
    /// From capture until a worker takes it.
    Queue,
    /// Crop, resize, normalise.
    Prepare,
    /// The network.
    Forward,
    /// Anomaly score and findings.
    Judge,
    /// Until it is decided what becomes of alarms, and that is on the disk.
    Record,
}

impl Stage {
    /// In the order of the way.
    pub const ALL: [Self; 5] = [Self::Queue, Self::Prepare, Self::Forward, Self::Judge, Self::Record];

    /// Its name in figures.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Prepare => "prepare",
            Self::Forward => "forward",
            Self::Judge => "judge",
            Self::Record => "record",
        }
    }
}

/// Counts what frames took and what was raised, since the start.
#[derive(Debug, Default)]
pub struct Meter {
    stages: [Histogram; Stage::ALL.len()],
    latency: Histogram,
    raised: Mutex<BTreeMap<Kind, u64>>,
}

impl Meter {
    /// A frame has its verdict, and what follows from it was recorded in this time.
    pub fn frame(&self, verdict: &Verdict, recorded: Duration) {
        if verdict.frame().is_none() || verdict.no_verdict.is_some() {
            return; // it was not inspected to the end
        }
        let (times, latency) = (verdict.times, Duration::from_secs_f32(verdict.latency.max(0.0)));
        let spans = [times.queue, times.prepare, times.forward, times.judge, recorded];
        self.stages.iter().zip(spans).for_each(|(histogram, span)| histogram.add(span));
        self.latency.add(latency);
    }

    /// An alarm was raised.
    pub fn raised(&self, camera: &str, class: &str, severity: Severity) {
        let mut raised = self.by_kind();
        let mut kind = Kind { camera: camera.to_owned(), class: class.to_owned(), severity };
        if raised.len() >= KINDS && !raised.contains_key(&kind) {
            OTHERS.clone_into(&mut kind.class);
        }
        *raised.entry(kind).or_default() += 1;
    }

    /// By stage.
    #[must_use]
    pub fn stages(&self) -> [Counts; Stage::ALL.len()] {
        self.stages.each_ref().map(Histogram::counts)
    }

    /// Capture to verdict.
    #[must_use]
    pub fn latency(&self) -> Counts {
        self.latency.counts()
    }

    /// Alarms raised.
    #[must_use]
    pub fn alarms(&self) -> BTreeMap<Kind, u64> {
        self.by_kind().clone()
    }

    fn by_kind(&self) -> MutexGuard<'_, BTreeMap<Kind, u64>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_classes_are_bounded() {
        let meter = Meter::default();
        for n in 0..KINDS + 10 {
            meter.raised("line", &format!("taught/{n}"), Severity::Major);
        }
        meter.raised("line", "taught/0", Severity::Major);
        let alarms = meter.alarms();
        assert_eq!(alarms.len(), KINDS + 1);
        let of = |class: &str| alarms[&Kind { camera: "line".into(), class: class.into(), severity: Severity::Major }];
        assert_eq!((of("taught/0"), of(OTHERS)), (2, 10));
    }
}
