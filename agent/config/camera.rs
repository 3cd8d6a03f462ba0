//! `[[cameras]]`: what each kind of source needs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use toml::Spanned;

use super::HealthConfig;
use super::genicam::{GenicamSource, TriggerMode};
use super::own::OwnModel;
use super::trigger::TriggerConfig;
use super::value::{Density, FourCc, Name, Rate, RtspUrl, Seconds, Sensitivity, Side, Speed};
use crate::frame::scene::SceneKind;
use crate::frame::view::{Flip, Lens, Outline, Rotation, Turn, View};

/// Masks of a camera.
const MASKS: usize = 24;

/// One camera.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CameraConfig {
    /// A level of its topics, unique on the gateway.
    #[schemars(with = "Name")]
    pub name: Spanned<Name>,
    /// Where its pictures come from.
    pub source: SourceConfig,
    /// At most this many pictures a second are inspected.
    #[serde(default)]
    pub fps: Option<Rate>,
    /// Only this part of the captured frame is inspected, a rectangle or polygon in shares of its sides; all where none is given.
    #[serde(default)]
    pub roi: Option<Outline>,
    /// Parts of it that are not inspected.
    #[serde(default)]
    pub masks: Vec<Outline>,
    /// What the lens does to the picture, as a calibration has found it.
    #[serde(default)]
    pub lens: Option<Lens>,
    /// Degrees by which the picture is turned clockwise before it is inspected.
    #[serde(default)]
    pub rotate: Rotation,
    /// How it is mirrored after that.
    #[serde(default)]
    pub flip: Option<Flip>,
    /// More finds more, at the price of more false alarms.
    #[serde(default = "neutral")]
    pub sensitivity: Sensitivity,
    /// The product that it looks at when the agent starts, each with a memory of its own; the one that was last commanded
    /// where none is given.
    #[serde(default)]
    pub product: Option<Name>,
    /// Only these of the model's classes are found here: names, in which * is any text. With an empty list none of them is, and the check
    /// for what nobody has labelled is alone.
    #[serde(default = "all")]
    pub classes: Vec<String>,
    /// A model of its own; that of the gateway where none is given.
    #[serde(default)]
    pub model: Option<OwnModel>,
    /// Which of its pictures are inspected; all where nothing is said.
    #[serde(default)]
    pub trigger: Option<TriggerConfig>,
    /// A source that gives nothing for this long hangs and is opened again.
    #[serde(default = "hang")]
    pub hang_timeout_s: Seconds,
    /// What is looked for in the picture itself: frozen, dark, out of focus …
    #[serde(default)]
    pub health: HealthConfig,
}

/// Names of all classes.
fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

fn neutral() -> Sensitivity {
    Sensitivity::of(1.0)
}

fn hang() -> Seconds {
    Seconds::of(15.0)
}

impl CameraConfig {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.get_ref().as_str()
    }

    /// How its picture is looked at.
    #[must_use]
    pub fn view(&self) -> View {
        View::new(self.roi.as_ref(), &self.masks, Turn::new(self.rotate, self.flip), self.lens.clone())
    }

    /// What its keys say together that none of them may.
    pub(super) fn contradiction(&self) -> Option<(&'static str, String)> {
        if self.masks.len() > MASKS {
            return Some(("masks", format!("there are {}, and {MASKS} at most are possible", self.masks.len())));
        }
        self.view()
            .is_blind()
            .then(|| ("masks", "they leave nothing of the frame, or of its roi, to be inspected".into()))
    }

    /// What is looked for in its picture itself, where that is watched.
    #[must_use]
    pub fn watched(&self) -> Option<&HealthConfig> {
        let is_real = matches!(self.source, SourceConfig::V4l2(_) | SourceConfig::Rtsp(_) | SourceConfig::Genicam(_));
        self.health.enabled.unwrap_or(is_real).then_some(&self.health)
    }

    /// A camera with every default.
    #[must_use]
    pub fn new(name: Name, source: SourceConfig) -> Self {
        Self {
            name: Spanned::new(0..0, name),
            source,
            fps: None,
            roi: None,
            masks: Vec::new(),
            lens: None,
            rotate: Rotation::default(),
            flip: None,
            sensitivity: neutral(),
            product: None,
            classes: all(),
            model: None,
            trigger: None,
            hang_timeout_s: hang(),
            health: HealthConfig::default(),
        }
    }
}

