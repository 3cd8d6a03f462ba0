use std::time::{Instant, SystemTime};

use super::*;
use crate::config::Severity;
use crate::frame::{Captured, PixelFormat};
use crate::mqtt::payload::AlarmKind;
use crate::outbox::{Lane, Quota};

pub const QUOTA: Quota = Quota { messages: 1000, image_bytes: 1 << 24, event_bytes: 1 << 24 };

pub fn identity() -> Identity {
    let model = ModelRef { name: "m".into(), version: "1.0.0".into(), sha256: "0".repeat(64) };
    Identity { site: "s".into(), gateway: "g".into(), model }
}

pub fn verdict(seq: u64, findings: &[[f32; 4]]) -> Verdict {
    let image = Image {
        width: 64,
        height: 48,
        format: PixelFormat::Mono8,
        pixels: vec![90; 64 * 48],
        origin: None,
        truth: None,
    };
    let frame = Frame { seq, captured_at: SystemTime::now(), captured: Instant::now(), image, fired: Vec::new() };
    let finding = |bbox: &[f32; 4]| Finding {
        kind: AlarmKind::Anomaly,
        class: "unknown".into(),
        severity: Severity::Major,
        score: 0.8,
        bbox: *bbox,
        look: None,
        appearance: None,
    };
    Verdict {
        captured: Captured::Frame(frame),
        findings: findings.iter().map(finding).collect(),
        no_verdict: None,
        anomaly: None,
        probability: None,
        heat: None,
        scene: None,
        latency: 0.0,
        times: crate::inspector::Times::default(),
        model: identity().model.into(),
        health: None,
    }
}

pub fn open(outbox: &Outbox, cameras: &[&str]) -> AlarmBook {
    let cameras: Vec<_> = cameras.iter().map(|&c| c.into()).collect();
    AlarmBook::open(identity(), &AlarmConfig::default(), &cameras, outbox).unwrap()
}

pub fn step(book: &mut AlarmBook, outbox: &Outbox, seq: u64, findings: &[[f32; 4]]) {
    let entry = book.decide("cam", &verdict(seq, findings), Timestamp::now());
    book.record(&entry, outbox).unwrap();
}

pub fn events(outbox: &Outbox) -> Vec<AlarmEvent> {
    let queued = outbox.peek(Lane::Backlog, 0, 100).unwrap().into_iter();
    queued
        .filter(|q| q.message.kind == Kind::Event)
        .map(|q| serde_json::from_slice(&q.message.payload).unwrap())
        .collect()
}

#[test]
fn an_alarm_is_snapshot_then_event_then_state_and_clears_its_retained_message() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    let mut book = open(&outbox, &["cam"]);
    step(&mut book, &outbox, 0, &[[10.0, 10.0, 20.0, 20.0]]);
    let queued = outbox.peek(Lane::Backlog, 0, 10).unwrap();
    assert_eq!(queued.iter().map(|q| q.message.kind).collect::<Vec<_>>(), [Kind::Image, Kind::Event, Kind::Alarm]);
    let event = &events(&outbox)[0];
    assert_eq!(queued[0].message.topic, format!("inspect/v1/s/g/images/{}", event.body.image.as_ref().unwrap()));
    assert_eq!(queued[2].message.topic, format!("inspect/v1/s/g/alarms/{}", event.body.alarm));
    assert!(queued[2].message.retain && book.active() == 1);
    for seq in 1..4 {
        step(&mut book, &outbox, seq, &[]);
    }
    let last = outbox.peek(Lane::Backlog, 0, 10).unwrap().pop().unwrap().message;
    assert!(last.payload.is_empty() && last.retain && last.topic == queued[2].message.topic);
    let events = events(&outbox);
    assert_eq!(
        events.iter().map(|e| (e.seq, e.transition)).collect::<Vec<_>>(),
        [(1, Transition::Raised), (2, Transition::Cleared)]
    );
    assert_eq!(events[1].body.state, AlarmState::ReturnedToNormalUnacknowledged);
    assert_eq!(book.active(), 0);
}

#[test]
fn a_restart_goes_on_with_the_same_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    step(&mut open(&outbox, &["cam"]), &outbox, 0, &[[10.0, 10.0, 20.0, 20.0]]);
    let mut book = open(&outbox, &["cam"]);
    step(&mut book, &outbox, 0, &[[10.0, 10.0, 20.0, 20.0]]);
    assert_eq!((events(&outbox).len(), book.active()), (1, 1), "no second alarm for the same defect");
    for seq in 1..4 {
        step(&mut book, &outbox, seq, &[]);
    }
    let events = events(&outbox);
    assert_eq!((events.len(), events[0].body.alarm), (2, events[1].body.alarm));
}

#[test]
fn alarms_of_a_camera_that_is_gone_are_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    step(&mut open(&outbox, &["cam"]), &outbox, 0, &[[10.0, 10.0, 20.0, 20.0]]);
    let book = open(&outbox, &["other"]);
    assert_eq!(book.active(), 0);
    assert_eq!(events(&outbox)[1].transition, Transition::Cleared);
    assert_eq!(book.returned().count(), 1, "it can still be acknowledged");
}

#[test]
fn a_frame_without_verdict_neither_raises_nor_clears() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    let mut book = open(&outbox, &["cam"]);
    step(&mut book, &outbox, 0, &[[10.0, 10.0, 20.0, 20.0]]);
    for seq in 1..10 {
        let blind = Verdict { no_verdict: Some("cut off".into()), ..verdict(seq, &[]) };
        assert!(book.decide("cam", &blind, Timestamp::now()).is_empty());
    }
    assert_eq!(book.active(), 1);
}

#[test]
fn a_frame_too_wide_for_a_snapshot_is_an_alarm_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    let mut book = open(&outbox, &["cam"]);
    let mut wide = verdict(0, &[[10.0, 0.0, 20.0, 1.0]]);
    if let Captured::Frame(frame) = &mut wide.captured {
        (frame.image.width, frame.image.height, frame.image.pixels) = (70_000, 1, vec![0; 70_000]);
    }
    let entry = book.decide("cam", &wide, Timestamp::now());
    book.record(&entry, &outbox).unwrap();
    let events = events(&outbox);
    assert_eq!((events.len(), events[0].body.image.as_ref()), (1, None));
}
