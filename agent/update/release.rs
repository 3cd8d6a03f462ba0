//! The release: the signed manifest of a bundle that gateways shall take up. Pure.
//!
//! Guarantees of a release that [`Release::read`] gives: every field is known and in its range, file names lead nowhere, and all
//! sizes together are a number that can be added up. Whether it is signed, wanted here and now, is for [`super::admission`] to say.
//! Fields that this agent does not know are refused, since one may be a condition.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::index::Digest;
use crate::model::bundle::safe;

/// A release of more bytes is refused unread.
pub const MAX_BYTES: usize = 64 << 10;
/// What stands in `schema`.
pub const SCHEMA: &str = "inspect.release/1";
/// Counters up to this one are the same in every reader of JSON.
const MAX_COUNTER: u64 = (1 << 53) - 1;
const MAX_FILES: usize = 256;
const MAX_PATTERNS: usize = 64;

/// `inspect.release/1`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// `inspect.release/1`
    #[schemars(extend("const" = "inspect.release/1"))]
    pub schema: String,
    /// The bundle's name.
    pub name: String,
    /// Its semantic version.
    #[schemars(with = "String")]
    pub version: Version,
    /// Grows with every release; a gateway takes nothing with a smaller one than it ever took.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_u64))]
    pub counter: u64,
    /// For which sites: names, in which `*` is any text.
    pub sites: Vec<String>,
    /// For which gateways of them.
    pub gateways: Vec<String>,
    /// For which processors (`x86_64`, `aarch64`); any where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hardware: Vec<String>,
    /// Not to be taken before, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub not_before: Option<Timestamp>,
    /// Nor from then on, RFC 3339.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub expires: Timestamp,
    /// The oldest agent that may take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub min_agent: Option<Version>,
    /// Hashes of the bundles that it may replace; any where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<Digest>,
    /// The counter may be smaller than one that was taken, down to this one. Such a release must expire within a week of its
    /// `not_before`, so that it cannot be used again later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_to: Option<u64>,
    /// When it becomes the active one.
    #[serde(default)]
    pub promotion: Promotion,
    /// Every file of the bundle, `bundle.json` among them; none with `order`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, FileSpec>,
    /// Which chunks the files are made of; none with `order`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<BlobSpec>,
    /// In place of files: what to extract out of a base bundle that the gateway has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
}

/// What to extract.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Hash of the base's `bundle.json`.
    pub base: Digest,
    /// Only these classes: names, in which `*` is any text; all where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// The most accurate one whose median time a frame on the gateway is at most four fifths of this; the most accurate of all where
    /// nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_ms: Option<f64>,
    /// This size of the base alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// This side of the input, in pixels, alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<u32>,
}

/// A file of the bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Its size.
    pub bytes: u64,
    /// Its hash.
    pub sha256: Digest,
}

/// Something that is transferred.
pub type BlobSpec = FileSpec;

/// When a release becomes the active one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Promotion {
    /// It waits for the command `approve`, also where the gateway would not.
    pub approve: bool,
    /// Frames that it sees beside the active one first.
    #[schemars(range(max = 100_000))]
    pub shadow_frames: u32,
    /// At least this share of them is judged as by the active one.
    #[schemars(range(min = 0, max = 1))]
    pub min_agreement: f64,
    /// At most so many findings that the active one does not have, on 1,000 frames.
    pub max_new_findings: f64,
    /// At most so many times as slow as the active one.
    pub max_slowdown: f64,
    /// Frames as the active one, after which there is no way back by itself.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub trial_frames: u32,
}

impl Default for Promotion {
    fn default() -> Self {
        Self {
            approve: false,
            shadow_frames: 200,
            min_agreement: 0.0,
            max_new_findings: 1000.0,
            max_slowdown: 5.0,
            trial_frames: 500,
        }
    }
}

impl Release {
    /// Reads a release.
    ///
    /// # Errors
    /// What is wrong with it, with the place.
    pub fn read(text: &[u8]) -> Result<Self> {
        ensure!(text.len() <= MAX_BYTES, "a release may have {MAX_BYTES} bytes; this one has {}", text.len());
        let mut json = serde_json::Deserializer::from_slice(text);
        let release: Self = serde_path_to_error::deserialize(&mut json).context("it is no release")?;
        json.end().context("there is more after the release")?;
        release.check()?;
        Ok(release)
    }

