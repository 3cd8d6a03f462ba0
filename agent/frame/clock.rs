//! When a picture was taken: by the source's own clock where it has one, by its arrival where it has none.
//!
//! Guarantees for one camera, whatever its clock, the network and the wall clock do:
//! - capture times strictly increase, by [`STEP`] at least: the monotonic ones always, those of the wall clock but for one
//!   exception that is reported (see below);
//! - none is later than the picture's arrival (by more than that microsecond), none earlier by more than [`WINDOW`];
//! - a source's clock that runs 100 ppm too fast or slow costs about 1 ms; one that wraps, restarts, repeats itself or
//!   jumps is taken anew, with the picture at hand as old as its arrival.
//!
//! How: a network only ever adds delay. The smallest difference between arrival and the source's clock in the last
//! [`WINDOW`] is the best estimate of the offset of the two clocks (the minimum filter of NTP and PTP); what a picture's
//! own difference is above it, is its delay. A constant delay is in the nature of the thing not seen.
//!
//! Steps of the wall clock: forward ones are taken over at once. After a step back by up to [`HELD`] a camera's times go
//! on at half speed until the wall clock has caught up with them, so that they stay in order and are at most as wrong as the
//! step. A larger step back is taken over at once, and said: a clock that was hours ahead must not stay so for hours.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

/// How long the smallest delay is remembered, and the largest delay that is believed.
pub const WINDOW: Duration = Duration::from_secs(10);
/// The largest step back of the wall clock that is hidden.
pub const HELD: Duration = Duration::from_secs(5);
/// Between two pictures.
pub const STEP: Duration = Duration::from_micros(1);
/// The minimum is kept for each of these spans, so that the memory does not grow with the rate.
const BUCKET: Duration = Duration::from_secs(1);

/// The clock of one opening of a source.
#[derive(Debug, Default)]
pub struct SourceClock {
    /// First arrival and the source's time then, from which both count.
    origin: Option<(Instant, Duration)>,
    last: Duration,
    /// Start of each span and the smallest offset in it: nanoseconds that arrival is ahead of the source's clock.
    minima: VecDeque<(Instant, i128)>,
}

impl SourceClock {
    /// The instant of capture of a picture that came at `arrival`. The order is the [`Timeline`]'s concern.
    pub fn capture(&mut self, clock: Option<Duration>, arrival: Instant) -> Instant {
        let Some(clock) = clock else { return arrival };
        let (start, zero) = match self.origin {
            // Not before and not again: a clock that repeats itself says nothing about this picture.
            Some(origin) if clock > self.last => origin,
            _ => self.anchor(clock, arrival),
        };
        self.last = clock;
        let own = nanos(arrival.saturating_duration_since(start)) - (nanos(clock) - nanos(zero));
        let delay = own - self.smallest(own, arrival);
        let delay = u64::try_from(delay).map_or(Duration::MAX, Duration::from_nanos);
        if delay > WINDOW {
            self.anchor(clock, arrival);
            self.minima.push_back((arrival, 0));
            return arrival;
        }
        arrival.checked_sub(delay).unwrap_or(arrival)
    }

    fn anchor(&mut self, clock: Duration, arrival: Instant) -> (Instant, Duration) {
        self.minima.clear();
        *self.origin.insert((arrival, clock))
    }

    /// The smallest offset of the window, `own` included.
    fn smallest(&mut self, own: i128, now: Instant) -> i128 {
        while self.minima.front().is_some_and(|(start, _)| now.saturating_duration_since(*start) > WINDOW) {
            self.minima.pop_front();
        }
        match self.minima.back_mut() {
            Some((start, least)) if now.saturating_duration_since(*start) < BUCKET => *least = own.min(*least),
            _ => self.minima.push_back((now, own)),
        }
        self.minima.iter().map(|(_, least)| *least).min().unwrap_or(own)
    }
}

fn nanos(span: Duration) -> i128 {
    span.as_nanos() as i128
}

/// The order of a camera's pictures, over all its openings.
#[derive(Debug, Default)]
pub struct Timeline {
    last: Option<(Instant, SystemTime)>,
}

/// When a picture was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// By the monotonic clock.
    pub captured: Instant,
    /// By the wall clock.
    pub captured_at: SystemTime,
    /// The wall clock went back so far that the order was given up.
    pub stepped_back: Option<Duration>,
}

