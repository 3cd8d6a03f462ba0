//! Four cameras at different rates on two workers: each gets its share, nothing is lost count of, and a burst starves nobody.

use std::time::{Duration, Instant};

use crate::support::broker::{Broker, Subscriber};
use crate::support::daemon::{Daemon, config};
use crate::support::{eventually, soak};

/// Rates that together are more than the machine can do: the first alone asks for that.
const CAMERAS: [(&str, f64); 4] = [("greedy", 200.0), ("quick", 15.0), ("usual", 5.0), ("slow", 1.0)];

/// What each is due of what the machine does in all (max-min fairness): who asks for less than an equal part of what is left gets that, and
/// the others the equal part. Where nothing else runs on the machine, all but the greedy one get what they ask for.
fn due(total: f64) -> [f64; 4] {
    let mut due = CAMERAS.map(|(_, asked)| asked);
    let mut left = total;
    // From the one that asks for least on.
    for n in (0..due.len()).rev() {
        due[n] = due[n].min(left / (n + 1) as f64);
        left -= due[n];
    }
    due
}

/// Share `q` of the values lies below.
fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q) as usize]
}

#[test]
fn a_greedy_camera_takes_what_is_left_and_no_more() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let source = |rate: f64| {
        format!("source.synthetic = {{ rate = {rate:.1}, width = 640, height = 480, defects_per_frame = 0.0 }}")
    };
    let camera = |(name, rate): (&str, f64)| format!("[[cameras]]\nname = \"{name}\"\n{}\n", source(rate));
    let results = CAMERAS.map(|(name, _)| broker.subscribe(&format!("inspect/v1/test/gw/cameras/{name}/results")));
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), &CAMERAS.map(camera).concat()));
    let state = |camera: &str| broker.retained(&format!("inspect/v1/test/gw/cameras/{camera}/state"));
    eventually(40, "all are inspected", || {
        CAMERAS.iter().all(|(name, _)| state(name).is_some_and(|s| s["inspected"].as_u64() > Some(1))).then_some(())
    });
    let seconds = if soak() { 1800 } else { 20 };
    let (begun, before) = (Instant::now(), results.each_ref().map(Subscriber::count));
    std::thread::sleep(Duration::from_secs(seconds));
    let elapsed = begun.elapsed().as_secs_f64();
    let counts: Vec<usize> = results.iter().zip(before).map(|(r, before)| r.count() - before).collect();
    let mut rates = Vec::new();
    for (((name, asked), results), count) in CAMERAS.iter().zip(&results).zip(&counts) {
        let fps = *count as f64 / elapsed;
        let mut latencies: Vec<f64> =
            results.json().iter().skip(20).map(|r| r["latency_ms"].as_f64().unwrap()).collect();
        let (p50, p99) = (quantile(&mut latencies, 0.5), quantile(&mut latencies, 0.99));
        println!(
            "{name}: {asked} pictures a second, {fps:.2} inspected, capture to verdict {p50:.0} ms (p50) {p99:.0} ms (p99)"
        );
        rates.push((fps, p99));
    }
    let total: f64 = rates.iter().map(|(fps, _)| fps).sum();
    for (((name, asked), due), (fps, p99)) in CAMERAS.iter().zip(due(total)).zip(&rates).skip(1) {
        assert!(*fps > 0.9 * due, "{name} asks for {asked} a second, is due {due:.2} of {total:.2}, and gets {fps:.2}");
        // Two frames of others are before it on each worker at the worst, however slow the machine is.
        let worst = 500.0_f64.max(1000.0 * 20.0 / total);
        assert!(*p99 < worst, "{name}: {p99} ms, {worst:.0} are allowed");
    }
    assert!(rates[0].0 < 0.9 * CAMERAS[0].1, "the greedy one was to have more than can be done");
    assert!(counts_are_exact(&daemon));
}

/// Stops the cameras and looks at the summary of each: captured = inspected + without verdict + dropped, but for one that waits.
fn counts_are_exact(daemon: &Daemon) -> bool {
    let pid = daemon.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let lines = eventually(6, "the summaries", || {
        let log = daemon.log();
        let lines: Vec<String> = log.lines().filter(|l| l.contains("pictures:")).map(str::to_owned).collect();
        (lines.len() == CAMERAS.len()).then_some(lines)
    });
    lines.iter().all(|line| {
        let text = line.split("INFO").nth(1).unwrap_or_default().split(';').next().unwrap_or_default();
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        println!("{}", text.trim());
        matches!(numbers[..], [captured, inspected, no_verdict, dropped] if captured - inspected - no_verdict - dropped <= 1)
    })
}
