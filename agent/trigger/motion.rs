//! Whether something is there that is not always there: a part on a belt, a wagon. Cheap, on a picture of a few thousand samples.
//!
//! Each sample of a coarse grid is compared with what is usually there, a running median: it goes up or down by a small step each
//! picture, so that it follows the light and learns what lies still, and a part that passes hardly moves it (Sigma-Delta background
//! estimation, Manzanera and Richefeu 2004). A brightness that changes as a whole is taken out first.

use crate::config::MotionConfig;
use crate::frame::Image;

/// Samples of the grid along the longer side.
const GRID: usize = 96;
/// Steps of the background a picture, in levels of grey; more at the beginning.
const STEP: f32 = 0.1;
/// Pictures at the beginning in which the background is learned quickly, and nothing is called empty.
const LEARNING: u32 = 10;

/// Of one camera.
#[derive(Debug)]
pub struct Motion {
    area: f32,
    levels: f32,
    size: (u32, u32),
    background: Vec<f32>,
    seen: u32,
}

impl Motion {
    /// As configured.
    #[must_use]
    pub fn new(config: &MotionConfig) -> Self {
        let (area, levels) = (config.area.get() as f32, config.levels.get() as f32);
        Self { area, levels, size: (0, 0), background: Vec::new(), seen: 0 }
    }

    /// Whether something is there.
    pub fn is_there(&mut self, image: &Image) -> bool {
        let mut samples = grid(image);
        if self.size != (image.width, image.height) || samples.len() != self.background.len() {
            (self.size, self.seen) = ((image.width, image.height), 0);
            self.background.clone_from(&samples);
        }
        // What the light does as a whole: the median difference.
        let mut differences: Vec<f32> = samples.iter().zip(&self.background).map(|(now, usual)| now - usual).collect();
        let middle = differences.len() / 2;
        let light =
            if differences.is_empty() { 0.0 } else { *differences.select_nth_unstable_by(middle, f32::total_cmp).1 };
        samples.iter_mut().for_each(|sample| *sample -= light);
        let other =
            samples.iter().zip(&self.background).filter(|(now, usual)| (*now - *usual).abs() > self.levels).count();
        let is_learning = self.seen < LEARNING;
        let step = if is_learning { 4.0 } else { STEP };
        for (usual, now) in self.background.iter_mut().zip(&samples) {
            *usual += (now + light - *usual).clamp(-step, step);
        }
        self.seen = self.seen.saturating_add(1);
        is_learning || other as f32 >= self.area * samples.len().max(1) as f32
    }
}

/// Means of little blocks, in levels of grey.
fn grid(image: &Image) -> Vec<f32> {
    let (width, height, channels) = (image.width as usize, image.height as usize, image.format.channels());
    if width == 0 || height == 0 || image.pixels.len() < width * height * channels {
        return Vec::new();
    }
    let cell = width.max(height).div_ceil(GRID).max(1);
    // A few samples a block are enough, and cost the same for any size.
    let stride = (cell / 4).max(1);
    let mut means = Vec::with_capacity(width.div_ceil(cell) * height.div_ceil(cell));
    for top in (0..height).step_by(cell) {
        for left in (0..width).step_by(cell) {
            let (mut sum, mut n) = (0_u32, 0_u32);
            for y in (top..(top + cell).min(height)).step_by(stride) {
                for x in (left..(left + cell).min(width)).step_by(stride) {
                    let at = (y * width + x) * channels;
                    sum += image.pixels[at..at + channels].iter().map(|&v| u32::from(v)).sum::<u32>();
                    n += channels as u32;
                }
            }
            means.push(sum as f32 / n.max(1) as f32);
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PixelFormat;

    /// A belt with some texture, a light that is `light` brighter, and a part of 40 x 30 px at `part`.
    fn belt(frame: u32, light: i32, part: Option<u32>) -> Image {
        let mut pixels = Vec::new();
        for y in 0..240_u32 {
            for x in 0..320_u32 {
                let noise =
                    (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503) ^ frame.wrapping_mul(97_777)) >> 9 & 7;
                let there = part.is_some_and(|left| (left..left + 40).contains(&x) && (100..130).contains(&y));
                let base = if there { 180 } else { 90 + (x / 16 % 2 * 10) as i32 };
                pixels.push((base + light + noise as i32).clamp(0, 255) as u8);
            }
        }
        Image { width: 320, height: 240, format: PixelFormat::Mono8, pixels, origin: None, truth: None }
    }

    #[test]
    fn a_part_is_seen_and_an_empty_belt_is_not() {
        let mut motion = Motion::new(&MotionConfig::default());
        let mut seen = Vec::new();
        for frame in 0..400 {
            let part = (frame % 50 >= 40).then(|| 20 + frame % 50 * 5);
            // The light gets brighter by 40 levels in the meantime.
            let is_there = motion.is_there(&belt(frame, (frame / 10) as i32, part));
            if frame >= LEARNING {
                seen.push((is_there, part.is_some()));
            }
        }
        assert!(seen.iter().all(|(found, truth)| found == truth), "{seen:?}");
    }

    #[test]
    fn a_lamp_that_goes_out_is_no_part_and_what_stays_becomes_usual() {
        let mut motion = Motion::new(&MotionConfig::default());
        for frame in 0..20 {
            motion.is_there(&belt(frame, 60, None));
        }
        assert!(!motion.is_there(&belt(20, 0, None)), "as a whole darker");
        assert!(motion.is_there(&belt(21, 0, Some(100))));
        let gone = (22..2000).find(|&frame| !motion.is_there(&belt(frame, 0, Some(100))));
        assert!(gone.is_some_and(|frame| frame > 300), "it lies there now, after {gone:?} pictures");
    }

    #[test]
    fn any_size() {
        let mut motion = Motion::new(&MotionConfig::default());
        for (width, height) in [(1, 1), (3, 500), (4000, 2), (0, 0)] {
            let pixels = vec![9; width as usize * height as usize * 3];
            motion.is_there(&Image { width, height, format: PixelFormat::Rgb8, pixels, origin: None, truth: None });
        }
    }
}
