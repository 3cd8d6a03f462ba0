//! Extraction: a complete bundle of the size and the classes that a gateway needs, out of the base bundle, without
//! training and without a download.
//!
//! What is taken from the literature: one set of weights trained for all sizes, with depth and width cut as prefixes
//! (Once-for-All, Cai et al. 2020), batch norms of its own for each size (slimmable networks, Yu et al. 2019), and a table
//! of measured accuracies to choose from instead of a search on the device.
//!
//! [`Base::extract`] proves what it gives: the golden vectors of the new bundle are what the training side computed at that
//! size, so that the golden test of the bundle is the comparison with the base network.

pub mod cost;
pub mod elastic;
pub mod plot;
pub mod quantize;
pub mod store;
pub mod surgery;
pub mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use prost::Message;
use serde::Serialize;
use sha2::{Digest, Sha256};

use self::cost::Cost;
use self::elastic::{Elastic, Size};
use super::bundle::{Bundle, FileSpec, GoldenSpec, Manifest, OutputKind, TensorSpec};
use super::onnx::ModelProto;

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Float32 => "float32",
            Self::Int8 => "int8",
        })
    }
}

/// Golden tolerance of 8-bit networks against the float32 vectors of the training side: rounding alone moves a value that
/// much of the largest.
const INT8_TOLERANCE: f32 = 0.25;

/// The base bundle, ready to be cut.
pub struct Base {
    bundle: Bundle,
    elastic: Elastic,
    model: ModelProto,
}

/// What to extract.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Number of the size in the base's list.
    pub size: usize,
    /// Side of the input in pixels.
    pub input: u32,
    /// Numbers of the classes, ascending.
    pub classes: Vec<usize>,
    /// In which numbers it computes.
    pub precision: Precision,
}

/// In which numbers a network computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    Float32,
    /// 8-bit integers, but for the last convolutions.
    Int8,
}

/// An extracted bundle, not yet on disk.
pub struct Extracted {
    /// The bundle, vetted.
    pub bundle: Bundle,
    /// `bundle.json`
    pub manifest: Vec<u8>,
    /// All other files.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What a frame costs.
    pub cost: Cost,
}

impl Base {
    /// Reads a base bundle.
    ///
    /// # Errors
    /// The bundle cannot be used, or it is not elastic.
    pub fn open(dir: &Path) -> Result<Self> {
        let bundle = Bundle::open(dir)?;
        let Some(name) = &bundle.manifest.elastic else {
            bail!(
                "the model in {} ({}) is not elastic: it has one size only and can be used as it is, but nothing can be \
                 extracted from it. Extract from a base bundle, whose bundle.json names an `elastic` file (models/base)",
                dir.display(),
                bundle.manifest.name
            );
        };
        let text = bundle.file(name).with_context(|| format!("{name} is missing"))?;
        let elastic: Elastic = serde_json::from_slice(text).with_context(|| format!("{name} is damaged"))?;
        elastic.check(&bundle.manifest).with_context(|| name.clone())?;
        let model = ModelProto::decode(bundle.model.as_slice()).context("the network cannot be read")?;
        Ok(Self { bundle, elastic, model })
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.bundle.manifest
    }

    /// The base network as a bundle.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The sizes that were trained, largest first.
    #[must_use]
    pub fn sizes(&self) -> &[Size] {
        &self.elastic.sizes
    }

    /// The numbers of the classes whose names match one of the patterns (`*` is any text); all where there is none.
    ///
    /// # Errors
    /// A pattern that no class matches.
    pub fn classes(&self, patterns: &[String]) -> Result<Vec<usize>> {
        self.manifest().matching(patterns)
    }

    /// Cuts the network alone.
    ///
    /// # Errors
    /// The description does not fit the graph.
    pub fn network(&self, size: usize, classes: &[usize]) -> Result<ModelProto> {
        let size = self.elastic.sizes.get(size).context("there is no such size")?;
        let outputs = self.manifest().outputs.iter().filter(|o| o.kind == OutputKind::Scores);
        let scores: Vec<&str> = outputs.map(|o| o.name.as_str()).collect();
        surgery::cut(&self.model, &self.elastic, size, classes, &scores)
            .with_context(|| format!("size {} cannot be cut out of {}", size.name, self.manifest().name))
    }

