//! `source.genicam`: a GigE Vision or USB3 Vision camera, and what is to be set in it.
//!
//! What is not given here stays as the camera has it, but for the trigger and AcquisitionMode, which decide whether
//! pictures come at all.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::value::{Buffers, DeviceKey, Exposure, Extent, FeatureName, Gain, Offset, PacketDelay, Rate, Seconds};

/// How long opening may take: looking for the camera, its description, some hundred registers.
const OPENING: Duration = Duration::from_secs(20);

/// `source.genicam`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenicamSource {
    /// Its id (`Vendor-Model-Serial`), serial number, MAC or IP address, as `inspectd cameras list` shows them.
    pub camera: DeviceKey,
    /// As the camera spells it: Mono8, Mono10, Mono12p, `BayerRG8`, RGB8 …
    #[serde(default)]
    pub pixel_format: Option<FeatureName>,
    /// Pixels a row.
    #[serde(default)]
    pub width: Option<Extent>,
    /// Rows.
    #[serde(default)]
    pub height: Option<Extent>,
    /// The first column; 0 where only `width` is given.
    #[serde(default)]
    pub offset_x: Option<Offset>,
    /// The first row; 0 where only `height` is given.
    #[serde(default)]
    pub offset_y: Option<Offset>,
    /// Exposure time; switches `ExposureAuto` off.
    #[serde(default)]
    pub exposure_us: Option<Exposure>,
    /// Exposure by the camera itself.
    #[serde(default)]
    pub exposure_auto: Option<Auto>,
    /// Gain in dB, or in the camera's own steps where it knows no dB; switches `GainAuto` off.
    #[serde(default)]
    pub gain: Option<Gain>,
    /// Gain by the camera itself.
    #[serde(default)]
    pub gain_auto: Option<Auto>,
    /// Pictures a second that the camera takes in free run.
    #[serde(default)]
    pub frame_rate: Option<Rate>,
    /// What makes it take a picture.
    #[serde(default)]
    pub trigger: TriggerMode,
    /// With `line`: where the signal comes in.
    #[serde(default)]
    pub trigger_source: Option<FeatureName>,
    /// With `line`: `RisingEdge` (where none is given), `FallingEdge`, `AnyEdge`, `LevelHigh` or `LevelLow`.
    #[serde(default)]
    pub trigger_activation: Option<FeatureName>,
    /// GigE Vision: bytes a packet; `auto` tries out which is the largest that arrives.
    #[serde(default)]
    pub packet_size: PacketSize,
    /// GigE Vision: pause between two packets, for cameras that share a link.
    #[serde(default)]
    pub packet_delay_us: Option<PacketDelay>,
    /// GigE Vision: whether lost packets are asked for again.
    #[serde(default = "yes")]
    pub resend: bool,
    /// Pictures that may be on their way from the camera to the agent.
    #[serde(default = "buffers")]
    pub buffers: Buffers,
    /// In free run, a camera that sends nothing for this long is opened again.
    #[serde(default = "frame_timeout")]
    pub frame_timeout_s: Seconds,
    /// Data that the camera appends to each picture, by the entries of its `ChunkSelector`.
    #[serde(default)]
    pub chunks: Vec<FeatureName>,
    /// Any other features by their own names, set in this order before everything else.
    #[serde(default)]
    pub features: Features,
}

fn yes() -> bool {
    true
}

fn buffers() -> Buffers {
    Buffers::of(8)
}

fn frame_timeout() -> Seconds {
    Seconds::of(5.0)
}

impl GenicamSource {
    /// This camera, with everything as it is.
    #[must_use]
    pub fn new(camera: DeviceKey) -> Self {
        Self {
            camera,
            pixel_format: None,
            width: None,
            height: None,
            offset_x: None,
            offset_y: None,
            exposure_us: None,
            exposure_auto: None,
            gain: None,
            gain_auto: None,
            frame_rate: None,
            trigger: TriggerMode::FreeRun,
            trigger_source: None,
            trigger_activation: None,
            packet_size: PacketSize::Auto,
            packet_delay_us: None,
            resend: true,
            buffers: buffers(),
            frame_timeout_s: frame_timeout(),
            chunks: Vec::new(),
            features: Features::default(),
        }
    }

