//! An endless panel of bare circuit boards, all of one design, as an inspection camera shows them: black copper on
//! white, almost without grey.
//!
//! A board is as long as the longer side of the frame, so that at a speed of that many pixels each frame shows a
//! whole board, and as high as the frame.

mod copper;
mod defect;
mod layout;
mod route;

use self::copper::{Copper, Outline};
use self::defect::{Defect, Site};
use self::layout::Layout;
use super::light::Light;
use super::{Extent, GREY, Rng, SceneConfig, Stream, Truth};

pub use self::defect::CLASSES;

/// A board has no more defects.
const MOST: u32 = 24;

/// A defect of which less, in per cent of its box, is inside the frame is not in the truth. More than for steel, as
/// the box is mostly margin, and half of a short is a spur.
const LEAST_VISIBLE: i64 = 55;

/// Grey levels of copper and of the bare board.
const DARK: i16 = 9;
const BRIGHT: i16 = 247;

/// An endless panel under a camera.
pub struct Panel {
    config: SceneConfig,
    defects_per_board: f32,
    layout: Layout,
    copper: Copper,
    light: Light,
    tint: [[u8; 3]; 256],
}

/// A defect in the frame's coordinates.
struct Placed {
    id: u64,
    extent: Extent,
    defect: Defect,
}

impl Panel {
    /// Designs the board.
    pub fn new(config: SceneConfig) -> Self {
        let SceneConfig { width, height, seed, .. } = config;
        let scale = (width.max(height) as f32 / 640.0).clamp(0.4, 4.0);
        let long = (640.0 * scale) as u32;
        let layout = Layout::new(&mut Rng::new(seed, Stream::Layout, 0), 640.0, height as f32 / scale);
        let mut copper = Copper::new(long, height, scale);
        layout.paint(&mut copper, &Outline::etched(&mut Rng::new(seed, Stream::Etching, 0)));
        Self {
            defects_per_board: config.defects_on(long as f32),
            layout,
            copper,
            light: Light::new(&config, 0.3),
            tint: std::array::from_fn(|v| [v as u8; 3]),
            config,
        }
    }

    /// The picture (RGB8, row by row) and its defects.
    pub fn render(&self, frame: u64) -> (Vec<u8>, Vec<Truth>) {
        let offset = self.config.offset(frame);
        let width = self.config.width as usize;
        let grey = |copper: bool| GREY as i16 * if copper { DARK } else { BRIGHT };
        let mut surface = vec![0; width * self.config.height as usize];
        let start = offset.rem_euclid(self.copper.width) as usize;
        for (y, row) in (0..).zip(surface.chunks_exact_mut(width)) {
            for (value, &copper) in row.iter_mut().zip(self.copper.row(y).iter().cycle().skip(start)) {
                *value = grey(copper);
            }
        }
        let placed = self.placed(offset);
        for Placed { extent, defect, .. } in &placed {
            extent.visible(&self.config, |at, mark| {
                if defect.marks[mark] {
                    surface[at] = grey(defect.copper);
                }
            });
        }
        let truth = placed.iter().filter_map(|Placed { id, extent, defect }| {
            let bbox = extent.seen(&self.config, LEAST_VISIBLE)?;
            Some(Truth { class: defect.class, bbox, id: *id })
        });
        (self.light.expose(frame, &surface, &self.tint), truth.collect())
    }

    /// Every defect of the boards that reach into the frame.
    fn placed(&self, offset: i64) -> Vec<Placed> {
        let long = self.copper.width;
        let boards = offset.div_euclid(long)..=(offset + i64::from(self.config.width) - 1).div_euclid(long);
        boards.flat_map(|board| self.defects(board, board * long - offset)).collect()
    }

    /// The defects of a board whose left end is at `left`.
    fn defects(&self, board: i64, left: i64) -> Vec<Placed> {
        let mut rng = Rng::new(self.config.seed, Stream::BoardDefect, board as u64);
        let count = ((self.defects_per_board + rng.unit()) as u32).min(MOST);
        let site = Site { copper: &self.copper, layout: &self.layout };
        let mut defects = Vec::new();
        for _ in 0..count {
            let id = rng.bits();
            defects.extend(site.defect(&mut Rng(id), &defects).map(|defect| (id, defect)));
        }
        let placed = |(id, defect): (u64, Defect)| {
            let extent = Extent { x: left + defect.x, y: defect.y, width: defect.width, height: defect.height };
            Placed { id, extent, defect }
        };
        defects.into_iter().map(placed).collect()
    }
}

#[cfg(test)]
mod tests;
