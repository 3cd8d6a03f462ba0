//! Parts of the frame that are inspected, and parts that are not.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::config::Zone;

/// Smallest area of an outline, as a share of the frame.
const LEAST: f32 = 1e-5;
/// Points along each side of a box, or of the frame, by which it is told how much of it is inspected.
const LATTICE: usize = 8;

/// A rectangle or a polygon that does not cross itself, in shares of the frame's sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Outline(Zone);

impl Outline {
    /// # Errors
    /// Sides cross, or nothing is inside.
    pub fn new(zone: Zone) -> Result<Self, String> {
        let sides: Vec<_> = zone.sides().collect();
        for (n, a) in sides.iter().enumerate() {
            // The last side has the first one's corner.
            let apart = |m: usize| m > n + 1 && !(n == 0 && m + 1 == sides.len());
            if let Some(m) = (0..sides.len()).find(|m| apart(*m) && cross(*a, sides[*m])) {
                return Err(format!(
                    "the polygon crosses itself: the side from its corner {} crosses the one from its corner {}; give the \
                     corners in their order along the edge",
                    n + 1,
                    m + 1
                ));
            }
        }
        let area: f32 = sides.iter().map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum::<f32>() / 2.0;
        if area.abs() < LEAST {
            return Err("there is nothing in it: give at least three corners that are not in one line".into());
        }
        Ok(Self(zone))
    }

    /// x0, y0, x1, y1 around it.
    #[must_use]
    pub fn bounds(&self) -> [f32; 4] {
        self.0.sides().fold([1.0, 1.0, 0.0, 0.0], |[x0, y0, x1, y1], (a, _)| {
            [x0.min(a[0]), y0.min(a[1]), x1.max(a[0]), y1.max(a[1])]
        })
    }

    /// Whether it fills its bounds.
    #[must_use]
    pub fn is_rectangle(&self) -> bool {
        let [x0, y0, x1, y1] = self.bounds();
        self.0.sides().count() == 4
            && self.0.sides().all(|(a, b)| {
                (a[0] == x0 || a[0] == x1) && (a[1] == y0 || a[1] == y1) && (a[0] == b[0]) != (a[1] == b[1])
            })
    }

    fn holds(&self, point: [f32; 2]) -> bool {
        self.0.holds(point)
    }

    /// Whether a side of it goes through the inside of a rectangle.
    fn goes_through(&self, rectangle: [f32; 4]) -> bool {
        self.0.sides().any(|(a, b)| enters(a, b, rectangle))
    }
}

/// Whether two sides without a common corner meet.
fn cross((a, b): ([f32; 2], [f32; 2]), (c, d): ([f32; 2], [f32; 2])) -> bool {
    let side = |p: [f32; 2], q: [f32; 2], r: [f32; 2]| {
        let [px, py, qx, qy, rx, ry] = [p[0], p[1], q[0], q[1], r[0], r[1]].map(f64::from);
        let area = (qx - px) * (ry - py) - (qy - py) * (rx - px);
        if area.abs() < 1e-12 { 0.0 } else { area.signum() }
    };
    let within =
        |p: [f32; 2], q: [f32; 2], r: [f32; 2]| (0..2).all(|k| r[k] >= p[k].min(q[k]) && r[k] <= p[k].max(q[k]));
    let (s1, s2, s3, s4) = (side(a, b, c), side(a, b, d), side(c, d, a), side(c, d, b));
    (s1 * s2 < 0.0 && s3 * s4 < 0.0)
        || (s1 == 0.0 && within(a, b, c))
        || (s2 == 0.0 && within(a, b, d))
        || (s3 == 0.0 && within(c, d, a))
        || (s4 == 0.0 && within(c, d, b))
}

/// Whether a line from `a` to `b` comes into the open rectangle (clipping of Liang and Barsky 1984).
fn enters(a: [f32; 2], b: [f32; 2], [x0, y0, x1, y1]: [f32; 4]) -> bool {
    let (mut from, mut to) = (0.0_f32, 1.0_f32);
    for (p, way, low, high) in [(a[0], b[0] - a[0], x0, x1), (a[1], b[1] - a[1], y0, y1)] {
        if way == 0.0 {
            if p <= low || p >= high {
                return false;
            }
        } else {
            let (s, t) = ((low - p) / way, (high - p) / way);
            (from, to) = (from.max(s.min(t)), to.min(s.max(t)));
        }
    }
    from < to
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Ok([x0, y0, x1, y1]) = serde_json::from_value::<[f32; 4]>(value.clone())
            && !(x0 < x1 && y0 < y1)
        {
            return Err(D::Error::custom(
                "must be [x0, y0, x1, y1] in shares of the frame's sides with x0 < x1 and y0 < y1, \
                 for instance [0.25, 0.0, 0.75, 1.0] for the middle half",
            ));
        }
        Self::new(Zone::deserialize(value).map_err(D::Error::custom)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Outline {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Outline".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Zone::json_schema(generator)
    }
}

/// What is inspected of a frame: the inside of one outline and the outside of others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Area {
    /// Only in it; all of the frame where none is given.
    pub roi: Option<Outline>,
    /// Not in these.
    pub masks: Vec<Outline>,
}

