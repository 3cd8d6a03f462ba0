//! The model bundle, version 1: a folder with `bundle.json`, the network, golden vectors and a card.
//!
//! [`Bundle::open`] gives a bundle only when every file is named in the manifest, has the size and sha256 that stand
//! there, and the network's structure was found harmless ([`super::structure`]). Nothing here runs the network.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

pub use spec::*;

use super::structure::{self, Limits};

mod check;
mod spec;
#[cfg(test)]
pub(crate) mod tests;

/// A manifest of more bytes is refused.
const MAX_MANIFEST: u64 = 64 << 10;
/// A bundle's file of more bytes is refused.
const MAX_FILE: u64 = 512 << 20;

/// A bundle that was found whole and harmless.
#[derive(Debug)]
pub struct Bundle {
    /// Its manifest.
    pub manifest: Manifest,
    /// Hash of the manifest, which names the hashes of all else: the bundle's identity.
    pub sha256: String,
    /// The network.
    pub model: Vec<u8>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Bundle {
    /// Reads and vets the bundle in a folder.
    ///
    /// # Errors
    /// The first thing that is missing, changed, or not allowed.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_inner(dir).with_context(|| format!("the model bundle {} cannot be used", dir.display()))
    }

    fn open_inner(dir: &Path) -> Result<Self> {
        let text = read_limited(&dir.join("bundle.json"), MAX_MANIFEST)?;
        let manifest: Manifest = serde_json::from_slice(&text).context("bundle.json is no bundle manifest")?;
        let read = |name: &String| Ok((name.clone(), read_limited(&dir.join(safe(name)?), MAX_FILE)?));
        let files = manifest.files.keys().map(read).collect::<Result<_>>()?;
        Self::of(&text, files)
    }

    /// Vets a bundle in memory: the bytes of `bundle.json`, and the files by name.
    ///
    /// # Errors
    /// The first thing that is missing, changed, or not allowed.
    pub fn of(text: &[u8], mut files: BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let manifest: Manifest = serde_json::from_slice(text).context("bundle.json is no bundle manifest")?;
        manifest.check()?;
        for (name, spec) in &manifest.files {
            let bytes = files.get(name).with_context(|| format!("{name} is missing"))?;
            ensure!(bytes.len() as u64 == spec.bytes, "{name} has {} bytes, not {}", bytes.len(), spec.bytes);
            let hash = hex::encode(Sha256::digest(bytes));
            ensure!(
                hash == spec.sha256.to_lowercase(),
                "{name} was changed: its sha256 is {hash}, not {}",
                spec.sha256
            );
        }
        let model = files.remove(&manifest.model).context("the model's file is not listed under files")?;
        let found =
            structure::vet(&model, &Limits::default()).with_context(|| format!("{} is refused", manifest.model))?;
        manifest.check_network(&found)?;
        let sha256 = hex::encode(Sha256::digest(text));
        Ok(Self { manifest, sha256, model, files })
    }

    /// The bytes of one of its files, other than the network.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// The values of a golden tensor.
    ///
    /// # Errors
    /// The file's size does not fit the shape.
    pub fn tensor(&self, spec: &TensorSpec) -> Result<Vec<f32>> {
        let bytes = self.files.get(&spec.file).with_context(|| format!("{} is not listed under files", spec.file))?;
        let count = spec.shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d)).context("the shape is too large")?;
        ensure!(Some(bytes.len()) == count.checked_mul(4), "{} does not hold {count} float32 values", spec.file);
        let (values, _) = bytes.as_chunks::<4>();
        Ok(values.iter().map(|&b| f32::from_le_bytes(b)).collect())
    }
}

/// A path inside the bundle: nothing absolute, nothing that leads out.
pub(crate) fn safe(name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    let inside = path.components().all(|c| matches!(c, Component::Normal(_)));
    ensure!(inside && !name.is_empty() && !name.contains('\\'), "the file name {name:?} leads out of the bundle");
    Ok(path.into())
}

fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let meta = std::fs::symlink_metadata(path).with_context(|| format!("{} is missing", path.display()))?;
    if !meta.is_file() {
        bail!("{} is no plain file", path.display());
    }
    ensure!(meta.len() <= limit, "{} has {} bytes, more than {limit}", path.display(), meta.len());
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
