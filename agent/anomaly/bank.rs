//! What was seen before: patches of earlier frames, and how far a new frame's patches are from them.
//!
//! Mutual scoring as in `MuSc` (Li et al., ICLR 2024), made causal and bounded: no frame of the bank is known to be
//! good. For each patch the distance to the nearest remembered patch is taken in every remembered frame, and the mean
//! of the lowest [`AGREEING`] of those distances is its strangeness: what is normal is found again in at least some
//! frames, and a defect that sits in a minority of them cannot vouch for itself.
//!
//! Of each frame the [`PATCHES`] patches are remembered that are farthest from each other (greedy k-centre, as the coreset of
//! `PatchCore`, but within each frame, so that frames can still be asked one by one). Half as many as were drawn by chance, of
//! twice as many frames, cost the bank as much memory and time and raised the mean AUROC of four sets from 90.5 to 92.2 %: what a frame has little of
//! (an edge, a hole) is then always known.
//!
//! What is new here is when a frame joins. Once the bank is full, only every
//! [`EVERY`]-th frame joins and replaces the oldest, so that a defect that stays in view for a while, on a moving web
//! or a still part, does not fill the bank; and frames over the threshold do not join at all, unless they have become
//! the majority, which means that the product has changed.

use std::collections::VecDeque;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

use super::HeatMap;
use super::embed::Embedding;
use super::memory::Memory;

/// Frames remembered.
pub const FRAMES: usize = 32;
/// Patches remembered of each.
pub const PATCHES: usize = 32;
/// When full, one frame in this many joins.
const EVERY: u64 = 8;
/// Share of the remembered frames whose agreement makes a patch normal.
const AGREEING: f32 = 0.3;
/// Frames over which a majority of strange ones is a change of product.
const RECENT: usize = 64;

/// In a camera's first frames, how a patch fits into its own frame counts as well (texture self-similarity, Aota et al.,
/// WACV 2023): its weight after `n` frames is `EARLY / (EARLY + n)`, and nothing from [`EARLY_END`] on.
const EARLY: f32 = 4.0;
/// See [`EARLY`].
const EARLY_END: u64 = 36;
/// Neighbours up to this many cells away share pixels with a patch and do not count.
const NEIGHBOURS: usize = 2;

/// The memory of one camera.
#[derive(Debug, Default)]
pub struct Bank {
    /// Patches a remembered frame, in the order of `rows`.
    counts: VecDeque<usize>,
    /// Their vectors, the oldest frame's first.
    rows: Vec<f32>,
    dim: usize,
    offered: u64,
    strange: VecDeque<bool>,
    products: Vec<f32>,
}

