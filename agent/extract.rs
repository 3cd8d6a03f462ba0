//! `inspectd extract`: from the base bundle the one that fits this gateway.
//!
//! With a budget of time, candidates are extracted in memory and measured on this machine, and the most accurate that fits
//! is taken. Nothing is written before the new bundle was found whole and its golden vectors hold.

use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::config;
use crate::exit::{Exit, OrExit};
use crate::model::extract::table::{self, Row};
use crate::model::extract::{Base, Extracted, Precision, Setting, plot, store};
use crate::model::golden;
use crate::model::runtime::{self, Environment, Session};
use crate::stopwatch;

/// Arguments of `extract`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the base bundle.
    #[arg(long, value_name = "BASE_DIR")]
    from: PathBuf,
    /// Folder for the new bundle; without it the settings are listed and nothing is written.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only these classes: names, with * for any text, separated by commas.
    #[arg(long, value_name = "GLOB,…", value_delimiter = ',')]
    classes: Vec<String>,
    /// The most accurate whose median time a frame on this machine is at most four fifths of this.
    #[arg(long, value_name = "N", value_parser = budget, conflicts_with = "max_macs")]
    budget_ms: Option<f64>,
    /// The most accurate of at most this many multiply-accumulates a square frame, in units (300000000 is 300 M).
    #[arg(long, value_name = "N")]
    max_macs: Option<u64>,
    /// Side of the network's input in pixels, a multiple of 32 (128 to 416 for models/base).
    #[arg(long, value_name = "PX")]
    input: Option<u32>,
    /// This size of the base: full, large, medium, small, tiny or micro in models/base.
    #[arg(long, value_name = "NAME")]
    size: Option<String>,
    /// In which numbers the network computes; without it 8 bits are chosen from as well, where they cost little accuracy.
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// Threads that work at the same time while candidates are measured; the number of cores otherwise.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: Option<u64>,
    /// Replace a bundle that is in the folder.
    #[arg(long)]
    force: bool,
    /// Save accuracy over cost as a picture.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// JSON, for machines.
    #[arg(long)]
    json: bool,
}

fn budget(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "a number of milliseconds is wanted".to_owned())?;
    if (0.1..=60_000.0).contains(&value) { Ok(value) } else { Err("it must be 0.1 to 60000 milliseconds".to_owned()) }
}

#[derive(Serialize)]
struct Report<'a> {
    size: &'a str,
    input: u32,
    precision: Precision,
    macs: u64,
    params: u64,
    bytes: u64,
    latency_ms: f64,
    latency_p99_ms: f64,
    classes: Vec<&'a str>,
    seconds: f64,
    expected_map50: f32,
    golden_difference: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<&'a Path>,
    table: &'a [Row],
}

/// Share of a budget that a frame may take by the stopwatch. In the daemon, cameras and outbox want the same cores: there a
/// frame took 8 to 20 per cent longer.
const HEADROOM: f64 = 0.8;

/// What a gateway wants of the base.
#[derive(Debug, Clone, Copy)]
pub enum Wish {
    /// A median time a frame, in milliseconds.
    Milliseconds(f64),
    /// Multiply-accumulates a frame.
    Macs(u64),
    /// The most accurate.
    Best,
}

/// Runs the command.
///
/// # Errors
/// The base cannot be used, nothing fits, or the folder cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let base = Base::open(&args.from).or_exit(Exit::Data)?;
    let classes = base.classes(&args.classes).or_exit(Exit::Data)?;
    let mut rows =
        table::rows(&base, &classes, args.precision, args.input, args.size.as_deref()).or_exit(Exit::Data)?;
    let wish = match (args.budget_ms, args.max_macs) {
        (Some(ms), _) => Wish::Milliseconds(ms),
        (None, Some(macs)) => Wish::Macs(macs),
        (None, None) => Wish::Best,
    };
    let environment = runtime::load(None).or_exit(Exit::Unavailable)?;
    let threads = args.threads.map_or_else(config::cores, |n| n as usize);
    let chosen = choose(&base, &mut rows, wish, &environment, threads);
    if let Some(path) = &args.plot {
        let svg = plot::svg(
            &rows,
            chosen.as_ref().ok().copied(),
            &format!("{}: what can be extracted", base.manifest().name),
        )?;
        std::fs::write(path, svg)
            .with_context(|| format!("cannot write {}", path.display()))
            .or_exit(Exit::CannotCreate)?;
    }
    if let (Err(_), false) = (&chosen, args.json) {
        print(&rows, None);
    }
    let chosen = chosen.or_exit(Exit::Data)?;

    let begun = Instant::now();
    let setting = rows[chosen].setting.clone();
    let (extracted, golden_difference) = prove(&base, &setting, &environment).or_exit(Exit::Software)?;
    if let Some(out) = &args.out {
        store::save(&extracted, out, args.force).or_exit(Exit::CannotCreate)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let time = stopwatch::frame_time(&environment, &extracted.bundle, threads)?;
    rows[chosen].ms = Some(time.p50_ms);
    let row = &rows[chosen];
    if args.json {
        let report = Report {
            size: &row.size,
            input: row.input,
            precision: row.precision,
            macs: row.macs,
            params: row.params,
            bytes: extracted.files.values().map(|b| b.len() as u64).sum(),
            latency_ms: time.p50_ms,
            latency_p99_ms: time.p99_ms,
            classes: extracted.bundle.manifest.classes.iter().map(|c| c.name.as_str()).collect(),
            seconds,
            expected_map50: row.expected_map50,
            golden_difference,
            out: args.out.as_deref(),
            table: &rows,
        };
        let text = serde_json::to_string(&report)?;
        let _ = writeln!(std::io::stdout(), "{text}"); // a reader that has gone is no reason to panic
        return Ok(());
    }
    print(&rows, Some(chosen));
    let summary = format!(
        "{} at {} px in {}, {} classes: {:.1} ms p50, {:.1} ms p99 on {threads} thread(s), mAP50 {:.3} to be expected; \
         cut and proved in {seconds:.2} s",
        row.size,
        row.input,
        row.precision,
        extracted.bundle.manifest.classes.len(),
        time.p50_ms,
        time.p99_ms,
        row.expected_map50,
    );
    let last = args.out.as_ref().map_or_else(
        || format!("{summary}\nnothing was written; name a folder with --out"),
        |out| format!("{}: {summary}", out.display()),
    );
    let _ = writeln!(std::io::stdout(), "{last}"); // a reader that has gone is no reason to panic
    Ok(())
}

