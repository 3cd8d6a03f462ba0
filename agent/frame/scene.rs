//! What the synthetic camera sees, and where the defects are: rolled steel or circuit boards, endless, moving past.
//!
//! The same configuration and frame number give the same picture bit for bit on every machine, in any order of
//! frames. A frame with defects differs from the same frame without them inside the defects' boxes only.
//!
//! How: surface, defects, light and noise are functions of hashes of (seed, place) or (seed, frame), so nothing is
//! carried from frame to frame. Only integers and the IEEE-exact operations on floats (`+ - * /`, `sqrt`, `floor`) are
//! used; the rest of the mathematical library rounds differently from platform to platform.

mod board;
#[cfg(test)]
mod checks;
mod light;
mod random;
mod steel;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::board::Panel;
use self::random::{Cloud, Rng, Stream, smooth};
use self::steel::Strip;
use super::Truth;

/// Steps of brightness that a grey level of the finished picture is divided into.
const GREY: i32 = 16;

/// Fractional bits of the position of the surface.
const SPEED_BITS: u32 = 16;

/// What moves past the camera.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SceneKind {
    /// A strip of rolled steel.
    #[default]
    Steel,
    /// A panel of bare circuit boards, all of one design.
    Boards,
}

impl SceneKind {
    /// The kinds of defect that are drawn.
    #[must_use]
    pub fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Steel => &steel::CLASSES,
            Self::Boards => &board::CLASSES,
        }
    }
}

/// What to show.
#[derive(Debug, Clone)]
pub struct SceneConfig {
    /// What moves past the camera.
    pub kind: SceneKind,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Another seed is another strip, or another design of the boards.
    pub seed: u64,
    /// Pixels of surface a frame; at 0 it stands still, and no defect comes into view.
    pub speed: f32,
    /// Mean number of defects that come into view per frame.
    pub defects_per_frame: f32,
}

impl SceneConfig {
    /// Mean number of defects on so many pixels of surface.
    fn defects_on(&self, pixels: f32) -> f32 {
        // No more surface than the frame's width comes into view however fast it moves.
        let fresh = self.speed.min(self.width as f32);
        if fresh > 0.0 { self.defects_per_frame / fresh * pixels } else { 0.0 }
    }

    /// Surface coordinate of a frame's left column: the surface moves to the left.
    fn offset(&self, frame: u64) -> i64 {
        let speed = (f64::from(self.speed) * f64::from(1_u32 << SPEED_BITS)) as u64;
        let moved = (u128::from(frame) * u128::from(speed)) >> SPEED_BITS;
        // Wraps far beyond any run, and leaves room to add to it.
        (moved & ((1 << 62) - 1)) as i64
    }
}

/// A surface under a camera.
pub enum Scene {
    /// [`SceneKind::Steel`]
    Steel(Strip),
    /// [`SceneKind::Boards`]
    Boards(Panel),
}

impl Scene {
    /// Prepares what all frames have in common; takes some milliseconds.
    #[must_use]
    pub fn new(config: SceneConfig) -> Self {
        match config.kind {
            SceneKind::Steel => Self::Steel(Strip::new(config)),
            SceneKind::Boards => Self::Boards(Panel::new(config)),
        }
    }

    /// The picture (RGB8, row by row) and its defects.
    #[must_use]
    pub fn render(&self, frame: u64) -> (Vec<u8>, Vec<Truth>) {
        match self {
            Self::Steel(strip) => strip.render(frame),
            Self::Boards(panel) => panel.render(frame),
        }
    }
}

/// The box of a defect in the frame's coordinates.
#[derive(Clone, Copy)]
struct Extent {
    x: i64,
    y: i64,
    width: usize,
    height: usize,
}

impl Extent {
    /// What the frame shows of it, if that is at least `least` per cent of its area.
    fn seen(self, config: &SceneConfig, least: i64) -> Option<[f32; 4]> {
        let clipped = |start: i64, length: usize, limit: u32| {
            let inside = |at: i64| at.clamp(0, i64::from(limit));
            (inside(start), inside(start + length as i64))
        };
        let (x0, x1) = clipped(self.x, self.width, config.width);
        let (y0, y1) = clipped(self.y, self.height, config.height);
        let (seen, whole) = ((x1 - x0) * (y1 - y0), (self.width * self.height) as i64);
        (seen > 0 && 100 * seen >= least * whole).then_some([x0, y0, x1, y1].map(|at| at as f32))
    }

    /// Calls `visit` with the index into the frame and into the box of each of its pixels inside the frame.
    fn visible(self, config: &SceneConfig, mut visit: impl FnMut(usize, usize)) {
        let (width, height) = (i64::from(config.width), i64::from(config.height));
        for (row, y) in (self.y..).take(self.height).enumerate().filter(|(_, y)| (0..height).contains(y)) {
            for (column, x) in (self.x..).take(self.width).enumerate().filter(|(_, x)| (0..width).contains(x)) {
                visit((y * width + x) as usize, row * self.width + column);
            }
        }
    }
}
