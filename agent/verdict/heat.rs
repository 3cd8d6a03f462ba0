//! Where a frame looks strange, laid over its snapshot as a tint.
//!
//! Guarantees: outside the boxes of its anomalies a frame stays as captured, and so does what is as strange as the rest of the
//! frame; the strangest place is tinted by [`DEPTH`] at most, so that the defect itself can be seen; nothing is drawn outside
//! the inspected region, nor where it is masked. Turned, flipped and bent as the network saw it, it lies where the frame was captured.

use ct_codecs::{Base64, Encoder as _};

use crate::anomaly::HeatMap;
use crate::frame::Image;
use crate::model::preprocess::Placement;
use crate::mqtt::payload::HeatPatch;

/// Share of the colour at the strangest place.
const DEPTH: f32 = 0.45;
/// Of the height of the strangest place above the frame's median: nothing below is tinted. A region's box reaches down to half
/// the height of its own peak, so that the tint fills the box of the strongest one and less of the others'.
const FLOOR: f32 = 0.4;
/// Cells along the longer side of what is published.
const CELLS: f32 = 24.0;
/// From the floor to the strangest place.
const COLOURS: [[f32; 3]; 2] = [[255.0, 215.0, 0.0], [235.0, 30.0, 20.0]];

/// A heat map over a frame.
#[derive(Debug, Clone)]
pub struct Heat {
    /// Columns.
    width: usize,
    /// Rows.
    height: usize,
    /// `width * height` values, 0 at the median of the frame and outside its anomalies, 1 at the strangest place in them.
    data: Vec<f32>,
    /// Network input pixels a cell, in x and y.
    cell: [f32; 2],
    placement: Placement,
}

impl Heat {
    /// Of a frame that lies in the network's input like this, within boxes of input pixels; `None` where no place in them is
    /// stranger than the rest of the frame.
    #[must_use]
    pub fn of(map: &HeatMap, boxes: &[[f32; 4]], placement: &Placement) -> Option<Self> {
        let mut sorted = map.data.clone();
        sorted.sort_by(f32::total_cmp);
        let median = *sorted.get(sorted.len() / 2)?;
        // A cell belongs to the box that holds its middle.
        let middle = |cell: usize, k: usize| (cell as f32 + 0.5) * map.cell[k];
        let inside = |cell: usize| {
            let (x, y) = (middle(cell % map.width, 0), middle(cell / map.width, 1));
            boxes.iter().any(|b| x > b[0] && x < b[2] && y > b[1] && y < b[3])
        };
        let above: Vec<f32> =
            map.data.iter().enumerate().map(|(n, v)| if inside(n) { (v - median).max(0.0) } else { 0.0 }).collect();
        let height = above.iter().copied().fold(0.0, f32::max);
        let data = above.iter().map(|v| v / height).collect();
        let heat = Self { width: map.width, height: map.height, data, cell: map.cell, placement: placement.clone() };
        (height > 1e-6).then_some(heat)
    }

    /// Tints an RGB picture of the frame.
    pub fn tint(&self, picture: &mut Image) {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let [x0, y0, x1, y1] = self.bounds().map(|v| v.max(0.0) as usize);
        for y in y0..(y1 + 1).min(height) {
            for x in x0..(x1 + 1).min(width) {
                let value = self.value([x as f32 + 0.5, y as f32 + 0.5]);
                let over = (value - FLOOR) / (1.0 - FLOOR);
                if over > 0.0 {
                    let at = 3 * (y * width + x);
                    for (c, sample) in picture.pixels[at..at + 3].iter_mut().enumerate() {
                        let colour = COLOURS[0][c] + (COLOURS[1][c] - COLOURS[0][c]) * over;
                        *sample = (f32::from(*sample) + (colour - f32::from(*sample)) * DEPTH * over).round() as u8;
                    }
                }
            }
        }
    }

