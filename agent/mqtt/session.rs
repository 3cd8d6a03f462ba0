//! Carries the outbox, the states and the results to the broker, for ever.
//!
//! Guarantees
//! - Messages of each lane of the outbox go out in order, at most `window` of them unacknowledged, and are removed only when
//!   the broker has acknowledged them. After a cut, everything unacknowledged goes out again over a fresh [`Link`].
//! - What is new goes first: the backlog never has more than three quarters of the window.
//! - A message over the packet limit is set aside and counted; it never blocks the rest.
//! - Between attempts it waits 1 s to 60 s with jitter. A broker that takes messages and acknowledges none for
//!   [`ACK_TIMEOUT`] is left.
//! - States and results are not durable: of states the latest is published, results are dropped while there is no
//!   connection or no room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

use super::board::Board;
use super::link::{Event, Link, LinkOptions, Receipt, Token};
use super::payload::AlarmEvent;
use crate::backoff::Backoff;
use crate::command::{Incoming, Letterbox, Received};
use crate::outbox::{Kind, Lane, Outbox, Queued};
use crate::stop::Stop;

/// A broker that acknowledges nothing for this long is left.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the last messages may take when the agent stops.
const DRAIN: Duration = Duration::from_millis(2500);
/// Acknowledgements are written to the disk together, at least this often.
const FLUSH: Duration = Duration::from_millis(50);
/// How long to leave a disk alone that has just refused.
const AFTER_TROUBLE: Duration = Duration::from_secs(1);
/// A connection that lasted this long resets the back-off.
const WELL_AFTER: Duration = Duration::from_secs(10);
/// Room for topic and header in a packet.
const HEADER: usize = 1024;

/// A result that may be lost.
#[derive(Debug)]
pub struct Passing {
    /// Full topic.
    pub topic: String,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// 0 or 1.
    pub qos: u8,
}

/// What the session carries.
pub struct Session {
    /// Where to.
    pub options: LinkOptions,
    /// Unacknowledged messages at a time.
    pub window: usize,
    /// Durable messages.
    pub outbox: Arc<Outbox>,
    /// States.
    pub board: Arc<Board>,
    /// Results.
    pub results: mpsc::Receiver<Passing>,
    /// What to subscribe to.
    pub subscriptions: Vec<String>,
    /// What comes goes there,
    pub commands: Letterbox,
    /// and is acknowledged when it was answered.
    pub answered: mpsc::Receiver<Receipt>,
    /// When to end.
    pub stop: Stop,
}

enum Sent {
    Row(Lane, i64),
    Other,
}

/// One connection's bookkeeping.
struct Flight {
    link: Link,
    /// The last row that was sent of each lane.
    cursors: [i64; 2],
    /// Rows of the backlog that are not acknowledged.
    backlog: usize,
    /// The last state that was sent.
    version: u64,
    sent: BTreeMap<Token, (Sent, Instant)>,
    acknowledged: Vec<i64>,
    /// When acknowledgements are to be written.
    flush_at: Option<Instant>,
    /// The outbox could not be read: not again before.
    fill_after: Instant,
}

