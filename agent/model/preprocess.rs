//! From a frame to the network's input: cut, straighten, turn, resize, pad, normalise.
//!
//! [`Placement`] remembers how, so that boxes come back in pixels of the frame as captured. [`View`] says what of it is done.

use anyhow::{Context, Error, Result};
use opencv::boxed_ref::BoxedRef;
use opencv::core::{self, Mat, MatTraitConst, MatTraitConstManual, Rect, Size, ToInputArray, Vec3b};
use opencv::imgproc;

use super::bundle::{ChannelOrder, Fit, InputSpec};
pub use crate::frame::view::Placement;
use crate::frame::view::{Laid, Plan, Turn, View};
use crate::frame::{Image, PixelFormat};

/// The longer side may have at most this many times `size`, so that a very long picture stays affordable.
const MAX_STRETCH: u32 = 4;
/// The grey around a letterboxed picture, as Ultralytics and YOLOX have it in training.
const PADDING: f32 = 114.0;

/// The network's input for one frame.
#[derive(Debug, Default)]
pub struct Input {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `3 * height * width` values, channels first.
    pub data: Vec<f32>,
    /// Where it lies in the frame.
    pub placement: Placement,
}

/// Width and height of the network's input for a region of this size.
#[must_use]
pub fn input_size(spec: &InputSpec, width: u32, height: u32) -> (u32, u32) {
    match spec.fit {
        Fit::Stretch | Fit::Letterbox | Fit::LetterboxCorner => (spec.size, spec.size),
        Fit::Aspect => {
            let most = spec.upscale.map_or(f64::INFINITY, f64::from);
            let scale = (f64::from(spec.size) / (f64::from(width) * f64::from(height)).sqrt()).min(most);
            let side = |n: u32| {
                // Ties to even, as the training side rounds.
                let steps = (f64::from(n) * scale / f64::from(spec.multiple_of)).round_ties_even() as u32;
                (steps.max(1) * spec.multiple_of).min(spec.size * MAX_STRETCH)
            };
            (side(width), side(height))
        }
    }
}

/// Where a region of this size comes to lie in an input of that size: width, height, and x and y of its corner.
fn inner(spec: &InputSpec, (w, h): (u32, u32), (width, height): (u32, u32)) -> ([u32; 2], [u32; 2]) {
    let scale = (f64::from(width) / f64::from(w)).min(f64::from(height) / f64::from(h));
    let side = |n: u32, most: u32, round: fn(f64) -> f64| (round(f64::from(n) * scale) as u32).clamp(1, most);
    match spec.fit {
        Fit::Stretch | Fit::Aspect => ([width, height], [0, 0]),
        // What does not halve is one more at the right and lower side, as in Ultralytics.
        Fit::Letterbox => {
            let (w, h) = (side(w, width, f64::round), side(h, height, f64::round));
            ([w, h], [(width - w) / 2, (height - h) / 2])
        }
        Fit::LetterboxCorner => ([side(w, width, f64::floor), side(h, height, f64::floor)], [0, 0]),
    }
}

/// To be called once a process: frames run on threads of our own, and `OpenCV`'s would only be in their way.
pub fn one_thread() {
    if let Err(e) = opencv::core::set_num_threads(1) {
        tracing::warn!("OpenCV keeps its own threads: {e}");
    }
}

/// Where what a view shows of frames of this size comes to lie, and the width and height of the input.
///
/// # Errors
/// The lens was calibrated at another shape.
pub fn lay(view: &View, (width, height): (u32, u32), spec: &InputSpec) -> Result<(Laid, (u32, u32))> {
    let cut = view.cut(width, height).map_err(Error::msg)?;
    let [w, h] = cut.size;
    let input = input_size(spec, w, h);
    let (size, corner) = inner(spec, (w, h), input);
    Ok((cut.lay(size, corner), input))
}

