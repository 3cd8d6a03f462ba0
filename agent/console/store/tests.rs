use jiff::SignedDuration;
use serde_json::{Value, json};
use sha2::Digest as _;
use uuid::Uuid;

use super::*;
use crate::console::letter::Address;
use crate::mqtt::payload::{Alarm, AlarmEvent, Reply};

struct Plant {
    store: Store,
    _dir: tempfile::TempDir,
}

/// Seconds since the plant began.
fn at(seconds: i64) -> Timestamp {
    time(1_790_000_000_000 + seconds * 1000)
}

/// An event of this number, about this alarm.
fn event(seq: u64, alarm: u128, change: Value) -> AlarmEvent {
    let mut event = json!({
        "schema": "inspect.event/1", "id": Uuid::now_v7(), "seq": seq, "at": at(seq as i64), "site": "plant", "gateway": "gw",
        "alarm": Uuid::from_u128(alarm), "transition": "raised", "state": "unacknowledged", "kind": "defect",
        "class": "steel/scratches", "severity": "major", "score": 0.9, "camera": "line", "box": [1, 2, 3, 4],
        "frame": { "seq": 1, "captured_at": at(seq as i64), "width": 640, "height": 480 }, "image": null,
        "model": { "name": "m", "version": "1.0.0", "sha256": "00" }, "replayed": false,
    });
    let (Value::Object(event), Value::Object(change)) = (&mut event, change) else { panic!() };
    event.extend(change);
    serde_json::from_value(Value::Object(event.clone())).unwrap()
}

impl Plant {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: Store::open(dir.path()).unwrap(), _dir: dir }
    }

    fn take(&self, events: &[AlarmEvent]) -> Taken {
        self.take_at(events, 1000)
    }

    fn take_at(&self, events: &[AlarmEvent], seconds: i64) -> Taken {
        let items: Vec<Item> = events.iter().map(|event| Item::Event(Box::new(event.clone()))).collect();
        self.store.take(&items, at(seconds), false).unwrap()
    }

    fn list(&self, query: Query) -> Vec<AlarmRow> {
        self.store.alarms(&Query { limit: 100, ..query }).unwrap().alarms
    }

    fn gaps(&self) -> Vec<(i64, i64)> {
        let mut gaps: Vec<_> = self.store.gaps().unwrap().iter().map(|gap| (gap.from, gap.to)).collect();
        gaps.sort_unstable();
        gaps
    }
}