impl Bank {
    /// Frames remembered now.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.counts.len()
    }

    /// Frames that were offered so far.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// All that is remembered, into a memory.
    pub fn save(&self, memory: &mut Memory) {
        memory.counts = self.counts.iter().copied().collect();
        memory.rows.clone_from(&self.rows);
        memory.strange = self.strange.iter().copied().collect();
        (memory.dim, memory.offered) = (self.dim, self.offered);
    }

    /// As it was when the memory was made.
    #[must_use]
    pub fn restored(memory: &Memory) -> Self {
        Self {
            counts: memory.counts.iter().copied().collect(),
            rows: memory.rows.clone(),
            dim: memory.dim,
            offered: memory.offered,
            strange: memory.strange.iter().rev().take(RECENT).rev().copied().collect(),
            products: Vec::new(),
        }
    }

    /// Strangeness of each patch, 0 to about 1, slightly blurred.
    pub fn distances(&mut self, frame: &Embedding) -> HeatMap {
        let patches = frame.patches();
        let mut data = Vec::with_capacity(patches);
        if frame.dim == self.dim && self.frames() > 0 {
            multiply(&frame.data, &self.rows, self.dim, &mut self.products);
            let total = self.rows.len() / self.dim;
            let agreeing = ((self.counts.len() as f32 * AGREEING).ceil() as usize).max(1);
            let mut distances = Vec::with_capacity(self.counts.len());
            for (patch, products) in self.products.chunks_exact(total).enumerate() {
                distances.clear();
                let mut rest = products;
                for &count in &self.counts {
                    let (of_frame, later) = rest.split_at(count);
                    rest = later;
                    distances.push(distance(frame.square(patch), largest(of_frame)));
                }
                distances.select_nth_unstable_by(agreeing - 1, f32::total_cmp);
                data.push(distances[..agreeing].iter().sum::<f32>() / agreeing as f32);
            }
        }
        if self.offered < EARLY_END || data.is_empty() {
            let own = self.within(frame);
            if data.is_empty() {
                data = own; // nothing to compare with but itself
            } else {
                let weight = EARLY / (EARLY + self.offered as f32);
                data.iter_mut().zip(own).for_each(|(d, own)| *d = (1.0 - weight) * *d + weight * d.min(own));
            }
        }
        smooth(&HeatMap { width: frame.width, height: frame.height, cell: frame.cell, data })
    }

    /// Distance of each patch to the nearest one of the same frame that is no neighbour.
    fn within(&mut self, frame: &Embedding) -> Vec<f32> {
        let patches = frame.patches();
        let rows = remembered(frame, 0..patches);
        multiply(&frame.data, &rows, frame.dim, &mut self.products);
        let nearest = |patch: usize, products: &[f32]| {
            let (x, y) = (patch % frame.width, patch / frame.width);
            let mut best = f32::MIN;
            for (row, values) in products.chunks_exact(frame.width).enumerate() {
                if row.abs_diff(y) > NEIGHBOURS {
                    best = best.max(largest(values));
                } else {
                    let right = (x + NEIGHBOURS + 1).min(frame.width);
                    best = best.max(largest(&values[..x.saturating_sub(NEIGHBOURS)])).max(largest(&values[right..]));
                }
            }
            distance(frame.square(patch), best)
        };
        self.products
            .chunks_exact(patches.max(1))
            .enumerate()
            .map(|(patch, products)| nearest(patch, products))
            .collect()
    }

    /// Offers a frame; `strange` is whether it was over the threshold.
    pub fn offer(&mut self, frame: &Embedding, strange: bool) {
        if self.strange.len() == RECENT {
            self.strange.pop_front();
        }
        self.strange.push_back(strange);
        if self.dim != frame.dim {
            self.counts.clear(); // another network: its vectors have nothing to do with these
            self.rows.clear();
            self.dim = frame.dim;
        }
        let changed = 2 * self.strange.iter().filter(|s| **s).count() > RECENT;
        let due = self.counts.len() < FRAMES || self.offered.is_multiple_of(EVERY);
        self.offered += 1;
        if !due || (strange && !changed) || frame.patches() == 0 {
            return;
        }
        if self.counts.len() == FRAMES
            && let Some(oldest) = self.counts.pop_front()
        {
            self.rows.drain(..oldest * self.dim);
        }
        // The first one by the frame's number, so that a bank that was saved goes on as if it had not been.
        let chosen = far_apart(frame, self.offered as usize % frame.patches());
        self.counts.push_back(chosen.len());
        self.rows.extend(remembered(frame, chosen));
    }
}

/// At most [`PATCHES`] patches of a frame from the first one on, each the farthest from those before it (Gonzalez 1985).
fn far_apart(frame: &Embedding, first: usize) -> Vec<usize> {
    let mut chosen = vec![first];
    let mut nearest = vec![f32::MAX; frame.patches()];
    while chosen.len() < PATCHES.min(frame.patches()) {
        let center = frame.vector(chosen[chosen.len() - 1]);
        let mut farthest = (0, f32::MIN);
        for (patch, near) in nearest.iter_mut().enumerate() {
            *near = near.min(square_distance(frame.vector(patch), center));
            if *near > farthest.1 {
                farthest = (patch, *near);
            }
        }
        if farthest.1 <= 0.0 {
            break; // all that is left was chosen already, or is the same
        }
        chosen.push(farthest.0);
    }
    chosen
}

