//! Keeps what the cameras have learned: which product each one looks at, and its memory on disk.
//!
//! Guarantees
//! - What was learned is on disk at most [`EVERY`] later, and when the agent stops; a restart goes on from there.
//! - A changeover saves the old product's memory before the new one's is taken up. Frames that are in the network
//!   meanwhile are judged by the one or the other, never by a mixture.
//! - A memory belongs to the network, source and region by which it was learned; it is never used by another.
//! - A disk that refuses, or a memory that cannot be used, is said and is no reason to stop inspecting.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use crate::anomaly::Check;
use crate::anomaly::memory::{Mark, Memory};
use crate::anomaly::shelf::Shelf;
use crate::config::{CameraConfig, Name};
use crate::inspector::Judge;
use crate::pipeline::{Lane, Pipeline};

/// Time between two savings.
pub const EVERY: Duration = Duration::from_secs(60);
/// The product of a camera that was never told one.
const USUAL: &str = "default";

/// Of all cameras.
pub struct Keeper {
    shelf: Shelf,
    pipeline: Arc<Pipeline>,
    desks: Mutex<Vec<Desk>>,
}

/// Of one camera.
struct Desk {
    product: Name,
    /// What its memories were learned from.
    view: String,
    /// Frames that the memory on disk had seen.
    saved: u64,
    /// The last saving failed, and that was said.
    failed: bool,
}

impl Keeper {
    /// Takes up what is on disk. A product in the configuration comes before the one that was last commanded.
    ///
    /// # Errors
    /// None that a user could cause.
    pub fn new(shelf: Shelf, cameras: &[CameraConfig], pipeline: Arc<Pipeline>) -> Result<Self> {
        let usual = Name::new(USUAL).map_err(anyhow::Error::msg)?;
        let mut desks = Vec::new();
        for (camera, lane) in cameras.iter().zip(&pipeline.lanes) {
            let last = || shelf.current(camera.name());
            let product = camera.product.clone().or_else(last).unwrap_or_else(|| usual.clone());
            let view = view(camera);
            let seen = take_up(&shelf, lane, &product, &view);
            desks.push(Desk { product, view, saved: seen, failed: false });
        }
        Ok(Self { shelf, pipeline, desks: Mutex::new(desks) })
    }

    fn desks(&self) -> MutexGuard<'_, Vec<Desk>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves what has changed since the last time.
    pub fn save(&self) {
        for (desk, lane) in self.desks().iter_mut().zip(&self.pipeline.lanes) {
            match self.save_one(desk, lane) {
                Ok(()) => desk.failed = false,
                Err(e) if !desk.failed => {
                    warn!(camera = %lane.feed.name, "what was learned is not saved: {e:#}");
                    desk.failed = true;
                }
                Err(_) => {}
            }
        }
    }

    fn save_one(&self, desk: &mut Desk, lane: &Lane) -> Result<()> {
        // Encoding and disk come after the lock, so that no frame waits for them.
        let changed = |check: &&Check| check.seen() != desk.saved;
        let memory = lane.with_judge(|judge| judge.check().filter(changed).map(Check::memory));
        if let Some(memory) = memory {
            self.shelf.save(&lane.feed.name, &desk.product, &desk.view, &memory)?;
            desk.saved = memory.offered;
        }
        Ok(())
    }

    /// The network is another one from now on, for which these are the judges; `alike` is whether it sees as the one before did. Else
    /// what was learned is saved, and each camera goes on with what it knows by the new one, or learns anew.
    pub fn network_changes(&self, mark: &Mark, alike: bool, mut judges: Vec<Judge>, swap: impl FnOnce(Vec<Judge>)) {
        if !alike {
            self.save();
        }
        let mut desks = self.desks();
        self.shelf.set_mark(mark);
        if !alike {
            for ((desk, lane), judge) in desks.iter_mut().zip(&self.pipeline.lanes).zip(&mut judges) {
                let memory = known(&self.shelf, &lane.feed.name, &desk.product, &desk.view);
                desk.saved = memory.offered;
                if let Some(check) = judge.check_mut() {
                    check.remember(&memory);
                }
            }
        }
        swap(judges);
    }