#[test]
fn a_life_in_any_order_ends_the_same() {
    let events = [
        event(1, 7, json!({})),
        event(2, 7, json!({ "transition": "acknowledged", "state": "acknowledged", "by": "ann", "comment": "seen" })),
        event(3, 7, json!({ "transition": "updated", "state": "acknowledged", "severity": "critical" })),
        event(4, 7, json!({ "transition": "cleared", "state": "normal", "severity": "critical" })),
    ];
    let shown = |order: &[usize]| {
        let plant = Plant::new();
        for n in order {
            plant.take(&[events[*n].clone()]);
        }
        let mut rows = plant.list(Query { view: View::All, ..Query::default() });
        assert_eq!(rows.len(), 1);
        assert_eq!(plant.store.events(&Uuid::from_u128(7).to_string()).unwrap().len(), 4);
        rows.remove(0)
    };
    let usual = shown(&[0, 1, 2, 3]);
    assert_eq!(
        (&usual["state"], &usual["severity"], &usual["comment"]),
        (&json!("normal"), &json!("critical"), &json!("seen"))
    );
    assert_eq!(
        (&usual["raised_at"], &usual["acknowledged_at"], &usual["cleared_at"]),
        (&json!(at(1)), &json!(at(2)), &json!(at(4)))
    );
    for order in [[3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
        let row = shown(&order);
        for key in ["state", "severity", "raised_at", "acknowledged_at", "cleared_at", "changed_at"] {
            assert_eq!(row[key], usual[key], "{key} after {order:?}");
        }
    }
}

/// Of a gateway whose last events were lost on the way.
#[test]
fn what_the_broker_keeps_says_what_its_lost_events_would_have() {
    let plant = Plant::new();
    let own = Address { site: "plant".into(), gateway: "gw".into() };
    plant.take(&[event(1, 1, json!({})), event(2, 2, json!({})), event(3, 3, json!({}))]);
    let id = |n: u128| Uuid::from_u128(n).to_string();
    let state = |n: u128| plant.store.alarm(&id(n)).unwrap().unwrap()["state"].clone();
    // Its topic was emptied, by another gateway and by its own.
    let gone = |of: &Address| plant.store.take(&[Item::Gone(of.clone(), id(1))], at(10), false).unwrap();
    assert!(gone(&Address { gateway: "other".into(), ..own.clone() }).alarms.is_empty());
    assert_eq!((gone(&own).alarms.len(), state(1)), (1, json!("returned_to_normal_unacknowledged")));
    // What is retained is another state than the last event that came.
    let body = serde_json::to_value(event(9, 2, json!({ "state": "acknowledged", "acknowledged": true }))).unwrap();
    let mut alarm = body.as_object().unwrap().clone();
    alarm.insert("raised_at".into(), json!(at(2)));
    let alarm: Alarm = serde_json::from_value(Value::Object(alarm)).unwrap();
    let said = |retained| {
        let Address { site, gateway } = own.clone();
        plant
            .store
            .take(&[Item::Alarm { site, gateway, alarm: Box::new(alarm.clone()), retained }], at(11), false)
            .unwrap()
    };
    said(false);
    assert_eq!(state(2), "unacknowledged", "what is sent now comes after its event anyway");
    said(true);
    assert_eq!(state(2), "acknowledged");
    // Nobody has a say about another one's alarms, whatever its numbers are.
    plant.take(&[event(900, 3, json!({ "gateway": "other", "transition": "cleared", "state": "normal" }))]);
    assert_eq!(state(3), "unacknowledged");
    plant.take(&[event(4, 2, json!({ "transition": "cleared", "state": "normal" }))]);
    assert_eq!(state(2), "normal", "later events count again");
}

#[test]
fn a_copy_counts_once() {
    let plant = Plant::new();
    let first = event(1, 1, json!({}));
    assert_eq!(plant.take(&[first.clone(), first.clone()]).copies, 1);
    let taken = plant.take(&[first]);
    assert_eq!((taken.events, taken.copies, taken.alarms.len()), (0, 1, 0));
    assert_eq!(plant.store.counts().unwrap().major, 1);
}

#[test]
fn what_is_missing_is_a_gap_until_it_comes() {
    let plant = Plant::new();
    plant.take(&[event(5, 1, json!({}))]);
    assert!(plant.gaps().is_empty(), "what was before the store began is no gap");
    plant.take(&[event(6, 2, json!({})), event(12, 3, json!({}))]);
    assert_eq!(plant.gaps(), [(7, 11)]);
    plant.take(&[event(9, 4, json!({}))]);
    assert_eq!(plant.gaps(), [(7, 8), (10, 11)]);
    plant.take(&[event(7, 5, json!({})), event(8, 6, json!({})), event(11, 7, json!({}))]);
    assert_eq!(plant.gaps(), [(10, 10)]);
    plant.take(&[event(10, 8, json!({}))]);
    assert!(plant.gaps().is_empty());
    // A gateway that was set up anew counts from 1; what comes then is no gap and nothing is taken for a copy.
    plant.take(&[event(1, 9, json!({ "at": at(500) })), event(2, 10, json!({ "at": at(501) }))]);
    assert!(plant.gaps().is_empty(), "{:?}", plant.gaps());
    plant.take(&[event(4, 11, json!({ "at": at(502) }))]);
    assert_eq!(plant.gaps(), [(3, 3)]);
    assert_eq!(plant.list(Query::default()).len(), 11);
}

#[test]
fn alarms_are_found_and_paged() {
    let plant = Plant::new();
    let severities = ["info", "minor", "major", "critical"];
    let events: Vec<_> = (1..=40)
        .map(|n| {
            let camera = format!("cam-{}", n % 3);
            let class = if n % 2 == 0 { "pcb/short" } else { "tile/100%_crack" };
            event(n, u128::from(n), json!({ "severity": severities[n as usize % 4], "camera": camera, "class": class }))
        })
        .collect();
    plant.take(&events);
    let mut seen = Vec::new();
    let mut query = Query { limit: 7, ..Query::default() };
    loop {
        let page = plant.store.alarms(&query).unwrap();
        seen.extend(page.alarms.iter().map(|row| row["alarm"].clone()));
        match page.next {
            Some(next) => query.before = Some(next),
            None => break,
        }
    }
    let wanted: Vec<Value> = (1..=40_u128).rev().map(|n| json!(Uuid::from_u128(n))).collect();
    assert_eq!(seen, wanted, "each once, the latest first");
    let mut query = Query { limit: 7, worst_first: true, ..Query::default() };
    let mut ranks = Vec::new();
    loop {
        let page = plant.store.alarms(&query).unwrap();
        ranks.extend(page.alarms.iter().map(|row| {
            let rank = severities.iter().position(|word| row["severity"] == *word).unwrap();
            (rank, row["raised_at"].as_str().unwrap().parse::<Timestamp>().unwrap())
        }));
        match page.next {
            Some(next) => query.before = Some(next),
            None => break,
        }
    }
    assert!(ranks.len() == 40 && ranks.is_sorted_by(|a, b| a > b), "the worst first, across pages: {ranks:?}");
    let count = |query: Query| plant.list(query).len();
    assert_eq!(count(Query { severities: vec![crate::config::Severity::Critical], ..Query::default() }), 10);
    assert_eq!(count(Query { class: Some("pcb/*".into()), ..Query::default() }), 20);
    assert_eq!(count(Query { text: Some("100%_CRACK".into()), ..Query::default() }), 20);
    assert_eq!(count(Query { text: Some("100_".into()), ..Query::default() }), 0, "signs of LIKE are letters");
    assert_eq!(count(Query { camera: Some("cam-0".into()), ..Query::default() }), 13);
    assert_eq!(count(Query { from: Some(at(10)), to: Some(at(20)), ..Query::default() }), 10);
    assert_eq!(count(Query { view: View::Over, ..Query::default() }), 0);
    assert_eq!(plant.store.classes().unwrap(), ["pcb/short", "tile/100%_crack"]);
    let figures =
        plant.store.figures(&Query { view: View::All, ..Query::default() }, at(1), at(41), Bucket::Hour).unwrap();
    assert_eq!((figures.total, figures.open, figures.classes[0].count), (40, 40, 20));
    assert_eq!(figures.cameras.iter().map(|camera| camera.count).sum::<i64>(), 40);
    let counted: i64 = figures.series.iter().map(|step| step.counts.critical).sum();
    assert_eq!(counted, 10);
}

#[test]
fn an_order_waits_for_its_reply() {
    let plant = Plant::new();
    plant.take(&[event(1, 1, json!({}))]);
    let alarm = Uuid::from_u128(1).to_string();
    let command = CommandRow {
        id: "c-1".into(),
        site: "plant".into(),
        gateway: "gw".into(),
        command: "ack".into(),
        payload: json!({ "alarms": [alarm], "by": "ann" }),
        by: "ann".into(),
        at: at(10),
        ok: None,
        error: None,
        result: None,
        replied_at: None,
    };
    plant.store.give(&command, std::slice::from_ref(&alarm)).unwrap();
    let pending = |plant: &Plant| plant.store.alarm(&alarm).unwrap().unwrap()["pending"].as_array().unwrap().len();
    assert_eq!((pending(&plant), plant.store.unanswered(at(0)).unwrap().len()), (1, 1));
    let reply =
        json!({ "schema": "inspect.reply/1", "id": "c-1", "command": "ack", "at": at(11), "ok": false, "error": "no" });
    let gateway = Address { site: "plant".into(), gateway: "gw".into() };
    let other = Address { gateway: "other".into(), ..gateway.clone() };
    let reply: Reply = serde_json::from_value(reply).unwrap();
    let foreign = Item::Reply(other, Box::new(reply.clone()));
    assert!(plant.store.take(&[foreign], at(12), false).unwrap().commands.is_empty(), "nobody answers for another");
    let reply = Item::Reply(gateway.clone(), Box::new(reply));
    let taken = plant.store.take(std::slice::from_ref(&reply), at(12), false).unwrap();
    assert_eq!(taken.commands, ["c-1"]);
    assert!(plant.store.take(&[reply], at(13), false).unwrap().commands.is_empty(), "a copy says nothing new");
    assert_eq!((pending(&plant), plant.store.commands_about(&alarm).unwrap()[0].ok), (0, Some(false)));
    let late = CommandRow { id: "c-2".into(), ..command };
    plant.store.give(&late, &[]).unwrap();
    assert_eq!(plant.store.expire(SignedDuration::from_secs(100), at(100)).unwrap(), Vec::<String>::new());
    assert_eq!(plant.store.expire(SignedDuration::from_secs(100), at(111)).unwrap(), ["c-2"]);
    let reply = json!({ "schema": "inspect.reply/1", "id": "c-2", "command": "ack", "at": at(112), "ok": true });
    plant.store.take(&[Item::Reply(gateway, serde_json::from_value(reply).unwrap())], at(113), false).unwrap();
    assert_eq!(plant.store.command("c-2").unwrap().unwrap().ok, Some(true), "an answer that comes nevertheless counts");
}

#[test]
fn old_things_go_and_open_alarms_stay() {
    let plant = Plant::new();
    let over = |seq: u64, alarm: u128| event(seq, alarm, json!({ "transition": "cleared", "state": "normal" }));
    plant.take_at(&[event(1, 1, json!({})), event(2, 2, json!({})), over(3, 2)], 10);
    // What counts is when it came: this gateway's clock was never set right.
    plant.take_at(
        &[
            event(4, 3, json!({ "at": at(-900_000) })),
            event(5, 3, json!({ "at": at(-900_000), "transition": "cleared", "state": "normal" })),
        ],
        901,
    );
    let picture = |n: u8| {
        let bytes = vec![n; 1000];
        let sha256 = hex::encode(sha2::Sha256::digest(&bytes));
        (sha256.clone(), Item::Image { sha256, bytes })
    };
    for (n, seconds) in [(1, 10), (2, 950)] {
        plant.store.take(&[picture(n).1], at(seconds), false).unwrap();
    }
    let keep = Keep { age: SignedDuration::from_secs(500), bytes: 1 << 30 };
    let gone = plant.store.tidy(&keep, at(1000)).unwrap();
    assert_eq!((gone.alarms, gone.images), (1, 1));
    let left: Vec<Value> =
        plant.list(Query { view: View::All, ..Query::default() }).iter().map(|row| row["alarm"].clone()).collect();
    assert_eq!(left, [json!(Uuid::from_u128(1)), json!(Uuid::from_u128(3))], "one is open, one is young");
    assert!(plant.store.image(&picture(1).0).unwrap().is_none());
    assert_eq!(plant.store.image(&picture(2).0).unwrap().unwrap().len(), 1000);
    assert!(plant.store.events(&Uuid::from_u128(2).to_string()).unwrap().is_empty());
    // By size: the oldest pictures first.
    for n in 3..100 {
        plant.store.take(&[picture(n).1], at(950 + i64::from(n)), false).unwrap();
    }
    plant.store.tidy(&Keep { age: SignedDuration::from_secs(500), bytes: 50_000 }, at(1000)).unwrap();
    assert!(plant.store.size().unwrap().1 <= 45_000);
    assert_eq!(plant.list(Query::default()).len(), 1, "what is open is never thrown away");
}

#[test]
fn people_and_what_they_may() {
    let plant = Plant::new();
    let store = &plant.store;
    let (name, password) = store.first_person(at(0)).unwrap().unwrap();
    assert!(store.first_person(at(0)).unwrap().is_none(), "once");
    assert_eq!(store.checked(name, &password).unwrap(), Some(Role::Engineer));
    assert_eq!(store.checked(name, "wrong").unwrap(), None);
    assert_eq!(store.checked("nobody", &password).unwrap(), None);
    assert!(store.add_person("ann", Role::Operator, "short", at(1)).unwrap_err().to_string().contains("10 to 200"));
    store.add_person("ann", Role::Operator, "long enough", at(1)).unwrap();
    assert!(store.add_person("ann", Role::Engineer, "long enough", at(1)).is_err());
    assert!(store.add_person("a<b", Role::Operator, "long enough", at(1)).is_err());
    let token = store.begin_session("ann", at(10)).unwrap();
    assert_eq!(store.in_session(&token, at(20)).unwrap().unwrap().name, "ann");
    assert!(store.in_session(&token, at(13 * 3600)).unwrap().is_none(), "half a day unused");
    let other = store.begin_session("ann", at(20)).unwrap();
    store.change_password("ann", "longer than that", &token).unwrap();
    assert!(store.in_session(&other, at(30)).unwrap().is_none(), "other sessions end");
    assert!(store.in_session(&token, at(30)).unwrap().is_some());
    store.remove_person("ann").unwrap();
    assert!(store.in_session(&token, at(30)).unwrap().is_none());
    assert!(store.remove_person(name).unwrap_err().to_string().contains("last engineer"));
    let key = store.add_token("mes", Role::Operator, at(1)).unwrap().token;
    assert_eq!(store.of_token(&key).unwrap().unwrap().name, "mes");
    store.remove_token("mes").unwrap();
    assert!(store.of_token(&key).unwrap().is_none());
}

#[test]
fn one_console_a_folder_and_a_later_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(Store::open(dir.path()).err().unwrap().to_string().contains("another console uses"));
    drop(store);
    Connection::open(dir.path().join("console.db")).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = format!("{:#}", Store::open(dir.path()).err().unwrap());
    assert!(error.contains("made by a later inspectd"), "{error}");
}