/// Over eight lanes, as [`largest`].
fn square_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += (a - b) * (a - b);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| (a - b) * (a - b)).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Patches as the bank keeps them: the last value is half the squared length, negated, so that the product with a
/// frame's patch, whose last value is one, is largest where the distance is smallest.
fn remembered(frame: &Embedding, patches: impl IntoIterator<Item = usize>) -> Vec<f32> {
    let mut rows = Vec::new();
    for patch in patches {
        rows.extend_from_slice(&frame.data[patch * frame.dim..][..frame.dim]);
        if let Some(last) = rows.last_mut() {
            *last = -frame.square(patch) / 2.0;
        }
    }
    rows
}

/// Half the Euclidean distance, 0 to about 1, of a patch of this squared length from the remembered one with which it
/// has the largest product.
fn distance(square: f32, product: f32) -> f32 {
    (square - 2.0 * product).clamp(0.0, 4.0).sqrt() / 2.0
}

/// Products of every vector of `query` with every one of `rows`, row by row.
fn multiply(query: &[f32], rows: &[f32], dim: usize, products: &mut Vec<f32>) {
    let (m, n) = (query.len() / dim.max(1), rows.len() / dim.max(1));
    products.resize(m * n, 0.0);
    let shapes = (
        ArrayView2::from_shape((m, dim), query),
        ArrayView2::from_shape((n, dim), rows),
        ArrayViewMut2::from_shape((m, n), products),
    );
    if let (Ok(query), Ok(rows), Ok(mut out)) = shapes {
        general_mat_mul(1.0, &query, &rows.t(), 0.0, &mut out);
    }
}

/// The largest value; written over eight lanes, which the compiler turns into vector instructions.
fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::MIN; 8];
    let (eights, rest) = values.as_chunks::<8>();
    for eight in eights {
        for (lane, value) in lanes.iter_mut().zip(eight) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::MIN, |best, v| if *v > best { *v } else { best })
}

