//! The memories of all cameras and products on disk: `memory/CAMERA/PRODUCT.memory` in the state folder.
//!
//! Guarantees: a memory is there whole or not at all; one that cannot be used is no reason to stop, the camera then learns
//! anew; a camera has at most [`PRODUCTS`] of them, and beside them at most one that could not be used, the latest.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use anyhow::{Context, Result, ensure};

use super::memory::{Mark, Memory};
use crate::config::Name;
use crate::durable;

/// Products a camera.
pub const PRODUCTS: usize = 64;
/// No memory is larger.
const MAX_BYTES: u64 = 64 << 20;
const SUFFIX: &str = "memory";
/// Of one that could not be used.
const UNUSABLE: &str = "unusable";
/// Which product a camera looks at.
const CURRENT: &str = "current";

/// The folder, and by which network.
pub struct Shelf {
    dir: PathBuf,
    mark: RwLock<Mark>,
}

impl Shelf {
    /// In a state folder, for a network of this mark.
    #[must_use]
    pub fn new(state_dir: &Path, mark: Mark) -> Self {
        Self { dir: state_dir.join("memory"), mark: RwLock::new(mark) }
    }

    fn mark(&self) -> RwLockReadGuard<'_, Mark> {
        self.mark.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it is for a network of this mark.
    pub fn set_mark(&self, mark: &Mark) {
        self.mark.write().unwrap_or_else(PoisonError::into_inner).clone_from(mark);
    }

    fn path(&self, camera: &str, product: &Name) -> PathBuf {
        self.dir.join(camera).join(format!("{product}.{SUFFIX}"))
    }

    /// What a camera that looks at `view` has learned about a product; `None` where it has learned nothing yet.
    ///
    /// # Errors
    /// There is a memory that cannot be used, and why; it is set aside beside its place, so that nothing is written over it.
    pub fn load(&self, camera: &str, product: &Name, view: &str) -> Result<Option<Memory>> {
        let path = self.path(camera, product);
        let read = || -> Result<Option<Memory>> {
            if !path.try_exists().context("cannot be looked for")? {
                return Ok(None);
            }
            ensure!(fs::metadata(&path).context("cannot be read")?.len() <= MAX_BYTES, "is too large for a memory");
            Memory::decode(&fs::read(&path).context("cannot be read")?, &self.mark(), view).map(Some)
        };
        let found = read();
        if found.is_err() && self.exchange(&path, view) {
            return read();
        }
        found.map_err(|e| {
            self.unusable(camera).iter().for_each(|old| drop(fs::remove_file(old)));
            let _ = fs::rename(&path, path.with_extension(UNUSABLE)); // what cannot be moved is written over in the end
            e.context(format!("{} cannot be used", path.display()))
        })
    }

    /// What was set aside may be what is needed now, where a model came and was rolled back: then the two change places.
    fn exchange(&self, path: &Path, view: &str) -> bool {
        let (aside, between) = (path.with_extension(UNUSABLE), path.with_extension("between"));
        let usable = fs::read(&aside).is_ok_and(|bytes| Memory::decode(&bytes, &self.mark(), view).is_ok());
        usable
            && fs::rename(path, &between).is_ok()
            && fs::rename(&aside, path).is_ok()
            && fs::rename(&between, &aside).is_ok()
    }

    /// Saves what a camera has learned about a product.
    ///
    /// # Errors
    /// The disk refuses, or the camera has as many products as it may.
    pub fn save(&self, camera: &str, product: &Name, view: &str, memory: &Memory) -> Result<()> {
        self.room(camera, product)?;
        durable::write(&self.path(camera, product), &memory.encode(&self.mark(), view)?)
    }

    /// # Errors
    /// The camera has as many products as it may, and this is none of them.
    pub fn room(&self, camera: &str, product: &Name) -> Result<()> {
        let known = self.products(camera);
        let room = known.len() < PRODUCTS || known.iter().any(|name| name == product.as_str());
        ensure!(
            room,
            "camera {camera} knows {PRODUCTS} products already; forget one first (command relearn, with product): {}",
            known.join(", ")
        );
        Ok(())
    }

