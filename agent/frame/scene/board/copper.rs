//! The copper of a board, a pixel each copper or bare, with the ragged outlines that etching and thresholding leave.

use crate::frame::scene::{Cloud, Rng};

/// A filled shape, in units of a picture of 640 px.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A circle.
    Disc { x: f32, y: f32, radius: f32 },
    /// A line with round ends, whose half width changes evenly.
    Line { from: [f32; 2], to: [f32; 2], half: [f32; 2] },
    /// A rectangle whose corners are cut off by `cut`.
    Plate { x: f32, y: f32, half_width: f32, half_height: f32, cut: f32 },
}

impl Shape {
    /// A line of even width.
    pub fn line(from: [f32; 2], to: [f32; 2], width: f32) -> Self {
        Self::Line { from, to, half: [width / 2.0; 2] }
    }

    /// How far a place is outside; negative inside.
    pub fn distance(&self, at: [f32; 2]) -> f32 {
        match *self {
            Self::Disc { x, y, radius } => length([at[0] - x, at[1] - y]) - radius,
            Self::Line { from, to, half } => {
                let along = [to[0] - from[0], to[1] - from[1]];
                let (x, y) = (at[0] - from[0], at[1] - from[1]);
                let square = along[0] * along[0] + along[1] * along[1];
                let share = if square > 0.0 { ((x * along[0] + y * along[1]) / square).clamp(0.0, 1.0) } else { 0.0 };
                length([x - share * along[0], y - share * along[1]]) - (half[0] + share * (half[1] - half[0]))
            }
            Self::Plate { x, y, half_width, half_height, cut } => {
                let (dx, dy) = ((at[0] - x).abs(), (at[1] - y).abs());
                let corner = (dx + dy - (half_width + half_height - cut)) * 0.707;
                (dx - half_width).max(dy - half_height).max(corner)
            }
        }
    }

    /// x0, y0, x1, y1
    pub fn bounds(&self) -> [f32; 4] {
        match *self {
            Self::Disc { x, y, radius } => [x - radius, y - radius, x + radius, y + radius],
            Self::Line { from, to, half } => {
                let half = half[0].max(half[1]);
                let [low, high] =
                    [[0, 1].map(|n| from[n].min(to[n]) - half), [0, 1].map(|n| from[n].max(to[n]) + half)];
                [low[0], low[1], high[0], high[1]]
            }
            Self::Plate { x, y, half_width, half_height, .. } => {
                [x - half_width, y - half_height, x + half_width, y + half_height]
            }
        }
    }
}

/// Of a vector.
pub fn length([x, y]: [f32; 2]) -> f32 {
    (x * x + y * y).sqrt()
}

/// How outlines wander.
#[derive(Clone, Copy)]
pub struct Outline {
    wave: Cloud,
    grain: u64,
    /// Pixels that waves and single pixels are off by at most.
    off: [f32; 2],
}

impl Outline {
    /// As etching leaves them.
    pub fn etched(rng: &mut Rng) -> Self {
        Self { wave: Cloud::new(rng), grain: rng.bits(), off: [0.32, 0.1] }
    }

    /// As defects have them.
    pub fn ragged(rng: &mut Rng, scale: f32) -> Self {
        Self { wave: Cloud::new(rng), grain: rng.bits(), off: [0.9 * scale, 0.3] }
    }

    /// Pixels that a shape is larger by at a pixel.
    pub fn at(&self, x: i64, y: i64, lump: f32) -> f32 {
        let place = (x as u64 & 0xFFFF_FFFF) << 32 | y as u64 & 0xFFFF_FFFF;
        let grain = Rng(self.grain ^ place).signed();
        self.off[0] * self.wave.at(x as f32 / lump, y as f32 / lump) + self.off[1] * grain
    }

    /// The most of [`Outline::at`].
    pub fn most(&self) -> f32 {
        self.off[0] + self.off[1]
    }
}

/// One board; to its left and right lies the next of the same kind.
pub struct Copper {
    /// Pixels a row.
    pub width: i64,
    /// Rows.
    pub height: i64,
    /// Pixels a unit.
    pub scale: f32,
    pixels: Vec<bool>,
}

