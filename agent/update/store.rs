//! Chunks on the disk, and files made of them.
//!
//! Guarantees
//! - A chunk is there whole or not at all as far as this process goes; after a power cut one may be damaged, which is found by its
//!   hash when it is used, and it is fetched again. So an interruption costs at most the chunk that was being written.
//! - What the gateway's own bundles hold is never fetched: they are cut the same way, and pieces with the wanted hash are used.
//! - A bundle appears in its slot by one rename, after every file was written, compared with its hash and synced.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::index::{self, Chunk, Digest, Recipe};
use super::release::Release;
use crate::fail;

/// A chunk's place in a file that the gateway has anyway.
#[derive(Debug, Clone)]
struct Place {
    file: PathBuf,
    offset: u64,
}

/// A chunk that has to be fetched, and as which part of which blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Hash of the file that it is a part of.
    pub blob: Digest,
    /// Which one, from 0.
    pub n: usize,
    /// The chunk.
    pub chunk: Chunk,
}

/// The chunks that a gateway has.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    own: HashMap<Digest, Place>,
}

impl Store {
    /// Chunks in a folder, and those of the bundles in others, as far as they can be read.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(dir: &Path, bundles: &[PathBuf]) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut own = HashMap::new();
        for file in bundles.iter().flat_map(|bundle| files(bundle)) {
            let Ok(bytes) = fs::read(&file) else { continue };
            let mut offset = 0;
            for chunk in index::cut(&bytes) {
                own.entry(chunk.sha256).or_insert_with(|| Place { file: file.clone(), offset });
                offset += chunk.bytes as u64;
            }
        }
        Ok(Self { dir: dir.to_path_buf(), own })
    }

    fn path(&self, chunk: &Digest) -> PathBuf {
        self.dir.join(chunk.to_string())
    }

    /// Keeps what was received, if it is what was asked for.
    ///
    /// # Errors
    /// It is something else, or the disk refuses.
    pub fn put(&self, wanted: &Chunk, bytes: &[u8]) -> Result<()> {
        ensure!(
            bytes.len() == wanted.bytes && Digest::of(bytes) == wanted.sha256,
            "what came as the chunk {} is something else",
            wanted.sha256
        );
        let (path, new) = (self.path(&wanted.sha256), self.dir.join("new"));
        fail::point("chunk.before");
        fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path)).context("a chunk cannot be written")?;
        fail::point("chunk.after");
        Ok(())
    }

    /// The bytes of a chunk, if they are here and whole. One that is damaged is thrown away.
    pub fn get(&mut self, chunk: &Chunk) -> Option<Vec<u8>> {
        let path = self.path(&chunk.sha256);
        let is_whole = |bytes: &Vec<u8>| bytes.len() == chunk.bytes && Digest::of(bytes) == chunk.sha256;
        if let Ok(bytes) = fs::read(&path) {
            if is_whole(&bytes) {
                return Some(bytes);
            }
            let _ = fs::remove_file(&path);
        }
        let place = self.own.get(&chunk.sha256)?;
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&place.file)?;
            file.seek(SeekFrom::Start(place.offset))?;
            let mut bytes = vec![0; chunk.bytes];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().ok().filter(is_whole);
        if bytes.is_none() {
            self.own.remove(&chunk.sha256); // the bundle has changed since
        }
        bytes
    }

    /// What has to be fetched, each chunk once, in the order of the files.
    pub fn missing(&mut self, release: &Release, recipes: &[Recipe]) -> Vec<Wanted> {
        let (mut wanted, mut seen) = (Vec::new(), BTreeSet::new());
        for (name, chunks) in recipes {
            let Some(blob) = release.files.get(name).map(|file| file.sha256) else { continue };
            for (n, chunk) in chunks.iter().enumerate() {
                if seen.insert(chunk.sha256) && self.get(chunk).is_none() {
                    wanted.push(Wanted { blob, n, chunk: *chunk });
                }
            }
        }
        wanted
    }

    /// Makes the bundle in `slot`, in place of whatever was there.
    ///
    /// # Errors
    /// A chunk is not here any more, a file is not what was signed, or the disk refuses. A slot that was being replaced may be empty then.
    pub fn assemble(&mut self, release: &Release, recipes: &[Recipe], slot: &Path) -> Result<()> {
        let (new, old) = (slot.with_extension("new"), slot.with_extension("old"));
        clear_folder(&new)?;
        fail::point("assemble.cleared");
        for (name, chunks) in recipes {
            let expected = release.files.get(name).with_context(|| format!("{name} is not in the release"))?;
            let path = new.join(name);
            let folder = path.parent().unwrap_or(&new);
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            let mut file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
            let mut hash = Sha256::new();
            for chunk in chunks {
                let bytes = self.get(chunk).with_context(|| format!("a chunk of {name} is not here any more"))?;
                hash.update(&bytes);
                file.write_all(&bytes).with_context(|| format!("cannot write {}", path.display()))?;
            }
            fail::point("assemble.written");
            file.sync_all().with_context(|| format!("cannot write {}", path.display()))?;
            let found: [u8; 32] = hash.finalize().into();
            ensure!(Digest::from(found) == expected.sha256, "{name} is not what was signed");
            fail::point("assemble.synced");
        }
        for folder in folders(&new) {
            File::open(&folder)
                .and_then(|f| f.sync_all())
                .with_context(|| format!("cannot sync {}", folder.display()))?;
        }
        // What was there may hold chunks that are needed, so it goes last.
        clear_folder(&old)?;
        fail::point("assemble.before_rename");
        if slot.exists() {
            fs::rename(slot, &old).with_context(|| format!("cannot clear {}", slot.display()))?;
        }
        fail::point("assemble.between_renames");
        fs::rename(&new, slot).with_context(|| format!("cannot put {} in place", slot.display()))?;
        fail::point("assemble.after_rename");
        clear_folder(&old)?;
        let parent = slot.parent().unwrap_or(Path::new("."));
        File::open(parent).and_then(|f| f.sync_all()).with_context(|| format!("cannot sync {}", parent.display()))
    }

    /// Throws all chunks away; those that the disk keeps are thrown away another time.
    pub fn clear(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().filter_map(Result::ok) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn clear_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot clear {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// All plain files under a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders(dir) {
        let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        found.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_file())).map(|e| e.path()));
    }
    found.sort();
    found
}

