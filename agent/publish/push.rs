//! `inspectd model push`: brings a release to gateways, in waves.
//!
//! Guarantees: what is put on the broker is what the release names (whose signature gateways verify), and every chunk before the first gateway is asked; a wave begins when the
//! one before has settled; where more gateways fail than allowed no more are asked, and those that have not taken it yet are told that it
//! is not wanted. At the end the chunks are removed from the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, timeout};

use super::sign::{DESIRED, INDEX, RELEASE, contents};
use super::target::Target;
use crate::exit::{Exit, OrExit};
use crate::glob::glob;
use crate::model::bundle::Bundle;
use crate::mqtt::args::BrokerArgs;
use crate::mqtt::link::{Event, Link};
use crate::mqtt::payload::GatewayState;
use crate::mqtt::topics::Topics;
use crate::update::admission::Desired;
use crate::update::index::{self, Digest};
use crate::update::ledger::Phase;
use crate::update::release::Release;
use crate::update::reported::Reported;

/// Retained states of all gateways have come by then.
const GATHER: Duration = Duration::from_secs(1);
/// Publishes that the broker has not acknowledged.
const WINDOW: usize = 8;

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

/// The size of a wave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wave {
    /// So many gateways.
    Count(usize),
    /// So many of a hundred.
    Percent(f64),
}

impl std::str::FromStr for Wave {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "a wave is a number of gateways, or a share as 10%";
        match text.strip_suffix('%') {
            Some(share) => match share.parse() {
                Ok(share) if share > 0.0 && share <= 100.0 => Ok(Self::Percent(share)),
                _ => Err(wrong),
            },
            None => text.parse().ok().filter(|n| *n > 0).map(Self::Count).ok_or(wrong),
        }
    }
}

/// How many gateways have been asked when each wave has begun.
fn ends(waves: &[Wave], gateways: usize) -> Vec<usize> {
    let mut ends: Vec<usize> = Vec::new();
    for wave in waves {
        let end = match wave {
            Wave::Count(n) => ends.last().copied().unwrap_or(0) + n,
            Wave::Percent(share) => (gateways as f64 * share / 100.0).ceil() as usize,
        };
        if end.min(gateways) > ends.last().copied().unwrap_or(0) {
            ends.push(end.min(gateways));
        }
    }
    ends
}

/// What a gateway has made of it.
#[derive(Debug, Clone, PartialEq)]
enum Settled {
    Committed,
    Failed(String),
}

/// Brings it.
///
/// # Errors
/// Release or bundle are not what was signed, the broker cannot be reached, or too many gateways failed.
pub fn run(args: &Args) -> Result<()> {
    let read = |name: &str| {
        let path = args.release.join(name);
        fs::read(&path)
            .with_context(|| format!("cannot read {}; `inspectd model sign` makes a release", path.display()))
    };
    let load = || -> Result<Load> {
        let text = read(RELEASE)?;
        let release = Release::read(&text)?;
        let desired = read(DESIRED)?;
        let message: Desired = serde_json::from_slice(&desired).with_context(|| format!("{DESIRED} is damaged"))?;
        ensure!(message.release.as_bytes() == text, "{DESIRED} is about another release than {RELEASE}");
        let Some(spec) = release.index else {
            let (index, files) = (Vec::new(), BTreeMap::new());
            return Ok(Load { sha256: Digest::of(&text), release, index, desired, files });
        };
        let index = read(INDEX)?;
        ensure!(Digest::of(&index) == spec.sha256, "{INDEX} is not the one that was signed");
        let dir = args.bundle.as_ref().context("--bundle is missing: the folder of the bundle that was signed")?;
        let files = contents(dir, &Bundle::open(dir)?)?;
        for (name, spec) in &release.files {
            let same = files.get(name).is_some_and(|bytes| Digest::of(bytes) == spec.sha256);
            ensure!(same, "{name} of the bundle is not the one that was signed");
        }
        Ok(Load { sha256: Digest::of(&text), release, index, desired, files })
    };
    let load = load().or_exit(Exit::Data)?;
    let options = args.broker.options("push")?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(async {
        let link = Link::connect(&options).await.or_exit(Exit::Unavailable)?;
        Push { args, load, link, seen: BTreeMap::new(), online: BTreeSet::new() }.run().await
    })
}

struct Load {
    sha256: Digest,
    release: Release,
    index: Vec<u8>,
    desired: Vec<u8>,
    files: BTreeMap<String, Vec<u8>>,
}

