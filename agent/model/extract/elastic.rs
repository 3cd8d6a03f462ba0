//! What can be left out of a base network, as `elastic.json` in its bundle says it.
//!
//! [`Elastic::check`] gives a description only when its parts fit each other and the bundle's manifest; whether they fit
//! the graph shows in the cut itself ([`super::surgery`]).

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::quantize::Ranges;
use crate::model::bundle::{ClassSpec, Manifest, TensorSpec};

/// `elastic.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elastic {
    /// `inspect.elastic/1`
    pub schema: String,
    /// Dimensions of depth: their blocks in order. A depth of n keeps the first n.
    pub depths: BTreeMap<String, Vec<Vec<Skip>>>,
    /// Tensors that follow the width, with the axes that do: a smaller width takes the first of each.
    pub width: BTreeMap<String, Vec<usize>>,
    /// Tensors that follow the classes, with the axis that does.
    pub classes: BTreeMap<String, usize>,
    /// Part of the names of the batch norms' tensors that tells the sizes apart, as the graph has it.
    pub norm: String,
    /// The sizes that were trained, largest first.
    pub sizes: Vec<Size>,
}

/// What leaving out a block means for a value: who reads `to` reads `from` instead, and where there is no `from`, sums
/// lose that operand.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skip {
    /// A value that the block gives.
    pub to: String,
    /// What stands for it.
    pub from: Option<String>,
}

/// A size: what of the network runs, and what was measured of it on the pictures kept from training.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// What it is called.
    pub name: String,
    /// Blocks of each dimension of depth.
    pub depths: BTreeMap<String, usize>,
    /// Channels of neck and head.
    pub width: usize,
    /// What stands in place of [`Elastic::norm`].
    pub norm: String,
    /// By class: score from which on a detection counts.
    pub thresholds: Vec<f32>,
    /// What the training side computed at this size from the bundle's golden input, with all classes.
    pub golden: BTreeMap<String, TensorSpec>,
    /// Accuracy at several input sizes, smallest first.
    pub validation: Vec<Validation>,
    /// By how much less mAP50 the size has in 8 bits, 0 to 1.
    #[serde(default)]
    pub int8_cost: f32,
    /// Limits of the values of the network that is cut at this size, by name; none where it cannot be had in 8 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Ranges>,
}

/// Accuracy at an input size.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// Side in pixels.
    pub input: u32,
    /// mAP50, mean over domains, 0 to 1.
    pub map50: f32,
    /// mAP50:95, mean over domains, 0 to 1.
    pub map50_95: f32,
    /// AP50 by class, 0 to 1.
    pub classes: Vec<f32>,
}

impl Elastic {
    /// Whether the description fits itself and the manifest.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn check(&self, manifest: &Manifest) -> Result<()> {
        ensure!(self.schema == "inspect.elastic/1", "schema {:?} is not inspect.elastic/1", self.schema);
        ensure!(!self.sizes.is_empty(), "there are no sizes");
        for size in &self.sizes {
            let name = &size.name;
            let named = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            ensure!(named && name.len() <= 32, "the size's name {name:?} is more than letters, digits and hyphens");
            ensure!((1..=65_536).contains(&size.width), "size {name}: width {}", size.width);
            for (dimension, blocks) in &self.depths {
                let depth = size.depths.get(dimension);
                ensure!(depth.is_some_and(|&n| n <= blocks.len()), "size {name}: {dimension} is {depth:?}");
                let fixed = blocks.iter().take_while(|block| block.is_empty()).count();
                ensure!(depth.is_some_and(|&n| n >= fixed), "size {name}: {dimension} needs {fixed} blocks");
            }
            ensure!(size.thresholds.len() == manifest.classes.len(), "size {name}: a threshold a class is needed");
            ensure!(size.thresholds.iter().all(|t| (0.0..=1.0).contains(t)), "size {name}: thresholds are 0 to 1");
            ensure!(!size.validation.is_empty(), "size {name} has no validation figures");
            ensure!(size.validation.is_sorted_by_key(|v| v.input), "size {name}: validation must be in order of input");
            for at in &size.validation {
                let fits = at.input >= 32 && at.input.is_multiple_of(manifest.input.multiple_of);
                ensure!(fits, "size {name}: input {} is no multiple of input.multiple_of", at.input);
                ensure!(at.classes.len() == manifest.classes.len(), "size {name}: an AP50 a class is needed");
            }
            for output in &manifest.outputs {
                let golden = size.golden.contains_key(&output.name);
                ensure!(golden, "size {name}: output {} has no golden vector", output.name);
            }
        }
        Ok(())
    }
}

impl Size {
    /// The mAP50 to expect of some of the classes at an input size: mean over their domains of the mean over a domain's
    /// classes. Between the input sizes that were measured it is interpolated; outside there is none.
    #[must_use]
    pub fn expected(&self, input: u32, classes: &[usize], names: &[ClassSpec]) -> Option<f32> {
        let above = self.validation.iter().position(|v| v.input >= input)?;
        let (high, low) = (&self.validation[above], &self.validation[above.saturating_sub(1)]);
        if high.input == input {
            return Some(high.of(classes, names));
        }
        if above == 0 {
            return None;
        }
        let share = (input - low.input) as f32 / (high.input - low.input) as f32;
        Some(low.of(classes, names) * (1.0 - share) + high.of(classes, names) * share)
    }
}

impl Validation {
    fn of(&self, classes: &[usize], names: &[ClassSpec]) -> f32 {
        let mut domains: BTreeMap<&str, (f32, f32)> = BTreeMap::new();
        for &class in classes {
            let (Some(name), Some(&ap)) = (names.get(class), self.classes.get(class)) else { continue };
            let (sum, count) = domains.entry(domain(&name.name)).or_default();
            *sum += ap;
            *count += 1.0;
        }
        let count = domains.len().max(1) as f32;
        domains.values().map(|(sum, n)| sum / n).sum::<f32>() / count
    }
}

/// Of a class: what stands before the slash.
#[must_use]
pub fn domain(class: &str) -> &str {
    class.split_once('/').map_or(class, |(domain, _)| domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Severity;

    #[test]
    fn what_to_expect_is_a_mean_over_domains_and_lies_between_what_was_measured() {
        let at = |input, ap: [f32; 3]| Validation { input, map50: 0.0, map50_95: 0.0, classes: ap.into() };
        let size = Size {
            name: "s".into(),
            depths: BTreeMap::new(),
            width: 8,
            norm: "@0".into(),
            thresholds: vec![0.5; 3],
            golden: BTreeMap::new(),
            int8_cost: 0.0,
            ranges: None,
            validation: vec![at(160, [0.2, 0.4, 0.9]), at(320, [0.6, 0.8, 1.0])],
        };
        let names: Vec<_> = ["a/x", "a/y", "b/z"]
            .map(|name| ClassSpec { name: name.into(), severity: Severity::Major, threshold: 0.5 })
            .into();
        let expected = |input, classes: &[usize]| size.expected(input, classes, &names);
        assert!((expected(160, &[0, 1, 2]).unwrap() - 0.6).abs() < 1e-6);
        assert!((expected(320, &[0]).unwrap() - 0.6).abs() < 1e-6);
        assert!((expected(240, &[0, 1]).unwrap() - 0.5).abs() < 1e-6);
        assert_eq!(expected(128, &[0]), None);
        assert_eq!(expected(352, &[0]), None);
    }
}