/// A light binomial blur (1 2 1), which repeats the edge, so that a place at the edge weighs no more than one inside.
fn smooth(map: &HeatMap) -> HeatMap {
    let (width, height) = (map.width, map.height);
    let blur = |a: f32, b: f32, c: f32| 0.25 * a + 0.5 * b + 0.25 * c;
    let mut rows = map.data.clone();
    for (out, row) in rows.chunks_exact_mut(width).zip(map.data.chunks_exact(width)) {
        for (x, value) in out.iter_mut().enumerate() {
            *value = blur(row[x.saturating_sub(1)], row[x], row[(x + 1).min(width - 1)]);
        }
    }
    let mut data = rows.clone();
    for (y, out) in data.chunks_exact_mut(width).enumerate() {
        let row = |y: usize| &rows[y * width..][..width];
        let (above, below) = (row(y.saturating_sub(1)), row((y + 1).min(height - 1)));
        for (x, value) in out.iter_mut().enumerate() {
            *value = blur(above[x], row(y)[x], below[x]);
        }
    }
    HeatMap { width, height, cell: map.cell, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(values: [f32; 2]) -> Embedding {
        let mut frame = Embedding::default();
        (frame.width, frame.height, frame.cell, frame.dim) = (10, 10, [16.0; 2], 3);
        frame.data = [values[0], values[1], 1.0].repeat(100);
        frame
    }

    #[test]
    fn the_largest_of_any_length() {
        for n in 1..40 {
            let values: Vec<f32> = (0..n).map(|k| ((k * 7) % n) as f32 / 40.0).collect();
            assert!((largest(&values) - values.iter().copied().fold(0.0, f32::max)).abs() < 1e-9);
        }
    }

    #[test]
    fn in_the_first_frame_a_patch_is_compared_with_its_own_frame() {
        let mut one = frame([1.0, 0.0]);
        one.data[3 * 55..3 * 55 + 2].copy_from_slice(&[0.0, 1.0]);
        let map = Bank::default().distances(&one);
        let strongest = (0..100).max_by(|&a, &b| map.data[a].total_cmp(&map.data[b]));
        assert_eq!(strongest, Some(55));
        assert!(map.data[0] < 1e-3 && map.data[55] > 0.1, "{:?}", &map.data[50..60]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut bank = Bank::default();
        (0..1000).for_each(|_| bank.offer(&frame([1.0, 0.0]), false));
        assert_eq!((bank.counts.len(), bank.rows.len()), (FRAMES, FRAMES * 3), "a lifeless frame is one patch");
        let mut lively = frame([1.0, 0.0]);
        lively.data.chunks_exact_mut(3).enumerate().for_each(|(n, patch)| patch[0] = n as f32 / 100.0);
        (0..1000).for_each(|_| bank.offer(&lively, false));
        assert_eq!((bank.counts.len(), bank.rows.len()), (FRAMES, FRAMES * PATCHES * 3));
    }

    #[test]
    fn what_a_frame_has_little_of_is_remembered() {
        let mut lively = frame([1.0, 0.0]);
        lively.data.chunks_exact_mut(3).enumerate().for_each(|(n, patch)| patch[0] = 1.0 + n as f32 / 1e4);
        lively.data[3 * 55..3 * 55 + 2].copy_from_slice(&[0.0, 1.0]);
        for first in 0..100 {
            let chosen = far_apart(&lively, first);
            assert!(chosen.len() == PATCHES && chosen[..3].contains(&55), "{first}: {chosen:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_chosen_cover_the_frame(values in proptest::collection::vec(0.0_f32..1.0, 200), first in 0_usize..100) {
            let mut lively = frame([0.0, 0.0]);
            lively.data.chunks_exact_mut(3).zip(values.as_chunks::<2>().0).for_each(|(patch, v)| patch[..2].copy_from_slice(v));
            let chosen = far_apart(&lively, first);
            let apart = |a: usize, b: usize| square_distance(lively.vector(a), lively.vector(b));
            let between = |n: usize| chosen[..n].iter().map(|&c| apart(c, chosen[n])).fold(f32::MAX, f32::min);
            let closest = (1..chosen.len()).map(between).fold(f32::MAX, f32::min);
            // Gonzalez: no patch is farther from the chosen than these are from each other.
            for patch in 0..100 {
                let near = chosen.iter().map(|&c| apart(c, patch)).fold(f32::MAX, f32::min);
                proptest::prop_assert!(near <= closest + 1e-6);
            }
        }
    }

    #[test]
    fn a_defect_that_stays_in_view_stays_strange() {
        let mut bank = Bank::default();
        (0..100).for_each(|_| bank.offer(&frame([1.0, 0.0]), false));
        let odd = frame([0.0, 1.0]);
        for _ in 0..24 {
            assert!(bank.distances(&odd).data.iter().all(|d| *d > 0.7), "over the threshold, it is not learned");
            bank.offer(&odd, true);
        }
        for _ in 0..24 {
            assert!(bank.distances(&odd).data.iter().all(|d| *d > 0.25), "under it, slowly");
            bank.offer(&odd, false);
        }
    }

    #[test]
    fn a_change_of_product_is_learned_after_a_majority() {
        let mut bank = Bank::default();
        (0..100).for_each(|_| bank.offer(&frame([1.0, 0.0]), false));
        let other = frame([0.0, 1.0]);
        let frames = (0..600).find(|_| {
            let known = bank.distances(&other).data[0] < 0.1;
            bank.offer(&other, !known);
            known
        });
        assert!(frames.is_some_and(|n| n > 32), "{frames:?}");
    }
}
