//! Blocks of the reference, and how they are found again.

use super::Small;

/// Reduced pixels along a block's side.
pub const BLOCK: usize = 24;
/// Reduced pixels between the picture's edge and the first block.
pub const MARGIN: usize = 4;
/// A block whose standard deviation in grey levels is smaller shows nothing.
const PLAIN: f32 = 3.0;
/// Reduced pixels to each side of where a block is sought first; from a find at the edge it goes on,
const RADIUS: isize = 2;
/// so many times.
const STEPS: usize = 3;

/// A block of the reference.
#[derive(Debug, Clone)]
pub struct Block {
    x: usize,
    y: usize,
    /// Grey values less their mean.
    grey: Vec<i16>,
    norm: f32,
    /// Where it was found in good pictures, relative to where it was cut out.
    pub home: [f32; 2],
    /// Whether that was always about the same place, in x and in y.
    pub steady: [bool; 2],
}

impl Block {
    /// Cuts it out; `None` where nothing is to be seen.
    pub fn of(reference: &Small, x: usize, y: usize) -> Option<Self> {
        let rows = (y..y + BLOCK).map(|line| reference.row(line).get(x..x + BLOCK).unwrap_or(&[]));
        let values: Vec<i16> = rows.flatten().map(|v| i16::from(*v)).collect();
        let mean = values.iter().map(|v| f32::from(*v)).sum::<f32>() / values.len().max(1) as f32;
        let grey: Vec<i16> = values.iter().map(|v| v - mean.round() as i16).collect();
        let norm = grey.iter().map(|v| f32::from(*v).powi(2)).sum::<f32>().sqrt();
        let plain = norm < PLAIN * (grey.len() as f32).sqrt() || grey.len() < BLOCK * BLOCK;
        (!plain).then_some(Self { x, y, grey, norm, home: [0.0; 2], steady: [true; 2] })
    }

    /// Its middle, in reduced pixels.
    pub fn middle(&self) -> [f32; 2] {
        [self.x, self.y].map(|v| v as f32 + BLOCK as f32 / 2.0)
    }

    /// How well the picture fits at this displacement; nothing outside of it.
    fn fit(&self, small: &Small, dx: isize, dy: isize) -> Option<f32> {
        let (x, y) = (self.x.checked_add_signed(dx)?, self.y.checked_add_signed(dy)?);
        if x + BLOCK > small.width || y + BLOCK > small.height {
            return None;
        }
        let (mut product, mut sum, mut squares) = (0_i32, 0_i32, 0_i32);
        for (line, grey) in self.grey.as_chunks::<BLOCK>().0.iter().enumerate() {
            let row = &small.row(y + line)[x..x + BLOCK];
            for (a, b) in grey.iter().zip(row) {
                let (a, b) = (i32::from(*a), i32::from(*b));
                product = product.wrapping_add(a.wrapping_mul(b));
                sum = sum.wrapping_add(b);
                squares = squares.wrapping_add(b.wrapping_mul(b));
            }
        }
        let n = (BLOCK * BLOCK) as f32;
        let total: i32 = self.grey.iter().fold(0, |a, b| a + i32::from(*b));
        let mean = sum as f32 / n;
        let norm = (squares as f32 - sum as f32 * mean).max(0.0).sqrt();
        Some((product as f32 - total as f32 * mean) / (norm * self.norm).max(1.0))
    }

    /// Its displacement in this picture, if it is found about there.
    pub fn seek(&self, small: &Small, from: [isize; 2], least: f32) -> Option<[f32; 2]> {
        let (mut centre, mut best) = (from, (from, f32::MIN));
        for _ in 0..STEPS {
            for dy in -RADIUS..=RADIUS {
                for dx in -RADIUS..=RADIUS {
                    let at = [centre[0] + dx, centre[1] + dy];
                    if let Some(fit) = self.fit(small, at[0], at[1]).filter(|fit| *fit > best.1) {
                        best = (at, fit);
                    }
                }
            }
            let reached = (0..2).any(|k| (best.0[k] - centre[k]).abs() == RADIUS);
            if !reached {
                break;
            }
            centre = best.0;
        }
        let ([x, y], fit) = best;
        if fit < least {
            return None;
        }
        let part = |low: Option<f32>, high: Option<f32>| match (low, high) {
            (Some(low), Some(high)) if 2.0 * fit - low - high > 1e-6 => {
                (0.5 * (high - low) / (2.0 * fit - low - high)).clamp(-0.5, 0.5)
            }
            _ => 0.0,
        };
        let px = part(self.fit(small, x - 1, y), self.fit(small, x + 1, y));
        let py = part(self.fit(small, x, y - 1), self.fit(small, x, y + 1));
        Some([x as f32 + px, y as f32 + py])
    }
}

