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
