//! Updates through the real binary and real mosquitto: taken, refused, given up, approved, rolled back.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inspectd::mqtt::link::{Event, Link, LinkOptions};
use serde_json::Value;

use crate::session::{options, runtime};
use crate::support::daemon::Daemon;
use crate::support::plant::{Plant, said};
use crate::support::{INSPECTD, bundle, eventually, root, soak};

const CAMERA: &str = "[[cameras]]\nname = \"strip\"\nsource.synthetic = {}\n";

#[test]
fn an_update_is_pushed_tried_out_and_committed_while_inspection_goes_on() {
    let plant = Plant::new();
    let daemon = plant.ready("");
    let results = plant.broker.subscribe("inspect/v1/test/gw/cameras/boards/results");
    let new = plant.bundle("1.2.0", |_| {});
    let release = plant.sign(&new, "5", &[]);
    let out = plant.push(&release, &new);
    assert!(out.status.success() && said(&out).contains("gw: committed"), "{}\n{}", said(&out), daemon.log());
    let reported = plant.reported();
    assert_eq!((reported["phase"].as_str(), reported["floor"].as_u64()), (Some("committed"), Some(5)), "{reported}");
    assert_eq!(reported["shadow"]["agreement"], 1.0, "{reported}");
    let needed = reported["needed"].as_u64().unwrap();
    assert!(needed < 20_000, "of all but bundle.json it has every chunk: {needed} bytes");
    eventually(20, "the state names the new bundle", || {
        (plant.broker.retained("inspect/v1/test/gw/state")?["bundle"]["version"] == "1.2.0").then_some(())
    });
    // Frames were inspected one after the other, without one that was left out by the swap.
    let seqs: Vec<u64> = results.json().iter().map(|r| r["seq"].as_u64().unwrap()).collect();
    let gaps: Vec<_> = seqs.windows(2).filter(|w| w[1] != w[0] + 1).collect();
    assert!(gaps.len() <= seqs.len() / 20, "{gaps:?} of {}", seqs.len());
    assert!(daemon.terminate(5).success());
    // What was taken stays, and is not taken twice.
    let again = plant.gateway("");
    again.wait_for_log(30, "version=1.2.0");
    plant.wait_for("it says so", |r| r["active"]["version"] == "1.2.0" && r["phase"] == "committed");
    // Without their chunks on the broker: a state is all that is left.
    assert!(!plant.broker.retains("inspect/v1/test/blobs/#"), "chunks are removed after a rollout");
    let status = plant.model(&["status", "--broker", &plant.broker.url(), "--of", "test/*"]);
    assert!(status.contains("committed") && status.contains("1.2.0"), "{status}");
}

#[test]
fn what_is_not_signed_or_not_wanted_is_refused_and_says_why() {
    let plant = Plant::new();
    let _daemon = plant.ready("");
    let new = plant.bundle("1.2.0", |_| {});
    let release = plant.sign(&new, "5", &["--gateway", "another"]);
    let desired = |release: &str| std::fs::read(plant.path(release).join("desired.json")).unwrap();
    let refused = |payload: &[u8], reason: &str| {
        plant.desired(payload);
        let reported = plant.wait_for(reason, |r| r["reason"].as_str().is_some_and(|text| text.contains(reason)));
        assert_eq!(reported["active"]["version"], "1.1.0");
    };
    refused(&desired(&release), "it is for the gateways another, not for gw");
    refused(b"{", "it does not say what is wanted");
    let release = plant.sign(&new, "6", &["--min-agent", "99.0.0"]);
    refused(&desired(&release), "it needs inspectd 99.0.0");
    let mut tampered = desired(&release);
    let at = tampered.windows(6).position(|w| w == b"counte").unwrap();
    tampered[at + 12] ^= 1;
    refused(&tampered, "does not hold");
    plant.model(&["keygen", "--no-password", "other"]);
    let bundle = new.display().to_string();
    plant.model(&["sign", "--bundle", &bundle, "--key", "other.key", "--counter", "7", "--out", "foreign"]);
    refused(&desired("foreign"), "which is not trusted here");
    assert!(!plant.path("state/model").exists(), "nothing of it was fetched");
}

