//! A changed configuration comes into force while everything runs: only what has changed restarts, and a wrong file changes nothing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::commands::Room;
use crate::support::broker::Broker;
use crate::support::daemon::{Daemon, config};
use crate::support::{eventually, root};

fn camera(name: &str, more: &str, source: &str) -> String {
    format!("[[cameras]]\nname = \"{name}\"\n{more}\nsource.synthetic = {{ width = 320, height = 240, {source} }}\n")
}

fn hang_up(daemon: &Daemon) {
    assert!(Command::new("kill").args(["-HUP", &daemon.pid().to_string()]).status().unwrap().success());
}

fn state(broker: &Broker, camera: &str) -> Option<Value> {
    broker.retained(&format!("inspect/v1/test/gw/cameras/{camera}/state"))
}

fn write(dir: &Path, url: &str, cameras: &[String]) -> std::path::PathBuf {
    config(dir, url, &cameras.concat())
}

/// Pictures between a camera's first and last result that have none, which only a machine that is too slow may have.
fn left_out(results: &[Value]) -> u64 {
    let numbers: Vec<u64> = results.iter().map(|result| result["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    numbers[numbers.len() - 1] - numbers[0] + 1 - numbers.len() as u64
}

#[test]
fn only_what_has_changed_restarts() {
    let (room, dir) = (Room::new(), tempfile::tempdir().unwrap());
    let url = room.broker.url();
    let steady = camera("steady", "", "rate = 8.0");
    let results = room.broker.subscribe("inspect/v1/test/gw/cameras/steady/results");
    let changed = room.broker.subscribe("inspect/v1/test/gw/cameras/other/results");
    let path =
        write(dir.path(), &url, &[steady.clone(), camera("other", "", "rate = 6.0"), camera("gone", "", "rate = 2.0")]);
    let daemon = Daemon::start(&path);
    eventually(30, "all three are inspected", || {
        ["steady", "other", "gone"]
            .iter()
            .all(|name| state(&room.broker, name).is_some_and(|s| s["inspected"].as_u64() > Some(3)))
            .then_some(())
    });

    // Another sensitivity needs no other source; a camera goes, and one comes.
    let cameras = [
        steady.clone(),
        camera("other", "sensitivity = 1.5\nroi = [0.0, 0.0, 0.5, 1.0]", "rate = 6.0"),
        camera("new", "", "rate = 3.0"),
    ];
    write(dir.path(), &url, &cameras);
    hang_up(&daemon);
    daemon.wait_for_log(20, "cameras.other.sensitivity: 1.0 -> 1.5");
    for line in ["configuration: - cameras.gone: synthetic", "configuration: + cameras.new: synthetic", "is in force"] {
        daemon.wait_for_log(10, line);
    }
    eventually(20, "the new camera is inspected", || {
        state(&room.broker, "new").filter(|s| s["inspected"].as_u64() > Some(3))
    });
    eventually(10, "the state of the camera that is gone is cleared", || {
        state(&room.broker, "gone").is_none().then_some(())
    });
    eventually(20, "the gateway names its cameras", || {
        let state = room.broker.retained("inspect/v1/test/gw/state")?;
        (state["cameras"] == json!(["steady", "other", "new"])).then_some(())
    });
    // Another source restarts its camera alone.
    write(
        dir.path(),
        &url,
        &[
            steady.clone(),
            camera("other", "sensitivity = 1.5\nroi = [0.0, 0.0, 0.5, 1.0]", "rate = 9.0"),
            camera("new", "", "rate = 3.0"),
        ],
    );
    let reply = room.ask("reload", "1", &json!({}));
    assert_eq!(reply["ok"], true, "{reply}");
    assert_eq!(reply["result"]["changes"], json!(["cameras.other.source.synthetic.rate: 6.0 -> 9.0"]));
    assert_eq!(reply["result"]["cameras"], json!([{ "did": "restarted", "camera": "other" }]));
    assert_eq!(reply["result"]["reconnected"], false);
    let reply = room.ask("reload", "2", &json!({}));
    assert_eq!((&reply["result"]["changes"], &reply["result"]["cameras"]), (&json!([]), &json!([])));
    eventually(20, "its new rate", || state(&room.broker, "other").filter(|s| s["fps"].as_f64() > Some(7.5)));
    for (name, results) in [("steady", &results), ("other", &changed)] {
        let results = results.json();
        let state = state(&room.broker, name).unwrap();
        let dropped = state["dropped"].as_u64().unwrap();
        println!("{name}: {} results, {} pictures left out", results.len(), left_out(&results));
        // The state is up to ten seconds older than the results.
        assert!(results.len() > 20 && left_out(&results) <= dropped + 20, "{name}: {state}");
        assert!(results.iter().all(|result| result["outcome"] != "no_verdict"), "{name}");
    }
    assert_eq!(state(&room.broker, "steady").unwrap()["reopened"], 0);
    assert!(daemon.terminate(5).success());
}

#[test]
fn asked_before_it_listens_it_reloads_as_soon_as_it_does() {
    let (room, dir) = (Room::new(), tempfile::tempdir().unwrap());
    let path = write(dir.path(), &room.broker.url(), &[camera("a", "", "rate = 5.0")]);
    let daemon = Daemon::start(&path);
    // As early as the process can be told not to die of it: its program has begun, its model is not there yet.
    let status = format!("/proc/{}/status", daemon.pid());
    let heeds = || {
        let text = std::fs::read_to_string(&status).ok()?;
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim().to_owned();
        (u64::from_str_radix(&caught, 16).ok()? & 1 == 1).then_some(())
    };
    eventually(5, "it has begun", heeds);
    hang_up(&daemon);
    daemon.wait_for_log(30, "the configuration has not changed");
    assert!(daemon.log().find("answers its golden").unwrap() < daemon.log().find("has not changed").unwrap());
    assert!(daemon.terminate(5).success());
}

#[test]
fn a_wrong_file_is_refused_whole() {
    let (room, dir) = (Room::new(), tempfile::tempdir().unwrap());
    let url = room.broker.url();
    let path = write(dir.path(), &url, &[camera("a", "", "rate = 5.0")]);
    let good = std::fs::read_to_string(&path).unwrap();
    let daemon = Daemon::start(&path);
    eventually(30, "it is inspected", || state(&room.broker, "a").filter(|s| s["inspected"].as_u64() > Some(3)));
    let second = camera("b", "", "rate = 5.0");
    for (n, (text, message)) in [
        (format!("{good}\n{second}fsp = 3\n"), "unknown field `fsp`"),
        (
            format!("{good}\n{}", camera("b", "classes = [\"wood/*\"]", "rate = 1.0")),
            "classes of camera b: no class is called wood/*",
        ),
        (
            format!("{good}\n{second}").replace("threads = 2", "threads = 1"),
            "model.threads can change at a start alone: restart inspectd",
        ),
        (format!("{good}\n{}", camera("b", "model = { bundle = \"nowhere\" }", "rate = 1.0")), "the model of camera b"),
        ("half a fi".to_owned(), "is not TOML"),
    ]
    .into_iter()
    .enumerate()
    {
        std::fs::write(&path, text).unwrap();
        let reply = room.ask("reload", &format!("bad-{n}"), &json!({}));
        assert_eq!(reply["ok"], false, "{reply}");
        assert!(reply["error"].as_str().unwrap().contains(message), "{reply}");
        println!("{}", reply["error"].as_str().unwrap());
        daemon.wait_for_log(5, "is refused, the one before stays in force");
        assert_eq!(room.broker.retained("inspect/v1/test/gw/state").unwrap()["cameras"], json!(["a"]));
    }
    let before = state(&room.broker, "a").unwrap()["inspected"].as_u64();
    eventually(20, "it still is", || {
        state(&room.broker, "a").filter(|s| s["inspected"].as_u64() > before && s["reopened"] == 0)
    });
    assert!(daemon.terminate(5).success());
}

#[test]
fn another_broker_and_other_alarms_without_a_restart() {
    let (first, second, dir) = (Broker::start(), Broker::start(), tempfile::tempdir().unwrap());
    let scene = "scene = \"boards\", seed = 3, rate = 6.0, speed = 640.0, defects_per_frame = 0.9";
    let boards = format!("[[cameras]]\nname = \"boards\"\nsource.synthetic = {{ {scene} }}\n");
    let path = config(dir.path(), &first.url(), &boards);
    let daemon = Daemon::start(&path);
    let before = first.subscribe("inspect/v1/test/gw/events");
    eventually(40, "alarms", || (before.json().len() > 3).then_some(()));
    let after = second.subscribe("inspect/v1/test/gw/events");
    let rules = "[[alarm.rules]]\nseverity = \"critical\"\n";
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace(&first.url(), &second.url())
        .replace("[[cameras]]", &format!("{rules}[[cameras]]"));
    std::fs::write(&path, text).unwrap();
    hang_up(&daemon);
    daemon.wait_for_log(10, "the connection is made anew");
    let events = eventually(30, "alarms at the other broker", || {
        Some(after.json()).filter(|events| events.iter().any(|e| e["severity"] == "critical"))
    });
    // No event is lost on the way from one to the other.
    let mut numbers: Vec<u64> =
        before.json().iter().chain(&events).map(|event| event["seq"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (numbers[0]..=numbers[numbers.len() - 1]).collect::<Vec<_>>());
    eventually(10, "the old broker says that it is gone", || {
        (first.retained("inspect/v1/test/gw/state")?["online"] == false).then_some(())
    });
    std::thread::sleep(Duration::from_millis(100));
    assert!(daemon.terminate(5).success());
}

#[test]
fn a_camera_may_have_a_model_of_its_own() {
    let (room, dir) = (Room::new(), tempfile::tempdir().unwrap());
    let base = root().join("models/base");
    let usual = camera("usual", "", "rate = 5.0");
    let path = write(dir.path(), &room.broker.url(), std::slice::from_ref(&usual));
    let daemon = Daemon::start(&path);
    eventually(30, "it is inspected", || state(&room.broker, "usual").filter(|s| s["inspected"].as_u64() > Some(3)));
    let model = format!("model = {{ bundle = \"{}\", classes = [\"pcb/*\"], input = 256 }}", base.display());
    let boards = "scene = \"boards\", seed = 3, rate = 4.0, speed = 640.0, defects_per_frame = 0.9";
    let own = format!("[[cameras]]\nname = \"own\"\n{model}\nsource.synthetic = {{ {boards} }}\n");
    write(dir.path(), &room.broker.url(), &[usual.clone(), own.clone()]);
    let events = room.broker.subscribe("inspect/v1/test/gw/events");
    let reply = room.ask("reload", "1", &json!({}));
    assert_eq!(reply["result"]["cameras"], json!([{ "did": "started", "camera": "own" }]), "{reply}");
    daemon.wait_for_log(5, "has a model of its own");
    let event = eventually(60, "an alarm of its model", || {
        events.json().into_iter().find(|e| e["camera"] == "own" && e["kind"] == "defect")
    });
    assert!(event["class"].as_str().unwrap().starts_with("pcb/"), "{event}");
    let shipped = room.broker.retained("inspect/v1/test/gw/state").unwrap()["bundle"].clone();
    assert_ne!(event["model"]["sha256"], shipped["sha256"], "another model says so");
    for name in ["usual", "own"] {
        let state = state(&room.broker, name).unwrap();
        assert_eq!((&state["no_verdict"], &state["state"]), (&json!(0), &json!("streaming")), "{state}");
    }
    // Gone with its camera, so that it is started anew with the next one.
    let threads = |daemon: &Daemon| std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count();
    let with = threads(&daemon);
    write(dir.path(), &room.broker.url(), std::slice::from_ref(&usual));
    assert_eq!(room.ask("reload", "2", &json!({}))["ok"], true);
    assert!(threads(&daemon) < with, "its threads are gone");
    write(dir.path(), &room.broker.url(), &[usual, own]);
    assert_eq!(room.ask("reload", "3", &json!({}))["ok"], true);
    assert_eq!(daemon.log().matches("has a model of its own").count(), 2);
    let seen = || state(&room.broker, "own").filter(|s| s["state"] == "streaming" && s["inspected"].as_u64() > Some(2));
    eventually(30, "it is inspected again", seen);
    assert!(daemon.terminate(5).success());
}
