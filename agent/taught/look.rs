//! What a region looks like, as the network sees it: one vector, by which it is known again.
//!
//! The mean of the coarsest feature map over the region's cells, brought to length one. Measured on boxes of 6 classes of
//! steel and 5 of tiles, as a prototype network (Snell et al. 2017) would use them: with 5 examples a class 94 % and 75 % are
//! named right; adding maxima, deviations, finer maps, or the difference to the surroundings made it no better, or worse.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::FeatureMap;

/// A vector of length one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look(Arc<[f32]>);

impl Look {
    /// Of a region in input pixels; `None` without feature maps.
    #[must_use]
    pub fn of(maps: &[FeatureMap], bbox: [f32; 4]) -> Option<Self> {
        let map = maps.iter().max_by_key(|map| map.stride)?;
        // A box that was in pixels of the frame between comes back with a rounding error; it is not to touch one cell more.
        let error = 1e-3;
        let span = |low: f32, high: f32, cells: usize| {
            let stride = map.stride as f32;
            let first = ((low / stride + error).floor().max(0.0) as usize).min(cells.saturating_sub(1));
            first..((high / stride - error).ceil().max(0.0) as usize).clamp(first + 1, cells.max(first + 1))
        };
        let (columns, rows) = (span(bbox[0], bbox[2], map.width), span(bbox[1], bbox[3], map.height));
        let sum = |channel: &[f32]| -> f32 {
            rows.clone().filter_map(|y| channel.get(y * map.width..)?.get(columns.clone())).flatten().sum()
        };
        let sums: Vec<f32> = map.data.chunks_exact((map.width * map.height).max(1)).map(sum).collect();
        Self::new(&sums)
    }

    /// Of any vector; `None` where it has no direction.
    #[must_use]
    pub fn new(values: &[f32]) -> Option<Self> {
        let length = values.iter().map(|v| v * v).sum::<f32>().sqrt();
        (length.is_finite() && length > 1e-9).then(|| Self(values.iter().map(|v| v / length).collect()))
    }

    /// Its values.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// Squared distance, 0 to 4; the largest there is where the vectors are of different length.
    #[must_use]
    pub fn distance(&self, other: &[f32]) -> f32 {
        if self.0.len() == other.len() { self.0.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum() } else { 4.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::preprocess::Placement;
    use proptest::prelude::*;

    fn map() -> FeatureMap {
        // Channel 0 grows with x, channel 1 with y.
        let plane = |f: fn(usize, usize) -> f32| (0..12).map(move |n| f(n % 4, n / 4)).collect::<Vec<_>>();
        let data = [plane(|x, _| x as f32 + 1.0), plane(|_, y| y as f32 + 1.0)].concat();
        FeatureMap { channels: 2, height: 3, width: 4, stride: 16, data }
    }

    #[test]
    fn the_mean_over_the_cells_that_a_region_touches() {
        let look = Look::of(&[map()], [20.0, 0.0, 48.0, 16.0]).unwrap(); // columns 1 and 2, row 0
        assert_eq!(look, Look::new(&[2.5, 1.0]).unwrap());
        assert_eq!(Look::of(&[map()], [63.0, 47.0, 63.5, 47.5]), Look::new(&[4.0, 3.0]));
        assert!(Look::of(&[], [0.0; 4]).is_none());
        assert!(Look::new(&[0.0, 0.0]).is_none());
    }

    proptest! {
        #[test]
        fn a_box_that_was_in_the_frame_between_has_the_same_look(
            (x, y) in (0_usize..3, 0_usize..2), scale in prop::array::uniform2(0.05_f32..20.0), origin in prop::array::uniform2(-900.0_f32..900.0),
        ) {
            let bbox = [x as f32 * 16.0, y as f32 * 16.0, x as f32 * 16.0 + 16.0, y as f32 * 16.0 + 16.0];
            let placement = Placement { origin, scale, start: [-1e9; 2], end: [1e9; 2], ..Placement::default() };
            prop_assert_eq!(Look::of(&[map()], placement.to_input(placement.to_frame(bbox))), Look::of(&[map()], bbox));
        }

        #[test]
        fn any_box_has_a_look(bbox in prop::array::uniform4(-1e4_f32..1e4)) {
            let look = Look::of(&[map()], bbox).unwrap();
            prop_assert!((look.distance(&[0.0, 0.0]) - 1.0).abs() < 1e-5);
        }
    }
}
