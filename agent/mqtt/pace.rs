//! How many messages of the backlog may be on their way, so that what is new gets through at once. Pure.
//!
//! By delay, as Vegas (Brakmo and Peterson 1995) and LEDBAT (RFC 6817) do for TCP: while acknowledgements take no longer than
//! [`SLOW`] times the shortest that was seen lately, the share grows; beyond it, it shrinks by a tenth. Now and then it begins at one
//! again, so that the shortest is measured without a queue (as BBR does: Cardwell et al. 2016). A broker that is near and busy
//! then has few in its queue, and a long line to one that is far is filled all the same.

use std::time::Duration;

/// Acknowledgements that take this much longer than the shortest come out of a queue.
const SLOW: u32 = 2;
/// Growth for each acknowledgement that was quick.
const GROWTH: f64 = 0.25;
/// After so many acknowledgements the share begins at one again; the shortest is that of the last two such spans.
const SPAN: u32 = 512;

/// Fewer would leave a broker idle that is slow only at times, as while it saves.
const LEAST: f64 = 4.0;

/// Of one connection.
#[derive(Debug)]
pub struct Pace {
    share: f64,
    most: f64,
    /// The shortest of this span and of the last one.
    shortest: [Duration; 2],
    seen: u32,
}

impl Pace {
    /// At most so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { share: 1.0, most: most.max(1) as f64, shortest: [Duration::MAX; 2], seen: 0 }
    }

    /// So many now: at least [`LEAST`], but while the shortest is measured.
    #[must_use]
    pub fn share(&self) -> usize {
        self.share as usize
    }

    /// A message was acknowledged after so long.
    pub fn acknowledged(&mut self, after: Duration) {
        self.seen += 1;
        if self.seen.is_multiple_of(SPAN) {
            (self.shortest, self.share) = ([after, self.shortest[0]], 1.0);
            return;
        }
        self.shortest[0] = self.shortest[0].min(after);
        let quick = after <= self.shortest[0].min(self.shortest[1]).saturating_mul(SLOW);
        let share = if quick { self.share + GROWTH } else { 0.9 * self.share };
        self.share = share.clamp(LEAST.min(self.most), self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker that takes `service` for each message, one after the other, over a line of this delay: the mean share.
    fn mean(pace: &mut Pace, line: Duration, service: Duration) -> f64 {
        let mut sum = 0;
        for _ in 0..10_000 {
            sum += pace.share();
            pace.acknowledged(line + service * pace.share() as u32);
        }
        sum as f64 / 10_000.0
    }

    #[test]
    fn a_near_broker_has_few_and_a_far_one_nearly_all() {
        let service = Duration::from_micros(300);
        let near = mean(&mut Pace::new(24), Duration::ZERO, service);
        assert!(near < 6.0, "{near}");
        let far = mean(&mut Pace::new(24), Duration::from_millis(50), service);
        assert!(far > 20.0, "{far}");
    }

    #[test]
    fn a_way_that_becomes_longer_is_learned() {
        let mut pace = Pace::new(24);
        mean(&mut pace, Duration::from_millis(1), Duration::ZERO);
        (0..20).for_each(|_| pace.acknowledged(Duration::from_millis(20)));
        assert!(pace.share() < 5);
        let after = mean(&mut pace, Duration::from_millis(20), Duration::ZERO);
        assert!(after > 18.0, "{after}");
    }
}
