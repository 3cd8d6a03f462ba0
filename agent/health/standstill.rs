//! The same picture again and again.
//!
//! A live sensor has noise, and no two of its pictures are equal; what repeats one sends it bit by bit. A frozen camera is one
//! whose picture has stood for a time AND a number of frames. Some sources repeat pictures though nothing is wrong with them: an
//! encoder that leaves a still scene as it is until its next key frame, a folder in which one picture lies twice. How long this
//! camera's picture has stood before and then went on by itself is remembered, and it must stand [`LONGER`] times as long.
//! A picture without any contrast (black, or white all over) has no noise either; it is for others to judge.

use super::latch::CALM;

/// Times as long as it has stood before.
const LONGER: f64 = 2.0;
/// Grey levels between the darkest and the brightest part below which a picture could not show noise.
const PLAIN: u8 = 1;

/// What one camera's picture did.
#[derive(Debug, Clone)]
pub struct Standstill {
    after_s: f64,
    after_frames: u64,
    digest: Option<u64>,
    since: f64,
    frames: u64,
    now: f64,
    /// Longest time, and most frames, after which it went on by itself.
    harmless: (f64, u64),
}

impl Standstill {
    /// With the time and number of frames after which a picture has stood too long.
    pub fn new(after_s: f64, after_frames: u64) -> Self {
        Self { after_s, after_frames, digest: None, since: 0.0, frames: 0, now: 0.0, harmless: (0.0, 0) }
    }

    /// Takes the next picture, by its digest and the range of its grey values; whether it is another one than before.
    pub fn see(&mut self, digest: u64, range: u8, at: f64) -> bool {
        // A clock that is set back must not freeze a camera, nor one that stands.
        let at = if at.is_finite() { at } else { self.now };
        let same = self.digest == Some(digest) && at >= self.now;
        self.now = at;
        if same && range > PLAIN {
            self.frames += 1;
            return false;
        }
        if self.level() < 1.0 {
            // What lasted nearly as long as a fault may be one that was cut short.
            let limit = (self.after_s * f64::from(CALM), (self.after_frames as f64 * f64::from(CALM)) as u64);
            let stood = (self.last_span(), self.frames);
            self.harmless = (self.harmless.0.max(stood.0.min(limit.0)), self.harmless.1.max(stood.1.min(limit.1)));
        }
        (self.digest, self.since, self.frames) = (Some(digest), at, 0);
        !same
    }

    fn last_span(&self) -> f64 {
        if self.frames == 0 { 0.0 } else { self.now - self.since }
    }

    /// Seconds for which the same picture has stood.
    pub fn seconds(&self) -> f64 {
        self.last_span()
    }

    /// How long it has stood, in units of what is too long.
    pub fn level(&self) -> f32 {
        let seconds = self.after_s.max(LONGER * self.harmless.0);
        let frames = self.after_frames.max(2 * self.harmless.1).max(1);
        (self.last_span() / seconds).min(self.frames as f64 / frames as f64) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, proptest};

    #[test]
    fn both_the_time_and_the_frames_count() {
        let mut quick = Standstill::new(10.0, 10);
        (0..=99).for_each(|n| {
            quick.see(1, 99, f64::from(n) * 0.1);
        });
        assert!(quick.level() < 1.0, "99 times in 9.9 s");
        quick.see(1, 99, 10.0);
        assert!(quick.level() >= 1.0);
        let mut slow = Standstill::new(10.0, 10);
        (0..10).for_each(|n| {
            slow.see(1, 99, f64::from(n) * 60.0);
        });
        assert!(slow.level() < 1.0, "nine times in nine minutes");
        slow.see(1, 99, 600.0);
        assert!(slow.level() >= 1.0);
    }

    #[test]
    fn an_encoder_that_stands_between_key_frames_is_not_frozen() {
        let mut encoder = Standstill::new(10.0, 10);
        // A key frame every 8 s, later every 12 s.
        for n in 0..2000_u64 {
            let every = if n < 1000 { 80 } else { 120 };
            encoder.see(n / every, 99, n as f64 * 0.1);
            assert!(encoder.level() < 1.0, "{n}");
        }
        (2000..2200).for_each(|n| {
            encoder.see(7, 99, f64::from(n) * 0.1);
        });
        assert!(encoder.level() >= 1.0);
    }

    proptest! {
        #[test]
        fn pictures_that_differ_never_freeze(times in prop::collection::vec(prop::num::f64::ANY, 0..99)) {
            let mut still = Standstill::new(0.1, 1);
            for (n, at) in times.into_iter().enumerate() {
                assert!(still.see(n as u64, 99, at));
                assert!(still.level() == 0.0);
            }
        }
    }
}
