//! Keeps what the cameras have learned: which product each one looks at, and its memory on disk.
//!
//! Guarantees
//! - What was learned is on disk at most [`EVERY`] later, and when the agent stops; a restart goes on from there.
//! - A changeover saves the old product's memory before the new one's is taken up. Frames that are in the network
//!   meanwhile are judged by the one or the other, never by a mixture.
//! - A memory belongs to the network, source and region by which it was learned; it is never used by another.
//! - A disk that refuses, or a memory that cannot be used, is said and is no reason to stop inspecting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tracing::{info, warn};

use crate::anomaly::Check;
use crate::anomaly::memory::Memory;
use crate::anomaly::shelf::Shelf;
use crate::config::{CameraConfig, Name};
use crate::engine::Engine;
use crate::inspector::Judge;
use crate::pipeline::{Lane, Pipeline};

/// Time between two savings.
pub const EVERY: Duration = Duration::from_secs(60);
/// The product of a camera that was never told one.
const USUAL: &str = "default";

/// Of all cameras.
pub struct Keeper {
    /// For the gateway's model.
    shelf: Arc<Shelf>,
    pipeline: Arc<Pipeline>,
    desks: Mutex<Desks>,
}

/// The desks of all cameras, by name.
#[derive(Default)]
pub struct Desks(BTreeMap<Arc<str>, Desk>);

/// Of one camera.
struct Desk {
    shelf: Arc<Shelf>,
    product: Name,
    /// What its memories were learned from.
    view: String,
    /// Frames that the memory on disk had seen.
    saved: u64,
    /// The last saving failed, and that was said.
    failed: bool,
}

impl Desk {
    fn save(&mut self, lane: &Lane) -> Result<()> {
        // Encoding and disk come after the lock, so that no frame waits for them.
        let changed = |check: &&Check| check.seen() != self.saved;
        let memory = lane.with_judge(|judge| judge.check().filter(changed).map(Check::memory));
        if let Some(memory) = memory {
            self.shelf.save(lane.name(), &self.product, &self.view, &memory)?;
            self.saved = memory.offered;
        }
        Ok(())
    }

    /// The same, said once where it fails.
    fn try_save(&mut self, lane: &Lane) {
        match self.save(lane) {
            Ok(()) => self.failed = false,
            Err(e) if !self.failed => {
                warn!(camera = %lane.name(), "what was learned is not saved: {e:#}");
                self.failed = true;
            }
            Err(_) => {}
        }
    }
}

impl Desks {
    /// A camera begins, or goes on otherwise, by what is on this shelf (the gateway's where none is given): takes up what is on disk
    /// where product, view or shelf are others than before. A product in the configuration comes before the one that was last
    /// commanded.
    fn enrol(&mut self, lane: &Lane, shelf: &Arc<Shelf>, is_new: bool) -> Result<()> {
        let (name, settings) = (lane.name(), lane.settings());
        let camera = &settings.camera;
        let old = self.0.get(name);
        let last = || old.map(|desk| desk.product.clone()).or_else(|| shelf.current(name));
        let product = match camera.product.clone().filter(|_| is_new).or_else(last) {
            Some(product) => product,
            None => Name::new(USUAL).map_err(anyhow::Error::msg)?,
        };
        let view = view(camera);
        // A check that was off meanwhile knows nothing, and must not be saved over what is known.
        let knows = |desk: &Desk| lane.with_judge(|judge| judge.check().is_none_or(|check| check.seen() >= desk.saved));
        let is_same = |desk: &Desk| desk.product == product && desk.view == view && Arc::ptr_eq(&desk.shelf, shelf);
        if old.is_some_and(|desk| is_same(desk) && knows(desk)) {
            return Ok(());
        }
        if old.is_some_and(|desk| desk.product != product) {
            lane.forget_scene();
        }
        let saved = take_up(shelf, lane, &product, &view);
        self.0.insert(Arc::clone(name), Desk { shelf: Arc::clone(shelf), product, view, saved, failed: false });
        Ok(())
    }
}

impl Keeper {
    /// With the shelf of the gateway's model.
    #[must_use]
    pub fn new(shelf: Shelf, pipeline: Arc<Pipeline>) -> Self {
        Self { shelf: Arc::new(shelf), pipeline, desks: Mutex::default() }
    }

    fn desks(&self) -> MutexGuard<'_, Desks> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cameras come, go and change, while neither models nor products do.
    pub fn change<R>(&self, f: impl FnOnce(&mut Change) -> R) -> R {
        f(&mut Change { keeper: self, desks: self.desks() })
    }

    /// Saves what has changed since the last time.
    pub fn save(&self) {
        let (lanes, mut desks) = (self.pipeline.lanes(), self.desks());
        for lane in lanes.iter() {
            if let Some(desk) = desks.0.get_mut(lane.name()) {
                desk.try_save(lane);
            }
        }
    }

