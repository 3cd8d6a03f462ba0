//! What a camera has learned about a product, as bytes: patches, scores, and by which network.
//!
//! Guarantees: what [`Memory::decode`] accepts is whole (length and checksum), holds numbers only, and keeps within the
//! bounds of a bank. Layout: a JSON header in one line, then the patches, then the scores, as little-endian float32.

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::bank::{FRAMES, PATCHES};
use super::calibrate::HISTORY;
use crate::model::FeatureMap;

/// Scores of another version of the check are on another scale.
const SCHEMA: &str = "inspect.memory/2";
/// A header is no longer than this.
const MAX_HEADER: usize = 64 * 1024;
/// Channels of a feature map.
const MAX_CHANNELS: usize = 4096;
/// Cosine between the marks of networks that make the same features: other instructions on another machine leave seven
/// nines, 8 bits or a block less do not leave three.
const SAME: f32 = 0.9995;

/// By which the features of a network are known again: what it makes of the bundle's golden picture, each channel's
/// mean, brought to length one. Unlike a hash it does not mind the last bit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Mark(pub Vec<f32>);

impl Mark {
    /// Of the coarsest of these maps, which is the one that the check reads.
    #[must_use]
    pub fn of(maps: &[FeatureMap]) -> Self {
        let Some(map) = maps.iter().max_by_key(|map| map.stride) else { return Self::default() };
        let cells = (map.width * map.height).max(1);
        let means: Vec<f32> =
            map.data.chunks_exact(cells).map(|channel| channel.iter().sum::<f32>() / cells as f32).collect();
        let length = means.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-9);
        Self(means.iter().map(|v| v / length).collect())
    }

    /// Whether it is a vector of length one, as they all are.
    #[must_use]
    pub fn is_proper(&self) -> bool {
        let square: f32 = self.0.iter().map(|v| v * v).sum();
        self.0.len() <= MAX_CHANNELS && (square - 1.0).abs() < 0.01
    }

    /// Whether features of both can be compared.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let cosine: f32 = self.0.iter().zip(&other.0).map(|(a, b)| a * b).sum();
        self.0.len() == other.0.len() && cosine > SAME && cosine.is_finite()
    }
}

/// Everything that has to be known to go on where a check has stopped.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    /// Patches a remembered frame, the oldest first.
    pub counts: Vec<usize>,
    /// Values a patch.
    pub dim: usize,
    /// The patches of all frames.
    pub rows: Vec<f32>,
    /// Frames that were offered so far.
    pub offered: u64,
    /// Which of the latest frames were over the threshold.
    pub strange: Vec<bool>,
    /// The latest scores.
    pub scores: Vec<f32>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Header {
    schema: String,
    mark: Mark,
    view: String,
    counts: Vec<usize>,
    dim: usize,
    offered: u64,
    strange: Vec<bool>,
    scores: usize,
    sha256: String,
}

impl Header {
    /// Of all that is said here, and the rest of the file.
    fn checksum(&self, body: &[u8]) -> Result<String> {
        let said = serde_json::to_vec(&Self { sha256: String::new(), ..self.clone() })?;
        Ok(hex::encode(Sha256::new().chain_update(said).chain_update(body).finalize()))
    }
}

impl Memory {
    /// As a file holds it.
    ///
    /// # Errors
    /// None that a user could cause.
    pub fn encode(&self, mark: &Mark, view: &str) -> Result<Vec<u8>> {
        let body: Vec<u8> = self.rows.iter().chain(&self.scores).flat_map(|v| v.to_le_bytes()).collect();
        let mut header = Header {
            schema: SCHEMA.into(),
            mark: mark.clone(),
            view: view.to_owned(),
            counts: self.counts.clone(),
            dim: self.dim,
            offered: self.offered,
            strange: self.strange.clone(),
            scores: self.scores.len(),
            sha256: String::new(),
        };
        header.sha256 = header.checksum(&body)?;
        let mut bytes = serde_json::to_vec(&header)?;
        bytes.push(b'\n');
        bytes.extend(body);
        Ok(bytes)
    }

