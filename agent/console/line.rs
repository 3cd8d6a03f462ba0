//! The console's connection to the broker: what comes is kept and then acknowledged, commands go out.
//!
//! Guarantees
//! - The broker keeps for this console what comes while it is away, and is told that something has arrived when it is in the store, not
//!   before: what a kill or a full disk interrupts comes again.
//! - A command is in the store before it is sent, and is sent again at each new connection until its gateway has answered; gateways do
//!   one that they have done already no second time.
//! - What is wrong is counted and said, and holds up nothing. A batch is bounded in messages, bytes and time, whoever sends what.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Console;
use super::letter::{self, FILTERS, Letter};
use super::store::{CommandRow, Item, Taken};
use crate::backoff::Backoff;
use crate::mqtt::link::{Event, Link, LinkOptions, Receipt, Token};
use crate::mqtt::topics::Topics;
use crate::pulse::Pulse;

/// Events of one transaction, whatever they are,
const BATCH: usize = 256;
/// and the bytes of their messages after which it is full.
const BATCH_BYTES: usize = 16 << 20;
/// So long a message waits for others to go with it, from the first one on.
const LINGER: Duration = Duration::from_millis(5);
/// Commands that the broker has not acknowledged.
const SENDING: usize = 256;
/// A gateway may answer so late.
pub const PATIENCE: SignedDuration = SignedDuration::from_hours(24);
/// A connection that lasted this long resets the back-off.
const WELL_AFTER: Duration = Duration::from_secs(10);
/// The same complaint is said at most so often,
const QUIET: Duration = Duration::from_secs(10);
/// and at most so many letters of it, which may quote what came.
const LETTERS: usize = 300;

/// How the connection is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct BrokerStatus {
    /// Whether it is there.
    pub connected: bool,
    /// Where.
    pub url: String,
    /// Why not, or what is wrong though it is.
    pub reason: Option<String>,
}

/// The connection.
pub struct Line {
    console: Arc<Console>,
    options: LinkOptions,
    /// Who tells the pages.
    reports: mpsc::Sender<Taken>,
    complained: Option<Instant>,
    /// Whether it goes on; a disk that refuses is waited for, one that hangs is not.
    pulse: Arc<Pulse>,
}

/// What goes out over one connection.
#[derive(Default)]
struct Outgoing {
    /// Given to it.
    sent: HashSet<String>,
    /// Those of them that the broker has not acknowledged.
    waiting: HashMap<Token, String>,
    /// There may be more.
    more: bool,
}

/// What has come and is not in the store.
#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    receipts: Vec<Receipt>,
    events: usize,
    bytes: usize,
    /// The connection is over: why, and whether by what came over it.
    end: Option<(String, bool)>,
}

impl Line {
    /// Not connected yet.
    #[must_use]
    pub fn new(console: Arc<Console>, options: LinkOptions, reports: mpsc::Sender<Taken>) -> Self {
        let pulse = console.pulses.begin("the line to the broker");
        Self { console, options, reports, complained: None, pulse }
    }

