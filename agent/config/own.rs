//! `cameras.model`: a model of the camera's own.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{InputSide, Milliseconds};

/// `cameras.model`: another extraction for this camera alone. It keeps it when the gateway's model is updated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnModel {
    /// Folder with bundle.json; that of the gateway where none is given.
    #[serde(default)]
    pub bundle: Option<PathBuf>,
    /// As `model.budget_ms`.
    #[serde(default)]
    pub budget_ms: Option<Milliseconds>,
    /// As `model.classes`.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Side of the network's input in pixels, one that `inspectd extract` lists.
    #[serde(default)]
    pub input: Option<InputSide>,
}