    fn check(&self) -> Result<()> {
        ensure!(self.schema == SCHEMA, "it is of the kind {:?}, not {SCHEMA}", self.schema);
        ensure!(
            (1..=100).contains(&self.name.len()) && !self.name.chars().any(char::is_control),
            "name: 1 to 100 letters"
        );
        ensure!((1..=MAX_COUNTER).contains(&self.counter), "counter: 1 to {MAX_COUNTER}");
        for (what, patterns) in [("sites", &self.sites), ("gateways", &self.gateways)] {
            ensure!(
                (1..=MAX_PATTERNS).contains(&patterns.len()),
                "{what}: 1 to {MAX_PATTERNS} patterns; \"*\" means all of them"
            );
        }
        ensure!(self.not_before.is_none_or(|from| from < self.expires), "expires: it would end before not_before");
        let promotion = &self.promotion;
        let shares = [promotion.min_agreement, promotion.max_new_findings, promotion.max_slowdown];
        ensure!(shares.iter().all(|v| v.is_finite() && *v >= 0.0), "promotion: no number below zero");
        ensure!(
            promotion.min_agreement <= 1.0
                && promotion.shadow_frames <= 100_000
                && (1..=1_000_000).contains(&promotion.trial_frames),
            "promotion: min_agreement is at most 1, shadow_frames 100000, trial_frames 1 to 1000000"
        );
        if let Some(order) = &self.order {
            ensure!(self.files.is_empty() && self.index.is_none(), "order: there are files as well");
            ensure!(order.classes.len() <= MAX_PATTERNS, "order.classes: at most {MAX_PATTERNS} patterns");
            ensure!(order.budget_ms.is_none_or(|ms| ms.is_finite() && ms > 0.0), "order.budget_ms: more than zero");
            return Ok(());
        }
        ensure!(self.index.is_some(), "index: it is missing");
        ensure!((1..=MAX_FILES).contains(&self.files.len()), "files: 1 to {MAX_FILES}");
        ensure!(self.files.contains_key("bundle.json"), "files: bundle.json is missing");
        for name in self.files.keys() {
            safe(name)?;
        }
        self.bytes().context("files: their sizes are too large to add up")?;
        Ok(())
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.files.values().try_fold(0_u64, |sum, file| sum.checked_add(file.bytes))
    }

    /// The hash of its `bundle.json`, which is the bundle's identity.
    #[must_use]
    pub fn bundle(&self) -> Option<Digest> {
        self.files.get("bundle.json").map(|file| file.sha256)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Release {
        let file = |n: u8| FileSpec { bytes: 100, sha256: Digest::of(&[n]) };
        Release {
            schema: SCHEMA.into(),
            name: "line-4".into(),
            version: Version::new(1, 2, 3),
            counter: 7,
            sites: vec!["plant-*".into()],
            gateways: vec!["*".into()],
            hardware: Vec::new(),
            not_before: None,
            expires: "2030-01-01T00:00:00Z".parse().unwrap(),
            min_agent: None,
            replaces: Vec::new(),
            rollback_to: None,
            promotion: Promotion::default(),
            files: [("bundle.json".to_owned(), file(0)), ("model.onnx".to_owned(), file(1))].into(),
            index: Some(FileSpec { bytes: 72, sha256: Digest::of(&[2]) }),
            order: None,
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let release = sample();
        assert_eq!(Release::read(&serde_json::to_vec(&release).unwrap()).unwrap(), release);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let changed = |path: &str, value: serde_json::Value| {
            let mut json = serde_json::to_value(sample()).unwrap();
            *json.pointer_mut(path).unwrap() = value;
            format!("{:#}", Release::read(json.to_string().as_bytes()).unwrap_err())
        };
        for (path, value, message) in [
            ("/counter", u64::MAX.into(), "counter: 1 to 9007199254740991"),
            ("/counter", 0.into(), "counter: 1 to"),
            ("/counter", (-1).into(), "counter: invalid value"),
            ("/version", "new".into(), "version: "),
            ("/sites", serde_json::json!([]), "sites: 1 to 64 patterns"),
            ("/expires", "tomorrow".into(), "expires: "),
            ("/files", serde_json::json!({}), "files: 1 to 256"),
            ("/index", serde_json::Value::Null, "index: it is missing"),
            ("/files/model.onnx/bytes", u64::MAX.into(), "too large to add up"),
            ("/files/model.onnx/bytes", (1.5).into(), "files.model.onnx.bytes: "),
            ("/files/model.onnx/sha256", "00".into(), "files.model.onnx.sha256: "),
            ("/promotion/min_agreement", (-0.5).into(), "promotion: no number below zero"),
        ] {
            let error = changed(path, value);
            assert!(error.contains(message), "{path}: {error}");
        }
        let more = |extra: &str| {
            let text = serde_json::to_string(&sample()).unwrap();
            format!("{:#}", Release::read(text.replacen('{', extra, 1).as_bytes()).unwrap_err())
        };
        assert!(more("{\"only_if\": true, ").contains("unknown field `only_if`"));
        for name in ["../a", "/etc/passwd", "a/../../b", "", "a\\\\b"] {
            let text = serde_json::to_string(&sample()).unwrap().replace("model.onnx", name);
            assert!(Release::read(text.as_bytes()).is_err(), "{name}");
        }
        let long = [serde_json::to_vec(&sample()).unwrap(), vec![b' '; MAX_BYTES]].concat();
        assert!(format!("{:#}", Release::read(&long).unwrap_err()).contains("may have 65536 bytes"));
    }
}
