//! RTSP cameras: every way to lose one, and what must hold meanwhile.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use crate::support::broker::{Broker, Subscriber};
use crate::support::daemon::{Daemon, config};
use crate::support::proxy::Proxy;
use crate::support::rtsp::{Rtsp, Scripted, Sent};
use crate::support::{eventually, free_port, soak};

const STEADY: &str = "[[cameras]]\nname = \"steady\"\nsource.synthetic = { rate = 10.0, width = 320, height = 240 }\n";

fn net(port: u16, more: &str) -> String {
    format!(
        "{STEADY}[[cameras]]\nname = \"net\"\nfps = 5.0\nsource.rtsp = {{ url = \"rtsp://127.0.0.1:{port}/test\", \
         open_timeout_s = 2.0, read_timeout_s = 1.0{more} }}\n"
    )
}

fn state(broker: &Broker) -> Value {
    broker.retained("inspect/v1/test/gw/cameras/net/state").unwrap_or_default()
}

/// Waits for a reason that has these words.
#[track_caller]
fn fails(broker: &Broker, words: &str) {
    let found = eventually(30, words, || {
        let state = state(broker);
        (state["state"] == "reconnecting" && state["reason"].as_str()?.contains(words)).then_some(state)
    });
    println!("{}", found["reason"]);
}

#[track_caller]
fn streams(broker: &Broker, what: &str) {
    eventually(60, what, || (state(broker)["state"] == "streaming").then_some(()));
}

fn results(broker: &Broker, camera: &str) -> Subscriber {
    broker.subscribe(&format!("inspect/v1/test/gw/cameras/{camera}/results"))
}

fn taken(result: &Value) -> Timestamp {
    result["captured_at"].as_str().unwrap().parse().unwrap()
}

/// That times and numbers of all results strictly increase.
#[track_caller]
fn in_order(results: &[Value]) {
    for pair in results.windows(2) {
        assert!(taken(&pair[0]) < taken(&pair[1]), "{} then {}", pair[0], pair[1]);
        assert!(pair[0]["seq"].as_u64() < pair[1]["seq"].as_u64());
    }
}

#[test]
fn stopped_frozen_held_up_and_restarted() {
    let (broker, dir, port) = (Broker::start(), tempfile::tempdir().unwrap(), free_port());
    let all = results(&broker, "net");
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), &net(port, "")));
    fails(&broker, "connection refused");
    let server = Rtsp::serve(port);
    streams(&broker, "streaming once the server is there");
    eventually(20, "results", || (all.count() > 10).then_some(()));
    server.signal("STOP");
    fails(&broker, "the server sent nothing for");
    server.signal("CONT");
    streams(&broker, "streaming after the server woke up");
    server.signal("USR1");
    fails(&broker, "the server sent nothing for");
    server.signal("USR2");
    streams(&broker, "streaming after the pictures went on");
    drop(server);
    fails(&broker, "connection refused");
    std::thread::sleep(Duration::from_secs(3));
    // Its clock begins at 0 again.
    let _server = Rtsp::serve(port);
    let before = all.count();
    streams(&broker, "streaming after a restart");
    eventually(20, "results", || (all.count() > before + 10).then_some(()));
    in_order(&all.json());
    println!("{} results in order over {} openings", all.count(), state(&broker)["reopened"]);
    assert!(daemon.terminate(5).success());
}

#[test]
fn a_wrong_password_is_said_and_none_is_shown() {
    for method in ["basic", "digest"] {
        let (broker, dir, port) = (Broker::start(), tempfile::tempdir().unwrap(), free_port());
        let right = "s3cr:t@/%?#& \u{e9}";
        let server = Rtsp::serve_with(port, &[method, "vie", right]);
        let camera = net(port, ", user = \"vie\", password_file = \"secret\"");
        std::fs::write(dir.path().join("secret"), "wr0ng/@:\n").unwrap();
        let daemon = Daemon::start(&config(dir.path(), &broker.url(), &camera));
        fails(&broker, "refused user or password (401)");
        // The password is changed; nobody restarts anything.
        std::fs::write(dir.path().join("secret"), format!("{right}\n")).unwrap();
        streams(&broker, "streaming with the right password");
        drop(server);
        fails(&broker, "127.0.0.1");
        let heard = format!("{} {}", daemon.log(), state(&broker));
        for secret in ["s3cr", "wr0ng", "vie:", "rtsp://"] {
            assert!(!heard.contains(secret), "{secret} in:\n{heard}");
        }
        assert!(daemon.terminate(5).success());
        println!("{method}: {} lines of log without a secret", heard.lines().count());
    }
}

#[test]
fn over_udp() {
    let (broker, dir, port) = (Broker::start(), tempfile::tempdir().unwrap(), free_port());
    let server = Rtsp::serve(port);
    let all = results(&broker, "net");
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), &net(port, ", transport = \"udp\"")));
    eventually(30, "results", || (all.count() > 10).then_some(()));
    let sockets = |table: &str| -> HashSet<String> {
        let text = std::fs::read_to_string(table).unwrap();
        text.lines().skip(1).filter_map(|l| l.split_whitespace().nth(9)).map(str::to_owned).collect()
    };
    let udp = &sockets("/proc/net/udp") | &sockets("/proc/net/udp6");
    let own = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().filter_map(Result::ok);
    let own = own.filter_map(|fd| std::fs::read_link(fd.path()).ok()?.to_str().map(str::to_owned));
    let count = own.filter(|l| udp.contains(l.trim_start_matches("socket:[").trim_end_matches(']'))).count();
    assert!(count >= 2, "{count} UDP sockets: one for pictures and one for control were expected");
    server.signal("STOP");
    fails(&broker, "over UDP: if a firewall");
    server.signal("CONT");
    streams(&broker, "streaming again");
    in_order(&all.json());
    println!("{} results", all.count());
}

