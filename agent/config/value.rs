//! Values with a range: a number outside it is refused where it stands, with the range in the message.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

macro_rules! ranged {
    ($(#[$doc:meta])* $name:ident, $number:ty, $low:literal, $high:literal, $unit:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize)]
        pub struct $name($number);

        impl $name {
            /// A value known to be right, for defaults and tests; one outside the range is brought to its edge.
            #[must_use]
            pub const fn of(value: $number) -> Self {
                if value < $low { Self($low) } else if value > $high { Self($high) } else { Self(value) }
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> $number {
                self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = <$number>::deserialize(deserializer)?;
                if ($low..=$high).contains(&value) {
                    Ok(Self(value))
                } else {
                    Err(D::Error::custom(format!("{value} is out of range: {} to {} {}", $low, $high, $unit)))
                }
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "number", "minimum": $low, "maximum": $high })
            }
        }
    };
}

ranged!(/// Pictures a second.
    Rate, f64, 0.001, 1000.0, "a second");
ranged!(/// A span of time.
    Seconds, f64, 0.1, 86400.0, "seconds");
ranged!(/// A span of time.
    Milliseconds, f64, 0.1, 60_000.0, "milliseconds");
ranged!(/// A span of time, or none.
    DeadTime, f64, 0.0, 86400.0, "seconds");
ranged!(/// A span of time, at most a week.
    Minutes, f64, 0.01, 10080.0, "minutes (a week at most)");
ranged!(/// A length in a frame.
    Pixels, f64, 0.0, 100_000.0, "pixels");
ranged!(/// A share.
    Fraction, f64, 0.0, 1.0, "");
ranged!(/// A rare event's share.
    Probability, f64, 0.000_001, 0.5, "(0.001 is one in a thousand)");
ranged!(/// How far below or above the calibrated threshold a camera alarms; 1 is neutral.
    Sensitivity, f64, 0.1, 10.0, "(1 is neutral, more finds more)");
ranged!(/// How many.
    Count, u64, 1, 10_000_000, "");
ranged!(/// Messages on their way.
    Window, u64, 1, 512, "messages");
ranged!(/// Seconds between signs of life.
    KeepAlive, u64, 5, 3600, "whole seconds");
ranged!(/// Pictures that may wait; none where it is 0.
    Queue, i64, 0, 64, "pictures");
ranged!(/// Frames.
    Frames, u64, 1, 64, "frames");
ranged!(/// Alarms of a camera at a time.
    MaxActive, u64, 1, 1000, "alarms");
ranged!(/// Threads.
    Threads, u64, 1, 64, "threads");
ranged!(/// 1,024 bytes.
    KiB, u64, 64, 262_144, "KiB");
ranged!(/// 1,048,576 bytes.
    MiB, u64, 1, 1_048_576, "MiB");
ranged!(/// Millions of pixels.
    Megapixels, u64, 1, 1000, "megapixels");
ranged!(/// 0 or 1.
    QosLevel, i64, 0, 1, "");
ranged!(/// Pixels a frame.
    Speed, f64, 0.0, 10_000.0, "px a frame");
ranged!(/// Defects a frame.
    Density, f64, 0.0, 10.0, "defects a frame");
ranged!(/// Side of a network's input.
    InputSide, u32, 32, 4096, "px");
ranged!(/// Sides of a generated picture.
    Side, u32, 64, 8192, "px");

ranged!(/// A length of time that a sensor is exposed.
    Exposure, f64, 0.1, 1_000_000_000.0, "microseconds");
ranged!(/// An amplification.
    Gain, f64, -100.0, 100_000.0, "dB (or the camera's own steps)");
ranged!(/// A side of a region of a sensor.
    Extent, u32, 1, 65_535, "px");
ranged!(/// Where a region of a sensor begins.
    Offset, i64, 0, 65_535, "px");
ranged!(/// A pause between two packets.
    PacketDelay, f64, 0.0, 100_000.0, "microseconds");
