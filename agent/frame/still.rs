//! Strict decoding of still pictures: a whole picture or an error, never a part of one.
//!
//! OpenCV's `imread` hides a cut-off JPEG (it fills the rest with grey, later versions with the picture before), so
//! stills are decoded here. Size is checked against the header before any memory is taken.

use std::io::Cursor;
use std::path::Path;

use image::{ImageDecoder, ImageFormat, ImageReader, Limits as ImageLimits};
use thiserror::Error;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::{Image, PixelFormat};

/// A file of more bytes than this is not read.
const MAX_FILE: u64 = 512 << 20;
/// Pixels of a picture that is named on a command line: as many as any camera has.
pub const LARGEST: u64 = 256_000_000;
/// JPEG's end-of-image and start-of-scan marks.
const END: [u8; 2] = [0xff, 0xd9];
const SCAN: [u8; 2] = [0xff, 0xda];

/// File extensions that a folder camera looks at.
pub const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "bmp", "tif", "tiff", "pgm", "ppm", "pnm"];

/// Why a picture gives no verdict.
#[derive(Debug, Error)]
pub enum StillError {
    /// The file could not be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// More pixels than allowed.
    #[error("has {width}x{height} pixels, over the limit of {limit} (limits.max_megapixels)")]
    TooLarge {
        /// Pixels a row.
        width: u64,
        /// Rows.
        height: u64,
        /// Pixels allowed.
        limit: u64,
    },
    /// No known signature.
    #[error("is no JPEG, PNG, BMP, TIFF or PNM picture")]
    UnknownKind,
    /// Cut off or damaged.
    #[error("is cut off or damaged: {0}")]
    Damaged(String),
}

/// Reads and decodes a file.
///
/// # Errors
/// [`StillError`], for the counter and the log.
pub fn read(path: &Path, max_pixels: u64) -> Result<Image, StillError> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_FILE {
        return Err(StillError::Damaged(format!("{size} bytes are no single picture")));
    }
    decode(&std::fs::read(path)?, max_pixels)
}

/// Decodes a picture from memory to [`PixelFormat::Rgb8`] or [`PixelFormat::Mono8`].
///
/// # Errors
/// [`StillError`]; nothing of a damaged picture is returned.
pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<Image, StillError> {
    if bytes.is_empty() {
        return Err(StillError::Damaged("the file is empty".into()));
    }
    match image::guess_format(bytes).map_err(|_| StillError::UnknownKind)? {
        ImageFormat::Jpeg => jpeg(bytes, max_pixels),
        format @ (ImageFormat::Png | ImageFormat::Bmp | ImageFormat::Tiff | ImageFormat::Pnm) => {
            other(bytes, format, max_pixels)
        }
        _ => Err(StillError::UnknownKind),
    }
}

fn check_size(width: u64, height: u64, limit: u64) -> Result<(), StillError> {
    match width.checked_mul(height) {
        Some(0) => Err(StillError::Damaged("it has no pixels".into())),
        Some(pixels) if pixels <= limit => Ok(()),
        _ => Err(StillError::TooLarge { width, height, limit }),
    }
}

fn jpeg(bytes: &[u8], max_pixels: u64) -> Result<Image, StillError> {
    let damaged = |e: zune_jpeg::errors::DecodeErrors| StillError::Damaged(format!("{e:?}"));
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| StillError::Damaged("it has no frame header".into()))?;
    check_size(width as u64, height as u64, max_pixels)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    if grey {
        decoder.set_options(options.jpeg_set_out_colorspace(ColorSpace::Luma));
    }
    // The end mark must stand behind the last scan: the one of a thumbnail in front of it does not count.
    let last = |mark: [u8; 2]| bytes.windows(2).rposition(|two| two == mark);
    if last(END) < last(SCAN) {
        return Err(StillError::Damaged("the end mark is missing".into()));
    }
    let pixels = decoder.decode().map_err(damaged)?;
    let format = if grey { PixelFormat::Mono8 } else { PixelFormat::Rgb8 };
    whole(width as u32, height as u32, format, pixels)
}

fn other(bytes: &[u8], format: ImageFormat, max_pixels: u64) -> Result<Image, StillError> {
    let damaged = |e: image::ImageError| StillError::Damaged(e.to_string());
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = ImageLimits::no_limits();
    // 16-bit RGBA at the pixel limit, and the decoder's own rows.
    limits.max_alloc = Some(max_pixels.saturating_mul(8) + (64 << 20));
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    check_size(u64::from(width), u64::from(height), max_pixels)?;
    let grey = !decoder.color_type().has_color();
    let picture = image::DynamicImage::from_decoder(decoder).map_err(damaged)?;
    let (format, pixels) = if grey {
        (PixelFormat::Mono8, picture.into_luma8().into_raw())
    } else {
        (PixelFormat::Rgb8, picture.into_rgb8().into_raw())
    };
    whole(width, height, format, pixels)
}