    /// Out of a file, for a network of this mark and a camera that looks at `view`.
    ///
    /// # Errors
    /// It is damaged, another network's, or of another view; in words that end a sentence about the file.
    pub fn decode(bytes: &[u8], mark: &Mark, view: &str) -> Result<Self> {
        let end = bytes.iter().take(MAX_HEADER).position(|&b| b == b'\n').context("has no header")?;
        let header: Header = serde_json::from_slice(&bytes[..end]).context("has a header that is damaged")?;
        ensure!(header.schema == SCHEMA, "is of the kind {:?}, not {SCHEMA}", header.schema);
        let body = &bytes[end + 1..];
        ensure!(header.checksum(body)? == header.sha256, "is damaged: its checksum does not hold");
        ensure!(header.mark.is_like(mark), "was made by a network with other features");
        ensure!(header.view == view, "was learned when the camera's source, roi, masks, lens or turn was another one");
        let patches = header.counts.iter().fold(0_usize, |sum, n| sum.saturating_add(*n));
        let bounded = header.counts.len() <= FRAMES && header.counts.iter().all(|n| (1..=PATCHES).contains(n));
        ensure!(bounded && header.scores <= HISTORY && header.dim <= 1 << 16, "holds more than a memory may");
        let split = patches * header.dim;
        ensure!(body.len() == 4 * (split + header.scores), "is not as long as its header says");
        let values: Vec<f32> = body.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        ensure!(values.iter().all(|v| v.is_finite()), "holds values that are no numbers");
        let (rows, scores) = values.split_at(split);
        Ok(Self {
            counts: header.counts,
            dim: header.dim,
            rows: rows.to_vec(),
            offered: header.offered,
            strange: header.strange,
            scores: scores.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mark(values: &[f32]) -> Mark {
        Mark::of(&[FeatureMap { channels: values.len(), height: 1, width: 1, stride: 16, data: values.to_vec() }])
    }

    fn memory() -> Memory {
        Memory {
            counts: vec![2, 1],
            dim: 3,
            rows: (0..9).map(|n| n as f32 / 7.0).collect(),
            offered: 77,
            strange: vec![true, false],
            scores: vec![0.25, 0.5],
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = memory().encode(&mark(&[1.0, 2.0, 3.0]), "v").unwrap();
        assert_eq!(Memory::decode(&bytes, &mark(&[1.0001, 2.0, 3.0]), "v").unwrap(), memory());
        let empty = Memory::default().encode(&Mark::default(), "v").unwrap();
        assert!(Memory::decode(&empty, &mark(&[1.0]), "v").is_err());
    }

    #[test]
    fn another_networks_memory_is_refused() {
        let bytes = memory().encode(&mark(&[1.0, 2.0, 3.0]), "v").unwrap();
        for other in [mark(&[1.0, 2.2, 3.0]), mark(&[1.0, 2.0]), Mark::default()] {
            let error = Memory::decode(&bytes, &other, "v").unwrap_err().to_string();
            assert_eq!(error, "was made by a network with other features");
        }
        let error = Memory::decode(&bytes, &mark(&[1.0, 2.0, 3.0]), "w").unwrap_err().to_string();
        assert!(error.contains("source, roi, masks, lens or turn was another one"), "{error}");
    }

    proptest! {
        #[test]
        fn no_damage_is_read_and_none_panics(at in 0_usize..10_000, bit in 0_u8..8, cut in 0_usize..10_000) {
            let whole = memory().encode(&mark(&[1.0, 2.0, 3.0]), "v").unwrap();
            let mut flipped = whole.clone();
            let place = at % flipped.len();
            flipped[place] ^= 1 << bit;
            // A bit may change how a number is spelt, and not which it is.
            if let Ok(read) = Memory::decode(&flipped, &mark(&[1.0, 2.0, 3.0]), "v") {
                prop_assert_eq!(read, memory());
            }
            prop_assert!(Memory::decode(&whole[..cut % whole.len()], &mark(&[1.0, 2.0, 3.0]), "v").is_err());
        }
    }
}
