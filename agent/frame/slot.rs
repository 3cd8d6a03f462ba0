//! A slot between a camera and inference that holds ONE picture, the newest; or a few, the newest ones, where each shows a part that
//! has to be inspected. What was not taken in time is dropped and counted, so that inspection never falls behind the line.
//!
//! Accounting is exact: captured = dropped + taken + those that wait.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The slot.
#[derive(Debug)]
pub struct Slot<T>(Mutex<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<T>,
    capacity: usize,
    captured: u64,
    dropped: u64,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(Inner { items: VecDeque::new(), capacity: 1, captured: 0, dropped: 0 }))
    }
}

impl<T> Slot<T> {
    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on so many items may wait, at least one; gives those, counted as dropped, for which there is no room any more.
    pub fn set_capacity(&self, capacity: usize) -> Vec<T> {
        let mut inner = self.inner();
        inner.capacity = capacity.max(1);
        let excess = inner.items.len().saturating_sub(inner.capacity);
        inner.dropped += excess as u64;
        inner.items.drain(..excess).collect()
    }

    /// Puts an item in; gives the one, counted as dropped, for which there is no room any more: the oldest.
    pub fn put(&self, item: T) -> Option<T> {
        let mut inner = self.inner();
        inner.captured += 1;
        let dropped = if inner.items.len() >= inner.capacity { inner.items.pop_front() } else { None };
        inner.dropped += u64::from(dropped.is_some());
        inner.items.push_back(item);
        dropped
    }

    /// Takes the item out that waits longest.
    pub fn take(&self) -> Option<T> {
        self.take_with(|item| item)
    }

    /// Takes the item out and runs `f` before another may take the next one, for numbering that must follow the order
    /// of taking.
    pub fn take_with<R>(&self, f: impl FnOnce(T) -> R) -> Option<R> {
        let mut inner = self.inner();
        inner.items.pop_front().map(f)
    }

    /// Whether an item waits.
    pub fn is_full(&self) -> bool {
        !self.inner().items.is_empty()
    }

    /// Items ever put in, and those of them that were never taken, at one instant.
    pub fn counts(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.captured, inner.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn keeps_the_newest() {
        let slot = Slot::default();
        let dropped: Vec<_> = (0..5).map(|n| slot.put(n)).collect();
        assert_eq!(dropped, [None, Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(slot.take(), Some(4));
        assert_eq!(slot.take(), None);
        assert_eq!(slot.counts(), (5, 4));
    }

    #[test]
    fn a_queue_keeps_its_order() {
        let slot = Slot::default();
        slot.set_capacity(3);
        let dropped: Vec<_> = (0..5).map(|n| slot.put(n)).collect();
        assert_eq!(dropped, [None, None, None, Some(0), Some(1)]);
        assert_eq!([slot.take(), slot.take(), slot.take(), slot.take()], [Some(2), Some(3), Some(4), None]);
        assert_eq!(slot.counts(), (5, 2));
    }

    #[test]
    fn counts_exactly_between_threads() {
        let slot = Arc::new(Slot::default());
        let writer = {
            let slot = Arc::clone(&slot);
            std::thread::spawn(move || {
                (0..20_000_u64).for_each(|n| {
                    slot.put(n);
                });
            })
        };
        let (mut taken, mut last) = (0, None);
        while !writer.is_finished() || slot.is_full() {
            if let Some(n) = slot.take() {
                assert!(last < Some(n), "an older item after a newer one");
                last = Some(n);
                taken += 1;
            }
        }
        writer.join().unwrap();
        let (captured, dropped) = slot.counts();
        assert_eq!((captured, dropped + taken), (20_000, 20_000));
    }
}
