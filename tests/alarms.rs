//! From a camera to a subscriber: what arrives, and that it is what the schemas say.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::broker::Broker;
use crate::support::daemon::{Daemon, config};
use crate::support::{eventually, picture};

const SYNTHETIC: &str = "[[cameras]]\nname = \"strip\"\n\
    source.synthetic = { seed = 7, rate = 40.0, speed = 48.0, defects_per_frame = 0.015 }\n";

fn validator(name: &str) -> jsonschema::Validator {
    jsonschema::validator_for(&crate::support::schema(name)).unwrap()
}

/// The one message of the AsyncAPI document that the agent sends to such a topic.
fn documented(asyncapi: &Value, topic: &str) -> String {
    let fits = |address: &str| {
        let (wanted, levels): (Vec<_>, Vec<_>) = (address.split('/').collect(), topic.split('/').collect());
        wanted.len() == levels.len() && wanted.iter().zip(levels).all(|(w, l)| w.starts_with('{') || *w == l)
    };
    let sends = |id: &str| asyncapi["operations"][id]["action"] == "send";
    let channels = asyncapi["channels"].as_object().unwrap().iter();
    let found: Vec<&String> =
        channels.filter(|(id, c)| sends(id) && fits(c["address"].as_str().unwrap())).map(|(id, _)| id).collect();
    assert_eq!(found.len(), 1, "{topic}: {found:?}");
    found[0].clone()
}

#[test]
fn everything_that_is_published_is_what_the_schemas_say() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let subscriber = broker.subscribe("inspect/v1/#");
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), SYNTHETIC));
    let events = |s: &crate::support::broker::Subscriber| {
        s.messages().iter().filter(|(t, _)| t == "inspect/v1/test/gw/events").count()
    };
    eventually(60, "six alarm events", || (events(&subscriber) >= 6).then_some(()));
    assert!(daemon.terminate(5).success());
    // Stopped: the retained state says so, and says that everything was delivered.
    let state = broker.retained("inspect/v1/test/gw/state").unwrap();
    assert_eq!((&state["online"], state["reason"].as_str()), (&Value::Bool(false), Some("stopped")));

    let schemas: HashMap<_, _> =
        ["event", "alarm", "state", "camera", "result"].map(|name| (name, validator(name))).into_iter().collect();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let (mut images, mut named, mut next) = (Vec::new(), Vec::new(), 1);
    let asyncapi = crate::support::schema("asyncapi");
    for (topic, payload) in subscriber.messages() {
        let levels: Vec<_> = topic.split('/').skip(4).collect();
        let name = match levels.as_slice() {
            ["events"] => "event",
            ["alarms", _] if payload.is_empty() => continue,
            ["alarms", _] => "alarm",
            ["state"] => "state",
            ["cameras", "strip", "state"] => "camera",
            ["cameras", "strip", "results"] => "result",
            ["images", hash] => {
                assert_eq!(documented(&asyncapi, &topic), "images");
                assert_eq!(hex::encode(Sha256::digest(&payload)), *hash);
                assert!(payload.starts_with(&[0xff, 0xd8]) && payload.len() <= 256 * 1024);
                images.push((*hash).to_owned());
                continue;
            }
            other => panic!("a topic that the contract does not know: {other:?}"),
        };
        let value: Value = serde_json::from_slice(&payload).unwrap();
        let message = documented(&asyncapi, &topic);
        let root =
            json!({ "$ref": format!("#/components/messages/{message}/payload"), "components": asyncapi["components"] });
        jsonschema::validator_for(&root).unwrap().validate(&value).unwrap_or_else(|e| panic!("{topic}: {e}"));
        let errors: Vec<_> = schemas[name].iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{topic}: {errors:?}\n{value}");
        *seen.entry(name).or_default() += 1;
        if name == "event" {
            assert_eq!(value["seq"], next, "no gaps");
            assert_eq!(value["replayed"], false);
            next += 1;
            if let Some(image) = value["image"].as_str() {
                assert!(images.iter().any(|i| i == image), "the picture comes before the event that names it");
                named.push(image.to_owned());
            }
        }
    }
    for name in ["event", "alarm", "state", "camera", "result"] {
        assert!(seen.get(name).is_some_and(|n| *n > 0), "no {name}: {seen:?}");
    }
    assert!(!named.is_empty());
}

