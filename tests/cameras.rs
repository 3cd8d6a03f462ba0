//! Cameras that fail, each in its own way, and the one beside them that must not notice.

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::broker::Broker;
use crate::support::daemon::{Daemon, config};
use crate::support::rtsp::gst;
use crate::support::{eventually, picture};

const STEADY: &str = "[[cameras]]\nname = \"steady\"\nsource.synthetic = { rate = 10.0, width = 320, height = 240 }\n";

fn state(broker: &Broker, camera: &str) -> Option<Value> {
    broker.retained(&format!("inspect/v1/test/gw/cameras/{camera}/state"))
}

#[test]
fn what_is_dropped_into_a_folder_after_a_pause_comes_at_its_rate_and_is_inspected() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let (drop, beside) = (dir.path().join("drop"), dir.path().join("beside"));
    [&drop, &beside].into_iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
    picture(&drop.join("0.jpg"), 1, false);
    let camera = "[[cameras]]\nname = \"drop\"\nsource.folder = { path = \"drop\", rate = 2.0 }\n";
    let results = broker.subscribe("inspect/v1/test/gw/cameras/drop/results");
    let _daemon = Daemon::start(&config(dir.path(), &broker.url(), camera));
    eventually(30, "the first picture", || (results.json().len() == 1).then_some(()));
    std::thread::sleep(Duration::from_secs(3)); // the pause of the folder, in the agent's own time
    for n in 1..=4 {
        picture(&beside.join(format!("{n}.jpg")), n, false);
    }
    for n in 1..=4 {
        std::fs::rename(beside.join(format!("{n}.jpg")), drop.join(format!("{n}.jpg"))).unwrap();
    }
    let results = eventually(20, "all of them", || Some(results.json()).filter(|all| all.len() == 5));
    let at = |n: usize| results[n]["captured_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    for n in 2..5 {
        let apart = at(n).duration_since(at(n - 1)).as_secs_f64();
        assert!(apart > 0.3, "{apart} s between two at 2 a second");
    }
    eventually(10, "none was dropped", || state(&broker, "drop").filter(|s| s["inspected"] == 5 && s["dropped"] == 0));
}

