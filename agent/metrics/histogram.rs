//! How long something took, counted by how long: a fixed number of buckets, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in seconds; one without a bound comes after them.
pub const BOUNDS: [f64; 21] = [
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16, 0.25, 0.5, 1.0,
    2.5, 5.0, 10.0,
];

/// Counts by bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    /// It took so long once more.
    pub fn add(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            buckets: std::array::from_fn(|n| self.counts[n].load(Ordering::Relaxed)),
            seconds: self.micros.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

/// What was counted up to a moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// By bucket, not added up.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// All of it.
    pub seconds: f64,
}

impl Counts {
    /// What came since an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            buckets: std::array::from_fn(|n| self.buckets[n].saturating_sub(earlier.buckets[n])),
            seconds: self.seconds - earlier.seconds,
        }
    }

    /// How many.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Seconds that this share took at most, as if times lay evenly within a bucket; nothing where there were none. Beyond the last bound
    /// it is that bound.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let (total, mut before) = (self.total(), 0.0);
        if total == 0 {
            return None;
        }
        let wanted = share * total as f64;
        for (n, count) in self.buckets.iter().enumerate() {
            let count = *count as f64;
            if count > 0.0 && before + count >= wanted {
                let low = if n == 0 { 0.0 } else { BOUNDS[n - 1] };
                let high = BOUNDS.get(n).copied().unwrap_or(low);
                return Some(low + (high - low) * ((wanted - before) / count).clamp(0.0, 1.0));
            }
            before += count;
        }
        BOUNDS.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_long_is_told_from_what_did_not() {
        let histogram = Histogram::default();
        assert_eq!(histogram.counts().quantile(0.5), None);
        for _ in 0..98 {
            histogram.add(Duration::from_micros(1500));
        }
        let before = histogram.counts();
        histogram.add(Duration::from_millis(200));
        histogram.add(Duration::from_secs(60));
        let counts = histogram.counts();
        assert_eq!(counts.total(), 100);
        assert!((0.001..=0.002).contains(&counts.quantile(0.5).unwrap()), "{counts:?}");
        assert!((0.16..=0.25).contains(&counts.quantile(0.99).unwrap()), "{counts:?}");
        assert_eq!(counts.quantile(1.0), Some(10.0), "beyond the last bound");
        assert!((counts.seconds - (0.147 + 60.2)).abs() < 1e-6);
        let late = counts.since(&before);
        assert_eq!((late.total(), late.quantile(0.01).unwrap() > 0.15), (2, true));
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        histogram.add(Duration::from_micros(500));
        assert_eq!(histogram.counts().buckets[0], 1);
    }
}
