//! Commands over a real broker: each is executed once and answered, and what a camera has learned outlives a restart.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::broker::{Broker, Subscriber};
use crate::support::daemon::{Daemon, config, config_of};
use crate::support::eventually;

/// Quick enough that a product is learned within seconds.
pub const STRIP: &str =
    "[[cameras]]\nname = \"strip\"\nsource.synthetic = { seed = 4, rate = 40.0, defects_per_frame = 0.0 }\n";

pub struct Room {
    pub broker: Broker,
    replies: Subscriber,
}

impl Room {
    pub fn new() -> Self {
        let broker = Broker::start();
        let replies = broker.subscribe("inspect/v1/test/gw/replies/+");
        Self { broker, replies }
    }

    pub fn publish(&self, command: &str, id: &str, payload: &[u8], more: &[&str]) {
        self.publish_to(&format!("inspect/v1/test/gw/commands/{command}/{id}"), payload, more);
    }

    pub fn publish_to(&self, topic: &str, payload: &[u8], more: &[&str]) {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), payload).unwrap();
        let sent = Command::new("mosquitto_pub")
            .args(["-p", &self.broker.port.to_string(), "-q", "1", "-t", topic, "-f"])
            .arg(path.path())
            .args(more)
            .status();
        assert!(sent.unwrap().success());
    }

    pub fn replies(&self, id: &str) -> Vec<Value> {
        self.replies.json().into_iter().filter(|reply| reply["id"] == id).collect()
    }

    #[track_caller]
    pub fn reply(&self, id: &str) -> Value {
        eventually(20, &format!("a reply to {id}"), || self.replies(id).pop())
    }

    #[track_caller]
    pub fn ask(&self, command: &str, id: &str, payload: &Value) -> Value {
        self.publish(command, id, payload.to_string().as_bytes(), &[]);
        self.reply(id)
    }

    #[track_caller]
    pub fn calibrated(&self) {
        let topic = "inspect/v1/test/gw/cameras/strip/state";
        eventually(40, "the check is calibrated", || {
            (self.broker.retained(topic)?["anomaly"]["state"] == "calibrated").then_some(())
        });
    }

    /// Waits until that many frames of the present product were seen; its retained state may still be the last one's.
    #[track_caller]
    pub fn seen(&self, product: &str, frames: u64) {
        let mut asked = 0;
        eventually(40, &format!("{frames} frames of {product}"), || {
            asked += 1;
            let order = json!({ "camera": "strip", "product": product });
            let reply = self.ask("changeover", &format!("seen-{product}-{frames}-{asked}"), &order);
            (reply["result"]["frames"].as_u64()? >= frames).then_some(())
        });
    }
}

pub fn memory(dir: &Path, product: &str) -> std::path::PathBuf {
    dir.join("state/memory/strip").join(format!("{product}.memory"))
}

#[test]
fn a_product_is_learned_once_and_known_again_after_changeover_and_restart() {
    let (room, dir) = (Room::new(), tempfile::tempdir().unwrap());
    let path = config(dir.path(), &room.broker.url(), STRIP);
    let daemon = Daemon::start(&path);
    room.calibrated();
    let reply = room.ask("changeover", "c1", &json!({ "camera": "strip", "product": "plate-4" }));
    assert_eq!((&reply["ok"], &reply["result"]["frames"]), (&json!(true), &json!(0)), "{reply}");
    assert!(memory(dir.path(), "default").is_file(), "the old product's memory is saved first");
    room.seen("plate-4", 28);
    let back = room.ask("changeover", "c2", &json!({ "camera": "strip", "product": "default" }));
    assert!(back["result"]["frames"].as_u64().unwrap() >= 28, "known again at once: {back}");
    let products = room.ask("products", "c3", &json!({ "camera": "strip" }));
    assert_eq!(products["result"], json!({"camera": "strip", "product": "default", "known": ["default", "plate-4"]}));
    room.ask("changeover", "c4", &json!({ "camera": "strip", "product": "plate-4" }));
    assert!(daemon.terminate(5).success());

    // It goes on with the product that was commanded last, and what is damaged is learned anew.
    let file = memory(dir.path(), "default");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let daemon = Daemon::start(&path);
    daemon.wait_for_log(20, "frames of plate-4 have taught");
    let reply = room.ask("changeover", "c5", &json!({ "camera": "strip", "product": "default" }));
    assert_eq!((&reply["ok"], &reply["result"]["frames"]), (&json!(true), &json!(0)), "{reply}");
    daemon.wait_for_log(5, "default.memory cannot be used: is damaged");
    let reply = room.ask("relearn", "c6", &json!({ "camera": "strip", "product": "plate-4" }));
    assert_eq!(reply["ok"], true, "{reply}");
    assert!(!memory(dir.path(), "plate-4").exists());
    assert!(daemon.terminate(5).success());
}

