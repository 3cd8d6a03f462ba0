//! What has happened, for the pages that are open. Nobody is waited for: who is too slow is told to look at all anew.

use std::sync::Arc;

use tokio::sync::broadcast;

/// What may wait for a page.
const WAITING: usize = 1024;

/// Something for a page: its kind, and JSON.
#[derive(Debug, Clone)]
pub struct Bulletin {
    /// What it is about.
    pub about: &'static str,
    /// What it says.
    pub json: Arc<str>,
}

/// Where news are told.
#[derive(Debug, Clone)]
pub struct News(broadcast::Sender<Bulletin>);

impl Default for News {
    fn default() -> Self {
        Self(broadcast::channel(WAITING).0)
    }
}

impl News {
    /// Tells whoever listens.
    pub fn tell(&self, about: &'static str, json: &str) {
        let _ = self.0.send(Bulletin { about, json: json.into() }); // nobody may listen
    }

    /// Whether anybody listens.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// What is told from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Bulletin> {
        self.0.subscribe()
    }
}
