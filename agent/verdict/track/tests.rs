use super::*;
use crate::config::{
    Severity,
    value::{Count, DeadTime, Frames},
};
use crate::mqtt::payload::AlarmKind;
use crate::taught::Look;

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
        appearance: None,
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
            .filter(|c| matches!((k, c), (0, Change::Raised(..)) | (1, Change::Updated(..)) | (2, Change::Cleared(..))))
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
        all.extend(tracker.step(if seen { &list } else { &[] }, FRAME, f64::from(n) / 10.0));
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
        all.extend(tracker.step(&list, FRAME, 0.0));
    }
    assert_eq!(count(&all), [50, 0, 50]);
}

#[test]
fn hysteresis_ignores_a_single_sighting() {
    let mut tracker = tracker(2, 3, 2);
    assert_eq!(tracker.step(&[finding(0.0, 0.0, 0.9)], FRAME, 0.0), []);
    assert_eq!(count(&[tracker.step(&[], FRAME, 0.0), tracker.step(&[], FRAME, 0.0)].concat()), [0, 0, 0]);
    assert_eq!(
        count(
            &[tracker.step(&[finding(0.0, 0.0, 0.9)], FRAME, 0.0), tracker.step(&[finding(1.0, 0.0, 0.9)], FRAME, 0.0)]
                .concat()
        ),
        [1, 0, 0]
    );
}

#[test]
fn worse_is_an_update_and_gone_is_cleared() {
    let mut tracker = tracker(1, 1, 2);
    assert_eq!(count(&tracker.step(&[finding(0.0, 0.0, 0.5)], FRAME, 0.0)), [1, 0, 0]);
    assert_eq!(count(&tracker.step(&[finding(0.0, 0.0, 0.55)], FRAME, 0.0)), [0, 0, 0]);
    assert_eq!(count(&tracker.step(&[finding(0.0, 0.0, 0.7)], FRAME, 0.0)), [0, 1, 0]);
    assert_eq!(count(&tracker.step(&[], FRAME, 0.0)), [0, 0, 0]);
    assert_eq!(count(&tracker.step(&[], FRAME, 0.0)), [0, 0, 1]);
}

#[test]
fn a_flood_is_one_change_and_ends() {
    let mut tracker = tracker(1, 1, 3);
    let crowd: Vec<_> = (0..500).map(|n| finding((n % 25) as f32 * 200.0, (n / 25) as f32 * 200.0, 0.9)).collect();
    let mut all = tracker.step(&crowd[..5], FRAME, 0.0);
    for _ in 0..20 {
        all.extend(tracker.step(&crowd, FRAME, 0.0));
    }
    assert_eq!((count(&all), &all[5..], tracker.suppressed()), ([5, 0, 0], &[Change::Flood(495)][..], 495));
    // Of those that stay no more than may be active are left: now each is an alarm of its own.
    let ebb: Vec<_> = (0..3).flat_map(|_| tracker.step(&crowd[..20], FRAME, 0.0)).collect();
    assert_eq!((count(&ebb), ebb.last()), ([15, 0, 0], Some(&Change::Ebb)));
    assert_eq!(count(&tracker.step(&crowd[..20], FRAME, 0.0)), [0, 0, 0]);
}

#[test]
fn a_flood_that_grows_is_said_when_it_has_doubled() {
    let mut tracker = tracker(1, 1, 1000);
    let crowd: Vec<_> = (0..3000).map(|n| finding((n % 60) as f32 * 200.0, (n / 60) as f32 * 200.0, 0.9)).collect();
    let all: Vec<_> = (1..=100).flat_map(|n| tracker.step(&crowd[..30 * n], FRAME, 0.0)).collect();
    assert!(matches!(all[0], Change::Flood(30)) && all.len() < 12, "{all:?}");
    assert!(tracker.tracks.len() <= TRACKS);
}

#[test]
fn in_the_dead_time_nothing_is_raised_at_the_same_place() {
    let mut tracker = Tracker::new(&AlarmConfig {
        raise_after: Frames::of(1),
        clear_after: Count::of(2),
        dead_time_s: DeadTime::of(5.0),
        ..AlarmConfig::default()
    });
    let mut raised = Vec::new();
    // It flickers: there for one second, gone for one second, ten frames a second.
    for n in 0..200 {
        let seen = n % 20 < 10;
        let here = [finding(100.0, 100.0, 0.9)];
        let at = f64::from(n) / 10.0;
        let changes = tracker.step(if seen { &here } else { &[] }, FRAME, at);
        raised.extend(changes.iter().filter(|c| matches!(c, Change::Raised(..))).map(|_| at));
    }
    assert!(raised.len() <= 4 && raised.windows(2).all(|w| w[1] - w[0] >= 5.0), "{raised:?}");
    let elsewhere = tracker.step(&[finding(400.0, 300.0, 0.9)], FRAME, 20.0);
    assert_eq!(count(&elsewhere), [1, 0, 0], "another place has its own time");
}

#[test]
fn two_that_cross_are_told_apart_by_what_they_look_like() {
    let look = |k: usize| Look::new(&[0, 1].map(|n| f32::from(u8::from(n == k))));
    let mut tracker = tracker(1, 1, 3);
    // They come from both sides, stop for a while where they meet, and go back.
    let place = |n: i32| if n < 10 { 10.0 * n as f32 } else { 10.0 * (20 - n) as f32 };
    for n in 0..=20 {
        let mut left = finding(100.0 + place(n), 100.0, 0.9);
        let mut right = finding(305.0 - place(n), 100.0, 0.9);
        (left.appearance, right.appearance) = (look(0), look(1));
        tracker.step(&[right, left], FRAME, 0.0);
    }
    let of = |id: u64| tracker.tracks.iter().find(|t| t.id == id).unwrap().finding.appearance.clone();
    assert_eq!((of(1), of(2)), (look(1), look(0)));
}

#[test]
fn two_defects_side_by_side_stay_two() {
    let mut tracker = tracker(1, 1, 3);
    let mut all = Vec::new();
    for n in 0..10 {
        let x = n as f32 * 10.0;
        all.extend(tracker.step(&[finding(x, 100.0, 0.9), finding(x + 45.0, 100.0, 0.9)], FRAME, 0.0));
    }
    assert_eq!(count(&all), [2, 0, 0]);
}