#[test]
fn times_are_in_order_whatever_the_stream_says() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let stamps = (0..20_u32)
        .map(|n| n * 9000)
        .chain((0..20).map(|n| n * 9000)) // back to 0
        .chain([171_000; 5]) // the same again and again, which is one picture to who receives it
        .chain((0..20).map(|n| 3_600 * 90_000 + n * 9000)) // an hour ahead
        .chain((0..20).map(|n| (u32::MAX - 90_000).wrapping_add(n * 9000))); // over the end of the counter
    let sent = |stamp| Sent { stamp, wait: Duration::from_millis(100) };
    let server = Scripted::start(stamps.map(sent).collect());
    let all = results(&broker, "net");
    let camera = net(server.port, "").replace("fps = 5.0", "fps = 50.0");
    let began = Timestamp::now();
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), &camera));
    // The script is 8.5 s long, then the server closes the connection and plays it again.
    eventually(60, "two rounds", || (all.count() > 120).then_some(()));
    let all = all.json();
    in_order(&all);
    assert!(all.iter().all(|r| taken(r) >= began && taken(r) <= Timestamp::now()));
    println!("{} results in order", all.len());
    drop(daemon);
}

struct Footprint {
    rss_mib: f64,
    files: usize,
    threads: usize,
}

impl Footprint {
    fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let number = |key: &str| -> f64 {
            let line = status.lines().find(|l| l.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        Self { rss_mib: number("VmRSS:") / 1024.0, files, threads: number("Threads:") as usize }
    }
}

/// A cut, and when the way was free again.
fn cut(n: usize, server: &mut Option<Rtsp>, port: u16, proxy: &Proxy) -> (&'static str, Instant) {
    match n % 3 {
        0 => {
            *server = None;
            *server = Some(Rtsp::serve(port));
            ("server killed and restarted", Instant::now())
        }
        1 => {
            let server = server.as_ref().unwrap();
            server.signal("STOP");
            std::thread::sleep(Duration::from_secs(3));
            server.signal("CONT");
            ("server frozen for 3 s", Instant::now())
        }
        _ => {
            assert!(proxy.cut());
            ("connection cut", Instant::now())
        }
    }
}

/// 200 with `INSPECTD_SOAK=1`, otherwise 9.
#[test]
fn cut_again_and_again_it_is_always_back() {
    let (broker, dir, port) = (Broker::start(), tempfile::tempdir().unwrap(), free_port());
    let (cuts, settled) = if soak() { (200, 20) } else { (9, 3) };
    let proxy = Proxy::start(port);
    let mut server = Some(Rtsp::serve(port));
    let (all, steady) = (results(&broker, "net"), results(&broker, "steady"));
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), &net(proxy.port, "")));
    eventually(30, "the first pictures", || (all.count() > 5).then_some(()));
    let rate = |from: usize, since: Instant| (steady.count() - from) as f64 / since.elapsed().as_secs_f64();
    let (from, since) = (steady.count(), Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    let before = rate(from, since);
    let (from, since) = (steady.count(), Instant::now());
    let (mut back, mut prints) = (Vec::new(), Vec::new());
    for n in 0..cuts {
        let (what, free) = cut(n, &mut server, port, &proxy);
        // What was on its way when the cut came does not count.
        std::thread::sleep(Duration::from_millis(200));
        let seen = all.count();
        eventually(60, &format!("back after cut {n} ({what})"), || (all.count() > seen + 1).then_some(()));
        back.push((free.elapsed().as_secs_f64(), what));
        // Well for longer than it takes to be trusted again.
        std::thread::sleep(Duration::from_millis(3500));
        let print = Footprint::of(daemon.pid());
        if n % 20 == 19 || n + 1 == cuts {
            println!(
                "after {:3} cuts: {:.1} MiB, {} files, {} threads",
                n + 1,
                print.rss_mib,
                print.files,
                print.threads
            );
        }
        prints.push(print);
    }
    let during = rate(from, since);
    for what in ["server killed and restarted", "server frozen for 3 s", "connection cut"] {
        let mut times: Vec<f64> = back.iter().filter(|(_, w)| *w == what).map(|(t, _)| *t).collect();
        times.sort_by(f64::total_cmp);
        let (middle, most) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{what}: {} times, back after {middle:.1} s (median), {most:.1} s (most)", times.len());
    }
    println!(
        "steady camera: {before:.2} fps before, {during:.2} fps during {cuts} cuts in {:.0} s",
        since.elapsed().as_secs_f64()
    );
    in_order(&all.json());
    assert!((before - during).abs() < 0.5, "{before} then {during}");
    let most = |prints: &[Footprint], f: fn(&Footprint) -> f64| prints.iter().map(f).fold(0.0, f64::max);
    let (early, late) = prints.split_at(prints.len() / 2);
    let early = &early[settled.min(early.len() - 1)..];
    assert!(most(late, |p| p.files as f64) <= most(early, |p| p.files as f64) + 2.0, "open files grow");
    assert!(most(late, |p| p.threads as f64) <= most(early, |p| p.threads as f64) + 2.0, "threads grow");
    assert!(most(late, |p| p.rss_mib) <= most(early, |p| p.rss_mib) * 1.05 + 4.0, "memory grows");
    assert!(daemon.terminate(5).success());
}
