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

/// Classes that are counted by name; those of a model are fewer, and more can be taught in years.
const CLASSES: usize = 256;
/// What is beyond.
const OTHERS: &str = "other";

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
    raised: Mutex<BTreeMap<(String, Severity), u64>>,
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
    pub fn raised(&self, class: &str, severity: Severity) {
        let mut raised = self.by_class();
        let known = raised.len() < CLASSES || raised.contains_key(&(class.to_owned(), severity));
        *raised.entry((if known { class } else { OTHERS }.to_owned(), severity)).or_default() += 1;
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

    /// Alarms raised, by class and severity.
    #[must_use]
    pub fn alarms(&self) -> BTreeMap<(String, Severity), u64> {
        self.by_class().clone()
    }

    fn by_class(&self) -> MutexGuard<'_, BTreeMap<(String, Severity), u64>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_classes_are_bounded() {
        let meter = Meter::default();
        for n in 0..CLASSES + 10 {
            meter.raised(&format!("taught/{n}"), Severity::Major);
        }
        meter.raised("taught/0", Severity::Major);
        let alarms = meter.alarms();
        assert_eq!(alarms.len(), CLASSES + 1);
        assert_eq!(alarms[&("taught/0".to_owned(), Severity::Major)], 2);
        assert_eq!(alarms[&(OTHERS.to_owned(), Severity::Major)], 10);
    }
}