/// Brings what a view shows of a frame into `input`, whose memory is used again.
///
/// # Errors
/// The picture's pixels do not fit its size, or its size does not fit the view.
pub fn prepare(image: &Image, view: &View, spec: &InputSpec, input: &mut Input) -> Result<()> {
    let (laid, (width, height)) = lay(view, (image.width, image.height), spec)?;
    let plan = view.plan(&laid).map_err(Error::msg)?;
    input.width = width as usize;
    input.height = height as usize;
    input.placement = laid.placement.clone();
    let place = (laid.inner.map(|n| n as usize), laid.corner.map(|n| n as usize));
    let Some(plan) = plan else {
        let whole = whole(image)?;
        let small = resized(&whole, &laid)?;
        let source = small.data_bytes().context("OpenCV gave a picture in pieces")?;
        normalise(source, &[], image.format, spec, place, input);
        return Ok(());
    };
    let channels = image.format.channels();
    let mut source = if plan.bends() {
        bent(image, &laid, &plan)?
    } else {
        let whole = whole(image)?;
        resized(&whole, &laid)?.data_bytes().context("OpenCV gave a picture in pieces")?.to_vec()
    };
    plan.fill(&mut source, channels);
    normalise(&source, plan.hidden(), image.format, spec, place, input);
    Ok(())
}

fn whole(image: &Image) -> Result<BoxedRef<'_, Mat>> {
    let (rows, columns) = (image.height as i32, image.width as i32);
    Ok(if image.format.channels() == 1 {
        Mat::new_rows_cols_with_bytes::<u8>(rows, columns, &image.pixels)?
    } else {
        Mat::new_rows_cols_with_bytes::<Vec3b>(rows, columns, &image.pixels)?
    })
}

/// The inspected part of a picture, shrunk by a whole number over one.
fn binned(part: &impl ToInputArray, laid: &Laid) -> Result<Mat> {
    let [w, h] = laid.shrunk().map(|v| v as i32);
    let mut binned = Mat::default();
    imgproc::resize(part, &mut binned, Size::new(w, h), 0.0, 0.0, imgproc::INTER_AREA)?;
    Ok(binned)
}

/// The inspected part of a picture, as large as it is in the input, and turned.
fn resized(whole: &BoxedRef<Mat>, laid: &Laid) -> Result<Mat> {
    let [x, y, w, h] = laid.part.map(|v| v as i32);
    let part = whole.roi(Rect::new(x, y, w, h))?;
    let [inner_w, inner_h] = laid.turn.pair(laid.inner).map(|n| n as i32);
    let mut small = Mat::default();
    let size = Size::new(inner_w, inner_h);
    if laid.shrink == [1, 1] {
        // Averaging when shrinking keeps fine texture from turning into moiré.
        let method = if inner_w <= w && inner_h <= h { imgproc::INTER_AREA } else { imgproc::INTER_LINEAR };
        imgproc::resize(&part, &mut small, size, 0.0, 0.0, method)?;
    } else {
        // Less than twofold is left, of pixels that are averages already.
        imgproc::resize(&binned(&part, laid)?, &mut small, size, 0.0, 0.0, imgproc::INTER_LINEAR)?;
    }
    turned(small, laid.turn)
}

/// It is the small picture that is turned.
fn turned(mut picture: Mat, turn: Turn) -> Result<Mat> {
    if turn.swap {
        let mut other = Mat::default();
        core::transpose(&picture, &mut other)?;
        picture = other;
    }
    // OpenCV's numbers: 0 swaps top and bottom, 1 left and right, -1 both.
    let code = match turn.mirror {
        [false, false] => return Ok(picture),
        [false, true] => 0,
        [true, false] => 1,
        [true, true] => -1,
    };
    let mut other = Mat::default();
    core::flip(&picture, &mut other, code)?;
    Ok(other)
}

/// The inspected part of a picture, as large as it is in the input, straightened and turned.
fn bent(image: &Image, laid: &Laid, plan: &Plan) -> Result<Vec<u8>> {
    let channels = image.format.channels();
    let whole = whole(image)?; // which checks that all pixels are there
    let [x, y, w, h] = laid.part;
    if laid.shrink != [1, 1] {
        let part = whole.roi(Rect::new(x as i32, y as i32, w as i32, h as i32))?;
        let binned = binned(&part, laid)?;
        let bytes = binned.data_bytes().context("OpenCV gave a picture in pieces")?;
        return Ok(plan.bend(bytes, laid.shrunk()[0] as usize * channels, channels));
    }
    let stride = image.width as usize * channels;
    Ok(plan.bend(&image.pixels[y as usize * stride + x as usize * channels..], stride, channels))
}

