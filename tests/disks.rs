//! Disks that are full or can only be read, as file systems of their own. Needs the right to mount; says so where it has none.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use inspectd::outbox::{Kind, Lane, Message, Outbox, Quota};

use crate::support::soak;

const QUOTA: Quota = Quota { messages: 1_000_000, image_bytes: 1 << 30, event_bytes: 1 << 30 };

/// A file system in memory that goes with the test.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(mebibytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        if mounted.is_ok_and(|out| out.status.success()) {
            return Some(Self(dir));
        }
        eprintln!("skipped: no right to mount a file system here");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn push(outbox: &Outbox, n: usize) -> anyhow::Result<()> {
    let (kind, topic, payload) = (Kind::Event, "t".to_owned(), format!("{n} {}", "x".repeat(600)).into_bytes());
    outbox.transaction(|t| t.push(&Message { kind, topic, payload, retain: false, subject: None }))
}

#[test]
fn a_large_file_opens_at_once_though_it_is_damaged() {
    let (dir, messages) = (tempfile::tempdir().unwrap(), if soak() { 100_000 } else { 20_000 });
    let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
    let message = |n: usize| {
        let payload = format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(780)).into_bytes();
        Message { kind: Kind::Event, topic: "t".to_owned(), payload, retain: false, subject: Some(n.to_string()) }
    };
    outbox.transaction(|t| (0..messages).try_for_each(|n| t.push(&message(n)))).unwrap();
    drop(outbox);
    let path = dir.path().join("outbox.sqlite");
    let size = std::fs::metadata(&path).unwrap().len();
    let open = || {
        let begun = Instant::now();
        let outbox = Outbox::open(dir.path(), QUOTA).unwrap();
        (begun.elapsed(), outbox.counts().unwrap())
    };
    let (whole, _) = open();
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(size / 2 / 4096 * 4096)).unwrap();
    file.write_all(&[0x5a; 4096]).unwrap();
    let (damaged, counts) = open();
    println!(
        "{:.0} MB: {:.2} s; with a damaged page {:.2} s, {} of {messages} kept",
        size as f64 / 1e6,
        whole.as_secs_f64(),
        damaged.as_secs_f64(),
        counts.queued
    );
    assert!(counts.queued + 40 > messages as u64 && counts.queued + counts.dropped == messages as u64, "{counts:?}");
    assert!(damaged < Duration::from_secs(if soak() { 2 } else { 3 }), "{damaged:?}");
    let file = rusqlite::Connection::open(&path).unwrap();
    let of = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(of("SELECT n FROM sizes WHERE images = 0"), counts.queued as i64);
    let made = "SELECT count(*) FROM sqlite_schema WHERE type IN ('index', 'trigger') AND name NOT LIKE 'sqlite%'";
    assert_eq!(of(made), 6, "indexes and triggers are as in a file that was never damaged");
}

#[test]
fn a_disk_that_others_have_filled_keeps_no_outbox_from_starting_and_draining() {
    let Some(disk) = Disk::new(24) else { return };
    let outbox = Outbox::open(disk.path(), QUOTA).unwrap();
    (0..5000).for_each(|n| push(&outbox, n).unwrap());
    drop(outbox);
    // Others write until nothing fits any more.
    let filler = disk.path().join("others");
    let mut size = 1 << 20;
    let mut all = Vec::new();
    while size >= 512 {
        all.extend(vec![7_u8; size]);
        if std::fs::write(&filler, &all).is_err() {
            all.truncate(all.len() - size);
            size /= 2;
        }
    }
    assert!(std::fs::write(disk.path().join("one more"), vec![0; 8192]).is_err());
    let outbox = Outbox::open(disk.path(), QUOTA).unwrap();
    assert_eq!(outbox.counts().unwrap().queued, 5000);
    while let Some(last) = outbox.peek(Lane::Backlog, 0, 100).unwrap().pop() {
        let ids: Vec<i64> = outbox.peek(Lane::Backlog, 0, 100).unwrap().iter().map(|q| q.id).collect();
        outbox.delivered(&ids).unwrap_or_else(|e| panic!("at {}: {e:#}", last.id));
    }
    push(&outbox, 5000).unwrap();
    assert_eq!(outbox.counts().unwrap().delivered, 5000);
}

#[test]
fn a_disk_that_can_only_be_read_is_said() {
    let Some(disk) = Disk::new(24) else { return };
    drop(Outbox::open(disk.path(), QUOTA).unwrap());
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status().unwrap();
    assert!(remounted.success());
    let error = format!("{:#}", Outbox::open(disk.path(), QUOTA).err().unwrap());
    assert!(error.contains("cannot open the outbox in") && error.to_lowercase().contains("read-only"), "{error}");
}
