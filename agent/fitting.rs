//! The bundle that the configuration asks for: as it is, or extracted out of the base at the first start.
//!
//! What was extracted is kept in the state folder and used again as long as base, wish and agent are the same, so that a
//! restart measures nothing and gives the same model. A machine on which nothing fits the budget gets the fastest there is,
//! with a warning: a slow gateway that inspects is worth more than one that refuses.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::config::value::InputSide;
use crate::config::{Config, Milliseconds, OwnModel};
use crate::durable;
use crate::exit::{Exit, OrExit};
use crate::extract::{self, Wish};
use crate::model::bundle::{Bundle, Manifest};
use crate::model::extract::{Base, store, table};
use crate::model::runtime::Environment;
use crate::system;

/// What the kept bundle was extracted for.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    base: String,
    budget_ms: Option<f64>,
    classes: Vec<String>,
    #[serde(default)]
    input: Option<u32>,
    threads: usize,
    agent: String,
    /// What it was measured on.
    #[serde(default)]
    processor: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    order: Order,
    bundle: String,
}

/// Which bundle is wanted.
#[derive(Debug)]
pub struct Want<'c> {
    base: &'c Path,
    budget_ms: Option<Milliseconds>,
    classes: &'c [String],
    input: Option<u32>,
    threads: usize,
    /// Where an extraction is kept.
    dir: PathBuf,
    /// The keys of the configuration that ask for one.
    asked: String,
}

impl<'c> Want<'c> {
    /// The gateway's.
    #[must_use]
    pub fn gateway(config: &'c Config) -> Self {
        Self {
            base: &config.model.bundle,
            budget_ms: config.model.budget_ms,
            classes: &config.model.classes,
            input: None,
            threads: config.model.workers(),
            dir: config.gateway.state_dir.join("extracted"),
            asked: "model.budget_ms or model.classes".to_owned(),
        }
    }

    /// A camera's own.
    #[must_use]
    pub fn camera(config: &'c Config, camera: &str, own: &'c OwnModel) -> Self {
        Self {
            base: own.bundle.as_deref().unwrap_or(&config.model.bundle),
            budget_ms: own.budget_ms,
            classes: &own.classes,
            input: own.input.map(InputSide::get),
            threads: config.model.workers(),
            dir: config.gateway.state_dir.join(format!("extracted-{camera}")),
            asked: format!("the model of camera {camera}"),
        }
    }

    /// Of what it is: the digest of the bundle at its place now.
    ///
    /// # Errors
    /// The bundle cannot be used.
    pub fn origin(&self) -> Result<String> {
        Ok(Bundle::open(self.base).or_exit(Exit::Data)?.sha256)
    }

    /// The manifest of what it would give, without making it.
    ///
    /// # Errors
    /// The bundle cannot be used, is not elastic where an extraction is asked for, or cannot give that one.
    pub fn outline(&self) -> Result<Manifest> {
        if !self.is_extraction() {
            return Ok(Bundle::open(self.base)?.manifest);
        }
        let base = Base::open(self.base).with_context(|| format!("{} asks for an extraction", self.asked))?;
        let kept = base.classes(self.classes).context("model.classes")?;
        table::rows(&base, &kept, None, self.input, None)?;
        let mut manifest = base.manifest().clone();
        manifest.classes = kept.into_iter().map(|n| manifest.classes[n].clone()).collect();
        Ok(manifest)
    }

    /// Whether an extraction is asked for.
    #[must_use]
    pub fn is_extraction(&self) -> bool {
        self.budget_ms.is_some() || self.input.is_some() || !self.classes.is_empty()
    }
}

/// The bundle, extracted if need be.
///
/// # Errors
/// The bundle cannot be used, or an extraction is asked for and it is not elastic.
pub fn bundle(want: &Want, environment: &Environment) -> Result<Bundle> {
    if !want.is_extraction() {
        return Bundle::open(want.base).or_exit(Exit::Data);
    }
    let asked = || format!("{} asks for an extraction", want.asked);
    let base = Base::open(want.base).with_context(asked).or_exit(Exit::Data)?;
    let order = order(want, &base);
    if let Some(bundle) = kept(want, &order) {
        return Ok(bundle);
    }
    let classes = base.classes(&order.classes).with_context(asked).or_exit(Exit::Data)?;
    let mut rows = table::rows(&base, &classes, None, want.input, None).with_context(asked).or_exit(Exit::Data)?;
    let wish = order.budget_ms.map_or(Wish::Best, Wish::Milliseconds);
    let chosen = match extract::choose(&base, &mut rows, wish, environment, order.threads) {
        Ok(chosen) => chosen,
        Err(e) => {
            warn!("{e:#}; the smallest is taken");
            // The rows come most costly first.
            rows.len().checked_sub(1).context("there is nothing to extract")?
        }
    };
    let row = &rows[chosen];
    let (extracted, _) = extract::prove(&base, &row.setting, environment).or_exit(Exit::Data)?;
    let dir = want.dir.clone();
    if let Some(above) = dir.parent() {
        fs::create_dir_all(above).or_exit(Exit::CannotCreate)?;
    }
    if dir.exists() && !dir.join("bundle.json").is_file() {
        // The folder is ours; what is left of a damaged bundle must not stand in the way of a new one.
        fs::remove_dir_all(&dir)
            .with_context(|| format!("cannot clear {}", dir.display()))
            .or_exit(Exit::CannotCreate)?;
    }
    store::save(&extracted, &dir, true).or_exit(Exit::CannotCreate)?;
    let kept = Kept { order, bundle: extracted.bundle.sha256.clone() };
    durable::write(&note(&dir), &serde_json::to_vec_pretty(&kept)?).or_exit(Exit::CannotCreate)?;
    info!(size = %row.size, input = row.input, ms = row.ms, expected_map50 = row.expected_map50,
        "the model was extracted for this gateway; {} keeps it", dir.display());
    Ok(extracted.bundle)
}

/// The extraction of an earlier start, if it is what is asked for now and still whole.
fn kept(want: &Want, order: &Order) -> Option<Bundle> {
    let dir = want.dir.clone();
    let kept: Kept = serde_json::from_slice(&fs::read(note(&dir)).ok()?).ok()?;
    if kept.order != *order {
        return None;
    }
    match Bundle::open(&dir) {
        Ok(bundle) if bundle.sha256 == kept.bundle => Some(bundle),
        Ok(_) => None,
        Err(e) => {
            warn!("{e:#}; it is extracted again");
            None
        }
    }
}

fn order(want: &Want, base: &Base) -> Order {
    Order {
        base: base.bundle().sha256.clone(),
        budget_ms: want.budget_ms.map(Milliseconds::get),
        classes: want.classes.to_vec(),
        input: want.input,
        threads: want.threads,
        agent: env!("CARGO_PKG_VERSION").into(),
        // A state folder may have moved to other hardware.
        processor: system::processor(),
    }
}

/// Beside the bundle, whose files are all named in its manifest.
fn note(dir: &Path) -> PathBuf {
    // Not the extension: a camera's name may have a dot in it.
    let mut name = dir.as_os_str().to_owned();
    name.push(".json");
    name.into()
}
