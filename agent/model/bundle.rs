//! The model bundle, version 1: a folder with `bundle.json`, the network, golden vectors and a card.
//!
//! [`Bundle::open`] gives a bundle only when every file is named in the manifest, has the size and sha256 that stand
//! there, and the network's structure was found harmless ([`super::structure`]). Nothing here runs the network.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::structure::{self, Limits};
use crate::config::Severity;

/// A manifest of more bytes is refused.
const MAX_MANIFEST: u64 = 64 << 10;
/// A bundle's file of more bytes is refused.
const MAX_FILE: u64 = 512 << 20;

/// `bundle.json`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `inspect.bundle/1`
    pub schema: String,
    /// What the bundle is called.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// The network's file.
    pub model: String,
    /// What the network takes.
    pub input: InputSpec,
    /// What the network gives.
    pub outputs: Vec<OutputSpec>,
    /// What a detection can be, in the order of the network's score channels; empty for a network that only gives
    /// features.
    pub classes: Vec<ClassSpec>,
    /// Vectors that prove that this runtime computes what was trained.
    pub golden: GoldenSpec,
    /// Every file of the bundle but `bundle.json`.
    pub files: BTreeMap<String, FileSpec>,
    /// File that says what can be left out of the network; none where nothing can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<String>,
}

/// The network's input: one picture, `(1, 3, height, width)` float32, RGB, `(value - mean) / std` of 0..=255.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Its name in the graph.
    pub name: String,
    /// Side in pixels of a square picture; other shapes get about the same area.
    pub size: u32,
    /// Sides are multiples of this.
    pub multiple_of: u32,
    /// How a picture of another shape is brought in.
    pub fit: Fit,
    /// Per channel, in units of 0..=255.
    pub mean: [f32; 3],
    /// Per channel, in units of 0..=255.
    pub std: [f32; 3],
    /// Standard deviation of the pixels below which a dull picture's contrast is raised before normalisation, by the
    /// root of what it falls short, at most twofold; none where the network was made without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrast: Option<f32>,
    /// A small picture is brought in at most this many times its own size; any where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upscale: Option<f32>,
}

/// How a picture of another shape is brought into the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// To `size * size`, whatever the shape.
    Stretch,
    /// To about the area of `size * size` with the picture's own shape, rounded to `multiple_of`.
    Aspect,
}

/// One output of the network.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// Its name in the graph.
    pub name: String,
    /// What it means.
    pub kind: OutputKind,
    /// Network input pixels a cell.
    pub stride: u32,
    /// Its second dimension.
    pub channels: u32,
}

/// What an output means. All are `(1, channels, height / stride, width / stride)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// A feature map for the anomaly check.
    Features,
    /// A probability per class and cell, 0 to 1.
    Scores,
    /// Distances from the cell's centre to the left, upper, right and lower side, in strides (FCOS, Tian et al. 2019).
    Distances,
}

/// A class that detections can carry.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassSpec {
    /// With its domain: `steel/patches`.
    pub name: String,
    /// How bad it is.
    pub severity: Severity,
    /// Score from which on it counts.
    pub threshold: f32,
}

/// Golden vectors: little-endian float32 without header.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoldenSpec {
    /// Largest allowed difference, as a share of the output's largest absolute value.
    pub tolerance: f32,
    /// The input.
    pub input: TensorSpec,
    /// By output name.
    pub outputs: BTreeMap<String, TensorSpec>,
}

/// A tensor in a file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// The file.
    pub file: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

