//! One defect, one alarm: follows findings from frame to frame.
//!
//! A finding continues the nearest track of its kind and class within reach of where that track was expected, going by
//! its motion so far. A track becomes an alarm after it was seen in `raise_after` of the last `raise_within` frames and
//! ends after `clear_after` frames without a sighting. Pure: no clock, no I/O; frames without a verdict do not count.

use crate::config::AlarmConfig;
use crate::mqtt::payload::Finding;

/// What the tracker says about a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A track has become an alarm.
    Raised(u64, Finding),
    /// An alarm's score has risen by a step.
    Updated(u64, Finding),
    /// An alarm's finding is gone.
    Cleared(u64, Finding),
}

#[derive(Debug, Clone)]
struct Track {
    id: u64,
    finding: Finding,
    /// Pixels a frame.
    motion: [f32; 2],
    /// Sightings in the latest frames, the newest in the lowest bit.
    history: u64,
    unseen: u64,
    /// The score that was last reported, once it is an alarm.
    reported: Option<f32>,
    /// It would be an alarm, but too many are; it was counted.
    suppressed: bool,
}

/// Follows the findings of one camera.
#[derive(Debug)]
pub struct Tracker {
    raise_after: u32,
    raise_within: u32,
    clear_after: u64,
    update_step: f32,
    max_active: usize,
    tracks: Vec<Track>,
    next_id: u64,
    suppressed: u64,
}

impl Tracker {
    /// With the configured hysteresis.
    #[must_use]
    pub fn new(config: &AlarmConfig) -> Self {
        Self {
            raise_after: config.raise_after.get() as u32,
            raise_within: config.raise_within.get() as u32,
            clear_after: config.clear_after.get(),
            update_step: config.update_step.get() as f32,
            max_active: config.max_active.get() as usize,
            tracks: Vec::new(),
            next_id: 0,
            suppressed: 0,
        }
    }

    /// Takes up an alarm of an earlier run; gives its track's id.
    pub fn restore(&mut self, finding: Finding) -> u64 {
        let id = self.start(finding, 1);
        if let Some(track) = self.tracks.last_mut() {
            track.reported = Some(track.finding.score);
        }
        id
    }

    /// Alarms that were not raised because `max_active` were.
    #[must_use]
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    fn start(&mut self, finding: Finding, history: u64) -> u64 {
        self.next_id += 1;
        self.tracks.push(Track {
            id: self.next_id,
            finding,
            motion: [0.0; 2],
            history,
            unseen: 0,
            reported: None,
            suppressed: false,
        });
        self.next_id
    }

    /// Takes the findings of the next frame.
    pub fn step(&mut self, findings: &[Finding], frame: (u32, u32)) -> Vec<Change> {
        for track in &mut self.tracks {
            track.history <<= 1;
            track.unseen += 1;
        }
        for (finding, track) in self.assign(findings, frame) {
            match track {
                Some(at) => self.tracks[at].sighted(finding),
                // Bounded: an ever-changing crowd of findings keeps at most this many in mind.
                None if self.tracks.len() < 4 * self.max_active + 64 => {
                    self.start(finding.clone(), 1);
                }
                None => self.suppressed += 1,
            }
        }
        self.changes()
    }

    /// Each finding with the track it continues, nearest pairs first.
    fn assign<'f>(&self, findings: &'f [Finding], frame: (u32, u32)) -> Vec<(&'f Finding, Option<usize>)> {
        let reach = 0.1 * (frame.0 as f32).hypot(frame.1 as f32);
        let mut pairs = Vec::new();
        for (f, finding) in findings.iter().enumerate() {
            for (t, track) in self.tracks.iter().enumerate() {
                let same = track.finding.kind == finding.kind && track.finding.class == finding.class;
                if let (true, Some(distance)) = (same, track.distance(finding.bbox, reach)) {
                    pairs.push((distance, f, t));
                }
            }
        }
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut of_finding = vec![None; findings.len()];
        let mut taken = vec![false; self.tracks.len()];
        for (_, f, t) in pairs {
            if of_finding[f].is_none() && !taken[t] {
                of_finding[f] = Some(t);
                taken[t] = true;
            }
        }
        findings.iter().zip(of_finding).collect()
    }

    fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut active = self.tracks.iter().filter(|t| t.reported.is_some()).count();
        let within = u64::MAX >> (64 - self.raise_within);
        for track in &mut self.tracks {
            match track.reported {
                None if (track.history & within).count_ones() >= self.raise_after => {
                    if active < self.max_active {
                        active += 1;
                        track.reported = Some(track.finding.score);
                        changes.push(Change::Raised(track.id, track.finding.clone()));
                    } else if !track.suppressed {
                        track.suppressed = true;
                        self.suppressed += 1;
                    }
                }
                Some(score) if track.unseen == 0 && track.finding.score >= score + self.update_step => {
                    track.reported = Some(track.finding.score);
                    changes.push(Change::Updated(track.id, track.finding.clone()));
                }
                Some(_) if track.unseen >= self.clear_after => {
                    changes.push(Change::Cleared(track.id, track.finding.clone()));
                }
                _ => {}
            }
        }
        let clear_after = self.clear_after;
        self.tracks.retain(|t| t.unseen < clear_after);
        changes
    }
}

