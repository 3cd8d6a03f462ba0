//! Whole streams of generated pictures.

use super::*;
use crate::config::HealthConfig;
use crate::frame::{Image, PixelFormat};
use proptest::prelude::{ProptestConfig, prop, proptest};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// With a sensor's noise of about this many grey levels.
pub fn noise(image: &Image, sigma: f32, seed: u64) -> Image {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut draw = || (0..3).map(|_| rng.random_range(-1.0..1.0_f32)).sum::<f32>() * sigma;
    let pixels = image.pixels.iter().map(|v| (f32::from(*v) + draw()).round().clamp(0.0, 255.0) as u8).collect();
    Image { pixels, ..image.clone() }
}

/// Out of focus by a Gaussian of this many pixels.
pub fn blurred(image: &Image, sigma: f32) -> Image {
    let reach = (3.0 * sigma).ceil() as isize;
    let kernel: Vec<f32> = (-reach..=reach).map(|d| (-(d as f32 / sigma).powi(2) / 2.0).exp()).collect();
    let total: f32 = kernel.iter().sum();
    let (width, height) = (image.width as isize, image.height as isize);
    let pass = |from: &[f32], sx: isize, sy: isize| -> Vec<f32> {
        let at = |x: isize, y: isize| from[(y.clamp(0, height - 1) * width + x.clamp(0, width - 1)) as usize];
        let one = |n: isize| {
            let (x, y) = (n % width, n / width);
            let terms = kernel.iter().zip(-reach..=reach).map(|(k, d)| k * at(x + sx * d, y + sy * d));
            terms.sum::<f32>() / total
        };
        (0..width * height).map(one).collect()
    };
    let grey: Vec<f32> = image.pixels.iter().map(|v| f32::from(*v)).collect();
    let soft = pass(&pass(&grey, 1, 0), 0, 1);
    Image { pixels: soft.into_iter().map(|v| v.round() as u8).collect(), ..image.clone() }
}

/// Something fixed (two posts and a plate) with a part on it that lies a little differently each time, seen from `view`.
fn station(part: u64, view: (f32, f32)) -> Image {
    let mut rng = StdRng::seed_from_u64(part);
    let (px, py): (f32, f32) = (rng.random_range(130.0..142.0), rng.random_range(90.0..98.0));
    let shade = rng.random_range(150.0..185.0_f32);
    let marks: Vec<(f32, f32)> =
        (0..6).map(|_| (rng.random_range(-30.0..30.0), rng.random_range(-20.0..20.0))).collect();
    let grey = |x: f32, y: f32| {
        let post = |cx: f32| if (x - cx).abs() < 14.0 { 70.0 } else { 0.0 };
        let teeth = if (y / 17.0).floor() as i32 % 2 == 0 { 25.0 } else { 0.0 };
        let ground = 60.0
            + post(30.0)
            + post(250.0)
            + if (x - 30.0).abs() < 14.0 || (x - 250.0).abs() < 14.0 { teeth } else { 0.0 };
        let plate = if (y - 200.0).abs() < 20.0 && ((x / 23.0).floor() as i32 % 3 == 0) { 80.0 } else { 0.0 };
        let inside = (x - px).abs() < 50.0 && (y - py).abs() < 40.0;
        let mark = marks.iter().any(|(mx, my)| (x - px - mx).hypot(y - py - my) < 6.0);
        if inside { if mark { shade - 80.0 } else { shade } } else { ground + plate }
    };
    let (width, height) = (280_u32, 230_u32);
    let pixel = |n: u32| grey((n % width) as f32 + view.0, (n / width) as f32 + view.1) as u8;
    let pixels = (0..width * height).map(pixel).collect();
    Image { width, height, format: PixelFormat::Mono8, pixels, origin: None, truth: None }
}

/// A camera at that station.
struct Camera {
    watch: Watch,
    frame: u64,
}

impl Camera {
    fn new(config: &HealthConfig) -> Self {
        Self { watch: Watch::new(config), frame: 0 }
    }

    /// Shows so many pictures, five a second; the last report, and what began or ended on the way.
    fn show(&mut self, frames: u64, view: (f32, f32), fault: &dyn Fn(Image) -> Image) -> (Report, Vec<Change>) {
        let (mut report, mut changes) = (Report::default(), Vec::new());
        for _ in 0..frames {
            self.frame += 1;
            let image = noise(&fault(station(self.frame % 19, view)), 1.5, self.frame);
            report = self.watch.see(&Sample::of(&image), self.frame as f64 * 0.2);
            changes.append(&mut report.changes.clone());
        }
        (report, changes)
    }

    fn learned() -> Self {
        let mut camera = Self::new(&HealthConfig::default());
        let (report, changes) = camera.show(90, (0.0, 0.0), &|image| image);
        assert_eq!((report.figures.learning, changes), (0, vec![]));
        camera
    }
}

fn map(image: Image, f: impl Fn(f32) -> f32) -> Image {
    Image { pixels: image.pixels.iter().map(|v| f(f32::from(*v)).clamp(0.0, 255.0) as u8).collect(), ..image }
}

fn spot(mut image: Image) -> Image {
    let width = image.width as usize;
    for (n, v) in image.pixels.iter_mut().enumerate() {
        let far = ((n % width) as f32 - 150.0).hypot((n / width) as f32 - 100.0) / 14.0;
        *v = (f32::from(*v) * (1.0 - 0.5 * (-far * far).exp())) as u8;
    }
    image
}

