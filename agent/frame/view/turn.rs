//! Quarter turns and mirroring.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// Degrees by which a picture is turned clockwise: 0, 90, 180 or 270.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Rotation(u16);

impl Rotation {
    /// # Errors
    /// It is no quarter turn.
    pub fn new(degrees: i64) -> Result<Self, String> {
        match degrees {
            0 | 90 | 180 | 270 => Ok(Self(degrees as u16)),
            _ => Err(format!("{degrees} is none of 0, 90, 180, 270, the degrees to turn the picture clockwise")),
        }
    }
}

impl<'de> Deserialize<'de> for Rotation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(i64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Rotation {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Rotation".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "enum": [0, 90, 180, 270] })
    }
}

/// Which sides of a picture change places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Flip {
    /// Left and right.
    Horizontal,
    /// Top and bottom.
    Vertical,
}

/// A rotation and then a flip, as one: any of the eight ways in which a rectangle can lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Rows become columns.
    pub swap: bool,
    /// After that, which of the axes (x, y) runs backwards.
    pub mirror: [bool; 2],
}

impl Turn {
    /// The rotation first, the flip second.
    #[must_use]
    pub fn new(rotation: Rotation, flip: Option<Flip>) -> Self {
        let (swap, mut mirror) = match rotation.0 {
            90 => (true, [true, false]),
            180 => (false, [true, true]),
            270 => (true, [false, true]),
            _ => (false, [false, false]),
        };
        match flip {
            Some(Flip::Horizontal) => mirror[0] = !mirror[0],
            Some(Flip::Vertical) => mirror[1] = !mirror[1],
            None => {}
        }
        Self { swap, mirror }
    }

    /// A pair of one value an axis, as it is after the turn, or before it.
    #[must_use]
    pub fn pair<T: Copy>(self, [x, y]: [T; 2]) -> [T; 2] {
        if self.swap { [y, x] } else { [x, y] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarter_turns() {
        let turn = |degrees, flip| Turn::new(Rotation::new(degrees).unwrap(), flip);
        assert_eq!(turn(0, None), Turn::default());
        // To turn upside down is to mirror both ways.
        assert_eq!(turn(180, Some(Flip::Vertical)), turn(0, Some(Flip::Horizontal)));
        // Turned and mirrored, left and right of the one are top and bottom of the other.
        assert_eq!(turn(90, Some(Flip::Horizontal)), turn(270, Some(Flip::Vertical)));
        assert!(Rotation::new(45).unwrap_err().contains("none of 0, 90, 180, 270"));
    }
}
