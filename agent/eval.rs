//! `inspectd eval`: the daemon's own inspection over a labelled set, as ONE camera's stream.
//!
//! Frames go in one after the other, so that the anomaly score of a frame depends on it and those before it only. The
//! output has a JSON line a frame, in the order of inspection.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use image::{ImageBuffer, Luma};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::anomaly::HeatMap;
use crate::config::AnomalyConfig;
use crate::exit::{Exit, OrExit};
use crate::frame::still;
use crate::frame::view::View;
use crate::glob::glob;
use crate::inspector::{Inspector, Judge};
use crate::model::bundle::{Bundle, ClassSpec};
use crate::model::{self, golden, runtime};
use crate::mqtt::payload::AlarmKind;

/// Average precision needs the detections that no alarm would be raised for, too: from this score on they are written.
const FLOOR: f32 = 0.01;
/// Detections a frame, best first; COCO's own measure takes as many.
const MOST: usize = 100;

/// Arguments of `eval`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the model bundle.
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// Folder of the labelled set, with annotations.json.
    #[arg(long, value_name = "SET_DIR")]
    data: PathBuf,
    /// File with one picture a line: only these, in this order. Otherwise the order of annotations.json.
    #[arg(long, value_name = "LIST")]
    stream: Option<PathBuf>,
    /// Where the predictions go, a JSON line a frame.
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
    /// Save the anomaly maps in this folder, as 16-bit PNG.
    #[arg(long, value_name = "DIR")]
    maps: Option<PathBuf>,
    /// Only detections of these classes: names, with * for any text, separated by commas.
    #[arg(long, value_name = "GLOB,…", value_delimiter = ',')]
    classes: Vec<String>,
}

#[derive(Deserialize)]
struct Annotations {
    images: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Annotation {
    file: String,
}

#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    detections: Vec<Detection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anomaly: Option<AnomalyLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    latency_ms: f64,
}

#[derive(Serialize)]
struct Detection {
    class: String,
    score: f32,
    #[serde(rename = "box")]
    bbox: [f32; 4],
}

#[derive(Serialize)]
struct AnomalyLine {
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f32>,
    regions: Vec<[f32; 4]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<String>,
}

/// Runs the evaluation.
///
/// # Errors
/// The set, the bundle or the output cannot be used. A picture that cannot be decoded is no error: its line says so.
pub fn run(args: &Args) -> Result<()> {
    let files = files(args).or_exit(Exit::NoInput)?;
    let bundle = Bundle::open(&args.bundle).or_exit(Exit::Data)?;
    bundle.manifest.matching(&args.classes).context("--classes").or_exit(Exit::Usage)?;
    let environment = runtime::load(None).or_exit(Exit::Unavailable)?;
    let mut session = runtime::Session::new(&environment, &bundle).or_exit(Exit::Data)?;
    golden::verify(&bundle, &mut session).or_exit(Exit::Data)?;
    session.listen_from(FLOOR);
    let mut inspector = Inspector::new(session, &bundle);
    let mut judge = Judge::new(&AnomalyConfig::default(), 1.0, &bundle.manifest);
    if let Some(dir) = &args.maps {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("cannot make {}", dir.display()))
            .or_exit(Exit::CannotCreate)?;
    }
    let out = File::create(&args.out).with_context(|| format!("cannot write {}", args.out.display()));
    let mut out = BufWriter::new(out.or_exit(Exit::CannotCreate)?);
    let bar = ProgressBar::new(files.len() as u64).with_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len}  {per_sec}  {eta} left")
            .unwrap_or(ProgressStyle::default_bar()),
    );
    let (mut latencies, mut unreadable) = (Vec::with_capacity(files.len()), 0);
    for file in &files {
        let line = inspect(file, args, &bundle.manifest.classes, &mut inspector, &mut judge)?;
        unreadable += usize::from(line.error.is_some());
        latencies.push(line.latency_ms);
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")?;
        bar.inc(1);
    }
    out.flush().context("the predictions could not be written").or_exit(Exit::CannotCreate)?;
    bar.finish_and_clear();
    latencies.sort_by(f64::total_cmp);
    let quantile = |q: f64| latencies.get(((latencies.len() - 1) as f64 * q) as usize).copied().unwrap_or_default();
    eprintln!(
        "{}: {} frames, {unreadable} without verdict, {:.1} ms p50, {:.1} ms p99 from pixels to verdict",
        args.out.display(),
        files.len(),
        quantile(0.5),
        quantile(0.99)
    );
    Ok(())
}

fn files(args: &Args) -> Result<Vec<String>> {
    let files: Vec<String> = if let Some(list) = &args.stream {
        let text = std::fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect()
    } else {
        let path = args.data.join("annotations.json");
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let set: Annotations = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no list of annotated images", path.display()))?;
        set.images.into_iter().map(|image| image.file).collect()
    };
    ensure!(!files.is_empty(), "there is no picture to inspect in {}", args.data.display());
    Ok(files)
}

fn inspect<'f>(
    file: &'f str,
    args: &Args,
    classes: &[ClassSpec],
    inspector: &mut Inspector,
    judge: &mut Judge,
) -> Result<Line<'f>> {
    let path = args.data.join(file);
    let image = still::read(&path, still::LARGEST).map_err(|e| anyhow!("{} {e}", path.display()));
    let begun = Instant::now();
    let judged = image.and_then(|image| {
        let placement = inspector.look(&image, &View::default())?;
        Ok((judge.judge(&inspector.forward, &placement), placement))
    });
    let latency_ms = begun.elapsed().as_secs_f64() * 1000.0;
    let (judgement, placement) = match judged {
        Ok(judged) => judged,
        Err(e) => {
            eprintln!("no verdict: {e:#}");
            return Ok(Line { file, detections: Vec::new(), anomaly: None, error: Some(format!("{e:#}")), latency_ms });
        }
    };
    let of = |kind| judgement.findings.iter().filter(move |f| f.kind == kind);
    let wanted = |class: &str| args.classes.is_empty() || args.classes.iter().any(|g| glob(g, class));
    let named = |d: &model::Detection| {
        let class = classes.get(d.class)?;
        let bbox = placement.finding(d.bbox)?;
        wanted(&class.name).then(|| Detection { class: class.name.clone(), score: d.score, bbox })
    };
    let detections = inspector.forward.detections.iter().filter_map(named).take(MOST).collect();
    let anomaly = match judgement.anomaly.as_ref() {
        None => None,
        Some(anomaly) => Some(AnomalyLine {
            score: anomaly.score,
            threshold: anomaly.standing.threshold(),
            probability: anomaly.probability,
            regions: of(AlarmKind::Anomaly).map(|f| f.bbox).collect(),
            map: args.maps.as_ref().map(|dir| save_map(dir, file, &anomaly.map)).transpose()?,
        }),
    };
    Ok(Line { file, detections, anomaly, error: None, latency_ms })
}

fn save_map(dir: &Path, file: &str, map: &HeatMap) -> Result<String> {
    let name = format!("{}.png", file.replace(['/', '\\'], "_"));
    let full = f32::from(u16::MAX);
    let values = map.data.iter().map(|v| (v.clamp(0.0, 1.0) * full).round() as u16).collect();
    let picture: ImageBuffer<Luma<u16>, Vec<u16>> =
        ImageBuffer::from_raw(map.width as u32, map.height as u32, values).context("a map has no size")?;
    let path = dir.join(&name);
    picture.save(&path).with_context(|| format!("cannot write {}", path.display())).or_exit(Exit::CannotCreate)?;
    Ok(name)
}
