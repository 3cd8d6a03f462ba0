//! Brings triggers and pictures together. Pure: the time comes as an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::motion::Motion;
use super::{By, Fired, TriggerCounts};
use crate::config::{TriggerConfig, TriggerOn};
use crate::frame::Image;

/// Triggers that may wait for their picture.
const WAITING: usize = 64;

/// Why a trigger was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It belongs to the one before.
    Bounced,
    /// Too many wait.
    Full,
}

/// Of one camera.
#[derive(Debug, Default)]
pub struct Gate {
    config: Option<TriggerConfig>,
    waiting: VecDeque<Fired>,
    /// When a line has fired last, also where that was a bounce.
    edge: Option<Instant>,
    /// Pictures since the last one that was inspected by its number.
    since: u64,
    motion: Option<Motion>,
    /// Triggers of which a source that has to be told does not know yet.
    untold: u32,
    /// The signal of the line exposes the picture as well.
    exposes: bool,
    counts: TriggerCounts,
}

impl Gate {
    /// As configured; every picture is inspected where nothing is.
    #[must_use]
    pub fn new(config: Option<&TriggerConfig>) -> Self {
        let motion = match config.map(|config| &config.on) {
            Some(TriggerOn::Motion(motion)) => Some(Motion::new(motion)),
            _ => None,
        };
        Self { config: config.cloned(), motion, ..Self::default() }
    }

    /// The same camera, configured otherwise: what waits and was counted stays.
    pub fn configure(&mut self, config: Option<&TriggerConfig>) {
        if self.config.as_ref() != config {
            let old = std::mem::replace(self, Self::new(config));
            (self.waiting, self.edge, self.counts, self.untold) = (old.waiting, old.edge, old.counts, old.untold);
            self.exposes = old.exposes;
        }
    }

    /// Whether the signal of the line exposes the picture as well. Each picture then belongs to the last signal before it, and those
    /// before that have lost theirs; where pictures come by themselves, one that is late serves whoever waits longest.
    pub fn set_exposes(&mut self, exposes: bool) {
        self.exposes = exposes;
    }

    /// Those that wait are told that nobody will come.
    pub fn close(&mut self) {
        self.waiting.clear();
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> Option<&TriggerConfig> {
        self.config.as_ref()
    }

    /// Whether a source that is asked for each picture should be asked for one now.
    #[must_use]
    pub fn wants(&self) -> bool {
        !self.waiting.is_empty() || self.config.as_ref().is_none_or(|config| !config.on.asks())
    }

    /// Triggers since the last time that this was asked.
    pub fn take_untold(&mut self) -> u32 {
        // Those that have expired meanwhile need no picture any more.
        std::mem::take(&mut self.untold).min(self.waiting.len() as u32)
    }

    /// How long a trigger waits for its picture, where it does not say so itself.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let ms = self.config.as_ref().map_or(1000.0, |config| config.deadline_ms.get());
        Duration::from_secs_f64(ms / 1000.0)
    }

    /// A trigger.
    ///
    /// # Errors
    /// It is not taken, and why; one that is [`Refused::Full`] is missed.
    pub fn fire(&mut self, fired: Fired) -> Result<(), (Fired, Refused)> {
        if fired.by == By::Line {
            let debounce = self.config.as_ref().map_or(0.0, |config| config.debounce_ms.get());
            let before = self.edge.replace(fired.at);
            let debounce = Duration::from_secs_f64(debounce / 1000.0);
            if before.is_some_and(|before| fired.at.saturating_duration_since(before) < debounce) {
                self.counts.bounced += 1;
                return Err((fired, Refused::Bounced));
            }
        }
        self.counts.fired += 1;
        if self.waiting.len() >= WAITING {
            return Err((fired, Refused::Full));
        }
        self.waiting.push_back(fired);
        self.untold += 1;
        Ok(())
    }

