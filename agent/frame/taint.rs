//! Which pictures of a compressed stream cannot be trusted.
//!
//! Most codecs build a picture upon those before it. When one is damaged, later ones decode without any error and show its
//! damage all the same, up to the next key picture. A stream without key pictures (it refreshes its pictures strip by
//! strip) is trusted again after [`REFRESHED`].

use std::time::{Duration, Instant};

/// By then a stream that refreshes strip by strip has renewed every part of the picture.
pub const REFRESHED: Duration = Duration::from_secs(10);

const DAMAGED: &str = "the picture was damaged on its way and could not be decoded whole";
const BUILT_UPON: &str = "a picture before it was damaged or lost, and no key picture has come since";

/// What is known of a stream's pictures.
#[derive(Debug)]
pub struct Taint {
    /// Each picture stands for itself (MJPEG, raw).
    independent: bool,
    /// The transport may lose packets without a word.
    lossy: bool,
    since: Option<Instant>,
    last: Option<i64>,
    /// The least number of ticks between two pictures.
    usual: Option<i64>,
}

impl Taint {
    /// A stream of which nothing has come.
    #[must_use]
    pub fn new(independent: bool, lossy: bool) -> Self {
        Self { independent, lossy, since: None, last: None, usual: None }
    }

    /// Something could not be decoded at all; gives the words for it.
    pub fn damaged(&mut self, now: Instant) -> &'static str {
        self.since = Some(now);
        DAMAGED
    }

    /// What is wrong with a picture, if anything. `ticks` is its time stamp.
    pub fn judge(&mut self, whole: bool, key: bool, ticks: Option<i64>, now: Instant) -> Option<&'static str> {
        let gap = self.gap(ticks);
        if !whole {
            return Some(self.damaged(now));
        }
        if key || self.independent {
            self.since = None;
            return None;
        }
        if gap {
            self.since = Some(now);
        }
        if self.since.is_some_and(|since| now.saturating_duration_since(since) > REFRESHED) {
            self.since = None;
        }
        self.since.map(|_| BUILT_UPON)
    }

    /// Whether a picture is missing before this one.
    fn gap(&mut self, ticks: Option<i64>) -> bool {
        let step = ticks.zip(self.last).map(|(now, before)| now.saturating_sub(before)).filter(|step| *step > 0);
        self.last = ticks.or(self.last);
        let Some(step) = step else { return false };
        let usual = *self.usual.insert(self.usual.map_or(step, |usual| usual.min(step)));
        self.lossy && step > usual.saturating_mul(7) / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_lasts_up_to_the_next_key_picture() {
        let (mut taint, now) = (Taint::new(false, false), Instant::now());
        let mut judge = |whole, key| taint.judge(whole, key, None, now).is_none();
        assert_eq!([judge(true, true), judge(true, false)], [true, true]);
        assert_eq!([judge(false, false), judge(true, false), judge(true, false)], [false; 3]);
        assert_eq!([judge(true, true), judge(true, false)], [true, true]);
        taint.damaged(now);
        assert!(taint.judge(true, false, None, now + REFRESHED / 2).is_some());
        assert!(taint.judge(true, false, None, now + REFRESHED * 2).is_none());
    }

    #[test]
    fn pictures_that_stand_for_themselves() {
        let (mut taint, now) = (Taint::new(true, true), Instant::now());
        assert!(taint.judge(false, true, Some(0), now).is_some());
        assert!(taint.judge(true, false, Some(9_000_000), now).is_none());
    }

    #[test]
    fn a_lost_picture_is_seen_by_its_gap_where_packets_can_be_lost() {
        for (lossy, wrong) in [(true, 2), (false, 0)] {
            let (mut taint, now) = (Taint::new(false, lossy), Instant::now());
            let stamps = [0, 3600, 7200, 14_400, 18_000, 21_600];
            let found =
                stamps.map(|ticks| taint.judge(true, ticks == 0 || ticks == 21_600, Some(ticks), now).is_some());
            assert_eq!(found.iter().filter(|wrong| **wrong).count(), wrong, "{found:?}");
        }
    }
}
