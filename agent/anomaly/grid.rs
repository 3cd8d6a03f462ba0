//! The grid of patches: fine maps are averaged down to about as many cells as the check was made for.
//!
//! The detector wants large inputs, the anomaly check does not: a patch of a finer grid shows less of its surroundings, and each
//! costs. So a map of many cells is brought to [`CELLS`] by averaging over areas, in the map's own shape.

use crate::model::FeatureMap;

/// Patches of a frame of 320 x 320 input pixels at stride 16. Half a point of AUROC better than 256.
const CELLS: f32 = 400.0;
/// Maps of up to this many times as many cells stay as they are.
const SLACK: f32 = 1.3;

/// How a map becomes the grid of patches.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Grid {
    /// Columns, rows and stride of the maps that it is for.
    from: [usize; 3],
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Network input pixels a cell, in x and y.
    pub cell: [f32; 2],
    /// For each column and row the parts of the map's that it is the mean of; none where the map is the grid.
    shares: Option<[Vec<Share>; 2]>,
}

/// First place, and the weights of the places from there on; they add up to one.
#[derive(Debug, Clone, PartialEq)]
struct Share(usize, Vec<f32>);

impl Grid {
    /// Whether it is for maps of this shape.
    #[must_use]
    pub fn fits(&self, map: &FeatureMap) -> bool {
        self.from == [map.width, map.height, map.stride]
    }

    /// For maps of this shape.
    #[must_use]
    pub fn of(map: &FeatureMap) -> Self {
        let from = [map.width, map.height, map.stride];
        let (columns, rows) = (map.width as f32, map.height as f32);
        let stride = map.stride as f32;
        if columns * rows <= CELLS * SLACK {
            return Self { from, width: map.width, height: map.height, cell: [stride; 2], shares: None };
        }
        let scale = (CELLS / (columns * rows)).sqrt();
        let side = |n: f32| (n * scale).round().max(1.0) as usize;
        let (width, height) = (side(columns), side(rows));
        Self {
            from,
            width,
            height,
            cell: [stride * columns / width as f32, stride * rows / height as f32],
            shares: Some([shares(map.width, width), shares(map.height, height)]),
        }
    }

    /// One channel on the grid: itself, or its means in `out`, which holds `width * height` values. `rows` is memory to
    /// work in.
    pub fn resample<'a>(&self, values: &'a [f32], rows: &mut Vec<f32>, out: &'a mut [f32]) -> &'a [f32] {
        let Some([across, down]) = &self.shares else { return values };
        rows.clear();
        let columns = across.last().map_or(0, |Share(first, weights)| first + weights.len());
        for row in values.chunks_exact(columns.max(1)) {
            rows.extend(
                across
                    .iter()
                    .map(|Share(first, weights)| weights.iter().zip(&row[*first..]).map(|(w, v)| w * v).sum::<f32>()),
            );
        }
        for (Share(first, weights), line) in down.iter().zip(out.chunks_exact_mut(self.width)) {
            line.fill(0.0);
            for (weight, row) in weights.iter().zip(rows[first * self.width..].chunks_exact(self.width)) {
                line.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
            }
        }
        out
    }
}

/// Of `from` places along an axis the parts that each of `to` places covers.
fn shares(from: usize, to: usize) -> Vec<Share> {
    let step = from as f32 / to as f32;
    (0..to)
        .map(|n| {
            let (low, high) = (n as f32 * step, ((n + 1) as f32 * step).min(from as f32));
            let (first, end) = (low.floor() as usize, (high.ceil() as usize).min(from));
            let cover = |place: usize| (high.min(place as f32 + 1.0) - low.max(place as f32)).max(0.0) / step;
            Share(first, (first..end).map(cover).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(width: usize, height: usize) -> FeatureMap {
        let data = (0..width * height).map(|n| (n % width) as f32).collect();
        FeatureMap { channels: 1, height, width, stride: 16, data }
    }

    #[test]
    fn a_small_map_is_the_grid() {
        let grid = Grid::of(&map(18, 14));
        assert_eq!((grid.width, grid.height, grid.cell), (18, 14, [16.0, 16.0]));
        let (mut out, map) = (vec![0.0; 18 * 14], map(18, 14));
        assert_eq!(grid.resample(&map.data, &mut Vec::new(), &mut out), map.data);
    }

    #[test]
    fn a_large_map_is_averaged_over_areas() {
        let map = map(40, 40);
        let grid = Grid::of(&map);
        assert_eq!((grid.width, grid.height, grid.cell), (20, 20, [32.0, 32.0]));
        let mut out = vec![0.0; 400];
        let out = grid.resample(&map.data, &mut Vec::new(), &mut out);
        assert!((0..20).all(|x| (out[x] - (2.0 * x as f32 + 0.5)).abs() < 1e-5));
    }

    proptest! {
        #[test]
        fn every_place_counts_as_much_as_every_other(width in 1_usize..60, height in 1_usize..60) {
            let grid = Grid::of(&map(width, height));
            prop_assert!((grid.width * grid.height) as f32 <= CELLS * 1.6);
            prop_assert!((grid.cell[0] * grid.width as f32 - 16.0 * width as f32).abs() < 0.01);
            let mut out = vec![0.0; grid.width * grid.height];
            let values = vec![3.0; width * height];
            let out = grid.resample(&values, &mut Vec::new(), &mut out);
            prop_assert!(out.iter().all(|v| (v - 3.0).abs() < 1e-4));
            for (axis, count) in grid.shares.iter().flatten().zip([width, height]) {
                let mut weight = vec![0.0; count];
                for Share(first, weights) in axis {
                    weights.iter().enumerate().for_each(|(n, w)| weight[first + n] += w);
                }
                let mean = axis.len() as f32 / count as f32;
                prop_assert!(weight.iter().all(|w| (w - mean).abs() < 1e-3), "{weight:?}");
            }
        }
    }
}
