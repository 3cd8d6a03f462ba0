//! The outbox and its session against a broker whose every move is decided here, and against real mosquitto: nothing is lost,
//! duplicates are bounded and known by their id, poison blocks nothing, and what is new does not wait behind a backlog.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inspectd::backoff::Backoff;
use inspectd::command::Letterbox;
use inspectd::config::ProtocolVersion;
use inspectd::config::value::BrokerUrl;
use inspectd::mqtt::board::Board;
use inspectd::mqtt::link::{Event, Link, LinkOptions};
use inspectd::mqtt::session::Session;
use inspectd::mqtt::status::LinkStatus;
use inspectd::mqtt::tls::TlsFiles;
use inspectd::mqtt::topics::Topics;
use inspectd::outbox::{Counts, Kind, Message, Outbox, Quota};
use inspectd::stop::Stop;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::broker::Broker;
use crate::support::scripted::{Move, Scripted};
use crate::support::{eventually, soak};

const WINDOW: usize = 32;
const QUOTA: Quota = Quota { messages: 1_000_000, image_bytes: 1 << 30, event_bytes: 1 << 30 };

pub fn options(url: &str, id: &str) -> LinkOptions {
    LinkOptions {
        url: BrokerUrl::new(url).unwrap(),
        tls: TlsFiles::default(),
        client_id: id.to_owned(),
        version: ProtocolVersion::Auto,
        user: None,
        password_file: None,
        keep_alive: Duration::from_secs(10),
        window: WINDOW,
        max_packet: 1 << 20,
        max_incoming: 4 << 20,
        lasting: true,
        forget: false,
        will: None,
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A session of its own threads, as the daemon runs it but for the delays between attempts.
pub struct Carrier {
    pub outbox: Arc<Outbox>,
    pub status: Arc<LinkStatus>,
    stop: Stop,
    runtime: tokio::runtime::Runtime,
    session: tokio::task::JoinHandle<()>,
}

impl Carrier {
    pub fn start(dir: &Path, url: &str) -> Self {
        let outbox = Arc::new(Outbox::open(dir, QUOTA).unwrap());
        let (stop, runtime, status) = (Stop::default(), runtime(), Arc::new(LinkStatus::default()));
        let (commands, _, answered) = Letterbox::new(Topics::new("s", "g"));
        let board = Arc::new(Board::default());
        board.set("inspect/v1/s/g/state", b"0 again".to_vec());
        let session = Session {
            options: options(url, "carrier"),
            changed: tokio::sync::watch::channel(options(url, "carrier")).1,
            outbox: Arc::clone(&outbox),
            board,
            results: tokio::sync::mpsc::channel(1).1,
            subscriptions: vec!["inspect/v1/s/g/commands/+/+".into()],
            commands,
            answered,
            backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(20)),
            suspects: <_>::default(),
            status: Arc::clone(&status),
            stop: stop.clone(),
        };
        let session = runtime.spawn(session.run());
        Self { outbox, status, stop, runtime, session }
    }

    pub fn end(self) {
        self.stop.set();
        self.runtime.block_on(self.session).unwrap();
    }
}

fn push(outbox: &Outbox, alarm: u64, payload: Vec<u8>) {
    let (kind, topic, subject) = (Kind::Event, "inspect/v1/s/g/events".to_owned(), Some(alarm.to_string()));
    outbox.transaction(|t| t.push(&Message { kind, topic, payload, retain: false, subject })).unwrap();
}

fn number(payload: &[u8]) -> u64 {
    std::str::from_utf8(payload).unwrap().split(' ').next().unwrap().parse().unwrap()
}

fn adds_up(outbox: &Outbox) -> Counts {
    let c = outbox.counts().unwrap();
    assert_eq!(c.appended, c.delivered + c.dropped + c.dead + c.queued, "{c:?}");
    c
}

#[test]
fn cuts_at_any_moment_lose_nothing_and_duplicate_at_most_a_window_each() {
    let events: u64 = if soak() { 100_000 } else { 3000 };
    let dir = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(11);
    // At one in 300 the connection ends at once, or nothing is acknowledged from then on until it ends.
    let mut ignoring = None;
    let script = move |connection, _, _: &_| match rng.random_range(0..600) {
        _ if ignoring == Some(connection) => Move::Ignore,
        0 => Move::Cut,
        1 => {
            ignoring = Some(connection);
            Move::Ignore
        }
        _ => Move::Acknowledge,
    };
    let broker = Scripted::start(Box::new(script), Box::new(|_| Vec::new()));
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let mut rng = StdRng::seed_from_u64(12);
    let mut carrier = Carrier::start(dir.path(), &url);
    let mut restarts = 0;
    for n in 0..events {
        // An alarm's transitions are four in a row or far apart; now and then the agent ends in between.
        push(&carrier.outbox, if n.is_multiple_of(3) { n / 4 } else { n % 50 }, format!("{n} event").into_bytes());
        if n % (events / 5) == events / 10 {
            carrier.end();
            carrier = Carrier::start(dir.path(), &url);
            restarts += 1;
        }
        if rng.random_range(0..100) == 0 {
            std::thread::sleep(Duration::from_millis(3));
        }
    }
    eventually(if soak() { 600 } else { 90 }, "all is acknowledged", || {
        (carrier.outbox.counts().unwrap().queued == 0).then_some(())
    });
    let counts = adds_up(&carrier.outbox);
    carrier.end();
    let record = broker.record.lock().unwrap();
    let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
    let (mut first, mut copies) = (BTreeMap::<u64, Vec<u64>>::new(), 0);
    for publish in record.publishes().filter(|p| !p.payload.ends_with(b"again")) {
        let n = number(&publish.payload);
        let times = seen.entry(n).or_default();
        *times += 1;
        copies += usize::from(*times > 1);
        if *times == 1 {
            first.entry(if n.is_multiple_of(3) { n / 4 } else { n % 50 }).or_default().push(n);
        }
    }
    let cuts = record.connections.len() - 1;
    println!(
        "{events} events, {cuts} cuts, {restarts} restarts: {} lost, {copies} duplicates",
        events as usize - seen.len()
    );
    assert_eq!(seen.len() as u64, events, "each has come");
    assert!(copies <= cuts * WINDOW, "{copies} duplicates at {cuts} cuts");
    assert!(cuts >= 5 && (counts.dropped, counts.dead) == (0, 0), "{cuts} {counts:?}");
    assert!(first.values().all(|list| list.is_sorted()), "the transitions of an alarm come in order");
}

#[test]
fn a_message_at_which_the_broker_cuts_is_found_and_blocks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let poison = |payload: &[u8]| [7, 20].contains(&number(payload));
    let script =
        move |_, _, publish: &rumqttc::Publish| if poison(&publish.payload) { Move::Cut } else { Move::Acknowledge };
    let broker = Scripted::start(Box::new(script), Box::new(|_| Vec::new()));
    let carrier = Carrier::start(dir.path(), &format!("mqtt://127.0.0.1:{}", broker.port));
    (0..40).for_each(|n| push(&carrier.outbox, n, format!("{n} event").into_bytes()));
    push(&carrier.outbox, 41, vec![b'x'; 2 << 20]);
    eventually(30, "all others are delivered", || {
        let counts = carrier.outbox.counts().unwrap();
        (counts.queued == 0).then_some(())
    });
    let counts = adds_up(&carrier.outbox);
    assert_eq!((counts.delivered, counts.dead), (38, 3));
    let dead = carrier.outbox.last_dead().unwrap().unwrap();
    assert!(!dead.reason.is_empty());
    carrier.end();
    let table = rusqlite::Connection::open(dir.path().join("outbox.sqlite")).unwrap();
    let reasons: Vec<String> = table
        .prepare("SELECT reason FROM dead ORDER BY id")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let wanted = ["the broker ends the connection", "the broker ends the connection", "2097152 bytes are over"];
    assert!(reasons.iter().zip(wanted).all(|(r, w)| r.starts_with(w)) && reasons.len() == 3, "{reasons:?}");
}