    pub(super) fn own_timeout(&self) -> Duration {
        OPENING.max(Duration::from_secs_f64(self.frame_timeout_s.get()))
    }

    pub(super) fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        let runs = |auto: Option<Auto>| auto.is_some_and(|auto| auto != Auto::Off);
        let line = self.trigger == TriggerMode::Line;
        if self.exposure_us.is_some() && runs(self.exposure_auto) {
            Some(("exposure_us", "the camera cannot keep to it while exposure_auto runs: give one of the two"))
        } else if self.gain.is_some() && runs(self.gain_auto) {
            Some(("gain", "the camera cannot keep to it while gain_auto runs: give one of the two"))
        } else if self.frame_rate.is_some() && self.trigger != TriggerMode::FreeRun {
            Some(("frame_rate", "is for trigger = \"free_run\": with a trigger, the trigger sets the pace"))
        } else if line && self.trigger_source.is_none() {
            Some(("trigger_source", "is missing: trigger = \"line\" needs the line, for instance \"Line0\""))
        } else if !line && (self.trigger_source.is_some() || self.trigger_activation.is_some()) {
            Some(("trigger_source", "and trigger_activation are for trigger = \"line\""))
        } else {
            None
        }
    }
}

/// Who chooses a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auto {
    /// The value that was set.
    Off,
    /// The camera, once.
    Once,
    /// The camera, all the time.
    Continuous,
}

/// What makes a camera take a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriggerMode {
    /// The camera itself, one after the other.
    #[default]
    FreeRun,
    /// A signal on one of its lines.
    Line,
    /// The agent.
    Software,
}

/// Bytes a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PacketSize {
    /// The largest that arrives.
    #[default]
    Auto,
    /// This many, with the headers of IP, UDP and GVSP.
    Bytes(u16),
}

impl<'de> Deserialize<'de> for PacketSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = PacketSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\", or 576 to 16000 bytes")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<PacketSize, E> {
                if text == "auto" { Ok(PacketSize::Auto) } else { Err(E::invalid_value(text_of(text), &self)) }
            }
            fn visit_i64<E: Error>(self, bytes: i64) -> Result<PacketSize, E> {
                let size = u16::try_from(bytes).ok().filter(|bytes| (576..=16_000).contains(bytes));
                size.map(PacketSize::Bytes).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Signed(bytes), &self))
            }
        }
        deserializer.deserialize_any(Size)
    }
}

fn text_of(text: &str) -> serde::de::Unexpected<'_> {
    serde::de::Unexpected::Str(text)
}

impl Serialize for PacketSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Bytes(bytes) => serializer.serialize_u16(*bytes),
        }
    }
}

impl JsonSchema for PacketSize {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "PacketSize".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 576, "maximum": 16_000 }] })
    }
}

/// A value for a feature.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FeatureValue {
    /// For a boolean, and for a command that is to be executed.
    Bool(bool),
    /// For an integer or a float.
    Integer(i64),
    /// For a float.
    Float(f64),
    /// An entry of an enumeration, or a text.
    Text(String),
}

impl fmt::Display for FeatureValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "\"{}\"", value.escape_debug()),
        }
    }
}

impl<'de> Deserialize<'de> for FeatureValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl Visitor<'_> for Value {
            type Value = FeatureValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, a number or a text")
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<FeatureValue, E> {
                Ok(FeatureValue::Bool(value))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<FeatureValue, E> {
                Ok(FeatureValue::Integer(value))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<FeatureValue, E> {
                Ok(FeatureValue::Float(value))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<FeatureValue, E> {
                // GLib ends a text at the first zero.
                if value.contains('\0') { Err(E::custom("a zero byte")) } else { Ok(FeatureValue::Text(value.into())) }
            }
        }
        deserializer.deserialize_any(Value)
    }
}

/// Features in the order of the file.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Features(pub Vec<(FeatureName, FeatureValue)>);

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = Features;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of features and their values, for instance { GammaEnable = true }")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Features, A::Error> {
                let mut features = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    features.push(entry);
                }
                Ok(Features(features))
            }
        }
        deserializer.deserialize_map(Table)
    }
}

impl JsonSchema for Features {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Features".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object", "additionalProperties": { "type": ["boolean", "number", "string"] }
        })
    }
}
