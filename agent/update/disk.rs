//! How much room a disk has.

use std::path::Path;

use anyhow::{Context, Result};

/// Bytes free for this user, and of all.
///
/// # Errors
/// The file system does not say.
pub fn space(dir: &Path) -> Result<(u64, u64)> {
    let stat =
        rustix::fs::statvfs(dir).with_context(|| format!("cannot see how full the disk of {} is", dir.display()))?;
    Ok((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}
