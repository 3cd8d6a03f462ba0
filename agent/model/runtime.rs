//! ONNX Runtime: the only module that knows it.
//!
//! The library is loaded from a file at run time, once a process. A [`Session`] belongs to one thread and runs on that
//! thread alone: several frames at a time on a thread each beat one frame on all threads as soon as anything else wants
//! a core, and no thread spins while it waits for a camera.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail, ensure};
pub use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;

use super::FeatureMap;
use super::bundle::{Bundle, OutputKind, OutputSpec};
use super::decode::{Head, Output};
use super::preprocess::Input;

/// The file's name, as the `PyPI` wheel of this version carries it.
pub const LIBRARY: &str = "libonnxruntime.so.1.32.0";
/// The runtime may fold constants only up to this size, so that a small file cannot become a large one.
const MAX_FOLDED: &str = "16777216";

static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// Where the library may lie when the configuration names none, in the order of looking.
#[must_use]
pub fn places() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let mut places: Vec<PathBuf> = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).into_iter().collect();
    // Test programs lie one folder below the one of the binary.
    places.extend(beside.iter().flat_map(|dir| [dir.join(LIBRARY), dir.join("..").join(LIBRARY)]));
    places.push(Path::new("/usr/lib/inspectd").join(LIBRARY));
    places.push(Path::new("/usr/local/lib").join(LIBRARY));
    places
}

/// What must be `1` in the environment before the library is loaded: its build for Linux otherwise tells its maker's server about the
/// machine at each start, writes a device's number into the home folder, and takes no other word for it.
pub const SILENT: &str = "ORT_DISABLE_TELEMETRY";

/// Loads the library, unless that was done before.
///
/// # Errors
/// It is in none of the places, or cannot be loaded, or would not keep to itself.
pub fn load(configured: Option<&Path>) -> Result<Environment> {
    let mut slot = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = slot.as_ref() {
        return Ok(environment.clone());
    }
    ensure!(std::env::var_os(SILENT).is_some_and(|value| value == "1"), "set {SILENT}=1 before ONNX Runtime is loaded");
    let places = configured.map_or_else(places, |path| vec![path.to_path_buf()]);
    let Some(path) = places.iter().find(|path| path.is_file()) else {
        let looked: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
        bail!(
            "ONNX Runtime ({LIBRARY}) was not found; looked at {}. `make build` puts it beside the binary; \
             `model.runtime` in the configuration can name another place",
            looked.join(", ")
        );
    };
    let environment = ort::init_from(path)
        .map_err(|e| anyhow!("{} cannot be loaded: {e}", path.display()))?
        .with_name("inspectd")
        .with_telemetry(false)
        .build()
        .map_err(|e| anyhow!("ONNX Runtime did not start: {e}"))?;
    *slot = Some(environment.clone());
    Ok(environment)
}

/// The network, ready to run on the calling thread.
pub struct Session {
    inner: ort::session::Session,
    outputs: Vec<OutputSpec>,
    head: Head,
}

/// What one forward pass gave.
#[derive(Debug, Default)]
pub struct Forward {
    /// For the anomaly check, in the manifest's order.
    pub features: Vec<FeatureMap>,
    /// Boxes in input pixels.
    pub detections: Vec<super::Detection>,
}

impl Session {
    /// Builds a session of one thread.
    ///
    /// # Errors
    /// The runtime refuses the network.
    pub fn new(environment: &Environment, bundle: &Bundle) -> Result<Self> {
        let inner = build(environment, &bundle.model, 1, false).map_err(|e| anyhow!("ONNX Runtime refuses it: {e}"))?;
        let manifest = &bundle.manifest;
        Ok(Self { inner, outputs: manifest.outputs.clone(), head: Head::new(manifest) })
    }

    /// From now on detections from this score on are given, whatever the classes' thresholds.
    pub fn listen_from(&mut self, score: f32) {
        self.head.listen_from(score);
    }

