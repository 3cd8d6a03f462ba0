//! Four cameras for hours: memory, threads and open files stay what they were, and each picture is accounted for.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::broker::Broker;
use crate::support::daemon::{Daemon, config_with};
use crate::support::{eventually, free_port, soak};

/// Two kinds of scene, sizes and rates of their own, defects now and then; together less than two cores can do.
const CAMERAS: &str = r#"
[[cameras]]
name = "steel-1"
classes = ["steel/*"]
source.synthetic = { seed = 1, rate = 4.0, width = 640, height = 480, speed = 48.0, defects_per_frame = 0.02 }
[[cameras]]
name = "steel-2"
classes = ["steel/*"]
source.synthetic = { seed = 2, rate = 2.0, width = 1280, height = 720, speed = 48.0, defects_per_frame = 0.05 }
[[cameras]]
name = "boards-1"
classes = ["pcb/*"]
source.synthetic = { scene = "boards", seed = 3, rate = 2.0, width = 640, height = 480, speed = 640.0, defects_per_frame = 0.2 }
[[cameras]]
name = "boards-2"
source.synthetic = { scene = "boards", seed = 4, rate = 1.0, width = 800, height = 600, speed = 800.0, defects_per_frame = 0.1 }
"#;

/// What a process has.
#[derive(Debug, Clone, Copy)]
struct Has {
    memory_kib: u64,
    threads: u64,
    /// Those of them that do what waits.
    pool: u64,
    files: u64,
    state_kib: u64,
}

fn has(pid: u32, state: &Path) -> Has {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(Result::ok);
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    let pool = names.filter(|name| name.starts_with("tokio")).count();
    Has {
        memory_kib: value("VmRSS:"),
        threads: value("Threads:"),
        pool: pool as u64,
        files: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64,
        state_kib: size(state) / 1024,
    }
}

fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    // A file that is gone meanwhile has no size.
    entries.map(|e| if e.path().is_dir() { size(&e.path()) } else { e.metadata().map_or(0, |m| m.len()) }).sum()
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// 2 hours with `INSPECTD_SOAK=1` (or `INSPECTD_SOAK_SECONDS`), otherwise 40 s.
#[test]
fn four_cameras_for_hours_take_no_more_than_at_first() {
    let wanted = std::env::var("INSPECTD_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds: u64 = wanted.unwrap_or(if soak() { 7200 } else { 40 });
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    // Somebody reads its figures all the while.
    let port = free_port();
    let more = format!("[alarm]\nmax_active = 5\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
    let daemon = Daemon::start(&config_with(dir.path(), &broker.url(), &more, CAMERAS));
    let state = |camera: &str| broker.retained(&format!("inspect/v1/test/gw/cameras/{camera}/state"));
    let names = ["steel-1", "steel-2", "boards-1", "boards-2"];
    // The check for what nobody has labelled takes its memory while it learns.
    let learned = |camera: &&str| state(camera).is_some_and(|state| state["anomaly"]["state"] == "calibrated");
    eventually(120, "all have learned", || names.iter().all(learned).then_some(()));
    let folder = dir.path().join("state");
    let (begun, every) = (Instant::now(), Duration::from_secs_f64((seconds as f64 / 120.0).clamp(0.5, 60.0)));
    let mut samples = Vec::new();
    while begun.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(every);
        let mut figures = ureq::get(format!("http://127.0.0.1:{port}/metrics")).call().unwrap();
        assert!(figures.body_mut().read_to_string().unwrap().ends_with("# EOF\n"));
        let now = has(daemon.pid(), &folder);
        samples.push(now);
        if soak() && samples.len() % 10 == 1 {
            println!("{:6.0} s  {now:?}", begun.elapsed().as_secs_f64());
        }
    }
    let third = samples.len() / 3;
    let parts = [&samples[..third], &samples[third..2 * third], &samples[2 * third..]];
    for (part, of) in parts.iter().zip(["first", "middle", "last"]) {
        let of_all = |f: fn(&Has) -> u64| median(part.iter().map(f));
        println!(
            "{of} third: memory {} MiB, threads {}, files {}, state folder {} KiB (medians)",
            of_all(|h| h.memory_kib) / 1024,
            of_all(|h| h.threads),
            of_all(|h| h.files),
            of_all(|h| h.state_kib),
        );
    }
    let of = |part: usize, f: fn(&Has) -> u64| median(parts[part].iter().map(f));
    for name in names {
        let state = state(name).unwrap();
        let count = |key: &str| state[key].as_u64().unwrap();
        let [captured, inspected, dropped, none] = ["captured", "inspected", "dropped", "no_verdict"].map(count);
        println!("{name}: {captured} captured, {inspected} inspected, {dropped} dropped, {none} without verdict");
        assert!(
            captured - inspected - dropped - none <= 3,
            "some are unaccounted for, beside what is under way: {state}"
        );
    }
    // An allocator fills its arenas at first; from the middle on nothing may grow.
    let (middle, last) = (of(1, |h| h.memory_kib), of(2, |h| h.memory_kib));
    assert!(last < middle + middle / 20, "memory grows from {middle} to {last} KiB");
    // Those that wait for the disk come with the work, and stay; there are 12 of them at most, beside two for all else.
    assert!(samples.iter().all(|h| h.pool <= 14), "threads for the disk are not bounded");
    assert_eq!(
        of(2, |h| h.threads.saturating_sub(h.pool)),
        of(0, |h| h.threads.saturating_sub(h.pool)),
        "threads grow"
    );
    let (before, after) = (of(1, |h| h.state_kib), of(2, |h| h.state_kib));
    assert!(after < before + before / 10 + 4096, "the state folder grows from {before} to {after} KiB");
    assert!(of(2, |h| h.files) <= of(0, |h| h.files) + 2, "open files grow");
    assert!(daemon.terminate(5).success());
}
