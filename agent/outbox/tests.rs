use super::*;

const QUOTA: Quota = Quota { messages: 1000, image_bytes: 1 << 20, event_bytes: 1 << 20 };

fn message(kind: Kind, payload: &[u8]) -> Message {
    Message { kind, topic: "t".into(), payload: payload.to_vec(), retain: false, subject: None }
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
        outbox.went_online().unwrap();
        for n in 0..5_u8 {
            assert_eq!(push(&outbox, Kind::Event, &[n]), u64::from(n) + 1);
        }
        let queued = outbox.peek(Lane::Live, 0, 3).unwrap();
        assert_eq!(queued.iter().map(|q| q.message.payload[0]).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(queued.iter().all(|q| !q.offline));
        outbox.delivered(&[queued[0].id, queued[1].id, queued[1].id, 999]).unwrap();
        assert_eq!(outbox.peek(Lane::Live, queued[2].id, 10).unwrap().len(), 2);
    }
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    let queued = outbox.peek(Lane::Backlog, 0, 10).unwrap();
    assert_eq!(queued.iter().map(|q| q.message.payload[0]).collect::<Vec<_>>(), [2, 3, 4]);
    assert!(queued.iter().all(|q| q.offline), "they waited without a broker");
    assert_eq!(push(&outbox, Kind::Event, &[5]), 6, "sequence numbers go on");
    assert_eq!(assert_adds_up(&outbox), Counts { appended: 6, delivered: 2, dropped: 0, dead: 0, queued: 4 });
}

#[test]
fn what_waits_when_the_broker_goes_is_marked() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    outbox.went_online().unwrap();
    push(&outbox, Kind::Event, b"a");
    outbox.went_offline().unwrap();
    outbox.went_online().unwrap();
    push(&outbox, Kind::Event, b"b");
    let waits = |lane| -> Vec<(Vec<u8>, bool)> {
        outbox.peek(lane, 0, 9).unwrap().into_iter().map(|q| (q.message.payload, q.offline)).collect()
    };
    assert_eq!(waits(Lane::Backlog), [(b"a".to_vec(), true)]);
    assert_eq!(waits(Lane::Live), [(b"b".to_vec(), false)]);
}

#[test]
fn what_is_new_need_not_wait_but_transitions_of_one_alarm_stay_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    let about = |alarm: &str, payload: &[u8]| {
        let message = Message { subject: Some(alarm.into()), ..message(Kind::Event, payload) };
        outbox.transaction(|t| t.push(&message)).unwrap();
    };
    about("old", b"raised");
    outbox.went_online().unwrap();
    about("new", b"raised too");
    about("old", b"cleared");
    let waits = |lane| -> Vec<(Vec<u8>, bool)> {
        outbox.peek(lane, 0, 9).unwrap().into_iter().map(|q| (q.message.payload, q.offline)).collect()
    };
    assert_eq!(waits(Lane::Live), [(b"raised too".to_vec(), false)]);
    assert_eq!(waits(Lane::Backlog), [(b"raised".to_vec(), true), (b"cleared".to_vec(), false)]);
    // Once all of it is delivered, the alarm is live again.
    let ids: Vec<i64> = outbox.peek(Lane::Backlog, 0, 9).unwrap().iter().map(|q| q.id).collect();
    outbox.delivered(&ids).unwrap();
    about("old", b"raised again");
    assert_eq!(waits(Lane::Live).len(), 2);
    outbox.went_offline().unwrap();
    outbox.went_online().unwrap();
    assert!(waits(Lane::Live).is_empty() && waits(Lane::Backlog).iter().all(|(_, offline)| *offline));
}

