//! Patches: what the network's feature maps say about each place of a frame, as one unit vector a place.
//!
//! As in PatchCore (Roth et al., CVPR 2022), each map is averaged over 3x3 cells, so that a patch knows its
//! surroundings, and the maps are joined at one grid, here the coarsest. New here: each map's part of the vector is
//! brought to a length of its own, so that the share of each layer is chosen and not an accident of its channels, and
//! lighting (which scales features) falls out. The coarsest layer, which sees most context, leads; finer ones add
//! [`FINE`] of its length. Any share from 0.2 to 0.5 gives the same accuracy within half a point.
//!
//! Two more values say where the patch lies ([`PLACE`] times its place in the frame, -0.5 to 0.5), so that of patches
//! that look alike the one at the same place is nearer. For a part that is always laid down alike this tells left from
//! right; for a texture it changes nothing.

use crate::model::FeatureMap;

/// Weight of the place; half and twice of it give the same accuracy within half a point.
const PLACE: f32 = 1.0;
/// Values behind the features: row, column, and a one that the bank's products need.
const EXTRA: usize = 3;
/// Share of a frame's strongest cells whose mean is the frame's score.
const TOP_SHARE: f32 = 0.005;

/// Length of a finer layer's part, where the coarsest one's is 1.
const FINE: f32 = 0.35;

/// The patches of a frame.
#[derive(Debug, Clone, Default)]
pub struct Embedding {
    /// Columns of the grid.
    pub width: usize,
    /// Rows of the grid.
    pub height: usize,
    /// Network input pixels a patch.
    pub stride: usize,
    /// Values a patch.
    pub dim: usize,
    /// `width * height * dim` values, a patch's together: features of length one, row, column, one.
    pub data: Vec<f32>,
    scratch: Vec<f32>,
}

impl Embedding {
    /// Patches a frame.
    #[must_use]
    pub fn patches(&self) -> usize {
        self.width * self.height
    }

    /// Takes the feature maps of a frame; memory is used again.
    pub fn embed(&mut self, maps: &[FeatureMap]) {
        let Some(coarse) = maps.iter().max_by_key(|map| map.stride) else { return };
        (self.width, self.height, self.stride) = (coarse.width, coarse.height, coarse.stride);
        self.dim = maps.iter().map(|map| map.channels).sum::<usize>() + EXTRA;
        self.data.clear();
        self.data.resize(self.patches() * self.dim, 0.0);
        let weight = |map: &FeatureMap| if map.stride == coarse.stride { 1.0 } else { FINE };
        let whole = maps.iter().map(|map| weight(map) * weight(map)).sum::<f32>().sqrt();
        let mut first = 0;
        for map in maps {
            self.add(map, first);
            let part = weight(map) / whole;
            for patch in self.data.chunks_exact_mut(self.dim) {
                let part_of = &mut patch[first..first + map.channels];
                let length = part_of.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-9);
                part_of.iter_mut().for_each(|v| *v *= part / length);
            }
            first += map.channels;
        }
        let place = |n: usize, of: usize| PLACE * ((n as f32 + 0.5) / of as f32 - 0.5);
        for (at, patch) in self.data.chunks_exact_mut(self.dim).enumerate() {
            patch[first] = place(at / self.width, self.height);
            patch[first + 1] = place(at % self.width, self.width);
            patch[first + 2] = 1.0;
        }
    }

    /// The squared length of a patch's features and place.
    #[must_use]
    pub fn square(&self, patch: usize) -> f32 {
        square(&self.data[patch * self.dim..][..self.dim])
    }

    /// Writes a map's channels, averaged over 3x3 cells and down to the grid, from `first` on into each patch.
    fn add(&mut self, map: &FeatureMap, first: usize) {
        let (width, height, dim) = (map.width, map.height, self.dim);
        let (fx, fy) = ((width / self.width).max(1), (height / self.height).max(1));
        let share = ((fx * fy) as f32).recip();
        self.scratch.resize(2 * width * height, 0.0);
        let (rows, mean) = self.scratch.split_at_mut(width * height);
        for (c, plane) in map.data.chunks_exact(width * height).enumerate() {
            mean3(plane, rows, width, 1, width);
            mean3(rows, mean, height, width, width);
            for y in 0..self.height {
                for x in 0..self.width {
                    let mut sum = 0.0;
                    for dy in 0..fy {
                        let at = (y * fy + dy).min(height - 1) * width + x * fx;
                        sum += mean[at..(at + fx).min(mean.len())].iter().sum::<f32>();
                    }
                    self.data[(y * self.width + x) * dim + first + c] = sum * share;
                }
            }
        }
    }
}

