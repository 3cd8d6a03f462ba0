//! Broker cuts and power cuts: nothing that was appended is lost, and every duplicate is recognisable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::broker::{Broker, Subscriber};
use crate::support::daemon::{Daemon, config};
use crate::support::proxy::Proxy;
use crate::support::{eventually, soak};

/// Defects often, so that alarms arise often.
const BUSY: &str = "[[cameras]]\nname = \"strip\"\n\
    source.synthetic = { seed = 3, rate = 60.0, speed = 64.0, defects_per_frame = 0.03 }\n";

/// Boards with the defects that the model names: alarms from the first picture on.
const BOARDS: &str = "[[cameras]]\nname = \"boards\"\n\
    source.synthetic = { scene = \"boards\", seed = 3, rate = 60.0, speed = 640.0, defects_per_frame = 2.0 }\n";

fn appended(dir: &Path) -> u64 {
    let outbox = rusqlite::Connection::open(dir.join("state/outbox.sqlite")).unwrap();
    outbox.busy_timeout(Duration::from_secs(5)).unwrap();
    outbox
        .query_row("SELECT coalesce(max(value), 0) FROM counters WHERE name = 'seq'", [], |r| r.get::<_, i64>(0))
        .unwrap_or(0) as u64
}

/// Sequence numbers that have come, each with its event id; fails when two events share a number.
fn received(subscriber: &Subscriber) -> BTreeMap<u64, String> {
    let mut seen = BTreeMap::new();
    for event in subscriber.json() {
        let (seq, id) = (event["seq"].as_u64().unwrap(), event["id"].as_str().unwrap().to_owned());
        let first = seen.entry(seq).or_insert_with(|| id.clone());
        assert_eq!(*first, id, "two events with seq {seq}");
    }
    seen
}

