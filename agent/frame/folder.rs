//! A folder of still pictures as a camera.
//!
//! In order of names (natural order: `img9` before `img10`) or by a list; once, or in a loop. A folder that is not
//! looped goes on to wait for new files, so it also serves as a drop folder; files it has inspected it does not take
//! again.

use std::cmp::Ordering;
use std::collections::{HashSet, VecDeque};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use tracing::warn;

use super::source::{FrameSource, Next};
use super::still::{self, StillError};
use crate::config::FolderSource;
use crate::stop::Stop;

/// A file younger than this may still be being written.
const FRESH: Duration = Duration::from_secs(2);
/// How long to wait for new files before saying [`Next::Idle`].
const RESCAN: Duration = Duration::from_millis(500);

/// An open folder.
pub struct Folder {
    root: PathBuf,
    list: Option<PathBuf>,
    repeat: bool,
    pace: Duration,
    max_pixels: u64,
    queue: VecDeque<PathBuf>,
    seen: HashSet<PathBuf>,
    stop: Stop,
}

impl Folder {
    /// Reads the folder or the list.
    ///
    /// # Errors
    /// The folder or list is missing or holds no picture.
    pub fn open(config: &FolderSource, max_pixels: u64, stop: Stop) -> Result<Self> {
        let mut folder = Self {
            root: config.path.clone(),
            list: config.list.clone(),
            repeat: config.repeat,
            pace: Duration::from_secs_f64(1.0 / config.rate.get()),
            max_pixels,
            queue: VecDeque::new(),
            seen: HashSet::new(),
            stop,
        };
        folder.queue = folder.files()?.into();
        if folder.queue.is_empty() {
            bail!("{} holds no picture ({})", folder.root.display(), still::EXTENSIONS.join(", "));
        }
        Ok(folder)
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        if let Some(list) = &self.list {
            let text =
                std::fs::read_to_string(list).with_context(|| format!("cannot read the list {}", list.display()))?;
            return Ok(text.lines().map(str::trim).filter(|l| !l.is_empty()).map(|l| self.root.join(l)).collect());
        }
        let mut files = Vec::new();
        collect(&self.root, 0, &mut files)?;
        files.sort_by(|a, b| natural(&a.to_string_lossy(), &b.to_string_lossy()));
        Ok(files)
    }

    /// The picture; a file that is still being written gets a little time.
    fn read(&self, path: &Path) -> Result<super::Image, StillError> {
        let until = Instant::now() + 2 * FRESH;
        loop {
            let result = still::read(path, self.max_pixels);
            // A time of change in the future, by a clock that differs, counts as fresh.
            let fresh = || {
                let modified = std::fs::metadata(path).and_then(|m| m.modified());
                modified.is_ok_and(|m| SystemTime::now().duration_since(m).map_or(true, |age| age < FRESH))
            };
            match result {
                Err(StillError::Damaged(_) | StillError::UnknownKind) if Instant::now() < until && fresh() => {
                    if self.stop.wait(Duration::from_millis(200)) {
                        return result;
                    }
                }
                other => return other,
            }
        }
    }
}

impl FrameSource for Folder {
    fn next(&mut self, _due: Instant) -> Result<Next> {
        if self.queue.is_empty() {
            let files = match self.files() {
                Ok(files) => files,
                // Opening it again would inspect everything again; what comes back is waited for.
                Err(e) if !self.repeat => {
                    warn!("{e:#}");
                    let _ = self.stop.wait(RESCAN);
                    return Ok(Next::Idle);
                }
                Err(e) => return Err(e),
            };
            if self.repeat {
                self.queue = files.into();
            } else {
                // Forget what is gone, so that the memory stays as large as the folder.
                self.seen.retain(|f| f.exists());
                self.queue = files.into_iter().filter(|f| !self.seen.contains(f)).collect();
            }
            if self.queue.is_empty() {
                if self.repeat {
                    bail!("{} holds no picture any more", self.root.display());
                }
                let _ = self.stop.wait(RESCAN);
                return Ok(Next::Idle);
            }
        }
        let Some(path) = self.queue.pop_front() else { return Ok(Next::Idle) };
        let name = path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy();
        let origin = Some(name.as_ref().into());
        let picture = self.read(&path);
        if !self.repeat {
            self.seen.insert(path);
        }
        Ok(match picture {
            Ok(image) => super::Image { origin, ..image }.into(),
            Err(reason) => Next::Unreadable { origin, reason: reason.to_string() },
        })
    }

