//! All that a bundle needs to inspect on this gateway: an inspector for each worker, and judges for cameras.

use std::sync::Arc;

use anyhow::{Context, Result};
use tracing::{info, warn};

use crate::anomaly::memory::Mark;
use crate::config::{AnomalyConfig, CameraConfig};
use crate::inspector::{Inspector, Judge};
use crate::model::bundle::{Bundle, Manifest};
use crate::model::golden;
use crate::model::runtime::{Environment, Session};
use crate::mqtt::payload::ModelRef;
use crate::taught::School;

/// What a model is and sees.
#[derive(Debug)]
pub struct Kind {
    /// Whose findings these are.
    pub model: Arc<ModelRef>,
    /// Its classes, and the rest of what it says of itself.
    pub manifest: Manifest,
    /// Of its features.
    pub mark: Mark,
}

/// A model, ready to inspect.
pub struct Engine {
    /// Which one.
    pub kind: Arc<Kind>,
    /// One a worker, each with a session of its own.
    pub inspectors: Vec<Inspector>,
}

impl Engine {
    /// So many inspectors, each proved by the golden vectors and warmed up.
    ///
    /// # Errors
    /// The runtime refuses the network, or does not compute what was trained.
    pub fn start(workers: usize, environment: &Environment, bundle: &Bundle) -> Result<Self> {
        let (mut inspectors, mut mark) = (Vec::new(), None);
        for _ in 0..workers {
            let mut session = Session::new(environment, bundle)?;
            golden::verify(bundle, &mut session).context("the bundle's golden vectors")?;
            if mark.is_none() {
                mark = Some(Mark::of(&golden::features(bundle, &mut session)?));
            }
            inspectors.push(Inspector::new(session, bundle));
        }
        let model = Arc::new(ModelRef::of(bundle));
        let kind = Kind { model, manifest: bundle.manifest.clone(), mark: mark.unwrap_or_default() };
        Ok(Self { kind: Arc::new(kind), inspectors })
    }
}

impl Kind {
    /// A judge for a camera. What was taught is named where `school` is given: lessons belong to the gateway's model.
    #[must_use]
    pub fn judge(&self, anomaly: &AnomalyConfig, camera: &CameraConfig, school: Option<&Arc<School>>) -> Judge {
        if let Err(e) = self.manifest.serves(&camera.classes, anomaly.enabled) {
            warn!(camera = camera.name(), "classes: {e:#}");
        } else if camera.classes.is_empty() {
            info!(camera = camera.name(), "looks for no class of the model: the anomaly check is alone");
        }
        let judge = Judge::new(anomaly, camera.sensitivity.get(), &self.manifest).only(&camera.classes);
        match school {
            Some(school) => judge.taught(Arc::clone(school)),
            None => judge,
        }
    }
}
