//! An extracted bundle on disk: whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::Extracted;

/// Writes the bundle as the folder `dir`. It is made beside its place and moved there when everything is on the disk, so
/// that a reader, or a power cut, never meets half of it. With `replace` an earlier bundle there goes.
///
/// # Errors
/// The folder holds something already, or cannot be written.
pub fn save(extracted: &Extracted, dir: &Path, replace: bool) -> Result<()> {
    let name = dir.file_name().with_context(|| format!("{} is no name for a folder", dir.display()))?;
    let occupied = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) || dir.is_file();
    let earlier = dir.join("bundle.json").is_file();
    ensure!(!occupied || earlier, "{} holds something that is no bundle; name an empty or a new folder", dir.display());
    ensure!(!occupied || replace, "{} holds a bundle already; name another folder, or add --force", dir.display());
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let beside = |what: &str| parent.join(format!(".{}.{what}-{}", name.to_string_lossy(), std::process::id()));
    let (new, old) = (Scratch(beside("new")), Scratch(beside("old")));
    for (file, bytes) in
        extracted.files.iter().map(|(f, b)| (f.as_str(), b)).chain([("bundle.json", &extracted.manifest)])
    {
        write(&new.0.join(file), bytes)?;
    }
    if dir.is_dir() {
        fs::rename(dir, &old.0).with_context(|| format!("cannot put {} aside", dir.display()))?;
    }
    if let Err(e) = fs::rename(&new.0, dir) {
        let _ = fs::rename(&old.0, dir); // what was there comes back
        return Err(e).with_context(|| format!("cannot move the bundle to {}", dir.display()));
    }
    File::open(parent).and_then(|p| p.sync_all()).with_context(|| format!("cannot save {}", parent.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    });
    made.with_context(|| format!("cannot write {}", path.display()))
}

/// A folder that goes when it is no longer needed.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // nothing there is the usual case
    }
}
