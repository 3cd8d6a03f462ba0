//! What is measured of one picture, before anything is compared.
//!
//! Costs a few passes over at most about a million pixels, however large the picture is: of larger ones rows are left out.
//! A picture whose pixels do not fit its size counts as one without pixels.

use super::sharpness::{self, Edges};
use super::small::Small;
use crate::frame::{Image, PixelFormat};

/// Grey levels at and below which a pixel is black, and at and above which it is saturated.
const BLACK: u8 = 5;
const SATURATED: u8 = 250;
/// Bytes of which the digest is made, about.
const DIGESTED: usize = 1 << 20;

/// What was measured of one picture.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Equal for equal pictures.
    pub(super) digest: u64,
    /// Light and shade.
    pub(super) tones: Tones,
    /// How sharp its strongest edges are, if it has any.
    pub(super) edges: Option<Edges>,
    /// The picture, reduced.
    pub(super) small: Small,
}

/// Light and shade of a picture, as shares.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tones {
    /// Mean grey, 1 is white.
    pub mean: f32,
    /// Share of black pixels.
    pub black: f32,
    /// Share of saturated pixels.
    pub saturated: f32,
}

impl Sample {
    /// Measures a picture.
    #[must_use]
    pub fn of(image: &Image) -> Self {
        match image.format {
            PixelFormat::Mono8 => Self::measure(&Raster::<1>::of(image)),
            PixelFormat::Rgb8 | PixelFormat::Bgr8 => Self::measure(&Raster::<3>::of(image)),
        }
    }

    fn measure<const C: usize>(raster: &Raster<'_, C>) -> Self {
        let mut counts = Counts::default();
        let small = Small::of(raster, |row| counts.take(row));
        Self { digest: digest(raster), tones: counts.tones(), edges: sharpness::of(raster), small }
    }
}

/// The pixels of a picture; none where they do not fit its size.
pub struct Raster<'a, const C: usize> {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    pixels: &'a [u8],
}

impl<'a, const C: usize> Raster<'a, C> {
    fn of(image: &'a Image) -> Self {
        let (width, height) = (image.width as usize, image.height as usize);
        let bytes = width.checked_mul(height).and_then(|n| n.checked_mul(C));
        match bytes.and_then(|n| image.pixels.get(..n)) {
            Some(pixels) if !pixels.is_empty() => Self { width, height, pixels },
            _ => Self { width: 0, height: 0, pixels: &[] },
        }
    }

    /// Bytes of a row.
    fn row(&self, y: usize) -> &'a [u8] {
        &self.pixels[y * self.width * C..(y + 1) * self.width * C]
    }

    /// Grey values of part of a row, from column `x` on. (R + 2 G + B) / 4, in which red and blue may change places.
    pub fn grey(&self, x: usize, y: usize, out: &mut [u8]) {
        let row = &self.row(y)[x * C..];
        if C == 1 {
            out.copy_from_slice(&row[..out.len()]);
            return;
        }
        for (grey, pixel) in out.iter_mut().zip(row.as_chunks::<C>().0) {
            let [first, second, third] = [0, 1, 2].map(|c| u16::from(pixel[c % C]));
            *grey = ((first + 2 * second + third) >> 2) as u8;
        }
    }
}

#[derive(Default)]
struct Counts {
    pixels: u64,
    sum: u64,
    black: u64,
    saturated: u64,
}

impl Counts {
    fn take(&mut self, row: &[u8]) {
        // Short enough for a count in a byte and a sum in 16 bits, which is what makes it quick.
        for part in row.chunks(128) {
            let count = |is: fn(u8) -> bool| part.iter().fold(0_u8, |n, v| n.wrapping_add(u8::from(is(*v))));
            self.black += u64::from(count(|v| v <= BLACK));
            self.saturated += u64::from(count(|v| v >= SATURATED));
            self.sum += u64::from(part.iter().fold(0_u16, |sum, v| sum.wrapping_add(u16::from(*v))));
        }
        self.pixels += row.len() as u64;
    }

    fn tones(&self) -> Tones {
        let share = |n: u64| n as f32 / self.pixels.max(1) as f32;
        Tones { mean: share(self.sum) / 255.0, black: share(self.black), saturated: share(self.saturated) }
    }
}

