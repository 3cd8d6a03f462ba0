//! Patches: what the network says about each place of a frame, as one vector a place.
//!
//! As in PatchCore (Roth et al., CVPR 2022), a feature map is averaged over 3x3 cells, so that a patch knows its
//! surroundings. Of the bundle's feature maps the coarsest is taken: the finer one beside it costs a third more and was
//! worth nothing on five sets. A map of many cells is first averaged down ([`Grid`]). Each patch's features are brought to length one, so that lighting (which scales them)
//! falls out.
//!
//! Two more values say where the patch lies ([`PLACE`] times its place in the frame, -0.5 to 0.5), so that of patches
//! that look alike the one at the same place is nearer. For a part that is always laid down alike this tells left from
//! right; for a texture it changes nothing.

use super::grid::Grid;
use crate::model::FeatureMap;

/// Weight of the place; a little less or more of it changes accuracy by no more than chance.
const PLACE: f32 = 0.6;
/// Values behind the features: row, column, and a one that the bank's products need.
const EXTRA: usize = 3;

/// The patches of a frame.
#[derive(Debug, Clone, Default)]
pub struct Embedding {
    /// Columns of the grid.
    pub width: usize,
    /// Rows of the grid.
    pub height: usize,
    /// Network input pixels a patch, in x and y.
    pub cell: [f32; 2],
    /// Values a patch.
    pub dim: usize,
    /// `width * height * dim` values, a patch's together: features of length one, row, column, one.
    pub data: Vec<f32>,
    scratch: Vec<f32>,
    lines: Vec<f32>,
    grid: Grid,
}

impl Embedding {
    /// Patches a frame.
    #[must_use]
    pub fn patches(&self) -> usize {
        self.width * self.height
    }

    /// A patch's features, place, and one.
    #[must_use]
    pub fn vector(&self, patch: usize) -> &[f32] {
        &self.data[patch * self.dim..][..self.dim]
    }

    /// The squared length of a patch's features and place.
    #[must_use]
    pub fn square(&self, patch: usize) -> f32 {
        self.vector(patch).split_last().map_or(0.0, |(_, values)| values.iter().map(|v| v * v).sum())
    }

    /// Takes the feature maps of a frame; memory is used again.
    pub fn embed(&mut self, maps: &[FeatureMap]) {
        let Some(map) = maps.iter().max_by_key(|map| map.stride) else { return };
        if !self.grid.fits(map) {
            self.grid = Grid::of(map);
        }
        let grid = &self.grid;
        (self.width, self.height, self.cell) = (grid.width, grid.height, grid.cell);
        self.dim = map.channels + EXTRA;
        self.data.resize(self.patches() * self.dim, 0.0);
        let plane = self.patches();
        self.scratch.resize(3 * plane, 0.0);
        let (cells, rest) = self.scratch.split_at_mut(plane);
        let (rows, mean) = rest.split_at_mut(plane);
        for (c, values) in map.data.chunks_exact((map.width * map.height).max(1)).enumerate() {
            let cells = grid.resample(values, &mut self.lines, cells);
            mean3(cells, rows, grid.width, 1, grid.width);
            mean3(rows, mean, grid.height, grid.width, grid.width);
            for (patch, value) in self.data.chunks_exact_mut(self.dim).zip(&*mean) {
                patch[c] = *value;
            }
        }
        let place = |n: usize, of: usize| PLACE * ((n as f32 + 0.5) / of as f32 - 0.5);
        for (at, patch) in self.data.chunks_exact_mut(self.dim).enumerate() {
            let (features, extra) = patch.split_at_mut(map.channels);
            let length = features.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-9);
            features.iter_mut().for_each(|v| *v /= length);
            extra.copy_from_slice(&[place(at / grid.width, grid.height), place(at % grid.width, grid.width), 1.0]);
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
    fn the_coarsest_map_gives_unit_vectors_and_places() {
        let maps = [map(2, 8, 8, |c, _, _| c as f32 + 1.0), map(3, 4, 16, |c, _, _| 2.0 * c as f32)];
        let mut patches = Embedding::default();
        patches.embed(&maps);
        assert_eq!((patches.width, patches.height, patches.cell, patches.dim), (4, 4, [16.0; 2], 3 + EXTRA));
        let expected = [0.0, 2.0, 4.0].map(|v: f32| v / 20.0_f32.sqrt());
        assert!(patches.data.chunks(6).all(|p| p.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6)));
        let places: Vec<_> = patches.data.chunks(6).map(|p| (p[3], p[4], p[5])).collect();
        let at = |share: f32| share * PLACE;
        assert_eq!((places[0], places[7]), ((at(-0.375), at(-0.375), 1.0), (at(-0.125), at(0.375), 1.0)));
        assert!((patches.square(0) - 1.0 - 2.0 * at(0.375) * at(0.375)).abs() < 1e-5);
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
    fn a_cell_is_averaged_with_its_neighbours_fewer_at_the_edge() {
        let one = |y, x| f32::from(u8::from((y, x) == (1, 1)));
        let mut patches = Embedding::default();
        patches.embed(&[map(2, 4, 16, |c, y, x| if c == 1 { 1.0 } else { one(y, x) })]);
        // Against the constant channel: 1/4 in the corner, 1/6 at the edge, 1/9 inside, nothing two cells away.
        let ratio = |patch: usize| patches.data[patch * patches.dim] / patches.data[patch * patches.dim + 1];
        for (patch, expected) in [(0, 1.0 / 4.0), (1, 1.0 / 6.0), (5, 1.0 / 9.0), (15, 0.0)] {
            assert!((ratio(patch) - expected).abs() < 1e-5, "{patch}: {}", ratio(patch));
        }
    }
}
