//! `inspectd model push`: brings a release to gateways, in waves.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use super::load::Load;
use super::rollout::{Plan, Rollout, Settled, Step, Wave};
use super::target::Target;
use crate::exit::{self, Exit, OrExit};
use crate::mqtt::args::BrokerArgs;
use crate::mqtt::link::Link;
use crate::stop::Stop;

/// Arguments of `model push`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the release.
    #[arg(value_name = "DIR")]
    release: PathBuf,
    /// Folder of the bundle that was signed; none for an order.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    broker: BrokerArgs,
    /// Which gateways: SITE/GATEWAY, with * for any text in the gateway's name.
    #[arg(long, value_name = "SITE/GATEWAY")]
    to: Target,
    /// Waves: N asks so many more gateways, N% until that share of all has been asked; end with 100%.
    #[arg(long, value_name = "N,N%,…", value_delimiter = ',', default_value = "100%")]
    wave: Vec<Wave>,
    /// It stops when more than this share of a wave has failed.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    max_failed: f64,
    /// Minutes that a wave may take; gateways that have not settled by then have failed.
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    patience: f64,
    /// Leave the chunks on the broker, for gateways that go off meanwhile.
    #[arg(long)]
    keep: bool,
    /// One JSON line a gateway, for machines.
    #[arg(long)]
    json: bool,
}

/// Brings it.
///
/// # Errors
/// Release or bundle are not what was signed, the broker cannot be reached, or too many gateways failed.
pub fn run(args: &Args) -> Result<()> {
    let load = Load::read(&args.release, args.bundle.as_deref()).or_exit(Exit::Data)?;
    let options = args.broker.options("push")?;
    let plan = Plan {
        to: args.to.clone(),
        waves: args.wave.clone(),
        max_failed: args.max_failed,
        patience: Duration::from_secs_f64(args.patience.max(0.0) * 60.0),
        keep: args.keep,
    };
    let mut shown = Shown { json: args.json, bar: ProgressBar::hidden(), about: "", gateways: 0, asked: 0 };
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(async {
        let link = Link::connect(&options).await.or_exit(Exit::Unavailable)?;
        let mut tell = |step: Step| shown.step(&load, &step);
        let stop = Stop::default();
        tokio::spawn(interrupted(stop.clone()));
        Rollout::new(&plan, &load, link, stop, &mut tell).run().await
    })
}

/// Ctrl-C and SIGTERM call it off: what gateways have not taken is wanted no more, and nothing stays on the broker. A second one ends at once.
async fn interrupted(stop: Stop) {
    let mut terminate = signal(SignalKind::terminate()).ok();
    let mut asked = async || match &mut terminate {
        Some(terminate) => tokio::select! { _ = tokio::signal::ctrl_c() => (), _ = terminate.recv() => () },
        None => drop(tokio::signal::ctrl_c().await),
    };
    asked().await;
    eprintln!(
        "called off: gateways that have not taken it are told so, and the broker is cleared; once more ends at once"
    );
    stop.set();
    asked().await;
    exit::leave(Exit::Unavailable as u8);
}

/// What is seen of it in a terminal.
struct Shown {
    json: bool,
    bar: ProgressBar,
    about: &'static str,
    gateways: usize,
    asked: usize,
}

impl Shown {
    fn step(&mut self, load: &Load, step: &Step) {
        match *step {
            Step::Begins(chunks, gateways) => {
                self.gateways = gateways.len();
                let release = &load.release;
                eprintln!(
                    "{} {}, counter {}: {chunks} chunks to the broker, then {} gateways",
                    release.name, release.version, release.counter, self.gateways
                );
            }
            Step::Publishing(what, done, of) => {
                if self.about != what {
                    self.begin(of as u64, what);
                    self.about = what;
                }
                self.bar.set_position(done as u64);
                if done == of {
                    self.bar.finish_and_clear();
                    self.about = "";
                }
            }
            Step::Wave(wave, end) => {
                self.begin(wave.len() as u64, &format!("gateways {} to {end} of {}", self.asked + 1, self.gateways));
                self.asked = end;
            }
            Step::Settled(gateway, outcome) => {
                let line = match (self.json, outcome) {
                    (true, Settled::Committed) => {
                        serde_json::json!({ "gateway": gateway, "committed": true }).to_string()
                    }
                    (true, Settled::Failed(reason)) => {
                        serde_json::json!({ "gateway": gateway, "committed": false, "reason": reason }).to_string()
                    }
                    (false, Settled::Committed) => format!("{gateway}: committed"),
                    (false, Settled::Failed(reason)) => format!("{gateway}: failed, {reason}"),
                };
                self.bar.suspend(|| println!("{line}"));
                self.bar.inc(1);
            }
            Step::WaveEnds(taken, of) => {
                self.bar.finish_and_clear();
                println!("{taken} of {of} gateways have taken it");
            }
        }
    }

    fn begin(&mut self, length: u64, what: &str) {
        let style = ProgressStyle::with_template("{msg:24} {bar:30} {pos}/{len} {eta}");
        self.bar = ProgressBar::new(length)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_message(what.to_owned());
    }
}