type Effect = (Fault, (f32, f32), &'static dyn Fn(Image) -> Image);

#[test]
fn each_fault_begins_under_its_own_name_and_ends() {
    let effects: [Effect; 6] = [
        (Fault::Dark, (0.0, 0.0), &|image| map(image, |v| v * 0.4)),
        (Fault::Overexposed, (0.0, 0.0), &|image| map(image, |v| v * 2.6)),
        (Fault::Defocused, (0.0, 0.0), &|image| blurred(&image, 2.0)),
        (Fault::Moved, (4.0, -2.0), &|image| image),
        (Fault::Moved, (60.0, 30.0), &|image| image),
        (Fault::Dirty, (0.0, 0.0), &spot),
    ];
    for (fault, view, effect) in effects {
        let mut camera = Camera::learned();
        let (report, changes) = camera.show(70, view, effect);
        let began: Vec<_> = changes.iter().map(|c| (c.fault, c.began)).collect();
        assert_eq!(began, [(fault, true)], "{changes:?}");
        assert!(report.active.contains(&fault) && changes[0].score >= 0.5, "{changes:?}");
        let (report, changes) = camera.show(80, (0.0, 0.0), &|image| image);
        let ended: Vec<_> = changes.iter().map(|c| (c.fault, c.began)).collect();
        assert_eq!(ended, [(fault, false)], "{changes:?}");
        assert!(report.active.is_empty());
    }
}

#[test]
fn a_picture_that_stands_is_frozen_until_others_come() {
    let mut camera = Camera::learned();
    let sample = Sample::of(&station(3, (0.0, 0.0)));
    let at = |n: u32| 18.2 + f64::from(n) * 0.2;
    let first = (0..100).find(|n| camera.watch.see(&sample, at(*n)).active.contains(&Fault::Frozen)).unwrap();
    assert_eq!(first, 50, "10 s at five a second");
    camera.frame += 100;
    let (report, changes) = camera.show(10, (0.0, 0.0), &|image| image);
    assert!(report.active.is_empty() && changes.len() == 1 && !changes[0].began, "{changes:?}");
}

#[test]
fn what_is_switched_off_is_not_reported() {
    let config = HealthConfig { off: [Fault::Dark].into(), ..HealthConfig::default() };
    let mut camera = Camera::new(&config);
    camera.show(60, (0.0, 0.0), &|image| image);
    assert!(camera.show(20, (0.0, 0.0), &|image| map(image, |v| v * 0.1)).1.is_empty());
    let mut camera = Camera::new(&HealthConfig { enabled: Some(false), ..HealthConfig::default() });
    let (report, changes) = camera.show(40, (0.0, 0.0), &|image| map(image, |_| 0.0));
    assert!(changes.is_empty() && report.figures.black > 0.99);
}

#[test]
fn a_lens_cap_is_dark_from_the_first_seconds_on() {
    let mut camera = Camera::new(&HealthConfig::default());
    let (report, _) = camera.show(8, (0.0, 0.0), &|image| map(image, |v| v * 0.01));
    assert!(report.active.contains(&Fault::Dark));
}

#[test]
fn after_a_reset_the_new_view_is_what_is_usual() {
    let mut camera = Camera::learned();
    let (report, _) = camera.show(30, (6.0, 0.0), &|image| image);
    assert!(report.active.contains(&Fault::Moved));
    camera.watch.reset();
    let (report, changes) = camera.show(120, (6.0, 0.0), &|image| image);
    assert!(report.active.is_empty() && changes.len() == 1 && !changes[0].began, "{changes:?}");
    assert!(report.figures.shift_px.is_some_and(|shift| shift < 1.0));
    let (report, _) = camera.show(30, (0.0, 0.0), &|image| image);
    assert!(report.active.contains(&Fault::Moved), "now the old view is elsewhere");
}

#[test]
fn focus_that_is_lost_slowly_is_found() {
    let mut camera = Camera::learned();
    for step in 1..=15 {
        camera.show(16, (0.0, 0.0), &|image| blurred(&image, step as f32 * 0.12));
    }
    let (report, _) = camera.show(20, (0.0, 0.0), &|image| blurred(&image, 1.8));
    assert!(report.active.contains(&Fault::Defocused), "{:?}", report.figures);
}

#[test]
fn the_figures_are_what_their_schema_says() {
    let schema = serde_json::to_value(schemars::schema_for!(Figures)).unwrap();
    let figures = serde_json::to_value(Camera::learned().show(1, (0.0, 0.0), &|image| image).0.figures).unwrap();
    assert!(jsonschema::validator_for(&schema).unwrap().is_valid(&figures), "{figures}");
    let back: Figures = serde_json::from_value(figures.clone()).unwrap();
    assert_eq!(serde_json::to_value(back).unwrap(), figures);
    for fault in Fault::ALL {
        assert_eq!(serde_json::to_value(fault).unwrap(), fault.as_str());
        assert_eq!(Fault::ALL[fault as usize], fault);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_stream_breaks_it(frames in prop::collection::vec((1..90_u32, 1..90_u32, 0..4_u8, prop::num::f64::ANY), 1..120)) {
        let mut watch = Watch::new(&HealthConfig::default());
        for (width, height, kind, at) in frames {
            // Mostly one size, or else hardly anything would be learned.
            let (width, height) = if kind < 3 { (200, 150) } else { (width, height) };
            let pixels = (0..width * height).map(|n| match kind { 0 => 0, 1 => 255, _ => (n * n + n) as u8 }).collect();
            let image = Image { width, height, format: PixelFormat::Mono8, pixels, origin: None, truth: None };
            let report = watch.see(&Sample::of(&image), at);
            assert!(report.changes.iter().all(|c| (0.0..=1.0).contains(&c.score)));
            assert!(report.figures.same_s >= 0.0 && report.figures.sharpness.is_none_or(f32::is_finite));
        }
    }
}