/// Where pictures come from: exactly one of these.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceConfig {
    /// A folder of still pictures.
    Folder(FolderSource),
    /// A video file.
    Video(VideoSource),
    /// A Video4Linux device (USB cameras, frame grabbers).
    V4l2(V4l2Source),
    /// A network camera.
    Rtsp(RtspSource),
    /// A GigE Vision or USB3 Vision camera.
    Genicam(Box<GenicamSource>),
    /// Generated steel or circuit boards with defects.
    Synthetic(SyntheticSource),
}

impl SourceConfig {
    /// The key.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Folder(_) => "folder",
            Self::Video(_) => "video",
            Self::V4l2(_) => "v4l2",
            Self::Rtsp(_) => "rtsp",
            Self::Genicam(_) => "genicam",
            Self::Synthetic(_) => "synthetic",
        }
    }

    /// How long the source may block by its own time-outs, on top of which it hangs.
    #[must_use]
    pub fn own_timeout(&self) -> Duration {
        match self {
            Self::V4l2(v4l2) => Duration::from_secs_f64(v4l2.read_timeout_s.get()),
            Self::Rtsp(rtsp) => Duration::from_secs_f64(rtsp.open_timeout_s.get().max(rtsp.read_timeout_s.get())),
            Self::Genicam(genicam) => genicam.own_timeout(),
            _ => Duration::ZERO,
        }
    }

    /// Whether pictures come only when something asks the camera for them.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        matches!(self, Self::Genicam(genicam) if genicam.trigger != TriggerMode::FreeRun)
    }

    /// Whether a signal at the camera itself exposes each picture.
    #[must_use]
    pub fn is_exposed_by_line(&self) -> bool {
        matches!(self, Self::Genicam(genicam) if genicam.trigger == TriggerMode::Line)
    }

    /// What decides what its pictures show: not how long it is waited for, nor who it is asked as.
    #[must_use]
    pub fn scene(&self) -> serde_json::Value {
        match self {
            Self::Folder(folder) => json!({"folder": folder.path, "list": folder.list}),
            Self::Video(video) => json!({"video": video.path}),
            Self::V4l2(v4l2) => json!({
                "v4l2": v4l2.device,
                "size": [v4l2.width, v4l2.height],
                "format": v4l2.format,
                "controls": v4l2.controls,
            }),
            Self::Rtsp(rtsp) => json!({"rtsp": rtsp.url}),
            Self::Genicam(genicam) => json!({
                "genicam": genicam.camera,
                "region": json!([genicam.offset_x, genicam.offset_y, genicam.width, genicam.height]),
                "format": genicam.pixel_format,
                "light": json!([genicam.exposure_us, genicam.exposure_auto, genicam.gain, genicam.gain_auto]),
                "features": genicam.features,
            }),
            Self::Synthetic(scene) => json!({"synthetic": scene}),
        }
    }

    /// A key that contradicts another one, and what would be right.
    pub(super) fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Genicam(genicam) => genicam.contradiction(),
            _ => None,
        }
    }

    /// Files and devices that it names.
    pub fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Folder(folder) => std::iter::once(&mut folder.path).chain(&mut folder.list).collect(),
            Self::Video(video) => vec![&mut video.path],
            Self::V4l2(v4l2) => vec![&mut v4l2.device],
            Self::Rtsp(rtsp) => rtsp.password_file.iter_mut().collect(),
            Self::Genicam(_) | Self::Synthetic(_) => Vec::new(),
        }
    }
}

/// `source.folder`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FolderSource {
    /// The folder; folders in it are looked into as well.
    pub path: PathBuf,
    /// A file with one path a line, relative to `path`: only these, in this order.
    #[serde(default)]
    pub list: Option<PathBuf>,
    /// After the last picture begin again; otherwise wait for new files.
    #[serde(default, rename = "loop")]
    pub repeat: bool,
    /// Pictures a second.
    #[serde(default = "folder_rate")]
    pub rate: Rate,
}

fn folder_rate() -> Rate {
    Rate::of(2.0)
}

impl Default for FolderSource {
    fn default() -> Self {
        Self { path: PathBuf::new(), list: None, repeat: false, rate: folder_rate() }
    }
}

/// `source.video`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VideoSource {
    /// The file, in any format that FFmpeg reads.
    pub path: PathBuf,
    /// At its end begin again at once; otherwise after the pause that every source gets that has ended.
    #[serde(default, rename = "loop")]
    pub repeat: bool,
}

