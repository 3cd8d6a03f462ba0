//! `inspectd extract`, as an engineer calls it.

use std::process::Command;

use serde_json::Value;

use crate::support::broker::Broker;
use crate::support::daemon::Daemon;
use crate::support::{INSPECTD, root};

fn extract(args: &[&str]) -> std::process::Output {
    let base = root().join("models/base");
    Command::new(INSPECTD).args(["extract", "--from"]).arg(base).args(args).output().unwrap()
}

fn report(args: &[&str]) -> Value {
    let out = extract(&[args, &["--json"]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn a_bundle_for_a_line_is_made_and_can_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let (out, plot) = (dir.path().join("line4"), dir.path().join("sizes.svg"));
    let (out_arg, plot_arg) = (out.to_string_lossy(), plot.to_string_lossy());
    let report = report(&["--out", &out_arg, "--classes", "steel/*", "--max-macs", "200000000", "--plot", &plot_arg]);
    assert!(report["macs"].as_u64().unwrap() <= 200_000_000);
    assert_eq!(report["classes"].as_array().unwrap().len(), 6);
    for key in ["params", "bytes", "latency_ms", "seconds", "expected_map50"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key} of {report}");
    }
    assert!(report["seconds"].as_f64().unwrap() < 2.0, "{report}");
    // Nothing of the front that costs no more is more accurate.
    let within = |row: &&Value| row["macs"].as_u64().unwrap() <= 200_000_000;
    let best = report["table"].as_array().unwrap().iter().filter(within).map(|r| r["expected_map50"].as_f64().unwrap());
    assert!((best.fold(0.0, f64::max) - report["expected_map50"].as_f64().unwrap()).abs() < 1e-9);
    let svg = std::fs::read_to_string(&plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("mAP50"), "{svg}");
    let bench =
        Command::new(INSPECTD).args(["bench", "--seconds", "2", "--json", "--bundle"]).arg(&out).output().unwrap();
    assert!(bench.status.success(), "{}", String::from_utf8_lossy(&bench.stderr));
    let again = extract(&["--out", &out_arg]);
    assert_eq!(again.status.code(), Some(73));
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
}

#[test]
fn a_budget_of_time_takes_the_best_that_fits_or_says_what_would() {
    let generous = report(&["--budget-ms", "60000"]);
    let most =
        generous["table"].as_array().unwrap().iter().map(|r| r["expected_map50"].as_f64().unwrap()).fold(0.0, f64::max);
    assert!((generous["expected_map50"].as_f64().unwrap() - most).abs() < 1e-9, "{generous}");
    let none = extract(&["--budget-ms", "0.1"]);
    assert_eq!(none.status.code(), Some(65));
    let message = String::from_utf8_lossy(&none.stderr);
    assert!(message.contains("nothing fits into 0.1 ms") && message.contains("the fastest"), "{message}");
}

#[test]
fn wrong_wishes_are_answered_with_what_there_is() {
    for (args, expected) in [
        (&["--classes", "wood/*"] as &[&str], "there are container/dent"),
        (&["--size", "huge"], "there are full"),
        (&["--input", "1000"], "multiple of 32"),
        (&["--max-macs", "1000"], "the smallest takes"),
        (&["--budget-ms", "0"], "0.1 to 60000"),
    ] {
        let out = extract(args);
        let message = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && message.contains(expected), "{args:?}: {message}");
    }
    let out = Command::new(INSPECTD).args(["extract", "--from"]).arg(bundle_of_one_size().path()).output().unwrap();
    assert_eq!(out.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&out.stderr).contains("is not elastic"));
}

/// What was extracted is of one size.
fn bundle_of_one_size() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    assert!(extract(&["--out", &dir.path().to_string_lossy(), "--size", "micro"]).status.success());
    dir
}

/// The first start extracts, the second takes what was kept, and what was damaged meanwhile is extracted again.
#[test]
fn the_daemon_extracts_its_model_at_the_first_start_and_keeps_it() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inspectd.toml");
    let write = |budget: &str| {
        let text = format!(
            "[gateway]\nsite = \"test\"\nname = \"gw\"\nstate_dir = \"state\"\n[mqtt]\nurl = \"{}\"\n\
             [model]\nbundle = \"{}\"\nthreads = 1\nbudget_ms = {budget}\nclasses = [\"pcb/*\"]\n\
             [[cameras]]\nname = \"cam\"\nsource.synthetic = {{ rate = 5.0 }}\n",
            broker.url(),
            root().join("models/base").display()
        );
        std::fs::write(&path, text).unwrap();
    };
    let kept = dir.path().join("state/extracted");
    let start = || {
        let daemon = Daemon::start(&path);
        daemon.wait_for_log(60, "inspecting");
        let log = daemon.log();
        daemon.terminate(10);
        log
    };
    write("60000.0");
    let log = start();
    assert!(log.contains("extracted for this gateway") && log.contains("6-classes"), "{log}");
    let manifest = std::fs::read(kept.join("bundle.json")).unwrap();
    assert!(!start().contains("extracted for this gateway"), "a restart measures nothing");
    std::fs::write(kept.join("model.onnx"), b"torn").unwrap();
    let log = start();
    assert!(log.contains("extracted again") && log.contains("extracted for this gateway"), "{log}");
    assert_eq!(std::fs::read(kept.join("bundle.json")).unwrap(), manifest, "the same wish gives the same model");
    std::fs::remove_file(kept.join("bundle.json")).unwrap();
    assert!(start().contains("extracted for this gateway"), "half a bundle does not stand in the way");
    // What cannot be had is no reason to stand still.
    write("0.1");
    let log = start();
    assert!(log.contains("nothing fits into 0.1 ms") && log.contains("the smallest is taken"), "{log}");
}
