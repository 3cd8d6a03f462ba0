//! One defect, one alarm: follows findings from frame to frame.
//!
//! A finding continues that track of its kind and class which is nearest to where it was expected, going by its motion so far,
//! and looks most like it. A track becomes an alarm after it was seen in `raise_after` of the last `raise_within` frames and
//! ends after `clear_after` frames without a sighting; at the same place there is no new alarm for `dead_time_s`. When more
//! than `max_active` would be alarms at once, that is a flood: from then on tracks are counted and raise nothing, until no more
//! than `max_active` are left. Pure: no clock, no I/O; frames without a verdict do not count.

use std::collections::VecDeque;

use crate::config::AlarmConfig;
use crate::mqtt::payload::Finding;

/// Tracks in mind; of a crowd that is larger than this the rest is counted alone.
const TRACKS: usize = 1024;
/// What was cleared lately, remembered for the dead time.
const GHOSTS: usize = 256;
/// A look that differs as much as two looks can (4) weighs as much as this many times the reach.
const APPEARANCE: f32 = 4.0;

/// What the tracker says about a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A track has become an alarm.
    Raised(u64, Finding),
    /// An alarm's score has risen by a step.
    Updated(u64, Finding),
    /// An alarm's finding is gone.
    Cleared(u64, Finding),
    /// Too many at once: this many findings raise nothing and are counted.
    Flood(u64),
    /// The flood has doubled since it was said last: this many.
    Rising(u64),
    /// No more than may be active are left.
    Ebb,
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

/// What was cleared, and until when nothing is raised there.
#[derive(Debug, Clone)]
struct Ghost {
    finding: Finding,
    until: f64,
}

/// Follows the findings of one camera.
#[derive(Debug)]
pub struct Tracker {
    raise_after: u32,
    raise_within: u32,
    clear_after: u64,
    update_step: f32,
    max_active: usize,
    dead_time: f64,
    tracks: Vec<Track>,
    ghosts: VecDeque<Ghost>,
    next_id: u64,
    suppressed: u64,
    flood: Option<Flood>,
}

/// Too many at once.
#[derive(Debug, Clone, Copy, Default)]
struct Flood {
    /// Tracks that were counted.
    tracks: u64,
    /// Findings beyond those that are followed, at most in one frame.
    crowd: u64,
    /// How many it were when it was said last.
    said: u64,
    /// Frames for which it lasts at least, where it was taken up from an earlier run.
    lasts: u64,
}

impl Tracker {
    /// Another hysteresis from now on; what is followed goes on.
    pub fn configure(&mut self, config: &AlarmConfig) {
        let Self { raise_after, raise_within, clear_after, update_step, max_active, dead_time, .. } = Self::new(config);
        (self.raise_after, self.raise_within, self.clear_after) = (raise_after, raise_within, clear_after);
        (self.update_step, self.max_active, self.dead_time) = (update_step, max_active, dead_time);
    }