impl Timeline {
    /// Puts a picture behind the one before it. `arrival` and `wall` are the same moment by two clocks.
    pub fn stamp(&mut self, captured: Instant, arrival: Instant, wall: SystemTime) -> Stamp {
        let before = |captured: Instant| wall.checked_sub(arrival.saturating_duration_since(captured)).unwrap_or(wall);
        let stamp = match self.last {
            None => Stamp { captured, captured_at: before(captured), stepped_back: None },
            Some((last, last_at)) => {
                let captured = captured.max(last + STEP);
                let real = before(captured);
                let back = last_at.duration_since(real).ok().filter(|back| *back > HELD);
                let held = (last_at + (captured - last) / 2).min(real + HELD).max(last_at + STEP);
                Stamp { captured, captured_at: if back.is_some() { real } else { real.max(held) }, stepped_back: back }
            }
        };
        self.last = Some((stamp.captured, stamp.captured_at));
        stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn ns(n: u64) -> Duration {
        Duration::from_nanos(n)
    }

    /// A camera of 20 pictures a second whose clock runs `ppm` too fast, over a network that adds 2 ms and up to `jitter` ms.
    fn errors(ppm: i64, jitter: u64, seconds: u64) -> Vec<i64> {
        let (mut clock, base) = (SourceClock::default(), Instant::now());
        (0..seconds * 20)
            .map(|n| {
                let taken = n * 50 * MS;
                let delay = 2 * MS + n.wrapping_mul(2_654_435_761) % 1000 * jitter * MS / 1000;
                let device = ns((taken as i64 + taken as i64 / 1_000_000 * ppm) as u64 + 7_000 * MS);
                let found = clock.capture(Some(device), base + ns(taken + delay));
                (found - base).as_nanos() as i64 - taken as i64
            })
            .collect()
    }

    #[test]
    fn jitter_is_taken_out_and_drift_followed() {
        for ppm in [-100, 0, 100] {
            let errors = errors(ppm, 40, 600);
            // After the first window only the constant 2 ms, the least jitter of a window and 1 ms of drift remain.
            let worst = errors[200..].iter().map(|e| (e - 2 * MS as i64).abs()).max().unwrap();
            println!("{ppm} ppm, 40 ms of jitter: at most {:.2} ms wrong", worst as f64 / 1e6);
            assert!(worst < 2 * MS as i64, "{worst}");
        }
    }

    #[test]
    fn a_clock_that_restarts_repeats_or_jumps_is_taken_anew() {
        let (mut clock, base) = (SourceClock::default(), Instant::now());
        let at = |ms| base + Duration::from_millis(ms);
        let mut capture = |device, ms| clock.capture(device, at(ms));
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(capture(ms(90_000), 0), at(0));
        assert_eq!(capture(ms(90_050), 80), at(50), "30 ms late");
        assert_eq!(capture(ms(0), 110), at(110), "restarted at 0");
        assert_eq!(capture(ms(50), 190), at(160), "and late again");
        assert_eq!(capture(ms(50), 230), at(230), "repeated");
        assert_eq!(capture(None, 260), at(260), "missing");
        assert_eq!(capture(ms(3_600_000), 300), at(300), "an hour ahead");
        assert_eq!(capture(ms(3_600_050), 390), at(350), "and its delay is known again");
        assert_eq!(capture(ms(3_600_051), 11_000), at(11_000), "a delay over the window is no delay");
    }

    #[test]
    fn steps_of_the_wall_clock() {
        let (mut line, base, epoch) = (Timeline::default(), Instant::now(), SystemTime::UNIX_EPOCH);
        let s = Duration::from_secs_f64;
        let mut stamp = |t: f64, wall: f64| {
            let stamp = line.stamp(base + s(t), base + s(t), epoch + s(wall));
            (stamp.captured_at.duration_since(epoch).unwrap().as_secs_f64(), stamp.stepped_back.is_some())
        };
        assert_eq!(stamp(0.0, 1000.0), (1000.0, false));
        assert_eq!(stamp(1.0, 1061.0), (1061.0, false), "a minute forward");
        assert_eq!(stamp(2.0, 1058.0), (1061.5, false), "4 s back: held, at half speed");
        assert_eq!(stamp(9.0, 1065.0), (1065.0, false), "caught up");
        assert_eq!(stamp(10.0, 66.0), (66.0, true), "1000 s back: taken over, and said");
        assert_eq!(stamp(11.0, 67.0), (67.0, false));
    }

    proptest! {
        #[test]
        fn in_order_and_never_in_the_future(
            pictures in proptest::collection::vec(
                // Between arrivals, what the source's clock does meanwhile, and steps of the wall clock, in ms.
                (1_u64..400, prop_oneof![
                    6 => (0_i64..800).prop_map(Some),
                    1 => Just(None),
                    1 => (-90_000_i64..90_000).prop_map(Some),
                ], prop_oneof![8 => Just(0_i64), 1 => -4000_i64..4000, 1 => -100_000_i64..100_000], prop::bool::weighted(0.02)),
                1..200,
            ),
        ) {
            let (mut line, mut clock) = (Timeline::default(), SourceClock::default());
            let (mut arrival, mut device) = (Instant::now(), 100_000_i64);
            let mut wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            let mut last: Option<Stamp> = None;
            for (gap, tick, step, reopened) in pictures {
                arrival += Duration::from_millis(gap);
                wall += Duration::from_millis(gap);
                wall = if step < 0 { wall - Duration::from_millis(step.unsigned_abs()) } else { wall + Duration::from_millis(step as u64) };
                if reopened {
                    clock = SourceClock::default();
                }
                device = (device + tick.unwrap_or(0)).max(0);
                let captured = clock.capture(tick.map(|_| Duration::from_millis(device as u64)), arrival);
                let stamp = line.stamp(captured, arrival, wall);
                prop_assert!(stamp.captured <= arrival);
                prop_assert!(arrival - stamp.captured <= WINDOW);
                prop_assert!(stamp.captured_at <= wall + HELD + STEP);
                if let Some(last) = last {
                    prop_assert!(stamp.captured > last.captured);
                    prop_assert!(stamp.captured_at > last.captured_at || stamp.stepped_back.is_some_and(|back| back > HELD));
                }
                prop_assert!(clock.minima.len() <= 12);
                last = Some(stamp);
            }
        }
    }
}