impl Area {
    /// Whether a point is inspected, in shares of the frame's sides.
    #[must_use]
    pub fn holds(&self, point: [f32; 2]) -> bool {
        self.roi.as_ref().is_none_or(|roi| roi.holds(point)) && !self.masks.iter().any(|mask| mask.holds(point))
    }

    /// Whether every point of a rectangle is inspected.
    #[must_use]
    pub fn holds_all(&self, rectangle: [f32; 4]) -> bool {
        let [x0, y0, x1, y1] = rectangle;
        self.holds([f32::midpoint(x0, x1), f32::midpoint(y0, y1)])
            && !self.roi.iter().chain(&self.masks).any(|outline| outline.goes_through(rectangle))
    }

    /// Whether a finding counts: its middle is inspected, or half of its box is. The second is for a long scratch that goes on
    /// behind a small mask.
    #[must_use]
    pub fn counts(&self, [x0, y0, x1, y1]: [f32; 4]) -> bool {
        let at = |n: usize| (n as f32 + 0.5) / LATTICE as f32;
        let held = |n: &usize| self.holds([x0 + (x1 - x0) * at(n % LATTICE), y0 + (y1 - y0) * at(n / LATTICE)]);
        self.holds([f32::midpoint(x0, x1), f32::midpoint(y0, y1)])
            || 2 * (0..LATTICE * LATTICE).filter(held).count() >= LATTICE * LATTICE
    }

    /// Whether nothing worth the name is left of a part of the frame.
    #[must_use]
    pub fn is_blind(&self, [x0, y0, x1, y1]: [f32; 4]) -> bool {
        let at = |n: usize| (n as f32 + 0.5) / 64.0;
        !(0..64 * 64).any(|n| self.holds([x0 + (x1 - x0) * at(n % 64), y0 + (y1 - y0) * at(n / 64)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) fn outline(corners: &[[f32; 2]]) -> Result<Outline, String> {
        Outline::new(Zone::new(corners.to_vec())?)
    }

    #[test]
    fn what_is_no_outline() {
        let bow = outline(&[[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]).unwrap_err();
        assert!(bow.contains("the side from its corner 1 crosses the one from its corner 3"), "{bow}");
        let line = outline(&[[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]).unwrap_err();
        assert!(line.contains("nothing in it"), "{line}");
        assert!(outline(&[[0.0, 0.0], [1.0, 0.0], [0.5, 0.0], [0.5, 1.0]]).is_err(), "a side runs back on itself");
        assert!(outline(&[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.5, 0.2], [0.1, 0.9]]).is_ok());
        let square = outline(&[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]).unwrap();
        assert!(square.is_rectangle() && square.bounds() == [0.1, 0.1, 0.9, 0.9]);
        assert!(!outline(&[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.8]]).unwrap().is_rectangle());
    }

    #[test]
    fn a_finding_counts_by_its_middle_or_by_half_of_it() {
        let mask = outline(&[[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]]).unwrap();
        let area = Area { roi: None, masks: vec![mask] };
        assert!(!area.counts([0.45, 0.45, 0.55, 0.55]), "in the mask");
        assert!(!area.counts([0.35, 0.45, 0.6, 0.55]), "more of it in the mask than beside it");
        assert!(area.counts([0.1, 0.48, 0.9, 0.52]), "a scratch that goes on behind it");
        assert!(area.counts([0.1, 0.1, 0.2, 0.2]));
        assert!(!area.is_blind([0.0, 0.0, 1.0, 1.0]) && area.is_blind([0.41, 0.41, 0.59, 0.59]));
    }

    proptest! {
        #[test]
        fn a_rectangle_that_is_held_has_no_point_that_is_not(
            corners in prop::collection::vec(prop::array::uniform2(0.0_f32..1.0), 3..7),
            at in prop::array::uniform2(0.0_f32..0.9), size in prop::array::uniform2(0.001_f32..0.4), inside in any::<bool>(),
        ) {
            let Ok(outline) = outline(&corners) else { return Ok(()) };
            let area = if inside { Area { roi: Some(outline), masks: vec![] } } else { Area { roi: None, masks: vec![outline] } };
            let all = area.holds_all([at[0], at[1], at[0] + size[0], at[1] + size[1]]);
            let inner = |n: usize| [at[0] + size[0] * (0.02 + 0.048 * (n % 21) as f32), at[1] + size[1] * (0.02 + 0.048 * (n / 21) as f32)];
            let held = (0..441).filter(|n| area.holds(inner(*n))).count();
            prop_assert!(!all || held == 441);
            // Where half of the points are held, a side goes through between them.
            prop_assert!(all || held < 441 || !area.holds_all([at[0], at[1], at[0] + size[0], at[1] + size[1]]));
        }
    }
}
