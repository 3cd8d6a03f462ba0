//! The console's connection to the broker: what comes is kept and then acknowledged, commands go out.
//!
//! Guarantees
//! - The broker keeps for this console what comes while it is away, and is told that something has arrived when it is in the store, not
//!   before: what a kill or a full disk interrupts comes again.
//! - A command is sent until the broker has it, and again at each new connection until its gateway has answered; gateways do
//!   one that they have done already no second time.
//! - What is wrong is counted and said, and holds up nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Console;
use super::letter::{self, FILTERS, Letter};
use super::store::{CommandRow, Item};
use crate::backoff::Backoff;
use crate::mqtt::link::{Event, Link, LinkOptions, Receipt};
use crate::mqtt::topics::Topics;

/// Messages of one transaction.
const BATCH: usize = 256;
/// So long a message waits for others to go with it.
const LINGER: Duration = Duration::from_millis(2);
/// A gateway may answer so late.
pub const PATIENCE: SignedDuration = SignedDuration::from_hours(24);
/// A connection that lasted this long resets the back-off.
const WELL_AFTER: Duration = Duration::from_secs(10);
/// The same complaint is said at most so often.
const QUIET: Duration = Duration::from_secs(10);

/// How the connection is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct BrokerStatus {
    /// Whether it is there.
    pub connected: bool,
    /// Where.
    pub url: String,
    /// Why not.
    pub reason: Option<String>,
}

/// The connection.
pub struct Line {
    console: Arc<Console>,
    options: LinkOptions,
    orders: mpsc::Receiver<CommandRow>,
    sending: VecDeque<CommandRow>,
    complained: Option<Instant>,
}

impl Line {
    /// Not connected yet.
    #[must_use]
    pub fn new(console: Arc<Console>, options: LinkOptions, orders: mpsc::Receiver<CommandRow>) -> Self {
        Self { console, options, orders, sending: VecDeque::new(), complained: None }
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
            self.console.set_broker(Some(reason));
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
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
        self.console.set_broker(None);
        let since = Timestamp::now() - PATIENCE;
        let unanswered = self.console.store.unanswered(since).unwrap_or_default();
        self.sending = unanswered.into();
        loop {
            self.send(link);
            let event = tokio::select! {
                event = link.next() => event,
                Some(order) = self.orders.recv() => {
                    self.sending.push_back(order);
                    continue;
                }
                // Commands that found no room are tried again; the fleet is told of once a second.
                () = tokio::time::sleep(Duration::from_millis(200)), if !self.sending.is_empty() => continue,
                () = self.console.stop.stopped() => return None,
            };
            let (mut items, mut receipts) = (Vec::new(), Vec::new());
            let mut next = Some(event);
            let mut end = None;
            while let Some(event) = next.take() {
                match event {
                    Event::Message { topic, payload, receipt, .. } => {
                        self.sort(&topic, payload, &mut items);
                        receipts.extend(receipt);
                    }
                    Event::Refused => warn!("the broker does not let this user read all of inspect/v1/#"),
                    Event::Rejected { reason, .. } => warn!("the broker refuses a command: {reason}"),
                    Event::Acknowledged(_) => {}
                    Event::Lost(reason) => end = Some((reason, false)),
                    Event::Garbled(reason) => end = Some((reason, true)),
                    Event::TakenOver => {
                        end =
                            Some(("another console uses the same client id: give each its own --state".into(), false));
                    }
                }
                if end.is_none() && receipts.len() < BATCH {
                    next = tokio::time::timeout(LINGER, link.next()).await.ok();
                }
            }
            if !self.keep(&items).await {
                return None;
            }
            receipts.iter().for_each(|receipt: &Receipt| link.acknowledge(*receipt));
            if end.is_some() {
                return end;
            }
        }
    }

    fn send(&mut self, link: &mut Link) {
        while let Some(order) = self.sending.pop_front() {
            let topic = Topics::new(&order.site, &order.gateway).order(&order.command, &order.id);
            let payload = order.payload.to_string().into_bytes();
            let expiry = Duration::from_secs(PATIENCE.as_secs().unsigned_abs());
            if link.publish(&topic, payload, 1, false, Some(expiry)).is_none() {
                self.sending.push_front(order);
                return;
            }
        }
    }

    /// What is to be kept goes to `items`; the fleet is in memory.
    fn sort(&mut self, topic: &str, payload: Vec<u8>, items: &mut Vec<Item>) {
        let (fleet, now) = (&self.console.fleet, Timestamp::now());
        let done = match letter::read(topic, payload) {
            Ok(Letter::Kept(item)) => {
                items.push(item);
                Ok(())
            }
            Ok(Letter::Gateway(address, state)) => fleet.gateway(address, *state, now),
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
                    let topic: String = topic.chars().take(200).collect();
                    warn!("a message on {} is left out: {e:#}", topic.escape_debug());
                }
            }
        }
    }

    /// Keeps what came, and tries again for as long as the disk refuses; false where it was time to stop meanwhile.
    async fn keep(&self, items: &[Item]) -> bool {
        if items.is_empty() {
            return true;
        }
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        loop {
            let taken = tokio::task::block_in_place(|| {
                let taken = self.console.store.take(items, Timestamp::now(), self.console.tells)?;
                self.console.report(&taken);
                anyhow::Ok(())
            });
            let Err(e) = taken else {
                self.console.set_trouble(None);
                return true;
            };
            warn!("what came is not kept, the broker still has it: {e:#}");
            self.console.set_trouble(Some(format!("{e:#}")));
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                () = self.console.stop.stopped() => return false,
            }
        }
    }
}
