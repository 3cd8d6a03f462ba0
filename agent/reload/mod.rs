//! Takes up a changed configuration while everything runs, at SIGHUP or the command `reload`.
//!
//! Guarantees
//! - A file that is wrong, or that a restart is needed for, is refused whole, with the reason; nothing has changed then.
//! - Only what has changed restarts: a camera whose source is another, the connection where the broker is another. All else goes on
//!   without losing a frame.
//! - The difference is told, key by key; no secret is in it, since none is in the file.

mod diff;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;
use tracing::{error, info};

pub use diff::Change;

use crate::config::{CameraConfig, Config};
use crate::mqtt::board::Board;
use crate::mqtt::discovery;
use crate::mqtt::link::LinkOptions;
use crate::mqtt::topics::Topics;
use crate::outbox::Outbox;
use crate::rig::{Did, Rig};
use crate::shared::Shared;
use crate::verdict::book::AlarmBook;

/// What is taken up at a start alone.
const FIXED: [&str; 5] = ["gateway.", "model.", "outbox.", "update.", "metrics."];
/// What of `[mqtt]` concerns no connection.
const UNCONNECTED: [&str; 3] = ["mqtt.results", "mqtt.results_qos", "mqtt.home_assistant"];

/// How to reach the broker, for alarms and for updates.
pub type Links = Box<dyn Fn(&Config) -> [LinkOptions; 2] + Send + Sync>;

/// What takes it up.
pub struct Reloader {
    /// The file.
    pub path: PathBuf,
    /// The configuration in force.
    pub current: Arc<Shared<Config>>,
    /// Cameras.
    pub rig: Arc<Rig>,
    /// Alarms.
    pub book: Arc<Mutex<AlarmBook>>,
    /// Where they are recorded.
    pub outbox: Arc<Outbox>,
    /// Where states are published.
    pub board: Arc<Board>,
    /// Names of topics.
    pub topics: Topics,
    /// How connections follow from a configuration,
    pub links: Links,
    /// and who makes them.
    pub connections: [watch::Sender<LinkOptions>; 2],
    /// One at a time.
    pub busy: Mutex<()>,
}

/// What was taken up.
#[derive(Debug, Serialize)]
pub struct Reloaded {
    /// The keys that differ, a line each.
    pub changes: Vec<String>,
    /// What was done to cameras.
    pub cameras: Vec<Did>,
    /// The connections to the broker were made anew.
    pub reconnected: bool,
}

impl Reloader {
    /// Reads the file and takes it up; both outcomes are logged.
    ///
    /// # Errors
    /// Why it is refused, whole.
    pub fn reload(&self) -> Result<Reloaded> {
        let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current.get();
        let result = self.take_up();
        match &result {
            Ok(Reloaded { changes, .. }) if changes.is_empty() => info!("the configuration has not changed"),
            Ok(Reloaded { changes, cameras, reconnected }) => {
                changes.iter().for_each(|change| info!("configuration: {change}"));
                info!(?cameras, reconnected, "the changed configuration is in force");
            }
            Err(e) if Arc::ptr_eq(&self.current.get(), &before) => {
                error!("the changed configuration is refused, the one before stays in force: {e:#}");
            }
            Err(e) => error!("{e:#}"),
        }
        result
    }

    fn take_up(&self) -> Result<Reloaded> {
        let (old, new) = (self.current.get(), Config::read(&self.path)?);
        let changes = diff::diff(&old, &new)?;
        let fixed: Vec<&str> = changes
            .iter()
            .map(|c| c.key.as_str())
            .filter(|key| FIXED.iter().any(|fixed| key.starts_with(fixed)))
            .collect();
        if !fixed.is_empty() {
            bail!("{} can change at a start alone: restart inspectd (systemctl restart inspectd)", fixed.join(", "));
        }
        let prepared = self.rig.prepare(&new, true).and_then(|prepared| self.board_of_alarms(&new).map(|()| prepared));
        let prepared = prepared.inspect_err(|_| self.rig.tidy())?;
        let (cameras, started) = self.rig.apply(Some(&old), &new, &prepared);
        for did in &cameras {
            if let Did::Stopped(camera) = did {
                self.board.set(&self.topics.camera_state(camera), Vec::new());
            }
        }
        self.announce(Some(&old), &new);
        let is_of_connection =
            |change: &Change| change.key.starts_with("mqtt.") && !UNCONNECTED.contains(&change.key.as_str());
        let reconnected = changes.iter().any(is_of_connection);
        if reconnected {
            for (connection, options) in self.connections.iter().zip((self.links)(&new)) {
                connection.send_replace(options);
            }
        }
        self.current.set(new);
        started
            .context("all of it is in force, but a camera could not be started: reload again, or restart inspectd")?;
        Ok(Reloaded { changes: changes.iter().map(ToString::to_string).collect(), cameras, reconnected })
    }

    /// Alarms of cameras that are gone are cleared, and new hysteresis counts.
    fn board_of_alarms(&self, new: &Config) -> Result<()> {
        let names: Vec<Arc<str>> = new.cameras.iter().map(|camera| camera.name().into()).collect();
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.configure(&new.alarm, &names, &self.outbox, Timestamp::now())
    }

    /// Tells Home Assistant, where it is to be told, and takes back what it was told before.
    pub fn announce(&self, old: Option<&Config>, new: &Config) {
        let device = |config: &Config| {
            let names: Vec<&str> = config.cameras.iter().map(CameraConfig::name).collect();
            let prefix = config.mqtt.home_assistant.as_ref()?;
            Some(discovery::device(prefix.as_str(), config.gateway.site.as_str(), config.gateway.name.as_str(), &names))
        };
        let (before, now) = (old.and_then(device), device(new));
        if let Some((topic, _)) = before.filter(|(topic, _)| now.as_ref().is_none_or(|(new, _)| new != topic)) {
            self.board.set(&topic, Vec::new());
        }
        if let Some((topic, payload)) = now {
            self.board.set(&topic, payload);
        }
    }
}
