//! Hysteresis in levels and in frames.
//!
//! A level is what was measured in units of its threshold. A fault begins when the level was at least 1 in so many frames in
//! a row, and ends when it was under [`CALM`] in so many in a row; what lies between changes nothing.

/// Under this share of its threshold a fault is over.
pub const CALM: f32 = 0.7;

/// Whether a fault is there.
#[derive(Debug, Clone)]
pub struct Latch {
    begin: u32,
    end: u32,
    count: u32,
    on: bool,
}

impl Latch {
    /// Begins after so many frames, ends after so many.
    pub fn new(begin: u32, end: u32) -> Self {
        Self { begin, end, count: 0, on: false }
    }

    /// Whether it is there.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Takes the next frame's level; whether the fault begins or ends with it.
    pub fn step(&mut self, level: f32) -> bool {
        let against = if self.on { level < CALM } else { level >= 1.0 };
        self.count = if against { self.count + 1 } else { 0 };
        let flips = self.count >= if self.on { self.end } else { self.begin };
        if flips {
            self.on = !self.on;
            self.count = 0;
        }
        flips
    }
}

/// A level as a score: 0.5 at the threshold, towards 1 far over it.
pub fn score(level: f32) -> f32 {
    if level.is_finite() { (level / (1.0 + level)).clamp(0.0, 1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, proptest};

    #[test]
    fn one_odd_frame_is_nothing_and_what_stays_is_something() {
        let mut latch = Latch::new(3, 2);
        let steps = [9.0, 0.0, 9.0, 9.0, 9.0, 0.8, 0.8, 0.1, 0.8, 0.1, 0.1];
        let flips: Vec<usize> = (0..steps.len()).filter(|i| latch.step(steps[*i])).collect();
        assert_eq!(flips, [4, 10]);
        assert!(!latch.is_on());
    }

    proptest! {
        #[test]
        fn what_lies_between_the_levels_never_flips(levels in prop::collection::vec(CALM..0.999_f32, 0..99), on: bool) {
            let mut latch = Latch { on, ..Latch::new(1, 1) };
            assert!(!levels.into_iter().any(|level| latch.step(level)));
        }

        #[test]
        fn flips_are_no_denser_than_allowed(levels in prop::collection::vec(0.0..2.0_f32, 0..300)) {
            let mut latch = Latch::new(4, 6);
            let flips: Vec<usize> = (0..levels.len()).filter(|i| latch.step(levels[*i])).collect();
            assert!(flips.windows(2).all(|pair| pair[1] - pair[0] >= 4));
        }
    }
}
