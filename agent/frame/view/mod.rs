//! How a camera's picture is looked at: which part of it, through which lens, turned how.
//!
//! The operator draws on the captured picture: region and masks are in shares of its sides, and all boxes come back in its
//! pixels. The order of steps is: cut at the region, straighten what the lens has bent, turn clockwise, flip, resize. It is
//! done in one go and on the small picture: cutting costs nothing, pixels are shrunk by a whole number first, and lens,
//! turn and resize are one step from there to the input. Without lens, turn, polygon and masks nothing is done or copied.
//!
//! What is masked, or outside of a polygon, or beside a bent picture, has no part in what the network sees ([`plan`]); in its place
//! its surroundings are drawn on ([`fill`]).

pub mod fill;
pub mod lens;
pub mod outline;
pub mod placement;
pub mod plan;
pub mod turn;

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

pub use lens::Lens;
pub use outline::{Area, Outline};
pub use placement::Placement;
pub use plan::Plan;
pub use turn::{Flip, Rotation, Turn};

use super::Region;
use lens::Optics;

/// Plans that are kept: for two sizes of frames, or for two models while one follows the other.
const PLANS: usize = 2;

/// How a camera's picture is looked at.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct View {
    region: Region,
    area: Option<Arc<Area>>,
    turn: Turn,
    lens: Option<Lens>,
    #[serde(skip)]
    plans: Plans,
}

/// What was computed for the latest sizes.
#[derive(Debug, Default)]
struct Plans(Mutex<Vec<Arc<Plan>>>);

impl Clone for Plans {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Plans {
    fn eq(&self, _: &Self) -> bool {
        true // they follow from the view
    }
}

impl From<Region> for View {
    fn from(region: Region) -> Self {
        Self { region, ..Self::default() }
    }
}

impl View {
    /// A view of the inside of an outline, of all where none is given, but for masks.
    #[must_use]
    pub fn new(roi: Option<&Outline>, masks: &[Outline], turn: Turn, lens: Option<Lens>) -> Self {
        let region = roi.map_or_else(Region::default, |roi| Region(roi.bounds()));
        // A rectangle is cut out, and nothing is left around it.
        let roi = roi.filter(|roi| !roi.is_rectangle()).cloned();
        let area = (roi.is_some() || !masks.is_empty()).then(|| Arc::new(Area { roi, masks: masks.to_vec() }));
        Self { region, area, turn, lens, plans: Plans::default() }
    }

    /// What it takes out of the frame.
    #[must_use]
    pub fn region(&self) -> Region {
        self.region
    }

    /// Whether the masks leave nothing of it.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.area.as_ref().is_some_and(|area| area.is_blind(self.region.0))
    }

    /// What is more than a region, in words for no one to read; empty where that is all.
    #[must_use]
    pub fn mark(&self) -> String {
        let plain = self.area.is_none() && self.turn == Turn::default() && self.lens.is_none();
        if plain { String::new() } else { format!(" {:?} {:?} {:?}", self.area, self.turn, self.lens) }
    }

    /// What it takes out of a frame of this size.
    ///
    /// # Errors
    /// The lens was calibrated at another shape.
    pub fn cut(&self, width: u32, height: u32) -> Result<Cut, String> {
        let part = self.region.pixels(width, height);
        let [x, y, w, h] = [part.0, part.1, part.2, part.3].map(|v| v as f32);
        let captured = [x, y, x + w, y + h];
        let optics = self.lens.as_ref().map(|lens| lens.at(width, height)).transpose()?;
        let flat = optics.map_or(captured, |optics| placement::around_finely(captured, |p| optics.straighten(p)));
        let side = |k: usize| (flat[k + 2] - flat[k]).round().max(1.0) as u32;
        let size = self.turn.pair([side(0), side(1)]);
        let area = self.area.clone().map(|area| (area, [width as f32, height as f32]));
        Ok(Cut { part: [part.0, part.1, part.2, part.3], flat, size, turn: self.turn, optics, area })
    }

