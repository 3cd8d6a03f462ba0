//! `inspectd watch`: alarms in a terminal, a line each, for ever.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use crate::backoff::Backoff;
use crate::config::Severity;
use crate::config::value::Name;
use crate::exit::{Exit, OrExit};
use crate::glob::glob;
use crate::mqtt::args::BrokerArgs;
use crate::mqtt::link::{Event, Link, LinkOptions};
use crate::mqtt::payload::{AlarmEvent, AlarmState, GatewayState, Transition};

/// File names of pictures that are remembered for the events that name them.
const REMEMBERED: usize = 1000;

/// A connection that lasted this long resets the back-off.
const WELL_AFTER: Duration = Duration::from_secs(10);

/// Arguments of `watch`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Only this site.
    #[arg(long)]
    site: Option<String>,
    /// Only classes of these names, in which * is any text.
    #[arg(long, value_name = "GLOB,…", value_delimiter = ',')]
    class: Vec<String>,
    /// Only these severities: info, minor, major, critical.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = severity)]
    severity: Vec<Severity>,
    /// One JSON event a line, for machines.
    #[arg(long)]
    json: bool,
    /// Save the pictures of alarms in this folder.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
}

fn severity(text: &str) -> Result<Severity, String> {
    let known = serde_json::from_value(serde_json::Value::String(text.to_owned()));
    known.map_err(|_| "it is info, minor, major or critical".to_owned())
}