    /// With the configured hysteresis.
    #[must_use]
    pub fn new(config: &AlarmConfig) -> Self {
        Self {
            raise_after: config.raise_after.get() as u32,
            raise_within: config.raise_within.get() as u32,
            clear_after: config.clear_after.get(),
            update_step: config.update_step.get() as f32,
            max_active: config.max_active.get() as usize,
            dead_time: config.dead_time_s.get(),
            tracks: Vec::new(),
            ghosts: VecDeque::new(),
            next_id: 0,
            suppressed: 0,
            flood: None,
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

    /// Takes up a flood of an earlier run in which this many were counted. Those that are still there are counted anew.
    pub fn restore_flood(&mut self, count: u64) {
        self.flood = Some(Flood { said: count, lasts: self.clear_after, ..Flood::default() });
    }

    /// Findings that were counted in a flood instead of raised.
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

    /// Takes the findings of the next frame, of this size, captured at this time in seconds.
    pub fn step(&mut self, findings: &[Finding], frame: (u32, u32), at: f64) -> Vec<Change> {
        let mut crowd = 0;
        for track in &mut self.tracks {
            track.history <<= 1;
            track.unseen += 1;
        }
        for (finding, track) in self.assign(findings, frame) {
            match track {
                Some(at) => self.tracks[at].sighted(finding),
                None if self.tracks.len() < TRACKS => {
                    self.start(finding.clone(), 1);
                }
                None => crowd += 1,
            }
        }
        self.changes(crowd, frame, at)
    }

    /// Each finding with the track it continues, nearest pairs first.
    fn assign<'f>(&self, findings: &'f [Finding], frame: (u32, u32)) -> Vec<(&'f Finding, Option<usize>)> {
        let reach = reach(frame);
        let mut pairs = Vec::new();
        for (f, finding) in findings.iter().enumerate() {
            for (t, track) in self.tracks.iter().enumerate() {
                let same = track.finding.kind == finding.kind && track.finding.class == finding.class;
                if let (true, Some(distance)) = (same, track.distance(finding.bbox, reach)) {
                    let looks = track.finding.appearance.as_ref().zip(finding.appearance.as_ref());
                    let unlike = looks.map_or(0.0, |(a, b)| a.distance(b.values()));
                    pairs.push((distance / reach + APPEARANCE / 4.0 * unlike, f, t));
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

    fn changes(&mut self, crowd: u64, frame: (u32, u32), at: f64) -> Vec<Change> {
        let mut changes = Vec::new();
        // A clock that was set back must not make the dead time longer.
        let dead_time = self.dead_time;
        self.ghosts.retain(|ghost| at < ghost.until && ghost.until <= at + dead_time);
        let within = u64::MAX >> (64 - self.raise_within);
        let (raise_after, clear_after) = (self.raise_after, self.clear_after);
        let due = |track: &Track| track.reported.is_none() && (track.history & within).count_ones() >= raise_after;
        let live = |track: &Track| track.unseen < clear_after;
        let (ghosts, reach) = (&self.ghosts, reach(frame));
        let is_free = |track: &Track| !ghosts.iter().any(|ghost| track.is_where(&ghost.finding, reach));
        let known = |track: &Track| track.reported.is_some() || track.suppressed;
        let alarms = self.tracks.iter().filter(|t| live(t) && (known(t) || (due(t) && is_free(t)))).count();
        let new = self.tracks.iter().any(|t| !known(t) && due(t) && is_free(t));
        // Those of an earlier run may be more than are allowed now; only what is new makes a flood.
        let too_many = crowd > 0 || (alarms > self.max_active && (new || self.flood.is_some()));
        let mut counted = 0;
        for track in &mut self.tracks {
            match track.reported {
                None if due(track) && too_many => {
                    counted += u64::from(!track.suppressed);
                    track.suppressed = true;
                }
                None if due(track) && is_free(track) => {
                    track.reported = Some(track.finding.score);
                    changes.push(Change::Raised(track.id, track.finding.clone()));
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
        self.flood = self.next_flood(too_many, counted, crowd, &mut changes);
        if self.dead_time > 0.0 {
            for track in self.tracks.iter().filter(|t| t.reported.is_some() && t.unseen >= self.clear_after) {
                if self.ghosts.len() == GHOSTS {
                    self.ghosts.pop_front();
                }
                self.ghosts.push_back(Ghost { finding: track.finding.clone(), until: at + self.dead_time });
            }
        }
        // What was seen once and never again is no use, however long an alarm would last.
        self.tracks
            .retain(|t| t.unseen < clear_after && (t.reported.is_some() || t.suppressed || t.history & within != 0));
        changes
    }

    fn next_flood(&mut self, too_many: bool, counted: u64, crowd: u64, changes: &mut Vec<Change>) -> Option<Flood> {
        let before = self.flood;
        let mut flood = before.unwrap_or_default();
        self.suppressed += counted + crowd.saturating_sub(flood.crowd);
        flood.tracks += counted;
        flood.crowd = flood.crowd.max(crowd);
        let total = flood.tracks + flood.crowd;
        if too_many {
            flood.lasts = 0;
            if before.is_none() {
                changes.push(Change::Flood(total));
                flood.said = total;
            } else if total >= 2 * flood.said.max(1) {
                changes.push(Change::Rising(total));
                flood.said = total;
            }
            return Some(flood);
        }
        flood.lasts = flood.lasts.saturating_sub(1);
        let over = before.is_some() && flood.lasts == 0;
        if over {
            changes.push(Change::Ebb);
        }
        before.filter(|_| !over).map(|_| flood)
    }
}

/// How far a finding may be from where its track was expected, in pixels.
fn reach(frame: (u32, u32)) -> f32 {
    0.1 * (frame.0 as f32).hypot(frame.1 as f32)
}

impl Track {
    /// Whether it is of the kind and class, and at the place, of something that was cleared.
    fn is_where(&self, gone: &Finding, reach: f32) -> bool {
        let ((x0, y0), (x1, y1)) = (centre(gone.bbox), centre(self.finding.bbox));
        (gone.kind, &gone.class) == (self.finding.kind, &self.finding.class) && (x1 - x0).hypot(y1 - y0) <= reach
    }

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
mod tests;