#[test]
fn every_fault_is_reported_and_the_other_camera_goes_on() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    // An RTSP server that takes the connection and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let bad = dir.path().join("bad");
    std::fs::create_dir_all(dir.path().join("empty")).unwrap();
    std::fs::create_dir(&bad).unwrap();
    picture(&bad.join("0-good.jpg"), 1, false);
    let whole = std::fs::read(bad.join("0-good.jpg")).unwrap();
    std::fs::write(bad.join("1-cut.jpg"), &whole[..whole.len() / 2]).unwrap();
    let mut huge = std::fs::File::create(bad.join("2-huge.jpg")).unwrap();
    huge.write_all(&[0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0xff, 0xff, 0xff, 0xff, 1, 1, 0x11, 0]).unwrap();
    huge.write_all(&[0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0xff, 0xd9]).unwrap();
    std::fs::write(bad.join("3-text.png"), "this is no picture").unwrap();

    let alone = Daemon::start(&config(dir.path(), &broker.url(), STEADY));
    let fps = |broker: &Broker| state(broker, "steady").and_then(|s| s["fps"].as_f64()).filter(|fps| *fps > 5.0);
    let before = eventually(30, "the steady camera's rate", || fps(&broker));
    drop(alone);

    let cameras = format!(
        "{STEADY}\n\
         [[cameras]]\nname = \"missing\"\nsource.v4l2 = {{ device = \"/dev/video99\" }}\n\
         [[cameras]]\nname = \"silent\"\nsource.rtsp = {{ url = \"rtsp://127.0.0.1:{silent_port}/x\", open_timeout_s = 2.0 }}\n\
         [[cameras]]\nname = \"empty\"\nsource.folder = {{ path = \"empty\" }}\n\
         [[cameras]]\nname = \"bad\"\nsource.folder = {{ path = \"bad\", rate = 5.0 }}\n"
    );
    let results = broker.subscribe("inspect/v1/test/gw/cameras/bad/results");
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), &cameras));
    for (camera, words) in [
        ("missing", "/dev/video99 is missing"),
        ("silent", "the server sent nothing for 2 s"),
        ("empty", "holds no picture"),
    ] {
        let found = eventually(30, camera, || state(&broker, camera).filter(|s| s["state"] == "reconnecting"));
        assert!(found["reason"].as_str().unwrap().contains(words), "{found}");
        println!("{camera}: {}", found["reason"]);
        daemon.wait_for_log(5, words);
    }
    let verdicts = eventually(30, "four results", || Some(results.json()).filter(|r| r.len() >= 4));
    let of = |file: &str| verdicts.iter().find(|v| v["file"] == file).unwrap_or_else(|| panic!("no result for {file}"));
    assert_eq!(of("0-good.jpg")["outcome"], "good");
    for (file, words) in [("1-cut.jpg", "cut off"), ("2-huge.jpg", "over the limit"), ("3-text.png", "is no JPEG")] {
        let result = of(file);
        assert_eq!(result["outcome"], "no_verdict", "{result}");
        assert!(result["reason"].as_str().unwrap().contains(words), "{result}");
        println!("{file}: {}", result["reason"]);
    }
    let counted = eventually(20, "the counter", || state(&broker, "bad").filter(|s| s["no_verdict"] == 3));
    assert_eq!(counted["inspected"], 1);
    let after = eventually(30, "the steady camera's rate", || fps(&broker));
    println!("steady camera: {before} fps alone, {after} fps beside four faults");
    assert!((after - before).abs() <= 1.0, "{before} then {after}");
    assert!(daemon.terminate(5).success());
}

#[test]
fn a_video_file_is_inspected_and_begins_again() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let file = dir.path().join("film.avi");
    assert!(gst(&["video", &file.to_string_lossy()]).wait().unwrap().success());
    let camera = "[[cameras]]\nname = \"film\"\nsource.video = { path = \"film.avi\", loop = true }\n";
    let results = broker.subscribe("inspect/v1/test/gw/cameras/film/results");
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), camera));
    // 60 frames in the file; more have to come.
    eventually(40, "the second round", || (results.json().len() > 70).then_some(()));
    assert!(daemon.terminate(5).success());
}

#[test]
fn rate_limit_and_exact_accounting() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let cameras = "[[cameras]]\nname = \"fast\"\nsource.synthetic = { rate = 1000.0 }\n\
        [[cameras]]\nname = \"slow\"\nfps = 4.0\nsource.synthetic = { rate = 50.0 }\n";
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), cameras));
    let rate = eventually(40, "the slow camera's rate", || {
        state(&broker, "slow").and_then(|s| s["fps"].as_f64()).filter(|f| *f > 1.0)
    });
    assert!((3.0..=4.6).contains(&rate), "{rate} fps beside a camera that takes all it can get");
    std::thread::sleep(Duration::from_secs(1));
    let pid = daemon.pid().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let numbers: Vec<u64> = eventually(6, "the summary", || {
        let log = daemon.log();
        let line = log.lines().find(|l| l.contains("pictures:") && l.contains("camera=fast"))?;
        let tail = line.split("INFO").nth(1)?.split(';').next()?;
        Some(tail.split_whitespace().filter_map(|w| w.parse().ok()).collect())
    });
    let &[captured, inspected, no_verdict, dropped] = numbers.as_slice() else { panic!("{numbers:?}") };
    println!(
        "captured {captured} = inspected {inspected} + without verdict {no_verdict} + dropped {dropped} (+ at most 1 waiting)"
    );
    assert!(dropped > 0);
    let waiting = captured - inspected - no_verdict - dropped;
    assert!(waiting <= 1, "{waiting}");
}