/// Watches until interrupted.
///
/// # Errors
/// A wrong argument, or a folder that cannot be made. A broker that is away is waited for.
pub fn run(args: &Args) -> Result<()> {
    let options = args.broker.options("watch")?;
    let site =
        args.site.as_deref().map(Name::new).transpose().map_err(|e| anyhow!("--site {e}")).or_exit(Exit::Config)?;
    if let Some(dir) = &args.images {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("cannot make the folder {}", dir.display()))
            .or_exit(Exit::CannotCreate)?;
    }
    let printer = Printer {
        json: args.json,
        classes: args.class.clone(),
        severities: args.severity.clone(),
        colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        images: args.images.clone(),
        saved: HashMap::new(),
        gateways: HashMap::new(),
    };
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(async {
        tokio::select! {
            result = watch(&options, site.as_ref().map_or("+", Name::as_str), printer) => result,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
}

async fn watch(options: &LinkOptions, site: &str, mut printer: Printer) -> Result<()> {
    let mut backoff = Backoff::default();
    loop {
        let reason = match Link::connect(options).await {
            Ok(mut link) => {
                let begun = std::time::Instant::now();
                let wanted =
                    if printer.images.is_some() { &["state", "images/+", "events"][..] } else { &["state", "events"] };
                for topic in wanted {
                    link.subscribe(&format!("inspect/v1/{site}/+/{topic}")).map_err(|e| anyhow!(e))?;
                }
                eprintln!("watching {}", options.url);
                let reason = loop {
                    match link.next().await {
                        Event::Message { topic, payload, .. } => printer.message(&topic, &payload)?,
                        Event::Lost(reason) | Event::Garbled(reason) => break reason,
                        Event::TakenOver => break "another client uses the same id".into(),
                        Event::Refused => {
                            break "the broker refuses the subscription: is this user allowed to read these topics?"
                                .into();
                        }
                        Event::Acknowledged(_) | Event::Rejected { .. } => {}
                    }
                };
                if begun.elapsed() > WELL_AFTER {
                    backoff.reset();
                }
                reason
            }
            Err(e) => e.to_string(),
        };
        let delay = backoff.next_delay();
        eprintln!("{reason}; next attempt in {:.0} s", delay.as_secs_f64().max(1.0));
        tokio::time::sleep(delay).await;
    }
}

struct Printer {
    json: bool,
    /// Of all where there is none.
    classes: Vec<String>,
    severities: Vec<Severity>,
    colour: bool,
    images: Option<PathBuf>,
    saved: HashMap<String, PathBuf>,
    /// Whether each gateway was online when it was last heard of.
    gateways: HashMap<String, bool>,
}

impl Printer {
    fn message(&mut self, topic: &str, payload: &[u8]) -> Result<()> {
        let mut levels = topic.rsplit('/');
        match (levels.next(), levels.next()) {
            (Some("events"), _) => match serde_json::from_slice::<AlarmEvent>(payload) {
                Ok(event) if self.wants(&event) => self.event(&event),
                Ok(_) => Ok(()),
                Err(e) => {
                    eprintln!("{}", plain(&format!("{topic}: no alarm event: {e}")));
                    Ok(())
                }
            },
            (Some(hash), Some("images")) => {
                self.image(hash, payload);
                Ok(())
            }
            (Some("state"), _) => {
                if let Ok(state) = serde_json::from_slice::<GatewayState>(payload)
                    && self.gateways.insert(topic.to_owned(), state.online) != Some(state.online)
                {
                    let word = if state.online { "online" } else { "offline" };
                    let reason = state.reason.map(|r| format!(" ({})", plain(&r))).unwrap_or_default();
                    eprintln!(
                        "{} is {word}{reason}",
                        plain(topic.trim_start_matches("inspect/v1/").trim_end_matches("/state"))
                    );
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn wants(&self, event: &AlarmEvent) -> bool {
        let body = &event.body;
        (self.classes.is_empty() || self.classes.iter().any(|class| glob(class, &body.class)))
            && (self.severities.is_empty() || self.severities.contains(&body.severity))
    }

    fn event(&self, event: &AlarmEvent) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            // Written anew, so that it is one line whatever came; control characters become escapes.
            writeln!(out, "{}", serde_json::to_string(event)?.replace(|c: char| c.is_control(), "\u{fffd}"))?;
        } else {
            let picture = event.body.image.as_ref().and_then(|hash| self.saved.get(hash));
            writeln!(out, "{}", line(event, self.colour, picture))?;
        }
        out.flush()?;
        Ok(())
    }

    fn image(&mut self, hash: &str, payload: &[u8]) {
        let Some(dir) = &self.images else { return };
        // The name comes from outside: only a hash may become a file, and only a JPEG is one.
        let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hash || !payload.starts_with(&[0xff, 0xd8, 0xff]) {
            return;
        }
        let path = dir.join(format!("{}.jpg", &hash[..16]));
        if hex::encode(Sha256::digest(payload)) != hash.to_lowercase() {
            return;
        }
        if let Err(e) = std::fs::write(&path, payload) {
            eprintln!("cannot write {}: {e}", path.display());
            return;
        }
        if self.saved.len() >= REMEMBERED {
            self.saved.clear();
        }
        self.saved.insert(hash.to_owned(), path);
    }
}

/// What comes from outside must not steer the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn line(event: &AlarmEvent, colour: bool, picture: Option<&PathBuf>) -> String {
    let body = &event.body;
    let word = match event.transition {
        Transition::Raised => "RAISED",
        Transition::Updated => "UPDATED",
        Transition::Acknowledged => "ACKED",
        Transition::Shelved => "SHELVED",
        Transition::Unshelved => "UNSHELVED",
        Transition::Suppressed => "SUPPRESSED",
        Transition::Unsuppressed => "UNSUPPRESSED",
        Transition::RemovedFromService => "OUT OF SERVICE",
        Transition::ReturnedToService => "IN SERVICE",
        Transition::Commented => "COMMENT",
        Transition::Cleared => "CLEARED",
    };
    let code = match (event.transition, body.severity) {
        (Transition::Cleared, _) => "32",
        (_, Severity::Critical) => "1;31",
        (_, Severity::Major) => "31",
        (_, Severity::Minor) => "33",
        (_, Severity::Info) => "36",
    };
    let word = if colour { format!("\x1b[{code}m{word:<8}\x1b[0m") } else { format!("{word:<8}") };
    let severity = format!("{:?}", body.severity).to_lowercase();
    let time = event.at.to_zoned_datetime(TimeZone::system()).strftime("%F %T");
    let [x0, y0, x1, y1] = body.bbox.map(f32::round);
    let mut text = format!(
        "{time}  {word}  {severity:<8}  {}/{}/{}  {}  {:.2}  at {x0},{y0} to {x1},{y1}  alarm {}",
        plain(&event.site),
        plain(&event.gateway),
        plain(&body.camera),
        plain(&body.class),
        body.score,
        body.alarm
    );
    let set_aside = match body.state {
        AlarmState::Shelved => "  (shelved)",
        AlarmState::SuppressedByDesign => "  (suppressed)",
        AlarmState::OutOfService => "  (out of service)",
        _ => "",
    };
    text += set_aside;
    if event.replayed {
        text += "  (was queued)";
    }
    if let (Some(path), Transition::Raised | Transition::Updated) = (picture, event.transition) {
        let _ = write!(text, "  {}", path.display());
    }
    text
}
