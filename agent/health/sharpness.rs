//! How sharp the strongest edges of a picture are, by two measures that depend little on what it shows.
//!
//! Method: the picture is cut into tiles, and only the quarter of them with the most in it counts, so that plain background
//! has no say; of each measure the median over these tiles is taken.
//!
//! - *Slope*: the steepest step between neighbours, as a share of the tile's whole range: about the inverse of an edge's
//!   width. Measured on means of 2 x 2 pixels, so that noise does not make it.
//! - *Loss*: the share of all steps between neighbours that is lost when the tile is blurred once more (Crete, Dolmiere,
//!   Ladret, Nicolas: "The blur effect", 2007). A sharp picture loses much, a blurred one has nothing left to lose.
//!
//! Both were compared with the variance of the Laplacian and with ratios of the energy of differences at distances of 1, 2, 3
//! and 4 pixels; those say more about the content than about the focus.

use super::sample::Raster;
use super::usual::median;

/// Pixels along a tile's side.
const TILE: usize = 20;
/// Tiles that are looked at, at most; they are spread over the picture.
const TILES: usize = 800;
/// Tiles whose range is smaller than this (in grey levels) show nothing.
const RANGE: f32 = 12.0;
/// Fewer tiles than this say nothing.
const FEWEST: usize = 4;

/// Natural logarithms of the two measures; larger is sharper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edges {
    /// Of the steepest step as a share of the range.
    pub slope: f32,
    /// Of the share of steps that is lost by blurring.
    pub loss: f32,
}

struct Tile {
    range: f32,
    slope: f32,
    steps: f32,
    loss: f32,
}

/// Measures a picture; `None` if it shows nothing.
pub fn of<const C: usize>(raster: &Raster<'_, C>) -> Option<Edges> {
    let (columns, rows) = (raster.width / TILE, raster.height / TILE);
    let step = (columns * rows).div_ceil(TILES).max(1);
    let mut tiles = Vec::with_capacity(TILES);
    for row in 0..rows {
        // Each row begins elsewhere, or else whole columns would be left out.
        for column in (row * 7 % step..columns).step_by(step) {
            let mut grey = [[0_u8; TILE]; TILE];
            let (x, y) = (column * TILE, row * TILE);
            grey.iter_mut().enumerate().for_each(|(dy, line)| raster.grey(x, y + dy, line));
            tiles.push(tile(&grey));
        }
    }
    let quarter = tiles.len() / 4;
    if quarter < FEWEST {
        return None;
    }
    tiles.sort_unstable_by(|a, b| b.range.total_cmp(&a.range));
    let mut slopes: Vec<f32> = tiles[..quarter].iter().filter(|t| t.range >= RANGE).map(|t| t.slope).collect();
    if slopes.len() < FEWEST {
        return None;
    }
    tiles.sort_unstable_by(|a, b| b.steps.total_cmp(&a.steps));
    let mut losses: Vec<f32> = tiles[..quarter].iter().map(|t| t.loss).collect();
    Some(Edges { slope: median(&mut slopes).max(1e-3).ln(), loss: median(&mut losses).max(1e-3).ln() })
}

fn tile(grey: &[[u8; TILE]; TILE]) -> Tile {
    let grey = grey.map(|line| line.map(i16::from));
    let (range, steepest) = edges(&grey);
    let across = blurred(&grey);
    let mut turned = [[0; TILE]; TILE];
    for (y, line) in grey.iter().enumerate() {
        line.iter().enumerate().for_each(|(x, v)| turned[x][y] = *v);
    }
    let along = blurred(&turned);
    let (steps, lost) = (across.0 + along.0, across.1 + along.1);
    Tile { range, slope: steepest / range.max(1.0), steps, loss: lost / steps.max(1.0) }
}