/// `source.v4l2`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct V4l2Source {
    /// `/dev/video0` or, better since it stays the same, a name under `/dev/v4l/by-id`.
    pub device: PathBuf,
    /// Pixels a row.
    #[serde(default)]
    pub width: Option<Side>,
    /// Rows.
    #[serde(default)]
    pub height: Option<Side>,
    /// Four letters, for instance MJPG or YUYV.
    #[serde(default)]
    pub format: Option<FourCc>,
    /// Pictures a second that the camera takes.
    #[serde(default)]
    pub fps: Option<Rate>,
    /// Values of controls, by the names that `v4l2-ctl --list-ctrls` prints; set in this order by name.
    #[serde(default)]
    pub controls: BTreeMap<String, i64>,
    /// A camera that sends nothing for this time is given up. Longer for one that is triggered.
    #[serde(default = "v4l2_read")]
    pub read_timeout_s: Seconds,
}

fn v4l2_read() -> Seconds {
    Seconds::of(5.0)
}

/// `source.rtsp`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RtspSource {
    /// `rtsp://host[:port]/path`, without user and password.
    pub url: RtspUrl,
    /// How the pictures travel.
    #[serde(default)]
    pub transport: RtspTransport,
    /// User name.
    #[serde(default)]
    pub user: Option<String>,
    /// File with the password in its first line.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// A server that does not answer in this time is given up.
    #[serde(default = "rtsp_open")]
    pub open_timeout_s: Seconds,
    /// A stream that sends nothing for this time is given up.
    #[serde(default = "rtsp_read")]
    pub read_timeout_s: Seconds,
}

/// How the pictures of an RTSP stream travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RtspTransport {
    /// In the connection of the commands: nothing is lost, and what is late holds up what follows.
    #[default]
    Tcp,
    /// Packets of their own: what is late is lost.
    Udp,
}

fn rtsp_open() -> Seconds {
    Seconds::of(5.0)
}

fn rtsp_read() -> Seconds {
    Seconds::of(5.0)
}

impl RtspSource {
    /// The host, for messages: without path, user and password.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.as_str().split('/').nth(2).unwrap_or_default()
    }

    /// The address with user and password. It must not reach a log.
    ///
    /// # Errors
    /// The password file cannot be read.
    pub fn full_url(&self) -> Result<String> {
        let Some(user) = &self.user else { return Ok(self.url.to_string()) };
        let password = match &self.password_file {
            Some(path) => super::secret(path)?,
            None => String::new(),
        };
        let encode = |text: &str| {
            text.bytes().fold(String::new(), |mut out, b| {
                if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                    out.push(char::from(b));
                } else {
                    let _ = write!(out, "%{b:02X}");
                }
                out
            })
        };
        let (scheme, rest) = self.url.as_str().split_once("://").context("the address has no scheme")?;
        Ok(format!("{scheme}://{}:{}@{rest}", encode(user), encode(&password)))
    }
}

/// `source.synthetic`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SyntheticSource {
    /// What moves past the camera.
    pub scene: SceneKind,
    /// Pixels a row.
    pub width: Side,
    /// Rows.
    pub height: Side,
    /// The same seed gives the same pictures.
    pub seed: u64,
    /// How far the material moves between two pictures.
    pub speed: Speed,
    /// Defects that come into view, per frame on average.
    pub defects_per_frame: Density,
    /// Pictures a second.
    pub rate: Rate,
}

impl Default for SyntheticSource {
    fn default() -> Self {
        Self {
            scene: SceneKind::default(),
            width: Side::of(640),
            height: Side::of(480),
            seed: 1,
            speed: Speed::of(24.0),
            defects_per_frame: Density::of(0.02),
            rate: Rate::of(10.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_camera_shows_does_not_hang_on_how_it_is_reached() {
        let source = |text: &str| toml::from_str::<SourceConfig>(text).unwrap().scene();
        let usual = source("rtsp = { url = \"rtsp://host/line\" }");
        assert_eq!(usual, source("rtsp = { url = \"rtsp://host/line\", user = \"u\", read_timeout_s = 9.0 }"));
        assert_ne!(usual, source("rtsp = { url = \"rtsp://host/other\" }"));
        let usual = source("genicam = { camera = \"a\" }");
        assert_eq!(
            usual,
            source("genicam = { camera = \"a\", buffers = 9, packet_size = 1500, trigger = \"software\" }")
        );
        assert_ne!(usual, source("genicam = { camera = \"a\", exposure_us = 900.0 }"));
        assert_ne!(usual, source("genicam = { camera = \"a\", offset_x = 16 }"));
    }
}
