//! `[update]`: who may bring models, and how much they may take.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_with::DeserializeFromStr;

use super::value::{KiB, MiB};
use crate::update::trust::{self, KeyId, Keyring};

/// `[update]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateConfig {
    /// Public keys of minisign's kind (RW…) of those who may sign a release; without one no update is taken.
    #[schemars(with = "Vec<String>")]
    pub keys: Vec<TrustedKey>,
    /// Numbers (16 hexadecimal digits) of keys that are not trusted any more, whatever `keys` says.
    #[schemars(with = "Vec<String>")]
    pub revoked: Vec<RevokedKey>,
    /// Every update waits for the command `approve`, also where its release does not say so.
    pub approve: bool,
    /// Largest bundle.
    pub max_bundle_mib: MiB,
    /// KiB a second at which chunks are fetched at most.
    pub max_kib_per_s: KiB,
    /// Memory that a bundle may use while it proves itself.
    pub max_memory_mib: MiB,
}

impl UpdateConfig {
    /// The keys that are trusted.
    #[must_use]
    pub fn keyring(&self) -> Keyring {
        let keys = self.keys.iter().map(|key| key.0.clone()).collect();
        Keyring::new(keys, self.revoked.iter().map(|key| key.0).collect())
    }
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            revoked: Vec::new(),
            approve: false,
            max_bundle_mib: MiB::of(256),
            max_kib_per_s: KiB::of(1024),
            max_memory_mib: MiB::of(768),
        }
    }
}

/// A public key in the configuration.
#[derive(Debug, Clone, DeserializeFromStr)]
pub struct TrustedKey(pub minisign::PublicKey);

impl Serialize for TrustedKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_base64())
    }
}

impl FromStr for TrustedKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        trust::public_key(text).map(Self).map_err(|e| format!("{e:#}"))
    }
}

/// The number of a key in the configuration.
#[derive(Debug, Clone, Copy, DeserializeFromStr)]
pub struct RevokedKey(pub KeyId);

impl Serialize for RevokedKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl FromStr for RevokedKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        KeyId::new(text).map(Self).map_err(|e| format!("{e:#}"))
    }
}
