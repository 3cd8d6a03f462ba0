//! Carries the outbox, the states and the results to the broker, for ever.
//!
//! Guarantees
//! - Messages of each lane of the outbox go out in order, at most `window` of them unacknowledged, and are removed only when
//!   the broker has acknowledged them. After a cut, everything unacknowledged goes out again over a fresh [`Link`].
//! - What is new goes first: the backlog never has more than three quarters of the window, and less where the broker has a queue
//!   (`pace.rs`).
//! - A message over the packet limit or the broker's, one that the broker refuses (MQTT 5), or one at which it ends connections
//!   (`suspect.rs`), is set aside and counted; it never blocks the rest. Where the broker refuses for a reason that passes (a quota),
//!   the message stays and goes out again after [`AGAIN`].
//! - Between attempts it waits 1 s to 60 s with jitter. A broker that takes messages and acknowledges none for
//!   [`ACK_TIMEOUT`] is left. Where another client takes over with the same id (a broker of MQTT 5 may say so; else
//!   [`SHORT`] connections in a row that end right after they began mean most likely that), it is asked once a minute, since
//!   neither would ever win.
//! - A message that is no MQTT, or over the limit, costs one reconnection: before the next one the broker is told to forget what
//!   it has kept for this client, or it would send the same again for ever. Where even that does not help, because it is
//!   retained, nothing is read for [`DEAF`], and alarms are delivered all the same.
//! - States and results are not durable: of states the latest is published, results are dropped while there is no
//!   connection or no room.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

use super::board::Board;
use super::flight::{Flight, Sent, marked};
use super::link::{Event, Link, LinkOptions, Receipt, Token};
use super::status::LinkStatus;
use super::suspect::Suspect;
use crate::backoff::Backoff;
use crate::command::{Incoming, Letterbox, Received};
use crate::config::ProtocolVersion;
use crate::outbox::{Kind, Lane, Outbox};
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
/// So many connections in a row that end early are no accident.
const SHORT: u32 = 3;
/// So many connections in a row that end by what the broker sends: it is retained, so that no forgetting helps.
const GARBLED: u32 = 2;
/// How long nothing is read then.
const DEAF: Duration = Duration::from_secs(600);
/// What a broker does not take for now is sent again after so long.
const AGAIN: Duration = Duration::from_secs(60);
/// A reply is of no use to somebody who comes back later than this.
const REPLY_EXPIRY: Duration = Duration::from_secs(24 * 3600);

/// A result that may be lost.
#[derive(Debug)]
pub struct Passing {
    /// Full topic.
    pub topic: String,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// 0 or 1.
    pub qos: u8,
    /// How long the broker may keep it for somebody who is away.
    pub expiry: Option<Duration>,
}

/// What the session carries.
pub struct Session {
    /// Where to; when it changes, the connection is made anew.
    pub options: LinkOptions,
    /// See `options`.
    pub changed: watch::Receiver<LinkOptions>,
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
    /// Between attempts.
    pub backoff: Backoff,
    /// What may be why connections end, of each lane.
    pub suspects: [Suspect; 2],
    /// Where connections are noted.
    pub status: Arc<LinkStatus>,
    /// When to end.
    pub stop: Stop,
}

/// How a connection ended.
enum Ended {
    Stopped,
    /// The broker is another one from now on, or is spoken with otherwise.
    Changed,
    Lost(String),
    TakenOver,
    Garbled(String),
}

