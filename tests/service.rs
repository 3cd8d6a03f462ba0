//! What the service manager is told: ready when it is, and alive for as long as every stage makes progress.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::broker::Broker;
use crate::support::daemon::{Daemon, config};
use crate::support::{eventually, soak};

const STRIP: &str = "[[cameras]]\nname = \"strip\"\nsource.synthetic = { rate = 10.0, width = 320, height = 240 }\n";
const AWAY: &str = "[[cameras]]\nname = \"away\"\nsource.v4l2 = { device = \"/dev/video99\" }\n";

/// Where the service manager would listen.
struct Manager(UnixDatagram);

impl Manager {
    fn new(dir: &Path) -> (Self, String) {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        (Self(socket), path.display().to_string())
    }

    /// What it is told next.
    fn hear(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let read = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..read]).into_owned())
    }

    /// When the last ping came, once none has for 6 s.
    fn last_ping(&self, most: Duration) -> Instant {
        let (begun, mut last) = (Instant::now(), Instant::now());
        while last.elapsed() < Duration::from_secs(6) {
            assert!(begun.elapsed() < most, "it pings for ever");
            if self.hear().is_some_and(|text| text.contains("WATCHDOG=1")) {
                last = Instant::now();
            }
        }
        last
    }
}

#[test]
fn it_is_ready_when_the_model_is_and_says_how_it_is() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let (manager, path) = Manager::new(dir.path());
    let daemon = Daemon::start_with(&config(dir.path(), &broker.url(), STRIP), &[("NOTIFY_SOCKET", &path)]);
    let ready = eventually(60, "it is ready", || manager.hear().filter(|text| text.contains("READY=1")));
    assert!(ready.contains("STATUS="), "{ready}");
    assert!(daemon.log().contains("the model answers its golden vectors"), "{}", daemon.log());
    let status =
        eventually(20, "its pictures", || manager.hear().filter(|text| text.contains("1 of 1 cameras stream")));
    assert!(status.contains("WATCHDOG=1"), "{status}");
    assert!(daemon.terminate(5).success());
    eventually(5, "it says that it stops", || manager.hear().filter(|text| text.contains("STOPPING=1")));
}

#[test]
fn a_stage_that_stands_still_stops_the_pings() {
    for stage in ["capture", "inference", "outbox"] {
        let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
        let (manager, path) = Manager::new(dir.path());
        // After some seconds of work; capture goes round ten times a second, the queue with each picture or each second.
        let at = format!("stall.{stage}:20");
        let environment = [("NOTIFY_SOCKET", path.as_str()), ("INSPECTD_FAIL_AT", &at)];
        let daemon = Daemon::start_with(&config(dir.path(), &broker.url(), STRIP), &environment);
        eventually(60, "it lives", || manager.hear().filter(|text| text.contains("WATCHDOG=1")));
        let begun = Instant::now();
        let last = manager.last_ping(Duration::from_secs(40));
        println!("{stage}: the last ping came {:.1} s after the first one", (last - begun).as_secs_f64());
        assert!(last - begun < Duration::from_secs(20), "{stage}");
        let word = if stage == "capture" { "capture of strip has stood still" } else { "has stood still" };
        daemon.wait_for_log(5, word);
        assert!(daemon.log().contains(stage), "{}", daemon.log());
    }
}

/// An hour with `INSPECTD_SOAK=1`, otherwise 25 s: what is waited for is no stuck stage.
#[test]
fn a_broker_and_a_camera_that_are_away_are_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (manager, path) = Manager::new(dir.path());
    let daemon = Daemon::start_with(
        &config(dir.path(), "mqtt://127.0.0.1:1", &format!("{STRIP}{AWAY}")),
        &[("NOTIFY_SOCKET", &path)],
    );
    eventually(60, "it lives", || manager.hear().filter(|text| text.contains("WATCHDOG=1")));
    let until = Instant::now() + Duration::from_secs(if soak() { 3600 } else { 25 });
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    while Instant::now() < until {
        if manager.hear().is_some_and(|text| text.contains("WATCHDOG=1")) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
    }
    println!("the longest time without a ping: {:.1} s", longest.max(last.elapsed()).as_secs_f64());
    assert!(longest.max(last.elapsed()) < Duration::from_secs(5));
    assert!(daemon.terminate(5).success());
}