/// The number of the row that fulfils the wish. Rows that had to be measured keep their time.
///
/// # Errors
/// Nothing fits; the message says what would.
pub fn choose(base: &Base, rows: &mut [Row], wish: Wish, environment: &Environment, threads: usize) -> Result<usize> {
    let place = |rows: &[Row], row: &Row| rows.iter().position(|r| r.setting == row.setting);
    let none = "there is nothing to choose from";
    match wish {
        Wish::Best => {
            let best = rows.iter().max_by(|a, b| a.expected_map50.total_cmp(&b.expected_map50)).context(none)?;
            place(rows, best).context(none)
        }
        Wish::Macs(macs) => place(rows, table::within(rows, macs)?).context(none),
        Wish::Milliseconds(ms) => {
            let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
            let found = table::search(rows, ms * HEADROOM, |row| {
                bar.set_message(format!("measuring {} at {} px in {}", row.size, row.input, row.precision));
                bar.tick();
                let extracted = base.extract(&row.setting)?;
                Ok(stopwatch::frame_time(environment, &extracted.bundle, threads)?.p50_ms)
            })?;
            bar.finish_and_clear();
            let fastest = rows
                .iter()
                .filter(|row| row.ms.is_some())
                .min_by(|a, b| a.ms.partial_cmp(&b.ms).unwrap_or(std::cmp::Ordering::Equal));
            let would = fastest.map_or_else(String::new, |row| {
                format!(
                    "; the fastest, {} at {} px in {}, wants {:.1} ms here: allow that much, or take fewer threads than {threads} \
                     (--threads)",
                    row.size,
                    row.input,
                    row.precision,
                    row.ms.unwrap_or_default() / HEADROOM
                )
            });
            found.with_context(|| format!("nothing fits into {ms} ms a frame on this machine{would}"))
        }
    }
}

/// Extracts a setting and holds its golden vectors against this machine's runtime; gives the largest difference as a share
/// of the tolerance.
///
/// # Errors
/// It cannot be cut, or computes something else than the base network at that size.
pub fn prove(base: &Base, setting: &Setting, environment: &Environment) -> Result<(Extracted, f32)> {
    let extracted = base.extract(setting)?;
    let mut session = Session::new(environment, &extracted.bundle)?;
    let worst =
        golden::verify(&extracted.bundle, &mut session).context("what was extracted is not what was trained")?;
    ensure!(worst.is_finite(), "the golden vectors could not be compared");
    Ok((extracted, worst))
}

fn print(rows: &[Row], chosen: Option<usize>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "  size     input  precision    M MACs  M params  mAP50   ms here"); // a reader that has gone is no reason to panic
    for (n, row) in rows.iter().enumerate() {
        let mark = match (chosen == Some(n), row.front) {
            (true, _) => '>',
            (false, true) => ' ',
            (false, false) => '-',
        };
        let ms = row.ms.map_or_else(String::new, |ms| format!("{ms:9.1}"));
        let _ = writeln!(
            out,
            "{mark} {:<8} {:>5}  {:<9} {:>9.1} {:>9.2} {:>6.3} {ms}",
            row.size,
            row.input,
            row.precision,
            row.macs as f64 / 1e6,
            row.params as f64 / 1e6,
            row.expected_map50
        );
    }
    let _ = writeln!(out, "- another row is at least as accurate at no more cost");
}
