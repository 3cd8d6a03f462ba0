//! Whose picture is next, where cameras share the model. Pure.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) with the time in the network as the resource: each camera has an
//! account of the seconds that it has had. Of the cameras that have a picture, the one that has had least is served; a camera that
//! had none for a while begins again with what the others have, so that nobody saves up for a burst. A camera with a picture
//! therefore waits at most for one frame of each other camera, however many pictures those deliver, and one with a model twice
//! as slow gets half as many frames, not twice the time. Earliest deadline first, with a camera's period as its deadline, would
//! let the quickest camera win always once there is too much to do.

/// A frame's time before one was measured.
const FIRST: f64 = 0.02;
/// Weight of the newest frame in what a frame is thought to take.
const WEIGHT: f64 = 0.2;

/// Of one camera.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    /// Virtual time at which its next frame may begin, in seconds.
    finish: f64,
    /// What a frame takes, in seconds.
    cost: f64,
}

impl Default for Account {
    fn default() -> Self {
        Self { finish: 0.0, cost: FIRST }
    }
}

impl Account {
    /// Its place among those that have a picture: the smallest is next. `now` is the virtual time.
    #[must_use]
    pub fn start(&self, now: f64) -> f64 {
        self.finish.max(now)
    }

    /// A frame of it goes in; gives the virtual time from now on.
    pub fn serve(&mut self, now: f64) -> f64 {
        let start = self.start(now);
        self.finish = start + self.cost;
        start
    }

    /// A frame of it took so long.
    pub fn learn(&mut self, seconds: f64) {
        if seconds.is_finite() {
            self.cost += WEIGHT * (seconds.max(0.0) - self.cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Frames that each of these cameras gets in a while: `costs` in seconds a frame, `gaps` in frames between its pictures.
    fn served(costs: &[f64], gaps: &[usize], frames: usize) -> Vec<usize> {
        let mut accounts = vec![Account::default(); costs.len()];
        let (mut now, mut counts, mut ready) = (0.0, vec![0; costs.len()], vec![0_usize; costs.len()]);
        for step in 0..frames {
            let waiting = (0..costs.len()).filter(|&n| ready[n] <= step);
            let next = waiting.min_by(|&a, &b| accounts[a].start(now).total_cmp(&accounts[b].start(now)));
            let Some(next) = next else { continue };
            now = accounts[next].serve(now);
            accounts[next].learn(costs[next]);
            counts[next] += 1;
            ready[next] = step + gaps[next];
        }
        counts
    }

    #[test]
    fn who_always_has_a_picture_gets_no_more_than_his_share() {
        let counts = served(&[0.02; 4], &[1, 1, 1, 1], 4000);
        assert!(counts.iter().all(|n| n.abs_diff(1000) <= 2), "{counts:?}");
        // One that has a picture for every tenth frame gets all of them in.
        let counts = served(&[0.02; 3], &[1, 1, 10], 3000);
        assert!(counts[2] >= 270, "{counts:?}");
        // Twice as slow, half as many.
        let counts = served(&[0.02, 0.04], &[1, 1], 3000);
        assert!((1.9..2.1).contains(&(counts[0] as f64 / counts[1] as f64)), "{counts:?}");
    }

    proptest! {
        /// However others burst: who has a picture waits for at most two frames of each other camera.
        #[test]
        fn nobody_starves(pauses in prop::collection::vec(1_usize..60, 2..6)) {
            let mut gaps = pauses;
            gaps.push(1);
            let others = gaps.len() - 1;
            let mut accounts = vec![Account::default(); gaps.len()];
            let (mut now, mut since, mut ready) = (0.0, vec![0_usize; gaps.len()], vec![0_usize; gaps.len()]);
            for step in 0..2000 {
                let waiting: Vec<usize> = (0..gaps.len()).filter(|&n| ready[n] <= step).collect();
                let Some(&next) = waiting.iter().min_by(|&&a, &&b| accounts[a].start(now).total_cmp(&accounts[b].start(now)))
                else { continue };
                for &n in &waiting {
                    since[n] = if n == next { 0 } else { since[n] + 1 };
                    prop_assert!(since[n] <= 2 * others, "{} of {:?} waits for {}", n, gaps, since[n]);
                }
                now = accounts[next].serve(now);
                accounts[next].learn(0.02);
                ready[next] = step + gaps[next];
            }
        }
    }
}