impl Session {
    /// Runs until `stop`, then sends what it still can and takes leave.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let connected = tokio::select! {
                link = Link::connect(&self.options) => link,
                () = self.stop.stopped() => return,
            };
            let begun = Instant::now();
            let reason = match connected {
                Ok(link) => {
                    info!(broker = %self.options.url, "connected");
                    // Results that waited through an outage are of no use any more.
                    while self.results.try_recv().is_ok() {}
                    self.outbox.went_online();
                    for filter in &self.subscriptions {
                        if let Err(e) = link.subscribe(filter) {
                            error!("nothing comes from {filter}: {e}"); // the connection is gone already
                        }
                    }
                    let ended = self.serve(link).await;
                    if let Err(e) = block_in_place(|| self.outbox.went_offline()) {
                        error!("what waits cannot be marked as replayed: {e:#}");
                    }
                    match ended {
                        Some(reason) => reason,
                        None => return,
                    }
                }
                Err(e) => e.to_string(),
            };
            if begun.elapsed() > WELL_AFTER {
                backoff.reset();
            }
            let delay = backoff.next_delay();
            warn!("{reason}; alarms are kept, next attempt in {:.1} s", delay.as_secs_f64());
            tokio::select! {
                () = sleep(delay) => {}
                () = self.stop.stopped() => return,
            }
        }
    }

    /// One connection: why it ended, or `None` when it is time to stop.
    async fn serve(&mut self, link: Link) -> Option<String> {
        let mut flight = Flight {
            link,
            cursors: [0; 2],
            backlog: 0,
            version: 0,
            sent: BTreeMap::new(),
            acknowledged: Vec::new(),
            flush_at: None,
            fill_after: Instant::now(),
        };
        let stop = self.stop.clone();
        let (outbox, board) = (Arc::clone(&self.outbox), Arc::clone(&self.board));
        let mut closing: Option<Instant> = None;
        loop {
            if Instant::now() >= flight.fill_after
                && let Err(e) = block_in_place(|| self.fill(&mut flight))
            {
                // The disk, not the broker: the messages are still there.
                error!("the outbox cannot be read: {e:#}");
                flight.fill_after = Instant::now() + AFTER_TROUBLE;
            }
            if let Some(deadline) = closing
                && (flight.sent.is_empty() || Instant::now() >= deadline)
            {
                self.flush(&mut flight);
                flight.link.disconnect().await;
                return None;
            }
            let room = flight.sent.len() < self.window;
            let oldest = flight.sent.values().map(|(_, at)| *at).min();
            let overdue = oldest.map_or_else(|| Instant::now() + ACK_TIMEOUT, |at| at + ACK_TIMEOUT);
            tokio::select! {
                event = flight.link.next() => match event {
                    Event::Acknowledged(token) => {
                        if let Some((Sent::Row(lane, id), _)) = flight.sent.remove(&token) {
                            flight.backlog -= usize::from(lane == Lane::Backlog);
                            flight.acknowledged.push(id);
                            flight.flush_at.get_or_insert(Instant::now() + FLUSH);
                        }
                    }
                    Event::Message { receipt, topic, payload, retained } => {
                        let incoming = Incoming { topic, payload, retained, receipt };
                        if let Received::Done(reply) = self.commands.drop_in(incoming) {
                            receipt.into_iter().for_each(|receipt| flight.link.acknowledge(receipt));
                            if let Some((topic, payload)) = reply {
                                self.pass(Passing { topic, payload, qos: 1 }, &mut flight);
                            }
                        }
                    }
                    Event::Refused => error!(
                        "the broker does not let this user read all of {}: commands or lessons do not come until it does",
                        self.subscriptions.join(", ")
                    ),
                    Event::Lost(reason) => {
                        self.flush(&mut flight);
                        return Some(format!("the connection to the broker is lost: {reason}"));
                    }
                },
                () = outbox.appended.notified() => {}
                () = board.changed.notified() => {}
                Some(receipt) = self.answered.recv() => flight.link.acknowledge(receipt),
                Some(result) = self.results.recv(), if room => self.pass(result, &mut flight),
                () = sleep_until(flight.flush_at.unwrap_or_else(Instant::now)), if flight.flush_at.is_some() => {
                    self.flush(&mut flight);
                }
                () = sleep_until(flight.fill_after), if flight.fill_after > Instant::now() => {}
                () = sleep_until(overdue) => {
                    if oldest.is_some() {
                        self.flush(&mut flight);
                        return Some(format!("the broker acknowledges nothing for {} s", ACK_TIMEOUT.as_secs()));
                    }
                }
                () = stop.stopped(), if closing.is_none() => closing = Some(Instant::now() + DRAIN),
                () = sleep_until(closing.unwrap_or_else(Instant::now)), if closing.is_some() => {}
            }
        }
    }

    /// Sends states, then messages in order, until the window is full.
    fn fill(&mut self, flight: &mut Flight) -> anyhow::Result<()> {
        while let Some((version, topic, payload)) = self.board.after(flight.version) {
            if self.fits(&topic, &payload) {
                let Some(token) = flight.link.publish(&topic, payload, 1, true) else { return Ok(()) };
                flight.sent.insert(token, (Sent::Other, Instant::now()));
            } else {
                warn!(topic, "{} bytes are over mqtt.max_packet_kib and are not published", payload.len());
            }
            flight.version = version;
        }
        self.fill_from(Lane::Live, flight, self.window)?;
        // The rest of the window is kept for what is new, which then only waits for the backlog's share of one window.
        let share = (self.window - self.window / 4).saturating_sub(flight.backlog);
        self.fill_from(Lane::Backlog, flight, share)
    }

    fn fill_from(&self, lane: Lane, flight: &mut Flight, most: usize) -> anyhow::Result<()> {
        let room = self.window.saturating_sub(flight.sent.len()).min(most);
        if room == 0 {
            return Ok(());
        }
        for queued in self.outbox.peek(lane, flight.cursors[lane as usize], room)? {
            let id = queued.id;
            let (topic, retain) = (queued.message.topic.clone(), queued.message.retain);
            let payload = marked(queued);
            if self.fits(&topic, &payload) {
                let Some(token) = flight.link.publish(&topic, payload, 1, retain) else { return Ok(()) };
                flight.sent.insert(token, (Sent::Row(lane, id), Instant::now()));
                flight.backlog += usize::from(lane == Lane::Backlog);
            } else {
                let reason = format!("{} bytes are over mqtt.max_packet_kib", payload.len());
                warn!(topic, "a message is set aside: {reason}");
                if let Err(e) = self.outbox.set_aside(id, &reason) {
                    // It stays in the queue until the next connection, and is in nobody's way until then.
                    error!("it could not be set aside: {e:#}");
                }
            }
            flight.cursors[lane as usize] = id;
        }
        Ok(())
    }

    /// Sends a result, or leaves it out.
    fn pass(&self, result: Passing, flight: &mut Flight) {
        if self.fits(&result.topic, &result.payload) {
            let token = flight.link.publish(&result.topic, result.payload, result.qos, false);
            if let (Some(token), 1) = (token, result.qos) {
                flight.sent.insert(token, (Sent::Other, Instant::now()));
            }
        }
    }

    fn fits(&self, topic: &str, payload: &[u8]) -> bool {
        payload.len() + topic.len() + HEADER <= self.options.max_packet
    }

    fn flush(&self, flight: &mut Flight) {
        flight.flush_at = None;
        if flight.acknowledged.is_empty() {
            return;
        }
        match block_in_place(|| self.outbox.delivered(&flight.acknowledged)) {
            Ok(()) => flight.acknowledged.clear(),
            Err(e) => {
                error!("acknowledgements cannot be written, so messages may go out again: {e:#}");
                flight.flush_at = Some(Instant::now() + AFTER_TROUBLE);
            }
        }
    }
}

/// The payload, with `replayed` set in an event that waited for the broker.
fn marked(queued: Queued) -> Vec<u8> {
    if queued.message.kind == Kind::Event
        && queued.offline
        && let Ok(mut event) = serde_json::from_slice::<AlarmEvent>(&queued.message.payload)
    {
        event.replayed = true;
        if let Ok(payload) = serde_json::to_vec(&event) {
            return payload;
        }
    }
    queued.message.payload
}