    fn pace(&self) -> Option<Duration> {
        Some(self.pace)
    }
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let context = || format!("cannot read the folder {}", folder.display());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // A folder inside that is gone again or not ours (`lost+found`) is no reason to do without the rest.
        Err(e) if depth > 0 && matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => return Ok(()),
        Err(e) => return Err(e).with_context(context),
    };
    for entry in entries {
        let path = entry.with_context(context)?.path();
        if path.is_dir() {
            // A link to a folder above would never end. Masks and templates lie beside the pictures in many sets, but
            // which folders to leave out is the user's to say (by `path` or `list`).
            if depth < 8 && !path.is_symlink() {
                collect(&path, depth + 1, files)?;
            }
        } else if path.extension().is_some_and(|e| still::EXTENSIONS.iter().any(|k| e.eq_ignore_ascii_case(k))) {
            files.push(path);
        }
    }
    Ok(())
}

/// Order of names in which runs of digits count as numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.chars().peekable(), b.chars().peekable());
    loop {
        match (a.peek().copied(), b.peek().copied()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let number = |chars: &mut std::iter::Peekable<std::str::Chars>| {
                    let mut digits = String::new();
                    while let Some(c) = chars.next_if(char::is_ascii_digit) {
                        if !(digits.is_empty() && c == '0') {
                            digits.push(c);
                        }
                    }
                    digits
                };
                let (x, y) = (number(&mut a), number(&mut b));
                let order = x.len().cmp(&y.len()).then_with(|| x.cmp(&y));
                if order != Ordering::Equal {
                    return order;
                }
            }
            (Some(x), Some(y)) => {
                if x != y {
                    return x.cmp(&y);
                }
                a.next();
                b.next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Image, PixelFormat, jpeg};

    fn write(path: &Path, shade: u8) {
        let image = Image {
            width: 8,
            height: 8,
            format: PixelFormat::Mono8,
            pixels: vec![shade; 64],
            origin: None,
            truth: None,
        };
        std::fs::write(path, jpeg::encode(&image, 90).unwrap()).unwrap();
    }

    fn config(path: &Path, repeat: bool) -> FolderSource {
        FolderSource { path: path.into(), repeat, ..FolderSource::default() }
    }

    fn name(next: Next) -> String {
        match next {
            Next::Picture { image, .. } => image.origin.unwrap().to_string(),
            Next::Unreadable { origin, .. } => format!("{} unreadable", origin.unwrap()),
            Next::Idle => "idle".into(),
            Next::Ended => "ended".into(),
        }
    }

    #[test]
    fn natural_order_then_new_files_only() {
        let dir = tempfile::tempdir().unwrap();
        for n in [10, 9, 1] {
            write(&dir.path().join(format!("img{n}.jpg")), n);
        }
        std::fs::write(dir.path().join("notes.txt"), "no picture").unwrap();
        let mut folder = Folder::open(&config(dir.path(), false), 1000, Stop::default()).unwrap();
        let mut next = || name(folder.next(Instant::now()).unwrap());
        assert_eq!([next(), next(), next()], ["img1.jpg", "img9.jpg", "img10.jpg"]);
        assert_eq!(next(), "idle");
        write(&dir.path().join("img2.jpg"), 2);
        assert_eq!([next(), next()], ["img2.jpg", "idle"]);
    }

    #[test]
    fn loops_and_reports_a_bad_file() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("a.jpg"), 1);
        let whole = std::fs::read(dir.path().join("a.jpg")).unwrap();
        let cut = dir.path().join("b.jpg");
        std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
        let old = SystemTime::now() - Duration::from_secs(60);
        std::fs::File::options().write(true).open(&cut).unwrap().set_modified(old).unwrap();
        let mut folder = Folder::open(&config(dir.path(), true), 1000, Stop::default()).unwrap();
        let mut next = || name(folder.next(Instant::now()).unwrap());
        assert_eq!([next(), next(), next()], ["a.jpg", "b.jpg unreadable", "a.jpg"]);
    }

    #[test]
    fn an_empty_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = Folder::open(&config(dir.path(), true), 1000, Stop::default()).err().unwrap();
        assert!(error.to_string().contains("holds no picture"), "{error}");
    }
}