#[test]
fn every_command_is_answered_and_none_is_executed_twice() {
    let (room, dir) = (Room::new(), tempfile::tempdir().unwrap());
    let path = config(dir.path(), &room.broker.url(), STRIP);
    // Kept by the broker before there was a gateway: it would be executed at every connection.
    room.publish("relearn", "early", br#"{"camera":"strip"}"#, &["-r"]);
    let daemon = Daemon::start(&path);
    let early = room.reply("early");
    assert!(early["ok"] == false && early["error"].as_str().unwrap().contains("must not be retained"), "{early}");
    for (command, id, payload, wanted) in [
        ("dance", "w1", &b"{}"[..], "there is no command dance"),
        ("changeover", "w2", b"{\"camera\":\"strip\"", "inspectd schema changeover"),
        ("changeover", "w3", b"\xff\x00\xfe", "inspectd schema changeover"),
        ("products", "w4", b"{\"camera\":\"attic\"}", "there is no camera attic; there are strip"),
        ("products", "w5", b"{\"camera\":\"strip\",\"x\":1}", "unknown field `x`"),
        ("products", "w6", &vec![b'['; 2_000_000], "a command may have 65536 bytes"),
    ] {
        room.publish(command, id, payload, &[]);
        let reply = room.reply(id);
        assert_eq!(reply["ok"], false, "{reply}");
        assert!(reply["error"].as_str().unwrap().contains(wanted), "{reply}");
    }
    room.publish("products", "not an id", b"{}", &[]);
    daemon.wait_for_log(10, "is ignored");

    // A copy gets the first one's reply, across a restart too, and while the gateway is away the broker keeps commands.
    let order = json!({ "camera": "strip", "product": "p" });
    let first = room.ask("changeover", "twice", &order);
    room.ask("changeover", "other", &json!({ "camera": "strip", "product": "q" }));
    room.publish("changeover", "twice", order.to_string().as_bytes(), &[]);
    eventually(20, "a second reply", || (room.replies("twice").len() == 2).then_some(()));
    assert!(daemon.terminate(5).success());
    room.publish("changeover", "twice", order.to_string().as_bytes(), &[]);
    room.publish("products", "away", br#"{"camera":"strip"}"#, &[]);
    let daemon = Daemon::start(&path);
    assert_eq!(room.reply("away")["result"]["product"], "q", "the copy has changed nothing");
    eventually(20, "a third reply", || (room.replies("twice").len() == 3).then_some(()));
    assert!(room.replies("twice").iter().all(|reply| *reply == first));

    // A retained one comes again at every connection, and is answered as it was the first time.
    let first = {
        room.publish("relearn", "kept", br#"{"camera":"strip"}"#, &["-r"]);
        room.reply("kept")
    };
    assert!(daemon.terminate(5).success());
    let _daemon = Daemon::start(&path);
    eventually(20, "a second reply", || (room.replies("kept").len() == 2).then_some(()));
    assert!(room.replies("kept").iter().all(|reply| *reply == first));
}

/// A strip on which every defect is an anomaly, since no class of steel is looked for.
pub fn unnamed(seed: u64) -> String {
    format!(
        "[[cameras]]\nname = \"strip\"\nclasses = [\"warehouse/person\"]\n\
         source.synthetic = {{ seed = {seed}, rate = 25.0, speed = 64.0, defects_per_frame = 0.02 }}\n"
    )
}

#[test]
fn what_is_taught_on_one_gateway_is_named_on_another_within_two_seconds() {
    let (room, first, second) = (Room::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let events = room.broker.subscribe("inspect/v1/test/gw/events");
    let others = room.broker.subscribe("inspect/v1/test/other/events");
    let path = config(first.path(), &room.broker.url(), &unnamed(5));
    let daemon = Daemon::start(&path);
    // The same strip, so that what is taught comes by.
    let other = Daemon::start(&config_of(second.path(), "other", &room.broker.url(), &unnamed(5)));
    let raised = || {
        let unknown = |e: &Value| e["transition"] == "raised" && e["class"] == "unknown";
        let ids: Vec<Value> = events.json().into_iter().filter(unknown).map(|e| e["alarm"].clone()).collect();
        (ids.len() >= 5).then_some(ids)
    };
    let ids = eventually(90, "five anomalies", raised);
    eventually(60, "the other's check alarms", || (!others.json().is_empty()).then_some(()));
    let wrong = room.ask("teach", "t0", &json!({ "class": "strip/mark", "alarms": [uuid::Uuid::now_v7()] }));
    assert!(wrong["error"].as_str().unwrap().contains("cannot be an example here"), "{wrong}");

    let begun = Instant::now();
    let reply = room.ask("teach", "t1", &json!({ "class": "strip/mark", "severity": "minor", "alarms": ids[..5] }));
    assert_eq!((&reply["ok"], &reply["result"]["examples"]), (&json!(true), &json!(5)), "{reply}");
    other.wait_for_log(20, "learned from the site");
    println!("the other gateway knows it {:.2} s after the command", begun.elapsed().as_secs_f32());
    let named = |subscriber: &Subscriber| {
        let named = |e: &Value| e["class"] == "strip/mark" && e["kind"] == "defect" && e["severity"] == "minor";
        subscriber.json().iter().any(named).then_some(())
    };
    eventually(20, "an alarm of the new class here", || named(&events));
    eventually(20, "an alarm of the new class there", || named(&others));

    // Another class out of the same alarms is answered with a warning and both distances.
    let clash = room.ask("teach", "t2", &json!({ "class": "strip/other", "alarms": ids[..2] }));
    assert_eq!(clash["result"]["clash"]["class"], "strip/mark", "{clash}");
    assert!(clash["result"]["clash"]["distance"].is_number() && clash["result"]["clash"]["own_distance"].is_number());
    // Of a class that comes and goes at once the other may see the end alone.
    eventually(20, "the other has learned both", || {
        (other.log().matches("learned from the site").count() >= 2).then_some(())
    });
    assert_eq!(room.ask("forget", "t3", &json!({ "class": "strip/other" }))["ok"], true);
    other.wait_for_log(10, "forgotten by the site");

    // The same by a region of the picture that goes with an alarm: it looks as the alarm does.
    let all = events.json();
    let alarm = all.iter().rfind(|e| e["transition"] == "raised" && e["class"] == "strip/mark").unwrap();
    let region =
        |image: &Value, bbox: &Value| json!({ "class": "strip/other", "regions": [{ "image": image, "box": bbox }] });
    let clash = room.ask("teach", "g1", &region(&alarm["image"], &alarm["box"]));
    assert_eq!(clash["result"]["clash"]["class"], "strip/mark", "{clash}");
    assert_eq!(room.ask("forget", "g2", &json!({ "class": "strip/other" }))["ok"], true);
    for (id, image, bbox, wanted) in [
        (
            "g3",
            &alarm["image"],
            json!([900, 900, 950, 950]),
            "regions[0]: box: [x0, y0, x1, y1] in pixels of the frame",
        ),
        ("g4", &json!("0".repeat(64)), json!([0, 0, 9, 9]), "is not among the latest 64 pictures"),
        ("g5", &alarm["image"], json!([0, 0, 9]), "regions[0].box: "),
    ] {
        let refused = room.ask("teach", id, &region(image, &bbox));
        assert!(refused["error"].as_str().unwrap().contains(wanted), "{refused}");
    }
    let none = room.ask("teach", "g6", &json!({ "class": "strip/other" }));
    assert!(none["error"].as_str().unwrap().contains("0 examples are named"), "{none}");

    // A gateway that is added later learns it from the broker; a restart knows it from its own disk.
    drop((daemon, other));
    std::fs::remove_dir_all(second.path().join("state")).unwrap();
    let later = Daemon::start(&second.path().join("inspectd.toml"));
    later.wait_for_log(30, "learned from the site");
    let again = Daemon::start(&path);
    let lessons = room.ask("lessons", "t4", &json!({}));
    let listed = &lessons["result"]["lessons"];
    assert_eq!(listed.as_array().unwrap().len(), 1, "{lessons}");
    assert_eq!((&listed[0]["class"], &listed[0]["in_force"]), (&json!("strip/mark"), &json!(true)));
    drop(again);
}

#[test]
fn a_gateway_that_is_added_later_learns_all_that_its_site_was_taught() {
    let (room, dir) = (Room::new(), tempfile::tempdir().unwrap());
    let mut values = vec![0.0_f32; 112];
    values[7] = 1.0;
    for n in 0..60 {
        let class = format!("late/{n}");
        let lesson = json!({
            "schema": "inspect.lesson/1", "class": class, "severity": "minor", "examples": [values], "mark": values,
            "at": "2026-01-01T00:00:00Z", "by": "elsewhere",
        });
        room.publish_to(&format!("inspect/v1/test/taught/{class}"), lesson.to_string().as_bytes(), &["-r"]);
    }
    room.publish_to("inspect/v1/test/taught/late/broken", b"{\"schema\":1}", &["-r"]);
    let daemon = Daemon::start(&config(dir.path(), &room.broker.url(), STRIP));
    daemon.wait_for_log(30, "taught/late/broken is not taken in");
    let known =
        |n: u32| room.ask("lessons", &format!("l{n}"), &json!({}))["result"]["lessons"].as_array().unwrap().len();
    let mut asked = 0;
    eventually(20, "sixty lessons", || {
        asked += 1;
        (known(asked) == 60).then_some(())
    });
}
