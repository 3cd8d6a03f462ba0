//! `inspectd bench`: the whole pipeline under a stopwatch, and the bare ONNX Runtime session beside it.
//!
//! Both run in turn, a slice of time each, over the same pictures and on the same number of threads, so that a machine
//! that becomes slower meanwhile is slower for both. `bare_fps` is ONE session that spreads each forward pass over all
//! threads, as ONNX Runtime does by itself, and does nothing else; `bare_parallel_fps` is a session of one thread on
//! each thread. `overhead` is the first against the pipeline: capture slot, resize, normalisation, forward pass,
//! anomaly score, verdict, tracking, snapshot and durable outbox. `peak_rss_mb` is the pipeline's, read when it is warm
//! and before the bare sessions are made.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use jiff::Timestamp;
use serde::Serialize;

use crate::config::{
    AlarmConfig, AnomalyConfig, CameraConfig, FolderSource, Name, SourceConfig, SyntheticSource, cores,
};
use crate::engine::Engine;
use crate::exit::{Exit, OrExit};
use crate::frame::feed::Feed;
use crate::frame::source::{FrameSource, Next};
use crate::frame::view::View;
use crate::frame::{Image, folder::Folder};
use crate::inspector::Inspector;
use crate::model::bundle::Bundle;
use crate::model::runtime::{self, Bare, Environment};
use crate::mqtt::payload::ModelRef;
use crate::outbox::{Outbox, Quota};
use crate::pipeline::{Bell, Lane, Pipeline, Settings};
use crate::stop::Stop;
use crate::stopwatch;
use crate::verdict::book::{AlarmBook, Identity};

/// Pictures kept in memory, so that decoding files is not part of the stopwatch.
const PICTURES: usize = 16;
/// Bytes of them.
const PICTURE_BYTES: usize = 32 << 20;
/// A slice of time for each side.
const SLICE: Duration = Duration::from_secs(1);

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the model bundle.
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// Folder of pictures; the synthetic camera at 640x480 otherwise.
    #[arg(long, value_name = "PATH")]
    source: Option<PathBuf>,
    /// How long to measure, for both sides together.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=3600))]
    seconds: u64,
    /// Threads for inference; the number of cores otherwise.
    #[arg(long, default_value_t = cores() as u64, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
    /// Cameras that share the model.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    cameras: u64,
    /// Side in pixels of the network's input, instead of the bundle's.
    #[arg(long, value_name = "PX")]
    input: Option<u32>,
    /// JSON, for machines.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    fps: f64,
    bare_fps: f64,
    bare_parallel_fps: f64,
    overhead: f64,
    stages: Stages,
    peak_rss_mb: f64,
    threads: u64,
    cameras: u64,
    input_px: u32,
    frames: u64,
}

#[derive(Serialize)]
struct Stages {
    prepare: Quantiles,
    forward: Quantiles,
    judge: Quantiles,
    record: Quantiles,
    /// All of the above: how long a thread is at work on a frame. What `extract --budget-ms` holds to its budget.
    frame: Quantiles,
    capture_to_verdict: Quantiles,
}

#[derive(Serialize)]
struct Quantiles {
    p50_ms: f64,
    p99_ms: f64,
}

#[derive(Default)]
struct Samples {
    prepare: Vec<f32>,
    forward: Vec<f32>,
    judge: Vec<f32>,
    record: Vec<f32>,
    frame: Vec<f32>,
    capture_to_verdict: Vec<f32>,
}

/// Runs the benchmark and prints its report.
///
/// # Errors
/// The bundle, the runtime or the source cannot be used.
pub fn run(args: &Args) -> Result<()> {
    let mut bundle = Bundle::open(&args.bundle).or_exit(Exit::Data)?;
    if let Some(size) = args.input {
        let multiple = bundle.manifest.input.multiple_of;
        let fits = (32..=4096).contains(&size) && size.is_multiple_of(multiple);
        ensure!(fits, "--input must be 32 to 4096 and a multiple of {multiple}");
        bundle.manifest.input.size = size;
    }
    let environment = runtime::load(None).or_exit(Exit::Unavailable)?;
    let pictures = pictures(args).or_exit(Exit::NoInput)?;
    let report = measure(args, &bundle, &environment, &Arc::new(pictures))?;
    if args.json {
        let text = serde_json::to_string(&report)?;
        let _ = writeln!(std::io::stdout(), "{text}"); // a reader that has gone is no reason to panic
    } else {
        print(&report);
    }
    Ok(())
}

fn pictures(args: &Args) -> Result<Vec<Image>> {
    let mut pictures = Vec::new();
    let mut bytes = 0;
    if let Some(path) = &args.source {
        let config = FolderSource { path: path.clone(), ..FolderSource::default() };
        let mut folder = Folder::open(&config, 64_000_000, Stop::default())?;
        while pictures.len() < PICTURES && bytes < PICTURE_BYTES {
            match folder.next(Instant::now())? {
                Next::Picture { image, .. } => {
                    bytes += image.pixels.len();
                    pictures.push(image);
                }
                Next::Unreadable { .. } => {}
                Next::Idle | Next::Ended => break,
            }
        }
        ensure!(!pictures.is_empty(), "{} holds no picture that can be decoded", path.display());
    } else {
        pictures = stopwatch::strip(PICTURES);
    }
    Ok(pictures)
}