/// A hash that is quick rather than strong: nobody wants to make two pictures that seem to be one. Rows are left out of large
/// pictures; a sensor's noise is in every one.
fn digest<const C: usize>(raster: &Raster<'_, C>) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = (raster.width * raster.height * C).div_ceil(DIGESTED).max(1);
    let mut lanes = [1_u64, 2, 3, 4];
    let mut mix = |lane: usize, word: u64| {
        lanes[lane] = (lanes[lane] ^ word).wrapping_mul(FACTOR).rotate_left(29);
    };
    for y in (0..raster.height).step_by(step) {
        let (quads, rest) = raster.row(y).as_chunks::<32>();
        for quad in quads {
            for (lane, word) in quad.as_chunks::<8>().0.iter().enumerate() {
                mix(lane, u64::from_le_bytes(*word));
            }
        }
        rest.iter().for_each(|byte| mix(0, u64::from(*byte)));
    }
    mix(1, raster.width as u64);
    mix(2, raster.height as u64);
    lanes.into_iter().fold(0, |sum, lane| (sum ^ lane).wrapping_mul(FACTOR).rotate_left(29))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, proptest};

    fn image(width: u32, height: u32, format: PixelFormat, pixels: Vec<u8>) -> Image {
        Image { width, height, format, pixels, origin: None, truth: None }
    }

    #[test]
    fn tones_of_a_picture_that_is_half_black_and_half_white() {
        for format in [PixelFormat::Mono8, PixelFormat::Rgb8, PixelFormat::Bgr8] {
            let pixels = (0..400 * 300 * format.channels()).map(|n| if n % (400 * 300) < 200 * 300 { 0 } else { 255 });
            let tones = Sample::of(&image(400, 300, format, pixels.collect())).tones;
            assert!((tones.mean - 0.5).abs() < 1e-3, "{tones:?}");
            assert!((tones.black - 0.5).abs() < 1e-3 && (tones.saturated - 0.5).abs() < 1e-3, "{tones:?}");
        }
    }

    #[test]
    fn a_change_of_one_pixel_changes_the_digest() {
        let mut pixels = vec![7_u8; 61 * 47 * 3];
        let before = Sample::of(&image(61, 47, PixelFormat::Rgb8, pixels.clone())).digest;
        for at in [0, 1000, 61 * 47 * 3 - 1] {
            pixels[at] ^= 1;
            assert_ne!(before, Sample::of(&image(61, 47, PixelFormat::Rgb8, pixels.clone())).digest, "{at}");
            pixels[at] ^= 1;
        }
        assert_eq!(before, Sample::of(&image(61, 47, PixelFormat::Rgb8, pixels)).digest);
    }

    #[test]
    fn a_picture_without_its_pixels_is_one_without_pixels() {
        for (width, height) in [(0, 0), (10, 10), (u32::MAX, u32::MAX)] {
            let sample = Sample::of(&image(width, height, PixelFormat::Rgb8, vec![9; 299]));
            assert_eq!(sample.tones, Tones::default());
            assert!(sample.edges.is_none());
        }
    }

    proptest! {
        #[test]
        fn no_size_breaks_it(width in 1..400_u32, height in 1..400_u32, seed: u8, format in prop::sample::select(
            vec![PixelFormat::Mono8, PixelFormat::Rgb8, PixelFormat::Bgr8]))
        {
            let bytes = (width * height) as usize * format.channels();
            let pixels: Vec<u8> = (0..bytes).map(|n| (n * n) as u8 ^ seed).collect();
            let sample = Sample::of(&image(width, height, format, pixels.clone()));
            let mean = pixels.iter().map(|v| f32::from(*v)).sum::<f32>() / bytes as f32 / 255.0;
            // Of larger ones what is left at the edges does not count.
            let is_whole = format == PixelFormat::Mono8 && width.max(height) <= 160;
            assert!(!is_whole || (sample.tones.mean - mean).abs() < 1e-3);
            assert!(sample.edges.is_none_or(|e| e.slope.is_finite() && e.loss.is_finite()));
        }
    }
}
