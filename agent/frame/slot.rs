//! A slot between a camera and inference that holds ONE picture: the newest. What was not taken in time is dropped and
//! counted, so that inspection never falls behind the line.
//!
//! Accounting is exact: captured = dropped + taken + (1 while one waits).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The slot.
#[derive(Debug)]
pub struct Slot<T> {
    item: Mutex<Option<T>>,
    captured: AtomicU64,
    dropped: AtomicU64,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { item: Mutex::new(None), captured: AtomicU64::new(0), dropped: AtomicU64::new(0) }
    }
}

impl<T> Slot<T> {
    /// Puts an item in; the one that still lay there is dropped and counted.
    pub fn put(&self, item: T) {
        let mut slot = self.item.lock().unwrap_or_else(PoisonError::into_inner);
        self.captured.fetch_add(1, Ordering::Relaxed);
        if slot.replace(item).is_some() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the item out.
    pub fn take(&self) -> Option<T> {
        self.take_with(|item| item)
    }

    /// Takes the item out and runs `f` before another may take the next one, for numbering that must follow the order
    /// of taking.
    pub fn take_with<R>(&self, f: impl FnOnce(T) -> R) -> Option<R> {
        let mut slot = self.item.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take().map(f)
    }

    /// Whether an item waits.
    pub fn is_full(&self) -> bool {
        self.item.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Items ever put in, and those of them that were never taken, at one instant.
    pub fn counts(&self) -> (u64, u64) {
        let _item = self.item.lock().unwrap_or_else(PoisonError::into_inner);
        (self.captured.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn keeps_the_newest() {
        let slot = Slot::default();
        for n in 0..5 {
            slot.put(n);
        }
        assert_eq!(slot.take(), Some(4));
        assert_eq!(slot.take(), None);
        assert_eq!(slot.counts(), (5, 4));
    }

    #[test]
    fn counts_exactly_between_threads() {
        let slot = Arc::new(Slot::default());
        let writer = {
            let slot = Arc::clone(&slot);
            std::thread::spawn(move || (0..20_000_u64).for_each(|n| slot.put(n)))
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
