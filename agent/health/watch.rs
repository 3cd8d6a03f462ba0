//! One camera's health: what was measured of its pictures, in their order, becomes faults that begin and end.
//!
//! What is judged of a picture depends on what is wrong with it: one that is the same as before says nothing new but that, one
//! that is too dark or too bright says nothing of focus and place, and one that is soft or lies elsewhere nothing of dirt.

use std::collections::BTreeSet;

use super::dirt::Dirt;
use super::exposure::Exposure;
use super::focus::Focus;
use super::latch::{CALM, Latch, score};
use super::place::Place;
use super::standstill::Standstill;
use super::{Change, Fault, Figures, Report, Sample};
use crate::config::HealthConfig;

/// The health of one camera.
#[derive(Debug, Clone)]
pub struct Watch {
    config: HealthConfig,
    memory: Memory,
    latches: [Latch; Fault::ALL.len()],
    forgotten: bool,
}

#[derive(Debug, Clone)]
struct Memory {
    standstill: Standstill,
    exposure: Exposure,
    focus: Focus,
    place: Place,
    dirt: Dirt,
}

impl Memory {
    fn new(config: &HealthConfig) -> Self {
        Self {
            standstill: Standstill::new(config.frozen_after_s.get(), config.frozen_after_frames.get()),
            exposure: Exposure::new(config.dark_below.get() as f32, config.overexposed_above.get() as f32),
            focus: Focus::new(config.defocused_below.get() as f32),
            place: Place::new(config.moved_above_px.get() as f32),
            dirt: Dirt::new(config.dirty_above.get() as f32),
        }
    }

    /// How bad each fault is, 1 at its threshold, where it can be judged by this picture.
    fn levels(&mut self, sample: &Sample, at: f64, good: bool) -> (bool, [Option<f32>; Fault::ALL.len()]) {
        let mut levels = [None; Fault::ALL.len()];
        let grey = &sample.small.data;
        let range = grey.iter().max().zip(grey.iter().min()).map_or(0, |(high, low)| high - low);
        let fresh = self.standstill.see(sample.digest, range, at);
        levels[Fault::Frozen as usize] = Some(self.standstill.level());
        self.exposure.see(&sample.tones, &sample.small);
        let (dark, bright) = (self.exposure.dark(), self.exposure.bright());
        levels[Fault::Dark as usize] = Some(dark);
        levels[Fault::Overexposed as usize] = Some(bright);
        if !fresh || dark.max(bright) >= CALM || self.exposure.is_odd() {
            return (false, levels);
        }
        let seen = self.focus.see(sample.edges, &sample.small);
        levels[Fault::Defocused as usize] = seen.then(|| self.focus.level());
        let sharp = self.focus.level() < CALM;
        self.place.see(&sample.small, good && sharp);
        levels[Fault::Moved as usize] = Some(self.place.level());
        if sharp && self.place.level() < CALM {
            self.dirt.see(&sample.small);
            levels[Fault::Dirty as usize] = Some(self.dirt.level());
        }
        (true, levels)
    }

    fn learn(&mut self) {
        self.exposure.learn();
        self.focus.learn();
        self.place.learn();
        self.dirt.learn();
    }

    fn spoil(&mut self) {
        self.exposure.spoil();
        self.focus.spoil();
        self.place.spoil();
    }

    fn figures(&self, sample: &Sample) -> Figures {
        Figures {
            brightness: sample.tones.mean,
            black: sample.tones.black,
            saturated: sample.tones.saturated,
            sharpness: self.focus.share_of_usual(),
            shift_px: self.place.shift_px(),
            same_s: self.standstill.seconds(),
            dirty: self.dirt.share(),
            learning: self.exposure.missing().max(self.place.missing()).max(self.dirt.missing()) as u32,
        }
    }