#[test]
fn a_full_queue_keeps_active_alarms_longest() {
    let dir = tempfile::tempdir().unwrap();
    let quota = Quota { messages: 6, image_bytes: 1 << 20, event_bytes: 1 << 20 };
    let outbox = Outbox::open(dir.path(), quota).unwrap();
    let about = |kind, alarm: &str, payload: &[u8]| {
        let message = Message { subject: Some(alarm.into()), ..message(kind, payload) };
        outbox.transaction(|t| t.push(&message)).unwrap();
    };
    outbox
        .transaction(|t| t.save_alarm("active", "{}", true).and_then(|()| t.save_alarm("over", "{}", false)))
        .unwrap();
    about(Kind::Event, "active", b"raised");
    about(Kind::Event, "over", b"raised");
    about(Kind::Event, "over", b"cleared");
    about(Kind::Alarm, "over", b"");
    push(&outbox, Kind::Reply, b"reply");
    push(&outbox, Kind::Image, b"image");
    let left = || -> Vec<Vec<u8>> {
        outbox.peek(Lane::Backlog, 0, 9).unwrap().into_iter().map(|q| q.message.payload).collect()
    };
    let mut gone = Vec::new();
    for _ in 0..6 {
        let before = left();
        about(Kind::Event, "active", b"updated");
        let after = left();
        gone.extend(before.into_iter().filter(|payload| !after.contains(payload)));
        assert_eq!(after.len(), 6);
    }
    let wanted: [&[u8]; 5] = [b"image", b"reply", b"raised", b"cleared", b"raised"];
    // "raised" is there twice: the one that is over goes before "cleared", the active one's after it.
    let mut wanted: Vec<_> = wanted.iter().map(|w| w.to_vec()).collect();
    wanted.remove(2);
    assert_eq!(gone, wanted, "and the empty message is still there");
    assert!(left().contains(&Vec::new()));
    assert_adds_up(&outbox);
}

#[test]
fn an_alarm_that_the_broker_never_heard_of_goes_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let quota = Quota { messages: 6, image_bytes: 1 << 20, event_bytes: 1 << 20 };
    let outbox = Outbox::open(dir.path(), quota).unwrap();
    let about = |kind, alarm: &str, payload: &str| {
        let message = Message { subject: Some(alarm.into()), ..message(kind, payload.as_bytes()) };
        outbox.transaction(|t| t.push(&message)).unwrap();
    };
    let comes_and_goes = |alarm: &str| {
        about(Kind::Event, alarm, r#"{"transition":"raised"}"#);
        about(Kind::Event, alarm, r#"{"transition":"cleared"}"#);
        about(Kind::Alarm, alarm, "");
    };
    outbox.went_online().unwrap();
    comes_and_goes("perhaps"); // it may have arrived, though nothing was acknowledged
    outbox.went_offline().unwrap();
    for n in 0..10 {
        comes_and_goes(&format!("new {n}"));
    }
    let left = outbox.peek(Lane::Backlog, 0, 99).unwrap();
    let left: Vec<_> =
        left.iter().map(|q| (q.message.subject.as_deref().unwrap(), q.message.payload.is_empty())).collect();
    assert_eq!(left, [("perhaps", true), ("new 9", false), ("new 9", false), ("new 9", true)]);
    assert_adds_up(&outbox);
}

#[test]
fn a_file_of_one_lane_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let old = Connection::open(dir.path().join("outbox.sqlite")).unwrap();
    old.execute_batch(
        "CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, topic TEXT NOT NULL,
            payload BLOB NOT NULL, retain INTEGER NOT NULL, offline INTEGER NOT NULL);
         CREATE TABLE sizes (images INTEGER PRIMARY KEY, n INTEGER NOT NULL, bytes INTEGER NOT NULL);
         INSERT INTO sizes VALUES (0, 0, 0), (1, 0, 0);
         CREATE TRIGGER grow AFTER INSERT ON messages BEGIN UPDATE sizes SET n = n + 1 WHERE images = 0; END;
         CREATE TRIGGER shrink AFTER DELETE ON messages BEGIN UPDATE sizes SET n = n - 1 WHERE images = 0; END;
         CREATE TABLE alarms (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
         CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
         INSERT INTO counters VALUES ('appended', 1), ('seq', 1);
         INSERT INTO messages (kind, topic, payload, retain, offline) VALUES (0, 't', x'6f6c64', 0, 0);",
    )
    .unwrap();
    drop(old);
    for _ in 0..2 {
        let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
        let queued = outbox.peek(Lane::Backlog, 0, 9).unwrap();
        assert_eq!((queued.len(), queued[0].message.payload.as_slice(), queued[0].offline), (1, &b"old"[..], true));
        assert_adds_up(&outbox);
    }
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    outbox.delivered(&[1]).unwrap();
    assert_eq!(push(&outbox, Kind::Event, b"new"), 2);
    assert_eq!(assert_adds_up(&outbox).queued, 1);
}