#[test]
fn a_broker_that_takes_nothing_at_all_costs_no_message() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Scripted::start(Box::new(|_, _, _| Move::Cut), Box::new(|_| Vec::new()));
    let carrier = Carrier::start(dir.path(), &format!("mqtt://127.0.0.1:{}", broker.port));
    (0..5).for_each(|n| push(&carrier.outbox, n, format!("{n} event").into_bytes()));
    eventually(20, "many attempts", || (broker.connections() > 40).then_some(()));
    assert_eq!((adds_up(&carrier.outbox).queued, carrier.outbox.counts().unwrap().dead), (5, 0));
    carrier.end();
}

/// What is no MQTT: a publish whose topic is no UTF-8.
fn garbage() -> Vec<u8> {
    vec![0x32, 9, 0, 3, 0xff, 0xfe, 0xfd, 0, 1, b'{', b'}']
}

#[test]
fn garbage_costs_one_reconnection_at_which_the_broker_forgets_it() {
    let dir = tempfile::tempdir().unwrap();
    // It would send the same at every connection with a session that it has kept.
    let broker = Scripted::start(
        Box::new(|_, _, _| Move::Acknowledge),
        Box::new(|n| if n == 0 { garbage() } else { Vec::new() }),
    );
    let carrier = Carrier::start(dir.path(), &format!("mqtt://127.0.0.1:{}", broker.port));
    eventually(20, "a third connection", || (broker.connections() == 3).then_some(()));
    push(&carrier.outbox, 1, b"1 event".to_vec());
    eventually(20, "delivery", || (carrier.outbox.counts().unwrap().delivered == 1).then_some(()));
    carrier.end();
    let record = broker.record.lock().unwrap();
    assert_eq!(record.connections.iter().map(|c| c.clean_session).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn garbage_that_is_retained_makes_the_agent_deaf_and_not_dumb() {
    let dir = tempfile::tempdir().unwrap();
    // Whoever subscribes gets it.
    let broker = Scripted::start(Box::new(|_, _, _| Move::Acknowledge), Box::new(|_| garbage()));
    let carrier = Carrier::start(dir.path(), &format!("mqtt://127.0.0.1:{}", broker.port));
    push(&carrier.outbox, 1, b"1 event".to_vec());
    eventually(20, "delivery", || (carrier.outbox.counts().unwrap().delivered == 1).then_some(()));
    let connections = broker.connections();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(broker.connections(), connections, "it stays");
    carrier.end();
}

#[test]
fn what_is_new_does_not_wait_behind_a_backlog() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let begun = Instant::now();
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let listening = runtime();
    let listener_options = LinkOptions { lasting: false, ..options(&broker.url(), "listener") };
    let (ready, is_ready) = std::sync::mpsc::channel();
    listening.spawn(async move {
        let mut link = Link::connect(&listener_options).await.unwrap();
        link.subscribe("inspect/v1/s/g/events").unwrap();
        ready.send(()).unwrap();
        while let Event::Message { payload, .. } = link.next().await {
            let _ = arrived.send((number(&payload), begun.elapsed()));
        }
    });
    is_ready.recv().unwrap();
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    let backlog = 10_000;
    outbox
        .transaction(|t| {
            (0..backlog).try_for_each(|n| {
                let (topic, payload) =
                    ("inspect/v1/s/g/events".to_owned(), format!("{n} {}", "x".repeat(600)).into_bytes());
                let message =
                    Message { kind: Kind::Event, topic, payload, retain: false, subject: Some(n.to_string()) };
                t.push(&message)
            })
        })
        .unwrap();
    drop(outbox);
    let carrier = Carrier::start(dir.path(), &broker.url());
    eventually(10, "connected", || carrier.outbox.is_online().then_some(()));
    let mut sent = Vec::new();
    let mut probe = |n: u64| {
        push(&carrier.outbox, n, format!("{n} {}", "x".repeat(600)).into_bytes());
        sent.push((n, begun.elapsed()));
        std::thread::sleep(Duration::from_millis(7));
    };
    // While the backlog drains, and then when nothing else is there.
    let mut n = backlog;
    while carrier.outbox.counts().unwrap().queued > 500 {
        probe(n);
        n += 1;
    }
    let busy = n;
    eventually(60, "the backlog is gone", || (carrier.outbox.counts().unwrap().queued == 0).then_some(()));
    (0..busy - backlog).for_each(|k| probe(n + k));
    n += busy - backlog;
    eventually(20, "all is delivered", || (carrier.outbox.counts().unwrap().queued == 0).then_some(()));
    std::thread::sleep(Duration::from_millis(200));
    carrier.end();
    let mut at = BTreeMap::new();
    while let Ok((n, when)) = arrivals.try_recv() {
        at.entry(n).or_insert(when);
    }
    assert_eq!(at.len() as u64, n, "each has come");
    let delays = |from: u64, to: u64| {
        let mut delays: Vec<f64> = sent
            .iter()
            .filter(|(n, _)| (from..to).contains(n))
            .map(|(n, when)| (at[n].as_secs_f64() - when.as_secs_f64()).max(0.0) * 1000.0)
            .collect();
        delays.sort_by(f64::total_cmp);
        [delays[delays.len() / 2], delays[delays.len() * 95 / 100]]
    };
    let (busy, idle) = (delays(backlog, busy), delays(busy, n));
    println!(
        "p50, p95 in ms from the end of append to arrival: {busy:.2?} with a backlog of {backlog}, {idle:.2?} idle"
    );
    let drained = at.range(..backlog).map(|(_, when)| when.as_secs_f64() * 1000.0).fold(0.0, f64::max);
    assert!(busy[1] < drained / 4.0, "far less than the backlog takes: {busy:?} ms against {drained} ms");
}

#[test]
fn three_days_without_a_broker_stay_under_the_quota_and_add_up() {
    // One event a second, each alarm raised and cleared; 50 MB of disk, of which SQLite's log takes up to 6, the reserve 6, and
    // snapshots most of the rest. What is left over is for pages that are not full.
    let (seconds, quota): (u64, u64) = if soak() { (72 * 3600, 50_000_000) } else { (1500, 18_000_000) };
    let room = quota - 12_500_000;
    let limits = Quota { messages: 1_000_000, image_bytes: room * 6 / 10, event_bytes: room * 25 / 100 };
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path(), limits).unwrap();
    let disk = || -> u64 {
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    let (mut most, mut slowest) = (0, Duration::ZERO);
    for n in 0..seconds {
        let (alarm, raised) = (n / 2, n % 2 == 0);
        let key = alarm.to_string();
        let begun = Instant::now();
        outbox
            .transaction(|t| {
                let message = |kind, topic: String, bytes: usize| {
                    let (retain, subject) = (kind == Kind::Alarm, (kind != Kind::Image).then(|| key.clone()));
                    Message { kind, topic, payload: vec![b'x'; bytes], retain, subject }
                };
                let transition = if raised { "raised" } else { "cleared" };
                let event =
                    format!("{{\"transition\":\"{transition}\",\"fill\":\"{}\"}}", "x".repeat(650)).into_bytes();
                let seq = t.next_seq()?;
                assert_eq!(seq, n + 1);
                if raised {
                    t.push(&message(
                        Kind::Image,
                        format!("inspect/v1/s/g/images/{n}"),
                        20_000 + (n as usize * 7919) % 30_000,
                    ))?;
                    t.save_alarm(&key, "{}", true)?;
                } else {
                    t.forget_alarm(&key)?;
                }
                t.push(&Message { payload: event, ..message(Kind::Event, "inspect/v1/s/g/events".into(), 0) })?;
                t.push(&message(Kind::Alarm, format!("inspect/v1/s/g/alarms/{alarm}"), if raised { 550 } else { 0 }))
            })
            .unwrap();
        slowest = slowest.max(begun.elapsed());
        if n % 50 == 0 {
            most = most.max(disk());
        }
    }
    let counts = adds_up(&outbox);
    println!(
        "{seconds} events, quota {quota} bytes: at most {most} on the disk, slowest append {slowest:.1?}, {counts:?}"
    );
    assert_eq!(counts.appended, seconds / 2 * 5);
    assert!(counts.dropped > 0 && most <= quota, "{most} bytes");
}

#[test]
fn the_outbox_is_nearly_as_quick_as_bare_sqlite() {
    let (dir, rounds) = (tempfile::tempdir().unwrap(), if soak() { 20 } else { 4 });
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    let mut bare = rusqlite::Connection::open(dir.path().join("bare.sqlite")).unwrap();
    bare.pragma_update(None, "journal_mode", "WAL").unwrap();
    bare.pragma_update(None, "synchronous", "FULL").unwrap();
    bare.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT, payload BLOB)").unwrap();
    let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..rounds {
        let begun = Instant::now();
        (0..100).for_each(|n| push(&outbox, n, vec![b'x'; 700]));
        ours += begun.elapsed();
        let begun = Instant::now();
        for _ in 0..100 {
            let transaction = bare.transaction().unwrap();
            let row = rusqlite::params!["inspect/v1/s/g/events", vec![b'x'; 700]];
            transaction.execute("INSERT INTO t (topic, payload) VALUES (?1, ?2)", row).unwrap();
            transaction.commit().unwrap();
        }
        theirs += begun.elapsed();
    }
    let rate = |time: Duration| f64::from(rounds * 100) / time.as_secs_f64();
    println!(
        "{:.0} events/s durably, bare SQLite {:.0}/s: {:.2} of it",
        rate(ours),
        rate(theirs),
        rate(ours) / rate(theirs)
    );
    assert!(rate(ours) > rate(theirs) / 4.0);
}
