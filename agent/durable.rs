//! Small files that are there whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context, Result};

/// Puts a file in place of what was there. It is written beside it, synced, renamed, and the folder synced, so that after
/// a power cut the old or the new one is there, and never a part. The folder is made where it is missing.
///
/// # Errors
/// The disk refuses. Then the old one is there, or the new one where only the folder could not be synced.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_as(path, bytes, None)
}

/// The same for what everybody may read, whatever the process's umask.
///
/// # Errors
/// As [`write`].
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<()> {
    write_as(path, bytes, Some(0o644))
}

/// The same for what nobody else may read.
///
/// # Errors
/// As [`write`].
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    write_as(path, bytes, Some(0o600))
}

fn write_as(path: &Path, bytes: &[u8], mode: Option<u32>) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = folder.join(name);
    let written = fs::create_dir_all(folder).and_then(|()| {
        let mut file = match mode {
            None => File::create(&new)?,
            Some(mode) => {
                let _ = fs::remove_file(&new); // of a time before that was cut off, perhaps with another mode
                let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
                file.set_permissions(Permissions::from_mode(mode))?;
                file
            }
        };
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    });
    if written.is_err() {
        let _ = fs::remove_file(&new); // may never have been made
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Removes a file for good, if it is there.
///
/// # Errors
/// The disk refuses.
pub fn remove(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let removed = match fs::remove_file(path) {
        Ok(()) => File::open(folder).and_then(|folder| folder.sync_all()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_one_takes_the_old_ones_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.json");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.json");
        write(&path, b"one").unwrap();
        fs::create_dir(dir.path().join("b.json.new")).unwrap(); // in the way
        let error = write(&path, b"two").unwrap_err();
        assert!(format!("{error:#}").contains("cannot write"), "{error:#}");
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }
}
