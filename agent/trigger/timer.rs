//! The clock of all cameras' triggers: fires what is due by time, and tells what nobody has answered in time. One thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::{By, Fired};
use crate::config::TriggerOn;
use crate::pipeline::Pipeline;
use crate::stop::Stop;

/// How long it sleeps at most, for `stop` and for cameras that come.
const SLICE: Duration = Duration::from_millis(100);

/// Wakes the clock before its time.
#[derive(Debug, Default)]
pub struct Timer {
    is_rung: Mutex<bool>,
    rung: Condvar,
}

impl Timer {
    /// There is a new deadline.
    pub fn ring(&self) {
        *self.is_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.rung.notify_one();
    }

    fn wait(&self, duration: Duration) {
        let guard = self.is_rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.rung.wait_timeout_while(guard, duration, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }

    /// Runs on this thread until `stop`.
    pub fn run(&self, pipeline: &Pipeline, stop: &Stop) {
        let mut due: BTreeMap<Arc<str>, (Duration, Instant)> = BTreeMap::new();
        while !stop.is_set() {
            let now = Instant::now();
            let mut next = now + SLICE;
            let lanes = pipeline.lanes();
            due.retain(|name, _| lanes.iter().any(|lane| lane.name() == name));
            for lane in lanes.iter() {
                lane.feed.expire(now);
                let settings = lane.settings();
                match settings.camera.trigger.as_ref().map(|trigger| &trigger.on) {
                    Some(TriggerOn::IntervalS(seconds)) => {
                        let interval = Duration::from_secs_f64(seconds.get());
                        let (of, at) = due.entry(Arc::clone(lane.name())).or_insert((interval, now));
                        if *of != interval {
                            (*of, *at) = (interval, now);
                        }
                        if *at <= now {
                            let (at_wall, deadline) = (SystemTime::now(), now + interval);
                            lane.feed.fire(Fired { by: By::Interval, at: now, at_wall, deadline, waiter: None });
                            // From the plan, so that the rate is kept; not from further back than now.
                            *at = (*at + interval).max(now);
                        }
                        next = next.min(*at);
                    }
                    _ => drop(due.remove(lane.name())),
                }
                if let Some(deadline) = lane.feed.next_deadline() {
                    next = next.min(deadline);
                }
            }
            self.wait(next.saturating_duration_since(Instant::now()));
        }
    }
}