/// Writes the resized picture into its place in the input, and grey around it. What is hidden has no say in the contrast.
fn normalise(
    source: &[u8],
    hidden: &[bool],
    format: PixelFormat,
    spec: &InputSpec,
    place: ([usize; 2], [usize; 2]),
    input: &mut Input,
) {
    let ([inner_w, inner_h], [left, top]) = place;
    let (width, plane, channels) = (input.width, input.width * input.height, format.channels());
    let padded = inner_w * inner_h < plane;
    input.data.resize(3 * plane, 0.0);
    let same = (format == PixelFormat::Bgr8) == (spec.channel_order == ChannelOrder::Bgr);
    let order = if same { [0, 1, 2] } else { [2, 1, 0] };
    let (mean, raise) = spec.contrast.map_or((0.0, 1.0), |wanted| {
        if hidden.is_empty() {
            contrast(source, wanted)
        } else {
            let seen = source.chunks_exact(channels).zip(hidden).filter(|(_, hidden)| !**hidden);
            contrast(&seen.flat_map(|(pixel, _)| pixel).copied().collect::<Vec<u8>>(), wanted)
        }
    });
    for (c, out) in input.data.chunks_exact_mut(plane).enumerate() {
        let normal = |value: f32| (value - spec.mean[c]) / spec.std[c];
        // Every value that a pixel can have, once.
        let table: [f32; 256] =
            std::array::from_fn(|value| normal(((value as f32 - mean) * raise + mean).clamp(0.0, 255.0)));
        if padded {
            out.fill(normal(PADDING));
        }
        let from = if channels == 1 { 0 } else { order[c] };
        for (row, line) in source.chunks_exact(inner_w * channels).enumerate() {
            let begin = (top + row) * width + left;
            for (value, pixel) in out[begin..begin + inner_w].iter_mut().zip(line.chunks_exact(channels)) {
                *value = table[usize::from(pixel[from])];
            }
        }
    }
}

