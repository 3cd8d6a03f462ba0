//! What cameras have learned survives what machines do: kill -9 in the middle of writing it, and a disk that is full.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inspectd::anomaly::memory::{Mark, Memory};
use serde_json::json;

use crate::commands::{Room, STRIP, memory};
use crate::support::daemon::{Daemon, config};
use crate::support::{eventually, soak};

/// Sends changeovers to and fro, each of which writes a memory, until it is told to stop; gives the ids.
fn busily_writing(room: &Room, round: usize, stop: &AtomicBool) -> Vec<String> {
    let mut sent = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let product = if sent.len().is_multiple_of(2) { "other" } else { "default" };
        let order = json!({ "camera": "strip", "product": product });
        sent.push(format!("r{round}-{}", sent.len()));
        room.publish("changeover", &sent[sent.len() - 1], order.to_string().as_bytes(), &[]);
    }
    sent
}

fn leftovers(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir.join("state/memory/strip")).unwrap();
    names.map(|e| e.unwrap().file_name().into_string().unwrap()).filter(|n| n.contains("unusable")).collect()
}

#[test]
fn kill_9_while_memories_are_written_leaves_whole_ones() {
    let (room, dir) = (Room::new(), tempfile::tempdir().unwrap());
    let path = config(dir.path(), &room.broker.url(), STRIP);
    let mut daemon = Daemon::start(&path);
    room.calibrated();
    let mut interrupted = 0;
    for round in 0..if soak() { 40 } else { 5 } {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| busily_writing(&room, round, &stop));
            // Somewhere among the writes: each round a little later.
            let first = format!("r{round}-{}", 2 + round % 7);
            eventually(20, "some were answered", || (!room.replies(&first).is_empty()).then_some(()));
            std::thread::sleep(Duration::from_millis(3 * round as u64 % 40));
            daemon.kill();
            stop.store(true, Ordering::Relaxed);
            let sent = sender.join().unwrap();
            interrupted += usize::from(room.replies(&sent[sent.len() - 1]).is_empty());
        });
        daemon = Daemon::start(&path);
        daemon.wait_for_log(20, "inspecting");
        let log = daemon.log();
        assert!(!log.contains("cannot be used"), "{log}");
        assert_eq!(leftovers(dir.path()), Vec::<String>::new());
    }
    assert!(interrupted > 0, "every kill came after the last write");
    let back = room.ask("changeover", "last", &json!({ "camera": "strip", "product": "default" }));
    assert!(back["result"]["frames"].as_u64().unwrap() >= 28, "what was learned at first is there: {back}");
    assert!(daemon.terminate(5).success());
}

#[test]
fn a_full_disk_costs_what_was_learned_and_nothing_else() {
    let (room, dir) = (Room::new(), tempfile::tempdir().unwrap());
    let path = config(dir.path(), &room.broker.url(), STRIP);
    // What is written beside the memory's place goes to a device that is always full.
    let file = memory(dir.path(), "default");
    let daemon = Daemon::start(&path);
    room.calibrated();
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", file.with_extension("memory.new")).unwrap();
    let reply = room.ask("changeover", "f1", &json!({ "camera": "strip", "product": "other" }));
    assert_eq!(reply["ok"], true, "the camera looks at the other product all the same: {reply}");
    daemon.wait_for_log(5, "what was learned about default is not saved");
    daemon.wait_for_log(5, "No space left on device");
    assert!(!file.exists(), "nothing is there rather than a part");
    room.seen("other", 28);
    // The disk has room again.
    let back = room.ask("changeover", "f2", &json!({ "camera": "strip", "product": "default" }));
    assert_eq!((&back["ok"], &back["result"]["frames"]), (&json!(true), &json!(0)), "{back}");
    room.seen("default", 28);
    assert!(daemon.terminate(5).success());
    assert!(file.is_file() && memory(dir.path(), "other").is_file());
    let daemon = Daemon::start(&path);
    daemon.wait_for_log(20, "frames of default have taught");
    assert!(daemon.terminate(5).success());
}

#[test]
fn a_memory_that_another_network_has_made_is_set_aside() {
    let (room, dir) = (Room::new(), tempfile::tempdir().unwrap());
    let path = config(dir.path(), &room.broker.url(), STRIP);
    let daemon = Daemon::start(&path);
    room.calibrated();
    assert!(daemon.terminate(5).success());
    let file = memory(dir.path(), "default");
    std::fs::write(&file, Memory::default().encode(&Mark(vec![1.0]), "a view").unwrap()).unwrap();
    let daemon = Daemon::start(&path);
    daemon
        .wait_for_log(20, "was made by a network with other features; this camera learns anew what default looks like");
    room.calibrated();
    assert!(file.with_extension("unusable").is_file());
    assert!(daemon.terminate(5).success());
}