#[test]
fn one_process_at_a_time_and_a_look_from_outside() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Outbox::waiting(dir.path()).unwrap(), 0);
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    outbox.went_online().unwrap();
    push(&outbox, Kind::Event, b"a");
    let second = format!("{:#}", Outbox::open(dir.path(), QUOTA).err().unwrap());
    assert!(second.contains("another inspectd"), "{second}");
    assert_eq!(Outbox::waiting(dir.path()).unwrap(), 1);
    assert!(!outbox.peek(Lane::Live, 0, 1).unwrap()[0].offline, "a look changes nothing");
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
    let left = outbox.peek(Lane::Backlog, 0, 9).unwrap();
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
        t.save_alarm("x", "{}", true)?;
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
    let quota = Quota { messages: 10, image_bytes: 3700, event_bytes: 2300 };
    let outbox = Outbox::open(dir.path(), quota).unwrap();
    for _ in 0..5 {
        push(&outbox, Kind::Image, &[0; 1000]);
        push(&outbox, Kind::Event, &[0; 10]);
    }
    let kinds = |outbox: &Outbox, kind| {
        outbox.peek(Lane::Backlog, 0, 100).unwrap().iter().filter(|q| q.message.kind == kind).count()
    };
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
    outbox.set_aside(outbox.peek(Lane::Backlog, 0, 1).unwrap()[0].id, "too large").unwrap();
    assert_eq!(outbox.peek(Lane::Backlog, 0, 9).unwrap()[0].message.payload, b"good");
    assert_eq!(assert_adds_up(&outbox).dead, 1);
}

#[test]
fn alarms_are_kept_until_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    outbox.transaction(|t| t.save_alarm("a", "1", true).and_then(|()| t.save_alarm("b", "2", true))).unwrap();
    outbox.transaction(|t| t.save_alarm("a", "3", false).and_then(|()| t.forget_alarm("b"))).unwrap();
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

/// An outbox of this many events, written and closed.
fn written(dir: &Path, events: u64, bytes: usize) {
    let outbox = Outbox::open(dir, Quota { messages: 1 << 20, image_bytes: 1 << 30, event_bytes: 1 << 30 }).unwrap();
    outbox
        .transaction(|t| {
            (0..events).try_for_each(|n| {
                let seq = t.next_seq()?;
                let text = format!("{{\"seq\":{seq},\"fill\":\"{}\"}}", "x".repeat(bytes));
                let subject = Some(n.to_string());
                t.push(&Message { subject, ..message(Kind::Event, text.as_bytes()) })
            })
        })
        .unwrap();
}

#[test]
fn what_is_whole_in_a_damaged_file_is_kept() {
    for (name, least) in [("flips", 950), ("cut off", 350), ("header", 0)] {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 1000, 300);
        let path = dir.path().join("outbox.sqlite");
        let mut bytes = std::fs::read(&path).unwrap();
        match name {
            // Bits of three pages, each of about ten events.
            "flips" => (1..4).for_each(|k| {
                let at = k * bytes.len() / 4 / 4096 * 4096;
                bytes[at..at + 12].fill(0xa5);
            }),
            "cut off" => bytes.truncate(bytes.len() / 2 / 4096 * 4096 + 100),
            _ => bytes[..100].fill(0),
        }
        std::fs::write(&path, &bytes).unwrap();
        let quota = Quota { messages: 1 << 20, image_bytes: 1 << 30, event_bytes: 1 << 30 };
        let outbox = Outbox::open(dir.path(), quota).unwrap();
        let counts = assert_adds_up(&outbox);
        println!("{name}: {counts:?}");
        assert!(counts.queued >= least, "{name}: {counts:?}");
        let kept: Vec<u64> = outbox
            .peek(Lane::Backlog, 0, 2000)
            .unwrap()
            .iter()
            .map(|q| serde_json::from_slice::<serde_json::Value>(&q.message.payload).unwrap()["seq"].as_u64().unwrap())
            .collect();
        assert!(kept.is_sorted() && kept.len() as u64 == counts.queued);
        let next = push(&outbox, Kind::Event, b"{}");
        assert!(next > kept.last().copied().unwrap_or(0), "{name}: {next} after {:?}", kept.last());
    }
}

