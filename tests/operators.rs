//! What operators do to alarms, over a real broker and through a restart.

use serde_json::{Value, json};

use crate::commands::Room;
use crate::support::daemon::{Daemon, config};
use crate::support::{eventually, picture};

#[test]
fn an_alarm_is_answered_put_off_kept_quiet_and_over() {
    let (room, dir) = (Room::new(), tempfile::tempdir().unwrap());
    let pictures = dir.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    // The last ones show a blot; then nothing new comes, so that its alarm stays.
    (0..80).for_each(|n| picture(&pictures.join(format!("{n:03}.jpg")), n, n >= 75));
    let camera = format!("[[cameras]]\nname = \"parts\"\nsource.folder = {{ path = {pictures:?}, rate = 12.0 }}\n");
    let events = room.broker.subscribe("inspect/v1/test/gw/events");
    let path = config(dir.path(), &room.broker.url(), &camera);
    let daemon = Daemon::start(&path);
    let blot = |e: &Value| e["transition"] == "raised" && e["frame"]["seq"].as_u64() >= Some(75);
    let raised = eventually(40, "the blot's alarm", || events.json().into_iter().find(blot));
    let id = raised["alarm"].clone();
    let topic = format!("inspect/v1/test/gw/alarms/{}", id.as_str().unwrap());
    let becomes = |state: &str| {
        eventually(20, state, || (room.broker.retained(&topic)?["state"] == state).then_some(()));
    };
    becomes("unacknowledged");

    let reply = room.ask("ack", "o1", &json!({ "alarms": [id], "by": "ann", "comment": "on my way" }));
    assert_eq!(reply["result"]["changed"], json!([{ "alarm": id, "state": "acknowledged" }]), "{reply}");
    becomes("acknowledged");
    let reply = room.ask("ack", "o2", &json!({ "alarms": [id], "by": "bob" }));
    assert_eq!(reply["result"]["changed"], json!([]), "the first answer stands: {reply}");
    for (order, id, payload, wrong) in [
        ("ack", "w1", json!({ "alarms": [uuid::Uuid::now_v7()] }), "neither active here nor waiting"),
        ("ack", "w2", json!({ "alarms": [] }), "there may be 1 to 100"),
        ("shelve", "w3", json!({ "alarms": [id] }), "missing field `minutes`"),
        ("shelve", "w4", json!({ "camera": "parts", "minutes": 20_000 }), "minutes (a week at most)"),
        ("suppress", "w5", json!({ "camera": "elsewhere" }), "there is no camera elsewhere"),
        ("unshelve", "w6", json!({ "camera": "parts" }), "is not there to be taken back"),
    ] {
        let reply = room.ask(order, id, &payload);
        assert!(reply["error"].as_str().unwrap_or_default().contains(wrong), "{order}: {reply}");
    }

    // It comes off the shelf by itself.
    room.ask("shelve", "o3", &json!({ "camera": "parts", "class": "*", "minutes": 0.05, "by": "ann" }));
    becomes("shelved");
    becomes("acknowledged");
    room.ask("suppress", "o4", &json!({ "camera": "parts", "comment": "the line is empty" }));
    becomes("suppressed_by_design");
    assert!(daemon.terminate(5).success());
    // Without pictures nothing can be said about the alarm, so that it goes on.
    std::fs::rename(&pictures, dir.path().join("old")).unwrap();
    std::fs::create_dir(&pictures).unwrap();
    let daemon = Daemon::start(&path);
    daemon.wait_for_log(20, "inspecting");
    let listed = room.ask("alarms", "o5", &json!({}));
    let of_blot = |list: &Value| list.as_array().unwrap().iter().find(|a| a["alarm"] == id).cloned();
    let known = of_blot(&listed["result"]["active"]).unwrap_or_else(|| panic!("{listed}"));
    let fields = ["state", "acknowledged", "by", "comment"].map(|name| known[name].clone());
    assert_eq!(fields, [json!("suppressed_by_design"), json!(true), json!("ann"), json!("the line is empty")]);
    assert_eq!(listed["result"]["quiet"][0]["why"], "suppressed_by_design", "{listed}");
    room.ask("unsuppress", "o6", &json!({ "camera": "parts" }));
    becomes("acknowledged");

    // Now good ones follow.
    (80..95).for_each(|n| picture(&pictures.join(format!("{n:03}.jpg")), n, false));
    let over = |e: &Value| e["alarm"] == id && e["transition"] == "cleared";
    let cleared = eventually(40, "it is over", || events.json().into_iter().find(over));
    assert_eq!(cleared["state"], "normal");
    eventually(10, "off the broker", || room.broker.retained(&topic).is_none().then_some(()));
    let all = events.json();
    let mut seqs: Vec<u64> = all.iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    seqs.dedup();
    assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "{seqs:?}");
    let mine: Vec<&str> = all.iter().filter(|e| e["alarm"] == id).map(|e| e["transition"].as_str().unwrap()).collect();
    for (n, wanted) in
        ["raised", "acknowledged", "shelved", "unshelved", "suppressed", "unsuppressed"].iter().enumerate()
    {
        assert!(mine.contains(wanted), "{n}: {wanted} in {mine:?}");
    }
}
