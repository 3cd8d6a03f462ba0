//! What was seen before: the patches of the latest frames, and how far a new frame's patches are from them.
//!
//! Mutual scoring as in `MuSc` (Li et al., ICLR 2024), made causal: no frame of the bank is known to be good. For each
//! patch the distance to its nearest patch is taken in every earlier frame, and the mean of the lowest
//! [`AGREEING`] of those distances is its strangeness: what is normal is found again in at least some frames, and a
//! defect that sits in a minority of the bank's frames cannot vouch for itself more often than that.

use std::collections::VecDeque;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2};

use super::HeatMap;
use super::embed::Embedding;

/// Frames remembered.
pub const FRAMES: usize = 16;
/// Share of the earlier frames whose agreement makes a patch normal.
const AGREEING: f32 = 0.3;

/// The memory of one camera.
#[derive(Debug, Default)]
pub struct Bank {
    frames: VecDeque<Array2<f32>>,
    products: Vec<f32>,
    nearest: Vec<f32>,
}

impl Bank {
    /// Whether nothing was seen yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Distances of each patch, 0 to about 1, smoothed over 3x3; all zero for the very first frame.
    pub fn distances(&mut self, frame: &Embedding) -> HeatMap {
        let patches = frame.patches();
        let Self { frames, products, nearest } = self;
        let usable = || frames.iter().filter(|f| f.ncols() == frame.dim);
        nearest.clear();
        let query = ArrayView2::from_shape((patches, frame.dim), &frame.data);
        if let Ok(query) = query {
            for earlier in usable() {
                products.resize(patches * earlier.nrows(), 0.0);
                if let Ok(mut out) = ndarray::ArrayViewMut2::from_shape((patches, earlier.nrows()), products) {
                    general_mat_mul(1.0, &query, &earlier.t(), 0.0, &mut out);
                }
                let similar = |row: &[f32]| row.iter().fold(-1.0_f32, |best, &v| if v > best { v } else { best });
                nearest.extend(products.chunks_exact(earlier.nrows()).map(similar));
            }
        }
        let count = nearest.len() / patches.max(1);
        let agreeing = ((count as f32 * AGREEING).ceil() as usize).clamp(1, count.max(1));
        let mut column = Vec::with_capacity(count);
        let mut data = Vec::with_capacity(patches);
        for patch in 0..patches {
            column.clear();
            // Vectors of length one: the distance is the square root of 2 - 2 cos, halved to reach about 1.
            column.extend((0..count).map(|n| (0.5 - 0.5 * nearest[n * patches + patch]).max(0.0).sqrt()));
            column.sort_by(f32::total_cmp);
            data.push(column.iter().take(agreeing).sum::<f32>() / agreeing as f32);
        }
        let map = HeatMap { width: frame.width, height: frame.height, stride: frame.stride, data };
        smooth(&map)
    }

    /// Remembers a frame and forgets the oldest.
    pub fn add(&mut self, frame: &Embedding) {
        let mut memory = if self.frames.len() >= FRAMES { self.frames.pop_front() } else { None };
        let shape = (frame.patches(), frame.dim);
        if memory.as_ref().is_none_or(|m| m.dim() != shape) {
            memory = Some(Array2::zeros(shape));
        }
        if let Some(mut memory) = memory {
            memory.iter_mut().zip(&frame.data).for_each(|(to, from)| *to = *from);
            self.frames.push_back(memory);
        }
    }
}

/// Mean over 3x3 cells, fewer at the edge.
fn smooth(map: &HeatMap) -> HeatMap {
    let (width, height) = (map.width, map.height);
    let mut data = Vec::with_capacity(map.data.len());
    for y in 0..height {
        for x in 0..width {
            let (mut sum, mut n) = (0.0, 0.0);
            for ny in y.saturating_sub(1)..(y + 2).min(height) {
                for nx in x.saturating_sub(1)..(x + 2).min(width) {
                    sum += map.data[ny * width + nx];
                    n += 1.0;
                }
            }
            data.push(sum / n);
        }
    }
    HeatMap { width, height, stride: map.stride, data }
}
