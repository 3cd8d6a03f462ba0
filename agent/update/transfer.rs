//! Which chunks are asked for, and when. Pure.
//!
//! A few at a time, so that a broker need not push a bundle at a gateway, and no faster than allowed, so that alarms have the line to
//! themselves. One that does not come is asked for again; it may not be there yet.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::store::Wanted;

/// Chunks that are asked for at a time.
const AT_ONCE: usize = 4;
/// After so long a chunk is asked for again, and the time that all take which are asked for.
const PATIENCE: Duration = Duration::from_secs(15);

/// What has to come.
#[derive(Debug)]
pub struct Transfer {
    waiting: VecDeque<Wanted>,
    asked: BTreeMap<String, (Wanted, Instant)>,
    received: u64,
    needed: u64,
    /// Bytes a second.
    rate: f64,
    patience: Duration,
    /// Nothing is asked for before.
    not_before: Instant,
}

impl Transfer {
    /// For these chunks, at so many bytes a second.
    #[must_use]
    pub fn new(wanted: Vec<Wanted>, rate: f64) -> Self {
        let needed = wanted.iter().map(|w| w.chunk.bytes as u64).sum();
        let largest = wanted.iter().map(|w| w.chunk.bytes).max().unwrap_or(0);
        let patience = PATIENCE + Duration::from_secs_f64((AT_ONCE * largest) as f64 / rate);
        let (waiting, asked) = (wanted.into(), BTreeMap::new());
        Self { waiting, asked, received: 0, needed, rate, patience, not_before: Instant::now() }
    }

    /// Topics to subscribe to now, by the topic of a chunk.
    pub fn ask(&mut self, topic: impl Fn(&Wanted) -> String) -> Vec<String> {
        let now = Instant::now();
        let mut topics = Vec::new();
        for (name, (_, at)) in &mut self.asked {
            if now.duration_since(*at) >= self.patience {
                *at = now;
                topics.push(name.clone());
            }
        }
        while self.asked.len() < AT_ONCE
            && now >= self.not_before
            && let Some(wanted) = self.waiting.pop_front()
        {
            let name = topic(&wanted);
            // What is under way takes its time of the line.
            let span = Duration::from_secs_f64(wanted.chunk.bytes as f64 / self.rate);
            self.not_before = self.not_before.max(now) + span;
            self.asked.insert(name.clone(), (wanted, now));
            topics.push(name);
        }
        topics
    }

    /// Over a new connection everything is asked for again.
    pub fn reconnected(&mut self) {
        for (_, (wanted, _)) in std::mem::take(&mut self.asked) {
            self.waiting.push_front(wanted);
        }
    }

    /// The chunk that was asked for by this topic.
    #[must_use]
    pub fn asked(&self, topic: &str) -> Option<Wanted> {
        self.asked.get(topic).map(|(wanted, _)| *wanted)
    }

    /// It has come.
    pub fn came(&mut self, topic: &str) {
        if let Some((wanted, _)) = self.asked.remove(topic) {
            self.received += wanted.chunk.bytes as u64;
        }
    }

    /// Whether all has come.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty()
    }

    /// Bytes that have come, and that had to.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.received, self.needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::index::{Chunk, Digest};

    fn wanted(n: usize) -> Wanted {
        Wanted { blob: Digest::of(b"blob"), n, chunk: Chunk { bytes: 1000, sha256: Digest::of(&n.to_le_bytes()) } }
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_at_a_time_at_the_allowed_rate_and_again_what_does_not_come() {
        let mut transfer = Transfer::new((0..10).map(wanted).collect(), 1000.0);
        let name = |w: &Wanted| w.n.to_string();
        let begun = Instant::now();
        assert_eq!(transfer.ask(name), ["0"], "a second a chunk");
        assert!(transfer.ask(name).is_empty());
        transfer.came("0");
        transfer.came("0");
        transfer.came("7");
        assert_eq!(transfer.progress(), (1000, 10_000));
        let mut came = 1;
        while !transfer.is_done() {
            tokio::time::advance(Duration::from_millis(100)).await;
            for topic in transfer.ask(name) {
                if topic != "3" || begun.elapsed() > Duration::from_secs(17) {
                    transfer.came(&topic);
                    came += 1;
                }
            }
        }
        assert_eq!((came, transfer.progress()), (10, (10_000, 10_000)));
        let span = begun.elapsed().as_secs_f64();
        assert!((22.0..23.0).contains(&span), "{span}: chunk 3 was asked for at 3 s and again at 22 s");
    }

    #[tokio::test(start_paused = true)]
    async fn over_a_new_connection_all_that_was_asked_for_is_so_again() {
        let mut transfer = Transfer::new((0..10).map(wanted).collect(), 1e9);
        let name = |w: &Wanted| w.n.to_string();
        assert_eq!(transfer.ask(name), ["0"]);
        tokio::time::advance(Duration::from_millis(1)).await;
        transfer.ask(name);
        transfer.reconnected();
        assert!(transfer.asked("0").is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!transfer.ask(name).is_empty() && !transfer.is_done());
    }
}