/// A file of the bundle.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Its size.
    pub bytes: u64,
    /// Its hash, in hexadecimal.
    pub sha256: String,
}

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
        for output in &manifest.outputs {
            ensure!(found.outputs.contains(&output.name), "the network has no output called {}", output.name);
        }
        let input = &manifest.input.name;
        ensure!(
            found.inputs.len() == 1 && found.inputs[0].0 == *input,
            "the network must have one input, called {input}; it has {:?}",
            found.inputs.iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
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

impl Manifest {
    fn check(&self) -> Result<()> {
        ensure!(self.schema == "inspect.bundle/1", "schema {:?} is not inspect.bundle/1", self.schema);
        let input = &self.input;
        ensure!((32..=4096).contains(&input.size), "input.size must be 32 to 4096, it is {}", input.size);
        ensure!(
            (1..=128).contains(&input.multiple_of) && input.size.is_multiple_of(input.multiple_of),
            "input.multiple_of must divide input.size"
        );
        ensure!(
            input.std.iter().all(|s| s.is_finite() && *s > 0.0) && input.mean.iter().all(|m| m.is_finite()),
            "input.mean and input.std must be finite, std above 0"
        );
        ensure!(input.upscale.is_none_or(|u| (1.0..=16.0).contains(&u)), "input.upscale must be 1 to 16");
        ensure!(input.contrast.is_none_or(|c| (1.0..=128.0).contains(&c)), "input.contrast must be 1 to 128");
        let is_version = self.version.split('.').count() == 3
            && self.version.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        ensure!(is_version, "version {:?} is not of the form 1.2.3", self.version);
        for output in &self.outputs {
            let (name, channels) = (&output.name, output.channels as usize);
            ensure!(
                output.stride.is_power_of_two() && output.stride <= 128,
                "output {name}: odd stride {}",
                output.stride
            );
            ensure!(
                input.multiple_of.is_multiple_of(output.stride),
                "output {name}: its stride {} does not divide input.multiple_of",
                output.stride
            );
            match output.kind {
                OutputKind::Features => ensure!((1..=4096).contains(&channels), "output {name}: {channels} channels"),
                OutputKind::Scores => {
                    ensure!(
                        channels == self.classes.len(),
                        "output {name}: {channels} channels for {} classes",
                        self.classes.len()
                    );
                }
                OutputKind::Distances => ensure!(channels == 4, "output {name}: {channels} channels, not 4"),
            }
        }
        let strides = |kind| {
            let mut strides: Vec<_> = self.outputs.iter().filter(|o| o.kind == kind).map(|o| o.stride).collect();
            strides.sort_unstable();
            strides
        };
        ensure!(
            strides(OutputKind::Scores) == strides(OutputKind::Distances),
            "every scores output needs a distances output of the same stride, and the other way round"
        );
        for class in &self.classes {
            ensure!((0.0..=1.0).contains(&class.threshold), "class {}: threshold must be 0 to 1", class.name);
        }
        let golden = &self.golden.input.shape;
        let sides = |n: &usize| *n > 0 && n.is_multiple_of(input.multiple_of as usize);
        ensure!(
            golden.len() == 4 && golden[..2] == [1, 3] && golden[2..].iter().all(sides),
            "the golden input is {golden:?}, not (1, 3, height, width) in multiples of input.multiple_of"
        );
        ensure!(
            self.elastic.as_ref().is_none_or(|name| self.files.contains_key(name)),
            "the file that elastic names is not listed under files"
        );
        for output in &self.outputs {
            ensure!(self.golden.outputs.contains_key(&output.name), "output {} has no golden vector", output.name);
        }
        Ok(())
    }
}

/// A path inside the bundle: nothing absolute, nothing that leads out.
fn safe(name: &str) -> Result<PathBuf> {
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The bundle that ships.
    pub fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default")
    }

    fn copy() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("golden")).unwrap();
        let manifest: Manifest =
            serde_json::from_slice(&std::fs::read(shipped().join("bundle.json")).unwrap()).unwrap();
        for name in manifest.files.keys().map(String::as_str).chain(["bundle.json"]) {
            std::fs::copy(shipped().join(name), dir.path().join(name)).unwrap();
        }
        dir
    }

    fn refused(dir: &Path) -> String {
        format!("{:#}", Bundle::open(dir).unwrap_err())
    }

    #[test]
    fn the_shipped_bundle_is_good() {
        let bundle = Bundle::open(&shipped()).unwrap();
        assert_eq!(bundle.tensor(&bundle.manifest.golden.input).unwrap().len(), 3 * 64 * 64);
    }

    #[test]
    fn a_flipped_bit_in_any_file_is_noticed() {
        let dir = copy();
        let names: Vec<_> = Bundle::open(dir.path()).unwrap().manifest.files.into_keys().collect();
        for name in names {
            let path = dir.path().join(&name);
            let good = std::fs::read(&path).unwrap();
            let mut bad = good.clone();
            bad[good.len() / 2] ^= 1;
            std::fs::write(&path, bad).unwrap();
            assert!(refused(dir.path()).contains("was changed"));
            std::fs::write(&path, &good[1..]).unwrap();
            assert!(refused(dir.path()).contains("bytes, not"));
            std::fs::write(&path, good).unwrap();
        }
    }

    #[test]
    fn bad_manifests_are_named() {
        let dir = copy();
        let path = dir.path().join("bundle.json");
        let good = std::fs::read_to_string(&path).unwrap();
        for (from, to, expected) in [
            ("\"inspect.bundle/1\"", "\"inspect.bundle/2\"", "is not inspect.bundle/1"),
            ("\"size\": 256", "\"size\": 250", "must divide"),
            ("\"1.0.1\"", "\"one\"", "1.2.3"),
            ("\"model\": \"model.onnx\"", "\"model\": \"other.onnx\"", "not listed"),
            ("\"CARD.md\": {", "\"../CARD.md\": {", "leads out"),
            ("\"name\": \"stage4\"", "\"name\": \"stage9\"", "stage9"),
            ("\"kind\": \"features\"", "\"kind\": \"distances\"", "not 4"),
            ("\"schema\"", "\"shema\"", "unknown field `shema`"),
        ] {
            assert!(good.contains(from), "{from}");
            std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
            let message = refused(dir.path());
            assert!(message.contains(expected), "{to}: {message}");
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_refused() {
        let dir = copy();
        std::fs::remove_file(dir.path().join("CARD.md")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("CARD.md")).unwrap();
        assert!(refused(dir.path()).contains("no plain file"));
    }
}