    /// What was measured, in words.
    fn words(&self, fault: Fault, figures: &Figures) -> String {
        let usual = || {
            self.exposure
                .share_of_usual()
                .map_or(String::new(), |share| format!(", {:.0} % of what is usual here", 100.0 * share))
        };
        match fault {
            Fault::Frozen => format!("the very same picture has come for {:.0} s", figures.same_s),
            Fault::Dark => format!("brightness is {:.0} %{}", 100.0 * figures.brightness, usual()),
            Fault::Overexposed => {
                let share = 100.0 * figures.saturated;
                format!(
                    "{share:.0} % of the picture is saturated; brightness is {:.0} %{}",
                    100.0 * figures.brightness,
                    usual()
                )
            }
            Fault::Defocused => match figures.sharpness {
                Some(share) => format!("sharpness is {:.0} % of what is usual here", 100.0 * share),
                None => "sharpness is not known".into(),
            },
            Fault::Moved if self.place.is_gone() => "the scene that the camera knew is not to be seen any more".into(),
            Fault::Moved => match figures.shift_px {
                Some(shift) => format!("the picture lies {shift:.1} px from where it was learned"),
                None => "where the picture lies is not known".into(),
            },
            Fault::Dirty => match figures.dirty {
                Some(share) => {
                    format!("dark spots that stay at their place cover {:.1} % of the picture", 100.0 * share)
                }
                None => "whether there is dirt is not known".into(),
            },
        }
    }
}

impl Watch {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(config: &HealthConfig) -> Self {
        let latches = Fault::ALL.map(latch);
        Self { config: config.clone(), memory: Memory::new(config), latches, forgotten: false }
    }

    /// Forgets what is usual: the camera looks at something else from now on. Faults that only a comparison shows end with
    /// the next picture.
    pub fn reset(&mut self) {
        self.memory = Memory::new(&self.config);
        self.forgotten = true;
    }

    /// Ends what only a comparison shows, after what it was compared with was forgotten.
    fn forget(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        if std::mem::take(&mut self.forgotten) {
            for fault in [Fault::Dark, Fault::Overexposed, Fault::Defocused, Fault::Moved, Fault::Dirty] {
                if self.is_active(fault) {
                    let reason = "over: what is usual is learned anew".into();
                    changes.push(Change { fault, began: false, reason, score: 0.0 });
                }
                self.latches[fault as usize] = latch(fault);
            }
        }
        changes
    }

    fn is_active(&self, fault: Fault) -> bool {
        self.latches[fault as usize].is_on()
    }

    /// Takes the next picture of the stream, captured at this time in seconds on a clock that does not jump.
    pub fn see(&mut self, sample: &Sample, seconds: f64) -> Report {
        if self.config.enabled == Some(false) {
            let tones = sample.tones;
            let figures = Figures {
                brightness: tones.mean,
                black: tones.black,
                saturated: tones.saturated,
                ..Figures::default()
            };
            return Report { figures, ..Report::default() };
        }
        let mut changes = self.forget();
        let good = !Fault::ALL.iter().any(|fault| self.is_active(*fault));
        let (fresh, levels) = self.memory.levels(sample, seconds, good);
        let figures = self.memory.figures(sample);
        for fault in Fault::ALL.into_iter().filter(|fault| !self.config.off.contains(fault)) {
            let Some(level) = levels[fault as usize] else { continue };
            if self.latches[fault as usize].step(level) {
                let began = self.is_active(fault);
                let words = self.memory.words(fault, &figures);
                let reason = if began { words } else { format!("over: {words}") };
                changes.push(Change { fault, began, reason, score: score(level) });
            }
        }
        let active: BTreeSet<Fault> = Fault::ALL.into_iter().filter(|fault| self.is_active(*fault)).collect();
        if !active.is_empty() {
            self.memory.spoil();
        } else if fresh {
            self.memory.learn();
        }
        Report { active, changes, figures }
    }
}

/// How many frames each fault takes to begin and to end, on top of those of which its level is the median.
fn latch(fault: Fault) -> Latch {
    match fault {
        Fault::Frozen => Latch::new(1, 3),
        Fault::Dark | Fault::Overexposed => Latch::new(2, 5),
        Fault::Defocused => Latch::new(3, 12),
        Fault::Moved => Latch::new(3, 8),
        Fault::Dirty => Latch::new(12, 16),
    }
}
