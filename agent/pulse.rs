//! Whether each stage of the daemon still makes progress, and how the service manager is told.
//!
//! Guarantee: a stage that has stood still for too long ([`STILL`] in the agent) stops the pings of systemd's watchdog, which then starts the service anew. A
//! ping says that every stage has gone round its loop a moment ago, also where there was nothing to do: a camera or a broker that is
//! away, a disk that is full, is waited for, and is no stuck stage.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::{error, info};

use crate::stop::Stop;

/// A stage that has not gone round for so long is stuck; a frame takes far less on any gateway that can inspect.
pub const STILL: Duration = Duration::from_secs(10);
/// How often is looked, and pinged.
const EVERY: Duration = Duration::from_secs(2);
/// How often a stage that waits says so.
const STEP: Duration = Duration::from_secs(1);

/// One stage, or one of its threads.
#[derive(Debug)]
pub struct Pulse {
    name: String,
    began: Instant,
    /// Milliseconds since it began.
    last: AtomicU64,
}

impl Pulse {
    /// It has gone round.
    pub fn beat(&self) {
        self.last.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long ago that was.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Says so once a second for as long as this is waited for beside something else; never ends.
    pub async fn keep(&self) -> Infallible {
        loop {
            self.beat();
            tokio::time::sleep(STEP).await;
        }
    }

    /// Waits as [`Stop::wait`] does, and is no less alive.
    #[must_use]
    pub fn wait(&self, stop: &Stop, duration: Duration) -> bool {
        let until = Instant::now() + duration;
        loop {
            self.beat();
            let left = until.saturating_duration_since(Instant::now());
            if stop.wait(left.min(STEP)) {
                return true;
            }
            if left <= STEP {
                return false;
            }
        }
    }
}

/// All of them. A stage that has ended leaves by itself.
#[derive(Debug, Default)]
pub struct Pulses(Mutex<Vec<Weak<Pulse>>>);

impl Pulses {
    /// A stage begins.
    #[must_use]
    pub fn begin(&self, name: impl Into<String>) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse { name: name.into(), began: Instant::now(), last: AtomicU64::new(0) });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|pulse| pulse.strong_count() > 0);
        all.push(Arc::downgrade(&pulse));
        pulse
    }

    /// By stage, for how long it has stood still; of several threads the one that has stood longest.
    #[must_use]
    pub fn ages(&self) -> BTreeMap<String, Duration> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ages = BTreeMap::new();
        for pulse in all.iter().filter_map(Weak::upgrade) {
            let age: &mut Duration = ages.entry(pulse.name.clone()).or_default();
            *age = pulse.age().max(*age);
        }
        ages
    }

    /// The stage that has stood still longest, where that is longer than this.
    #[must_use]
    pub fn stuck(&self, limit: Duration) -> Option<(String, Duration)> {
        self.ages().into_iter().filter(|(_, age)| *age > limit).max_by_key(|(_, age)| *age)
    }
}

/// Says that the service is ready, and then that it lives, for as long as no stage has stood `still` for so long, and until `stop`. Without
/// a service manager it says nothing.
pub fn watch(pulses: &Pulses, still: Duration, status: impl Fn() -> String, stop: &Stop) {
    tell(&[NotifyState::Ready, NotifyState::Status(&status())]);
    let mut was_stuck = false;
    loop {
        match pulses.stuck(still) {
            None => {
                tell(&[NotifyState::Watchdog, NotifyState::Status(&status())]);
                if was_stuck {
                    info!("all stages go on");
                }
                was_stuck = false;
            }
            Some((stage, age)) => {
                let text = format!("{stage} has stood still for {:.0} s", age.as_secs_f64());
                if !was_stuck {
                    error!("{text}; without a sign of life the service manager starts inspectd anew");
                }
                tell(&[NotifyState::Status(&text)]);
                was_stuck = true;
            }
        }
        if stop.wait(EVERY) {
            tell(&[NotifyState::Stopping]);
            return;
        }
    }
}

fn tell(states: &[NotifyState]) {
    let _ = sd_notify::notify(states); // nobody may listen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_still_is_stuck_and_who_has_ended_is_not() {
        let pulses = Pulses::default();
        let (one, other) = (pulses.begin("one"), pulses.begin("other"));
        assert_eq!(pulses.stuck(Duration::from_secs(1)), None);
        let until = Instant::now() + Duration::from_millis(30);
        while Instant::now() < until {
            other.beat();
        }
        let stuck = pulses.stuck(Duration::from_millis(20)).unwrap();
        assert_eq!(stuck.0, "one");
        drop(one);
        other.beat();
        assert_eq!(pulses.stuck(Duration::from_millis(20)), None);
    }

    #[test]
    fn who_waits_is_alive_and_ends_at_once() {
        let (pulses, stop) = (Pulses::default(), Stop::default());
        let pulse = pulses.begin("waits");
        assert!(!pulse.wait(&stop, Duration::from_millis(5)));
        assert!(pulse.age() < Duration::from_secs(1));
        stop.set();
        assert!(pulse.wait(&stop, Duration::from_secs(3600)));
    }
}