    /// Parts that were there before this picture and will have none: it is another one's. Asked before [`Gate::pass`].
    pub fn overtaken(&mut self, at: Instant) -> Vec<Fired> {
        let is_before = |one: &Fired| one.is_part() && one.at <= at;
        let count = self.waiting.iter().filter(|one| is_before(one)).count();
        let mut lost = if self.exposes { count.saturating_sub(1) } else { 0 };
        let (overtaken, waiting) = self.waiting.drain(..).partition(|one| {
            let is_lost = lost > 0 && is_before(one);
            lost -= usize::from(is_lost);
            is_lost
        });
        self.waiting = waiting;
        Vec::from(overtaken)
    }

    /// A picture that was captured at `at`, where it could be read: whether it is inspected, and for which triggers.
    pub fn pass(&mut self, at: Instant, image: Option<&Image>) -> Option<Vec<Fired>> {
        let mut fired = Vec::new();
        let mut served = false;
        let mut left = VecDeque::with_capacity(self.waiting.len());
        for one in self.waiting.drain(..) {
            let shares = one.by == By::Command || !served;
            if one.at <= at && shares {
                served |= one.by != By::Command;
                fired.push(one);
            } else {
                left.push_back(one);
            }
        }
        self.waiting = left;
        let passes = match self.config.as_ref().map(|config| &config.on) {
            None => true,
            Some(TriggerOn::Every(n)) => {
                let is_due = self.since == 0;
                self.since = (self.since + 1) % n.get();
                is_due
            }
            Some(TriggerOn::Motion(_)) => match (&mut self.motion, image) {
                (Some(motion), Some(image)) => motion.is_there(image),
                // What cannot be read cannot be called empty.
                _ => true,
            },
            Some(TriggerOn::Command | TriggerOn::IntervalS(_) | TriggerOn::Line(_)) => false,
        };
        if passes || !fired.is_empty() {
            return Some(fired);
        }
        self.counts.passed_over += 1;
        None
    }

    /// Triggers whose deadline has passed.
    pub fn expired(&mut self, now: Instant) -> Vec<Fired> {
        let (late, waiting) = self.waiting.drain(..).partition(|one: &Fired| one.deadline <= now);
        self.waiting = waiting;
        Vec::from(late)
    }