#[test]
fn a_camera_is_not_left_without_what_it_looks_for_and_check_knows_what_runs() {
    let plant = Plant::new();
    let only = |classes: &str| {
        let path = plant.config("", &bundle().display().to_string());
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace("name = \"boards\"", &format!("name = \"boards\"\nclasses = {classes}"));
        std::fs::write(&path, text).unwrap();
        path
    };
    let config = only("[\"pcb/*\"]");
    let daemon = Daemon::start(&config);
    daemon.wait_for_log(30, "connected");
    eventually(20, "the gateway's report", || plant.reported().is_object().then_some(()));
    let without = plant.bundle("1.2.0", |manifest| {
        for class in manifest["classes"].as_array_mut().unwrap() {
            class["name"] = class["name"].as_str().unwrap().replace("pcb/", "board/").into();
        }
    });
    let out = plant.push(&plant.sign(&without, "5", &[]), &without);
    let words =
        "camera boards would be blind: change `classes` of the camera, then sign it again: no class is called pcb/*";
    assert!(!out.status.success() && said(&out).contains(words), "{}\n{}", said(&out), daemon.log());
    assert_eq!(plant.reported()["active"]["version"], "1.1.0");
    // Where it looks for all, nothing is missing.
    only("[\"*\"]");
    assert!(Command::new("kill").args(["-HUP", &daemon.pid().to_string()]).status().unwrap().success());
    daemon.wait_for_log(10, "cameras.boards.classes");
    let out = plant.push(&plant.sign(&without, "6", &[]), &without);
    assert!(out.status.success(), "{}\n{}", said(&out), daemon.log());
    assert!(daemon.terminate(5).success());
    // What is configured is another one.
    let check = || said(&Command::new(INSPECTD).args(["check", "--config"]).arg(&config).output().unwrap());
    let lines = check();
    assert!(lines.contains("1.2.0 (by an update; "), "{lines}");
    only("[\"pcb/*\"]");
    assert!(check().contains("WRONG model bundle: classes of camera boards: no class is called pcb/*"), "{}", check());
}