/// Range and steepest step of 2 x 2 means, in grey levels.
fn edges(grey: &[[i16; TILE]; TILE]) -> (f32, f32) {
    let mut smooth = [[0_i16; TILE - 1]; TILE - 1];
    for (y, line) in smooth.iter_mut().enumerate() {
        for (x, v) in line.iter_mut().enumerate() {
            let (upper, lower) = (&grey[y], &grey[y + 1]);
            *v = upper[x].wrapping_add(upper[x + 1]).wrapping_add(lower[x]).wrapping_add(lower[x + 1]);
        }
    }
    let (mut low, mut high, mut steepest) = ([i16::MAX; TILE - 1], [0; TILE - 1], 0);
    for (y, line) in smooth.iter().enumerate() {
        for x in 0..TILE - 1 {
            (low[x], high[x]) = (low[x].min(line[x]), high[x].max(line[x]));
        }
        for x in 0..TILE - 2 {
            steepest = line[x + 1].wrapping_sub(line[x]).wrapping_abs().max(steepest);
        }
        if let Some(next) = smooth.get(y + 1) {
            for x in 0..TILE - 1 {
                steepest = next[x].wrapping_sub(line[x]).wrapping_abs().max(steepest);
            }
        }
    }
    let (low, high) = (low.into_iter().min().unwrap_or(0), high.into_iter().max().unwrap_or(0));
    (f32::from(high - low) / 4.0, f32::from(steepest) / 4.0)
}

/// Sum of steps from row to row, and how much of it is lost by a mean over five rows; both times five.
fn blurred(grey: &[[i16; TILE]; TILE]) -> (f32, f32) {
    let (mut steps, mut lost) = (0.0, 0.0);
    let (mut column_steps, mut column_lost) = ([0_i16; TILE], [0_i16; TILE]);
    for y in 2..TILE - 3 {
        for x in 0..TILE {
            let step = grey[y + 1][x].wrapping_sub(grey[y][x]).wrapping_abs().wrapping_mul(5);
            // The means of neighbouring rows differ in what the one has and the other has not.
            let left = grey[y + 3][x].wrapping_sub(grey[y - 2][x]).wrapping_abs();
            column_steps[x] = column_steps[x].wrapping_add(step);
            column_lost[x] = column_lost[x].wrapping_add(step.wrapping_sub(left).max(0));
        }
    }
    for (s, l) in column_steps.into_iter().zip(column_lost) {
        (steps, lost) = (steps + f32::from(s), lost + f32::from(l));
    }
    (steps, lost)
}

#[cfg(test)]
mod tests {
    use super::super::Sample;
    use super::*;
    use crate::frame::{Image, PixelFormat};
    use crate::health::tests::{blurred as blur, noise};

    fn squares(size: u32, period: u32, contrast: u8) -> Image {
        let pixel =
            |n: u32| if (n % size / period + n / size / period).is_multiple_of(2) { 100 } else { 100 + contrast };
        let pixels = (0..size * size).map(pixel).collect();
        Image { width: size, height: size, format: PixelFormat::Mono8, pixels, origin: None, truth: None }
    }

    #[test]
    fn blur_counts_and_content_hardly() {
        let measure = |image: &Image| Sample::of(image).edges.unwrap();
        let contents = [squares(320, 13, 60), squares(320, 31, 90), squares(320, 47, 40)];
        let sharp: Vec<Edges> = contents.iter().map(|c| measure(&noise(c, 1.5, 1))).collect();
        let soft: Vec<Edges> = contents.iter().map(|c| measure(&noise(&blur(c, 1.5), 1.5, 1))).collect();
        let slopes = |e: &[Edges]| e.iter().map(|e| e.slope).collect::<Vec<_>>();
        let losses = |e: &[Edges]| e.iter().map(|e| e.loss).collect::<Vec<_>>();
        for values in [slopes, losses] {
            let least = values(&sharp).into_iter().fold(f32::MAX, f32::min);
            let most = values(&soft).into_iter().fold(f32::MIN, f32::max);
            assert!(least > most + 0.1, "{sharp:?} {soft:?}");
        }
    }

    #[test]
    fn where_there_is_nothing_there_is_no_sharpness() {
        assert!(Sample::of(&noise(&squares(320, 400, 0), 1.5, 1)).edges.is_none());
    }
}