    /// What is to be done beside cutting, resizing and turning; none where that is all.
    ///
    /// # Errors
    /// Nothing is left to be seen in an input that small.
    pub fn plan(&self, laid: &Laid) -> Result<Option<Arc<Plan>>, String> {
        if laid.placement.optics.is_none() && laid.placement.area.is_none() {
            return Ok(None);
        }
        // Workers that meet here wait for the one that computes, once a size.
        let mut plans = self.plans.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = plans.iter().find(|plan| plan.laid == *laid).cloned();
        let plan = known.unwrap_or_else(|| {
            let plan = Arc::new(Plan::new(laid));
            plans.truncate(PLANS - 1);
            plans.insert(0, Arc::clone(&plan));
            plan
        });
        if plan.is_blind() {
            let [w, h] = laid.inner;
            return Err(format!("region and masks leave nothing to be seen in an input of {w}x{h} px"));
        }
        Ok(Some(plan))
    }
}

/// A part of a frame.
#[derive(Debug, Clone)]
pub struct Cut {
    /// x, y, width, height in whole pixels of the frame.
    part: [u32; 4],
    /// x0, y0, x1, y1 of the same when it is straightened.
    flat: [f32; 4],
    /// Its width and height when it is straightened and turned.
    pub size: [u32; 2],
    turn: Turn,
    optics: Option<Optics>,
    area: Option<(Arc<Area>, [f32; 2])>,
}

/// A part of a frame in its place in the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Laid {
    /// Its width and height in the input.
    pub inner: [u32; 2],
    /// Where in the input it begins.
    pub corner: [u32; 2],
    /// x, y, width, height in the frame; width and height are whole multiples of `shrink`.
    pub part: [u32; 4],
    /// By which whole numbers its columns and rows are shrunk first: that is many times as fast as shrinking by 2.2 at once, and
    /// leaves little to do. Without a lens it is one number for both.
    pub shrink: [u32; 2],
    /// How it is turned.
    pub turn: Turn,
    /// For boxes.
    pub placement: Placement,
}

impl Laid {
    /// Columns and rows after it was shrunk.
    #[must_use]
    pub fn shrunk(&self) -> [u32; 2] {
        [self.part[2] / self.shrink[0], self.part[3] / self.shrink[1]]
    }
}

impl Cut {
    /// Laid into the input: how large, and from where on.
    #[must_use]
    pub fn lay(self, inner: [u32; 2], corner: [u32; 2]) -> Laid {
        let Self { part: [x, y, w, h], turn, optics, area, .. } = self;
        let (size, padding) = (turn.pair(inner), turn.pair(corner).map(|v| v as f32));
        let mut shrink = [(w / size[0]).max(1), (h / size[1]).max(1)];
        if optics.is_none() {
            shrink = [shrink[0].min(shrink[1]); 2]; // what is left to one of them is for the resize
        }
        // What does not divide, at most `shrink` - 1 px at the right and lower edge, is left out and stands so in the placement.
        let (w, h) = (w - w % shrink[0], h - h % shrink[1]);
        let (start, end) = ([x as f32, y as f32], [(x + w) as f32, (y + h) as f32]);
        let [x0, y0, x1, y1] = if optics.is_some() { self.flat } else { [start[0], start[1], end[0], end[1]] };
        let mirror = turn.pair(turn.mirror);
        let axis = |k: usize, low: f32, high: f32| {
            let scale = (high - low) / size[k] as f32;
            if mirror[k] { (high + padding[k] * scale, -scale) } else { (low - padding[k] * scale, scale) }
        };
        let ((left, across), (top, down)) = (axis(0, x0, x1), axis(1, y0, y1));
        let (origin, scale) = ([left, top], [across, down]);
        let placement = Placement { origin, scale, end, start, swap: turn.swap, optics, area };
        Laid { inner, corner, part: [x, y, w, h], shrink, turn, placement }
    }
}

#[cfg(test)]
mod tests;