    /// The same as a few numbers, in pixels of a frame of this size; nothing where it is outside of it.
    #[must_use]
    pub fn patch(&self, (width, height): (u32, u32)) -> Option<HeatPatch> {
        let frame = [width as f32, height as f32];
        let warm = self.bounds();
        let bbox: [f32; 4] = std::array::from_fn(|n| warm[n].clamp(0.0, frame[n % 2]).round());
        let sides = [bbox[2] - bbox[0], bbox[3] - bbox[1]];
        if sides.iter().any(|side| *side < 1.0) {
            return None;
        }
        let longer = sides[0].max(sides[1]);
        let cells = sides.map(|side| ((CELLS * side / longer).ceil() as usize).max(1));
        let value = |n: usize| {
            let at = [n % cells[0], n / cells[0]];
            let point = std::array::from_fn(|k| bbox[k] + (at[k] as f32 + 0.5) * sides[k] / cells[k] as f32);
            let over = (self.value(point) - FLOOR) / (1.0 - FLOOR);
            (over.clamp(0.0, 1.0) * 255.0).round() as u8
        };
        let values: Vec<u8> = (0..cells[0] * cells[1]).map(value).collect();
        let values = Base64::encode_to_string(values).ok()?;
        Some(HeatPatch { bbox, width: cells[0] as u32, height: cells[1] as u32, values })
    }

    /// The frame's pixels around all that is warm, and a cell beside it.
    fn bounds(&self) -> [f32; 4] {
        let warm = self.data.iter().enumerate().filter(|(_, v)| **v > 0.0);
        let cells = warm.fold([f32::MAX, f32::MAX, 0.0, 0.0], |[x0, y0, x1, y1], (n, _)| {
            let (x, y) = ((n % self.width) as f32, (n / self.width) as f32);
            [x0.min(x - 1.0), y0.min(y - 1.0), x1.max(x + 2.0), y1.max(y + 2.0)]
        });
        self.placement.to_frame(std::array::from_fn(|n| cells[n] * self.cell[n % 2]))
    }