fn measure(args: &Args, bundle: &Bundle, environment: &Environment, pictures: &Arc<Vec<Image>>) -> Result<Report> {
    let threads = args.threads as usize;
    let running = Running::start(args, bundle, environment, pictures)?;
    // The banks fill and the sessions warm up before anything counts.
    running.slice(Duration::from_secs(3));
    running.samples();
    // The pipeline's memory alone, before the other side's sessions are made.
    let peak_rss_mb = peak_rss_mb();

    let mut probe = Inspector::new(runtime::Session::new(environment, bundle)?, bundle);
    probe.look(&pictures[0], &View::default())?;
    let input = probe.input();
    let mut whole = Bare::new(environment, bundle, threads)?;
    let mut parallel = (0..threads).map(|_| Bare::new(environment, bundle, 1)).collect::<Result<Vec<_>>>()?;
    let (mut ours, mut bare, mut bare_parallel) = (Vec::new(), Vec::new(), Vec::new());
    let mut samples = Samples::default();
    let rounds = (args.seconds / 3).max(1);
    for _ in 0..rounds {
        bare.push(rate(SLICE, || whole.run(input))?);
        ours.push(running.slice(SLICE));
        samples.extend(running.samples());
        let rates = thread::scope(|scope| {
            let handles: Vec<_> =
                parallel.iter_mut().map(|session| scope.spawn(|| rate(SLICE, || session.run(input)))).collect();
            handles
                .into_iter()
                .map(|h| h.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
                .sum::<Result<f64>>()
        });
        bare_parallel.push(rates?);
    }
    let frames = running.stop();
    let (fps, bare_fps) = (median(&mut ours), median(&mut bare));
    Ok(Report {
        fps,
        bare_fps,
        bare_parallel_fps: median(&mut bare_parallel),
        overhead: bare_fps / fps.max(1e-9),
        stages: samples.stages(),
        peak_rss_mb,
        threads: args.threads,
        cameras: args.cameras,
        input_px: bundle.manifest.input.size,
        frames,
    })
}

/// Calls a second, over a slice of time.
fn rate(slice: Duration, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    let (begun, mut n) = (Instant::now(), 0_u32);
    while begun.elapsed() < slice {
        f()?;
        n += 1;
    }
    Ok(f64::from(n) / begun.elapsed().as_secs_f64())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The pipeline, with a feeder that keeps the slots full while a slice runs.
struct Running {
    pipeline: Arc<Pipeline>,
    open: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    samples: mpsc::Receiver<Sample>,
    stop: Stop,
    threads: Vec<thread::JoinHandle<()>>,
    _state: StateFolder,
}

struct Sample {
    times: crate::inspector::Times,
    record: Duration,
    latency: f32,
}

/// A folder for the outbox that is removed at the end.
struct StateFolder(PathBuf);

impl Drop for StateFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // nothing of worth is in it
    }
}