    /// The gateway's network is another one from now on; `alike` is whether it sees as the one before did. Else what was learned is
    /// saved, and each camera goes on with what it knows by the new one, or learns anew. `judge` makes a judge for a camera.
    pub fn network_changes(&self, engine: Engine, alike: bool, judge: impl Fn(&Lane) -> Judge) {
        if !alike {
            self.save();
        }
        let mut desks = self.desks();
        self.shelf.set_mark(&engine.kind.mark);
        let mut judges = BTreeMap::new();
        for lane in self.pipeline.lanes().iter().filter(|lane| lane.settings().engine == 0) {
            let mut judge = judge(lane);
            if !alike && let Some(desk) = desks.0.get_mut(lane.name()) {
                let memory = known(&desk.shelf, lane.name(), &desk.product, &desk.view);
                desk.saved = memory.offered;
                if let Some(check) = judge.check_mut() {
                    check.remember(&memory);
                }
            }
            judges.insert(Arc::clone(lane.name()), judge);
        }
        self.pipeline.swap(engine, |lane| judges.remove(lane.name()).unwrap_or_else(|| judge(lane)), alike);
    }

    /// The product that a camera looks at, and all that it knows.
    ///
    /// # Errors
    /// There is no such camera.
    pub fn products(&self, camera: &str) -> Result<(String, Vec<String>)> {
        self.at(camera, |_, desk| Ok((desk.product.to_string(), desk.shelf.products(camera))))
    }

    /// From now on the camera looks at this product; gives the frames that its memory had seen when it was taken up.
    ///
    /// # Errors
    /// No such camera, no anomaly check, the disk refuses, or too many products; the camera then looks at what it did.
    pub fn change_over(&self, camera: &str, product: &Name) -> Result<u64> {
        self.at(camera, |lane, desk| {
            if desk.product == *product {
                return Ok(lane.with_judge(|judge| judge.check().map_or(0, Check::seen)));
            }
            if let Err(e) = desk.save(lane) {
                warn!(camera, "what was learned about {} is not saved: {e:#}", desk.product);
            }
            desk.shelf.room(camera, product)?;
            desk.shelf.set_current(camera, product)?;
            desk.product = product.clone();
            lane.forget_scene();
            desk.saved = take_up(&desk.shelf, lane, product, &desk.view);
            Ok(desk.saved)
        })
    }

    /// Forgets what the camera has learned about a product, the present one where none is named.
    ///
    /// # Errors
    /// No such camera or product, no anomaly check, or the disk refuses.
    pub fn relearn(&self, camera: &str, product: Option<&Name>) -> Result<Name> {
        self.at(camera, |lane, desk| {
            let product = product.unwrap_or(&desk.product).clone();
            let known = desk.shelf.products(camera);
            if product != desk.product && !known.iter().any(|name| name == product.as_str()) {
                bail!("camera {camera} knows no product {product}; it knows {}", known.join(", "));
            }
            desk.shelf.forget(camera, &product)?;
            if product == desk.product {
                lane.forget_scene();
                remember(lane, &Memory::default());
                desk.saved = 0;
            }
            Ok(product)
        })
    }

    fn at<R>(&self, camera: &str, f: impl FnOnce(&Lane, &mut Desk) -> Result<R>) -> Result<R> {
        let mut desks = self.desks();
        let lanes = self.pipeline.lanes();
        let names = || lanes.iter().map(|lane| &**lane.name()).collect::<Vec<_>>().join(", ");
        let found = lanes.iter().find(|lane| &**lane.name() == camera).zip(desks.0.get_mut(camera));
        let (lane, desk) = found.with_context(|| format!("there is no camera {camera}; there are {}", names()))?;
        if lane.with_judge(|judge| judge.check().is_none()) {
            bail!("the anomaly check of camera {camera} is off");
        }
        f(lane, desk)
    }
}

/// Cameras that come, go and change; until it is dropped neither a model nor a product does.
pub struct Change<'k> {
    keeper: &'k Keeper,
    desks: MutexGuard<'k, Desks>,
}

impl Change<'_> {
    /// A camera begins or goes on otherwise; `shelf` is that of its own model, where it has one. `is_new` is whether what the
    /// configuration says of its product is new.
    ///
    /// # Errors
    /// None that a user could cause.
    pub fn enrol(&mut self, lane: &Lane, shelf: Option<&Arc<Shelf>>, is_new: bool) -> Result<()> {
        self.desks.enrol(lane, shelf.unwrap_or(&self.keeper.shelf), is_new)
    }

    /// Saves what a camera has learned before it goes or changes.
    pub fn save(&mut self, lane: &Lane) {
        if let Some(desk) = self.desks.0.get_mut(lane.name()) {
            desk.try_save(lane);
        }
    }

    /// A camera goes.
    pub fn leave(&mut self, lane: &Lane) {
        self.save(lane);
        self.desks.0.remove(lane.name());
    }
}

/// What a camera looks at, as a short text: another source or view under the same name shows other things.
fn view(camera: &CameraConfig) -> String {
    let view = camera.view();
    let text = format!("{} {:?} {}", camera.source.scene(), view.region(), view.mark());
    hex::encode(&Sha256::digest(text)[..8])
}

/// Goes on with what is on disk about a product, or anew; gives the frames that it has seen.
fn take_up(shelf: &Shelf, lane: &Lane, product: &Name, view: &str) -> u64 {
    let memory = known(shelf, lane.name(), product, view);
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