#[test]
fn a_push_that_is_called_off_leaves_nothing_behind_and_one_to_nobody_says_so() {
    let plant = Plant::new();
    let new = plant.bundle("1.2.0", |_| {});
    let release = plant.sign(&new, "5", &["--approve"]);
    // Without keys a gateway takes nothing, which is said before anything is sent.
    let config = crate::support::daemon::config_with(plant.dir.path(), &plant.broker.url(), "", CAMERA);
    let daemon = Daemon::start(&config);
    daemon.wait_for_log(30, "connected");
    eventually(20, "the gateway's state", || plant.broker.retained("inspect/v1/test/gw/state"));
    let out = plant.push(&release, &new);
    assert!(!out.status.success() && said(&out).contains("no gateway of test/* takes updates"), "{}", said(&out));
    assert!(!plant.broker.retains("inspect/v1/test/blobs/#"));
    drop(daemon);

    let _daemon = plant.ready("");
    for signal in ["INT", "TERM"] {
        let mut push = plant.pushing_away(&release, &new);
        plant.wait_for("it waits for approval", |r| r["phase"] == "shadow" && r["progress"].as_f64() > Some(0.9));
        assert!(plant.broker.retains("inspect/v1/test/blobs/#"), "until then its chunks are there");
        let killed = Command::new("kill").args([&format!("-{signal}"), &push.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let ended = eventually(20, "it ends", || push.try_wait().unwrap());
        assert!(!ended.success());
        for topic in ["inspect/v1/test/gw/model/desired", "inspect/v1/test/blobs/#"] {
            assert!(!plant.broker.retains(topic), "{topic} is left behind");
        }
        plant.wait_for("the gateway has let go of it", |r| r["candidate"].is_null());
    }
}

#[test]
fn a_bundle_that_does_not_prove_itself_is_given_up_and_the_old_one_inspects_on() {
    let plant = Plant::new();
    let daemon = plant.ready("");
    // A golden vector that this runtime does not compute.
    let bad = plant.bundle("1.3.0", |m| m["golden"]["tolerance"] = 1e-9.into());
    let release = plant.sign(&bad, "5", &[]);
    let out = plant.push(&release, &bad);
    assert!(
        !out.status.success() && said(&out).contains("this runtime does not compute what was trained"),
        "{}",
        said(&out)
    );
    let reported = plant.reported();
    assert_eq!((reported["phase"].as_str(), &reported["active"]["version"]), (Some("rolled_back"), &"1.1.0".into()));
    assert_eq!(reported["floor"], 0, "it was never taken");
    // One that finds what the active one does not.
    let keen = plant.bundle("1.4.0", |m| {
        for class in m["classes"].as_array_mut().unwrap() {
            class["threshold"] = 0.02.into();
        }
    });
    let release = plant.sign(&keen, "6", &["--max-new-findings", "10"]);
    let out = plant.push(&release, &keen);
    assert!(
        !out.status.success() && said(&out).contains("on 1,000 frames that the active one does not"),
        "{}",
        said(&out)
    );
    let log = daemon.log();
    assert!(daemon.terminate(5).success(), "{log}");
}

#[test]
fn it_waits_for_approval_and_goes_back_when_it_is_told_to() {
    let plant = Plant::new();
    let _daemon = plant.ready("approve = true\n");
    let url = plant.broker.url();
    let new = plant.bundle("1.2.0", |_| {});
    let release = plant.sign(&new, "5", &["--trial-frames", "100000"]);
    let bundle = new.display().to_string();
    let mut push = Command::new(INSPECTD)
        .args(["model", "push", &release, "--bundle", &bundle, "--broker", &url, "--to", "test/gw", "--keep"])
        .current_dir(plant.dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let waiting = |r: &Value| r["reason"] == "it waits for the command approve";
    plant.wait_for("it waits", waiting);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(plant.reported()["active"]["version"], "1.1.0");
    assert!(plant.model(&["approve", "--broker", &url, "--to", "test/gw"]).contains("gw: done"));
    plant.wait_for("trial", |r| r["phase"] == "trial" && r["active"]["version"] == "1.2.0");
    let out = plant.try_model(&["approve", "--broker", &url, "--to", "test/gw"]);
    assert!(!out.status.success() && said(&out).contains("no update waits for approval"), "{}", said(&out));
    assert!(plant.model(&["rollback", "--broker", &url, "--to", "test/gw"]).contains("gw: done"));
    let reported = plant.wait_for("back", |r| r["phase"] == "rolled_back");
    assert_eq!(reported["active"]["version"], "1.1.0", "{reported}");
    assert!(push.wait().unwrap().code() == Some(69), "the push says that it has failed");
}

#[test]
fn what_is_withdrawn_while_the_gateway_is_off_is_not_taken_and_what_was_given_up_has_to_be_signed_again() {
    let plant = Plant::new();
    let daemon = plant.ready("");
    let new = plant.bundle("1.2.0", |_| {});
    let release = plant.sign(&new, "5", &["--approve"]);
    let mut push = plant.pushing(&release, &new);
    plant.wait_for("it waits", |r| r["reason"] == "it waits for the command approve");
    assert!(daemon.terminate(5).success());
    let _ = (push.kill(), push.wait());
    plant.desired(b"");
    let daemon = plant.gateway("");
    plant.wait_for("it is dropped", |r| r["phase"] == "idle" && r["candidate"].is_null());
    assert!(!plant.path("state/model/a.new").exists());
    // Wanted again, and given up by an operator: the same text is not taken any more.
    let desired = std::fs::read(plant.path(&release).join("desired.json")).unwrap();
    plant.desired(&desired);
    plant.wait_for("it waits", |r| r["reason"] == "it waits for the command approve");
    let url = plant.broker.url();
    plant.model(&["rollback", "--broker", &url, "--to", "test/gw"]);
    let reported = plant.wait_for("given up", |r| r["phase"] == "rolled_back");
    assert_eq!(reported["reason"], "rolled back by an operator");
    let next = plant.sign(&new, "6", &[]);
    assert!(plant.push(&next, &new).status.success(), "{}", daemon.log());
    plant.desired(&desired);
    let reason = "it was given up on this gateway, and has to be signed again: rolled back by an operator";
    plant.wait_for("refusal", |r| r["reason"] == reason && r["active"]["version"] == "1.2.0");
}

#[test]
fn frames_and_alarms_go_on_as_before_while_an_update_is_taken() {
    let plant = Plant::new();
    let _daemon = plant.ready("");
    let results = plant.broker.subscribe("inspect/v1/test/gw/cameras/boards/results");
    let delays = Arc::new(Mutex::new(Vec::new()));
    let (sink, options) =
        (Arc::clone(&delays), LinkOptions { lasting: false, ..options(&plant.broker.url(), "listener") });
    let listening = runtime();
    listening.spawn(async move {
        let mut link = Link::connect(&options).await.unwrap();
        link.subscribe("inspect/v1/test/gw/events").unwrap();
        while let Event::Message { payload, .. } = link.next().await {
            let event: Value = serde_json::from_slice(&payload).unwrap();
            let at: jiff::Timestamp = event["at"].as_str().unwrap().parse().unwrap();
            sink.lock().unwrap().push(jiff::Timestamp::now().duration_since(at).as_secs_f64() * 1000.0);
        }
    });
    let span = std::time::Duration::from_secs(if soak() { 30 } else { 5 });
    std::thread::sleep(span);
    let arrived = || delays.lock().unwrap().len();
    let (before, alarms_before) = (results.json().len(), arrived());
    let new = plant.bundle("1.2.0", |_| {});
    let release = plant.sign(&new, "5", &["--shadow-frames", if soak() { "200" } else { "20" }]);
    assert!(plant.push(&release, &new).status.success());
    let (during, alarms_during) = (results.json().len(), arrived());
    std::thread::sleep(span);
    let all = results.json();
    let figures = |part: &[Value]| {
        let seqs: Vec<u64> = part.iter().map(|r| r["seq"].as_u64().unwrap()).collect();
        let span = seqs[seqs.len() - 1] - seqs[0] + 1;
        let mut latencies: Vec<f64> = part.iter().map(|r| r["latency_ms"].as_f64().unwrap()).collect();
        latencies.sort_by(f64::total_cmp);
        (
            seqs.len() as u64,
            span - seqs.len() as u64,
            latencies[latencies.len() / 2],
            latencies[latencies.len() * 99 / 100],
        )
    };
    for (what, part) in [("before", &all[..before]), ("during", &all[before..during]), ("after", &all[during..])] {
        let (frames, left_out, p50, p99) = figures(part);
        println!("{what}: {frames} frames, {left_out} left out, latency p50 {p50:.0} ms, p99 {p99:.0} ms");
    }
    let delays = delays.lock().unwrap().clone();
    for (what, part) in [
        ("before", &delays[..alarms_before]),
        ("during", &delays[alarms_before..alarms_during]),
        ("after", &delays[alarms_during..]),
    ] {
        let mut sorted = part.to_vec();
        sorted.sort_by(f64::total_cmp);
        let of = |share: usize| sorted[(sorted.len() - 1) * share / 100];
        println!(
            "{what}: {} events, from the decision to arrival p50 {:.1} ms, p99 {:.1} ms",
            sorted.len(),
            of(50),
            of(99)
        );
    }
    // Models by which frames were judged change once, and no frame is left out there.
    let events = plant.broker.retained("inspect/v1/test/gw/state").unwrap();
    assert_eq!(events["bundle"]["version"], "1.2.0");
    assert!(figures(&all[before..]).1 <= all.len() as u64 / 10);
}

#[test]
fn an_order_of_a_few_hundred_bytes_makes_a_model_on_the_spot() {
    let plant = Plant::new();
    let base = root().join("models/base").display().to_string();
    let config = plant.config("", &base);
    let daemon = Daemon::start(&config);
    daemon.wait_for_log(60, "connected");
    eventually(20, "the gateway's state", || plant.broker.retained("inspect/v1/test/gw/state"));
    let args =
        ["sign", "--order-from", &base, "--classes", "pcb/*", "--size", "small", "--input", "256", "--key", "line.key"];
    let more = ["--counter", "5", "--out", "order", "--shadow-frames", "10", "--trial-frames", "20"];
    plant.model(&[&args[..], &more].concat());
    let (url, begun) = (plant.broker.url(), std::time::Instant::now());
    let out = plant.try_model(&["push", "order", "--broker", &url, "--to", "test/gw"]);
    assert!(out.status.success(), "{}\n{}", said(&out), daemon.log());
    let reported = plant.reported();
    let name = reported["active"]["name"].as_str().unwrap();
    assert!(name.contains("small") && name.contains("256") && reported["phase"] == "committed", "{reported}");
    let desired = std::fs::metadata(plant.path("order/desired.json")).unwrap().len();
    println!("{desired} bytes, {:.1} s: {name}", begun.elapsed().as_secs_f64());
    assert!(daemon.terminate(5).success());
    let again = Daemon::start(&config);
    again.wait_for_log(60, name);
}

#[test]
fn a_candidate_whose_key_is_revoked_meanwhile_is_dropped_and_may_come_again() {
    let plant = Plant::new();
    let daemon = plant.ready("");
    let new = plant.bundle("1.2.0", |_| {});
    let release = plant.sign(&new, "5", &["--approve"]);
    let mut push = plant.pushing(&release, &new);
    let waits = |r: &Value| r["reason"] == "it waits for the command approve";
    plant.wait_for("it waits", waits);
    assert!(daemon.terminate(5).success());
    let _ = (push.kill(), push.wait());
    let number = std::fs::read_to_string(plant.path("line.pub")).unwrap();
    let number = number.lines().next().unwrap().rsplit(' ').next().unwrap();
    let daemon = plant.gateway(&format!("revoked = [\"{number}\"]\n"));
    let reported = plant.wait_for("it is dropped", |r| r["candidate"].is_null() && r["phase"] == "idle");
    assert!(reported["reason"].as_str().unwrap().contains("which is revoked"), "{reported}");
    assert!(daemon.terminate(5).success());
    let _daemon = plant.gateway("");
    plant.wait_for("it is trusted again, and waits", waits);
}
