//! The configuration file: typed, with defaults, and strict.
//!
//! Unknown keys and impossible values are refused with file, line, key and what would be right; nothing is corrected
//! in silence. Paths are relative to the folder of the file. Secrets are never in the file, only the names of files
//! that hold them.

pub mod camera;
pub mod genicam;
mod health;
mod mqtt;
mod own;
mod trigger;
mod update;
pub mod value;
pub mod zone;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

pub use camera::{
    CameraConfig, FolderSource, RtspSource, RtspTransport, SourceConfig, SyntheticSource, V4l2Source, VideoSource,
};
pub use genicam::{Auto, GenicamSource, TriggerMode};
pub use health::HealthConfig;
pub use mqtt::{MqttConfig, ProtocolVersion, ResultsMode};
pub use own::OwnModel;
pub use trigger::{LineConfig, LineEdge, MotionConfig, TriggerConfig, TriggerOn};
pub use update::UpdateConfig;
pub use value::{ClassName, Milliseconds, Name};
use value::{Count, DeadTime, Fraction, Frames, KiB, MaxActive, Megapixels, MiB, Pixels, Probability, Threads};
pub use zone::Zone;

/// The whole file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where this gateway stands.
    pub gateway: GatewayConfig,
    /// The broker.
    pub mqtt: MqttConfig,
    /// The model.
    pub model: ModelConfig,
    /// The check for defects that nobody has labelled.
    #[serde(default)]
    pub anomaly: AnomalyConfig,
    /// When a finding becomes an alarm.
    #[serde(default)]
    pub alarm: AlarmConfig,
    /// The queue in front of the broker.
    #[serde(default)]
    pub outbox: OutboxConfig,
    /// Models over MQTT.
    #[serde(default)]
    pub update: UpdateConfig,
    /// Figures for Prometheus.
    #[serde(default)]
    pub metrics: MetricsConfig,
    /// Limits on what comes in.
    #[serde(default)]
    pub limits: Limits,
    /// At least one camera.
    #[serde(default)]
    #[schemars(required)]
    pub cameras: Vec<CameraConfig>,
}

/// `[gateway]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// The plant or grid section; a level of every topic.
    pub site: Name,
    /// This gateway; a level of every topic, unique in the site.
    pub name: Name,
    /// Folder for what must outlive a restart: the outbox and its pictures.
    pub state_dir: PathBuf,
}

/// `[model]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Folder with bundle.json.
    pub bundle: PathBuf,
    /// Frames inspected at the same time, each on a thread of its own; the number of cores where none is given.
    #[serde(default)]
    pub threads: Option<Threads>,
    /// At the first start the most accurate model is extracted out of the bundle, a base bundle, whose median time a frame
    /// on this machine is at most this.
    #[serde(default)]
    pub budget_ms: Option<Milliseconds>,
    /// Only these classes are extracted out of the base bundle: names, in which * is any text.
    #[serde(default)]
    pub classes: Vec<String>,
    /// libonnxruntime.so, where it is in none of the usual places.
    #[serde(default)]
    pub runtime: Option<PathBuf>,
}

impl ModelConfig {
    /// Threads that inspect.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.threads.map_or_else(cores, |n| n.get() as usize)
    }
}

/// Number of cores.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `[anomaly]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AnomalyConfig {
    /// Whether the check runs.
    pub enabled: bool,
    /// Wanted share of good frames that raise a false alarm.
    pub false_alarm_rate: Probability,
    /// Severity of an anomaly that the model cannot name.
    pub severity: Severity,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For the record.
    Info,
    /// To be looked at in time.
    Minor,
    /// To be looked at now.
    Major,
    /// Stop the line.
    Critical,
}

impl Severity {
    /// From the least on.
    pub const ALL: [Self; 4] = [Self::Info, Self::Minor, Self::Major, Self::Critical];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Minor => "minor",
            Self::Major => "major",
            Self::Critical => "critical",
        }
    }
}

/// `[alarm]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmConfig {
    /// Frames in which a finding must be seen, of the last `raise_within`, before an alarm is raised.
    pub raise_after: Frames,
    /// See `raise_after`.
    pub raise_within: Frames,
    /// Frames in a row without the finding before its alarm is cleared.
    pub clear_after: Count,
    /// An alarm is updated when its score has risen by this much.
    pub update_step: Fraction,
    /// Alarms that one camera may have active at the same time; where there would be more, one summary alarm (class `flood`)
    /// counts them.
    pub max_active: MaxActive,
    /// Seconds after an alarm was cleared in which nothing of its class is raised at its place. For still scenes.
    pub dead_time_s: DeadTime,
    /// What counts where, and how much.
    pub rules: Vec<RuleConfig>,
    /// Largest snapshot, in KiB.
    pub snapshot_kib: KiB,
    /// Boxes and heat are drawn into snapshots, for readers that cannot do so themselves.
    pub snapshot_marks: bool,
}

