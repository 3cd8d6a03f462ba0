//! All that a bundle needs to inspect on this gateway: an inspector for each worker, a judge for each camera.

use std::sync::Arc;

use anyhow::{Context, Result};
use tracing::warn;

use crate::anomaly::memory::Mark;
use crate::config::Config;
use crate::inspector::{Inspector, Judge};
use crate::model::bundle::Bundle;
use crate::model::golden;
use crate::model::runtime::{Environment, Session};
use crate::taught::School;

/// One inspector a thread, each proved by the golden vectors and warmed up, and the mark of their features.
///
/// # Errors
/// The runtime refuses the network, or does not compute what was trained.
pub fn inspectors(config: &Config, environment: &Environment, bundle: &Bundle) -> Result<(Vec<Inspector>, Mark)> {
    let (mut inspectors, mut mark) = (Vec::new(), None);
    for _ in 0..config.model.workers() {
        let mut session = Session::new(environment, bundle)?;
        golden::verify(bundle, &mut session).context("the bundle's golden vectors")?;
        if mark.is_none() {
            mark = Some(Mark::of(&golden::features(bundle, &mut session)?));
        }
        inspectors.push(Inspector::new(session, bundle));
    }
    Ok((inspectors, mark.unwrap_or_default()))
}

/// A judge for each camera, in the order of the configuration.
#[must_use]
pub fn judges(config: &Config, bundle: &Bundle, school: &Arc<School>) -> Vec<Judge> {
    let judge = |camera: &crate::config::CameraConfig| {
        if let Err(e) = bundle.manifest.matching(&camera.classes) {
            warn!(camera = camera.name(), "classes: {e:#}");
        }
        let judge = Judge::new(&config.anomaly, camera.sensitivity.get(), bundle);
        judge.only(&camera.classes).taught(Arc::clone(school))
    };
    config.cameras.iter().map(judge).collect()
}
