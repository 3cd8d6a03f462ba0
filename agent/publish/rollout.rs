//! A release on its way to gateways, in waves: what `inspectd model push` and the console do.
//!
//! Guarantees: what is put on the broker is what the release names (whose signature gateways verify), and every chunk before the first
//! gateway is asked; a wave begins when the one before has settled; where more gateways fail than allowed no more are asked, and those
//! that have not taken it yet are told that it is not wanted. At the end the chunks are removed from the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::time::{Instant, timeout};

use super::load::Load;
use super::target::Target;
use crate::exit::{Exit, OrExit};
use crate::glob::glob;
use crate::mqtt::link::{Event, Link};
use crate::mqtt::payload::GatewayState;
use crate::mqtt::topics::Topics;
use crate::stop::Stop;
use crate::update::index;
use crate::update::ledger::Phase;
use crate::update::reported::Reported;

/// Retained states of all gateways have come by then.
const GATHER: Duration = Duration::from_secs(1);
/// Publishes that the broker has not acknowledged.
const WINDOW: usize = 8;
/// How often it is looked whether it is to stop.
const TICK: Duration = Duration::from_millis(500);

/// First reports have come by then.
const REPORTS: Duration = Duration::from_secs(4);
/// One that was asked has reported by then.
const SILENCE: Duration = Duration::from_secs(15);
/// Without keys a gateway reports nothing.
const KEYLESS: &str =
    "nothing is reported: there is no update.keys in the configuration, or this user may not read model/reported";

/// To whom, and how fast.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which gateways.
    pub to: Target,
    /// In which steps.
    pub waves: Vec<Wave>,
    /// It stops when more than this share of a wave has failed.
    pub max_failed: f64,
    /// Gateways of a wave that have not settled by then have failed.
    pub patience: Duration,
    /// Chunks stay on the broker.
    pub keep: bool,
}