fn whole(width: u32, height: u32, format: PixelFormat, pixels: Vec<u8>) -> Result<Image, StillError> {
    let expected = width as usize * height as usize * format.channels();
    if pixels.len() != expected {
        return Err(StillError::Damaged(format!("{} bytes of {expected} decoded", pixels.len())));
    }
    Ok(Image { width, height, format, pixels, origin: None, truth: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::jpeg;

    const LIMIT: u64 = 64_000_000;

    fn sample() -> Image {
        let pixels = (0..96 * 64 * 3).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        Image { width: 96, height: 64, format: PixelFormat::Rgb8, pixels, origin: None, truth: None }
    }

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let picture = image::RgbImage::from_raw(96, 64, sample().pixels).unwrap();
        let mut out = Cursor::new(Vec::new());
        picture.write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    #[test]
    fn decodes_every_kind() {
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Pnm] {
            assert_eq!(decode(&encoded(format), LIMIT).unwrap().pixels, sample().pixels, "{format:?}");
        }
        let jpeg = decode(&jpeg::encode(&sample(), 95).unwrap(), LIMIT).unwrap();
        assert_eq!((jpeg.width, jpeg.height, jpeg.format), (96, 64, PixelFormat::Rgb8));
    }

    #[test]
    fn a_grey_jpeg_stays_grey() {
        let grey = Image { format: PixelFormat::Mono8, pixels: vec![77; 96 * 64], ..sample() };
        let back = decode(&jpeg::encode(&grey, 95).unwrap(), LIMIT).unwrap();
        assert_eq!(back.format, PixelFormat::Mono8);
        assert!(back.pixels.iter().all(|p| p.abs_diff(77) < 3));
    }

    /// Every possible cut of every kind: an error, never a picture.
    #[test]
    fn no_cut_passes() {
        let mut files = vec![jpeg::encode(&sample(), 90).unwrap()];
        files.extend([ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Pnm].map(encoded));
        for file in files {
            // A PNG's IEND chunk (12 bytes) and TIFF's directory hold no pixels, so a decoder may do without them.
            for cut in (0..file.len() - 16).step_by(7) {
                assert!(decode(&file[..cut], LIMIT).is_err(), "{:?} cut at {cut}", &file[..4]);
            }
        }
    }

    /// The thumbnail in front has an end mark of its own.
    #[test]
    fn no_cut_passes_behind_a_thumbnail() {
        let (picture, thumbnail) = (jpeg::encode(&sample(), 90).unwrap(), jpeg::encode(&sample(), 30).unwrap());
        let length = (thumbnail.len() + 2) as u16;
        let mut file = picture[..2].to_vec();
        file.extend([0xff, 0xe1]);
        file.extend(length.to_be_bytes());
        file.extend(&thumbnail);
        file.extend(&picture[2..]);
        assert_eq!(decode(&file, LIMIT).unwrap().pixels, decode(&picture, LIMIT).unwrap().pixels);
        for cut in 1..300 {
            assert!(decode(&file[..file.len() - cut], LIMIT).is_err(), "cut by {cut}");
        }
    }

    #[test]
    fn a_huge_header_takes_no_memory() {
        // SOI, SOF0 of 65,535 x 65,535 with one component, nothing else.
        let mut bytes = vec![0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0xff, 0xff, 0xff, 0xff, 1, 1, 0x11, 0];
        bytes.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0xff, 0xd9]);
        let error = decode(&bytes, LIMIT).unwrap_err();
        assert!(matches!(error, StillError::TooLarge { width: 65_535, height: 65_535, .. }), "{error}");
        let small = decode(&encoded(ImageFormat::Png), 1000).unwrap_err();
        assert!(matches!(small, StillError::TooLarge { .. }), "{small}");
    }

    #[test]
    fn garbage_is_named() {
        assert!(matches!(decode(b"GIF89a....", LIMIT), Err(StillError::UnknownKind)));
        assert!(matches!(decode(b"hello, world, I am no picture", LIMIT), Err(StillError::UnknownKind)));
        assert!(matches!(decode(b"", LIMIT), Err(StillError::Damaged(_))));
    }
}
