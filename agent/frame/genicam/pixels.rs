//! From the pixel formats of cameras to the two that are inspected, Mono8 and RGB8.
//!
//! What it does, and all that it does: of samples of more than 8 bits the 8 upper ones are kept and the lower ones
//! dropped, without scaling; Bayer mosaics become RGB by OpenCV's bilinear interpolation; YUV 4:2:2 becomes RGB by
//! BT.601; an alpha channel is dropped; padding between rows is left out. Fewer bytes than a whole picture has are an
//! error, never a part of a picture.
//!
//! Formats and their codes are those of the EMVA's Pixel Format Naming Convention; `…p` is a stream of bits, lowest
//! first, `…Packed` is GigE Vision 1's own way to put two samples into three bytes.

use anyhow::{Result, bail, ensure};
use opencv::core::{Mat, MatTraitConst, MatTraitConstManual};
use opencv::imgproc;

use crate::frame::{Image, PixelFormat};

/// How the samples of a format lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Samples {
    /// Every `stride` bits one begins, lowest bit first; its 8 upper bits begin `skip` bits later.
    Stream { stride: u8, skip: u8 },
    /// Two in three bytes, their upper 8 bits in the first and the third one.
    Packed,
}

/// What the samples mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    Mono,
    /// OpenCV's code that interpolates this mosaic to RGB.
    Bayer(i32),
    Rgb,
    Bgr,
    Rgba,
    Bgra,
    /// OpenCV's code that makes RGB of this order of bytes.
    Yuv422(i32),
}

impl Colour {
    const fn samples(self) -> usize {
        match self {
            Self::Mono | Self::Bayer(_) => 1,
            Self::Yuv422(_) => 2,
            Self::Rgb | Self::Bgr => 3,
            Self::Rgba | Self::Bgra => 4,
        }
    }
}

/// A pixel format that can be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Its name.
    pub name: &'static str,
    code: u32,
    colour: Colour,
    samples: Samples,
}

const fn format(name: &'static str, code: u32, colour: Colour, samples: Samples) -> Layout {
    Layout { name, code, colour, samples }
}

const EIGHT: Samples = Samples::Stream { stride: 8, skip: 0 };
const TEN: Samples = Samples::Stream { stride: 16, skip: 2 };
const TEN_P: Samples = Samples::Stream { stride: 10, skip: 2 };
const TWELVE: Samples = Samples::Stream { stride: 16, skip: 4 };
const TWELVE_P: Samples = Samples::Stream { stride: 12, skip: 4 };
const FOURTEEN: Samples = Samples::Stream { stride: 16, skip: 6 };
const SIXTEEN: Samples = Samples::Stream { stride: 16, skip: 8 };
// GenICam names a mosaic by its first two pixels, OpenCV by those that lie one further right and down.
const BG: Colour = Colour::Bayer(imgproc::COLOR_BayerRG2RGB);
const GB: Colour = Colour::Bayer(imgproc::COLOR_BayerGR2RGB);
const GR: Colour = Colour::Bayer(imgproc::COLOR_BayerGB2RGB);
const RG: Colour = Colour::Bayer(imgproc::COLOR_BayerBG2RGB);

/// All formats that can be converted.
pub const LAYOUTS: [Layout; 45] = [
    format("Mono8", 0x0108_0001, Colour::Mono, EIGHT),
    format("Mono10", 0x0110_0003, Colour::Mono, TEN),
    format("Mono10Packed", 0x010C_0004, Colour::Mono, Samples::Packed),
    format("Mono10p", 0x010A_0046, Colour::Mono, TEN_P),
    format("Mono12", 0x0110_0005, Colour::Mono, TWELVE),
    format("Mono12Packed", 0x010C_0006, Colour::Mono, Samples::Packed),
    format("Mono12p", 0x010C_0047, Colour::Mono, TWELVE_P),
    format("Mono14", 0x0110_0025, Colour::Mono, FOURTEEN),
    format("Mono16", 0x0110_0007, Colour::Mono, SIXTEEN),
    format("BayerGR8", 0x0108_0008, GR, EIGHT),
    format("BayerRG8", 0x0108_0009, RG, EIGHT),
    format("BayerGB8", 0x0108_000A, GB, EIGHT),
    format("BayerBG8", 0x0108_000B, BG, EIGHT),
    format("BayerGR10", 0x0110_000C, GR, TEN),
    format("BayerRG10", 0x0110_000D, RG, TEN),
    format("BayerGB10", 0x0110_000E, GB, TEN),
    format("BayerBG10", 0x0110_000F, BG, TEN),
    format("BayerGR10p", 0x010A_0056, GR, TEN_P),
    format("BayerRG10p", 0x010A_0058, RG, TEN_P),
    format("BayerGB10p", 0x010A_0054, GB, TEN_P),
    format("BayerBG10p", 0x010A_0052, BG, TEN_P),
    format("BayerGR10Packed", 0x010C_0026, GR, Samples::Packed),
    format("BayerRG10Packed", 0x010C_0027, RG, Samples::Packed),
    format("BayerGB10Packed", 0x010C_0028, GB, Samples::Packed),
    format("BayerBG10Packed", 0x010C_0029, BG, Samples::Packed),
    format("BayerGR12", 0x0110_0010, GR, TWELVE),
    format("BayerRG12", 0x0110_0011, RG, TWELVE),
    format("BayerGB12", 0x0110_0012, GB, TWELVE),
    format("BayerBG12", 0x0110_0013, BG, TWELVE),
    format("BayerGR12p", 0x010C_0057, GR, TWELVE_P),
    format("BayerRG12p", 0x010C_0059, RG, TWELVE_P),
    format("BayerGB12p", 0x010C_0055, GB, TWELVE_P),
    format("BayerBG12p", 0x010C_0053, BG, TWELVE_P),
    format("BayerGR12Packed", 0x010C_002A, GR, Samples::Packed),
    format("BayerRG12Packed", 0x010C_002B, RG, Samples::Packed),
    format("BayerGB12Packed", 0x010C_002C, GB, Samples::Packed),
    format("BayerBG12Packed", 0x010C_002D, BG, Samples::Packed),
    format("BayerRG16", 0x0110_002F, RG, SIXTEEN),
    format("BayerBG16", 0x0110_0031, BG, SIXTEEN),
    format("RGB8", 0x0218_0014, Colour::Rgb, EIGHT),
    format("BGR8", 0x0218_0015, Colour::Bgr, EIGHT),
    format("RGBa8", 0x0220_0016, Colour::Rgba, EIGHT),
    format("BGRa8", 0x0220_0017, Colour::Bgra, EIGHT),
    format("YUV422_8_UYVY", 0x0210_001F, Colour::Yuv422(imgproc::COLOR_YUV2RGB_UYVY), EIGHT),
    format("YUV422_8", 0x0210_0032, Colour::Yuv422(imgproc::COLOR_YUV2RGB_YUYV), EIGHT),
];

