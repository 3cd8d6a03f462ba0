use super::*;
use crate::mqtt::payload::AlarmEvent;
use crate::outbox::Outbox;
use crate::verdict::book::tests::{QUOTA, events, open, step, verdict};

const BOX: [f32; 4] = [10.0, 10.0, 20.0, 20.0];

/// A book with one active alarm.
struct Desk {
    outbox: Outbox,
    book: AlarmBook,
    seq: u64,
    _dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
        let book = open(&outbox, &["cam"]);
        let mut desk = Self { outbox, book, seq: 0, _dir: dir };
        desk.frame(&[BOX]);
        desk
    }

    fn frame(&mut self, findings: &[[f32; 4]]) {
        step(&mut self.book, &self.outbox, self.seq, findings);
        self.seq += 1;
    }

    fn gone(&mut self) {
        (0..3).for_each(|_| self.frame(&[]));
    }

    fn act(&mut self, action: &Action) -> Result<usize> {
        let entry = self.book.act(action, Timestamp::now())?;
        self.book.record(&entry, &self.outbox)?;
        self.book.apply(&entry);
        Ok(entry.changes().count())
    }

    fn tick(&mut self, now: Timestamp) {
        let entry = self.book.tick(now);
        self.book.record(&entry, &self.outbox).unwrap();
        self.book.apply(&entry);
    }

    fn alarm(&self) -> Uuid {
        self.book.alarms().next().unwrap().body.alarm
    }

    fn last(&self) -> AlarmEvent {
        events(&self.outbox).pop().unwrap()
    }

    fn restart(&mut self) {
        self.book = open(&self.outbox, &["cam"]);
    }
}

fn by(name: &str) -> Note {
    Note { by: Some(name.into()), comment: None }
}

fn all(why: Why, class: &str, until: Option<Timestamp>) -> Action {
    let which = Which::All { camera: "cam".into(), class: class.into() };
    Action::Quieten(vec![Quiet { why, which, until, by: None, comment: None }])
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::now() + jiff::SignedDuration::from_secs(seconds)
}

#[test]
fn an_alarm_that_is_acknowledged_returns_to_normal() {
    let mut desk = Desk::new();
    let alarm = desk.alarm();
    assert_eq!(desk.act(&Action::Acknowledge(vec![alarm], by("ann"))).unwrap(), 1);
    assert_eq!(desk.act(&Action::Acknowledge(vec![alarm], by("bob"))).unwrap(), 0, "once is enough");
    let event = desk.last();
    assert_eq!(
        (event.seq, event.transition, event.body.state),
        (2, Transition::Acknowledged, AlarmState::Acknowledged)
    );
    assert_eq!(event.body.by.as_deref(), Some("ann"));
    desk.restart();
    desk.gone();
    assert_eq!((desk.last().transition, desk.last().body.state), (Transition::Cleared, AlarmState::Normal));
    assert!(desk.outbox.alarms().unwrap().is_empty());
}

#[test]
fn one_that_is_over_can_still_be_acknowledged_after_a_restart() {
    let mut desk = Desk::new();
    let alarm = desk.alarm();
    desk.gone();
    assert_eq!(desk.last().body.state, AlarmState::ReturnedToNormalUnacknowledged);
    desk.restart();
    assert_eq!(desk.book.active(), 0);
    desk.act(&Action::Acknowledge(vec![alarm], by("ann"))).unwrap();
    assert_eq!((desk.last().transition, desk.last().body.state), (Transition::Acknowledged, AlarmState::Normal));
    assert!(desk.outbox.alarms().unwrap().is_empty());
    let error = desk.act(&Action::Acknowledge(vec![alarm], by("ann"))).unwrap_err().to_string();
    assert!(error.contains("neither active here nor waiting"), "{error}");
    // It was taken off the broker when it was cleared, and nothing puts it there again.
    let retained = desk.outbox.peek(crate::outbox::Lane::Backlog, 0, 100).unwrap();
    assert!(retained.iter().rfind(|q| q.message.retain).unwrap().message.payload.is_empty());
}

#[test]
fn an_order_is_carried_out_whole_or_not_at_all() {
    let mut desk = Desk::new();
    let alarms = vec![desk.alarm(), Uuid::now_v7()];
    assert!(desk.act(&Action::Acknowledge(alarms, by("ann"))).is_err());
    assert_eq!((events(&desk.outbox).len(), desk.book.alarms().next().unwrap().body.acknowledged), (1, false));
}

#[test]
fn the_shelf_has_an_end_also_for_alarms_to_come() {
    let mut desk = Desk::new();
    desk.act(&all(Why::Shelved, "unk*", Some(later(60)))).unwrap();
    let event = desk.last();
    assert_eq!((event.transition, event.body.state), (Transition::Shelved, AlarmState::Shelved));
    assert!(event.body.until.is_some());
    // One that is raised meanwhile is recorded, and quiet.
    desk.frame(&[BOX, [40.0, 30.0, 50.0, 40.0]]);
    assert_eq!((desk.last().transition, desk.last().body.state), (Transition::Raised, AlarmState::Shelved));
    desk.restart();
    desk.tick(later(59));
    assert_eq!(events(&desk.outbox).len(), 3);
    desk.tick(later(61));
    let events = events(&desk.outbox);
    assert_eq!(events.len(), 5, "both come off");
    let last = &events[4];
    assert_eq!((last.transition, last.body.state), (Transition::Unshelved, AlarmState::Unacknowledged));
    assert_eq!((last.body.until, desk.book.quiets()), (None, &[][..]));
}

