//! The surface: rolled and brushed steel, grey, the same look everywhere and never quite the same twice.
//!
//! Two tiles of fine marks, whose sizes share no divisor, are laid over each other, so that their sum comes back only
//! after the product of their sizes. Longer streaks and a gentle shading are interpolated between hashes of the place,
//! and do not come back at all.

use crate::frame::scene::{GREY, Rng, Stream, smooth};

/// Grey level of the bare surface.
const BASE: f32 = 136.0;

/// Distance along the travel of the points that streaks and shading are interpolated between.
const KNOTS: i64 = 256;

/// The parts of the surface that can be looked up.
pub struct Texture {
    seed: u64,
    /// Long scratches of the brush, along the travel.
    brush: Tile,
    /// Short grain.
    grain: Tile,
    /// [`smooth`] between two knots, in 1/256.
    blend: Vec<i32>,
}

impl Texture {
    /// Draws the tiles.
    pub fn new(seed: u64) -> Self {
        let mut brush = Tile::white(&mut Rng::new(seed, Stream::Brush, 0), 1021, 509);
        brush.blur_along(61);
        brush.blur_along(19);
        brush.blur_across();
        brush.deviation(5.0);
        let mut grain = Tile::white(&mut Rng::new(seed, Stream::Grain, 0), 769, 383);
        grain.blur_along(5);
        grain.blur_across();
        grain.deviation(4.0);
        let blend = (0..KNOTS).map(|at| (smooth(at as f32 / KNOTS as f32) * 256.0) as i32).collect();
        Self { seed, brush, grain, blend }
    }

    /// Writes row `y` of the surface from the coordinate `x` on, in 1/[`GREY`] of a grey level.
    pub fn row(&self, x: i64, y: u32, out: &mut [i16]) {
        out.fill((BASE * GREY as f32) as i16);
        self.brush.add(x, y, out);
        self.grain.add(x, y, out);
        // Neighbouring rows are streaked at different places, or the knots would show as columns.
        let phase = Rng::new(self.seed, Stream::Streak, u64::from(y / 3)).bits() as i64 & 0xFFFF;
        self.interpolate(x + phase, out, |knot| self.streak(knot, y));
        self.interpolate(x, out, |knot| self.shading(knot, y));
    }

    /// Adds a value that is `at(knot)` at each knot and smooth between.
    fn interpolate(&self, x: i64, out: &mut [i16], at: impl Fn(i64) -> f32) {
        let fixed = |knot| (at(knot) * GREY as f32) as i32;
        let mut knot = x.div_euclid(KNOTS);
        let mut skip = x.rem_euclid(KNOTS) as usize;
        let mut from = fixed(knot);
        let mut rest = out;
        while !rest.is_empty() {
            let to = fixed(knot + 1);
            let (part, after) = rest.split_at_mut((self.blend.len() - skip).min(rest.len()));
            for (value, &blend) in part.iter_mut().zip(&self.blend[skip..]) {
                *value = value.wrapping_add((from + (((to - from) * blend) >> 8)) as i16);
            }
            (rest, skip, from, knot) = (after, 0, to, knot + 1);
        }
    }

    fn streak(&self, knot: i64, y: u32) -> f32 {
        let hash = |rows: u32, part: u64| {
            let place = (knot as u64) << 24 ^ u64::from(y / rows) << 2 ^ part;
            Rng::new(self.seed, Stream::Streak, place).normal()
        };
        1.8 * hash(1, 1) + 2.4 * hash(3, 2)
    }

    fn shading(&self, knot: i64, y: u32) -> f32 {
        const ROWS: u32 = 96;
        let hash = |line: u32| {
            let place = (knot as u64) << 24 ^ u64::from(line);
            Rng::new(self.seed, Stream::Shading, place).normal()
        };
        let (above, below) = (hash(y / ROWS), hash(y / ROWS + 1));
        2.5 * (above + (below - above) * smooth((y % ROWS) as f32 / ROWS as f32))
    }
}

/// A rectangle of texture that continues at its opposite side.
struct Tile {
    width: usize,
    values: Vec<i16>,
}

impl Tile {
    fn white(rng: &mut Rng, width: usize, height: usize) -> Self {
        Self { width, values: (0..width * height).map(|_| (rng.normal() * 4096.0) as i16).collect() }
    }

    /// Mean over `length` values along the travel.
    fn blur_along(&mut self, length: usize) {
        let mut row = Vec::new();
        for values in self.values.chunks_exact_mut(self.width) {
            row.clear();
            row.extend(values.iter().map(|&value| i32::from(value)));
            row.extend_from_within(..length);
            let mut sum: i32 = row[..length].iter().sum();
            for (value, ends) in values.iter_mut().zip(row.windows(length + 1)) {
                // Divided by less than the length, to keep digits: what is left of noise shrinks with its root.
                *value = (sum * 2 / length as i32) as i16;
                sum += ends[length] - ends[0];
            }
        }
    }

    /// Softens the rows by the row below.
    fn blur_across(&mut self) {
        let below: Vec<i16> = self.values[self.width..].iter().chain(&self.values[..self.width]).copied().collect();
        for (value, below) in self.values.iter_mut().zip(below) {
            *value = ((2 * i32::from(*value) + i32::from(below)) / 3) as i16;
        }
    }

    /// Scales the tile to a mean deviation in grey levels.
    fn deviation(&mut self, levels: f32) {
        let squares: i64 = self.values.iter().map(|&value| i64::from(value) * i64::from(value)).sum();
        let now = (squares as f32 / self.values.len() as f32).sqrt().max(1.0);
        let factor = levels * GREY as f32 / now;
        for value in &mut self.values {
            *value = (f32::from(*value) * factor) as i16;
        }
    }

    fn add(&self, x: i64, y: u32, out: &mut [i16]) {
        let height = self.values.len() / self.width;
        let first = y as usize % height * self.width;
        // Where a frame is taller than the tile, the next one does not lie straight below.
        let shift = y as usize / height * (self.width / 3);
        let mut skip = (x.rem_euclid(self.width as i64) as usize + shift) % self.width;
        let mut rest = out;
        while !rest.is_empty() {
            let (part, after) = rest.split_at_mut((self.width - skip).min(rest.len()));
            for (value, &mark) in part.iter_mut().zip(&self.values[first + skip..]) {
                *value = value.wrapping_add(mark);
            }
            (rest, skip) = (after, 0);
        }
    }
}