/// `[[alarm.rules]]`: for findings of some classes on some cameras. A finding counts unless a rule that matches it says no.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Names of classes, in which * is any text; `unknown` is what the model does not know. All where none is given.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Names of cameras, in which * is any text. All where none is given.
    #[serde(default)]
    pub cameras: Vec<String>,
    /// Its severity; the last rule that matches has the say.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// It counts from this size on: pixels of the frame along the longer side of its box.
    #[serde(default)]
    pub min_size: Option<Pixels>,
    /// It counts from this score on.
    #[serde(default)]
    pub min_score: Option<Fraction>,
    /// It counts only if its middle lies in one of these zones.
    #[serde(default)]
    pub include: Vec<Zone>,
    /// It does not count if its middle lies in one of these zones.
    #[serde(default)]
    pub exclude: Vec<Zone>,
}

/// `[outbox]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutboxConfig {
    /// Messages that may wait.
    pub max_messages: Count,
    /// Bytes of snapshots that may wait, in MiB; beyond it the oldest snapshots go.
    pub max_images_mib: MiB,
    /// Bytes of other messages that may wait, in MiB.
    pub max_events_mib: MiB,
}

/// `[metrics]`
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Address and port at which figures (`/metrics`) and health (`/health`) are served, to everybody who reaches it; off where none is
    /// given.
    #[serde(deserialize_with = "address")]
    pub listen: Option<SocketAddr>,
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = |_| {
        D::Error::custom(format!(
            "\"{}\" is wrong: write ADDRESS:PORT, for instance 127.0.0.1:9464",
            text.escape_debug()
        ))
    };
    text.parse().map(Some).map_err(wrong)
}

/// `[limits]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Pixels of a picture, in millions; larger ones give no verdict.
    pub max_megapixels: Megapixels,
}

impl Limits {
    /// Pixels of a picture.
    #[must_use]
    pub fn max_pixels(&self) -> u64 {
        self.max_megapixels.get() * 1_000_000
    }
}

impl Default for AnomalyConfig {
    fn default() -> Self {
        Self { enabled: true, false_alarm_rate: Probability::of(0.001), severity: Severity::Major }
    }
}

impl Default for AlarmConfig {
    fn default() -> Self {
        Self {
            raise_after: Frames::of(1),
            raise_within: Frames::of(3),
            clear_after: Count::of(3),
            update_step: Fraction::of(0.1),
            max_active: MaxActive::of(20),
            dead_time_s: DeadTime::of(0.0),
            rules: Vec::new(),
            snapshot_kib: KiB::of(256),
            snapshot_marks: false,
        }
    }
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self { max_messages: Count::of(200_000), max_images_mib: MiB::of(256), max_events_mib: MiB::of(128) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_megapixels: Megapixels::of(64) }
    }
}

/// What stands beside the gateways below a site.
pub const SITE_LEVELS: [&str; 3] = ["blobs", "model", "taught"];

