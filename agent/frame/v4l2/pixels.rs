//! The bytes of a driver's buffer as a picture; pure.

use opencv::core::{Mat, MatTraitConstManual, Vec2b};
use opencv::imgproc;

use super::settings::Format;
use crate::frame::{Image, PixelFormat, still};

/// Formats that can be decoded, the best first.
pub const KNOWN: [[u8; 4]; 9] =
    [*b"BGR3", *b"RGB3", *b"YUYV", *b"UYVY", *b"NV12", *b"YU12", *b"GREY", *b"MJPG", *b"JPEG"];

/// Decodes a buffer.
///
/// # Errors
/// What is wrong with it, in words.
pub fn decode(format: &Format, bytes: &[u8], max_pixels: u64) -> Result<Image, String> {
    let (width, height) = (format.width, format.height);
    if matches!(&format.fourcc, b"MJPG" | b"JPEG") {
        let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1); // some drivers fill up with zeros
        return still::decode(&bytes[..end], max_pixels).map_err(|e| format!("the picture {e}"));
    }
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(format!("{width}x{height} pixels are over the limit (limits.max_megapixels)"));
    }
    let (w, h) = (width as usize, height as usize);
    let planar = matches!(&format.fourcc, b"NV12" | b"YU12");
    let (row, rows) = match &format.fourcc {
        b"BGR3" | b"RGB3" => (w * 3, h),
        b"YUYV" | b"UYVY" => (w * 2, h),
        b"GREY" => (w, h),
        _ => (w, h * 3 / 2),
    };
    let stride = (format.stride as usize).max(row);
    if planar && stride != row {
        return Err(format!("rows of {stride} bytes for {w} pixels are not known: choose another width or format"));
    }
    if bytes.len() < stride * rows.saturating_sub(1) + row {
        return Err(format!("the picture is cut off: {} of {} bytes", bytes.len(), stride * rows));
    }
    let packed: Vec<u8> = bytes.chunks(stride).take(rows).flat_map(|line| &line[..row]).copied().collect();
    let image = |format, pixels| Image { width, height, format, pixels, origin: None, truth: None };
    Ok(match &format.fourcc {
        b"BGR3" => image(PixelFormat::Bgr8, packed),
        b"RGB3" => image(PixelFormat::Rgb8, packed),
        b"GREY" => image(PixelFormat::Mono8, packed),
        fourcc => {
            let pixels = convert(*fourcc, &packed, height as i32, width as i32);
            image(PixelFormat::Bgr8, pixels.map_err(|e| format!("the picture cannot be converted: {e}"))?)
        }
    })
}

fn convert(fourcc: [u8; 4], packed: &[u8], height: i32, width: i32) -> opencv::Result<Vec<u8>> {
    let code = match &fourcc {
        b"YUYV" => imgproc::COLOR_YUV2BGR_YUY2,
        b"UYVY" => imgproc::COLOR_YUV2BGR_UYVY,
        b"NV12" => imgproc::COLOR_YUV2BGR_NV12,
        _ => imgproc::COLOR_YUV2BGR_I420,
    };
    let mut bgr = Mat::default();
    if matches!(&fourcc, b"YUYV" | b"UYVY") {
        let yuv = Mat::new_rows_cols_with_bytes::<Vec2b>(height, width, packed)?;
        imgproc::cvt_color_def(&yuv, &mut bgr, code)?;
    } else {
        let yuv = Mat::new_rows_cols_with_bytes::<u8>(height * 3 / 2, width, packed)?;
        imgproc::cvt_color_def(&yuv, &mut bgr, code)?;
    }
    Ok(bgr.data_bytes()?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::jpeg;

    fn format(fourcc: [u8; 4], stride: u32) -> Format {
        Format { fourcc, width: 4, height: 2, stride }
    }

    #[test]
    fn every_format_gives_grey_where_there_is_no_colour() {
        for (fourcc, bytes) in [
            (b"YUYV", [128_u8; 16].to_vec()),
            (b"UYVY", [128; 16].to_vec()),
            (b"NV12", [128; 12].to_vec()),
            (b"YU12", [128; 12].to_vec()),
            (b"BGR3", [128; 24].to_vec()),
            (b"RGB3", [128; 24].to_vec()),
            (b"GREY", [128; 8].to_vec()),
        ] {
            let image = decode(&format(*fourcc, 0), &bytes, 100).unwrap();
            assert_eq!(image.pixels.len(), 8 * image.format.channels());
            // Video levels 16 to 235 become 0 to 255.
            assert!(image.pixels.iter().all(|p| (126..=132).contains(p)), "{fourcc:?} {:?}", image.pixels);
            let cut = decode(&format(*fourcc, 0), &bytes[..bytes.len() - 1], 100).unwrap_err();
            assert!(cut.contains("cut off"), "{cut}");
            assert!(decode(&format(*fourcc, 0), &bytes, 7).unwrap_err().contains("over the limit"));
        }
    }

    #[test]
    fn padding_between_rows_is_left_out() {
        let bytes = [1, 2, 3, 4, 0, 0, 5, 6, 7, 8];
        assert_eq!(decode(&format(*b"GREY", 6), &bytes, 100).unwrap().pixels, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_jpeg_that_is_cut_off_is_no_picture() {
        let grey = Image {
            width: 16,
            height: 16,
            format: PixelFormat::Mono8,
            pixels: vec![90; 256],
            origin: None,
            truth: None,
        };
        let mut bytes = jpeg::encode(&grey, 90).unwrap();
        let whole = bytes.len();
        bytes.extend([0; 64]);
        assert_eq!(decode(&format(*b"MJPG", 0), &bytes, 1000).unwrap().width, 16);
        assert!(decode(&format(*b"MJPG", 0), &bytes[..whole - 8], 1000).unwrap_err().contains("cut off"));
        assert!(decode(&format(*b"MJPG", 0), &[0; 8], 1000).is_err());
    }
}
