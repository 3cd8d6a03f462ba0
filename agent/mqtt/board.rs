//! Retained states of which only the latest counts: the gateway's and its cameras'.
//!
//! A state that changes ten times while the broker is away is published once. Everything is published again on every
//! new connection.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

#[derive(Default)]
struct Inner {
    version: u64,
    items: BTreeMap<String, (u64, Vec<u8>)>,
}

/// The board.
#[derive(Default)]
pub struct Board {
    inner: Mutex<Inner>,
    /// Wakes the session.
    pub changed: Notify,
}

impl Board {
    /// Sets the state under a topic; the same bytes again are no change.
    pub fn set(&self, topic: &str, payload: Vec<u8>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.items.get(topic).is_some_and(|(_, old)| *old == payload) {
            return;
        }
        inner.version += 1;
        let version = inner.version;
        inner.items.insert(topic.to_owned(), (version, payload));
        drop(inner);
        self.changed.notify_one();
    }

    /// The oldest change after `version`: its own version, topic and payload.
    pub fn after(&self, version: u64) -> Option<(u64, String, Vec<u8>)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = inner.items.iter().filter(|(_, (v, _))| *v > version);
        newer.min_by_key(|(_, (v, _))| *v).map(|(topic, (v, payload))| (*v, topic.clone(), payload.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_of_each_topic_counts() {
        let board = Board::default();
        for n in 0..10 {
            board.set("a", vec![n]);
        }
        board.set("b", vec![1]);
        board.set("a", vec![9]); // no change
        let (version, topic, payload) = board.after(0).unwrap();
        assert_eq!((topic.as_str(), payload), ("a", vec![9]));
        let (version, topic, _) = board.after(version).unwrap();
        assert_eq!(topic, "b");
        assert!(board.after(version).is_none());
    }
}