impl Copper {
    /// A bare board.
    pub fn new(width: u32, height: u32, scale: f32) -> Self {
        let pixels = vec![false; width as usize * height as usize];
        Self { width: i64::from(width), height: i64::from(height), scale, pixels }
    }

    /// Lays copper, or takes it away.
    pub fn paint(&mut self, shape: &Shape, outline: &Outline, copper: bool) {
        let edge = outline.most() + 1.0;
        let [x0, y0, x1, y1] = shape.bounds().map(|at| at * self.scale);
        let pixels = |low: f32, high: f32, end: i64| ((low - edge) as i64).max(0)..((high + edge) as i64 + 1).min(end);
        for y in pixels(y0, y1, self.height) {
            for x in pixels(x0, x1, self.width) {
                let distance = shape.distance(self.units(x, y)) * self.scale;
                if distance < -edge || (distance < edge && distance < outline.at(x, y, 20.0)) {
                    self.pixels[(y * self.width + x) as usize] = copper;
                }
            }
        }
    }

    /// The middle of a pixel in units.
    pub fn units(&self, x: i64, y: i64) -> [f32; 2] {
        [(x as f32 + 0.5) / self.scale, (y as f32 + 0.5) / self.scale]
    }

    /// A row of pixels; none beyond the board.
    pub fn row(&self, y: u32) -> &[bool] {
        let start = y as usize * self.width as usize;
        self.pixels.get(start..start + self.width as usize).unwrap_or_default()
    }

    /// Whether a pixel is copper; above and below the board none is.
    pub fn pixel(&self, x: i64, y: i64) -> bool {
        (0..self.height).contains(&y) && self.pixels[(y * self.width + x.rem_euclid(self.width)) as usize]
    }

    /// [`Copper::pixel`] at a place in units.
    pub fn at(&self, [x, y]: [f32; 2]) -> bool {
        self.pixel((x * self.scale).floor() as i64, (y * self.scale).floor() as i64)
    }

    /// How far it is from a place in a direction until copper begins or ends, if that is before `limit`.
    pub fn change(&self, from: [f32; 2], direction: [f32; 2], limit: f32) -> Option<f32> {
        let (here, pace) = (self.at(from), (0.5 / self.scale).min(0.5));
        let steps = (limit / pace) as u32;
        let far = |n: u32| n as f32 * pace;
        (1..steps).map(far).find(|&far| self.at([from[0] + far * direction[0], from[1] + far * direction[1]]) != here)
    }

    /// Whether all is alike as far as `radius` around a place.
    pub fn even(&self, at: [f32; 2], radius: f32) -> bool {
        DIRECTIONS.iter().all(|&direction| self.change(at, direction, radius).is_none())
    }

    /// The direction in which the copper ends, at a place on its edge.
    pub fn outward(&self, at: [f32; 2]) -> Option<[f32; 2]> {
        const RADIUS: f32 = 5.0;
        let mut sum = [0.0, 0.0];
        for direction in DIRECTIONS {
            for far in [0.35, 0.6, 0.8, 1.0].map(|share| share * RADIUS) {
                let away = direction.map(|part| part * far);
                if !self.at([at[0] + away[0], at[1] + away[1]]) {
                    sum = [sum[0] + away[0], sum[1] + away[1]];
                }
            }
        }
        let size = length(sum);
        (size > RADIUS).then(|| sum.map(|part| part / size))
    }
}

/// Unit vectors all around.
pub const DIRECTIONS: [[f32; 2]; 16] = [
    [1.0, 0.0],
    [0.924, 0.383],
    [0.707, 0.707],
    [0.383, 0.924],
    [0.0, 1.0],
    [-0.383, 0.924],
    [-0.707, 0.707],
    [-0.924, 0.383],
    [-1.0, 0.0],
    [-0.924, -0.383],
    [-0.707, -0.707],
    [-0.383, -0.924],
    [0.0, -1.0],
    [0.383, -0.924],
    [0.707, -0.707],
    [0.924, -0.383],
];
