//! A stop signal that threads and tasks share: set once, seen by all, and able to cut a wait short.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// A handle to the signal; clones share it.
#[derive(Debug, Clone)]
pub struct Stop {
    inner: Arc<(Mutex<bool>, Condvar)>,
    sender: watch::Sender<bool>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { inner: Arc::default(), sender: watch::channel(false).0 }
    }
}

impl Stop {
    /// Asks everybody to stop.
    pub fn set(&self) {
        *self.inner.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.inner.1.notify_all();
        self.sender.send_replace(true);
    }

    /// Whether to stop.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self.inner.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits on a thread for at most `duration`; true when it is time to stop.
    #[must_use]
    pub fn wait(&self, duration: Duration) -> bool {
        let guard = self.inner.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.inner.1.wait_timeout_while(guard, duration, |set| !*set);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits in a task until it is time to stop.
    pub async fn stopped(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender lives as long as `self`, so an error cannot come; if it did, stopping is the safe answer.
        let _ = receiver.wait_for(|set| *set).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wakes_tasks_and_threads() {
        let stop = Stop::default();
        assert!(!stop.wait(Duration::from_millis(1)));
        let (task, thread) = (stop.clone(), stop.clone());
        let task = tokio::spawn(async move { task.stopped().await });
        let thread = std::thread::spawn(move || thread.wait(Duration::from_secs(60)));
        stop.set();
        task.await.unwrap();
        assert!(thread.join().unwrap());
        stop.stopped().await;
        assert!(stop.is_set());
    }
}
