//! Where the network's input lies in the frame.
//!
//! Guarantees: points go to the frame and back within rounding. Boxes do too without a lens. Through a lens a box comes
//! back as the upright box around its bent outline; the way from the frame is the inverse of that, within a pixel of the frame, for
//! every box that some box of the input comes to. (A long and flat one near the
//! edge may be none, since its outline would have to be bent; for that the nearest is taken.)

use std::sync::Arc;

use super::lens::Optics;
use super::outline::Area;

/// Points along each side of a box that go through the lens.
const POINTS: usize = 8;
/// Steps by which a box that comes to a box of the frame is found; three or four are taken.
const STEPS: usize = 20;
/// No box is thinner on the way, in pixels.
const THINNEST: f32 = 0.01;

/// Where the network's input lies in the frame.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Placement {
    /// Frame pixels of the input's upper left corner, outside the inspected region where the input is padded. With a lens,
    /// pixels of the straightened frame.
    pub origin: [f32; 2],
    /// Frame pixels an input pixel, along x and y of the frame; negative where the input runs the other way.
    pub scale: [f32; 2],
    /// Frame pixels of the lower right corner of the inspected region.
    pub end: [f32; 2],
    /// Frame pixels of the upper left corner of the inspected region.
    pub start: [f32; 2],
    /// Rows of the input are columns of the frame.
    pub swap: bool,
    /// What bends the straightened frame into the captured one.
    pub optics: Option<Optics>,
    /// What is inspected of the region, if not all, and the frame's width and height, in shares of which it is given.
    pub area: Option<(Arc<Area>, [f32; 2])>,
}

impl Placement {
    /// A box of input pixels in pixels of the frame, cut at the inspected region. Nothing is left of a box that lies in
    /// the padding.
    #[must_use]
    pub fn to_frame(&self, bbox: [f32; 4]) -> [f32; 4] {
        let flat = self.flat(bbox);
        let bent = match &self.optics {
            Some(optics) if is_proper(flat) => around(flat, |point| optics.bend(point)),
            _ => flat,
        };
        std::array::from_fn(|n| bent[n].max(self.start[n % 2]).min(self.end[n % 2]))
    }

    /// A box of frame pixels in pixels of the input.
    #[must_use]
    pub fn to_input(&self, bbox: [f32; 4]) -> [f32; 4] {
        let flat = self.optics.as_ref().map_or(bbox, |optics| unbend(optics, bbox));
        let axis = |n: usize| (flat[n] - self.origin[n % 2]) / self.scale[n % 2];
        self.swapped(self.ordered(std::array::from_fn(axis)))
    }

    /// What was found in a box of input pixels, in pixels of the frame; none where that is not inspected.
    #[must_use]
    pub fn finding(&self, bbox: [f32; 4]) -> Option<[f32; 4]> {
        let bbox = self.to_frame(bbox);
        let counts =
            |(area, [w, h]): &(Arc<Area>, [f32; 2])| area.counts([bbox[0] / w, bbox[1] / h, bbox[2] / w, bbox[3] / h]);
        (is_proper(bbox) && self.area.as_ref().is_none_or(counts)).then_some(bbox)
    }

    /// Whether a point of the frame is neither masked nor outside of the polygon that is inspected.
    #[must_use]
    pub fn inspects(&self, [x, y]: [f32; 2]) -> bool {
        self.area.as_ref().is_none_or(|(area, [w, h])| area.holds([x / w, y / h]))
    }

    /// A point of the input in the frame.
    #[must_use]
    pub fn point_to_frame(&self, point: [f32; 2]) -> [f32; 2] {
        let flat = self.point_to_flat(point);
        self.optics.as_ref().map_or(narrow(flat), |optics| narrow(optics.bend(flat)))
    }

    /// A point of the input in the straightened frame.
    pub(super) fn point_to_flat(&self, point: [f32; 2]) -> [f64; 2] {
        let at = if self.swap { [point[1], point[0]] } else { point };
        std::array::from_fn(|k| f64::from(self.origin[k] + at[k] * self.scale[k]))
    }