#[test]
fn one_alarm_alone_is_shelved_and_taken_off() {
    let mut desk = Desk::new();
    desk.frame(&[BOX, [40.0, 30.0, 50.0, 40.0]]);
    let which = Which::One { alarm: desk.alarm() };
    let quiet = Quiet { why: Why::Shelved, which: which.clone(), until: Some(later(60)), by: None, comment: None };
    assert_eq!(desk.act(&Action::Quieten(vec![quiet])).unwrap(), 1);
    assert_eq!(desk.act(&Action::Release(Why::Shelved, vec![which.clone()], by("ann"))).unwrap(), 1);
    assert_eq!((desk.last().transition, desk.last().body.by.as_deref()), (Transition::Unshelved, Some("ann")));
    let error = desk.act(&Action::Release(Why::Shelved, vec![which], by("ann"))).unwrap_err().to_string();
    assert!(error.contains("is not there to be taken back"), "{error}");
}

#[test]
fn what_was_shelved_alone_leaves_the_list_with_its_alarm() {
    let mut desk = Desk::new();
    let which = Which::One { alarm: desk.alarm() };
    let quiet = Quiet { why: Why::Shelved, which, until: Some(later(600)), by: None, comment: None };
    desk.act(&Action::Quieten(vec![quiet])).unwrap();
    desk.gone();
    assert_eq!(desk.last().body.state, AlarmState::Normal, "it called nobody, so that nobody need answer it");
    desk.tick(Timestamp::now());
    assert!(desk.book.quiets().is_empty());
}

#[test]
fn maintenance_comes_before_suppression_and_that_before_the_shelf() {
    let mut desk = Desk::new();
    let mut states = Vec::new();
    for (why, until) in [(Why::Shelved, Some(later(60))), (Why::SuppressedByDesign, None), (Why::OutOfService, None)] {
        desk.act(&all(why, "*", until)).unwrap();
        states.push((desk.last().transition, desk.last().body.state));
    }
    for why in [Why::OutOfService, Why::SuppressedByDesign, Why::Shelved] {
        let which = Which::All { camera: "cam".into(), class: "*".into() };
        desk.act(&Action::Release(why, vec![which], by("ann"))).unwrap();
        states.push((desk.last().transition, desk.last().body.state));
    }
    assert_eq!(
        states,
        [
            (Transition::Shelved, AlarmState::Shelved),
            (Transition::Suppressed, AlarmState::SuppressedByDesign),
            (Transition::RemovedFromService, AlarmState::OutOfService),
            (Transition::Suppressed, AlarmState::SuppressedByDesign),
            (Transition::Shelved, AlarmState::Shelved),
            (Transition::Unshelved, AlarmState::Unacknowledged),
        ]
    );
}

#[test]
fn a_comment_is_an_event_and_the_same_again_is_none() {
    let mut desk = Desk::new();
    let note = Note { by: Some("ann".into()), comment: Some("a scratch, seen on the last coil too".into()) };
    let action = Action::Comment(vec![desk.alarm()], note);
    assert_eq!((desk.act(&action).unwrap(), desk.act(&action).unwrap()), (1, 0));
    let event = desk.last();
    assert_eq!((event.transition, event.body.state), (Transition::Commented, AlarmState::Unacknowledged));
    assert!(event.body.comment.unwrap().starts_with("a scratch"));
}

#[test]
fn a_flood_is_one_alarm_that_can_be_acknowledged_and_outlives_a_restart() {
    let mut desk = Desk::new();
    let crowd: Vec<[f32; 4]> =
        (0..500).map(|n| (n as f32 * 90.0, BOX)).map(|(x, b)| [b[0] + x, b[1], b[2] + x, b[3]]).collect();
    desk.gone();
    desk.frame(&crowd);
    assert_eq!(desk.book.active(), 1);
    let event = desk.last();
    assert_eq!(
        (event.transition, event.body.class.as_str(), event.body.count),
        (Transition::Raised, "flood", Some(500))
    );
    desk.act(&Action::Acknowledge(vec![event.body.alarm], by("ann"))).unwrap();
    desk.restart();
    desk.frame(&crowd);
    assert_eq!((events(&desk.outbox).len(), desk.book.active()), (4, 1));
    desk.gone();
    assert_eq!((desk.last().transition, desk.last().body.state), (Transition::Cleared, AlarmState::Normal));
}

#[test]
fn while_the_disk_refuses_an_order_is_refused_as_well() {
    let mut desk = Desk::new();
    desk.book.waiting = true;
    let error = desk.act(&Action::Acknowledge(vec![desk.alarm()], by("ann"))).unwrap_err().to_string();
    assert!(error.contains("nothing can be recorded at the moment"), "{error}");
    let entry = desk.book.decide("cam", &verdict(9, &[BOX]), Timestamp::now());
    assert!(entry.is_empty());
}