    /// Makes a bundle of a setting.
    ///
    /// # Errors
    /// The description does not fit the graph, or what comes out is no good bundle.
    pub fn extract(&self, setting: &Setting) -> Result<Extracted> {
        let size = self.elastic.sizes.get(setting.size).context("there is no such size")?;
        let mut network = self.network(setting.size, &setting.classes)?;
        let cost = cost::cost(&network, u64::from(setting.input), u64::from(setting.input))?;
        if setting.precision == Precision::Int8 {
            let ranges = size.ranges.as_ref();
            let ranges =
                ranges.with_context(|| format!("size {} was not measured for 8 bits; take float32", size.name))?;
            network = quantize::quantize(&network, ranges, quantize::weight_limit())?;
        }
        let mut manifest = self.bundle.manifest.clone();
        manifest.name = self.name(size, setting);
        manifest.elastic = None;
        manifest.input.size = setting.input;
        manifest.classes = setting
            .classes
            .iter()
            .filter_map(|&n| {
                let mut class = self.manifest().classes.get(n)?.clone();
                class.threshold = size.thresholds.get(n).copied()?;
                Some(class)
            })
            .collect();
        let mut files = BTreeMap::from([(manifest.model.clone(), network.encode_to_vec())]);
        manifest.golden = self.golden(size, setting, &mut files)?;
        if setting.precision == Precision::Int8 {
            manifest.golden.tolerance = INT8_TOLERANCE;
        }
        for output in manifest.outputs.iter_mut().filter(|o| o.kind == OutputKind::Scores) {
            output.channels = setting.classes.len() as u32;
        }
        files.insert("CARD.md".into(), self.card(size, setting, cost).into_bytes());
        let spec = |bytes: &Vec<u8>| FileSpec { bytes: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)) };
        manifest.files = files.iter().map(|(name, bytes)| (name.clone(), spec(bytes))).collect();
        let mut text = serde_json::to_vec_pretty(&manifest)?;
        text.push(b'\n');
        let bundle = Bundle::of(&text, files.clone()).context("what was extracted is no good bundle")?;
        Ok(Extracted { bundle, manifest: text, files, cost })
    }

    fn name(&self, size: &Size, setting: &Setting) -> String {
        let all = setting.classes.len() == self.manifest().classes.len();
        let some = if all { String::new() } else { format!("-{}-classes", setting.classes.len()) };
        let int8 = if setting.precision == Precision::Int8 { "-int8" } else { "" };
        format!("{}-{}-{}{int8}{some}", self.manifest().name, size.name, setting.input)
    }

    /// The training side's vectors at this size, without the classes that are not wanted.
    fn golden(&self, size: &Size, setting: &Setting, files: &mut BTreeMap<String, Vec<u8>>) -> Result<GoldenSpec> {
        let from = &self.manifest().golden;
        let input = TensorSpec { file: "golden/image.f32".into(), shape: from.input.shape.clone() };
        let raw = self.bundle.file(&from.input.file).context("the golden input is missing")?;
        files.insert(input.file.clone(), raw.to_vec());
        let mut outputs = BTreeMap::new();
        for output in &self.manifest().outputs {
            let spec = size.golden.get(&output.name).context("an output has no golden vector")?;
            let mut values = self.bundle.tensor(spec)?;
            let mut shape = spec.shape.clone();
            if output.kind == OutputKind::Scores {
                let plane: usize = shape.iter().skip(2).product();
                let channel = |&n: &usize| values.get(n * plane..(n + 1) * plane);
                values = setting
                    .classes
                    .iter()
                    .map(channel)
                    .collect::<Option<Vec<_>>>()
                    .context("a class is missing")?
                    .concat();
                shape[1] = setting.classes.len();
            }
            let file = format!("golden/{}.f32", output.name);
            files.insert(file.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect());
            outputs.insert(output.name.clone(), TensorSpec { file, shape });
        }
        Ok(GoldenSpec { tolerance: from.tolerance, input, outputs })
    }

    fn card(&self, size: &Size, setting: &Setting, cost: Cost) -> String {
        let manifest = self.manifest();
        let depths: Vec<_> = size.depths.iter().map(|(name, n)| format!("{name} {n}")).collect();
        let classes: Vec<_> =
            setting.classes.iter().filter_map(|&n| Some(manifest.classes.get(n)?.name.as_str())).collect();
        let expected = size.expected(setting.input, &setting.classes, &manifest.classes);
        let base = self.bundle.file("CARD.md").map(String::from_utf8_lossy).unwrap_or_default();
        format!(
            "# {name}\n\nExtracted by inspectd {agent} from {base_name} {version} (bundle {sha}): size {size_name} ({depths}, \
             width {width}), input {input} px, {count} classes ({classes}). {macs:.0} M multiply-accumulates a square \
             frame, {parameters:.2} M parameters{expected}.\n\nThe golden vectors are what the training side computed at this \
             size. What follows is the card of the base.\n\n{base}",
            name = self.name(size, setting),
            agent = env!("CARGO_PKG_VERSION"),
            base_name = manifest.name,
            version = manifest.version,
            sha = self.bundle.sha256,
            size_name = size.name,
            depths = depths.join(", "),
            width = size.width,
            input = setting.input,
            count = classes.len(),
            classes = classes.join(", "),
            macs = cost.macs as f64 / 1e6,
            parameters = cost.parameters as f64 / 1e6,
            expected = expected.map_or_else(String::new, |m| format!("; mAP50 {m:.3} to be expected")),
        )
    }
}

#[cfg(test)]
mod tests;
