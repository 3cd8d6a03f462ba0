//! `[cameras.health]`: what is looked for in the picture itself, whatever it shows.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{Count, Fraction, Pixels, Seconds};
use crate::health::Fault;

/// `cameras.health`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// Whether the picture is watched at all; where nothing is said, that of a real camera is, and one out of a file or made up is
    /// not.
    pub enabled: Option<bool>,
    /// Faults that are not looked for here.
    pub off: BTreeSet<Fault>,
    /// Seconds for which the very same picture must stand, and
    pub frozen_after_s: Seconds,
    /// how many times in a row it must come, before the camera counts as frozen.
    pub frozen_after_frames: Count,
    /// Dark is what has less than this share of the camera's usual brightness.
    pub dark_below: Fraction,
    /// Overexposed is where this share of the pixels is saturated, on top of what usually is.
    pub overexposed_above: Fraction,
    /// Defocused is where edges are steep by less than this share of what is usual.
    pub defocused_below: Fraction,
    /// Moved is where the picture lies further than this from where it was learned, in pixels of the frame.
    pub moved_above_px: Pixels,
    /// Dirty is where a spot takes away this share of the light.
    pub dirty_above: Fraction,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            enabled: None,
            off: BTreeSet::new(),
            frozen_after_s: Seconds::of(10.0),
            frozen_after_frames: Count::of(10),
            dark_below: Fraction::of(0.6),
            overexposed_above: Fraction::of(0.15),
            defocused_below: Fraction::of(0.9),
            moved_above_px: Pixels::of(1.5),
            dirty_above: Fraction::of(0.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_the_default_and_what_is_unknown_is_refused() {
        let config: HealthConfig = toml::from_str("off = [\"moved\", \"dirty\"]").unwrap();
        assert_eq!(config, HealthConfig { off: [Fault::Moved, Fault::Dirty].into(), ..HealthConfig::default() });
        for wrong in ["off = [\"wet\"]", "dark_below = 1.5", "frozen = 3"] {
            assert!(toml::from_str::<HealthConfig>(wrong).is_err(), "{wrong}");
        }
    }
}
