//! From a heat map to boxes: cells that stand out, joined where they touch.

use super::HeatMap;

/// Boxes a frame.
const MAX_REGIONS: usize = 8;
/// A region goes on as far as cells have this share of the threshold.
const SPREAD: f32 = 0.75;

/// An anomalous region.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// x0, y0, x1, y1 in network input pixels.
    pub bbox: [f32; 4],
    /// How sure, 0 to 1.
    pub score: f32,
}

/// Connected regions (8 neighbours) of cells over `SPREAD * threshold` that hold a cell over `threshold`, strongest
/// first. When smoothing left no single cell over the threshold, the strongest cell's region stands for the frame.
pub fn find(map: &HeatMap, threshold: f32, probability: impl Fn(f32) -> f32) -> Vec<Region> {
    let strongest = map.data.iter().copied().fold(0.0, f32::max);
    let peak = threshold.min(strongest);
    let low = peak * SPREAD;
    let mut seen = vec![false; map.data.len()];
    let mut found: Vec<(f32, [usize; 4])> = Vec::new();
    let mut stack = Vec::new();
    for start in 0..map.data.len() {
        if seen[start] || map.data[start] < low {
            continue;
        }
        let (mut top, mut bounds) = (0.0_f32, [usize::MAX, usize::MAX, 0, 0]);
        seen[start] = true;
        stack.push(start);
        while let Some(cell) = stack.pop() {
            let (x, y) = (cell % map.width, cell / map.width);
            top = top.max(map.data[cell]);
            bounds = [bounds[0].min(x), bounds[1].min(y), bounds[2].max(x + 1), bounds[3].max(y + 1)];
            for ny in y.saturating_sub(1)..(y + 2).min(map.height) {
                for nx in x.saturating_sub(1)..(x + 2).min(map.width) {
                    let next = ny * map.width + nx;
                    if !seen[next] && map.data[next] >= low {
                        seen[next] = true;
                        stack.push(next);
                    }
                }
            }
        }
        if top >= peak {
            found.push((top, bounds));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.truncate(MAX_REGIONS);
    let pixels = |n: usize| (n * map.stride) as f32;
    found.into_iter().map(|(top, b)| Region { bbox: b.map(pixels), score: probability(top) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rows: &[&[f32]]) -> HeatMap {
        HeatMap { width: rows[0].len(), height: rows.len(), stride: 8, data: rows.concat() }
    }

    #[test]
    fn touching_cells_are_one_region_strongest_first() {
        let map = map(&[
            &[0.0, 0.9, 0.1, 0.0, 0.0],
            &[0.0, 0.1, 0.8, 0.0, 0.0],
            &[0.0, 0.0, 0.0, 0.0, 1.2],
            &[0.6, 0.0, 0.0, 0.0, 0.0],
        ]);
        let regions = find(&map, 0.8, |s| s / 2.0);
        assert_eq!(regions, [
            Region { bbox: [32.0, 16.0, 40.0, 24.0], score: 0.6 },
            Region { bbox: [8.0, 0.0, 24.0, 16.0], score: 0.45 },
        ]);
    }

    #[test]
    fn a_frame_over_the_threshold_always_has_a_region() {
        let weak = map(&[&[0.1, 0.2], &[0.1, 0.1]]);
        assert_eq!(find(&weak, 0.5, |s| s).len(), 1);
    }
}