impl Session {
    /// Runs until `stop`, then sends what it still can and takes leave.
    pub async fn run(mut self) {
        let (mut backoff, mut short, mut garbled) = (self.backoff.clone(), 0, 0);
        let mut configured = self.options.version;
        loop {
            let connected = tokio::select! {
                link = Link::connect(&self.options) => link,
                Ok(()) = self.changed.changed() => {
                    configured = self.change(&mut backoff);
                    continue;
                }
                () = self.stop.stopped() => return,
            };
            let begun = Instant::now();
            let (was_open, mut contested) = (connected.is_ok(), false);
            let reason = match connected {
                Ok(link) => {
                    let version = link.agreed().version;
                    info!(broker = %self.options.url, "connected, MQTT {version}");
                    self.status.connected(version);
                    if version == "3.1.1" {
                        self.options.version = ProtocolVersion::V3; // it need not be asked again at every connection
                    }
                    self.options.forget = false;
                    let deaf = (garbled >= GARBLED).then(|| Instant::now() + DEAF);
                    // Results that waited through an outage are of no use any more.
                    while self.results.try_recv().is_ok() {}
                    if let Err(e) = block_in_place(|| self.outbox.went_online()) {
                        error!("what waits may be sent without its mark that it did: {e:#}");
                    }
                    if deaf.is_some() {
                        error!(
                            "something that the broker has kept is no MQTT, or larger than {} MiB: clear the retained messages under \
                                {}; until then commands and lessons are not read, which is tried again in {} min",
                            self.options.max_incoming >> 20,
                            self.subscriptions.join(", "),
                            DEAF.as_secs() / 60
                        );
                    } else {
                        self.subscribe(&link);
                    }
                    let ended = self.serve(link, deaf).await;
                    if let Err(e) = block_in_place(|| self.outbox.went_offline()) {
                        error!("it cannot be noted what was sent: {e:#}");
                    }
                    garbled = if begun.elapsed() > WELL_AFTER { 0 } else { garbled };
                    short = if begun.elapsed() > WELL_AFTER { 0 } else { short + 1 };
                    match ended {
                        Ended::Stopped => return,
                        Ended::Changed => {
                            configured = self.change(&mut backoff);
                            short = 0;
                            continue;
                        }
                        Ended::Lost(reason) => reason,
                        Ended::TakenOver => {
                            contested = true;
                            "another client has come with the same id".to_owned()
                        }
                        Ended::Garbled(reason) => {
                            self.options.forget = true;
                            garbled += 1;
                            reason
                        }
                    }
                }
                Err(e) => {
                    self.options.version = configured; // whatever comes up next may be another broker
                    short = 0; // nobody is there whom another client could please more
                    e.to_string()
                }
            };
            if begun.elapsed() > WELL_AFTER {
                backoff.reset();
            }
            // Unless it is a message at which the broker cuts, which is being looked into.
            contested |= short >= SHORT && self.suspects.iter().all(Suspect::is_quiet);
            if contested {
                let id = &self.options.client_id;
                let trouble = format!(
                    "another client seems to use the id {id}: give each gateway a name of its own, or set mqtt.client_id"
                );
                error!("{trouble}");
                self.status.taken_over(trouble);
                backoff.exhaust();
            }
            if was_open {
                self.status.lost(&reason);
            }
            let delay = backoff.next_delay();
            warn!("{reason}; alarms are kept, next attempt in {:.1} s", delay.as_secs_f64());
            tokio::select! {
                () = sleep(delay) => {}
                Ok(()) = self.changed.changed() => configured = self.change(&mut backoff),
                () = self.stop.stopped() => return,
            }
        }
    }

    /// Takes up other options; gives the version in them.
    fn change(&mut self, backoff: &mut Backoff) -> ProtocolVersion {
        self.options = self.changed.borrow_and_update().clone();
        backoff.reset();
        info!(broker = %self.options.url, "the connection is made anew, as configured now");
        self.options.version
    }

    fn subscribe(&self, link: &Link) {
        for filter in &self.subscriptions {
            if let Err(e) = link.subscribe(filter) {
                error!("nothing comes from {filter}: {e}"); // the connection is gone already
            }
        }
    }