/// How far it is.
#[derive(Debug)]
pub enum Step<'a> {
    /// It begins: so many chunks, for so many gateways.
    Begins(usize, &'a [String]),
    /// Messages of a kind go to the broker: so many of so many have been taken.
    Publishing(&'static str, usize, usize),
    /// A wave begins: its gateways, and how many of all have been asked then.
    Wave(&'a [String], usize),
    /// A gateway has decided.
    Settled(&'a str, &'a Settled),
    /// So many of a wave have taken it.
    WaveEnds(usize, usize),
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
pub enum Settled {
    /// It inspects with it.
    Committed,
    /// It does not, and why.
    Failed(String),
}

/// Under way.
pub struct Rollout<'a> {
    /// To whom.
    pub plan: &'a Plan,
    /// What.
    pub load: &'a Load,
    /// Over which connection.
    pub link: Link,
    /// It is to end before its time.
    pub stop: Stop,
    /// Who is told how far it is.
    pub tell: &'a mut (dyn FnMut(Step) + Send),
    /// What gateways report.
    seen: BTreeMap<String, Reported>,
    online: BTreeSet<String>,
    /// Those whose reports are not understood here.
    foreign: BTreeSet<String>,
}

impl<'a> Rollout<'a> {
    /// Begins nothing yet.
    pub fn new(plan: &'a Plan, load: &'a Load, link: Link, stop: Stop, tell: &'a mut (dyn FnMut(Step) + Send)) -> Self {
        Self { plan, load, link, stop, tell, seen: BTreeMap::new(), online: BTreeSet::new(), foreign: BTreeSet::new() }
    }

    /// Brings it.
    ///
    /// # Errors
    /// The broker cannot be reached, no gateway is there, too many of them failed, or it was stopped.
    pub async fn run(mut self) -> Result<()> {
        let site = self.plan.to.site.clone();
        let topics = Topics::new(&site, "+");
        for topic in [topics.state(), topics.reported()] {
            self.link.subscribe(&topic).map_err(|e| anyhow!(e))?;
        }
        let until = Instant::now() + GATHER;
        while let Ok(event) = tokio::time::timeout_at(until, self.link.next()).await {
            self.event(event)?;
        }
        let gateways: Vec<String> =
            self.online.iter().filter(|name| glob(&self.plan.to.gateway, name)).cloned().collect();
        if gateways.is_empty() {
            return Err(anyhow!("no gateway is online at {}", self.plan.to)).or_exit(Exit::Unavailable);
        }
        // Reports come after states, and over a slow line later.
        let until = Instant::now() + REPORTS;
        while gateways.iter().any(|name| !self.reports(name))
            && let Ok(event) = tokio::time::timeout_at(until, self.link.next()).await
        {
            self.event(event)?;
        }
        if !gateways.iter().any(|name| self.reports(name)) {
            return Err(anyhow!("no gateway of {} takes updates: {KEYLESS}", self.plan.to)).or_exit(Exit::Unavailable);
        }
        let blobs = self.blobs(&site);
        (self.tell)(Step::Begins(blobs.len(), &gateways));
        self.publish(blobs.iter().map(|(topic, range)| (topic.clone(), self.load.part(range))).collect(), "chunks")
            .await?;
        let outcome = self.waves(&site, &gateways).await;
        if !self.plan.keep || self.stop.is_set() {
            let empty = blobs.iter().map(|(topic, _)| (topic.clone(), Vec::new()));
            let removed = self.publish(empty.collect(), "removing").await;
            self.link.disconnect().await;
            return outcome.and(removed); // what came of it matters more
        }
        self.link.disconnect().await;
        outcome
    }

    async fn waves(&mut self, site: &str, gateways: &[String]) -> Result<()> {
        let mut begin = 0;
        for end in ends(&self.plan.waves, gateways.len()) {
            let wave = &gateways[begin..end];
            if self.stop.is_set() {
                return Err(anyhow!("stopped by hand; {} gateways were not asked", gateways.len() - begin))
                    .or_exit(Exit::Unavailable);
            }
            let ask = |name: &String| (Topics::new(site, name).desired()[0].clone(), self.load.desired.clone());
            self.publish(wave.iter().map(ask).collect(), "asking").await?;
            (self.tell)(Step::Wave(wave, end));
            let asked = Instant::now();
            let (until, mut settled) = (asked + self.plan.patience, BTreeMap::new());
            while settled.len() < wave.len() {
                for name in wave.iter().filter(|name| !settled.contains_key(*name)).cloned().collect::<Vec<_>>() {
                    if let Some(outcome) = self.settled(&name, asked) {
                        (self.tell)(Step::Settled(&name, &outcome));
                        settled.insert(name, outcome);
                    }
                }
                if settled.len() < wave.len() {
                    if Instant::now() >= until || self.stop.is_set() {
                        break;
                    }
                    if let Ok(event) = timeout(TICK, self.link.next()).await {
                        self.event(event)?;
                    }
                }
            }
            let failed = wave.iter().filter(|name| settled.get(*name) != Some(&Settled::Committed)).count();
            (self.tell)(Step::WaveEnds(wave.len() - failed, wave.len()));
            let is_stopped = self.stop.is_set();
            if is_stopped || failed as f64 > self.plan.max_failed * wave.len() as f64 {
                let late: Vec<_> = wave.iter().filter(|name| settled.get(*name) != Some(&Settled::Committed)).collect();
                let clear = |name: &&String| (Topics::new(site, name).desired()[0].clone(), Vec::new());
                self.publish(late.iter().map(clear).collect(), "taking back").await?;
                let names: Vec<&str> = late.iter().map(|name| name.as_str()).collect();
                if is_stopped {
                    return Err(anyhow!("stopped by hand; {} gateways were not asked", gateways.len() - end))
                        .or_exit(Exit::Unavailable);
                }
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

    async fn publish(&mut self, messages: Vec<(String, Vec<u8>)>, what: &'static str) -> Result<()> {
        let of = messages.len();
        let mut messages = messages.into_iter().peekable();
        let (mut waiting, mut done) = (0, 0);
        while waiting > 0 || messages.peek().is_some() {
            let is_called_off = what == "chunks" && self.stop.is_set();
            if waiting < WINDOW.min(self.link.agreed().window)
                && !is_called_off
                && let Some((topic, payload)) = messages.next()
            {
                self.link.publish(&topic, payload, 1, true, None).context("the connection takes no more")?;
                waiting += 1;
                continue;
            }
            if is_called_off && waiting == 0 {
                return Ok(());
            }
            let event = timeout(Duration::from_secs(60), self.link.next()).await;
            match event.context("the broker acknowledges nothing").or_exit(Exit::Unavailable)? {
                Event::Acknowledged(_) => {
                    waiting -= 1;
                    done += 1;
                    (self.tell)(Step::Publishing(what, done, of));
                }
                event => self.event(event)?,
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Message { topic, payload, .. } => {
                let gateway = topic.split('/').nth(3).unwrap_or_default().to_owned();
                if topic.ends_with("/model/reported") {
                    match serde_json::from_slice(&payload) {
                        Ok(reported) => drop(self.seen.insert(gateway, reported)),
                        Err(_) => drop(self.foreign.insert(gateway)),
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

    /// Whether it has said anything about updates, be it in words of another version.
    fn reports(&self, gateway: &str) -> bool {
        self.seen.contains_key(gateway) || self.foreign.contains(gateway)
    }

    fn settled(&self, gateway: &str, asked: Instant) -> Option<Settled> {
        if !self.reports(gateway) && asked.elapsed() > SILENCE {
            return Some(Settled::Failed(KEYLESS.to_owned()));
        }
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
pub(super) enum Part {
    /// The index.
    Index,
    /// A part of a file.
    File(String, std::ops::Range<usize>),
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
