//! What the process is told from outside: to end (SIGTERM, SIGINT), and to take up a changed configuration (SIGHUP).

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::error;

use crate::exit::{self, Exit};
use crate::reload::Reloader;
use crate::stop::Stop;

/// The end takes at most this long, whatever hangs.
const LAST: Duration = Duration::from_millis(4800);

/// The signal to take up a changed configuration, which ends the process where nobody listens to it.
pub struct HangUp(Signal);

impl HangUp {
    /// From now on it is kept until it is heeded.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new() -> Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }
}

/// The signals.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: HangUp,
}

impl Signals {
    /// From now on the other two do not end the process by themselves either.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(hang_up: HangUp) -> Result<Self> {
        let [terminate, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        Ok(Self { terminate: terminate?, interrupt: interrupt?, hang_up })
    }

    /// Takes up the configuration at SIGHUP; at the other two it sees to it that the process ends in time.
    pub async fn heed(mut self, stop: Stop, asked: Stop, reloader: Arc<Reloader>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hang_up.0.recv() => {
                    let reloader = Arc::clone(&reloader);
                    drop(tokio::task::spawn_blocking(move || drop(reloader.reload()))); // it has said how it went
                }
            }
        }
        asked.set();
        stop.set();
        // Whatever hangs (a disk, a driver), the process ends in time; a stop that needs this is a failure.
        thread::spawn(|| {
            thread::sleep(LAST);
            error!("something hangs: ended by force, what was recorded is sent after the next start");
            exit::leave(Exit::Software as u8);
        });
    }
}
