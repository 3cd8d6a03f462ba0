//! What the synthetic camera sees: an endless strip of rolled steel with defects, and where they are.
//!
//! The same configuration and frame number give the same picture bit for bit on every machine, in any order of
//! frames. A frame with defects differs from the same frame without them inside the defects' boxes only.
//!
//! How: surface, defects, light and noise are functions of hashes of (seed, place) or (seed, frame), so nothing is
//! carried from frame to frame. Only integers and the IEEE-exact operations on floats (`+ - * /`, `sqrt`, `floor`) are
//! used; the rest of the mathematical library rounds differently from platform to platform.

mod defect;
mod texture;

use self::defect::Patch;
use self::texture::Texture;
use super::Truth;

pub use self::defect::CLASSES;

/// Steps of brightness that a grey level of the finished picture is divided into.
const GREY: i32 = 16;

/// The surface is divided along its travel into cells of this many pixels; each holds a random number of defects.
const CELL: i64 = 16;

/// A defect of which less, in per cent of its box, is inside the frame is not in the truth: nobody could name it.
const LEAST_VISIBLE: i64 = 30;

/// Fractional bits of gains and of the position of the surface.
const GAIN_BITS: u32 = 12;
const SPEED_BITS: u32 = 16;

/// Different things that are drawn from the same seed.
#[derive(Clone, Copy)]
enum Stream {
    Brush = 1,
    Grain,
    Streak,
    Shading,
    Light,
    Sensor,
    SensorRow,
    Defect,
}

/// What to show.
#[derive(Debug, Clone)]
pub struct SceneConfig {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Another seed is another strip.
    pub seed: u64,
    /// Pixels of surface a frame; at 0 the strip stands still, and nothing comes into view.
    pub speed: f32,
    /// Mean number of defects that come into view per frame.
    pub defects_per_frame: f32,
}

/// An endless strip under a camera.
pub struct Scene {
    config: SceneConfig,
    /// Pixels of surface a frame, with [`SPEED_BITS`] of fraction.
    speed: u64,
    /// Mean number of defects a cell.
    defects_per_cell: f32,
    /// Size of defects against the size they have at 640x480.
    scale: f32,
    texture: Texture,
    /// A ring of sensor noise, unrolled by the width of a row.
    noise: Vec<i8>,
    /// The lamp is a little darker towards the left and right end.
    column_gain: Vec<i32>,
    /// From brightness to the colour of steel.
    tint: [[u8; 3]; 256],
}

/// A defect in the frame's coordinates.
struct Placed {
    id: u64,
    x: i64,
    y: i64,
    patch: Patch,
}

impl Scene {
    /// Prepares the tiles of the texture; takes some milliseconds.
    #[must_use]
    pub fn new(config: SceneConfig) -> Self {
        let SceneConfig { width, height, seed, .. } = config;
        let (wide, high) = (width as f32, height as f32);
        // No more surface than the frame's width comes into view however fast it moves.
        let fresh = config.speed.min(wide);
        let defects_per_cell = if fresh > 0.0 { config.defects_per_frame / fresh * CELL as f32 } else { 0.0 };
        Self {
            speed: (f64::from(config.speed) * f64::from(1_u32 << SPEED_BITS)) as u64,
            defects_per_cell,
            scale: (wide / 640.0).min(high / 480.0).clamp(0.4, 4.0),
            texture: Texture::new(seed),
            noise: sensor_noise(seed, width as usize),
            column_gain: (0..width).map(|x| gain(1.0 - 0.05 * squared_from_middle(x, width))).collect(),
            tint: std::array::from_fn(|v| [v * 248 / 255, v * 252 / 255, v].map(|c| c as u8)),
            config,
        }
    }

    /// The picture (RGB8, row by row) and its defects.
    #[must_use]
    pub fn render(&self, frame: u64) -> (Vec<u8>, Vec<Truth>) {
        let offset = self.offset(frame);
        let width = self.config.width as usize;
        let mut surface = vec![0_i16; width * self.config.height as usize];
        for (y, row) in (0..).zip(surface.chunks_exact_mut(width)) {
            self.texture.row(offset, y, row);
        }
        let placed = self.placed(offset);
        for defect in &placed {
            self.visible(defect, |at, mark| surface[at] = surface[at].saturating_add(mark.brightness));
        }
        let mut pixels = self.expose(frame, &surface);
        for defect in placed.iter().filter(|defect| defect.patch.coloured) {
            self.visible(defect, |at, mark| {
                let [red, _, blue] = &mut pixels[3 * at..3 * at + 3] else { return };
                *red = red.saturating_add_signed(mark.warmth);
                *blue = blue.saturating_add_signed(mark.warmth.saturating_neg());
            });
        }
        let truth = placed.iter().filter_map(|defect| self.truth(defect)).collect();
        (pixels, truth)
    }

