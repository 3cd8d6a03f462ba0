//! Exponential back-off with jitter, for cameras and the broker alike.
//!
//! The n-th delay is drawn evenly from half to all of `min(first * 2^n, most)`, so that a hundred gateways that lost
//! the same broker do not come back in the same second. It never gives up.

use std::time::Duration;

use rand::RngExt;

/// Delays between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempts: u32,
}

impl Backoff {
    /// Delays from `first` up to `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, attempts: 0 }
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.first.saturating_mul(1 << self.attempts.min(16)).min(self.most);
        self.attempts = self.attempts.saturating_add(1);
        ceiling.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Attempts since the last success.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// From now on the longest delay.
    pub fn exhaust(&mut self) {
        self.attempts = u32::MAX;
    }

    /// Called after a success that lasted.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

impl Default for Backoff {
    /// 1 s to 60 s.
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_ceiling_and_starts_again() {
        let mut backoff = Backoff::default();
        for ceiling in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0_f64] {
            let delay = backoff.next_delay().as_secs_f64();
            assert!((ceiling / 2.0..=ceiling).contains(&delay), "{delay} against {ceiling}");
        }
        for _ in 0..1000 {
            assert!(backoff.next_delay() <= Duration::from_secs(60));
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_secs(1));
    }
}