    /// One forward pass.
    ///
    /// # Errors
    /// The runtime failed, or an output has another shape than the manifest says, or holds values that are no numbers or
    /// cannot be what the manifest says.
    pub fn run(&mut self, input: &Input, forward: &mut Forward) -> Result<()> {
        forward.features.clear();
        forward.detections.clear();
        self.outputs(input, |head, outputs| {
            head.decode(outputs, [input.width, input.height], &mut forward.detections)?;
            let features = outputs.iter().filter(|o| o.spec.kind == OutputKind::Features);
            forward.features.extend(features.filter_map(feature_map));
            Ok(())
        })
    }

    /// One forward pass, whose outputs are shown to `look` as they are.
    ///
    /// # Errors
    /// As for [`Session::run`], but for decoding.
    pub fn outputs<T>(&mut self, input: &Input, look: impl FnOnce(&Head, &[Output]) -> Result<T>) -> Result<T> {
        let shape = [1, 3, input.height, input.width];
        let tensor = TensorRef::from_array_view((shape, input.data.as_slice())).map_err(|e| anyhow!("{e}"))?;
        let values = self.inner.run(ort::inputs![tensor]).map_err(|e| anyhow!("the forward pass failed: {e}"))?;
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for spec in &self.outputs {
            let value = values.get(&spec.name).with_context(|| format!("output {} is missing", spec.name))?;
            let (shape, data) = value.try_extract_tensor::<f32>().map_err(|e| anyhow!("output {}: {e}", spec.name))?;
            let shape: Vec<usize> = shape.iter().map(|&n| usize::try_from(n).unwrap_or_default()).collect();
            if spec.kind.is_map() {
                let stride = spec.stride as usize;
                let expected = [1, spec.channels as usize, input.height / stride, input.width / stride];
                ensure!(shape == expected, "output {} is {shape:?}, not {expected:?}", spec.name);
            }
            let numbers = data.iter().fold(true, |all, v| all & v.is_finite());
            ensure!(numbers, "output {} holds values that are no numbers", spec.name);
            outputs.push(Output { spec, shape, data });
        }
        look(&self.head, &outputs)
    }
}

fn feature_map(output: &Output) -> Option<FeatureMap> {
    let &[1, channels, height, width] = output.shape.as_slice() else { return None };
    Some(FeatureMap { channels, height, width, stride: output.spec.stride as usize, data: output.data.to_vec() })
}

/// The bare session, as the stopwatch wants it for comparison: ONNX Runtime's own defaults on `threads` threads.
pub struct Bare(ort::session::Session);

impl Bare {
    /// # Errors
    /// The runtime refuses the network.
    pub fn new(environment: &Environment, bundle: &Bundle, threads: usize) -> Result<Self> {
        let spinning = threads > 1;
        Ok(Self(build(environment, &bundle.model, threads, spinning).map_err(|e| anyhow!("{e}"))?))
    }

    /// A forward pass whose outputs are thrown away.
    ///
    /// # Errors
    /// The runtime failed.
    pub fn run(&mut self, input: &Input) -> Result<()> {
        let shape = [1, 3, input.height, input.width];
        let tensor = TensorRef::from_array_view((shape, input.data.as_slice())).map_err(|e| anyhow!("{e}"))?;
        self.0.run(ort::inputs![tensor]).map_err(|e| anyhow!("{e}"))?;
        Ok(())
    }
}

fn build(environment: &Environment, model: &[u8], threads: usize, spin: bool) -> ort::Result<ort::session::Session> {
    // It warns of each constant that it folds away: a thousand lines for a base bundle.
    ort::session::Session::builder(environment)?
        .with_log_level(LogLevel::Error)?
        .with_optimization_level(GraphOptimizationLevel::Level3)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(spin)?
        .with_config_entry("optimization.constant_folding_max_output_size_in_bytes", MAX_FOLDED)?
        .commit_from_memory(model)
}
