//! What gateways and cameras say of themselves. The broker keeps it, so that it need not be kept here.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use anyhow::{Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::letter::Address;
use super::store::Store;
use crate::mqtt::payload::{CameraState, GatewayState};
use crate::update::reported::Reported;

/// Gateways, and cameras of one, that are known at most.
const MOST: (usize, usize) = (10_000, 256);

/// What a gateway has said.
#[derive(Debug, Default)]
struct Gateway {
    state: Option<GatewayState>,
    seen_at: Timestamp,
    cameras: BTreeMap<String, CameraState>,
    model: Option<Reported>,
}

/// All gateways.
#[derive(Debug, Default)]
pub struct Fleet(RwLock<BTreeMap<Address, Gateway>>);

/// Counts, for metrics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sizes {
    /// Gateways that are online.
    pub online: usize,
    /// Those that are not.
    pub offline: usize,
    /// Cameras of gateways that are online.
    pub cameras: usize,
}

impl Fleet {
    fn all(&self) -> RwLockWriteGuard<'_, BTreeMap<Address, Gateway>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, address: Address, now: Timestamp, f: impl FnOnce(&mut Gateway) -> Result<()>) -> Result<()> {
        let mut all = self.all();
        ensure!(all.len() < MOST.0 || all.contains_key(&address), "there are {} gateways already", MOST.0);
        let gateway = all.entry(address).or_default();
        gateway.seen_at = now;
        f(gateway)
    }

    /// A gateway's state; nothing where it was taken away.
    ///
    /// # Errors
    /// There are too many.
    pub fn gateway(&self, address: Address, state: Option<GatewayState>, now: Timestamp) -> Result<()> {
        let Some(state) = state else {
            self.all().remove(&address);
            return Ok(());
        };
        self.change(address, now, |gateway| {
            gateway.state = Some(state);
            Ok(())
        })
    }

    /// A camera's state; nothing where it is gone.
    ///
    /// # Errors
    /// There are too many.
    pub fn camera(&self, address: Address, name: String, state: Option<CameraState>, now: Timestamp) -> Result<()> {
        self.change(address, now, |gateway| {
            let Some(state) = state else {
                gateway.cameras.remove(&name);
                return Ok(());
            };
            let has_room = gateway.cameras.len() < MOST.1 || gateway.cameras.contains_key(&name);
            ensure!(has_room, "its gateway has {} cameras already", MOST.1);
            gateway.cameras.insert(name, state);
            Ok(())
        })
    }

    /// How far its update is.
    ///
    /// # Errors
    /// There are too many.
    pub fn model(&self, address: Address, reported: Option<Reported>, now: Timestamp) -> Result<()> {
        self.change(address, now, |gateway| {
            gateway.model = reported;
            Ok(())
        })
    }

    /// Whether there is such a gateway.
    #[must_use]
    pub fn knows(&self, site: &str, gateway: &str) -> bool {
        let address = Address { site: site.to_owned(), gateway: gateway.to_owned() };
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(&address)
    }

    /// Whether it is there now.
    #[must_use]
    pub fn is_online(&self, site: &str, gateway: &str) -> bool {
        let address = Address { site: site.to_owned(), gateway: gateway.to_owned() };
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&address).and_then(|gateway| gateway.state.as_ref()).is_some_and(|state| state.online)
    }

    /// Counts.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut sizes = Sizes::default();
        for gateway in all.values() {
            if gateway.state.as_ref().is_some_and(|state| state.online) {
                sizes.online += 1;
                sizes.cameras += gateway.cameras.len();
            } else {
                sizes.offline += 1;
            }
        }
        sizes
    }

    /// All of it, as the API shows it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn shown(&self, store: &Store) -> Result<Vec<Value>> {
        let (missing, images) = (store.missing()?, store.newest_images()?);
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let show = |(address, gateway): (&Address, &Gateway)| {
            let cameras = gateway.cameras.iter().map(|(name, state)| {
                let key = (address.site.clone(), address.gateway.clone(), name.clone());
                let image = images.get(&key);
                json!({
                    "camera": name, "state": state.state, "reason": state.reason, "since": state.since, "fps": state.fps,
                    "captured": state.captured, "inspected": state.inspected, "dropped": state.dropped,
                    "no_verdict": state.no_verdict, "anomaly": state.anomaly, "faults": state.faults,
                    "image": image.map(|(sha256, _)| sha256), "image_at": image.map(|(_, at)| at),
                })
            });
            let state = gateway.state.as_ref();
            let model = gateway.model.as_ref().map(|model| {
                json!({
                    "phase": model.phase, "progress": model.progress, "reason": model.reason, "active": model.active,
                    "candidate": model.candidate, "received": model.received, "needed": model.needed,
                })
            });
            json!({
                "site": address.site, "gateway": address.gateway, "seen_at": gateway.seen_at,
                "online": state.is_some_and(|state| state.online), "reason": state.and_then(|state| state.reason.clone()),
                "agent": state.map(|state| &state.agent), "uptime_s": state.map(|state| state.uptime_s),
                "bundle": state.map(|state| &state.bundle), "outbox": state.map(|state| &state.outbox),
                "system": state.and_then(|state| state.system.as_ref()),
                "missing_events": missing.get(address).copied().unwrap_or(0),
                "cameras": cameras.collect::<Vec<_>>(), "model": model,
            })
        };
        Ok(all.iter().map(show).collect())
    }
}