    /// A point of the frame in the input.
    #[must_use]
    pub fn point_to_input(&self, point: [f32; 2]) -> [f32; 2] {
        let flat = self.optics.as_ref().map_or(point, |optics| narrow(optics.straighten(point.map(f64::from))));
        let at: [f32; 2] = std::array::from_fn(|k| (flat[k] - self.origin[k]) / self.scale[k]);
        if self.swap { [at[1], at[0]] } else { at }
    }

    /// A box of the input in the straightened frame.
    fn flat(&self, bbox: [f32; 4]) -> [f32; 4] {
        let bbox = self.swapped(bbox);
        self.ordered(std::array::from_fn(|n| self.origin[n % 2] + bbox[n] * self.scale[n % 2]))
    }

    fn swapped(&self, [x0, y0, x1, y1]: [f32; 4]) -> [f32; 4] {
        if self.swap { [y0, x0, y1, x1] } else { [x0, y0, x1, y1] }
    }

    /// Along an axis that runs backwards a box begins where it ended. A box that is none stays none.
    fn ordered(&self, [x0, y0, x1, y1]: [f32; 4]) -> [f32; 4] {
        let (x0, x1) = if self.scale[0] < 0.0 { (x1, x0) } else { (x0, x1) };
        let (y0, y1) = if self.scale[1] < 0.0 { (y1, y0) } else { (y0, y1) };
        [x0, y0, x1, y1]
    }
}

fn is_proper(bbox: [f32; 4]) -> bool {
    bbox[2] > bbox[0] && bbox[3] > bbox[1]
}

fn narrow(point: [f64; 2]) -> [f32; 2] {
    point.map(|v| v as f32)
}

/// The upright box around a box whose outline goes through the lens.
fn around(bbox: [f32; 4], through: impl Fn([f64; 2]) -> [f64; 2]) -> [f32; 4] {
    around_by(POINTS, bbox, through)
}

/// The same for the inspected region, which is large.
pub(super) fn around_finely(bbox: [f32; 4], through: impl Fn([f64; 2]) -> [f64; 2]) -> [f32; 4] {
    around_by(8 * POINTS, bbox, through)
}

fn around_by(points: usize, bbox: [f32; 4], through: impl Fn([f64; 2]) -> [f64; 2]) -> [f32; 4] {
    let [x0, y0, x1, y1] = bbox.map(f64::from);
    let mut found = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    for n in 0..=points {
        let share = n as f64 / points as f64;
        let (x, y) = (x0 + (x1 - x0) * share, y0 + (y1 - y0) * share);
        for [x, y] in [[x, y0], [x, y1], [x0, y], [x1, y]].map(&through) {
            found = [found[0].min(x), found[1].min(y), found[2].max(x), found[3].max(y)];
        }
    }
    found.map(|v| v as f32)
}

/// The box of the straightened frame that comes to this one of the captured frame, or as near to it as one does.
fn unbend(optics: &Optics, wanted: [f32; 4]) -> [f32; 4] {
    let [x0, y0, x1, y1] = wanted.map(f64::from);
    let (x, y) = (f64::midpoint(x0, x1), f64::midpoint(y0, y1));
    // From the middles of its sides on: each side goes by what is missing there.
    let sides = [[x0, y], [x, y0], [x1, y], [x, y1]].map(|side| optics.straighten(side));
    let growth: [f32; 4] = std::array::from_fn(|n| optics.growth(sides[n])[n % 2].max(0.2) as f32);
    let mut flat: [f32; 4] = std::array::from_fn(|n| sides[n][n % 2] as f32);
    let mut nearest = (f32::INFINITY, flat);
    for _ in 0..STEPS {
        for k in 0..2 {
            if flat[k + 2] - flat[k] < THINNEST {
                let middle = f32::midpoint(flat[k], flat[k + 2]);
                (flat[k], flat[k + 2]) = (middle - THINNEST / 2.0, middle + THINNEST / 2.0);
            }
        }
        let got = around(flat, |point| optics.bend(point));
        let miss: [f32; 4] = std::array::from_fn(|n| wanted[n] - got[n]);
        let most = miss.iter().fold(0.0_f32, |most, m| most.max(m.abs()));
        if most < nearest.0 {
            nearest = (most, flat);
        }
        if most < 0.01 {
            break;
        }
        flat = std::array::from_fn(|n| flat[n] + miss[n] / growth[n]);
    }
    nearest.1
}
