//! What is on its way over one connection.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::link::{Link, Token};
use super::pace::Pace;
use super::payload::AlarmEvent;
use super::session::Passing;
use crate::outbox::{Kind, Lane, Queued};

/// Room for the header of a packet.
const HEADER: usize = 1024;

/// What was sent.
pub(super) enum Sent {
    Row(Lane, i64),
    Other,
}

/// One connection's bookkeeping.
pub(super) struct Flight {
    pub(super) link: Link,
    /// The last row that was sent of each lane.
    pub(super) cursors: [i64; 2],
    /// Rows of each lane that are not acknowledged.
    pub(super) rows: [usize; 2],
    /// How many of all may be unacknowledged.
    pub(super) window: usize,
    /// The largest packet.
    pub(super) max_packet: usize,
    /// How many of the backlog may be on their way.
    pub(super) pace: Pace,
    /// The broker has acknowledged something.
    pub(super) proved: bool,
    /// A message is on trial: nothing else is sent.
    pub(super) trial: bool,
    /// The last state that was sent.
    pub(super) version: u64,
    pub(super) sent: BTreeMap<Token, (Sent, Instant)>,
    pub(super) acknowledged: Vec<i64>,
    /// When acknowledgements are to be written.
    pub(super) flush_at: Option<Instant>,
    /// The outbox could not be read: not again before.
    pub(super) fill_after: Instant,
    /// The broker did not take some messages for now: over a new connection they go out again.
    pub(super) again_at: Option<Instant>,
}

impl Flight {
    /// Nothing is on its way yet; of window and packet size the smaller of ours and the broker's counts.
    pub(super) fn new(link: Link, window: usize, max_packet: usize) -> Self {
        let agreed = link.agreed();
        let window = window.min(agreed.window);
        Self {
            link,
            cursors: [0; 2],
            rows: [0; 2],
            window,
            max_packet: max_packet.min(agreed.max_packet),
            pace: Pace::new(window - window / 4),
            proved: false,
            trial: false,
            version: 0,
            sent: BTreeMap::new(),
            acknowledged: Vec::new(),
            flush_at: None,
            fill_after: Instant::now(),
            again_at: None,
        }
    }

    pub(super) fn fits(&self, topic: &str, payload: &[u8]) -> bool {
        payload.len() + topic.len() + HEADER <= self.max_packet
    }

    /// Sends a result, or leaves it out.
    pub(super) fn pass(&mut self, result: Passing) {
        if self.fits(&result.topic, &result.payload) {
            let Passing { topic, payload, qos, expiry } = result;
            let token = self.link.publish(&topic, payload, qos, false, expiry);
            if let (Some(token), 1) = (token, qos) {
                self.sent.insert(token, (Sent::Other, Instant::now()));
            }
        }
    }

    /// Why something does not fit.
    pub(super) fn too_large(&self, payload: &[u8]) -> String {
        let whose = if self.link.agreed().max_packet <= self.max_packet {
            "that the broker takes"
        } else {
            "of mqtt.max_packet_kib"
        };
        format!("{} bytes are over the {} {whose}", payload.len(), self.max_packet)
    }
}
/// The payload, with `replayed` set in an event that waited for the broker.
pub(super) fn marked(queued: Queued) -> Vec<u8> {
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
