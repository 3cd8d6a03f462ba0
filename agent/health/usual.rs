//! What is usual for one measured value: where it lies and how far it strays.
//!
//! Method: median and spread of up to [`KEPT`] values that are spread over the last [`KEPT`] x [`STRIDE`] good frames. The
//! spread is the largest of three that are a standard deviation where values are normal: the median absolute deviation (x
//! 1.4826), and the distances from the median to the 10 % and 90 % quantiles (/ 1.2816), which see what is skewed or in two
//! heaps (left out for [`Usual::central`]). It is widened by two standard errors as in [`crate::anomaly::calibrate`]. A value counts [`DELAY`] frames after it was measured, unless a fault was found meanwhile, so
//! that the beginning of a fault is not learned. From [`ANCHORED`] values on the median may move only `drift` away from what it
//! was then: a slow fault is not followed.

use std::collections::VecDeque;

/// Values before there is a usual.
pub const LEARNING: usize = 24;
/// Values that are kept.
const KEPT: usize = 256;
/// Of so many good frames one is kept, once there is a usual.
const STRIDE: u32 = 4;
/// Frames until a value counts.
const DELAY: usize = 24;
/// Values at which the median is anchored.
const ANCHORED: usize = 64;

/// See the module.
#[derive(Debug, Clone)]
pub struct Usual {
    floor: f32,
    drift: f32,
    tails: bool,
    pending: VecDeque<f32>,
    kept: VecDeque<f32>,
    skipped: u32,
    anchor: Option<f32>,
    fit: Option<Fit>,
}

/// Where values lie and how far they stray.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// Median.
    pub middle: f32,
    /// Standard deviation.
    pub spread: f32,
}

impl Usual {
    /// With the smallest spread that is believed, and how far the middle may wander.
    pub fn new(floor: f32, drift: f32) -> Self {
        Self {
            floor,
            drift,
            tails: true,
            pending: VecDeque::new(),
            kept: VecDeque::new(),
            skipped: 0,
            anchor: None,
            fit: None,
        }
    }

    /// One that does not heed the tails: for values that are judged by a median, of which now and then one is far off.
    pub fn central(floor: f32, drift: f32) -> Self {
        Self { tails: false, ..Self::new(floor, drift) }
    }

    /// What is usual, if it is known.
    pub fn fit(&self) -> Option<Fit> {
        self.fit
    }

    /// What is usual, once it rests on many values.
    pub fn sure(&self) -> Option<Fit> {
        self.fit.filter(|_| self.kept.len() >= ANCHORED)
    }

    /// Values that are missing until it is known.
    pub fn missing(&self) -> usize {
        if self.fit.is_some() { 0 } else { LEARNING.saturating_sub(self.kept.len()).max(1) }
    }

    /// Takes a value of a frame in which nothing seems wrong.
    pub fn learn(&mut self, value: f32) {
        if self.fit.is_none() {
            return self.keep(value);
        }
        self.pending.push_back(value);
        if self.pending.len() <= DELAY {
            return;
        }
        let Some(value) = self.pending.pop_front() else { return };
        self.skipped += 1;
        // At first what is known rests on few values, and every one helps.
        if self.skipped >= STRIDE || self.kept.len() < ANCHORED {
            self.skipped = 0;
            self.keep(value);
        }
    }

    /// A fault was found: what was measured last is not learned.
    pub fn spoil(&mut self) {
        self.pending.clear();
    }

    fn keep(&mut self, value: f32) {
        if !value.is_finite() {
            return;
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(value);
        if self.kept.len() >= LEARNING {
            self.refit();
        }
    }

    fn refit(&mut self) {
        let mut values: Vec<f32> = self.kept.iter().copied().collect();
        let middle = median(&mut values);
        let tails = (middle - quantile(&mut values, 0.1)).max(quantile(&mut values, 0.9) - middle) / 1.2816;
        let tails = if self.tails { tails } else { 0.0 };
        values.iter_mut().for_each(|v| *v = (*v - middle).abs());
        let widened = 1.0 + 2.4 / (values.len() as f32).sqrt();
        let spread = (1.4826 * median(&mut values)).max(tails).max(self.floor) * widened;
        if self.kept.len() >= ANCHORED {
            self.anchor.get_or_insert(middle);
        }
        let middle = self.anchor.map_or(middle, |anchor| middle.clamp(anchor - self.drift, anchor + self.drift));
        self.fit = Some(Fit { middle, spread });
    }
}

/// The middle value; the lower one of two. 0 of none.
pub fn median(values: &mut [f32]) -> f32 {
    quantile(values, 0.5)
}

/// The value that this share of the others lie below. 0 of none.
pub fn quantile(values: &mut [f32], share: f32) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let at = (share * (values.len() - 1) as f32).floor() as usize;
    *values.select_nth_unstable_by(at, f32::total_cmp).1
}

/// The last few values.
#[derive(Debug, Clone)]
pub struct Recent {
    size: usize,
    values: VecDeque<f32>,
}

impl Recent {
    /// Of so many.
    pub fn new(size: usize) -> Self {
        Self { size, values: VecDeque::with_capacity(size) }
    }

    /// Takes one; the oldest one goes.
    pub fn push(&mut self, value: f32) {
        if self.values.len() == self.size {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    /// Their median, once there are enough.
    pub fn median(&self) -> Option<f32> {
        (self.values.len() == self.size).then(|| median(&mut self.values.iter().copied().collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, proptest};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn noisy(rng: &mut StdRng) -> f32 {
        (0..12).map(|_| rng.random_range(-0.5..0.5_f32)).sum()
    }

    #[test]
    fn middle_and_spread_of_normal_values_with_some_that_are_not() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut usual = Usual::new(0.01, 1.0);
        for n in 0..2000 {
            usual.learn(if n % 20 == 0 { 50.0 } else { 3.0 + 0.2 * noisy(&mut rng) });
        }
        let fit = usual.fit().unwrap();
        assert!((fit.middle - 3.0).abs() < 0.1, "{fit:?}");
        assert!((0.18..0.35).contains(&fit.spread), "{fit:?}");
    }

    #[test]
    fn the_beginning_of_a_fault_is_not_learned_nor_is_one_that_grows_slowly_followed() {
        let mut usual = Usual::new(0.01, 0.1);
        assert_eq!(usual.missing(), LEARNING);
        (0..200).for_each(|_| usual.learn(1.0));
        (0..DELAY).for_each(|_| usual.learn(9.0));
        usual.spoil();
        (0..300).for_each(|_| usual.learn(1.0));
        assert!(!usual.kept.contains(&9.0));
        (0..20_000).for_each(|n| usual.learn(1.0 - n as f32 * 1e-4));
        assert!((usual.fit().unwrap().middle - 0.9).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn no_value_breaks_it(values in prop::collection::vec(prop::num::f32::ANY, 0..400)) {
            let mut usual = Usual::new(0.1, 1.0);
            values.into_iter().for_each(|v| usual.learn(v));
            assert!(usual.fit().is_none_or(|fit| fit.middle.is_finite() && fit.spread > 0.0));
            assert!(usual.kept.len() <= KEPT && usual.pending.len() <= DELAY);
        }

        #[test]
        fn a_quantile_has_its_share_below_it(mut values in prop::collection::vec(-9.0..9.0_f32, 1..99), share in 0.0..1.0_f32) {
            let q = quantile(&mut values, share);
            let below = values.iter().filter(|v| **v < q).count();
            assert!(below as f32 <= share * values.len() as f32);
        }
    }
}