struct Push<'a> {
    args: &'a Args,
    load: Load,
    link: Link,
    /// What gateways report.
    seen: BTreeMap<String, Reported>,
    online: BTreeSet<String>,
}

impl Push<'_> {
    async fn run(mut self) -> Result<()> {
        let site = self.args.to.site.clone();
        let topics = Topics::new(&site, "+");
        for topic in [topics.state(), topics.reported()] {
            self.link.subscribe(&topic).map_err(|e| anyhow!(e))?;
        }
        let until = Instant::now() + GATHER;
        while let Ok(event) = tokio::time::timeout_at(until, self.link.next()).await {
            self.event(event)?;
        }
        let gateways: Vec<String> =
            self.online.iter().filter(|name| glob(&self.args.to.gateway, name)).cloned().collect();
        if gateways.is_empty() {
            return Err(anyhow!("no gateway is online at {}", self.args.to)).or_exit(Exit::Unavailable);
        }
        let blobs = self.blobs(&site);
        eprintln!(
            "{} {}, counter {}: {} chunks to the broker, then {} gateways",
            self.load.release.name,
            self.load.release.version,
            self.load.release.counter,
            blobs.len(),
            gateways.len()
        );
        self.publish(blobs.iter().map(|(topic, range)| (topic.clone(), self.load.bytes(range))).collect(), "chunks")
            .await?;
        let outcome = self.waves(&site, &gateways).await;
        if !self.args.keep {
            self.publish(blobs.iter().map(|(topic, _)| (topic.clone(), Vec::new())).collect(), "removing").await?;
        }
        self.link.disconnect().await;
        outcome
    }

    async fn waves(&mut self, site: &str, gateways: &[String]) -> Result<()> {
        let (mut begin, patience) = (0, Duration::from_secs_f64(self.args.patience.max(0.0) * 60.0));
        for end in ends(&self.args.wave, gateways.len()) {
            let wave = &gateways[begin..end];
            let ask = |name: &String| (Topics::new(site, name).desired()[0].clone(), self.load.desired.clone());
            self.publish(wave.iter().map(ask).collect(), "asking").await?;
            let bar = bar(wave.len() as u64, &format!("gateways {} to {end} of {}", begin + 1, gateways.len()));
            let (until, mut settled) = (Instant::now() + patience, BTreeMap::new());
            while settled.len() < wave.len() {
                for name in wave.iter().filter(|name| !settled.contains_key(*name)).cloned().collect::<Vec<_>>() {
                    if let Some(outcome) = self.settled(&name) {
                        self.say(&bar, &name, &outcome);
                        settled.insert(name, outcome);
                        bar.inc(1);
                    }
                }
                if settled.len() < wave.len() {
                    let Ok(event) = tokio::time::timeout_at(until, self.link.next()).await else { break };
                    self.event(event)?;
                }
            }
            bar.finish_and_clear();
            let failed = wave.iter().filter(|name| settled.get(*name) != Some(&Settled::Committed)).count();
            println!("{} of {} gateways have taken it", wave.len() - failed, wave.len());
            if failed as f64 > self.args.max_failed * wave.len() as f64 {
                let late: Vec<_> = wave.iter().filter(|name| settled.get(*name) != Some(&Settled::Committed)).collect();
                let clear = |name: &&String| (Topics::new(site, name).desired()[0].clone(), Vec::new());
                self.publish(late.iter().map(clear).collect(), "taking back").await?;
                let names: Vec<&str> = late.iter().map(|name| name.as_str()).collect();
                return Err(anyhow!(
                    "stopped: {failed} of {} gateways failed, {} were not asked; failed: {}",
                    wave.len(),
                    gateways.len() - end,
                    names.join(", ")
                ))
                .or_exit(Exit::Unavailable);
            }
            begin = end;
        }
        Ok(())
    }

    fn say(&self, bar: &ProgressBar, gateway: &str, outcome: &Settled) {
        let line = match (self.args.json, outcome) {
            (true, Settled::Committed) => serde_json::json!({ "gateway": gateway, "committed": true }).to_string(),
            (true, Settled::Failed(reason)) => {
                serde_json::json!({ "gateway": gateway, "committed": false, "reason": reason }).to_string()
            }
            (false, Settled::Committed) => format!("{gateway}: committed"),
            (false, Settled::Failed(reason)) => format!("{gateway}: failed, {reason}"),
        };
        bar.suspend(|| println!("{line}"));
    }

    /// Topics of the index and of every chunk, each chunk where it comes first, and what they hold.
    fn blobs(&self, site: &str) -> Vec<(String, Part)> {
        let (topics, mut seen) = (Topics::new(site, "-"), BTreeSet::new());
        let index = self.load.release.index.map(|index| (topics.blob(&index.sha256.to_string(), 0), Part::Index));
        let mut blobs = Vec::from_iter(index);
        for (name, file) in &self.load.files {
            let Some(spec) = self.load.release.files.get(name) else { continue };
            let mut offset = 0;
            for (n, chunk) in index::cut(file).into_iter().enumerate() {
                if seen.insert(chunk.sha256) {
                    let part = Part::File(name.clone(), offset..offset + chunk.bytes);
                    blobs.push((topics.blob(&spec.sha256.to_string(), n), part));
                }
                offset += chunk.bytes;
            }
        }
        blobs
    }

    async fn publish(&mut self, messages: Vec<(String, Vec<u8>)>, what: &str) -> Result<()> {
        let bar = bar(messages.len() as u64, what);
        let mut messages = messages.into_iter().peekable();
        let mut waiting = 0;
        while waiting > 0 || messages.peek().is_some() {
            if waiting < WINDOW.min(self.link.agreed().window)
                && let Some((topic, payload)) = messages.next()
            {
                self.link.publish(&topic, payload, 1, true, None).context("the connection takes no more")?;
                waiting += 1;
                continue;
            }
            let event = timeout(Duration::from_secs(60), self.link.next()).await;
            match event.context("the broker acknowledges nothing").or_exit(Exit::Unavailable)? {
                Event::Acknowledged(_) => {
                    waiting -= 1;
                    bar.inc(1);
                }
                event => self.event(event)?,
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Message { topic, payload, .. } => {
                let gateway = topic.split('/').nth(3).unwrap_or_default().to_owned();
                if topic.ends_with("/model/reported") {
                    if let Ok(reported) = serde_json::from_slice(&payload) {
                        self.seen.insert(gateway, reported);
                    }
                } else if let Ok(state) = serde_json::from_slice::<GatewayState>(&payload)
                    && state.online
                {
                    self.online.insert(gateway);
                }
                Ok(())
            }
            Event::Refused => Err(anyhow!("the broker does not let this user read states")),
            Event::Rejected { reason, .. } => Err(anyhow!("the broker refuses: {reason}")),
            Event::Lost(reason) | Event::Garbled(reason) => {
                Err(anyhow!("the connection to the broker is lost: {reason}"))
            }
            Event::TakenOver => Err(anyhow!("the connection to the broker is taken over")),
            Event::Acknowledged(_) => Ok(()),
        }
        .or_exit(Exit::Unavailable)
    }

    fn settled(&self, gateway: &str) -> Option<Settled> {
        let reported = self.seen.get(gateway)?;
        if reported.wanted != Some(self.load.sha256) {
            return None; // it has not decided about this one
        }
        let failed = || reported.reason.clone().map(Settled::Failed);
        match reported.phase {
            Phase::Committed if reported.release == Some(self.load.sha256) => Some(Settled::Committed),
            Phase::RolledBack | Phase::Idle | Phase::Committed => failed(),
            _ => None,
        }
    }
}

/// What a blob's message holds.
enum Part {
    Index,
    File(String, std::ops::Range<usize>),
}

impl Load {
    fn bytes(&self, part: &Part) -> Vec<u8> {
        match part {
            Part::Index => self.index.clone(),
            Part::File(name, range) => {
                self.files.get(name).and_then(|file| file.get(range.clone())).unwrap_or_default().to_vec()
            }
        }
    }
}

fn bar(length: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:24} {bar:30} {pos}/{len} {eta}");
    ProgressBar::new(length)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_grow_to_what_they_say() {
        let waves = |text: &str| text.split(',').map(|w| w.parse().unwrap()).collect::<Vec<Wave>>();
        assert_eq!(ends(&waves("1,10,100%"), 200), [1, 11, 200]);
        assert_eq!(ends(&waves("1,10%,100%"), 200), [1, 20, 200]);
        assert_eq!(ends(&waves("1,10%,100%"), 5), [1, 5], "a tenth of five is one, which was asked already");
        assert_eq!(ends(&waves("5"), 3), [3]);
        for wrong in ["0", "-1", "110%", "0%", "x", "%"] {
            assert!(wrong.parse::<Wave>().is_err(), "{wrong}");
        }
    }
}