impl Running {
    fn start(args: &Args, bundle: &Bundle, environment: &Environment, pictures: &Arc<Vec<Image>>) -> Result<Self> {
        let bell = Arc::new(Bell::default());
        let engine = Engine::start(args.threads as usize, environment, bundle)?;
        let kind = Arc::clone(&engine.kind);
        let pipeline = Arc::new(Pipeline::new(Arc::clone(&bell), engine));
        let mut lanes = Vec::new();
        for n in 0..args.cameras {
            let bell = Arc::clone(&bell);
            let name = format!("bench-{n}");
            let source = SourceConfig::Synthetic(SyntheticSource::default()); // of which nothing is asked
            let camera = CameraConfig::new(Name::new(&name).map_err(anyhow::Error::msg)?, source);
            let judge = kind.judge(&AnomalyConfig::default(), &camera, None);
            let feed = Arc::new(Feed::new(name.into(), Box::new(move || bell.ring())));
            lanes.push(Arc::new(Lane::new(feed, Settings::new(camera, 0), 0, judge)));
        }
        pipeline.set_lanes(lanes);
        let state = StateFolder(std::env::temp_dir().join(format!("inspectd-bench-{}", std::process::id())));
        let quota = Quota { messages: 10_000, image_bytes: 64 << 20, event_bytes: 64 << 20 };
        let outbox = Outbox::open(&state.0, quota).or_exit(Exit::CannotCreate)?;
        let names: Vec<_> = pipeline.lanes().iter().map(|lane| Arc::clone(lane.name())).collect();
        let identity = Identity { site: "bench".into(), gateway: "bench".into(), model: ModelRef::of(bundle) };
        let mut book = AlarmBook::open(identity, &AlarmConfig::default(), &names, &outbox)?;

        let (stop, open, done) = (Stop::default(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (sender, verdicts) = mpsc::sync_channel(4);
        let (sample_sender, samples) = mpsc::sync_channel(100_000);
        let mut threads = Vec::new();
        for _ in 0..args.threads {
            let (pipeline, sender, stop) = (Arc::clone(&pipeline), sender.clone(), stop.clone());
            threads.push(thread::spawn(move || pipeline.work(&sender, &stop)));
        }
        drop(sender);
        let counter = Arc::clone(&done);
        threads.push(thread::spawn(move || {
            for (lane, verdict) in verdicts {
                let begun = Instant::now();
                let entry = book.decide(Lane::name(&lane), &verdict, Timestamp::now());
                let _ = book.record(&entry, &outbox); // a full temporary disk must not stop the stopwatch
                counter.fetch_add(1, Ordering::Relaxed);
                let sample = Sample { times: verdict.times, record: begun.elapsed(), latency: verdict.latency };
                let _ = sample_sender.try_send(sample); // enough samples are enough
            }
        }));
        let (feeding, gate, halt, pictures) =
            (Arc::clone(&pipeline), Arc::clone(&open), stop.clone(), Arc::clone(pictures));
        threads.push(thread::spawn(move || {
            let mut n = 0;
            while !halt.is_set() {
                let mut idle = true;
                if gate.load(Ordering::Relaxed) {
                    for lane in feeding.lanes().iter().filter(|lane| !lane.feed.is_waiting()) {
                        lane.feed.deliver(pictures[n % pictures.len()].clone().into());
                        n += 1;
                        idle = false;
                    }
                }
                if idle {
                    thread::sleep(Duration::from_micros(300));
                }
            }
        }));
        Ok(Self { pipeline, open, done, samples, stop, threads, _state: state })
    }

    /// Frames a second while the gate is open.
    fn slice(&self, slice: Duration) -> f64 {
        self.open.store(true, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(100));
        let (begun, before) = (Instant::now(), self.done.load(Ordering::Relaxed));
        thread::sleep(slice);
        let fps = (self.done.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
        self.open.store(false, Ordering::Relaxed);
        // What is still on its way must not disturb the other side's slice.
        thread::sleep(Duration::from_millis(100));
        fps
    }

    fn samples(&self) -> Vec<Sample> {
        self.samples.try_iter().collect()
    }

    fn stop(self) -> u64 {
        self.stop.set();
        self.pipeline.bell.ring();
        for thread in self.threads {
            let _ = thread.join(); // a panicked worker has told so itself
        }
        self.done.load(Ordering::Relaxed)
    }
}

impl Samples {
    fn extend(&mut self, samples: Vec<Sample>) {
        for sample in samples {
            self.prepare.push(sample.times.prepare.as_secs_f32());
            self.forward.push(sample.times.forward.as_secs_f32());
            self.judge.push(sample.times.judge.as_secs_f32());
            self.record.push(sample.record.as_secs_f32());
            let times = sample.times;
            self.frame.push((times.prepare + times.forward + times.judge + sample.record).as_secs_f32());
            self.capture_to_verdict.push(sample.latency);
        }
    }

    fn stages(mut self) -> Stages {
        let quantiles = |values: &mut Vec<f32>| {
            values.sort_by(f32::total_cmp);
            let at =
                |q: f64| values.get((values.len().saturating_sub(1) as f64 * q) as usize).copied().unwrap_or_default();
            let ms = |q| (f64::from(at(q)) * 1e6).round() / 1e3;
            Quantiles { p50_ms: ms(0.5), p99_ms: ms(0.99) }
        };
        Stages {
            prepare: quantiles(&mut self.prepare),
            forward: quantiles(&mut self.forward),
            judge: quantiles(&mut self.judge),
            record: quantiles(&mut self.record),
            frame: quantiles(&mut self.frame),
            capture_to_verdict: quantiles(&mut self.capture_to_verdict),
        }
    }
}

/// The process's largest resident memory so far, from the kernel.
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| (kib / 102.4).round() / 10.0)
}

fn print(report: &Report) {
    println!(
        "pipeline      {:7.1} frames/s ({} thread(s), {} camera(s), {} px)",
        report.fps, report.threads, report.cameras, report.input_px
    );
    println!("bare session  {:7.1} frames/s, overhead {:.2}", report.bare_fps, report.overhead);
    println!("bare, a session a thread {:7.1} frames/s", report.bare_parallel_fps);
    for (name, q) in [
        ("prepare", &report.stages.prepare),
        ("forward", &report.stages.forward),
        ("judge", &report.stages.judge),
        ("record", &report.stages.record),
        ("frame", &report.stages.frame),
        ("capture to verdict", &report.stages.capture_to_verdict),
    ] {
        println!("{name:<20} {:7.2} ms p50 {:7.2} ms p99", q.p50_ms, q.p99_ms);
    }
    println!("peak memory   {:7.1} MB", report.peak_rss_mb);
}