#[test]
fn the_synthetic_defects_are_found() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    // At 256 px, for which the anomaly check was made; at the default's 320 px it raises up to two false alarms more.
    let (root, small) = (crate::support::root(), dir.path().join("bundle"));
    let mut extract = std::process::Command::new(crate::support::INSPECTD);
    extract.arg("extract").arg("--from").arg(root.join("models/base")).arg("--out").arg(&small);
    assert!(extract.args(["--size", "full", "--input", "256", "--precision", "float32"]).status().unwrap().success());
    let path = config(dir.path(), &broker.url(), SYNTHETIC);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(&*crate::support::bundle().to_string_lossy(), &small.to_string_lossy()))
        .unwrap();
    let daemon = Daemon::start(&path);
    daemon.wait_for_log(30, "Raised");
    let mut figures = (0, 0, 0);
    std::thread::sleep(std::time::Duration::from_secs(15));
    let pid = daemon.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    eventually(6, "the ground truth in the log", || {
        let log = daemon.log();
        let line = log.lines().find(|l| l.contains("ground truth"))?;
        let numbers: Vec<u32> = line
            .split("ground truth:")
            .nth(1)?
            .split_whitespace()
            .filter_map(|w| w.trim_end_matches(',').parse().ok())
            .collect();
        figures = (numbers[0], numbers[1], numbers[2]);
        Some(())
    });
    let (found, all, false_alarms) = figures;
    println!("found {found} of {all} defects, {false_alarms} false alarms");
    assert!(all >= 10, "{all} defects are too few to judge");
    assert!(f64::from(found) >= 0.7 * f64::from(all), "found {found} of {all}");
    assert!(false_alarms <= all / 4, "{false_alarms} false alarms");
}

#[test]
fn a_killed_daemon_is_reported_by_its_last_will() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), SYNTHETIC));
    let state = || broker.retained("inspect/v1/test/gw/state");
    eventually(20, "online", || state().filter(|s| s["online"] == true));
    daemon.kill();
    let gone = eventually(20, "the last will", || state().filter(|s| s["online"] == false));
    assert_eq!(gone["reason"], "connection lost");
}

#[test]
fn a_cleared_alarm_leaves_no_retained_message() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let pictures = dir.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    for n in 0..60 {
        picture(&pictures.join(format!("{n:03}.jpg")), n, n == 40);
    }
    let camera = format!("[[cameras]]\nname = \"parts\"\nsource.folder = {{ path = {pictures:?}, rate = 20.0 }}\n");
    let events = broker.subscribe("inspect/v1/test/gw/events");
    let _daemon = Daemon::start(&config(dir.path(), &broker.url(), &camera));
    let raised = eventually(30, "the alarm of picture 40", || {
        events.json().into_iter().find(|e| e["transition"] == "raised" && e["frame"]["seq"] == 40)
    });
    let bbox: Vec<f64> = raised["box"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert!(bbox[0] < 200.0 && bbox[2] > 200.0 && bbox[1] < 100.0 && bbox[3] > 100.0, "{bbox:?} holds the blot");
    eventually(20, "cleared", || {
        events.json().into_iter().find(|e| e["transition"] == "cleared" && e["alarm"] == raised["alarm"])
    });
    let topic = format!("inspect/v1/test/gw/alarms/{}", raised["alarm"].as_str().unwrap());
    eventually(5, "no retained alarm", || broker.retained(&topic).is_none().then_some(()));
}

#[test]
fn sigterm_at_full_load_ends_within_five_seconds() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let fast = SYNTHETIC.replace("40.0", "500.0");
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), &fast));
    daemon.wait_for_log(30, "Raised");
    let begun = Instant::now();
    assert!(daemon.terminate(5).success());
    println!("ended in {:.2} s", begun.elapsed().as_secs_f64());
}