/// The shift, up to `reach` each way, at which two small pictures of one size resemble each other most.
pub fn coarse(reference: &Small, now: &Small, reach: isize) -> [isize; 2] {
    let mut best = ([0, 0], f32::MIN);
    if (reference.width, reference.height) != (now.width, now.height) {
        return best.0;
    }
    for dy in -reach..=reach {
        for dx in -reach..=reach {
            if let Some(fit) = overlap(reference, now, dx, dy).filter(|fit| *fit > best.1) {
                best = ([dx, dy], fit);
            }
        }
    }
    best.0
}

/// Correlation of what overlaps, if that is more than a third.
fn overlap(reference: &Small, now: &Small, dx: isize, dy: isize) -> Option<f32> {
    let span = |side: usize, d: isize| {
        let start = d.min(0).unsigned_abs();
        (start, side.checked_sub(d.unsigned_abs()))
    };
    let ((x, width), (y, height)) = (span(now.width, dx), span(now.height, dy));
    let (width, height) = (width?, height?);
    if 3 * width * height < now.width * now.height || width * height == 0 {
        return None;
    }
    let (mut ab, mut a1, mut b1, mut a2, mut b2) = (0_i32, 0_i32, 0_i32, 0_i32, 0_i32);
    for line in y..y + height {
        let a = &reference.row(line)[x..x + width];
        let from = x.checked_add_signed(dx)?;
        let b = &now.row(line.checked_add_signed(dy)?)[from..from + width];
        for (a, b) in a.iter().zip(b) {
            let (a, b) = (i32::from(*a), i32::from(*b));
            ab = ab.wrapping_add(a.wrapping_mul(b));
            (a1, b1) = (a1.wrapping_add(a), b1.wrapping_add(b));
            (a2, b2) = (a2.wrapping_add(a.wrapping_mul(a)), b2.wrapping_add(b.wrapping_mul(b)));
        }
    }
    let n = (width * height) as f32;
    let (a1, b1) = (a1 as f32, b1 as f32);
    let norm = ((a2 as f32 - a1 * a1 / n).max(0.0) * (b2 as f32 - b1 * b1 / n).max(0.0)).sqrt();
    Some((ab as f32 - a1 * b1 / n) / norm.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A smooth pattern that repeats nowhere near, seen from another place.
    fn scene(dx: f32, dy: f32, gain: f32) -> Small {
        let (width, height) = (80, 64);
        let wave = |x: f32, y: f32| {
            (x * 0.31).sin()
                + (y * 0.27 + 1.0).sin()
                + (x * 0.11 + y * 0.17).cos()
                + (x * 0.05 * (y * 0.07).sin()).sin()
        };
        let at = |n: usize| wave((n % width) as f32 - dx, (n / width) as f32 - dy);
        let data = (0..width * height).map(|n| (gain * (120.0 + 25.0 * at(n))) as u8).collect();
        Small { width, height, factor: 4, data }
    }

    #[test]
    fn a_block_is_found_to_a_part_of_a_pixel_in_other_light() {
        let block = Block::of(&scene(0.0, 0.0, 1.0), 24, 20).unwrap();
        for (dx, dy) in [(0.0, 0.0), (0.5, -0.3), (1.6, 1.2), (-4.3, 3.7)] {
            let [x, y] = block.seek(&scene(dx, dy, 0.8), [0, 0], 0.5).unwrap();
            assert!((x - dx).abs() < 0.2 && (y - dy).abs() < 0.2, "{dx} {dy}: {x} {y}");
        }
        assert!(Block::of(&Small { data: vec![9; 80 * 64], ..scene(0.0, 0.0, 1.0) }, 24, 20).is_none());
    }

    #[test]
    fn a_large_shift_is_found_roughly() {
        assert_eq!(coarse(&scene(0.0, 0.0, 1.0), &scene(7.0, -5.0, 0.9), 8), [7, -5]);
        assert_eq!(coarse(&Small::default(), &Small::default(), 8), [0, 0]);
    }
}
