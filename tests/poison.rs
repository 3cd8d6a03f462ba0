//! What nobody should send: it is answered or ignored, and the connection stays.

use serde_json::{Value, json};

use crate::commands::Room;
use crate::support::daemon::{Daemon, config};
use crate::support::eventually;
use crate::support::scripted::{Move, Scripted};

const IDLE: &str = "[[cameras]]\nname = \"none\"\nsource.v4l2 = { device = \"/dev/video99\" }\n";

/// A command of this many bytes that would be right but for its size.
fn large(bytes: usize) -> Vec<u8> {
    format!("{{\"camera\":\"none\",\"product\":\"{}\"}}", "p".repeat(bytes)).into_bytes()
}

fn deep() -> Vec<u8> {
    [b"{\"camera\":".repeat(5000), b"1".to_vec(), b"}".repeat(5000)].concat()
}

#[test]
fn commands_that_are_poison_get_an_answer_each() {
    let (room, dir) = (Room::new(), tempfile::tempdir().unwrap());
    let daemon = Daemon::start(&config(dir.path(), &room.broker.url(), IDLE));
    daemon.wait_for_log(20, "connected");
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("p1", large(11 << 10), "product: "),
        ("p2", large(256 << 10), "a command may have 65536 bytes"),
        ("p3", large(1 << 20), "a command may have 65536 bytes"),
        ("p4", vec![0xff, 0xfe, 0xfd], "inspectd schema changeover"),
        ("p5", vec![0; 100], "inspectd schema changeover"),
        ("p6", b"{\"camera\":".to_vec(), "inspectd schema changeover"),
        ("p7", deep(), "inspectd schema changeover"),
        ("p8", b"[1e999]".to_vec(), "inspectd schema changeover"),
    ];
    for (id, payload, _) in &cases {
        room.publish("changeover", id, payload, &[]);
    }
    for (id, _, wanted) in &cases {
        let reply = room.reply(id);
        let error = reply["error"].as_str().unwrap_or_default();
        assert!(reply["ok"] == json!(false) && error.contains(wanted) && error.len() < 1100, "{id}: {reply}");
    }
    // A lesson that is none is said in the log alone.
    room.publish_to("inspect/v1/test/taught/bad", &deep(), &["-r"]);
    daemon.wait_for_log(20, "taught/bad is not taken in");
    assert_eq!(daemon.log().matches("connected").count(), 1, "{}", daemon.log());
    let state: Value = eventually(20, "state", || room.broker.retained("inspect/v1/test/gw/state"));
    assert_eq!(state["online"], true);
}

/// A publish of QoS 1 with packet identifier 9.
fn publish(topic: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = 2 + topic.len() + 2 + payload.len();
    let (mut packet, mut rest) = (vec![0x32], length);
    loop {
        let more = rest > 127;
        packet.push((rest % 128) as u8 | if more { 128 } else { 0 });
        rest /= 128;
        if !more {
            break;
        }
    }
    packet.extend((topic.len() as u16).to_be_bytes());
    [packet, topic.to_vec(), vec![0, 9], payload.to_vec()].concat()
}

#[test]
fn what_is_no_mqtt_costs_at_most_one_reconnection() {
    let topic = b"inspect/v1/test/gw/commands/alarms/a1";
    let cases: [(&str, Vec<u8>, usize); 5] = [
        ("a topic with NUL", publish(b"inspect/v1/test/gw/commands/alarms/a\0", b"{}"), 1),
        ("a topic that is no UTF-8", publish(b"inspect/v1/test/gw/commands/\xff\xfe/a", b"{}"), 3),
        ("a packet of 5 MiB", publish(topic, &vec![b' '; 5 << 20]), 3),
        ("a packet type that is not there", vec![0x00, 0x00], 3),
        ("an acknowledgement of nothing", vec![0x40, 2, 0x77, 0x77], 2),
    ];
    for (name, bytes, most) in cases {
        let dir = tempfile::tempdir().unwrap();
        // The second connection is the one at which the broker is told to forget.
        let greeting = move |n: usize| if n == 0 { bytes.clone() } else { Vec::new() };
        let broker = Scripted::start(Box::new(|_, _, _| Move::Acknowledge), Box::new(greeting));
        let daemon = Daemon::start(&config(dir.path(), &format!("mqtt://127.0.0.1:{}", broker.port), IDLE));
        daemon.wait_for_log(20, "connected");
        if most > 1 {
            eventually(20, name, || (broker.connections() == most).then_some(()));
        }
        std::thread::sleep(std::time::Duration::from_secs(4));
        assert!(broker.connections() <= most, "{name}: {} connections\n{}", broker.connections(), daemon.log());
        let published = || broker.record.lock().unwrap().publishes().any(|p| p.topic.ends_with("/state"));
        assert!(published(), "{name}: states are published");
        assert!(daemon.terminate(5).success());
    }
}
