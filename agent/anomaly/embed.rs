//! Patches: what the network's feature maps say about each place of a frame, as one unit vector a place.
//!
//! As in PatchCore (Roth et al., CVPR 2022), each map is averaged over 3x3 cells, so that a patch knows its
//! surroundings, and the maps are joined at one grid, here the coarsest. New here: each map's part of the vector is
//! brought to a length of its own, so that the share of each layer is chosen and not an accident of its channels, and
//! lighting (which scales features) falls out. The coarsest layer, which sees most context, leads; finer ones add
//! [`FINE`] of its length. Any share from 0.2 to 0.5 gives the same accuracy within half a point.

use crate::model::FeatureMap;

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
    /// `width * height * dim` values, a patch's together; each patch has length one.
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
        self.dim = maps.iter().map(|map| map.channels).sum();
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
        assert_eq!((patches.width, patches.height, patches.stride, patches.dim), (4, 4, 16, 5));
        let first = patches.data[..5].to_vec();
        assert!((first.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(patches.data.chunks(5).all(|p| p.iter().zip(&first).all(|(a, b)| (a - b).abs() < 1e-6)));
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