    /// The product that a camera looks at, and all that it knows.
    ///
    /// # Errors
    /// There is no such camera.
    pub fn products(&self, camera: &str) -> Result<(String, Vec<String>)> {
        let at = self.find(camera)?;
        Ok((self.desks()[at].product.to_string(), self.shelf.products(camera)))
    }

    /// From now on the camera looks at this product; gives the frames that its memory had seen when it was taken up.
    ///
    /// # Errors
    /// No such camera, no anomaly check, the disk refuses, or too many products; the camera then looks at what it did.
    pub fn change_over(&self, camera: &str, product: &Name) -> Result<u64> {
        let at = self.find(camera)?;
        let (lane, mut desks) = (&self.pipeline.lanes[at], self.desks());
        let desk = &mut desks[at];
        if desk.product != *product {
            if let Err(e) = self.save_one(desk, lane) {
                warn!(camera, "what was learned about {} is not saved: {e:#}", desk.product);
            }
            self.shelf.room(camera, product)?;
            self.shelf.set_current(camera, product)?;
            desk.product = product.clone();
            desk.saved = take_up(&self.shelf, lane, product, &desk.view);
            return Ok(desk.saved);
        }
        Ok(lane.with_judge(|judge| judge.check().map_or(0, Check::seen)))
    }

    /// Forgets what the camera has learned about a product, the present one where none is named.
    ///
    /// # Errors
    /// No such camera or product, no anomaly check, or the disk refuses.
    pub fn relearn(&self, camera: &str, product: Option<&Name>) -> Result<Name> {
        let at = self.find(camera)?;
        let (lane, mut desks) = (&self.pipeline.lanes[at], self.desks());
        let desk = &mut desks[at];
        let product = product.unwrap_or(&desk.product).clone();
        let known = self.shelf.products(camera);
        if product != desk.product && !known.iter().any(|name| name == product.as_str()) {
            bail!("camera {camera} knows no product {product}; it knows {}", known.join(", "));
        }
        self.shelf.forget(camera, &product)?;
        if product == desk.product {
            remember(lane, &Memory::default());
            desk.saved = 0;
        }
        Ok(product)
    }

    fn find(&self, camera: &str) -> Result<usize> {
        let lanes = &self.pipeline.lanes;
        let names = || lanes.iter().map(|lane| &*lane.feed.name).collect::<Vec<_>>().join(", ");
        let found = lanes.iter().position(|lane| &*lane.feed.name == camera);
        let at = found.with_context(|| format!("there is no camera {camera}; there are {}", names()))?;
        if lanes[at].with_judge(|judge| judge.check().is_none()) {
            bail!("the anomaly check of camera {camera} is off");
        }
        Ok(at)
    }
}

/// What a camera looks at, as a short text: another source or view under the same name shows other things.
fn view(camera: &CameraConfig) -> String {
    // Spelt as it was when a region was all there is, so that what was learned then is still known.
    let view = camera.view();
    let text = format!("{:?} RegionValue({:?}){}", camera.source, view.region(), view.mark());
    hex::encode(&Sha256::digest(text)[..8])
}

/// Goes on with what is on disk about a product, or anew; gives the frames that it has seen.
fn take_up(shelf: &Shelf, lane: &Lane, product: &Name, view: &str) -> u64 {
    let memory = known(shelf, &lane.feed.name, product, view);
    remember(lane, &memory);
    memory.offered
}

/// What is on disk about a product; nothing where that cannot be used.
fn known(shelf: &Shelf, camera: &str, product: &Name, view: &str) -> Memory {
    let memory = shelf.load(camera, product, view).unwrap_or_else(|e| {
        warn!(%camera, "{e:#}; this camera learns anew what {product} looks like");
        None
    });
    if let Some(memory) = &memory {
        info!(%camera, "goes on with what {} frames of {product} have taught", memory.offered);
    }
    memory.unwrap_or_default()
}

fn remember(lane: &Lane, memory: &Memory) {
    lane.change_judge(|judge| {
        if let Some(check) = judge.check_mut() {
            check.remember(memory);
        }
    });
}