    /// One connection, and how it ended. Where the agent is deaf, nothing is subscribed to before that time.
    async fn serve(&mut self, link: Link, mut deaf: Option<Instant>) -> Ended {
        let mut flight = Flight::new(link, self.options.window, self.options.max_packet);
        let stop = self.stop.clone();
        let (outbox, board) = (Arc::clone(&self.outbox), Arc::clone(&self.board));
        // A receiver of its own: what has changed is then still news to the one that takes it up.
        let mut changed = self.changed.clone();
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
                return Ended::Stopped;
            }
            let room = flight.sent.len() < flight.window;
            let oldest = flight.sent.values().map(|(_, at)| *at).min();
            let overdue = oldest.map_or_else(|| Instant::now() + ACK_TIMEOUT, |at| at + ACK_TIMEOUT);
            tokio::select! {
                Ok(()) = changed.changed(), if closing.is_none() => {
                    self.leave(flight).await;
                    return Ended::Changed;
                }
                event = flight.link.next() => match event {
                    Event::Acknowledged(token) => {
                        flight.proved = true;
                        if let Some((Sent::Row(lane, id), at)) = flight.sent.remove(&token) {
                            flight.trial = false; // a row on trial is the only one
                            flight.pace.acknowledged(at.elapsed());
                            flight.rows[lane as usize] -= 1;
                            self.suspects[lane as usize].acknowledged();
                            flight.acknowledged.push(id);
                            flight.flush_at.get_or_insert(Instant::now() + FLUSH);
                        }
                    }
                    Event::Rejected { token, reason, passing } => self.rejected(&mut flight, token, reason, passing),
                    Event::Message { receipt, topic, payload, retained } => {
                        let incoming = Incoming { topic, payload, retained, receipt };
                        if let Received::Done(reply) = self.commands.drop_in(incoming) {
                            receipt.into_iter().for_each(|receipt| flight.link.acknowledge(receipt));
                            if let Some((topic, payload)) = reply {
                                flight.pass(Passing { topic, payload, qos: 1, expiry: Some(REPLY_EXPIRY) });
                            }
                        }
                    }
                    Event::Refused => error!(
                        "the broker does not let this user read all of {}: commands or lessons do not come until it does",
                        self.subscriptions.join(", ")
                    ),
                    Event::Lost(reason) => {
                        self.suspect(&flight);
                        self.flush(&mut flight);
                        return Ended::Lost(format!("the connection to the broker is lost: {reason}"));
                    }
                    Event::TakenOver => {
                        self.flush(&mut flight);
                        return Ended::TakenOver;
                    }
                    Event::Garbled(reason) => {
                        self.flush(&mut flight);
                        return Ended::Garbled(format!(
                            "what the broker sent is no MQTT, or too large ({reason}); commands that it has kept are thrown away"
                        ));
                    }
                },
                () = outbox.appended.notified() => {}
                () = board.changed.notified() => {}
                Some(receipt) = self.answered.recv() => flight.link.acknowledge(receipt),
                Some(result) = self.results.recv(), if room && !flight.trial => flight.pass(result),
                () = sleep_until(flight.flush_at.unwrap_or_else(Instant::now)), if flight.flush_at.is_some() => {
                    self.flush(&mut flight);
                }
                () = sleep_until(flight.fill_after), if flight.fill_after > Instant::now() => {}
                () = sleep_until(overdue) => {
                    if oldest.is_some() {
                        self.flush(&mut flight);
                        self.suspect(&flight);
                        return Ended::Lost(format!(
                            "the broker has not acknowledged a message for {} s", ACK_TIMEOUT.as_secs()
                        ));
                    }
                }
                () = sleep_until(flight.again_at.unwrap_or_else(Instant::now)), if flight.again_at.is_some() => {
                    self.flush(&mut flight);
                    return Ended::Lost("what the broker did not take is sent again".to_owned());
                }
                () = sleep_until(deaf.unwrap_or_else(Instant::now)), if deaf.is_some() => {
                    deaf = None;
                    self.subscribe(&flight.link);
                }
                () = stop.stopped(), if closing.is_none() => closing = Some(Instant::now() + DRAIN),
                () = sleep_until(closing.unwrap_or_else(Instant::now)), if closing.is_some() => {}
            }
        }
    }

    /// The broker refuses a message: it is set aside, or kept for later where the reason passes.
    fn rejected(&mut self, flight: &mut Flight, token: Token, reason: &str, passing: bool) {
        flight.proved = true;
        let reason = format!("the broker refuses it: {reason}");
        let Some((Sent::Row(lane, id), _)) = flight.sent.remove(&token) else {
            warn!("a state or result is not published: {reason}");
            return;
        };
        flight.trial = false;
        flight.rows[lane as usize] -= 1;
        self.suspects[lane as usize].acknowledged();
        if passing {
            warn!("message {id} is kept for later: {reason}");
            flight.again_at.get_or_insert(Instant::now() + AGAIN);
        } else {
            block_in_place(|| self.set_aside(id, &reason));
        }
    }

    /// Leaves a broker that is not configured any more.
    async fn leave(&self, mut flight: Flight) {
        self.flush(&mut flight);
        // Nobody else tells those who listen there that nothing more comes.
        if let Some((topic, payload)) = self.options.will.clone() {
            let _ = flight.link.publish(&topic, payload, 1, true, None);
        }
        flight.link.disconnect().await;
    }

    /// Sends states, then messages in order, until the window is full.
    fn fill(&mut self, flight: &mut Flight) -> anyhow::Result<()> {
        if flight.trial {
            return Ok(());
        }
        while let Some((version, topic, payload)) = self.board.after(flight.version) {
            if flight.fits(&topic, &payload) {
                let Some(token) = flight.link.publish(&topic, payload, 1, true, None) else { return Ok(()) };
                flight.sent.insert(token, (Sent::Other, Instant::now()));
            } else {
                warn!(topic, "{} and are not published", flight.too_large(&payload));
            }
            flight.version = version;
        }
        self.fill_from(Lane::Live, flight, flight.window)?;
        // The rest of the window is kept for what is new, which then only waits for the backlog's share of one window.
        self.fill_from(Lane::Backlog, flight, flight.pace.share())
    }

    fn fill_from(&self, lane: Lane, flight: &mut Flight, most: usize) -> anyhow::Result<()> {
        let careful = self.suspects[lane as usize].is_careful();
        let most = most.saturating_sub(flight.rows[lane as usize]);
        let room = match careful {
            true if flight.trial || !flight.proved || !flight.sent.is_empty() => 0,
            true => 1,
            false if flight.trial => 0,
            false => flight.window.saturating_sub(flight.sent.len()).min(most),
        };
        if room == 0 {
            return Ok(());
        }
        for queued in self.outbox.peek(lane, flight.cursors[lane as usize], room)? {
            let id = queued.id;
            let (topic, retain) = (queued.message.topic.clone(), queued.message.retain);
            let expiry = (queued.message.kind == Kind::Reply).then_some(REPLY_EXPIRY);
            let payload = marked(queued);
            if flight.fits(&topic, &payload) {
                let Some(token) = flight.link.publish(&topic, payload, 1, retain, expiry) else { return Ok(()) };
                flight.sent.insert(token, (Sent::Row(lane, id), Instant::now()));
                flight.rows[lane as usize] += 1;
                flight.trial = careful;
            } else {
                self.set_aside(id, &flight.too_large(&payload));
            }
            flight.cursors[lane as usize] = id;
        }
        Ok(())
    }

    /// What was on its way when the connection ended may be why.
    fn suspect(&mut self, flight: &Flight) {
        for lane in [Lane::Live, Lane::Backlog] {
            let of_lane = |(sent, _): &(Sent, Instant)| match sent {
                Sent::Row(of, id) if *of == lane => Some(*id),
                _ => None,
            };
            let rows: Vec<i64> = flight.sent.values().filter_map(of_lane).collect();
            let alone = flight.proved && flight.sent.len() == 1;
            if let Some(guilty) = self.suspects[lane as usize].lost(&rows, alone) {
                block_in_place(|| self.set_aside(guilty, "the broker ends the connection whenever it comes"));
            }
        }
    }

    fn set_aside(&self, id: i64, reason: &str) {
        warn!("message {id} is set aside: {reason}");
        if let Err(e) = self.outbox.set_aside(id, reason) {
            // It stays in the queue until the next connection, and is in nobody's way until then.
            error!("it could not be set aside: {e:#}");
        }
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