ranged!(/// Buffers of a camera.
    Buffers, u64, 2, 256, "buffers");

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $pattern:literal, $check:expr, $right:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// What is wrong with it, and what would be right.
            pub fn new(text: &str) -> Result<Self, String> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else if text.contains('@') {
                    // It may hold a password, which must not reach a log.
                    Err(format!("it is wrong: {}", $right))
                } else {
                    Err(format!("\"{}\" is wrong: {}", text.escape_debug(), $right))
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text!(/// A level of a topic.
    Name, "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$",
    |t| (1..=64).contains(&t.len())
        && !t.starts_with('.')
        && t.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)),
    "1 to 64 letters, digits, '.', '-' or '_', no '.' first, since it becomes a level of MQTT topics");
text!(/// A class of findings: names with '/' between them, by which it also becomes levels of MQTT topics.
    ClassName, "^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$",
    |t| t.len() <= 64 && t.split('/').all(|level| Name::new(level).is_ok()),
    "letters, digits, '.', '-' and '_', with '/' between its parts, at most 64; for instance steel/dent");
text!(/// A pixel format as Video4Linux names it.
    FourCc, "^[ -~]{4}$",
    |t| t.len() == 4 && t.bytes().all(|b| (b' '..=b'~').contains(&b)),
    "four letters, for instance MJPG or YUYV (`v4l2-ctl --list-formats`)");
text!(/// By what a GenICam camera is known.
    DeviceKey, "^[!-~]([ -~]{0,198}[!-~])?$",
    |t| (1..=200).contains(&t.len()) && t.bytes().all(|b| (b' '..=b'~').contains(&b)) && t.trim() == t,
    "the camera's id (Vendor-Model-Serial), serial number, MAC or IP address, as `inspectd cameras list` shows them");
text!(/// A name out of a camera's GenICam description, or an entry of one of its enumerations.
    FeatureName, "^[A-Za-z_][A-Za-z0-9_]{0,127}$",
    |t| (1..=128).contains(&t.len())
        && !t.starts_with(|c: char| c.is_ascii_digit())
        && t.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
    "a name as GenICam spells it: letters, digits and '_', for instance GammaEnable or RisingEdge");
text!(/// The address of a stream, without secrets.
    RtspUrl, "^rtsps?://[^@/]+(/.*)?$",
    |t| t.split_once("://").is_some_and(|(scheme, rest)| {
        let host = rest.split('/').next().unwrap_or("");
        let printable = t.chars().all(|c| !c.is_control());
        matches!(scheme, "rtsp" | "rtsps") && !host.is_empty() && !host.contains('@') && printable
    }),
    "write rtsp://HOST[:PORT]/PATH; user and password go into `user` and `password_file`");
text!(/// The address of a broker, without secrets.
    BrokerUrl, "^(mqtts?://[^@/]+/?|wss?://[^@/]+(/[^@]*)?)$",
    |t| address(t).is_some(),
    "write mqtt://HOST[:PORT], mqtts:// for TLS, ws://HOST[:PORT]/PATH or wss:// for WebSocket; user and password go into \
     `user` and `password_file`");

impl BrokerUrl {
    /// Host and port.
    #[must_use]
    pub fn address(&self) -> (String, u16) {
        let (_, host, port) = address(&self.0).unwrap_or_default(); // checked when it was made
        (host, port)
    }

    /// How to speak with it.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        address(&self.0).map(|(scheme, ..)| scheme).unwrap_or_default()
    }
}

/// How to speak with a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    /// Plain TCP.
    #[default]
    Mqtt,
    /// TLS.
    Mqtts,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Scheme {
    /// Whether it is encrypted.
    #[must_use]
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss)
    }
}

/// Scheme, host and port of a broker's URL; the usual port where none is given.
fn address(url: &str) -> Option<(Scheme, String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let (scheme, usual) = match scheme {
        "mqtt" => (Scheme::Mqtt, 1883),
        "mqtts" => (Scheme::Mqtts, 8883),
        "ws" => (Scheme::Ws, 80),
        "wss" => (Scheme::Wss, 443),
        _ => return None,
    };
    let (rest, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !rest.ends_with(']') => (host, port.parse().ok()?),
        _ => (rest, usual),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let has_path = matches!(scheme, Scheme::Ws | Scheme::Wss);
    (!host.is_empty() && !url.contains('@') && (has_path || path.is_empty())).then(|| (scheme, host.to_owned(), port))
}