/// Two cameras as quick as they can be, each picture of which may raise alarms.
const BUSY: &str = r#"
[alarm]
max_active = 50
clear_after = 1
[[cameras]]
name = "steel"
source.synthetic = { seed = 1, rate = 200.0, width = 640, height = 480, speed = 320.0, defects_per_frame = 0.5 }
[[cameras]]
name = "boards"
source.synthetic = { scene = "boards", seed = 2, rate = 200.0, width = 640, height = 480, speed = 640.0, defects_per_frame = 0.5 }
"#;

/// 100 times with `INSPECTD_SOAK=1`, otherwise 3.
#[test]
fn a_stop_at_full_load_is_quick_and_loses_nothing() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let path = config(dir.path(), &broker.url(), BUSY);
    let events = broker.subscribe("inspect/v1/test/gw/events");
    let rounds = if soak() { 100 } else { 3 };
    let mut times = Vec::new();
    for round in 0..rounds {
        let before = events.count();
        let daemon = Daemon::start(&path);
        eventually(60, "alarms come", || (events.count() > before + 5).then_some(()));
        // At another moment of the work each time.
        std::thread::sleep(Duration::from_millis(37 * round % 500));
        let asked = Instant::now();
        let log = daemon.log_handle();
        assert_eq!(daemon.terminate(5).code(), Some(0), "round {round}");
        times.push(asked.elapsed().as_secs_f64());
        // Each picture is accounted for, but for one that waited in the slot of its camera.
        let both = || Some(log()).filter(|text| text.matches(" pictures: ").count() == 2);
        let text = eventually(5, "both summaries", both);
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(" pictures: ")).collect();
        for line in lines {
            let tail = line.split("INFO").nth(1).unwrap().split(';').next().unwrap();
            let numbers: Vec<u64> = tail.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            let [captured, inspected, none, dropped] = numbers[..] else { panic!("{line}") };
            assert!(captured - inspected - none - dropped <= 1, "{line}");
        }
    }
    times.sort_by(f64::total_cmp);
    // What could not be sent in the time of the last stop is sent after the next start, with cameras that show nothing.
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), &BUSY.replace("frame = 0.5", "frame = 0.0")));
    let counts = || broker.retained("inspect/v1/test/gw/state").filter(|state| state["online"] == true);
    let state = eventually(60, "all is sent", || counts().filter(|state| state["outbox"]["queued"] == 0));
    assert!(daemon.terminate(5).success());
    let count = |key: &str| state["outbox"][key].as_u64().unwrap();
    assert_eq!((count("dropped"), count("dead")), (0, 0), "{state}");
    let mut seqs: Vec<u64> = events.json().iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    let all = seqs.len();
    seqs.sort_unstable();
    seqs.dedup();
    println!(
        "{rounds} stops: {:.2} s (median), {:.2} s (most); {} events, {} of them twice",
        times[times.len() / 2],
        times[times.len() - 1],
        seqs.len(),
        all - seqs.len(),
    );
    assert_eq!((seqs[0], *seqs.last().unwrap()), (1, seqs.len() as u64), "no number is missing");
}

/// With `INSPECTD_SOAK=1` also that a store which hangs stops the pings; that takes over a minute.
#[test]
fn the_control_room_says_that_it_lives() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let (manager, path) = Manager::new(dir.path());
    let start = |at: &str, state: &str| {
        let mut command = std::process::Command::new(crate::support::INSPECTD);
        command
            .args(["console", "--listen", "127.0.0.1:0", "--broker", &broker.url(), "--state"])
            .arg(dir.path().join(state));
        let command = command.env("NOTIFY_SOCKET", &path).env("INSPECTD_FAIL_AT", at);
        Ended(command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap())
    };
    let console = start("", "console");
    let ready = eventually(30, "it is ready", || manager.hear().filter(|text| text.contains("READY=1")));
    assert!(ready.contains("STATUS="), "{ready}");
    let word = "connected, 0 of 0 gateways online";
    eventually(20, "it lives", || manager.hear().filter(|text| text.contains("WATCHDOG=1") && text.contains(word)));
    drop(console);
    if soak() {
        let _console = start("stall.store:2", "another");
        eventually(30, "it lives", || manager.hear().filter(|text| text.contains("WATCHDOG=1")));
        manager.last_ping(Duration::from_secs(90));
    }
}

/// kill -9 at the end.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