impl Layout {
    /// The layout of a format, by its code.
    #[must_use]
    pub fn of(code: u32) -> Option<Self> {
        LAYOUTS.iter().find(|layout| layout.code == code).copied()
    }

    /// The layout of a format, by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        LAYOUTS.iter().find(|layout| layout.name == name).copied()
    }

    /// Bits from the beginning of `samples` samples to the beginning of what follows them.
    fn bits(self, samples: usize) -> usize {
        match self.samples {
            Samples::Stream { stride, .. } => samples * usize::from(stride),
            Samples::Packed => samples * 12,
        }
    }

    /// A picture of `width` × `height` pixels, `padding` bytes after each row.
    ///
    /// # Errors
    /// `data` is shorter than a whole picture, or the sides make no sense.
    pub fn convert(self, width: u32, height: u32, padding: usize, data: Vec<u8>) -> Result<Image> {
        let (columns, rows) = (width as usize, height as usize);
        ensure!(columns > 0 && rows > 0, "the picture has {width}x{height} pixels");
        let row = columns * self.colour.samples();
        // Without padding a row may begin in the middle of a byte.
        let row_bits = if padding == 0 { self.bits(row) } else { (self.bits(row).div_ceil(8) + padding) * 8 };
        let needed = (row_bits * (rows - 1) + self.bits(row)).div_ceil(8);
        if data.len() < needed {
            bail!("{} of {needed} bytes of a {} picture of {width}x{height} pixels", data.len(), self.name);
        }
        let samples = if self.samples == EIGHT && padding == 0 {
            let mut data = data;
            data.truncate(needed);
            data
        } else {
            self.upper_bytes(&data, row, rows, row_bits)
        };
        let (format, pixels) = match self.colour {
            Colour::Mono => (PixelFormat::Mono8, samples),
            Colour::Rgb => (PixelFormat::Rgb8, samples),
            Colour::Bgr => (PixelFormat::Bgr8, samples),
            Colour::Rgba => (PixelFormat::Rgb8, without_alpha(&samples)),
            Colour::Bgra => (PixelFormat::Bgr8, without_alpha(&samples)),
            Colour::Bayer(code) => {
                // Of anything smaller OpenCV makes black.
                ensure!(columns > 2 && rows > 2, "{width}x{height} pixels are too few for a mosaic");
                let mosaic = Mat::new_rows_cols_with_data(height as i32, width as i32, &samples)?;
                (PixelFormat::Rgb8, by_opencv(&mosaic, code)?)
            }
            Colour::Yuv422(code) => {
                ensure!(columns.is_multiple_of(2), "{} has an even number of columns, not {width}", self.name);
                let flat = Mat::from_slice(&samples)?;
                (PixelFormat::Rgb8, by_opencv(&flat.reshape(2, height as i32)?, code)?)
            }
        };
        Ok(Image { width, height, format, pixels, origin: None, truth: None })
    }

    /// The 8 upper bits of each sample, row by row.
    fn upper_bytes(self, data: &[u8], row: usize, rows: usize, row_bits: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(row * rows);
        for y in 0..rows {
            let start = y * row_bits;
            match self.samples {
                Samples::Stream { stride, skip } => out.extend((0..row).map(|x| {
                    let bit = start + x * usize::from(stride) + usize::from(skip);
                    let low = data[bit / 8];
                    // The last sample may end with the last byte.
                    let high = data.get(bit / 8 + 1).copied().unwrap_or(0);
                    (u16::from_le_bytes([low, high]) >> (bit % 8)) as u8
                })),
                Samples::Packed => {
                    // Counted in samples from the last row that begins with a whole byte.
                    let (base, first) = if start.is_multiple_of(8) { (start / 8, 0) } else { ((start - 12) / 8, 1) };
                    out.extend((first..first + row).map(|x| data[base + x / 2 * 3 + x % 2 * 2]));
                }
            }
        }
        out
    }
}

fn without_alpha(samples: &[u8]) -> Vec<u8> {
    samples.chunks_exact(4).flat_map(|pixel| &pixel[..3]).copied().collect()
}

fn by_opencv(from: &impl opencv::core::ToInputArray, code: i32) -> Result<Vec<u8>> {
    let mut rgb = Mat::default();
    imgproc::cvt_color_def(from, &mut rgb, code)?;
    ensure!(!rgb.empty(), "OpenCV gave no picture");
    Ok(rgb.data_bytes()?.to_vec())
}

#[cfg(test)]
#[path = "pixels_tests.rs"]
mod tests;
