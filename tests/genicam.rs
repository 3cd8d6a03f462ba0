//! GigE Vision, against Aravis's fake camera.

use std::process::Command;
use std::time::{Duration, Instant};

use inspectd::config::{Config, Limits, SourceConfig};
use inspectd::frame::PixelFormat;
use inspectd::frame::source::{self, FrameSource, Next};
use inspectd::stop::Stop;
use serde_json::Value;

use crate::commands::Room;
use crate::support::broker::Broker;
use crate::support::daemon::{Daemon, config};
use crate::support::genicam::FakeCamera;
use crate::support::{INSPECTD, eventually, soak};

fn listed(args: &[&str]) -> String {
    let out = Command::new(INSPECTD).args(["cameras", "list"]).args(args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn parsed(camera: &str) -> SourceConfig {
    let text = format!(
        "[gateway]\nsite = \"s\"\nname = \"g\"\nstate_dir = \"s\"\n[mqtt]\nurl = \"mqtt://localhost\"\n[model]\n\
         bundle = \"b\"\n{camera}"
    );
    Config::parse(&text, "f.toml").unwrap_or_else(|e| panic!("{e}\n{camera}")).cameras.remove(0).source
}

/// Opens the fake camera with more keys.
fn open(keys: &str) -> anyhow::Result<Box<dyn FrameSource>> {
    let source = parsed(&format!("[[cameras]]\nname = \"c\"\nsource.genicam = {{ camera = {keys} }}\n"));
    source::open(&source, &Limits::default(), &Stop::default())
}

fn error(keys: &str) -> String {
    match open(keys) {
        Ok(_) => panic!("it was opened with {keys}"),
        Err(e) => format!("{e:#}"),
    }
}

fn picture(source: &mut dyn FrameSource) -> (inspectd::frame::Image, Option<Duration>) {
    eventually(10, "a picture", || match source.next(Instant::now()).unwrap() {
        Next::Picture { image, clock } => Some((image, clock)),
        _ => None,
    })
}

fn state(broker: &Broker) -> Option<Value> {
    broker.retained("inspect/v1/test/gw/cameras/press/state")
}

fn inspected(broker: &Broker) -> u64 {
    state(broker).and_then(|s| s["inspected"].as_u64()).unwrap_or(0)
}

/// Open files and resident MiB of a process.
fn uses(pid: u32) -> (usize, u64) {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    (files, rss.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024)
}

#[test]
fn it_is_listed_and_its_snippet_works() {
    let camera = FakeCamera::start("LIST");
    let lines = listed(&["--json", "--interface", "gige"]);
    println!("{lines}");
    let found: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let fake = found.iter().find(|d| d["id"] == camera.id().as_str()).expect("the fake camera");
    assert_eq!((&fake["kind"], &fake["state"]), (&Value::from("genicam"), &Value::from("free")));
    assert_eq!((&fake["protocol"], &fake["address"]), (&Value::from("GigEVision"), &Value::from("127.0.0.1")));
    let text = listed(&[]);
    println!("{text}");
    assert!(text.contains("[[cameras]]\n  name = \"fake-list\"\n  source.genicam = { camera = \"Aravis-Fake-LIST\" }"));
    let source = parsed(fake["snippet"].as_str().unwrap());
    let mut open = source::open(&source, &Limits::default(), &Stop::default()).unwrap();
    let (image, clock) = picture(&mut *open);
    assert_eq!((image.width, image.height, image.format), (512, 512, PixelFormat::Mono8));
    let later = picture(&mut *open).1.unwrap();
    assert!(later > clock.unwrap() && later < clock.unwrap() + Duration::from_secs(2), "{clock:?} {later:?}");
    // While this process has it, another one is told so.
    let busy = listed(&["--interface", "gige"]);
    assert!(busy.contains("in use"), "{busy}");
}

#[test]
fn it_is_known_by_each_of_its_names_and_set_as_asked() {
    let _camera = FakeCamera::start("SET1");
    for key in ["Aravis-Fake-SET1", "SET1", "127.0.0.1", "00:00:00:00:00:00"] {
        let mut source = open(&format!("\"{key}\"")).unwrap_or_else(|e| panic!("{key}: {e:#}"));
        picture(&mut *source);
        println!("found by {key}");
    }
    let keys = "\"SET1\", width = 256, height = 128, offset_x = 16, pixel_format = \"BayerRG8\", exposure_us = 2000.0, \
        gain = 3.0, frame_rate = 40.0, features = { BinningVertical = 1, TestBoolean = true, GainAuto = \"Off\" }";
    let mut source = open(keys).unwrap();
    let (image, _) = picture(&mut *source);
    assert_eq!((image.width, image.height, image.format), (256, 128, PixelFormat::Rgb8));
    let begun = Instant::now();
    (0..20).for_each(|_| drop(picture(&mut *source)));
    let rate = 20.0 / begun.elapsed().as_secs_f64();
    assert!((20.0..=60.0).contains(&rate), "{rate} pictures a second");
    drop(source);
    for (format, expected) in [("RGB8", PixelFormat::Rgb8), ("Mono16", PixelFormat::Mono8)] {
        let mut source = open(&format!("\"SET1\", pixel_format = \"{format}\"")).unwrap();
        assert_eq!(picture(&mut *source).0.format, expected, "{format}");
    }

    let first = open("\"SET1\"").unwrap();
    let busy = error("\"SET1\"");
    assert!(busy.contains("controlled by another program"), "{busy}");
    drop(first);
    for (keys, words) in [
        ("\"SET1\", exposure_us = 5.0", "exposure_us: 5 is out of the camera's range, 10 to 10000000"),
        ("\"SET1\", gain = 99.0", "gain: 99 is out of the camera's range, 0 to 10"),
        ("\"SET1\", exposure_auto = \"continuous\"", "no ExposureAuto"),
        ("\"SET1\", pixel_format = \"Mono12p\"", "has no Mono12p; it has BayerBG8"),
        ("\"SET1\", width = 9000", "width: 9000 is out of the camera's range, 1 to "),
        ("\"SET1\", chunks = [\"Timestamp\"]", "chunks: the camera appends no data"),
        ("\"SET1\", trigger = \"line\", trigger_source = \"Line7\"", "has no Line7; it has Line0"),
        (
            "\"SET1\", trigger = \"line\", trigger_source = \"Line0\", trigger_activation = \"AnyEdge\"",
            "it has RisingEdge",
        ),
        ("\"SET1\", features = { Sharpness = 1 }", "features.Sharpness: the camera has no such feature"),
        (
            "\"SET1\", features = { BinningVertical = 99 }",
            "features.BinningVertical: 99 is out of the camera's range, 1 to 16",
        ),
        ("\"SET1\", features = { TestBoolean = 3 }", "it takes true or false, not 3"),
        ("\"SET1\", features = { GainAuto = \"Sometimes\" }", "has no Sometimes; it has Off, Once, Continuous"),
        ("\"absent\"", "no GenICam camera \"absent\" answers"),
    ] {
        let found = error(keys);
        println!("{found}");
        assert!(found.contains(words), "{keys}: {found}");
    }
}

#[test]
fn a_software_trigger_takes_one_picture_each() {
    let mut camera = FakeCamera::start("TRIG");
    let mut source = open("\"TRIG\", trigger = \"software\"").unwrap();
    let quiet = Instant::now() + Duration::from_secs(3);
    while Instant::now() < quiet {
        assert!(matches!(source.next(Instant::now()).unwrap(), Next::Idle), "a picture without a trigger");
    }
    for n in 0..5 {
        source.fire().unwrap();
        picture(&mut *source);
        assert!(matches!(source.next(Instant::now()).unwrap(), Next::Idle), "two pictures after trigger {n}");
    }
    assert_eq!(source.transport().unwrap().completed, 5);
    // It is missed though nothing is expected of it.
    camera.kill();
    let begun = Instant::now();
    let lost = eventually(15, "the loss is noticed", || source.next(Instant::now()).err());
    println!("without a trigger the loss was noticed after {:.1} s: {lost:#}", begun.elapsed().as_secs_f64());
    assert!(begun.elapsed() < Duration::from_secs(9));
    let begun = Instant::now();
    drop(source);
    assert!(begun.elapsed() < Duration::from_secs(1), "nobody waits for a camera that is gone");
}

#[test]
fn incomplete_pictures_are_counted_and_never_inspected() {
    let _camera = FakeCamera::start_with("LOSS", &["-r", "5"]);
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let results = broker.subscribe("inspect/v1/test/gw/cameras/press/results");
    let camera = "[[cameras]]\nname = \"press\"\nsource.genicam = { camera = \"LOSS\" }\n";
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), camera));
    let counts = eventually(60, "incomplete pictures and whole ones", || {
        state(&broker).filter(|s| s["no_verdict"].as_u64() > Some(3) && s["inspected"].as_u64() > Some(3))
    });
    println!("{counts}");
    let transport = &counts["transport"];
    let count = |value: &Value| value.as_u64().unwrap();
    assert!(count(&transport["incomplete"]) >= count(&counts["no_verdict"]), "{counts}");
    assert!(count(&transport["missing"]) > 0, "{counts}");
    assert!(count(&transport["completed"]) >= count(&counts["inspected"]), "{counts}");
    let said = results.json();
    let failed: Vec<&Value> = said.iter().filter(|r| r["outcome"] == "no_verdict").collect();
    assert!(!failed.is_empty());
    for result in failed {
        assert!(result["reason"].as_str().unwrap().contains("did not come whole"), "{result}");
        assert!(result["findings"].as_array().unwrap().is_empty(), "{result}");
    }
    assert!(daemon.terminate(5).success());
}