    /// Forgets a product, also what could not be used of it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn forget(&self, camera: &str, product: &Name) -> Result<()> {
        let path = self.path(camera, product);
        durable::remove(&path.with_extension(UNUSABLE))?;
        durable::remove(&path)
    }

    fn unusable(&self, camera: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.dir.join(camera)) else { return Vec::new() };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(|path| path.extension().is_some_and(|extension| extension == UNUSABLE)).collect()
    }

    /// The products that a camera has learned about, in alphabetical order.
    #[must_use]
    pub fn products(&self, camera: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir.join(camera)) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> =
            names.filter_map(|name| name.strip_suffix(SUFFIX)?.strip_suffix('.').map(str::to_owned)).collect();
        names.sort_unstable();
        names
    }

    /// The product that a camera was told to look at last; `None` where it never was.
    #[must_use]
    pub fn current(&self, camera: &str) -> Option<Name> {
        Name::new(fs::read_to_string(self.dir.join(camera).join(CURRENT)).ok()?.trim()).ok()
    }

    /// Keeps that across restarts.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn set_current(&self, camera: &str, product: &Name) -> Result<()> {
        durable::write(&self.dir.join(camera).join(CURRENT), format!("{product}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn memory(offered: u64) -> Memory {
        Memory { counts: vec![1], dim: 2, rows: vec![0.5, 0.25], offered, ..Memory::default() }
    }

    #[test]
    fn each_product_has_its_own_memory() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path(), Mark(vec![1.0]));
        assert_eq!(shelf.load("a", &name("x"), "v").unwrap(), None);
        assert_eq!((shelf.current("a"), shelf.products("a")), (None, Vec::new()));
        shelf.save("a", &name("x"), "v", &memory(1)).unwrap();
        shelf.save("a", &name("y.1"), "v", &memory(2)).unwrap();
        shelf.set_current("a", &name("y.1")).unwrap();
        assert_eq!(shelf.load("a", &name("x"), "v").unwrap().unwrap().offered, 1);
        assert_eq!(shelf.load("b", &name("x"), "v").unwrap(), None);
        assert_eq!(shelf.products("a"), ["x", "y.1"]);
        assert_eq!(shelf.current("a"), Some(name("y.1")));
        shelf.forget("a", &name("x")).unwrap();
        shelf.forget("a", &name("x")).unwrap();
        assert_eq!(shelf.products("a"), ["y.1"]);
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path(), Mark(vec![1.0, 0.0]));
        shelf.save("a", &name("x"), "v", &memory(1)).unwrap();
        let path = dir.path().join("memory/a/x.memory");
        let why = |shelf: &Shelf| format!("{:#}", shelf.load("a", &name("x"), "v").unwrap_err());
        let other = Shelf::new(dir.path(), Mark(vec![0.0, 1.0]));
        let whole = fs::read(&path).unwrap();
        assert!(why(&other).ends_with("x.memory cannot be used: was made by a network with other features"));
        assert_eq!(fs::read(path.with_extension("unusable")).unwrap(), whole, "nothing is lost");
        // The network before comes back, and with it what was set aside.
        other.save("a", &name("x"), "v", &memory(2)).unwrap();
        assert_eq!(shelf.load("a", &name("x"), "v").unwrap().unwrap().offered, 1);
        assert_eq!(other.load("a", &name("x"), "v").unwrap().unwrap().offered, 2);
        fs::remove_file(path.with_extension("unusable")).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(why(&shelf).contains("its checksum does not hold"));
        fs::write(dir.path().join("memory/a/y.1.memory"), b"else").unwrap();
        shelf.load("a", &name("y.1"), "v").unwrap_err();
        assert_eq!(shelf.unusable("a"), [path.with_file_name("y.1.unusable")], "the latest alone");
        shelf.forget("a", &name("y.1")).unwrap();
        assert_eq!(shelf.unusable("a"), Vec::<PathBuf>::new());
        fs::write(&path, b"").unwrap();
        assert!(why(&shelf).contains("has no header"));
    }

    #[test]
    fn the_number_of_products_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path(), Mark(vec![1.0]));
        (0..PRODUCTS).for_each(|n| shelf.save("a", &name(&format!("p{n}")), "v", &memory(1)).unwrap());
        assert!(
            shelf.save("a", &name("one-more"), "v", &memory(1)).unwrap_err().to_string().contains("forget one first")
        );
        shelf.save("a", &name("p3"), "v", &memory(2)).unwrap();
    }
}
