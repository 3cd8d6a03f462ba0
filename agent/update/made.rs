//! A bundle that is made on the spot: an order of a few hundred bytes, out of a base that the gateway has.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::index::Digest;
use super::release::Order;
use crate::extract::{self, Wish};
use crate::model::extract::{Base, store, table};
use crate::model::runtime::Environment;

/// Extracts what is ordered into `slot`; gives the hash of the new bundle's manifest.
///
/// # Errors
/// None of the folders holds that base, the base has no such classes or sizes, nothing fits the budget, or the disk refuses.
pub fn make(
    order: &Order,
    bases: &[PathBuf],
    slot: &Path,
    environment: &Environment,
    threads: usize,
) -> Result<Digest> {
    let base =
        bases.iter().filter_map(|dir| Base::open(dir).ok()).find(|b| b.bundle().sha256 == order.base.to_string());
    let base = base.with_context(|| format!("this gateway has no base bundle {}", order.base))?;
    let classes = base.classes(&order.classes)?;
    let mut rows = table::rows(&base, &classes, None, order.input, order.size.as_deref())?;
    let wish = order.budget_ms.map_or(Wish::Best, Wish::Milliseconds);
    let chosen = extract::choose(&base, &mut rows, wish, environment, threads)?;
    let row = rows.get(chosen).context("there is nothing to extract")?;
    let (extracted, _) = extract::prove(&base, &row.setting, environment)?;
    let _ = std::fs::remove_dir_all(slot); // what was there is no way back any more
    store::save(&extracted, slot, true)?;
    extracted.bundle.sha256.parse().map_err(anyhow::Error::msg)
}