fn assert_all_arrive(subscriber: &Subscriber, dir: &Path, seconds: u64) -> u64 {
    let last = appended(dir);
    let missing = || {
        let seen: BTreeSet<u64> = received(subscriber).into_keys().collect();
        (1..=last).filter(|seq| !seen.contains(seq)).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !missing().is_empty() {
        let missing = missing();
        let (count, first) = (missing.len(), &missing[..missing.len().min(5)]);
        assert!(Instant::now() < deadline, "{count} of 1 to {last} have not come, the first ones are {first:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    last
}

#[test]
fn alarms_raised_while_the_broker_is_down_arrive_afterwards_even_after_a_power_cut() {
    let down = Duration::from_secs(if soak() { 60 } else { 12 });
    let (mut broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let events = broker.subscribe("inspect/v1/test/gw/events");
    let path = config(dir.path(), &broker.url(), BUSY);
    let daemon = Daemon::start(&path);
    eventually(60, "alarms", || (received(&events).len() >= 3).then_some(()));

    broker.kill();
    daemon.wait_for_log(10, "alarms are kept");
    let before = appended(dir.path());
    std::thread::sleep(down / 2);
    daemon.kill(); // the power cut
    let at_cut = appended(dir.path());
    let daemon = Daemon::start(&path);
    std::thread::sleep(down / 2);
    broker.up();
    // The back-off may have grown to a minute.
    daemon.wait_for_log(75, "connected");
    std::thread::sleep(Duration::from_secs(3));
    assert!(daemon.terminate(5).success());
    assert!(at_cut > before, "alarms arose while the broker was down: {before} then {at_cut}");

    // What the stop left over is sent by the next start.
    let last_start = Daemon::start(&path);
    let last = assert_all_arrive(&events, dir.path(), 60);
    drop(last_start);
    let all = events.json();
    let replayed = all.iter().filter(|e| e["replayed"] == true).count();
    let distinct = received(&events).len();
    println!("{last} events appended, {distinct} received, {} duplicates, {replayed} replayed", all.len() - distinct);
    assert!(replayed > 0);
    assert!(all.len() - distinct <= 4 * 32, "at most a window a cut");
}

#[test]
fn kill_9_of_daemon_and_broker_in_turn_loses_nothing() {
    let rounds = if soak() { 1000 } else { 10 };
    let (mut broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let events = broker.subscribe("inspect/v1/test/gw/events");
    let path = config(dir.path(), &broker.url(), BOARDS);
    let (mut broker_kills, begun) = (0, Instant::now());
    for round in 0..rounds {
        let daemon = Daemon::start(&path);
        daemon.wait_for_log(20, "Raised");
        // Anywhere in the load: each round at another moment.
        std::thread::sleep(Duration::from_millis(37 * round % 400));
        if round % 5 == 4 {
            broker_kills += 1;
            broker.kill();
            std::thread::sleep(Duration::from_millis(200));
            daemon.kill();
            broker.up();
        } else {
            daemon.kill();
        }
        if round % 100 == 99 {
            println!("{} rounds, {:.0} s", round + 1, begun.elapsed().as_secs_f64());
        }
    }
    let daemon = Daemon::start(&path);
    daemon.wait_for_log(60, "connected");
    let last = assert_all_arrive(&events, dir.path(), 120);
    let all = events.json().len();
    let duplicates = all - received(&events).len();
    println!(
        "{rounds} kills of the daemon, {broker_kills} of the broker: {last} events, 0 lost, {duplicates} duplicates"
    );
    assert!(duplicates <= (rounds as usize + broker_kills) * 32);
    drop(daemon);
}

#[test]
fn cuts_of_the_network_with_and_without_a_session_lose_nothing() {
    let rounds = if soak() { 200 } else { 2 };
    let boards = BOARDS.replace("60.0", "4.0");
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let (proxy, events) = (Proxy::start(broker.port), broker.subscribe("inspect/v1/test/gw/events"));
    let url = format!("mqtt://127.0.0.1:{}", proxy.port);
    let daemon = Daemon::start(&config(dir.path(), &url, &boards));
    let (mut forgotten, begun) = (0, Instant::now());
    for round in 0..rounds {
        let connected = || (daemon.log().matches("connected, MQTT 5").count() > round).then_some(());
        eventually(75, "connected", connected);
        // After ten seconds the next attempt comes soon again.
        let long = if soak() { 10_100 } else { 200 };
        std::thread::sleep(Duration::from_millis(long + 29 * round as u64 % 300));
        assert!(proxy.cut());
        if round % 2 == 1 {
            // What the broker knows of the gateway is gone, as after a change of brokers.
            let args = ["-p", &broker.port.to_string(), "-i", "inspectd-test-gw", "-t", "x", "-E"];
            assert!(std::process::Command::new("mosquitto_sub").args(args).status().unwrap().success());
            forgotten += 1;
        }
        if round % 50 == 49 {
            println!("{} cuts, {:.0} s", round + 1, begun.elapsed().as_secs_f64());
        }
    }
    assert!(daemon.terminate(5).success());
    let rest = Daemon::start(&config(dir.path(), &url, &boards));
    rest.wait_for_log(60, "connected");
    let last = assert_all_arrive(&events, dir.path(), 120);
    let all = events.json().len();
    let duplicates = all - received(&events).len();
    println!(
        "{rounds} cuts, {forgotten} of them with the session gone: {last} events, 0 lost, {duplicates} duplicates"
    );
    assert!(last > rounds as u64 && duplicates <= rounds * 32);
}

#[test]
fn the_order_holds_across_a_reconnect() {
    let (mut broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let events = broker.subscribe("inspect/v1/test/gw/events");
    let _daemon = Daemon::start(&config(dir.path(), &broker.url(), BUSY));
    eventually(60, "alarms", || (received(&events).len() >= 3).then_some(()));
    broker.kill();
    std::thread::sleep(Duration::from_secs(3));
    broker.up();
    let have = received(&events).len();
    eventually(60, "more alarms", || (received(&events).len() >= have + 10).then_some(()));
    // First sightings of what was queued come in order, and those of each alarm; a duplicate after the cut may follow later.
    let mut seen = BTreeSet::new();
    let all = events.json();
    let first: Vec<&Value> = all.iter().filter(|e| seen.insert(e["seq"].as_u64())).collect();
    let queued: Vec<u64> = first.iter().filter(|e| e["replayed"] == true).filter_map(|e| e["seq"].as_u64()).collect();
    assert!(queued.is_sorted(), "{queued:?}");
    let mut alarms: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in first {
        alarms.entry(event["alarm"].to_string()).or_default().push(event["seq"].as_u64().unwrap());
    }
    assert!(alarms.values().all(|seqs| seqs.is_sorted()), "{alarms:?}");
}

#[test]
fn a_broker_that_is_not_there_costs_almost_no_processor() {
    let dir = tempfile::tempdir().unwrap();
    let idle = "[[cameras]]\nname = \"none\"\nsource.v4l2 = { device = \"/dev/video99\" }\n";
    let url = format!("mqtt://127.0.0.1:{}", crate::support::free_port());
    let daemon = Daemon::start(&config(dir.path(), &url, idle));
    daemon.wait_for_log(20, "alarms are kept");
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let (begun, before) = (Instant::now(), ticks());
    std::thread::sleep(Duration::from_secs(8));
    let share = (ticks() - before) as f64 / 100.0 / begun.elapsed().as_secs_f64();
    println!("{:.2} % of a core", share * 100.0);
    assert!(share < 0.03, "{share}");
}

#[test]
fn the_counters_add_up_when_all_is_delivered() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), BUSY));
    daemon.wait_for_log(30, "Raised");
    std::thread::sleep(Duration::from_secs(2));
    assert!(daemon.terminate(5).success());
    let state: Value = broker.retained("inspect/v1/test/gw/state").unwrap();
    let outbox = |name: &str| state["outbox"][name].as_u64().unwrap();
    assert!(outbox("appended") > 0);
    let sum = outbox("delivered") + outbox("dropped") + outbox("dead") + outbox("queued");
    assert_eq!(outbox("appended"), sum, "{state}");
    let left: i64 = rusqlite::Connection::open(dir.path().join("state/outbox.sqlite"))
        .unwrap()
        .query_row("SELECT count(*) FROM messages", [], |r| r.get(0))
        .unwrap();
    assert_eq!(left, 0, "the stop has handed everything over");
}

#[test]
fn two_gateways_of_one_name_are_told_so_instead_of_fighting() {
    let (broker, dir, other) = (Broker::start(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let idle = "[[cameras]]\nname = \"none\"\nsource.v4l2 = { device = \"/dev/video99\" }\n";
    let first = Daemon::start(&config(dir.path(), &broker.url(), idle));
    first.wait_for_log(20, "connected");
    let second = Daemon::start(&config(other.path(), &broker.url(), idle));
    let said = "another client seems to use the id inspectd-test-gw";
    eventually(60, said, || (first.log().contains(said) || second.log().contains(said)).then_some(()));
}