    /// At a point of the frame, between the middles of cells; nothing where that is not inspected.
    fn value(&self, point: [f32; 2]) -> f32 {
        let Placement { start, end, .. } = &self.placement;
        if (0..2).any(|k| point[k] < start[k] || point[k] > end[k]) || !self.placement.inspects(point) {
            return 0.0;
        }
        let at = self.placement.point_to_input(point);
        // Cell, the next one, and the share of that.
        let along = |k: usize, cells: usize| {
            let cell = (at[k] / self.cell[k] - 0.5).max(0.0).min(cells as f32 - 1.0);
            (cell as usize, (cell as usize + 1).min(cells - 1), cell.fract())
        };
        let ((left, right, across), (upper, lower, down)) = (along(0, self.width), along(1, self.height));
        let mix = |row: usize| {
            let line = &self.data[row * self.width..][..self.width];
            line[left] + (line[right] - line[left]) * across
        };
        mix(upper) + (mix(lower) - mix(upper)) * down
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PixelFormat;
    use proptest::prelude::*;

    const WHOLE: [[f32; 4]; 1] = [[0.0, 0.0, 64.0, 64.0]];

    fn map(width: usize, height: usize, hot: usize) -> HeatMap {
        let data = (0..width * height).map(|n| if n == hot { 0.9 } else { 0.1 }).collect();
        HeatMap { width, height, cell: [16.0; 2], data }
    }

    fn grey(width: u32, height: u32) -> Image {
        let pixels = vec![100; (3 * width * height) as usize];
        Image { width, height, format: PixelFormat::Rgb8, pixels, origin: None, truth: None }
    }

    #[test]
    fn the_strange_place_is_tinted_and_the_rest_is_not() {
        // An input of 64 x 64 over the frame's right half, at half its size.
        let (origin, start, end) = ([128.0, 0.0], [128.0, 0.0], [256.0, 128.0]);
        let placement = Placement { origin, scale: [2.0; 2], start, end, ..Placement::default() };
        let mut picture = grey(256, 128);
        Heat::of(&map(4, 4, 5), &WHOLE, &placement).unwrap().tint(&mut picture);
        let pixel = |x: usize, y: usize| &picture.pixels[3 * (y * 256 + x)..][..3];
        let hot = pixel(128 + 48, 48);
        assert!(hot[0] > 140 && hot[1] < 90 && hot[2] < 90, "{hot:?}");
        for (x, y) in [(48, 48), (127, 48), (128, 0), (255, 127), (128 + 80, 48), (128 + 48, 90)] {
            assert_eq!(pixel(x, y), [100; 3], "{x},{y}");
        }
    }

    #[test]
    fn what_is_published_lies_where_it_is_drawn() {
        let (origin, start, end) = ([128.0, 0.0], [128.0, 0.0], [256.0, 128.0]);
        let placement = Placement { origin, scale: [2.0; 2], start, end, ..Placement::default() };
        let patch = Heat::of(&map(4, 4, 5), &WHOLE, &placement).unwrap().patch((256, 128)).unwrap();
        // The hot cell is 160 to 192 by 32 to 64, with one beside it on each side.
        assert_eq!((patch.bbox, patch.width, patch.height), ([128.0, 0.0, 224.0, 96.0], 24, 24));
        let values = <Base64 as ct_codecs::Decoder>::decode_to_vec(&patch.values, None).unwrap();
        let at = |x: usize, y: usize| values[y * 24 + x];
        assert!(at(12, 12) > 200 && at(0, 0) == 0 && at(23, 23) == 0, "{values:?}");
        let hottest = (0..576).max_by_key(|n| values[*n]).unwrap();
        assert!((10..14).contains(&(hottest % 24)) && (10..14).contains(&(hottest / 24)), "{hottest}");
    }

    #[test]
    fn what_is_no_anomaly_has_no_heat() {
        assert!(Heat::of(&map(4, 4, 99), &WHOLE, &Placement::default()).is_none(), "an even frame");
        assert!(Heat::of(&HeatMap::default(), &WHOLE, &Placement::default()).is_none());
        // The strangest cell is the one at 16 to 32, 16 to 32.
        assert!(Heat::of(&map(4, 4, 5), &[[32.0, 0.0, 64.0, 64.0]], &Placement::default()).is_none());
        let heat = Heat::of(&map(4, 4, 5), &[[16.0, 16.0, 32.0, 32.0]], &Placement::default()).unwrap();
        assert_eq!((heat.data[5], heat.data.iter().sum::<f32>()), (1.0, 1.0));
    }

    #[test]
    fn a_turned_frame_is_tinted_where_it_was_captured() {
        // A frame of 128 x 256, turned clockwise by 90 degrees into an input of 128 x 64: its lower left corner is the input's upper left.
        let (origin, end) = ([0.0, 256.0], [128.0, 256.0]);
        let placement = Placement { origin, scale: [2.0, -2.0], end, swap: true, ..Placement::default() };
        let mut picture = grey(128, 256);
        Heat::of(&map(8, 4, 8 + 2), &[[0.0, 0.0, 128.0, 64.0]], &placement).unwrap().tint(&mut picture);
        // The cell's middle is at 40, 24 of the input: 24 * 2 from the left, 40 * 2 from below.
        let pixel = |x: usize, y: usize| &picture.pixels[3 * (y * 128 + x)..][..3];
        assert!(pixel(48, 256 - 80)[0] > 140, "{:?}", pixel(48, 176));
        for (x, y) in [(48, 80), (80, 176), (48, 256 - 40), (8, 176)] {
            assert_eq!(pixel(x, y), [100; 3], "{x},{y}");
        }
    }

    proptest! {
        #[test]
        fn no_placement_panics(numbers in prop::array::uniform8(-300.0_f32..600.0), hot in 0_usize..12) {
            let [a, b, c, d, e, f, g, h] = numbers;
            let placement = Placement { origin: [a, b], scale: [c / 100.0, d / 100.0], start: [e, f], end: [g, h], ..Placement::default() };
            Heat::of(&map(4, 3, hot), &WHOLE, &placement).unwrap().tint(&mut grey(40, 30));
        }
    }
}
