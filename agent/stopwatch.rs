//! How long a frame takes with a bundle on this very machine.
//!
//! A frame's way is that of the daemon: resize, normalisation, forward pass, decoding, anomaly score. All threads are at
//! work at the same time, as they are when cameras keep them busy, so that what is measured is what will be.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::config::AnomalyConfig;
use crate::frame::scene::{Scene, SceneConfig, SceneKind};
use crate::frame::view::View;
use crate::frame::{Image, PixelFormat};
use crate::inspector::{Inspector, Judge};
use crate::model::bundle::Bundle;
use crate::model::runtime::{Environment, Session};

/// Frames before the clock counts: memory is taken, and the anomaly check has learnt.
const WARM_UP: usize = 16;
/// Frames a thread at least.
const FRAMES: usize = 40;
/// How long at least.
const SPAN: Duration = Duration::from_millis(700);
/// Pictures that come in turn.
const PICTURES: usize = 8;
/// The camera that is taken: its resize is part of a frame's way.
const CAMERA: (u32, u32) = (640, 480);

/// Milliseconds a frame.
#[derive(Debug, Clone, Copy)]
pub struct FrameTime {
    /// Median.
    pub p50_ms: f64,
    /// 99 of 100 take less.
    pub p99_ms: f64,
}

/// Measures a bundle on `threads` threads.
///
/// # Errors
/// The runtime refuses the network, or a forward pass failed.
pub fn frame_time(environment: &Environment, bundle: &Bundle, threads: usize) -> Result<FrameTime> {
    let pictures = strip(PICTURES);
    let start = Barrier::new(threads);
    let times = thread::scope(|scope| {
        let one = || one_thread(environment, bundle, &pictures, &start);
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        let join = |handle: thread::ScopedJoinHandle<'_, Result<Vec<Duration>>>| {
            handle.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
        };
        handles.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    let mut times: Vec<_> = times.into_iter().flatten().collect();
    times.sort_unstable();
    let at =
        |share: f64| times.get((times.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or_default();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(FrameTime { p50_ms: ms(at(0.5)), p99_ms: ms(at(0.99)) })
}

fn one_thread(
    environment: &Environment,
    bundle: &Bundle,
    pictures: &[Image],
    start: &Barrier,
) -> Result<Vec<Duration>> {
    // Everyone comes to the barrier, also who failed: the others wait there.
    let made = Session::new(environment, bundle);
    start.wait();
    let mut inspector = Inspector::new(made?, bundle);
    let mut judge = Judge::new(&AnomalyConfig::default(), 1.0, &bundle.manifest);
    let mut times = Vec::new();
    let mut begun = Instant::now();
    for (n, picture) in pictures.iter().cycle().enumerate() {
        if n == WARM_UP {
            begun = Instant::now();
        }
        if times.len() >= FRAMES && begun.elapsed() > SPAN {
            break;
        }
        let before = Instant::now();
        let placement = inspector.look(picture, &View::default())?;
        judge.judge(&inspector.forward, &placement);
        if n >= WARM_UP {
            times.push(before.elapsed());
        }
    }
    Ok(times)
}

/// What a camera over the drawn strip of steel sees first.
#[must_use]
pub fn strip(count: usize) -> Vec<Image> {
    let (width, height) = CAMERA;
    let kind = SceneKind::Steel;
    let scene = Scene::new(SceneConfig { kind, width, height, seed: 1, speed: 24.0, defects_per_frame: 0.02 });
    let picture = |n| {
        let (pixels, _) = scene.render(n);
        Image { width, height, format: PixelFormat::Rgb8, pixels, origin: None, truth: None }
    };
    (0..count as u64).map(picture).collect()
}