#[test]
fn a_torn_log_costs_the_last_transaction_alone() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    for n in 0..20_u8 {
        push(&outbox, Kind::Event, &[n]);
    }
    // As a power cut would leave it, with the end of the log torn off.
    let copy = tempfile::tempdir().unwrap();
    for name in ["outbox.sqlite", "outbox.sqlite-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let log = copy.path().join("outbox.sqlite-wal");
    let length = std::fs::metadata(&log).unwrap().len();
    File::options().write(true).open(&log).unwrap().set_len(length - 10).unwrap();
    let torn = Outbox::open(copy.path(), QUOTA).unwrap();
    assert_eq!(assert_adds_up(&torn).queued, 19);
    assert_eq!(push(&torn, Kind::Event, b"again"), 20, "what was never there has no number");
}

#[test]
fn a_hundred_megabytes_are_open_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 100_000, 900);
    let size = std::fs::metadata(dir.path().join("outbox.sqlite")).unwrap().len();
    let quota = Quota { messages: 1 << 20, image_bytes: 1 << 30, event_bytes: 1 << 30 };
    let begun = std::time::Instant::now();
    let outbox = Outbox::open(dir.path(), quota).unwrap();
    println!("{} MB opened in {:.2} s", size / 1_000_000, begun.elapsed().as_secs_f64());
    assert_eq!(assert_adds_up(&outbox).queued, 100_000);
    drop(outbox);
    let mut bytes = std::fs::read(dir.path().join("outbox.sqlite")).unwrap();
    let at = bytes.len() / 2 / 4096 * 4096;
    bytes[at..at + 12].fill(0xa5);
    std::fs::write(dir.path().join("outbox.sqlite"), &bytes).unwrap();
    let begun = std::time::Instant::now();
    let outbox = Outbox::open(dir.path(), quota).unwrap();
    let counts = assert_adds_up(&outbox);
    println!("damaged: in {:.2} s, {counts:?}", begun.elapsed().as_secs_f64());
    assert!(counts.queued >= 99_900, "{counts:?}");
}

#[test]
fn a_salvage_that_was_cut_off_is_done_again_or_finished() {
    let quota = Quota { messages: 1 << 20, image_bytes: 1 << 30, event_bytes: 1 << 30 };
    let dir = tempfile::tempdir().unwrap();
    let (path, salvaged) = (dir.path().join("outbox.sqlite"), dir.path().join("outbox.salvaged.sqlite"));
    written(dir.path(), 1000, 300);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() / 2 / 4096 * 4096;
    bytes[at..at + 12].fill(0xa5);
    std::fs::write(&path, &bytes).unwrap();
    // Cut off while the new one was written: it is written again.
    std::fs::write(&salvaged, b"half of it").unwrap();
    let outbox = Outbox::open(dir.path(), quota).unwrap();
    let kept = assert_adds_up(&outbox).queued;
    assert!(kept > 950 && !salvaged.exists(), "{kept}");
    drop(outbox);
    // Cut off between the two renames: the new one is there, the old one is aside.
    std::fs::rename(&path, &salvaged).unwrap();
    assert_eq!(assert_adds_up(&Outbox::open(dir.path(), quota).unwrap()).queued, kept);
}

/// An alarm that is over is taken off the broker by an empty message, which an access list may refuse like any other.
#[test]
fn an_empty_message_can_be_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    push(&outbox, Kind::Alarm, b"");
    let id = outbox.peek(Lane::Backlog, 0, 9).unwrap()[0].id;
    outbox.set_aside(id, "refused").unwrap();
    let counts = outbox.counts().unwrap();
    assert_eq!((counts.dead, counts.queued), (1, 0));
    assert_adds_up(&outbox);
}

#[test]
fn the_oldest_message_has_an_age() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    assert_eq!(outbox.oldest().unwrap(), None);
    push(&outbox, Kind::Event, b"one");
    assert!(outbox.oldest().unwrap().unwrap() < Duration::from_secs(5));
    outbox.lock().execute("UPDATE messages SET at = unixepoch() - 3600", []).unwrap();
    push(&outbox, Kind::Event, b"two");
    let age = outbox.oldest().unwrap().unwrap();
    assert!((3600..3605).contains(&age.as_secs()), "{age:?}");
}
