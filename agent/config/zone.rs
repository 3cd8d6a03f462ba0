//! A part of the frame in which findings count, or do not.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Corners of a zone.
const CORNERS: std::ops::RangeInclusive<usize> = 3..=64;

/// A rectangle or polygon, in shares of the frame's sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Zone(Vec<[f32; 2]>);

impl Zone {
    /// A zone with these corners.
    ///
    /// # Errors
    /// Too few, too many, or a corner outside the frame.
    pub fn new(corners: Vec<[f32; 2]>) -> Result<Self, String> {
        if !CORNERS.contains(&corners.len()) {
            return Err(format!(
                "{} corners, where {} to {} are wanted",
                corners.len(),
                CORNERS.start(),
                CORNERS.end()
            ));
        }
        match corners.iter().flatten().find(|v| !(0.0..=1.0).contains(*v)) {
            Some(v) => Err(format!("{v} is not a share of the frame's side, from 0 to 1")),
            None => Ok(Self(corners)),
        }
    }

    /// From each corner to the next.
    pub fn sides(&self) -> impl Iterator<Item = ([f32; 2], [f32; 2])> {
        self.0.iter().copied().zip(self.0.iter().copied().cycle().skip(1))
    }

    /// Whether a point lies in it (by the crossings of a ray: Shimrat 1962). A point on its edge may be either.
    #[must_use]
    pub fn holds(&self, [x, y]: [f32; 2]) -> bool {
        let crossings = self
            .sides()
            .filter(|(a, b)| (a[1] > y) != (b[1] > y) && x < a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]));
        crossings.count() % 2 == 1
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Ok([x0, y0, x1, y1]) = serde_json::from_value::<[f32; 4]>(value.clone()) {
            return Self::new(vec![[x0, y0], [x1, y0], [x1, y1], [x0, y1]]).map_err(D::Error::custom);
        }
        let corners = serde_json::from_value(value).map_err(|_| {
            D::Error::custom(
                "write [x0, y0, x1, y1] for a rectangle or [[x, y], [x, y], [x, y], …] for a polygon, in shares of the \
                 frame's sides",
            )
        })?;
        Self::new(corners).map_err(D::Error::custom)
    }
}

impl JsonSchema for Zone {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Zone".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let share = json_schema!({ "type": "number", "minimum": 0, "maximum": 1 });
        let corner = json_schema!({ "type": "array", "minItems": 2, "maxItems": 2, "items": share });
        json_schema!({ "oneOf": [
            { "type": "array", "minItems": 4, "maxItems": 4, "items": share },
            { "type": "array", "minItems": CORNERS.start(), "maxItems": CORNERS.end(), "items": corner },
        ] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone(text: &str) -> Result<Zone, String> {
        #[derive(Deserialize)]
        struct Holder {
            zone: Zone,
        }
        toml::from_str::<Holder>(&format!("zone = {text}")).map(|h| h.zone).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn rectangles_and_polygons() {
        let left = zone("[0.0, 0.0, 0.5, 1.0]").unwrap();
        assert!(left.holds([0.2, 0.9]) && !left.holds([0.7, 0.5]));
        // An L: what is cut out of the square is outside.
        let corner = zone("[[0, 0], [1, 0], [1, 0.5], [0.5, 0.5], [0.5, 1], [0, 1]]").unwrap();
        assert!(corner.holds([0.25, 0.75]) && corner.holds([0.75, 0.25]) && !corner.holds([0.75, 0.75]));
        for (text, message) in [
            ("[[0, 0], [1, 0]]", "2 corners"),
            ("[0.0, 0.0, 5.0, 1.0]", "5 is not a share"),
            ("\"left\"", "write [x0, y0, x1, y1]"),
        ] {
            assert!(zone(text).unwrap_err().contains(message), "{text}: {:?}", zone(text));
        }
    }

    proptest! {
        #[test]
        fn a_rectangle_holds_what_lies_between_its_sides(
            a in prop::array::uniform2(0.0_f32..0.5), b in prop::array::uniform2(0.5_f32..1.0), p in prop::array::uniform2(0.0_f32..1.0),
        ) {
            let zone = Zone::new(vec![a, [b[0], a[1]], b, [a[0], b[1]]]).unwrap();
            let between = (0..2).all(|k| a[k] < p[k] && p[k] < b[k]);
            let edge = (0..2).any(|k| (p[k] - a[k]).abs() < 1e-6 || (p[k] - b[k]).abs() < 1e-6);
            prop_assert!(edge || zone.holds(p) == between);
        }
    }
}