/// A mistake in the file, with its place.
#[derive(Debug, Error)]
#[error("{file}:{line}:{column}: {key}{message}")]
pub struct ConfigError {
    file: String,
    line: usize,
    column: usize,
    key: String,
    message: String,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file cannot be read, or the first mistake in it.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {} (see `inspectd run --help`)", path.display()))?;
        let mut config = Self::parse(&text, &path.to_string_lossy())?;
        config.resolve(path.parent().unwrap_or(Path::new(".")));
        Ok(config)
    }

    /// Checks a text; `file` is for messages.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let error = |span: Option<std::ops::Range<usize>>, key: String, message: String| {
            let before = text.get(..span.map_or(0, |s| s.start)).unwrap_or("");
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            ConfigError { file: file.to_owned(), line, column, key, message }
        };
        let deserializer = toml::Deserializer::parse(text)
            .map_err(|e| error(e.span(), String::new(), format!("is not TOML: {}", e.message().trim_end())))?;
        let config: Self = serde_path_to_error::deserialize(deserializer).map_err(|e| {
            let key = match e.path().to_string() {
                path if path == "." => String::new(),
                path => format!("{path}: "),
            };
            error(e.inner().span(), key, e.inner().message().trim_end().to_owned())
        })?;
        if config.cameras.is_empty() {
            return Err(error(None, "cameras: ".into(), "at least one [[cameras]] is needed; `inspectd cameras list` shows what is connected, `inspectd setup` writes it".into()));
        }
        if SITE_LEVELS.contains(&config.gateway.name.as_str()) {
            let start = text.find("[gateway]").unwrap_or(0);
            let message = format!("must be none of {}, which are topics of the whole site", SITE_LEVELS.join(", "));
            return Err(error(Some(start..start), "gateway.name: ".into(), message));
        }
        let mut names = HashSet::new();
        for (n, camera) in config.cameras.iter().enumerate() {
            if !names.insert(camera.name.get_ref().clone()) {
                let message = format!("two cameras are called \"{}\"; give each a name of its own", camera.name());
                return Err(error(Some(camera.name.span()), format!("cameras[{n}].name: "), message));
            }
            if let Some((key, message)) = camera.contradiction() {
                return Err(error(Some(camera.name.span()), format!("cameras[{n}].{key}: "), message));
            }
            if let Some((key, message)) = camera.source.contradiction() {
                let key = format!("cameras[{n}].source.{}.{key}: ", camera.source.kind());
                return Err(error(Some(camera.name.span()), key, message.to_owned()));
            }
        }
        if config.mqtt.cert_file.is_some() != config.mqtt.key_file.is_some() {
            let start = text.find("cert_file").or_else(|| text.find("key_file")).unwrap_or(0);
            let message = "a certificate and its key go together: give both, or none".into();
            return Err(error(Some(start..start), "mqtt.cert_file: ".into(), message));
        }
        let unused = [("ca_file", &config.mqtt.ca_file), ("cert_file", &config.mqtt.cert_file)];
        if let Some((key, _)) = unused.iter().find(|(_, file)| file.is_some() && !config.mqtt.url.scheme().is_secure())
        {
            let start = text.find(key).unwrap_or(0);
            let message = format!("is of no use without TLS: write mqtts:// or wss:// in mqtt.url, or leave {key} out");
            return Err(error(Some(start..start), format!("mqtt.{key}: "), message));
        }
        if config.alarm.raise_after > config.alarm.raise_within {
            let start = text.find("raise_after").unwrap_or(0);
            let message = "must not be larger than alarm.raise_within".into();
            return Err(error(Some(start..start), "alarm.raise_after: ".into(), message));
        }
        Ok(config)
    }

    fn resolve(&mut self, base: &Path) {
        let fix = |path: &mut PathBuf| *path = place(base, path);
        fix(&mut self.gateway.state_dir);
        fix(&mut self.model.bundle);
        self.model.runtime.as_mut().map(fix);
        let MqttConfig { password_file, ca_file, cert_file, key_file, .. } = &mut self.mqtt;
        [password_file, ca_file, cert_file, key_file].into_iter().flatten().for_each(fix);
        for camera in &mut self.cameras {
            camera.source.paths().into_iter().for_each(fix);
            camera.model.as_mut().and_then(|model| model.bundle.as_mut()).map(fix);
        }
    }
}

/// Where the package has its configuration.
const ETC: &str = "/etc/inspectd";

/// A path in the file, from the folder of the file; `credential:NAME` is where systemd has put that credential of the service. Outside the
/// service it is the file from which systemd would have taken it.
fn place(base: &Path, path: &Path) -> PathBuf {
    let Some(name) = path.to_str().and_then(|text| text.strip_prefix("credential:")) else { return base.join(path) };
    let of_service = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    credential_in(of_service.as_deref(), base, name)
}

/// A credential is loaded by a line of its own, or with all files of the folder `secrets`, whose name systemd then puts before it.
fn credential_in(of_service: Option<&Path>, base: &Path, name: &str) -> PathBuf {
    let Some(dir) = of_service else { return base.join("secrets").join(name) };
    let own = dir.join(name);
    if own.exists() { own } else { dir.join(format!("secrets_{name}")) }
}

/// A path from the command line, where `credential:NAME` means the same.
#[must_use]
pub fn credential(path: &Path) -> PathBuf {
    let placed = place(Path::new(ETC), path);
    let is_named = path.to_str().is_some_and(|text| text.starts_with("credential:"));
    match (is_named, placed.file_name()) {
        // By hand, for the control room.
        (true, Some(name)) if !placed.exists() => Path::new(ETC).join("console-secrets").join(name),
        (true, _) => placed,
        (false, _) => path.to_owned(),
    }
}

/// The first line of a file that holds a secret.
///
/// # Errors
/// The file cannot be read; the secret is never part of the message.
pub fn secret(path: &Path) -> anyhow::Result<String> {
    use anyhow::Context as _;
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the secret in {}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests;
