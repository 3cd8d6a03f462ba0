//! What the session says of its connections, for the gateway's state.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::payload::BrokerState;

/// A second client of the same id is spoken of for so long after it was last seen.
const REMEMBERED: Duration = Duration::from_secs(600);

#[derive(Default)]
struct Inner {
    state: BrokerState,
    trouble: Option<(String, Instant)>,
}

/// Shared by the session and what reports it.
#[derive(Default)]
pub struct LinkStatus {
    inner: Mutex<Inner>,
}

impl LinkStatus {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was opened.
    pub fn connected(&self, version: &str) {
        let state = &mut self.lock().state;
        version.clone_into(&mut state.mqtt_version);
        state.connections += 1;
    }

    /// It has ended by itself.
    pub fn lost(&self, reason: &str) {
        self.lock().state.last_loss = Some(reason.to_owned());
    }

    /// Another client has come with the same id.
    pub fn taken_over(&self, trouble: String) {
        let inner = &mut *self.lock();
        inner.state.taken_over += 1;
        inner.trouble = Some((trouble, Instant::now()));
    }

    /// The figures, and what is wrong.
    #[must_use]
    pub fn get(&self) -> (BrokerState, Option<String>) {
        let inner = self.lock();
        let trouble = inner.trouble.as_ref().filter(|(_, at)| at.elapsed() < REMEMBERED);
        (inner.state.clone(), trouble.map(|(text, _)| text.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_client_is_spoken_of_for_a_while() {
        let status = LinkStatus::default();
        status.connected("5");
        status.taken_over("two of them".into());
        tokio::time::advance(REMEMBERED.mul_f32(0.99)).await;
        assert_eq!(status.get().1.as_deref(), Some("two of them"));
        tokio::time::advance(REMEMBERED.mul_f32(0.02)).await;
        let (state, trouble) = status.get();
        assert_eq!((state.mqtt_version.as_str(), state.connections, state.taken_over, trouble), ("5", 1, 1, None));
    }
}