    /// Connects again and again, until it is stopped.
    pub async fn run(mut self) {
        let (mut backoff, mut garbled) = (Backoff::default(), 0);
        loop {
            self.options.forget = garbled >= 2;
            if self.options.forget {
                warn!(
                    "what the broker keeps for this console cannot be read and is thrown away; gaps show what is missing"
                );
                garbled = 0;
            }
            let begun = Instant::now();
            let reason = match Link::connect(&self.options).await {
                Ok(mut link) => match self.converse(&mut link).await {
                    None => {
                        link.disconnect().await;
                        return;
                    }
                    Some((reason, is_garbled)) => {
                        garbled = if is_garbled { garbled + 1 } else { 0 };
                        reason
                    }
                },
                Err(e) => e.to_string(),
            };
            if begun.elapsed() > WELL_AFTER {
                backoff.reset();
            }
            let delay = backoff.next_delay();
            warn!("{reason}; next attempt in {:.0} s", delay.as_secs_f64().max(1.0));
            self.console.set_broker(false, Some(reason));
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                never = self.pulse.keep() => match never {},
                () = self.console.stop.stopped() => return,
            }
        }
    }

    /// One connection: why it ended, and whether by what came over it; nothing where it was time to stop.
    async fn converse(&mut self, link: &mut Link) -> Option<(String, bool)> {
        for filter in FILTERS {
            if let Err(e) = link.subscribe(&format!("inspect/v1/+/+/{filter}")) {
                return Some((e, false));
            }
        }
        info!("connected to {}", self.options.url);
        self.console.set_broker(true, None);
        let mut outgoing = Outgoing { more: true, ..Outgoing::default() };
        let console = Arc::clone(&self.console);
        loop {
            if outgoing.more && outgoing.waiting.len() < SENDING {
                self.send(link, &mut outgoing);
            }
            let event = tokio::select! {
                event = link.next() => event,
                never = self.pulse.keep() => match never {},
                () = console.given.notified() => {
                    outgoing.more = true;
                    continue;
                }
                () = console.stop.stopped() => return None,
            };
            self.pulse.beat();
            let batch = self.gather(link, event, &mut outgoing).await;
            let taken = self.keep(&batch.items).await?;
            self.pulse.beat();
            batch.receipts.iter().for_each(|receipt| link.acknowledge(*receipt));
            // Pages hear of it after the broker has; where they cannot keep up they look at all anew.
            if self.console.news.is_heard() && self.reports.try_send(taken).is_err() {
                self.console.news.tell("reset", "{}");
            }
            if batch.end.is_some() {
                return batch.end;
            }
        }
    }

    /// What comes together with this one.
    async fn gather(&mut self, link: &mut Link, first: Event, outgoing: &mut Outgoing) -> Batch {
        let (mut batch, mut next, until) = (Batch::default(), Some(first), Instant::now() + LINGER);
        while let Some(event) = next.take() {
            batch.events += 1;
            match event {
                Event::Message { topic, payload, receipt, retained } => {
                    batch.bytes += payload.len();
                    batch.receipts.extend(receipt);
                    self.sort(&topic, payload, retained, &mut batch.items);
                }
                Event::Refused => {
                    let reason = "the broker does not let this user read all of inspect/v1/#";
                    warn!("{reason}");
                    self.console.set_broker(true, Some(reason.to_owned()));
                }
                Event::Rejected { token, reason, .. } => {
                    if let Some(id) = outgoing.waiting.remove(&token) {
                        warn!(id, "the broker refuses a command: {reason}");
                        self.console.refuse(&id, &format!("the broker refuses the command: {reason}"));
                    }
                }
                Event::Acknowledged(token) => drop(outgoing.waiting.remove(&token)),
                Event::Lost(reason) => batch.end = Some((reason, false)),
                Event::Garbled(reason) => batch.end = Some((reason, true)),
                Event::TakenOver => {
                    let reason = "another console uses the same client id: give each its own --state";
                    batch.end = Some((reason.to_owned(), false));
                }
            }
            if batch.end.is_none() && batch.events < BATCH && batch.bytes < BATCH_BYTES {
                next = tokio::time::timeout_at(until, link.next()).await.ok();
            }
        }
        batch
    }

    /// Sends what nobody has answered and was not sent over this connection.
    fn send(&mut self, link: &mut Link, outgoing: &mut Outgoing) {
        let now = Timestamp::now();
        let unanswered = match tokio::task::block_in_place(|| self.console.store.unanswered(now - PATIENCE)) {
            Ok(unanswered) => unanswered,
            Err(e) => {
                warn!("commands cannot be read, and wait: {e:#}");
                return;
            }
        };
        outgoing.more = false;
        for CommandRow { id, site, gateway, command, payload, at, .. } in unanswered {
            if outgoing.sent.contains(&id) {
                continue;
            }
            // As long as somebody waits for it, so that none is done after it was called off.
            let left = PATIENCE.saturating_sub(now.duration_since(at)).as_secs().clamp(1, PATIENCE.as_secs());
            let topic = Topics::new(&site, &gateway).order(&command, &id);
            let expiry = Duration::from_secs(left.unsigned_abs());
            let token = (outgoing.waiting.len() < SENDING)
                .then(|| link.publish(&topic, payload.to_string().into_bytes(), 1, false, Some(expiry)))
                .flatten();
            let Some(token) = token else {
                outgoing.more = true;
                return;
            };
            outgoing.waiting.insert(token, id.clone());
            outgoing.sent.insert(id);
        }
    }

    /// What is to be kept goes to `items`; the fleet is in memory.
    fn sort(&mut self, topic: &str, payload: Vec<u8>, retained: bool, items: &mut Vec<Item>) {
        let (fleet, now) = (&self.console.fleet, Timestamp::now());
        let done = match letter::read(topic, payload, retained) {
            Ok(Letter::Kept(item)) => {
                items.push(item);
                return;
            }
            Ok(Letter::Gateway(address, state)) => fleet.gateway(address, state.map(|state| *state), now),
            Ok(Letter::Camera(address, name, state)) => fleet.camera(address, name, state.map(|state| *state), now),
            Ok(Letter::Model(address, reported)) => fleet.model(address, reported.map(|reported| *reported), now),
            Ok(Letter::Nothing) => return,
            Err(e) => Err(e),
        };
        match done {
            Ok(()) => self.console.fleet_changed(),
            Err(e) => {
                self.console.refused();
                if self.complained.is_none_or(|at| at.elapsed() > QUIET) {
                    self.complained = Some(Instant::now());
                    let cut = |text: &str| text.chars().take(LETTERS).collect::<String>().escape_debug().to_string();
                    warn!("a message on {} is left out: {}", cut(topic), cut(&format!("{e:#}")));
                }
            }
        }
    }

    /// Keeps what came, and tries again for as long as the disk refuses; nothing where it was time to stop meanwhile.
    async fn keep(&self, items: &[Item]) -> Option<Taken> {
        if items.is_empty() {
            return Some(Taken::default());
        }
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        loop {
            let (store, tells) = (&self.console.store, self.console.tells);
            match tokio::task::block_in_place(|| store.take(items, Timestamp::now(), tells)) {
                Ok(taken) => {
                    self.console.taken(&taken);
                    return Some(taken);
                }
                Err(e) => {
                    warn!("what came is not kept, the broker still has it: {e:#}");
                    self.console.set_trouble(Some(format!("{e:#}")));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                never = self.pulse.keep() => match never {},
                () = self.console.stop.stopped() => return None,
            }
        }
    }
}