    /// When the next deadline passes.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|one| one.deadline).min()
    }

    /// A part went uninspected.
    pub fn missed(&mut self) {
        self.counts.missed += 1;
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> TriggerCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::SystemTime;

    fn gate(text: &str) -> Gate {
        Gate::new(Some(&toml::from_str(text).unwrap()))
    }

    fn fired(by: By, at: Instant, deadline_ms: u64) -> Fired {
        let deadline = at + Duration::from_millis(deadline_ms);
        Fired { by, at, at_wall: SystemTime::now(), deadline, waiter: None }
    }

    #[test]
    fn a_part_gets_the_first_picture_after_it_and_no_other() {
        let (mut gate, begun) = (gate("on = { line = { chip = \"c\", offset = 1 } }"), Instant::now());
        let at = |ms: u64| begun + Duration::from_millis(ms);
        assert!(gate.pass(at(0), None).is_none(), "nothing has asked for it");
        gate.fire(fired(By::Line, at(10), 100)).unwrap();
        gate.fire(fired(By::Line, at(12), 100)).unwrap();
        assert!(gate.pass(at(9), None).is_none(), "it was captured before the part was there");
        assert_eq!(gate.pass(at(20), None).map(|fired| fired.len()), Some(1));
        assert_eq!(gate.pass(at(40), None).map(|fired| fired.len()), Some(1));
        assert!(gate.pass(at(60), None).is_none());
        gate.fire(fired(By::Line, at(70), 100)).unwrap();
        assert!(gate.expired(at(169)).is_empty());
        assert_eq!((gate.next_deadline(), gate.expired(at(170)).len()), (Some(at(170)), 1));
        assert_eq!(gate.counts().passed_over, 3);
    }

    #[test]
    fn where_the_line_exposes_a_lost_picture_is_missed_and_shifts_no_other() {
        let (mut gate, begun) = (gate("on = { line = { chip = \"c\", offset = 1 } }"), Instant::now());
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let serve = |gate: &mut Gate, lines: &[u64], picture: u64| {
            lines.iter().for_each(|ms| gate.fire(fired(By::Line, at(*ms), 1000)).unwrap());
            let lost: Vec<Instant> = gate.overtaken(at(picture)).iter().map(|one| one.at).collect();
            (lost, gate.pass(at(picture), None).map(|fired| fired.iter().map(|one| one.at).collect::<Vec<_>>()))
        };
        // Pictures that come by themselves serve who waits longest.
        assert_eq!(serve(&mut gate, &[10, 20], 25), (vec![], Some(vec![at(10)])));
        assert_eq!(serve(&mut gate, &[], 30), (vec![], Some(vec![at(20)])));
        gate.set_exposes(true);
        assert_eq!(serve(&mut gate, &[100], 101), (vec![], Some(vec![at(100)])));
        assert_eq!(
            serve(&mut gate, &[200, 300], 301),
            (vec![at(200)], Some(vec![at(300)])),
            "the picture of 200 was lost"
        );
        // The line has been seen once more before the picture arrives, which is no reason to give it that one.
        assert_eq!(serve(&mut gate, &[400, 500], 401), (vec![], Some(vec![at(400)])));
        assert_eq!(serve(&mut gate, &[], 501), (vec![], Some(vec![at(500)])));
    }

    #[test]
    fn commands_share_a_picture_and_come_to_any_camera() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        gate.fire(fired(By::Command, now, 100)).unwrap();
        gate.fire(fired(By::Command, now, 100)).unwrap();
        assert_eq!(gate.pass(now, None).map(|fired| fired.len()), Some(2));
        assert_eq!(gate.pass(now, None).map(|fired| fired.len()), Some(0), "all others are inspected as well");
    }

    #[test]
    fn every_third_picture() {
        let (mut gate, now) = (gate("on = { every = 3 }"), Instant::now());
        let passes: Vec<bool> = (0..7).map(|_| gate.pass(now, None).is_some()).collect();
        assert_eq!(passes, [true, false, false, true, false, false, true]);
    }

    #[test]
    fn a_bouncing_line_is_one_part() {
        let mut gate = gate("on = { line = { chip = \"c\", offset = 1 } }\ndebounce_ms = 20.0");
        let begun = Instant::now();
        let times = [0, 3, 9, 15, 60, 75, 90, 200];
        let taken: Vec<bool> = times
            .iter()
            .map(|ms| gate.fire(fired(By::Line, begun + Duration::from_millis(*ms), 1000)).is_ok())
            .collect();
        // A bounce lengthens the wait: what flutters is one part until it has been still for 20 ms.
        assert_eq!(taken, [true, false, false, false, true, false, false, true]);
        assert_eq!((gate.counts().fired, gate.counts().bounced), (3, 5));
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let (mut gate, now) = (gate("on = { line = { chip = \"c\", offset = 1 } }"), Instant::now());
        let refused = (0..WAITING + 5).filter(|_| gate.fire(fired(By::Line, now, 1000)).is_err()).count();
        assert_eq!(refused, 5);
    }

    proptest! {
        /// Whatever comes when: every part that was taken is served once, expires, or still waits.
        #[test]
        fn no_part_gets_lost(steps in prop::collection::vec((0_u8..3, 1_u64..40), 1..300)) {
            let mut gate = gate("on = { line = { chip = \"c\", offset = 1 } }\ndeadline_ms = 50.0");
            let (mut now, mut fires, mut served, mut late, mut full) = (Instant::now(), 0, 0, 0, 0);
            for (step, ms) in steps {
                now += Duration::from_millis(ms);
                match step {
                    0 => {
                        fires += 1;
                        full += usize::from(gate.fire(fired(By::Line, now, 50)).is_err());
                    }
                    1 => served += gate.pass(now, None).map_or(0, |fired| fired.len()),
                    _ => late += gate.expired(now).len(),
                }
            }
            prop_assert_eq!(fires, served + late + full + gate.waiting.len());
        }
    }
}
