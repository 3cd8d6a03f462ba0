//! The geometry as a whole, on the way that frames take: any size, region, polygon, turn, lens and fit.

use std::time::Instant;

use proptest::prelude::*;

use super::lens::LensKeys;
use super::*;
use crate::config::Zone;
use crate::frame::{Image, PixelFormat};
use crate::model::bundle::{ChannelOrder, Fit, InputSpec};
use crate::model::preprocess::{Input, lay, prepare};

fn spec(fit: Fit, size: u32, upscale: Option<f32>) -> InputSpec {
    InputSpec {
        name: "image".into(),
        size,
        multiple_of: 32,
        fit,
        mean: [0.0; 3],
        std: [255.0; 3],
        contrast: None,
        upscale,
        channel_order: ChannelOrder::Rgb,
    }
}

fn specs() -> impl Strategy<Value = InputSpec> {
    let fits = vec![Fit::Stretch, Fit::Aspect, Fit::Letterbox, Fit::LetterboxCorner];
    (prop::sample::select(fits), prop::sample::select(vec![32_u32, 64, 256, 320]), any::<bool>())
        .prop_map(|(fit, size, limit)| spec(fit, size, (limit && fit == Fit::Aspect).then_some(2.0)))
}

/// A rectangle, or corners in the order of their directions from a middle.
fn outlines(largest: f32) -> impl Strategy<Value = Outline> {
    let shape = (prop::array::uniform2(0.0_f32..1.0), prop::collection::vec(0.2_f32..1.0, 3..9), any::<bool>());
    shape.prop_filter_map("crosses itself at the frame's edge", move |(middle, reaches, rectangle)| {
        let n = reaches.len() as f32;
        let corner = |(k, reach): (usize, &f32)| {
            let (sin, cos) = (k as f32 / n * std::f32::consts::TAU).sin_cos();
            [middle[0] + largest * reach * cos, middle[1] + largest * reach * sin].map(|v| v.clamp(0.0, 1.0))
        };
        let corners: Vec<_> = reaches.iter().enumerate().map(corner).collect();
        let outline = Outline::new(Zone::new(corners).ok()?).ok()?;
        let [x0, y0, x1, y1] = outline.bounds();
        let around = vec![[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
        if rectangle { Outline::new(Zone::new(around).ok()?).ok() } else { Some(outline) }
    })
}

/// A view of frames of that size.
fn views((width, height): (u32, u32), lens: bool) -> impl Strategy<Value = View> {
    let turns = (
        prop::sample::select(vec![0_i64, 90, 180, 270]),
        prop::sample::select(vec![None, Some(Flip::Horizontal), Some(Flip::Vertical)]),
    );
    let bent = (0.7_f64..2.0, -0.3_f64..0.3, -0.1_f64..0.1, -0.003_f64..0.003, prop::array::uniform2(0.45_f64..0.55));
    let bent = if lens { prop::option::of(bent).boxed() } else { Just(None).boxed() };
    (prop::option::of(outlines(0.7)), prop::collection::vec(outlines(0.2), 0..3), turns, bent).prop_map(
        move |(roi, masks, (degrees, flip), bent)| {
            let lens = bent.and_then(|(focal, k1, k2, p, centre)| {
                let focal = focal * f64::from(width.max(height));
                let usual = |side: u32| focal.clamp(0.1 * f64::from(side), 100.0 * f64::from(side));
                let matrix =
                    vec![usual(width), usual(height), centre[0] * f64::from(width), centre[1] * f64::from(height)];
                Lens::try_from(LensKeys { size: [width, height], matrix, distortion: vec![k1, k2, p, -p] }).ok()
            });
            View::new(roi.as_ref(), &masks, Turn::new(Rotation::new(degrees).unwrap(), flip), lens)
        },
    )
}

fn sized_views(sides: std::ops::Range<u32>, lens: bool) -> impl Strategy<Value = ((u32, u32), View)> {
    (sides.clone(), sides).prop_flat_map(move |size| (Just(size), views(size, lens)))
}

fn part_of([x0, y0, x1, y1]: [f32; 4], at: [f32; 4]) -> [f32; 4] {
    let (x, y) = ((x1 - x0) * at[0], (y1 - y0) * at[1]);
    [x0 + x, y0 + y, x0 + x + (x1 - x0 - x) * at[2], y0 + y + (y1 - y0 - y) * at[3]]
}

fn off(a: [f32; 4], b: [f32; 4]) -> f32 {
    (0..4).map(|n| (a[n] - b[n]).abs()).fold(0.0, f32::max)
}

fn grey((width, height): (u32, u32)) -> Image {
    let pixels = vec![40; (width * height) as usize];
    Image { width, height, format: PixelFormat::Mono8, pixels, origin: None, truth: None }
}

fn paint(picture: &mut Image, [x0, y0, x1, y1]: [u32; 4]) {
    for y in y0..y1 {
        let row = (y * picture.width) as usize;
        picture.pixels[row + x0 as usize..row + x1 as usize].fill(255);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn a_box_goes_to_the_frame_and_back(
        (size, view) in sized_views(1..5000, true), spec in specs(), at in prop::array::uniform4(0.0_f32..1.0),
    ) {
        let (laid, input) = lay(&view, size, &spec).unwrap();
        let place = &laid.placement;
        prop_assert!(laid.inner[0] + laid.corner[0] <= input.0 && laid.inner[1] + laid.corner[1] <= input.1);
        prop_assert!(laid.part[0] + laid.part[2] <= size.0 && laid.part[1] + laid.part[3] <= size.1);
        let [left, top, wide, high] = [laid.corner[0], laid.corner[1], laid.inner[0], laid.inner[1]].map(|v| v as f32);
        let bbox = part_of([left, top, left + wide, top + high], at);
        let there = place.to_frame(bbox);
        let seen = [place.start[0], place.start[1], place.end[0], place.end[1]];
        let least = place.scale[0].abs().min(place.scale[1].abs());
        if place.optics.is_none() {
            // Input to frame to input, and frame to input to frame: the whole region, and any part of it.
            // (In frames of 5,000 px a place is known to some thousandths.)
            prop_assert!(off(place.to_input(there), bbox) < 0.02 + 0.002 / least, "{bbox:?} {there:?}");
            prop_assert!(off(place.to_frame([left, top, left + wide, top + high]), seen) < 0.1);
            let captured = part_of(seen, at);
            prop_assert!(off(place.to_frame(place.to_input(captured)), captured) < 0.1, "{captured:?}");
        } else if (0..4).all(|n| there[n] > seen[n % 2] + 0.1 && there[n] < seen[n % 2 + 2] - 0.1) {
            // Frame to input to frame, for boxes that a box of the input comes to.
            let again = place.to_frame(place.to_input(there));
            prop_assert!(off(again, there) < 1.0, "{bbox:?} {there:?} {again:?}");
        }
        // Points, also through a lens: from the frame to the input and back.
        let point = [seen[0] + (seen[2] - seen[0]) * at[0], seen[1] + (seen[3] - seen[1]) * at[1]];
        let back = place.point_to_frame(place.point_to_input(point));
        prop_assert!((back[0] - point[0]).hypot(back[1] - point[1]) < 0.1, "{point:?} {back:?}");
        // And every point of the frame that is inspected has its place in the input.
        let [x, y] = place.point_to_input(point);
        let slack = 0.5 + 0.5 / least;
        prop_assert!(x > left - slack && x < left + wide + slack && y > top - slack && y < top + high + slack, "{x} {y} {laid:?}");
    }

    #[test]
    fn a_box_that_is_not_too_flat_goes_through_a_lens_and_back(
        size in (600_u32..5000, 600_u32..5000), at in prop::array::uniform4(0.05_f32..0.8), k1 in -0.3_f64..0.2,
    ) {
        let focal = f64::from(size.0.max(size.1)) * 0.9;
        let matrix = vec![focal, focal, f64::from(size.0) / 2.0, f64::from(size.1) / 2.0];
        let lens = LensKeys { size: [size.0, size.1], matrix, distortion: vec![k1, 0.0, 0.0, 0.0] };
        let Ok(lens) = Lens::try_from(lens) else { return Ok(()) }; // too near to its fold
        let view = View::new(None, &[], Turn::default(), Some(lens));
        let (laid, _) = lay(&view, size, &spec(Fit::Letterbox, 256, None)).unwrap();
        let side = size.0.min(size.1) as f32 * (0.02 + 0.15 * at[2]);
        let (x, y) = (at[0] * size.0 as f32, at[1] * size.1 as f32);
        let bbox = [x, y, x + side * (0.5 + at[3]), y + side];
        prop_assume!(bbox[2] < size.0 as f32 - 1.0 && bbox[3] < size.1 as f32 - 1.0);
        let again = laid.placement.to_frame(laid.placement.to_input(bbox));
        prop_assert!(off(again, bbox) < 1.0, "{bbox:?} {again:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_bright_square_is_seen_where_it_was_painted(
        (size, view) in sized_views(60..700, true), spec in specs(), at in prop::array::uniform4(0.0_f32..1.0),
    ) {
        let (laid, _) = lay(&view, size, &spec).unwrap();
        let place = &laid.placement;
        let Ok(plan) = view.plan(&laid) else { return Ok(()) }; // nothing is left to be seen
        let pixel = place.scale.map(|s| s.abs().max(1.0));
        let [x0, y0, x1, y1] = part_of([place.start[0], place.start[1], place.end[0], place.end[1]], at).map(f32::round);
        // Large enough to fill pixels of the input, and away from what is hidden.
        prop_assume!(x1 - x0 > 3.0 * pixel[0].max(2.0) && y1 - y0 > 3.0 * pixel[1].max(2.0));
        let (w, h) = (size.0 as f32, size.1 as f32);
        let margin = pixel.map(|p| 4.0 * p);
        let wide = [(x0 - margin[0]) / w, (y0 - margin[1]) / h, (x1 + margin[0]) / w, (y1 + margin[1]) / h];
        prop_assume!(place.area.as_ref().is_none_or(|(area, _)| area.holds_all(wide)));
        let mut picture = grey(size);
        paint(&mut picture, [x0, y0, x1, y1].map(|v| v as u32));
        let mut input = Input::default();
        prepare(&picture, &view, &spec, &mut input).unwrap();
        prop_assert_eq!(&input.placement, place);
        let mut found = [f32::MAX, f32::MAX, 0.0, 0.0];
        for n in 0..laid.inner[0] * laid.inner[1] {
            let (x, y) = (laid.corner[0] + n % laid.inner[0], laid.corner[1] + n / laid.inner[0]);
            let hidden = plan.as_ref().is_some_and(|plan| plan.hidden().get(n as usize) == Some(&true));
            if !hidden && input.data[y as usize * input.width + x as usize] > 0.58 {
                let (x, y) = (x as f32, y as f32);
                found = [found[0].min(x), found[1].min(y), found[2].max(x + 1.0), found[3].max(y + 1.0)];
            }
        }
        // Where its outline comes to lie in the input; a pixel of the input, or of the frame where that is larger, is allowed.
        let flat = [x0, y0, x1, y1];
        let wanted = placement::around_finely(flat, |p| place.point_to_input(p.map(|v| v as f32)).map(f64::from));
        let allowed = 1.1 + 1.0 / place.scale[0].abs().min(place.scale[1].abs()).min(1.0) - 1.0;
        let allowed = allowed + if place.optics.is_some() { 0.5 } else { 0.0 };
        prop_assert!(off(found, wanted) <= allowed, "{found:?} {wanted:?} {allowed} {laid:?}");
        if place.optics.is_none() {
            let there = place.to_frame(found);
            for n in 0..4 {
                prop_assert!((there[n] - flat[n]).abs() <= pixel[n % 2] + 1.0, "{there:?} {flat:?}");
            }
        }
        let counts = place.finding(place.to_input(flat));
        prop_assert!(counts.is_some());
    }

    #[test]
    fn what_is_hidden_has_no_part_in_the_input(
        (size, view) in sized_views(40..500, true), spec in specs(), seed in any::<u8>(), colour in any::<bool>(),
    ) {
        let (laid, _) = lay(&view, size, &spec).unwrap();
        if view.plan(&laid).is_err() {
            return Ok(());
        }
        let channels = if colour { 3 } else { 1 };
        let pixels: Vec<u8> = (0..size.0 * size.1 * channels).map(|n| (n * 7 % 251) as u8).collect();
        let format = if colour { PixelFormat::Rgb8 } else { PixelFormat::Mono8 };
        let picture = Image { format, pixels, ..grey(size) };
        let mut other = picture.clone();
        for (n, pixel) in other.pixels.chunks_exact_mut(channels as usize).enumerate() {
            let point = [(n as u32 % size.0) as f32 + 0.5, (n as u32 / size.0) as f32 + 0.5];
            if !laid.placement.inspects(point) {
                pixel.fill(seed ^ (n * 31) as u8);
            }
        }
        let (mut one, mut two) = (Input::default(), Input::default());
        prepare(&picture, &view, &spec, &mut one).unwrap();
        prepare(&other, &view, &spec, &mut two).unwrap();
        prop_assert_eq!(one.data, two.data);
    }
}

fn lens() -> Lens {
    let distortion = vec![-0.31, 0.12, 0.001, -0.0005, -0.02];
    LensKeys { size: [1920, 1080], matrix: vec![1402.7, 1401.9, 951.3, 547.8], distortion }.try_into().unwrap()
}

#[test]
fn what_is_not_configured_costs_nothing() {
    let (laid, _) = lay(&View::default(), (1920, 1080), &spec(Fit::Aspect, 320, None)).unwrap();
    assert!(View::default().plan(&laid).unwrap().is_none() && View::default().mark().is_empty());
    let cut = View::from(Region([0.2, 0.2, 0.7, 0.9]));
    assert!(cut.plan(&laid).unwrap().is_none() && cut.mark().is_empty());
    // A lens that does nothing gives, but for rounding, what no lens gives.
    let keys = LensKeys { size: [640, 480], matrix: vec![600.0, 600.0, 319.5, 239.5], distortion: vec![0.0; 4] };
    let view = View::new(None, &[], Turn::default(), Some(keys.try_into().unwrap()));
    let pixels = (0..640 * 480).map(|n| (n % 640 / 5 + n / 640 / 4) as u8).collect();
    let picture = Image { pixels, ..grey((640, 480)) };
    let (mut plain, mut bent) = (Input::default(), Input::default());
    prepare(&picture, &View::default(), &spec(Fit::Letterbox, 256, None), &mut plain).unwrap();
    prepare(&picture, &view, &spec(Fit::Letterbox, 256, None), &mut bent).unwrap();
    let most = plain.data.iter().zip(&bent.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(most <= 2.5 / 255.0, "{most}");
}

#[test]
fn masks_that_leave_nothing_are_an_error_and_a_view_survives_its_way_to_a_candidate() {
    let square = |a: f32, b: f32| Outline::new(Zone::new(vec![[a, a], [b, a], [b, b], [a, b]]).unwrap()).unwrap();
    let turn = Turn::new(Rotation::new(90).unwrap(), Some(Flip::Vertical));
    let roi = Outline::new(Zone::new(vec![[0.1, 0.123_456_78], [0.9, 0.1], [0.5, 0.9]]).unwrap()).unwrap();
    let view = View::new(Some(&roi), &[square(0.2, 0.3)], turn, Some(lens()));
    let text = serde_json::to_string(&view).unwrap();
    assert_eq!(serde_json::from_str::<View>(&text).unwrap(), view);
    assert!(!view.is_blind() && !view.mark().is_empty());
    let blind = View::new(Some(&square(0.2, 0.4)), &[square(0.1, 0.5)], turn, None);
    assert!(blind.is_blind());
    let (laid, _) = lay(&blind, (640, 480), &spec(Fit::Stretch, 64, None)).unwrap();
    assert!(blind.plan(&laid).unwrap_err().contains("leave nothing to be seen"));
    let (laid, _) = lay(&view, (1920, 1080), &spec(Fit::Stretch, 64, None)).unwrap();
    assert!(laid.placement.finding(laid.placement.to_input([420.0, 230.0, 540.0, 310.0])).is_none(), "in the mask");
    assert!(lay(&view, (640, 480), &spec(Fit::Stretch, 64, None)).unwrap_err().to_string().contains("another shape"));
}

#[test]
fn what_a_view_costs() {
    let mask = Outline::new(Zone::new(vec![[0.7, 0.1], [0.9, 0.1], [0.8, 0.4]]).unwrap()).unwrap();
    let rectangle = Outline::new(Zone::new(vec![[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]]).unwrap()).unwrap();
    let quarter = Turn::new(Rotation::new(90).unwrap(), None);
    let pixels = (0..3 * 1920 * 1080).map(|n| (n % 253) as u8).collect();
    let picture = Image { format: PixelFormat::Bgr8, pixels, ..grey((1920, 1080)) };
    for (name, view) in [
        ("nothing", View::default()),
        ("roi, the middle 36 %", View::new(Some(&rectangle), &[], Turn::default(), None)),
        ("rotate = 90", View::new(None, &[], quarter, None)),
        ("a mask", View::new(None, std::slice::from_ref(&mask), Turn::default(), None)),
        ("lens", View::new(None, &[], Turn::default(), Some(lens()))),
        ("lens, rotate, mask", View::new(None, &[mask], quarter, Some(lens()))),
        ("lens, roi", View::new(Some(&rectangle), &[], Turn::default(), Some(lens()))),
    ] {
        let mut input = Input::default();
        let begun = Instant::now();
        prepare(&picture, &view, &spec(Fit::Aspect, 320, None), &mut input).unwrap();
        let first = begun.elapsed().as_secs_f64() * 1000.0;
        // The quickest, since on a busy machine the others say how busy it is.
        let mut best = f64::INFINITY;
        for _ in 0..21 {
            let begun = Instant::now();
            prepare(&picture, &view, &spec(Fit::Aspect, 320, None), &mut input).unwrap();
            best = best.min(begun.elapsed().as_secs_f64() * 1000.0);
        }
        println!("{name}: {best:.2} ms a frame of 1920x1080, {first:.1} ms the first");
    }
}
