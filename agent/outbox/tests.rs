use super::*;

const QUOTA: Quota = Quota { messages: 1000, image_bytes: 1 << 20, event_bytes: 1 << 20 };

fn message(kind: Kind, payload: &[u8]) -> Message {
    Message { kind, topic: "t".into(), payload: payload.to_vec(), retain: false }
}

fn push(outbox: &Outbox, kind: Kind, payload: &[u8]) -> u64 {
    outbox
        .transaction(|t| {
            let seq = t.next_seq()?;
            t.push(&message(kind, payload))?;
            Ok(seq)
        })
        .unwrap()
}

fn assert_adds_up(outbox: &Outbox) -> Counts {
    let c = outbox.counts().unwrap();
    assert_eq!(c.appended, c.delivered + c.dropped + c.dead + c.queued, "{c:?}");
    c
}

#[test]
fn in_order_until_acknowledged_and_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    {
        let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
        outbox.went_online();
        for n in 0..5_u8 {
            assert_eq!(push(&outbox, Kind::Event, &[n]), u64::from(n) + 1);
        }
        let queued = outbox.peek(0, 3).unwrap();
        assert_eq!(queued.iter().map(|q| q.message.payload[0]).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(queued.iter().all(|q| !q.offline));
        outbox.delivered(&[queued[0].id, queued[1].id, queued[1].id, 999]).unwrap();
        assert_eq!(outbox.peek(queued[2].id, 10).unwrap().len(), 2);
    }
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    let queued = outbox.peek(0, 10).unwrap();
    assert_eq!(queued.iter().map(|q| q.message.payload[0]).collect::<Vec<_>>(), [2, 3, 4]);
    assert!(queued.iter().all(|q| q.offline), "they waited without a broker");
    assert_eq!(push(&outbox, Kind::Event, &[5]), 6, "sequence numbers go on");
    assert_eq!(assert_adds_up(&outbox), Counts { appended: 6, delivered: 2, dropped: 0, dead: 0, queued: 4 });
}

#[test]
fn what_waits_when_the_broker_goes_is_marked() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    outbox.went_online();
    push(&outbox, Kind::Event, b"a");
    outbox.went_offline().unwrap();
    outbox.went_online();
    push(&outbox, Kind::Event, b"b");
    assert_eq!(outbox.peek(0, 9).unwrap().iter().map(|q| q.offline).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn one_process_at_a_time_and_a_look_from_outside() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Outbox::waiting(dir.path()).unwrap(), 0);
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    outbox.went_online();
    push(&outbox, Kind::Event, b"a");
    let second = format!("{:#}", Outbox::open(dir.path(), QUOTA).err().unwrap());
    assert!(second.contains("another inspectd"), "{second}");
    assert_eq!(Outbox::waiting(dir.path()).unwrap(), 1);
    assert!(!outbox.peek(0, 1).unwrap()[0].offline, "a look changes nothing");
}

#[test]
fn a_full_queue_keeps_what_takes_an_alarm_off_the_broker() {
    let dir = tempfile::tempdir().unwrap();
    let quota = Quota { messages: 5, image_bytes: 1, event_bytes: 1 << 20 };
    let outbox = Outbox::open(dir.path(), quota).unwrap();
    push(&outbox, Kind::Alarm, b"");
    for _ in 0..20 {
        push(&outbox, Kind::Event, b"e");
    }
    let left = outbox.peek(0, 9).unwrap();
    assert_eq!((left.len(), left[0].message.kind), (5, Kind::Alarm));
    assert_adds_up(&outbox);
}

#[test]
fn a_failed_transaction_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    push(&outbox, Kind::Event, b"a");
    let failed: Result<()> = outbox.transaction(|t| {
        t.next_seq()?;
        t.push(&message(Kind::Event, b"b"))?;
        t.save_alarm("x", "{}")?;
        anyhow::bail!("no")
    });
    assert!(failed.is_err());
    assert_eq!(push(&outbox, Kind::Event, b"c"), 2, "no gap");
    assert!(outbox.alarms().unwrap().is_empty());
    assert_eq!(assert_adds_up(&outbox).queued, 2);
}

#[test]
fn a_full_queue_gives_up_pictures_before_events() {
    let dir = tempfile::tempdir().unwrap();
    let quota = Quota { messages: 10, image_bytes: 3000, event_bytes: 1000 };
    let outbox = Outbox::open(dir.path(), quota).unwrap();
    for _ in 0..5 {
        push(&outbox, Kind::Image, &[0; 1000]);
        push(&outbox, Kind::Event, &[0; 10]);
    }
    let kinds = |outbox: &Outbox, kind| outbox.peek(0, 100).unwrap().iter().filter(|q| q.message.kind == kind).count();
    assert_eq!((kinds(&outbox, Kind::Image), kinds(&outbox, Kind::Event)), (3, 5));
    for _ in 0..6 {
        push(&outbox, Kind::Event, &[0; 10]);
    }
    assert_eq!((kinds(&outbox, Kind::Image), kinds(&outbox, Kind::Event)), (0, 10));
    push(&outbox, Kind::Event, &[0; 950]);
    assert_eq!(kinds(&outbox, Kind::Event), 6, "950 and five of 10 bytes");
    let counts = assert_adds_up(&outbox);
    assert_eq!((counts.appended, counts.queued, counts.dropped), (17, 6, 11));
}

#[test]
fn what_the_broker_never_takes_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    push(&outbox, Kind::Event, b"huge");
    push(&outbox, Kind::Event, b"good");
    outbox.set_aside(outbox.peek(0, 1).unwrap()[0].id, "too large").unwrap();
    assert_eq!(outbox.peek(0, 9).unwrap()[0].message.payload, b"good");
    assert_eq!(assert_adds_up(&outbox).dead, 1);
}

#[test]
fn alarms_are_kept_until_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    outbox.transaction(|t| t.save_alarm("a", "1").and_then(|()| t.save_alarm("b", "2"))).unwrap();
    outbox.transaction(|t| t.save_alarm("a", "3").and_then(|()| t.forget_alarm("b"))).unwrap();
    drop(outbox);
    assert_eq!(Outbox::open(dir.path(), QUOTA).unwrap().alarms().unwrap(), ["3"]);
}

#[test]
fn a_damaged_file_is_set_aside_and_work_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    push(&Outbox::open(dir.path(), QUOTA).unwrap(), Kind::Event, b"a");
    std::fs::write(dir.path().join("outbox.sqlite"), b"this is no database, it is a sentence of some length").unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    push(&outbox, Kind::Event, b"b");
    let aside = std::fs::read_dir(dir.path()).unwrap().flatten();
    assert!(aside.into_iter().any(|f| f.file_name().to_string_lossy().contains("damaged")));
}
