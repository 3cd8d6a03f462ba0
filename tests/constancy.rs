//! What the anomaly check costs, in time and memory, after very many frames: the same as at first.

use std::time::{Duration, Instant};

use inspectd::config::AnomalyConfig;
use inspectd::frame::scene::{Scene, SceneConfig, SceneKind};
use inspectd::frame::view::View;
use inspectd::frame::{Image, PixelFormat};
use inspectd::inspector::{Inspector, Judge};
use inspectd::model::bundle::Bundle;
use inspectd::model::runtime::{self, Session};

use crate::support::{bundle, soak};

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_check_costs_the_same_after_very_many_frames() {
    let frames = if soak() { 100_000 } else { 3000 };
    let bundle = Bundle::open(&bundle()).unwrap();
    let session = Session::new(&runtime::load(None).unwrap(), &bundle).unwrap();
    let mut inspector = Inspector::new(session, &bundle);
    let kind = SceneKind::Steel;
    let config = SceneConfig { kind, width: 640, height: 480, seed: 6, speed: 48.0, defects_per_frame: 0.02 };
    let scene = Scene::new(config);
    // The network's share is left out: what it gave for these frames is judged again and again.
    let looked: Vec<_> = (0..64)
        .map(|n| {
            let (pixels, _) = scene.render(n);
            let (format, origin, truth) = (PixelFormat::Rgb8, None, None);
            let image = Image { width: 640, height: 480, format, pixels, origin, truth };
            let placement = inspector.look(&image, &View::default()).unwrap();
            (std::mem::take(&mut inspector.forward), placement)
        })
        .collect();
    let mut judge = Judge::new(&AnomalyConfig::default(), 1.0, &bundle.manifest);
    let part = frames / 5;
    let (mut times, mut figures) = (Vec::with_capacity(part), Vec::new());
    for n in 0..frames {
        let (forward, placement) = &looked[n * 31 % looked.len()];
        let begun = Instant::now();
        judge.judge(forward, placement);
        times.push(begun.elapsed());
        if times.len() == part {
            times.sort();
            figures.push((times[part / 2], times[part * 99 / 100], resident_kib()));
            times.clear();
        }
    }
    for (n, (median, p99, kib)) in figures.iter().enumerate() {
        let ms = |d: &Duration| d.as_secs_f64() * 1000.0;
        println!(
            "frames {} to {}: p50 {:.2} ms, p99 {:.2} ms, {kib} KiB",
            n * part,
            (n + 1) * part,
            ms(median),
            ms(p99)
        );
    }
    let (first, last) = (figures[1], figures[4]);
    assert!(last.0.as_secs_f64() <= 1.5 * first.0.as_secs_f64(), "{figures:?}");
    assert!(last.2 <= first.2 + 4096, "{figures:?}");
}
