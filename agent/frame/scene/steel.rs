//! An endless strip of rolled steel with defects.

mod defect;
mod texture;

use self::defect::Patch;
use self::texture::Texture;
use super::light::Light;
use super::{Extent, Rng, SceneConfig, Stream, Truth};

pub use self::defect::CLASSES;

/// The surface is divided along its travel into cells of this many pixels; each holds a random number of defects.
const CELL: i64 = 16;

/// A defect of which less, in per cent of its box, is inside the frame is not in the truth: nobody could name it.
const LEAST_VISIBLE: i64 = 30;

/// An endless strip under a camera.
pub struct Strip {
    config: SceneConfig,
    /// Mean number of defects a cell.
    defects_per_cell: f32,
    /// Size of defects against the size they have at 640x480.
    scale: f32,
    texture: Texture,
    light: Light,
    /// From brightness to the colour of steel.
    tint: [[u8; 3]; 256],
}

/// A defect in the frame's coordinates.
struct Placed {
    id: u64,
    extent: Extent,
    patch: Patch,
}

impl Strip {
    /// Prepares the tiles of the texture.
    pub fn new(config: SceneConfig) -> Self {
        Self {
            defects_per_cell: config.defects_on(CELL as f32),
            scale: (config.width as f32 / 640.0).min(config.height as f32 / 480.0).clamp(0.4, 4.0),
            texture: Texture::new(config.seed),
            light: Light::new(&config, 1.0),
            tint: std::array::from_fn(|v| [v * 248 / 255, v * 252 / 255, v].map(|c| c as u8)),
            config,
        }
    }

    /// The picture (RGB8, row by row) and its defects.
    pub fn render(&self, frame: u64) -> (Vec<u8>, Vec<Truth>) {
        let offset = self.config.offset(frame);
        let width = self.config.width as usize;
        let mut surface = vec![0_i16; width * self.config.height as usize];
        for (y, row) in (0..).zip(surface.chunks_exact_mut(width)) {
            self.texture.row(offset, y, row);
        }
        let placed = self.placed(offset);
        for Placed { extent, patch, .. } in &placed {
            extent.visible(&self.config, |at, mark| {
                surface[at] = surface[at].saturating_add(patch.marks[mark].brightness);
            });
        }
        let mut pixels = self.light.expose(frame, &surface, &self.tint);
        for Placed { extent, patch, .. } in placed.iter().filter(|defect| defect.patch.coloured) {
            extent.visible(&self.config, |at, mark| {
                let mark = patch.marks[mark];
                let [red, _, blue] = &mut pixels[3 * at..3 * at + 3] else { return };
                if mark.brightness != 0 {
                    *red = red.saturating_add_signed(mark.warmth);
                    *blue = blue.saturating_add_signed(mark.warmth.saturating_neg());
                }
            });
        }
        let truth = placed.iter().filter_map(|Placed { id, extent, patch }| {
            let bbox = extent.seen(&self.config, LEAST_VISIBLE)?;
            Some(Truth { class: patch.class, bbox, id: *id })
        });
        (pixels, truth.collect())
    }

    /// Every defect that may reach into the frame.
    fn placed(&self, offset: i64) -> Vec<Placed> {
        let first = (offset - i64::from(defect::reach(self.scale))).div_euclid(CELL);
        let last = (offset + i64::from(self.config.width)).div_euclid(CELL);
        let mut placed = Vec::new();
        for cell in first..=last {
            let mut cell_rng = Rng::new(self.config.seed, Stream::Defect, cell as u64);
            let count = (self.defects_per_cell + cell_rng.unit()) as u32;
            for _ in 0..count {
                let id = cell_rng.bits();
                let mut rng = Rng(id);
                let x = cell * CELL + (rng.unit() * CELL as f32) as i64 - offset;
                let share = rng.unit();
                let patch = Patch::new(&mut rng, self.scale);
                let y = (share * (self.config.height as f32 - patch.height as f32)) as i64;
                let extent = Extent { x, y, width: patch.width, height: patch.height };
                placed.push(Placed { id, extent, patch });
            }
        }
        placed
    }
}

#[cfg(test)]
mod tests;
