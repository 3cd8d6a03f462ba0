//! JPEG encoding of snapshots, with a limit on the bytes.

use anyhow::{Context, Result};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::{Image, PixelFormat};

/// Encodes at `quality` (1 to 100).
///
/// # Errors
/// Sides over 65,535 px.
pub fn encode(image: &Image, quality: u8) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(image.pixels.len() / 8);
    let mut encoder = Encoder::new(&mut out, quality.clamp(1, 100));
    // This encoder halves colour by leaving samples out, which would eat thin coloured lines.
    encoder.set_sampling_factor(SamplingFactor::F_1_1);
    let color = match image.format {
        PixelFormat::Mono8 => ColorType::Luma,
        PixelFormat::Rgb8 => ColorType::Rgb,
        PixelFormat::Bgr8 => ColorType::Bgr,
    };
    let side = |n: u32| u16::try_from(n).context("a snapshot's side is over 65,535 px");
    encoder.encode(&image.pixels, side(image.width)?, side(image.height)?, color)?;
    Ok(out)
}

/// Encodes so that at most `max_bytes` come out: lower quality first, then half the sides.
///
/// # Errors
/// Sides over 65,535 px; none other, since halving ends at a picture of a few pixels.
pub fn encode_within(image: &Image, max_bytes: usize) -> Result<Vec<u8>> {
    let mut scaled: Option<Image> = None;
    loop {
        let current = scaled.as_ref().unwrap_or(image);
        for quality in [85, 70, 50] {
            let bytes = encode(current, quality)?;
            if bytes.len() <= max_bytes || (quality == 50 && current.width.min(current.height) <= 16) {
                return Ok(bytes);
            }
        }
        scaled = Some(halve(current));
    }
}

/// Half the sides, each pixel the mean of four.
fn halve(image: &Image) -> Image {
    let (channels, width) = (image.format.channels(), image.width as usize);
    let (w, h) = (width / 2, image.height as usize / 2);
    let mut pixels = Vec::with_capacity(w * h * channels);
    for y in 0..h {
        let (upper, lower) = (2 * y * width * channels, (2 * y + 1) * width * channels);
        for x in 0..w {
            for c in 0..channels {
                let at = 2 * x * channels + c;
                let sum: u32 = [upper + at, upper + at + channels, lower + at, lower + at + channels]
                    .iter()
                    .map(|&i| u32::from(image.pixels[i]))
                    .sum();
                pixels.push(((sum + 2) / 4) as u8);
            }
        }
    }
    Image { width: w as u32, height: h as u32, format: image.format, pixels, origin: None, truth: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::still;

    #[test]
    fn keeps_to_the_limit() {
        let pixels = (0..400 * 300 * 3).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let noise = Image { width: 400, height: 300, format: PixelFormat::Rgb8, pixels, origin: None, truth: None };
        let bytes = encode_within(&noise, 20_000).unwrap();
        assert!(bytes.len() <= 20_000);
        let back = still::decode(&bytes, 1_000_000).unwrap();
        assert_eq!(back.width * 3, back.height * 4);
    }
}
