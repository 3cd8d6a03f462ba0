//! Darkened cells that touch.

use super::super::latch::CALM;

/// What covers more than this share of the picture is no spot.
const LARGEST: f32 = 0.12;
/// A single cell must be so much surer.
const SINGLE: f32 = 1.5;
/// More spots than this are another scene, and so are darkened cells that are not so many times as many as brightened ones.
const MOST: usize = 5;
const DARKENED: usize = 2;

/// How far a cell has fallen.
#[derive(Debug, Clone, Copy)]
pub struct Fall {
    /// Logarithm of brightness.
    pub depth: f32,
    /// In units of what chance explains; negative where it became brighter.
    pub sure: f32,
    /// Whether the scene changes there.
    pub stirs: bool,
}

/// Spots.
#[derive(Debug, Clone, Copy, Default)]
pub struct Found {
    /// Of the worst where the scene changes: 1 at the threshold.
    pub level: f32,
    /// Of the worst where the scene is still.
    pub still: f32,
    /// Cells under spots that are over the threshold, as a share.
    pub share: f32,
}

/// Finds spots that take away at least `above`.
pub fn find(falls: &[Fall], (width, height): (usize, usize), above: f32) -> Found {
    let level = |fall: &Fall| (fall.depth / above).min(fall.sure);
    let mut open: Vec<bool> = falls.iter().map(|fall| level(fall) >= CALM).collect();
    let darkened = open.iter().filter(|open| **open).count();
    let brightened = falls.iter().filter(|fall| (-fall.depth / above).min(-fall.sure) >= CALM).count();
    if darkened < DARKENED * brightened {
        return Found::default();
    }
    let mut spots = 0;
    let total = (width * height).max(1) as f32;
    let mut found = Found::default();
    for start in 0..open.len() {
        let cells = flood(start, &mut open, (width, height));
        if cells.is_empty() || cells.len() as f32 > LARGEST * total {
            continue;
        }
        let mean = |of: &dyn Fn(&Fall) -> f32, at: &[usize]| {
            at.iter().map(|c| of(&falls[*c])).sum::<f32>() / at.len().max(1) as f32
        };
        let around = surroundings(&cells, (width, height));
        let depth = mean(&|f| f.depth, &cells) - mean(&|f| f.depth, &around).max(0.0);
        let sure = mean(&|f| f.sure, &cells) / if cells.len() == 1 { SINGLE } else { 1.0 };
        let spot = (depth / above).min(sure);
        if spot >= CALM {
            spots += 1;
            found.share += cells.len() as f32 / total;
        }
        let stirred = cells.iter().chain(&around).filter(|c| falls[**c].stirs).count();
        let worst = if stirred * 2 >= cells.len() + around.len() { &mut found.level } else { &mut found.still };
        *worst = worst.max(spot);
    }
    if spots > MOST { Found::default() } else { found }
}

/// The open cells that are connected with this one; they are closed.
fn flood(start: usize, open: &mut [bool], (width, height): (usize, usize)) -> Vec<usize> {
    let mut cells = Vec::new();
    let mut next = vec![start];
    while let Some(cell) = next.pop() {
        if !std::mem::take(&mut open[cell]) {
            continue;
        }
        cells.push(cell);
        let (x, y) = (cell % width, cell / width);
        let neighbours = [
            (x > 0, cell.wrapping_sub(1)),
            (x + 1 < width, cell + 1),
            (y > 0, cell.wrapping_sub(width)),
            (y + 1 < height, cell + width),
        ];
        next.extend(neighbours.into_iter().filter(|(is, _)| *is).map(|(_, at)| at));
    }
    cells
}

/// The ring of cells two away from a spot; those that touch it are its soft edge.
fn surroundings(cells: &[usize], (width, height): (usize, usize)) -> Vec<usize> {
    let mut near = vec![0_u8; width * height];
    for cell in cells {
        let (x, y) = (cell % width, cell / width);
        for dy in y.saturating_sub(2)..(y + 3).min(height) {
            for dx in x.saturating_sub(2)..(x + 3).min(width) {
                let touches = dx.abs_diff(x) < 2 && dy.abs_diff(y) < 2;
                let at = &mut near[dy * width + dx];
                *at = (*at).max(if touches { 2 } else { 1 });
            }
        }
    }
    (0..near.len()).filter(|at| near[*at] == 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(dark: impl Fn(usize, usize) -> bool) -> Vec<Fall> {
        let fall = |n: usize| if dark(n % 20, n / 20) { 0.3 } else { 0.0 };
        (0..20 * 15).map(|n| Fall { depth: fall(n), sure: fall(n) * 10.0, stirs: true }).collect()
    }

    #[test]
    fn a_spot_is_small_and_dark_against_its_surroundings() {
        let spot = find(&field(|x, y| (4..7).contains(&x) && (4..6).contains(&y)), (20, 15), 0.1);
        assert!(spot.level > 2.0 && (spot.share - 0.02).abs() < 1e-6, "{spot:?}");
        let half = find(&field(|x, _| x < 10), (20, 15), 0.1);
        assert_eq!(half.level, 0.0, "half the picture is no spot");
        let faint = find(&field(|x, y| (4..7).contains(&x) && (4..6).contains(&y)), (20, 15), 0.4);
        assert!((0.7..1.0).contains(&faint.level), "{faint:?}");
        assert_eq!(find(&[], (0, 0), 0.1).level, 0.0);
    }

    #[test]
    fn another_scene_is_no_dirt() {
        let many = find(&field(|x, y| x % 5 == 2 && y % 5 == 2), (20, 15), 0.1);
        assert_eq!(many.level, 0.0, "twelve spots");
        let mut mixed = field(|x, y| (4..7).contains(&x) && (4..6).contains(&y));
        mixed[200..205].iter_mut().for_each(|fall| (fall.depth, fall.sure) = (-0.3, -3.0));
        assert_eq!(find(&mixed, (20, 15), 0.1).level, 0.0, "six darker, five brighter");
    }

    #[test]
    fn spots_at_corners_and_edges_are_spots() {
        for at in [(0, 0), (19, 0), (0, 14), (19, 14), (10, 0)] {
            let found = find(&field(|x, y| x.abs_diff(at.0) < 2 && y.abs_diff(at.1) < 2), (20, 15), 0.1);
            assert!(found.level >= 1.0, "{at:?} {found:?}");
        }
    }
}
