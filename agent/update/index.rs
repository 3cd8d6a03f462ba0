//! Which chunks a bundle's files are made of. Pure.
//!
//! Files are cut where their content says so (FastCDC: Xia et al., USENIX ATC 2016, in its form of 2020), so that what is the same
//! in two versions becomes the same chunks, wherever it lies. An index lists the chunks of all files in the order of their names:
//! 4 bytes of length (little endian), 32 bytes of sha256 each. It is transferred as a blob of its own, since a large
//! bundle's chunks would not fit into a release.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use fastcdc::v2020::FastCDC;
use schemars::JsonSchema;
use serde_with::{DeserializeFromStr, SerializeDisplay};
use sha2::{Digest as _, Sha256};

use super::release::Release;

/// Chunks have about this many bytes,
const AVERAGE: usize = 64 << 10;
/// at least this many, but for a file's last,
const LEAST: usize = 16 << 10;
/// and at most this many.
pub const LARGEST: usize = 256 << 10;
/// Bytes of an entry.
const ENTRY: usize = 36;

/// A sha256, as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, SerializeDisplay, DeserializeFromStr)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| "a sha256 is 64 hexadecimal digits")?;
        Ok(Self(bytes))
    }
}

impl JsonSchema for Digest {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sha256".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Its bytes.
    pub bytes: usize,
    /// Their hash.
    pub sha256: Digest,
}

/// Cuts a file.
#[must_use]
pub fn cut(file: &[u8]) -> Vec<Chunk> {
    let chunks = FastCDC::new(file, LEAST, AVERAGE, LARGEST);
    chunks
        .map(|chunk| {
            let piece = &file[chunk.offset..chunk.offset + chunk.length];
            Chunk { bytes: piece.len(), sha256: Digest::of(piece) }
        })
        .collect()
}

/// The index of files with these chunks.
#[must_use]
pub fn encode<'a>(chunks: impl Iterator<Item = &'a Chunk>) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&(chunk.bytes as u32).to_le_bytes());
        out.extend_from_slice(&chunk.sha256.0);
    }
    out
}

/// A file's name and chunks.
pub type Recipe = (String, Vec<Chunk>);

/// The largest index that a release may have: as if every chunk had the least size, and one more a file.
#[must_use]
pub fn largest(release: &Release) -> u64 {
    let bytes = release.bytes().unwrap_or(u64::MAX);
    (bytes / LEAST as u64).saturating_add(release.files.len() as u64).saturating_mul(ENTRY as u64)
}

/// The chunks of each file of a release, out of its index, whose hash was compared before.
///
/// # Errors
/// The chunks do not make up the files.
pub fn decode(release: &Release, index: &[u8]) -> Result<Vec<Recipe>> {
    ensure!(index.len().is_multiple_of(ENTRY), "the index ends in the middle of an entry");
    let mut entries = index.chunks_exact(ENTRY).map(|entry| {
        let (length, hash) = entry.split_at(4);
        let mut bytes = [0; 4];
        bytes.copy_from_slice(length);
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(hash);
        Chunk { bytes: u32::from_le_bytes(bytes) as usize, sha256: Digest(sha256) }
    });
    let mut recipes = Vec::with_capacity(release.files.len());
    for (name, file) in &release.files {
        let (mut chunks, mut left) = (Vec::new(), file.bytes);
        while left > 0 {
            let chunk = entries.next().with_context(|| format!("the index ends before {name} is whole"))?;
            ensure!((1..=LARGEST).contains(&chunk.bytes), "{name} has a chunk of {} bytes", chunk.bytes);
            left = left
                .checked_sub(chunk.bytes as u64)
                .with_context(|| format!("the chunks of {name} are more than its {} bytes", file.bytes))?;
            chunks.push(chunk);
        }
        recipes.push((name.clone(), chunks));
    }
    if entries.next().is_some() {
        bail!("the index has more chunks than the files");
    }
    Ok(recipes)
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

    fn release_of(files: &[(&str, &[u8])]) -> (Release, Vec<u8>) {
        let mut release = sample();
        release.files = files
            .iter()
            .map(|(name, bytes)| {
                ((*name).to_owned(), FileSpec { bytes: bytes.len() as u64, sha256: Digest::of(bytes) })
            })
            .collect();
        let chunks: Vec<Chunk> =
            release.files.keys().flat_map(|name| cut(files.iter().find(|(n, _)| n == name).unwrap().1)).collect();
        (release, encode(chunks.iter()))
    }

    #[test]
    fn an_index_gives_the_chunks_of_each_file() {
        let (big, small) = (noise(1, 1_000_000), b"{}".to_vec());
        let (release, index) = release_of(&[("model.onnx", &big), ("bundle.json", &small), ("empty", b"")]);
        let recipes = decode(&release, &index).unwrap();
        assert_eq!(
            recipes.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["bundle.json", "empty", "model.onnx"]
        );
        assert_eq!(recipes[2].1, cut(&big));
        assert!(index.len() as u64 <= largest(&release));
        assert!(decode(&release, &index[..index.len() - 1]).is_err());
        assert!(decode(&release, &index[..index.len() - ENTRY]).is_err());
        assert!(decode(&release, &[&index[..], &index[..ENTRY]].concat()).is_err());
        let mut zero = index.clone();
        zero[..4].fill(0);
        assert!(decode(&release, &zero).is_err());
    }

    #[test]
    fn what_is_the_same_in_two_versions_is_the_same_chunks() {
        let old = noise(1, 8 << 20);
        let mut new = old.clone();
        new.splice(1000..1000, *b"a few bytes more");
        new.truncate(7 << 20);
        new.extend(noise(2, 1 << 20));
        let known: std::collections::HashSet<Digest> = cut(&old).iter().map(|c| c.sha256).collect();
        let fetched: usize = cut(&new).iter().filter(|c| !known.contains(&c.sha256)).map(|c| c.bytes).sum();
        assert!(fetched < (1 << 20) + 3 * LARGEST, "{fetched}");
    }

    proptest::proptest! {
        #[test]
        fn chunks_make_up_the_file(seed in 0_u64..50, bytes in 0_usize..600_000) {
            let file = noise(seed, bytes);
            let chunks = cut(&file);
            proptest::prop_assert_eq!(chunks.iter().map(|c| c.bytes).sum::<usize>(), bytes);
            proptest::prop_assert!(chunks.iter().all(|c| c.bytes <= LARGEST));
            let whole = chunks.len().saturating_sub(1);
            proptest::prop_assert!(chunks[..whole].iter().all(|c| c.bytes >= LEAST));
        }

        #[test]
        fn no_index_makes_it_panic(index in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            let _ = decode(&sample(), &index);
        }
    }
}