/// Kills and restarts the camera; gives the seconds from each restart to the next inspected picture.
fn outages(camera: &mut FakeCamera, broker: &Broker, rounds: usize, pause: impl Fn(usize) -> Duration) -> Vec<f64> {
    let results = broker.subscribe("inspect/v1/test/gw/cameras/press/results");
    let good = || results.json().iter().filter(|r| r["outcome"] != "no_verdict").count();
    let mut recoveries = Vec::new();
    for round in 0..rounds {
        eventually(30, "pictures are inspected", || (good() > 0).then_some(()));
        std::thread::sleep(pause(round));
        camera.kill();
        // Some outages are short, some long enough to be noticed before the camera is back.
        std::thread::sleep(Duration::from_secs_f64([0.5, 4.0, 9.0, 14.0][round % 4]));
        let before = good();
        let back = camera.up();
        eventually(60, "inspected again", || (good() > before).then_some(()));
        recoveries.push(back.elapsed().as_secs_f64());
        println!("outage {}: inspected again after {:.2} s", round + 1, back.elapsed().as_secs_f64());
    }
    recoveries
}

#[test]
fn it_comes_back_after_every_outage() {
    let mut camera = FakeCamera::start("BACK");
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let text = "[[cameras]]\nname = \"press\"\nfps = 10.0\nsource.genicam = { camera = \"BACK\" }\n";
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), text));
    let rounds = if soak() { 20 } else { 2 };
    let begun = Instant::now();
    eventually(60, "the first pictures", || (inspected(&broker) > 10).then_some(()));
    let before = uses(daemon.pid());
    let every = if soak() { Duration::from_secs(22) } else { Duration::from_secs(1) };
    let mut recoveries = outages(&mut camera, &broker, rounds, |_| every);
    if soak() {
        std::thread::sleep(Duration::from_secs(600).saturating_sub(begun.elapsed()));
    }
    // What the last outage has left behind has had its time-outs by then.
    let after =
        eventually(30, "no file is left open", || Some(uses(daemon.pid())).filter(|after| after.0 <= before.0 + 4));
    recoveries.sort_by(f64::total_cmp);
    println!(
        "{rounds} outages in {:.0} s: recovery p50 {:.2} s, at most {:.2} s; files {} then {}, memory {} then {} MiB; {}",
        begun.elapsed().as_secs_f64(),
        recoveries[recoveries.len() / 2],
        recoveries[recoveries.len() - 1],
        before.0,
        after.0,
        before.1,
        after.1,
        state(&broker).unwrap()
    );
    assert!(recoveries.iter().all(|s| *s < 20.0), "{recoveries:?}");
    assert!(after.1 < before.1 + 60, "{before:?} then {after:?} MiB");
    let found = state(&broker).unwrap();
    assert!(found["reopened"].as_u64().unwrap() >= rounds as u64, "{found}");
    let begun = Instant::now();
    let pid = daemon.pid().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let numbers: Vec<u64> = eventually(6, "the summary", || {
        let log = daemon.log();
        let line = log.lines().find(|l| l.contains("pictures:") && l.contains("camera=press"))?;
        let tail = line.split("INFO").nth(1)?.split(';').next()?;
        Some(tail.split_whitespace().filter_map(|w| w.parse().ok()).collect())
    });
    let &[captured, inspected, no_verdict, dropped] = numbers.as_slice() else { panic!("{numbers:?}") };
    println!(
        "captured {captured} = inspected {inspected} + without verdict {no_verdict} + dropped {dropped} (+ at most 1 waiting)"
    );
    assert!(captured - inspected - no_verdict - dropped <= 1);
    // Its control was given back: nobody has to wait for the camera's own time-out of 3 s.
    eventually(6, "the daemon ends", || std::fs::metadata(format!("/proc/{pid}/exe")).is_err().then_some(()));
    let mut next =
        open("\"BACK\"").unwrap_or_else(|e| panic!("{:.1} s after the end: {e:#}", begun.elapsed().as_secs_f64()));
    picture(&mut *next);
}

#[test]
fn a_command_fires_a_camera_that_waits_for_it() {
    let (_camera, room, dir) = (FakeCamera::start("CMD"), Room::new(), tempfile::tempdir().unwrap());
    let cameras = "[[cameras]]\nname = \"press\"\ntrigger = { on = \"command\", deadline_ms = 3000.0 }\n\
        source.genicam = { camera = \"CMD\", trigger = \"software\" }\n";
    let daemon = Daemon::start(&config(dir.path(), &room.broker.url(), cameras));
    daemon.wait_for_log(30, "connected");
    daemon.wait_for_log(30, "CMD gives");
    for n in 0..4 {
        let reply = room.ask("trigger", &format!("t-{n}"), &serde_json::json!({ "camera": "press" }));
        assert_eq!(reply["ok"], true, "{reply}");
        let waited = reply["result"]["captured_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
            - reply["result"]["triggered_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        println!("captured {waited} after the command");
    }
    let state = eventually(15, "the counts", || state(&room.broker).filter(|s| s["triggers"]["fired"] == 4));
    assert_eq!(
        (&state["captured"], &state["triggers"]["missed"]),
        (&serde_json::json!(4), &serde_json::json!(0)),
        "{state}"
    );
    assert!(daemon.terminate(5).success());
}