    /// Surface coordinate of the frame's left column: the strip moves to the left.
    fn offset(&self, frame: u64) -> i64 {
        let moved = (u128::from(frame) * u128::from(self.speed)) >> SPEED_BITS;
        // Wraps far beyond any run, and leaves room to add to it.
        (moved & ((1 << 62) - 1)) as i64
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
                placed.push(Placed { id, x, y, patch });
            }
        }
        placed
    }

    /// Calls `mark` with the index of each changed pixel inside the frame.
    fn visible(&self, defect: &Placed, mut mark: impl FnMut(usize, defect::Mark)) {
        let (width, height) = (i64::from(self.config.width), i64::from(self.config.height));
        for (y, row) in (defect.y..).zip(defect.patch.marks.chunks_exact(defect.patch.width)) {
            for (x, &value) in (defect.x..).zip(row) {
                if value.brightness != 0 && (0..width).contains(&x) && (0..height).contains(&y) {
                    mark((y * width + x) as usize, value);
                }
            }
        }
    }

    fn truth(&self, defect: &Placed) -> Option<Truth> {
        let clipped = |start: i64, length: usize, limit: u32| {
            let inside = |at: i64| at.clamp(0, i64::from(limit));
            (inside(start), inside(start + length as i64))
        };
        let Patch { class, width, height, .. } = defect.patch;
        let (x0, x1) = clipped(defect.x, width, self.config.width);
        let (y0, y1) = clipped(defect.y, height, self.config.height);
        let (seen, whole) = ((x1 - x0) * (y1 - y0), (width * height) as i64);
        let bbox = [x0, y0, x1, y1].map(|at| at as f32);
        (seen > 0 && 100 * seen >= LEAST_VISIBLE * whole).then_some(Truth { class, bbox, id: defect.id })
    }

    /// Light and sensor: from the surface to bytes.
    fn expose(&self, frame: u64, surface: &[i16]) -> Vec<u8> {
        let SceneConfig { width, height, seed, .. } = self.config;
        let width = width as usize;
        let light = light(seed, frame);
        let mut pixels = vec![0; surface.len() * 3];
        let rows = surface.chunks_exact(width).zip(pixels.chunks_exact_mut(width * 3));
        let mut starts = Rng::new(seed, Stream::SensorRow, frame);
        for (y, (row, out)) in (0..).zip(rows) {
            let row_gain = gain(light * (1.0 - 0.04 * squared_from_middle(y, height)));
            let start = starts.bits() as usize % NOISE_RING;
            let noise = &self.noise[start..start + width];
            let inputs = row.iter().zip(noise).zip(&self.column_gain);
            for (((&value, &noise), &column_gain), out) in inputs.zip(out.chunks_exact_mut(3)) {
                let lit = ((i32::from(value) * row_gain) >> GAIN_BITS) * column_gain;
                let grey = ((lit >> GAIN_BITS) + i32::from(noise) + GREY / 2) / GREY;
                out.copy_from_slice(&self.tint[grey.clamp(0, 255) as usize]);
            }
        }
        pixels
    }
}

/// Brightness of the lamp in a frame: a slow drift, a faster one and some flicker, together at most 4 %.
fn light(seed: u64, frame: u64) -> f32 {
    let drift = |period: u64, stream: u64| {
        let knot = |n: u64| Rng::new(seed ^ stream, Stream::Light, n).signed();
        let (from, to) = (knot(frame / period), knot((frame / period).wrapping_add(1)));
        from + (to - from) * smooth((frame % period) as f32 / period as f32)
    };
    1.0 + 0.022 * drift(90, 1) + 0.012 * drift(13, 2) + 0.004 * drift(1, 3)
}

const NOISE_RING: usize = 1 << 15;

fn sensor_noise(seed: u64, width: usize) -> Vec<i8> {
    let mut rng = Rng::new(seed, Stream::Sensor, 0);
    let once: Vec<i8> = (0..NOISE_RING).map(|_| (rng.normal() * 1.5 * GREY as f32) as i8).collect();
    once.iter().copied().cycle().take(NOISE_RING + width).collect()
}

fn gain(factor: f32) -> i32 {
    (factor * (1 << GAIN_BITS) as f32) as i32
}

/// 0 in the middle, 1 at both ends.
fn squared_from_middle(at: u32, length: u32) -> f32 {
    let from_middle = 2.0 * (at as f32 + 0.5) / length as f32 - 1.0;
    from_middle * from_middle
}

/// From 0 to 1 without corners.
fn smooth(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// `SplitMix64`: any two different states give unrelated sequences, so that a place can be a state.
struct Rng(u64);

impl Rng {
    fn new(seed: u64, stream: Stream, place: u64) -> Self {
        let mut stream = Self(seed ^ (stream as u64) << 56);
        Self(stream.bits() ^ Self(place).bits())
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to below 1; 24 bits, which is what an `f32` holds exactly.
    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 24) as f32
    }

    /// From -1 to 1.
    fn signed(&mut self) -> f32 {
        2.0 * self.unit() - 1.0
    }

    fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// From `low` to `high`, both included.
    fn count(&mut self, low: u32, high: u32) -> u32 {
        low + (self.bits() % u64::from(high - low + 1)) as u32
    }

    fn chance(&mut self, share: f32) -> bool {
        self.unit() < share
    }

    /// Mean 0, deviation 1, never beyond 3.5: the sum of four 16 bit numbers.
    fn normal(&mut self) -> f32 {
        let bits = self.bits();
        let sum: u64 = (0..4).map(|n| bits >> (16 * n) & 0xFFFF).sum();
        // Each has a variance of 2^32 / 12.
        (sum as f32 - 131_070.0) / 37_837.0
    }
}

#[cfg(test)]
mod tests;