impl Track {
    /// How far a box lies from where this track is expected; `None` out of reach.
    fn distance(&self, bbox: [f32; 4], reach: f32) -> Option<f32> {
        let steps = self.unseen as f32;
        let (x, y) = centre(self.finding.bbox);
        let expected = (x + self.motion[0] * steps, y + self.motion[1] * steps);
        let (bx, by) = centre(bbox);
        let distance = (bx - expected.0).hypot(by - expected.1);
        let size = |b: [f32; 4]| (b[2] - b[0]).hypot(b[3] - b[1]);
        (distance <= reach.max(size(self.finding.bbox).max(size(bbox)) / 2.0)).then_some(distance)
    }

    fn sighted(&mut self, finding: &Finding) {
        let ((x0, y0), (x1, y1)) = (centre(self.finding.bbox), centre(finding.bbox));
        let steps = self.unseen.max(1) as f32;
        let now = [(x1 - x0) / steps, (y1 - y0) / steps];
        // The first sighting tells the motion; later ones smooth it, since boxes jump at the frame's edge.
        let keep = if self.history.count_ones() <= 1 { 0.0 } else { 0.5 };
        self.motion = [0, 1].map(|k| keep * self.motion[k] + (1.0 - keep) * now[k]);
        self.finding = finding.clone();
        self.history |= 1;
        self.unseen = 0;
    }
}

fn centre(b: [f32; 4]) -> (f32, f32) {
    (f32::midpoint(b[0], b[2]), f32::midpoint(b[1], b[3]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Severity,
        value::{Count, Frames},
    };
    use crate::mqtt::payload::AlarmKind;

    const FRAME: (u32, u32) = (640, 480);

    fn finding(x: f32, y: f32, score: f32) -> Finding {
        let bbox = [x, y, x + 30.0, y + 30.0];
        Finding {
            kind: AlarmKind::Anomaly,
            class: "unknown".into(),
            severity: Severity::Major,
            score,
            bbox,
            look: None,
        }
    }

    fn tracker(after: u64, within: u64, clear: u64) -> Tracker {
        Tracker::new(&AlarmConfig {
            raise_after: Frames::of(after),
            raise_within: Frames::of(within),
            clear_after: Count::of(clear),
            ..AlarmConfig::default()
        })
    }

    fn count(changes: &[Change]) -> [usize; 3] {
        [0, 1, 2].map(|k| {
            changes
                .iter()
                .filter(|c| {
                    matches!((k, c), (0, Change::Raised(..)) | (1, Change::Updated(..)) | (2, Change::Cleared(..)))
                })
                .count()
        })
    }

    #[test]
    fn a_still_defect_is_one_alarm() {
        let mut tracker = tracker(2, 3, 3);
        let mut all = Vec::new();
        for n in 0..6000 {
            let seen = n % 7 != 3; // now and then it is missed
            let list = [finding(100.0 + (n % 3) as f32, 50.0, 0.8)];
            all.extend(tracker.step(if seen { &list } else { &[] }, FRAME));
        }
        assert_eq!(count(&all), [1, 0, 0]);
    }

    #[test]
    fn a_moving_web_gives_one_alarm_a_defect() {
        let mut tracker = tracker(1, 3, 3);
        let mut all = Vec::new();
        // A defect enters every 20 frames and is seen in 8, moving 80 px a frame.
        for n in 0..1000 {
            let age = n % 20;
            let list: Vec<_> = (age < 8).then(|| finding(age as f32 * 80.0, 200.0, 0.7)).into_iter().collect();
            all.extend(tracker.step(&list, FRAME));
        }
        assert_eq!(count(&all), [50, 0, 50]);
    }

    #[test]
    fn hysteresis_ignores_a_single_sighting() {
        let mut tracker = tracker(2, 3, 2);
        assert_eq!(tracker.step(&[finding(0.0, 0.0, 0.9)], FRAME), []);
        assert_eq!(count(&[tracker.step(&[], FRAME), tracker.step(&[], FRAME)].concat()), [0, 0, 0]);
        assert_eq!(
            count(
                &[tracker.step(&[finding(0.0, 0.0, 0.9)], FRAME), tracker.step(&[finding(1.0, 0.0, 0.9)], FRAME)]
                    .concat()
            ),
            [1, 0, 0]
        );
    }

    #[test]
    fn worse_is_an_update_and_gone_is_cleared() {
        let mut tracker = tracker(1, 1, 2);
        assert_eq!(count(&tracker.step(&[finding(0.0, 0.0, 0.5)], FRAME)), [1, 0, 0]);
        assert_eq!(count(&tracker.step(&[finding(0.0, 0.0, 0.55)], FRAME)), [0, 0, 0]);
        assert_eq!(count(&tracker.step(&[finding(0.0, 0.0, 0.7)], FRAME)), [0, 1, 0]);
        assert_eq!(count(&tracker.step(&[], FRAME)), [0, 0, 0]);
        assert_eq!(count(&tracker.step(&[], FRAME)), [0, 0, 1]);
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let mut tracker = tracker(1, 1, 3);
        let crowd: Vec<_> = (0..500).map(|n| finding((n % 25) as f32 * 200.0, (n / 25) as f32 * 200.0, 0.9)).collect();
        let changes = tracker.step(&crowd, FRAME);
        assert_eq!(count(&changes)[0], 20);
        assert_eq!(tracker.suppressed(), 480);
        assert!(tracker.tracks.len() <= 4 * 20 + 64);
    }

    #[test]
    fn two_defects_side_by_side_stay_two() {
        let mut tracker = tracker(1, 1, 3);
        let mut all = Vec::new();
        for n in 0..10 {
            let x = n as f32 * 10.0;
            all.extend(tracker.step(&[finding(x, 100.0, 0.9), finding(x + 45.0, 100.0, 0.9)], FRAME));
        }
        assert_eq!(count(&all), [2, 0, 0]);
    }
}
