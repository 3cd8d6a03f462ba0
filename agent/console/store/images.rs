//! Pictures, each a file that is called after its hash.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::Store;

impl Store {
    /// A picture, if it is there.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn image(&self, sha256: &str) -> Result<Option<Vec<u8>>> {
        let path = path(&self.dir, sha256);
        match fs::read(&path) {
            Ok(bytes) if hex::encode(Sha256::digest(&bytes)) == sha256 => Ok(Some(bytes)),
            Ok(_) => {
                warn!("{} is damaged and left out", path.display());
                Ok(None)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).context("cannot read a picture"),
        }
    }
}

/// Two levels, so that no folder holds too many.
pub(super) fn path(dir: &Path, sha256: &str) -> PathBuf {
    let first: String = sha256.chars().take(2).collect();
    dir.join("images").join(first).join(format!("{sha256}.jpg"))
}

/// Writes it whole or not at all, and for good.
pub(super) fn write(dir: &Path, sha256: &str, bytes: &[u8]) -> Result<()> {
    let path = path(dir, sha256);
    if fs::metadata(&path).is_ok_and(|there| there.len() == bytes.len() as u64) {
        return Ok(());
    }
    let new = path.with_extension("new");
    let folder = path.parent().unwrap_or(dir);
    let written = fs::create_dir_all(folder).and_then(|()| {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&new, &path)?;
        File::open(folder)?.sync_all()
    });
    written.context("cannot keep a picture (is the disk full?)")
}
