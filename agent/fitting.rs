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

use crate::config::{Config, Milliseconds};
use crate::durable;
use crate::exit::{Exit, OrExit};
use crate::extract::{self, Wish};
use crate::model::bundle::Bundle;
use crate::model::extract::{Base, store, table};
use crate::model::runtime::Environment;

/// What the kept bundle was extracted for.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    base: String,
    budget_ms: Option<f64>,
    classes: Vec<String>,
    threads: usize,
    agent: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    order: Order,
    bundle: String,
}

/// Whether the configuration asks for an extraction.
#[must_use]
pub fn is_wanted(config: &Config) -> bool {
    config.model.budget_ms.is_some() || !config.model.classes.is_empty()
}

/// The bundle, extracted if need be.
///
/// # Errors
/// The bundle cannot be used, or an extraction is asked for and it is not elastic.
pub fn bundle(config: &Config, environment: &Environment) -> Result<Bundle> {
    if !is_wanted(config) {
        return Bundle::open(&config.model.bundle).or_exit(Exit::Data);
    }
    let asked = "model.budget_ms or model.classes asks for an extraction";
    let base = Base::open(&config.model.bundle).context(asked).or_exit(Exit::Data)?;
    let order = order(config, &base);
    if let Some(bundle) = kept(config, &order) {
        return Ok(bundle);
    }
    let classes = base.classes(&order.classes).context("model.classes").or_exit(Exit::Data)?;
    let mut rows = table::rows(&base, &classes, None, None, None).or_exit(Exit::Data)?;
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
    let dir = folder(config);
    fs::create_dir_all(&config.gateway.state_dir).or_exit(Exit::CannotCreate)?;
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
fn kept(config: &Config, order: &Order) -> Option<Bundle> {
    let dir = folder(config);
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

fn order(config: &Config, base: &Base) -> Order {
    Order {
        base: base.bundle().sha256.clone(),
        budget_ms: config.model.budget_ms.map(Milliseconds::get),
        classes: config.model.classes.clone(),
        threads: config.model.workers(),
        agent: env!("CARGO_PKG_VERSION").into(),
    }
}

fn folder(config: &Config) -> PathBuf {
    config.gateway.state_dir.join("extracted")
}

/// Beside the bundle, whose files are all named in its manifest.
fn note(dir: &Path) -> PathBuf {
    dir.with_extension("json")
}
