//! `[mqtt]`: the broker, and what is published.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{BrokerUrl, KeepAlive, KiB, Name, QosLevel, Window};

/// `[mqtt]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// `mqtt://host:port`, `mqtts://` for TLS, `ws://host:port/path` or `wss://` for WebSocket
    pub url: BrokerUrl,
    /// Client id; `inspectd-SITE-GATEWAY` where none is given.
    #[serde(default)]
    pub client_id: Option<Name>,
    /// Which MQTT is spoken.
    #[serde(default)]
    pub version: ProtocolVersion,
    /// User name.
    #[serde(default)]
    pub user: Option<String>,
    /// File with the password in its first line; `credential:NAME` is a credential of the systemd service.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// With TLS: certificates in PEM of the authorities that may vouch for the broker; those that this machine trusts where none
    /// is given.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// With TLS: our certificate in PEM, for a broker that wants one.
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// The key of `cert_file`, in PEM.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Seconds between signs of life; the broker declares the gateway offline after one and a half of it.
    #[serde(default = "defaults::keep_alive")]
    pub keep_alive_s: KeepAlive,
    /// Messages on their way that the broker has not acknowledged yet.
    #[serde(default = "defaults::window")]
    pub window: Window,
    /// Which inspected frames are published under `results`.
    #[serde(default)]
    pub results: ResultsMode,
    /// QoS of `results`: 0 or 1.
    #[serde(default)]
    pub results_qos: QosLevel,
    /// The prefix under which the gateway makes itself known to Home Assistant (there `homeassistant`); not at all where none is given.
    #[serde(default)]
    pub home_assistant: Option<Name>,
    /// Largest packet, in KiB; larger messages are set aside and counted.
    #[serde(default = "defaults::packet")]
    pub max_packet_kib: KiB,
}

/// Which MQTT is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ProtocolVersion {
    /// 5 where the broker does, else 3.1.1.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// 5 or nothing.
    #[serde(rename = "5")]
    V5,
    /// 3.1.1
    #[serde(rename = "3.1.1")]
    V3,
}

/// Which inspected frames are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResultsMode {
    /// None.
    #[default]
    Off,
    /// One a second and camera.
    Sampled,
    /// Those with a finding or without a verdict.
    Defects,
    /// All.
    All,
}

mod defaults {
    use crate::config::value::{KeepAlive, KiB, Window};

    pub fn keep_alive() -> KeepAlive {
        KeepAlive::of(30)
    }
    pub fn window() -> Window {
        Window::of(32)
    }
    pub fn packet() -> KiB {
        KiB::of(1024)
    }
}