/// Mean of the samples, and by how much to raise the contrast about it.
fn contrast(samples: &[u8], wanted: f32) -> (f32, f32) {
    let (mut sum, mut squares) = (0_u64, 0_u64);
    for &sample in samples {
        let sample = u64::from(sample);
        sum += sample;
        squares += sample * sample;
    }
    let n = samples.len().max(1) as f64;
    let mean = sum as f64 / n;
    let deviation = (squares as f64 / n - mean * mean).max(1e-6).sqrt();
    (mean as f32, (f64::from(wanted) / deviation).sqrt().clamp(1.0, 2.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Region;
    use proptest::prelude::*;

    fn spec(fit: Fit) -> InputSpec {
        InputSpec {
            name: "image".into(),
            size: 256,
            multiple_of: 32,
            fit,
            mean: [127.0; 3],
            std: [128.0; 3],
            contrast: None,
            upscale: None,
            channel_order: ChannelOrder::Rgb,
        }
    }

    fn image(width: u32, height: u32, format: PixelFormat) -> Image {
        let pixels = (0..width * height * format.channels() as u32).map(|n| (n % 251) as u8).collect();
        Image { width, height, format, pixels, origin: None, truth: None }
    }

    #[test]
    fn keeps_the_shape_of_long_pictures() {
        assert_eq!(input_size(&spec(Fit::Aspect), 500, 1254), (160, 416));
        assert_eq!(input_size(&spec(Fit::Aspect), 640, 480), (288, 224));
        assert_eq!(input_size(&spec(Fit::Aspect), 8000, 10), (1024, 32));
        assert_eq!(input_size(&spec(Fit::Stretch), 500, 1254), (256, 256));
        assert_eq!(input_size(&spec(Fit::Letterbox), 500, 1254), (256, 256));
    }

    #[test]
    fn a_letterbox_keeps_the_shape_and_lies_where_its_family_puts_it() {
        let place = |fit, w, h| inner(&InputSpec { size: 640, ..spec(fit) }, (w, h), (640, 640));
        assert_eq!(place(Fit::Letterbox, 1280, 720), ([640, 360], [0, 140]));
        assert_eq!(place(Fit::Letterbox, 1000, 667), ([640, 427], [0, 106]), "426.88 rows; 106 above and 107 below");
        assert_eq!(place(Fit::LetterboxCorner, 1000, 667), ([640, 426], [0, 0]));
        assert_eq!(place(Fit::LetterboxCorner, 480, 640), ([480, 640], [0, 0]));
        assert_eq!(place(Fit::Letterbox, 100_000, 1), ([640, 1], [0, 319]));
        assert_eq!(place(Fit::Stretch, 480, 640), ([640, 640], [0, 0]));
    }

    #[test]
    fn around_a_letterbox_all_is_grey_114() {
        let white = Image { pixels: vec![255; 64 * 32], ..image(64, 32, PixelFormat::Mono8) };
        for (fit, top) in [(Fit::Letterbox, 16), (Fit::LetterboxCorner, 0)] {
            let spec = InputSpec { size: 64, mean: [0.0; 3], std: [1.0, 2.0, 4.0], ..spec(fit) };
            // What was in the input before must not shine through.
            let mut input = Input { data: vec![9.0; 3 * 64 * 64], ..Input::default() };
            prepare(&white, &View::default(), &spec, &mut input).unwrap();
            for (c, plane) in input.data.chunks_exact(64 * 64).enumerate() {
                for (n, value) in plane.iter().enumerate() {
                    let inside = (top..top + 32).contains(&(n / 64));
                    assert_eq!(*value, if inside { 255.0 } else { 114.0 } / spec.std[c], "{fit:?} {c} {n}");
                }
            }
        }
    }

    #[test]
    fn a_small_picture_is_not_blown_up_further_than_allowed() {
        let spec = InputSpec { size: 416, upscale: Some(2.0), ..spec(Fit::Aspect) };
        assert_eq!(input_size(&spec, 640, 640), (416, 416));
        assert_eq!(input_size(&spec, 200, 200), (384, 384), "400 in steps of 32");
        assert_eq!(input_size(&spec, 100, 50), (192, 96));
    }

    #[test]
    fn normalises_each_channel_in_rgb_order() {
        let mut one = Image { pixels: [10, 127, 255].repeat(64 * 64), ..image(64, 64, PixelFormat::Rgb8) };
        let mut input = Input::default();
        let first = |input: &Input| [0, 1, 2].map(|c| input.data[c * input.width * input.height]);
        prepare(&one, &View::default(), &spec(Fit::Stretch), &mut input).unwrap();
        let rgb = first(&input);
        for (got, value) in rgb.iter().zip([10.0, 127.0, 255.0]) {
            assert!((got - (value - 127.0) / 128.0).abs() < 1e-6);
        }
        one.format = PixelFormat::Bgr8;
        one.pixels = [255, 127, 10].repeat(64 * 64);
        prepare(&one, &View::default(), &spec(Fit::Stretch), &mut input).unwrap();
        assert_eq!(first(&input), rgb);
        let bgr = InputSpec { channel_order: ChannelOrder::Bgr, ..spec(Fit::Stretch) };
        prepare(&one, &View::default(), &bgr, &mut input).unwrap();
        assert_eq!(first(&input), [rgb[2], rgb[1], rgb[0]]);
        one.format = PixelFormat::Rgb8;
        one.pixels = [10, 127, 255].repeat(64 * 64);
        prepare(&one, &View::default(), &bgr, &mut input).unwrap();
        assert_eq!(first(&input), [rgb[2], rgb[1], rgb[0]]);
        let grey = Image { pixels: vec![10; 64 * 64], ..image(64, 64, PixelFormat::Mono8) };
        prepare(&grey, &View::default(), &spec(Fit::Stretch), &mut input).unwrap();
        assert_eq!(first(&input), [rgb[0]; 3]);
    }

    #[test]
    fn a_dull_picture_gets_contrast_and_a_lively_one_stays() {
        let striped = |low: u8, high: u8| Image {
            pixels: [[low; 64], [high; 64]].concat().repeat(32),
            ..image(64, 64, PixelFormat::Mono8)
        };
        let spread = |picture: &Image, contrast| {
            let spec = InputSpec { size: 64, contrast, ..spec(Fit::Stretch) };
            let mut input = Input::default();
            prepare(picture, &View::default(), &spec, &mut input).unwrap();
            let (low, high) = input.data.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
            (high - low) * 128.0
        };
        assert!((spread(&striped(100, 120), None) - 20.0).abs() < 1e-3);
        assert!((spread(&striped(100, 120), Some(20.0)) - 20.0 * 2.0_f32.sqrt()).abs() < 0.1);
        assert!((spread(&striped(100, 120), Some(100.0)) - 40.0).abs() < 0.1, "at most twofold");
        assert!((spread(&striped(10, 240), Some(55.0)) - 230.0).abs() < 1e-3);
    }

    #[test]
    fn a_picture_shorter_than_its_size_is_an_error() {
        let short = Image { pixels: vec![0; 100], ..image(64, 64, PixelFormat::Rgb8) };
        assert!(prepare(&short, &View::default(), &spec(Fit::Aspect), &mut Input::default()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn boxes_come_back_within_a_pixel(
            (width, height) in (16_u32..700, 16_u32..700),
            roi in (0.0_f32..0.8, 0.0_f32..0.8, 0.1_f32..0.2, 0.1_f32..0.2),
            fit in prop::sample::select(vec![Fit::Stretch, Fit::Aspect, Fit::Letterbox, Fit::LetterboxCorner]),
        ) {
            let region = Region([roi.0, roi.1, roi.0 + roi.2, roi.1 + roi.3]);
            let mut input = Input::default();
            prepare(&image(width, height, PixelFormat::Mono8), &region.into(), &spec(fit), &mut input).unwrap();
            let place = input.placement;
            let all = place.to_frame([0.0, 0.0, input.width as f32, input.height as f32]);
            let (x, y, w, h) = region.pixels(width, height);
            let expected = [x as f32, y as f32, (x + w) as f32, (y + h) as f32];
            // What does not divide by the whole-number shrink may be missing at the right and lower edge.
            let ([inner_w, inner_h], _) = inner(&spec(fit), (w, h), (input.width as u32, input.height as u32));
            let spare = 1.0 + (w / inner_w).min(h / inner_h) as f32;
            for (got, wanted) in all.iter().zip(expected) {
                prop_assert!((got - wanted).abs() < spare, "{all:?} {expected:?}");
            }
            let inner = [10.0, 12.0, 20.0, 28.0];
            let back = place.to_input(place.to_frame(inner));
            if matches!(fit, Fit::Stretch | Fit::Aspect) {
                for (got, wanted) in back.iter().zip(inner) {
                    prop_assert!((got - wanted).abs() < 0.01);
                }
            }
        }

        #[test]
        fn a_bright_block_is_found_where_it_was(
            (width, height) in (100_u32..900, 100_u32..900),
            at in prop::array::uniform4(0.0_f32..1.0),
            fit in prop::sample::select(vec![Fit::Stretch, Fit::Aspect, Fit::Letterbox, Fit::LetterboxCorner]),
            cut in any::<bool>(),
        ) {
            let region = if cut { Region([0.2, 0.1, 0.9, 0.8]) } else { Region::default() };
            let (x, y, w, h) = region.pixels(width, height);
            let block = |at: f32, size: f32, low: u32, span: u32| {
                let side = span as f32 * (0.3 + 0.3 * size);
                let from = low as f32 + at * (span as f32 - side - 8.0);
                (from.round(), (from + side).round())
            };
            let ((x0, x1), (y0, y1)) = (block(at[0], at[1], x, w), block(at[2], at[3], y, h));
            let mut picture = Image { pixels: vec![0; (width * height) as usize], ..image(width, height, PixelFormat::Mono8) };
            for row in y0 as u32..y1 as u32 {
                let begin = (row * width) as usize;
                picture.pixels[begin + x0 as usize..begin + x1 as usize].fill(255);
            }
            let mut input = Input::default();
            prepare(&picture, &region.into(), &InputSpec { mean: [0.0; 3], std: [255.0; 3], ..spec(fit) }, &mut input).unwrap();
            let mut found = [f32::MAX, f32::MAX, 0.0, 0.0];
            for (n, _) in input.data[..input.width * input.height].iter().enumerate().filter(|(_, v)| **v > 0.5) {
                let (x, y) = ((n % input.width) as f32, (n / input.width) as f32);
                found = [found[0].min(x), found[1].min(y), found[2].max(x + 1.0), found[3].max(y + 1.0)];
            }
            let place = input.placement;
            for (k, (got, wanted)) in place.to_frame(found).iter().zip([x0, y0, x1, y1]).enumerate() {
                prop_assert!((got - wanted).abs() <= place.scale[k % 2].max(1.0) + 0.5, "{found:?} {place:?} {x0} {y0} {x1} {y1}");
            }
            if matches!(fit, Fit::Letterbox | Fit::LetterboxCorner) {
                prop_assert!((place.scale[0] / place.scale[1] - 1.0).abs() < 0.05, "{place:?}");
            }
        }
    }
}
