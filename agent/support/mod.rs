//! `inspectd support-bundle`: one file with what a bug report needs.
//!
//! Guarantees: no secret, no picture, no network; each part that cannot be had says why in its place; what is in it is printed, to be
//! looked at before it is sent. The running agent is not disturbed, but for the seconds of the bench.

mod redact;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use flate2::Compression;
use flate2::write::GzEncoder;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

pub use redact::redact;

use crate::config::Config;
use crate::exit::{Exit, OrExit};
use crate::model::bundle::Bundle;
use crate::model::runtime;
use crate::outbox::Outbox;

/// Lines of the journal, and bytes of any part.
const LINES: &str = "5000";
const LARGEST: usize = 8 << 20;
/// Seconds that a program may take.
const LONGEST: &str = "900";
/// The agent answers at once, or not.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `support-bundle`.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/inspectd/inspectd.toml")]
    config: PathBuf,
    /// The file that is written; inspectd-support-GATEWAY-TIME.tar.gz here where nothing is said.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Seconds that the bench runs, beside the agent; under 2 it is left out.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=600))]
    bench: u64,
}

/// A part: its name, and what it holds or why not.
type Part = (&'static str, Result<String>);

/// Writes it.
///
/// # Errors
/// The file cannot be written. What cannot be collected is no error.
pub fn run(args: &Args) -> Result<()> {
    let config = Config::read(&args.config);
    let gateway = config.as_ref().map_or("unknown", |config| config.gateway.name.as_str()).to_owned();
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let out = args.out.clone().unwrap_or_else(|| format!("inspectd-support-{gateway}-{stamp}.tar.gz").into());
    // Made first, so that a wrong place is known before the bench has run.
    let file = File::options().write(true).create_new(true).mode(0o600).open(&out);
    let file = file.with_context(|| format!("cannot write {}", out.display())).or_exit(Exit::CannotCreate)?;
    if let Err(e) = &config {
        eprintln!("{e:#}; the rest is collected without it");
    }
    let parts = collect(args, config.as_ref().ok());
    let size =
        pack(file, &parts).with_context(|| format!("cannot write {}", out.display())).or_exit(Exit::CannotCreate)?;
    println!("{} ({} KiB) holds:", out.display(), size.div_ceil(1024));
    for (name, part) in &parts {
        match part {
            Ok(text) => println!("  {name:<18} {} lines", text.lines().count()),
            Err(e) => println!("  {name:<18} missing: {e:#}"),
        }
    }
    println!(
        "Passwords are taken out where they can be known for some, pictures are not in it. Look at it before you send it: tar -xzf {}",
        out.display()
    );
    Ok(())
}

fn collect(args: &Args, config: Option<&Config>) -> Vec<Part> {
    let bar = ProgressBar::new(12)
        .with_style(ProgressStyle::with_template("{bar:30} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
    let no = || anyhow!("the configuration cannot be read");
    let mut parts: Vec<Part> = Vec::new();
    let mut part = |name: &'static str, f: &dyn Fn() -> Result<String>| {
        bar.set_message(name);
        parts.push((name, f().map(|text| redact(limited(&text)))));
        bar.inc(1);
    };
    part("versions.txt", &|| Ok(versions()));
    part("config.toml", &|| fs::read_to_string(&args.config).with_context(|| args.config.display().to_string()));
    part("config-error.txt", &|| {
        Ok(Config::read(&args.config).err().map_or_else(|| "none\n".into(), |e| format!("{e:#}\n")))
    });
    part("state.txt", &|| config.map(state).ok_or_else(no));
    part("network.txt", &|| output("ip", &["-brief", "address"]));
    part("clock.txt", &|| output("timedatectl", &["show"]));
    part("bundle.json", &|| {
        let path = config.ok_or_else(no)?.model.bundle.join("bundle.json");
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    });
    part("service.txt", &|| output("systemctl", &["show", "inspectd", "inspectd-console", "--no-pager"]));
    part("journal.txt", &|| {
        output(
            "journalctl",
            &["-u", "inspectd", "-u", "inspectd-console", "-n", LINES, "-o", "short-iso", "--no-pager", "--quiet"],
        )
    });
    part("health.json", &|| of_agent(config.ok_or_else(no)?, "/health"));
    part("metrics.txt", &|| of_agent(config.ok_or_else(no)?, "/metrics"));
    if args.bench >= 2 {
        part("bench.json", &|| {
            let model = &config.ok_or_else(no)?.model;
            let (program, seconds) = (std::env::current_exe()?, args.bench.to_string());
            let (bundle, threads) = (model.bundle.to_string_lossy(), model.workers().min(64).to_string());
            // In a process of its own: what it meets must not end this one.
            // Behind the agent, whose pictures come first.
            output(
                "nice",
                &[
                    "-n",
                    "19",
                    &program.to_string_lossy(),
                    "bench",
                    "--bundle",
                    &bundle,
                    "--seconds",
                    &seconds,
                    "--threads",
                    &threads,
                    "--json",
                ],
            )
        });
    }
    bar.finish_and_clear();
    parts
}

/// The end of a text that is too long: what came last says most.
fn limited(text: &str) -> &str {
    if text.len() <= LARGEST {
        return text;
    }
    let mut from = text.len() - LARGEST;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    // Whole lines: half of a secret is not known for one.
    text[from..].split_once('\n').map_or("", |(_, rest)| rest)
}

fn versions() -> String {
    let mut out = format!("inspectd {}\nONNX Runtime {}\n", env!("CARGO_PKG_VERSION"), runtime::LIBRARY);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_else(|e| format!("{path}: {e}\n"));
    let _ = writeln!(out, "\n# kernel\n{}", read("/proc/version"));
    let _ = writeln!(out, "# system\n{}", read("/etc/os-release"));
    let cpus = read("/proc/cpuinfo");
    // The first processor says what all are.
    let _ =
        writeln!(out, "# processors: {}\n{}", crate::config::cores(), cpus.split("\n\n").next().unwrap_or_default());
    let _ = writeln!(out, "\n# memory\n{}# load\n{}", read("/proc/meminfo"), read("/proc/loadavg"));
    out
}

/// What lies in the state folder, by name and size; nothing of what is in it.
fn state(config: &Config) -> String {
    let dir = &config.gateway.state_dir;
    let waiting = Outbox::waiting(dir).map_or_else(|e| format!("{e:#}"), |n| n.to_string());
    let mut out = format!("{}\nmessages that wait: {waiting}\n\n", dir.display());
    if let Err(e) = list(dir, dir, &mut out) {
        let _ = writeln!(out, "{}: {e:#}", dir.display());
    }
    let bundle = Bundle::open(&config.model.bundle);
    let _ = writeln!(
        out,
        "\nbundle: {}",
        bundle.map_or_else(|e| format!("{e:#}"), |bundle| format!("whole, {}", bundle.sha256))
    );
    let _ = writeln!(out, "\n{}", output("df", &["-h", &dir.to_string_lossy()]).unwrap_or_default());
    out
}

fn list(root: &Path, dir: &Path, out: &mut String) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(dir)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        // One that is gone meanwhile has nothing to say.
        let (path, Ok(about)) = (entry.path(), entry.metadata()) else { continue };
        if about.is_dir() {
            if let Err(e) = list(root, &path, out) {
                let _ = writeln!(out, "{}: {e:#}", path.display());
            }
        } else {
            let _ = writeln!(out, "{:>12}  {}", about.len(), path.strip_prefix(root).unwrap_or(&path).display());
        }
    }
    Ok(())
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    // None of them may hang, as `df` does over a dead network.
    let mut command = Command::new("timeout");
    let command =
        command.args(["-k", "2", LONGEST, program]).args(arguments).env_remove("INSPECTD_LOG").env_remove("RUST_LOG");
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{program} cannot be run"))?;
    let said = child.stderr.take().map(|mut said| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = said.read_to_end(&mut text); // what came is enough
            text
        })
    });
    // More than is taken is not waited for.
    let mut bytes = Vec::new();
    if let Some(out) = child.stdout.take() {
        out.take(2 * LARGEST as u64).read_to_end(&mut bytes)?;
    }
    let status = child.wait()?;
    let said = said.and_then(|said| said.join().ok()).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if status.success() || !text.is_empty() {
        return Ok(text);
    }
    Err(anyhow!("{program}: {}", String::from_utf8_lossy(&said).trim()))
}

/// What the running agent says of itself, where it is configured to.
fn of_agent(config: &Config, path: &str) -> Result<String> {
    let address = config.metrics.listen.context("metrics.listen is not set in the configuration")?;
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    let mut answer =
        agent.get(format!("http://{address}{path}")).call().context("the agent does not answer: does it run?")?;
    answer.body_mut().read_to_string().context("the agent's answer was cut off")
}

/// Gives the bytes that were written.
fn pack(file: File, parts: &[Part]) -> Result<u64> {
    let mut tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, part) in parts {
        let text = part.as_ref().map_or_else(|e| format!("missing: {e:#}\n"), Clone::clone);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(Timestamp::now().as_second().max(0) as u64);
        tar.append_data(&mut header, format!("inspectd-support/{name}"), text.as_bytes())?;
    }
    let mut file = tar.into_inner()?.finish()?;
    file.flush()?;
    Ok(file.metadata()?.len())
}