/// The squared length of a patch, without its last value.
pub(super) fn square(patch: &[f32]) -> f32 {
    patch.split_last().map_or(0.0, |(_, values)| values.iter().map(|v| v * v).sum())
}

/// Mean over three neighbours along one axis, over two at the ends. `length` cells lie `step` apart on that axis; rows
/// are `width` long.
fn mean3(from: &[f32], to: &mut [f32], length: usize, step: usize, width: usize) {
    for (at, out) in to.iter_mut().enumerate() {
        let place = if step == 1 { at % width } else { at / width };
        let (mut sum, mut n) = (from[at], 1.0);
        if place > 0 {
            sum += from[at - step];
            n += 1.0;
        }
        if place + 1 < length {
            sum += from[at + step];
            n += 1.0;
        }
        *out = sum / n;
    }
}

/// Mean of the strongest `TOP_SHARE` of the cells, at least one.
#[must_use]
pub fn top_mean(cells: &[f32]) -> f32 {
    let count = ((cells.len() as f32 * TOP_SHARE).round() as usize).clamp(1, cells.len().max(1));
    let mut sorted = cells.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted.iter().take(count).sum::<f32>() / count as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(channels: usize, side: usize, stride: usize, f: impl Fn(usize, usize, usize) -> f32) -> FeatureMap {
        let mut data = Vec::new();
        for c in 0..channels {
            for y in 0..side {
                data.extend((0..side).map(|x| f(c, y, x)));
            }
        }
        FeatureMap { channels, height: side, width: side, stride, data }
    }

    #[test]
    fn constant_maps_give_the_same_unit_vector_everywhere() {
        let maps = [map(2, 8, 8, |c, _, _| c as f32 + 1.0), map(3, 4, 16, |c, _, _| 2.0 * c as f32)];
        let mut patches = Embedding::default();
        patches.embed(&maps);
        assert_eq!((patches.width, patches.height, patches.stride, patches.dim), (4, 4, 16, 5 + EXTRA));
        let first = patches.data[..5].to_vec();
        assert!((first.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(patches.data.chunks(8).all(|p| p.iter().zip(&first).all(|(a, b)| (a - b).abs() < 1e-6)));
        let places: Vec<_> = patches.data.chunks(8).map(|p| (p[5], p[6], p[7])).collect();
        assert_eq!((places[0], places[7]), ((-0.375, -0.375, 1.0), (-0.125, 0.375, 1.0)));
        assert!((patches.square(0) - 1.0 - 2.0 * 0.375 * 0.375).abs() < 1e-5);
    }

    #[test]
    fn a_brighter_frame_looks_the_same() {
        let at = |gain: f32| {
            let mut patches = Embedding::default();
            patches.embed(&[map(4, 4, 16, |c, y, x| gain * ((c * 7 + y * 3 + x) % 5) as f32)]);
            patches.data
        };
        assert!(at(1.0).iter().zip(at(1.7)).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn a_fine_map_is_averaged_with_its_neighbours() {
        // One channel that is one in a single cell, one constant channel to compare with.
        let fine = map(2, 4, 8, |c, y, x| if c == 1 { 1.0 } else { f32::from(u8::from((y, x) == (1, 1))) });
        let coarse = map(1, 2, 16, |_, _, _| 1.0);
        let mut patches = Embedding::default();
        patches.embed(&[fine, coarse]);
        // 3x3 means around cell (1, 1): over the four cells of the first patch 1/4, 1/6, 1/6 and 1/9.
        let expected = (0.25 + 2.0 / 6.0 + 1.0 / 9.0) / 4.0;
        let ratio = patches.data[0] / patches.data[1];
        assert!((ratio - expected).abs() < 1e-5, "{ratio} {expected}");
        assert!((patches.data[2] / patches.data[0].hypot(patches.data[1]) - 1.0 / FINE).abs() < 1e-4);
    }

    #[test]
    fn top_of_few_cells_is_the_strongest() {
        assert!((top_mean(&[0.1, 0.9, 0.3]) - 0.9).abs() < 1e-6);
        let many: Vec<f32> = (0..1000).map(|n| n as f32).collect();
        assert!((top_mean(&many) - 997.0).abs() < 1e-3);
    }
}