/// A folder and all under it, those inside first.
fn folders(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        found.extend(folders(&entry.path()));
    }
    found.push(dir.to_path_buf());
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::release::FileSpec;
    use crate::update::release::tests::sample;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn noise(seed: u64, bytes: usize) -> Vec<u8> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..bytes).map(|_| rng.random()).collect()
    }

    struct Made {
        dir: tempfile::TempDir,
        files: Vec<(String, Vec<u8>)>,
        release: Release,
        recipes: Vec<Recipe>,
    }

    fn made() -> Made {
        let files = vec![
            ("bundle.json".to_owned(), b"{}".to_vec()),
            ("golden/image.f32".to_owned(), noise(1, 5000)),
            ("model.onnx".to_owned(), noise(2, 700_000)),
        ];
        let mut release = sample();
        let spec = |bytes: &[u8]| FileSpec { bytes: bytes.len() as u64, sha256: Digest::of(bytes) };
        release.files = files.iter().map(|(name, bytes)| (name.clone(), spec(bytes))).collect();
        let recipes = files.iter().map(|(name, bytes)| (name.clone(), index::cut(bytes))).collect();
        Made { dir: tempfile::tempdir().unwrap(), files, release, recipes }
    }

    impl Made {
        fn store(&self, bundles: &[PathBuf]) -> Store {
            Store::open(&self.dir.path().join("chunks"), bundles).unwrap()
        }

        fn bytes(&self, wanted: &Wanted) -> Vec<u8> {
            let (_, file) = self.files.iter().find(|(_, bytes)| Digest::of(bytes) == wanted.blob).unwrap();
            let begin: usize = index::cut(file)[..wanted.n].iter().map(|c| c.bytes).sum();
            file[begin..begin + wanted.chunk.bytes].to_vec()
        }

        fn fetch(&self, store: &mut Store) -> usize {
            let missing = store.missing(&self.release, &self.recipes);
            missing.iter().for_each(|wanted| store.put(&wanted.chunk, &self.bytes(wanted)).unwrap());
            missing.len()
        }
    }

    #[test]
    fn a_bundle_is_made_of_its_chunks() {
        let made = made();
        let mut store = made.store(&[]);
        assert!(made.fetch(&mut store) > 5);
        assert!(store.missing(&made.release, &made.recipes).is_empty());
        let slot = made.dir.path().join("a");
        fs::create_dir_all(slot.join("left over")).unwrap();
        store.assemble(&made.release, &made.recipes, &slot).unwrap();
        for (name, bytes) in &made.files {
            assert_eq!(fs::read(slot.join(name)).unwrap(), *bytes);
        }
        assert_eq!(files(&slot).len(), 3);
        store.clear();
        // What is in a slot is never fetched again.
        let mut again = made.store(std::slice::from_ref(&slot));
        assert!(again.missing(&made.release, &made.recipes).is_empty());
        fs::write(slot.join("model.onnx"), noise(3, 700_000)).unwrap();
        assert!(!again.missing(&made.release, &made.recipes).is_empty(), "what has changed meanwhile is");
    }

    #[test]
    fn what_is_no_such_chunk_is_refused_and_what_is_damaged_is_fetched_again() {
        let made = made();
        let mut store = made.store(&[]);
        let missing = store.missing(&made.release, &made.recipes);
        let (one, other) = (missing[0], missing[1]);
        assert!(store.put(&one.chunk, &made.bytes(&other)).is_err(), "a chunk of another blob");
        assert!(store.put(&one.chunk, &[made.bytes(&one), vec![0]].concat()).is_err());
        made.fetch(&mut store);
        fs::write(store.path(&other.chunk.sha256), b"torn").unwrap();
        let slot = made.dir.path().join("a");
        let error = format!("{:#}", store.assemble(&made.release, &made.recipes, &slot).unwrap_err());
        assert!(error.contains("is not here any more") && !slot.exists(), "{error}");
        assert_eq!(store.missing(&made.release, &made.recipes), [other]);
    }

    #[test]
    fn a_file_that_is_not_what_was_signed_leaves_the_slot_empty() {
        let mut made = made();
        let mut store = made.store(&[]);
        made.fetch(&mut store);
        made.release.files.get_mut("model.onnx").unwrap().sha256 = Digest::of(b"another");
        let slot = made.dir.path().join("a");
        let error = format!("{:#}", store.assemble(&made.release, &made.recipes, &slot).unwrap_err());
        assert!(error.contains("model.onnx is not what was signed") && !slot.exists(), "{error}");
    }
}
