//! Defects, each of its own shape: drawn whole on a canvas of their own, from which the frame cuts what it sees.
//!
//! A defect is a function from the place to a change of brightness, and of colour for stains, in the units of a
//! 640x480 picture. Changes too faint to see are nothing, so that the box, which is the extent of what is left, fits
//! what a person would draw.

use crate::frame::scene::{Cloud, GREY, Rng, smooth};

/// The kinds of defect.
pub const CLASSES: [&str; 6] = [
    "synthetic/scratch",
    "synthetic/pit",
    "synthetic/stain",
    "synthetic/dent",
    "synthetic/crack",
    "synthetic/inclusion",
];

/// Sides of the canvas, and of the largest defect, at 640x480.
const CANVAS: f32 = 90.0;

/// Changes below this many grey levels are left out: less than the texture itself has.
const FAINT: f32 = 4.0;

/// Pixels that no defect is longer than.
pub fn reach(scale: f32) -> u32 {
    (CANVAS * scale) as u32
}

/// What a defect does to a pixel.
#[derive(Clone, Copy, Default)]
pub struct Mark {
    /// In 1/[`GREY`] of a grey level; at 0 the pixel is not part of the defect.
    pub brightness: i16,
    /// Grey levels of red gained and of blue lost.
    pub warmth: i8,
}

/// A defect, cut to its box.
pub struct Patch {
    /// One of [`CLASSES`].
    pub class: &'static str,
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Whether any mark has a warmth.
    pub coloured: bool,
    /// Row by row.
    pub marks: Vec<Mark>,
}

impl Patch {
    /// Draws a defect.
    pub fn new(rng: &mut Rng, scale: f32) -> Self {
        let kind = rng.count(0, CLASSES.len() as u32 - 1) as usize;
        let canvas = Canvas { class: CLASSES[kind], scale, pixel: 1.0 / scale };
        match kind {
            0 => scratch(rng, &canvas),
            1 => pit(rng, &canvas),
            2 => stain(rng, &canvas),
            3 => dent(rng, &canvas),
            4 => crack(rng, &canvas),
            _ => inclusion(rng, &canvas),
        }
    }
}

/// Where a defect is drawn, with (0, 0) in the middle.
struct Canvas {
    class: &'static str,
    scale: f32,
    /// Size of a pixel in units of a 640x480 picture.
    pixel: f32,
}

impl Canvas {
    /// Draws `shade`, which gives the change of brightness and the warmth in grey levels, as far as `half_width` and
    /// `half_height` from the middle, and cuts it to what was drawn.
    fn paint(&self, half_width: f32, half_height: f32, shade: impl Fn(f32, f32) -> (f32, f32)) -> Patch {
        let pixels = |half: f32| (half.min(CANVAS / 2.0) * 2.0 * self.scale) as usize;
        let (wide, high) = (pixels(half_width), pixels(half_height));
        let at = |n: usize, side: usize| (n as f32 + 0.5 - side as f32 / 2.0) * self.pixel;
        let mut canvas = vec![Mark::default(); wide * high];
        let (mut left, mut right, mut top, mut bottom) = (wide, 0, high, 0);
        for (y, row) in canvas.chunks_exact_mut(wide).enumerate() {
            for (x, mark) in row.iter_mut().enumerate() {
                let (change, warmth) = shade(at(x, wide), at(y, high));
                if change.abs() >= FAINT {
                    let brightness = (change.clamp(-110.0, 110.0) * GREY as f32) as i16;
                    *mark = Mark { brightness, warmth: warmth as i8 };
                    (left, right, top, bottom) = (left.min(x), right.max(x + 1), top.min(y), bottom.max(y + 1));
                }
            }
        }
        // Nothing drawn would be a mistake in a kind of defect; an empty patch is what comes of it.
        let (width, height) = (right.saturating_sub(left), bottom.saturating_sub(top));
        let marks: Vec<Mark> = (top..top + height).flat_map(|y| &canvas[y * wide + left..][..width]).copied().collect();
        let coloured = marks.iter().any(|mark| mark.warmth != 0);
        Patch { class: self.class, width, height, coloured, marks }
    }

    /// Share of a pixel that a line covers, whose middle is `distance` away. A line is never thinner than a pixel.
    fn line(&self, distance: f32, half_width: f32) -> f32 {
        ((half_width.max(self.pixel / 2.0) - distance.abs()) / self.pixel + 0.5).clamp(0.0, 1.0)
    }
}

/// A unit vector within 90 degrees of the x axis, for a slope from -1 to 1 (half of the angle's tangent).
fn direction(slope: f32) -> (f32, f32) {
    let length = 1.0 + slope * slope;
    ((1.0 - slope * slope) / length, 2.0 * slope / length)
}

/// Shaped like a step from 0 at `zero` to 1 at `one`.
fn step(zero: f32, one: f32, value: f32) -> f32 {
    smooth(((value - zero) / (one - zero)).clamp(0.0, 1.0))
}

/// One to three bowed strokes in any direction: bright torn metal with a shadow along one side, or dull all over.
fn scratch(rng: &mut Rng, canvas: &Canvas) -> Patch {
    let (along, across) = direction(rng.signed());
    let bow = rng.range(-7.0, 7.0);
    let dull = rng.chance(0.25);
    let shine = if dull { rng.range(-75.0, -45.0) } else { rng.range(50.0, 95.0) };
    let shadow = if dull { 12.0 } else { rng.range(-60.0, -25.0) };
    let side = if rng.chance(0.5) { 1.0 } else { -1.0 };
    let cloud = Cloud::new(rng);
    let longest = rng.range(20.0, 42.0);
    let strokes: Vec<[f32; 4]> = (0..rng.count(1, 3))
        .map(|n| {
            let beside = n as f32 * rng.range(3.0, 5.5);
            let half = if n == 0 { longest } else { longest * rng.range(0.3, 0.7) };
            [rng.signed() * (longest - half), beside, half, rng.range(0.6, 1.5)]
        })
        .collect();
    // Beside the line: the bow, the further strokes, and their shadows.
    let beside = bow.abs() / 2.0 + 14.0;
    let (half_width, half_height) = (longest * along + beside * across.abs(), longest * across.abs() + beside * along);
    canvas.paint(half_width, half_height, |x, y| {
        let (length, aside) = (x * along + y * across, y * along - x * across);
        let relative = length / longest;
        // The slope of the bow makes the distance to it shorter than it is straight down.
        let slope = 2.0 * bow * relative / longest;
        let aside = (aside + bow * (relative * relative - 0.5)) / (1.0 + slope * slope).sqrt();
        let pressure = 0.8 + 0.35 * cloud.rough(length / 7.0, 0.0);
        let mut change = 0.0;
        for &[middle, beside, half, width] in &strokes {
            let end = (length - middle) / half;
            let taper = (1.0 - end * end).clamp(0.0, 1.0).sqrt();
            let width = width * taper * pressure;
            let strength = pressure * step(0.0, 0.5, taper);
            let distance = aside - beside;
            change += strength * shine * canvas.line(distance, width);
            let beyond = distance - side * (width + 1.0).max(canvas.pixel);
            change += strength * shadow * canvas.line(beyond, 0.9);
        }
        (change, 0.0)
    })
}

/// One to five holes with ragged rims, the walls lit from the upper left.
fn pit(rng: &mut Rng, canvas: &Canvas) -> Patch {
    let main = rng.range(6.0, 11.0);
    let depth = rng.range(55.0, 95.0);
    let rim = rng.range(15.0, 45.0);
    let ragged = rng.range(0.2, 0.5);
    let cloud = Cloud::new(rng);
    let mut holes = vec![[0.0, 0.0, main, rng.range(0.6, 1.0)]];
    for _ in 0..rng.count(0, 4) {
        let (right, down) = direction(rng.signed());
        let away = main * rng.range(-1.9, 1.9);
        holes.push([right * away, down * away, rng.range(2.0, 5.0), rng.range(0.7, 1.0)]);
    }
    let extent = 1.9 * main + 8.0;
    canvas.paint(extent, extent, |x, y| {
        let bump = ragged * cloud.rough(x / 4.0, y / 4.0);
        let mut change = 0.0_f32;
        for &[left, top, radius, flat] in &holes {
            let (dx, dy) = ((x - left) / radius, (y - top) / (radius * flat));
            let t = (dx * dx + dy * dy).sqrt() + bump;
            let lit = (dx + dy) / 1.5;
            let hole = -depth * step(1.05, 0.55, t) * (1.0 - 0.35 * lit * step(0.2, 0.9, t));
            let edge = rim * lit * step(0.8, 1.05, t) * step(1.5, 1.1, t);
            change = if hole < change { hole } else { change + edge };
        }
        (change, 0.0)
    })
}

/// A ragged blot, cloudy inside and darkest where it dried last, at its edge: rust or oil.
fn stain(rng: &mut Rng, canvas: &Canvas) -> Patch {
    let (along, across) = direction(rng.signed());
    let long = rng.range(17.0, 34.0);
    let short = long * rng.range(0.5, 0.95);
    let lumps = rng.range(9.0, 16.0);
    let ragged = rng.range(0.3, 0.5);
    let darkness = rng.range(20.0, 38.0);
    let tide = rng.range(4.0, 20.0);
    let colour = if rng.chance(0.7) { rng.range(9.0, 24.0) } else { rng.range(-9.0, -3.0) };
    let (outline, inside) = (Cloud::new(rng), Cloud::new(rng));
    canvas.paint(1.5 * long, 1.5 * long, |x, y| {
        let (dx, dy) = ((x * along + y * across) / long, (y * along - x * across) / short);
        let t = (dx * dx + dy * dy).sqrt() + ragged * outline.rough(x / lumps, y / lumps);
        let wet = step(1.0, 0.82, t);
        let cloudy = 0.75 + 0.45 * inside.rough(x / 8.0, y / 8.0);
        let edge = tide * step(0.7, 0.9, t);
        (-wet * (darkness * cloudy + edge), wet * colour * (0.6 + 0.4 * cloudy))
    })
}

/// A smooth hollow: nothing but the light on its slopes, and a glint.
fn dent(rng: &mut Rng, canvas: &Canvas) -> Patch {
    let (along, across) = direction(rng.signed());
    let long = rng.range(13.0, 36.0);
    let short = (long * rng.range(0.45, 1.0)).max(10.0);
    let (light_x, light_y) = direction(rng.range(0.2, 0.7));
    let depth = rng.range(95.0, 170.0);
    let glint = rng.range(10.0, 45.0);
    let cloud = Cloud::new(rng);
    let extent = 1.13 * long;
    canvas.paint(extent, extent, |x, y| {
        let (dx, dy) = ((x * along + y * across) / long, (y * along - x * across) / short);
        let t = (dx * dx + dy * dy).sqrt() + 0.12 * cloud.at(x / 12.0, y / 12.0);
        let bowl = (1.0 - t * t).max(0.0);
        // How much the slope faces the light, in the axes of the ellipse.
        let facing = dx * (along * light_x + across * light_y) + dy * (along * light_y - across * light_x);
        let shine = (1.0 - 6.0 * ((dx - 0.4) * (dx - 0.4) + (dy - 0.3) * (dy - 0.3))).max(0.0);
        (depth * bowl * facing + glint * shine * shine, 0.0)
    })
}

/// A jagged dark line with branches, thinner towards their ends.
fn crack(rng: &mut Rng, canvas: &Canvas) -> Patch {
    let (right, down) = direction(rng.signed());
    let width = rng.range(1.0, 2.1);
    let length = rng.range(30.0, 76.0);
    let steps = rng.count(7, 13);
    let start = [-right * length / 2.0, -down * length / 2.0];
    let mut twigs = walk(rng, start, [right, down], length / steps as f32, steps, width);
    for _ in 0..rng.count(0, 4) {
        let [left, top, ..] = twigs[rng.count(1, steps - 1) as usize];
        let turn = if rng.chance(0.5) { 0.8 } else { -0.8 };
        let aside = [right - turn * down, down + turn * right];
        let (pace, steps) = (length * rng.range(0.05, 0.09), rng.count(2, 4));
        twigs.extend(walk(rng, [left, top], aside, pace, steps, width * 0.6));
    }
    let dark = rng.range(60.0, 100.0);
    let lip = rng.range(0.0, 22.0);
    let cloud = Cloud::new(rng);
    let farthest = |axis: usize| twigs.iter().map(|twig| (twig[axis] + twig[axis + 2]).abs()).fold(0.0, f32::max);
    let (half_width, half_height) = (farthest(0).max(start[0].abs()) + 5.0, farthest(1).max(start[1].abs()) + 5.0);
    canvas.paint(half_width, half_height, |x, y| {
        // The canvas ends here, and a line should fade out before it does.
        let inside = step(CANVAS / 2.0, CANVAS / 2.0 - 4.0, x.abs().max(y.abs()));
        let ragged = 0.5 * cloud.at(x / 2.5, y / 2.5);
        let (mut gap, mut edge) = (0.0_f32, 0.0_f32);
        for &[x0, y0, dx, dy, from, to] in &twigs {
            let share = (((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
            let (aside, below) = (x - x0 - share * dx, y - y0 - share * dy);
            let distance = (aside * aside + below * below).sqrt();
            let half = from + (to - from) * share + ragged * from;
            gap = gap.max(canvas.line(distance, half));
            if aside + below > 0.0 {
                edge = edge.max(canvas.line(distance - half - 1.0, 0.8));
            }
        }
        (inside * (edge * lip * (1.0 - gap) - gap * dark), 0.0)
    })
}

/// A jagged line; of each piece the start, the vector, and half the width at start and end.
fn walk(rng: &mut Rng, start: [f32; 2], toward: [f32; 2], pace: f32, steps: u32, width: f32) -> Vec<[f32; 6]> {
    let [mut x, mut y] = start;
    let mut astray = 0.0;
    // Thin where it starts and ends.
    let half = |n: u32| width * (0.3 + 0.35 * n as f32).min(1.0) * (1.0 - 0.8 * n as f32 / steps as f32);
    let piece = |n: u32| {
        // Back towards the middle, or it would wander off the canvas.
        let turn = rng.range(-0.9, 0.9) - 0.3 * astray;
        astray += turn;
        let pace = pace * rng.range(0.7, 1.3);
        let (dx, dy) = (pace * (toward[0] - turn * toward[1]), pace * (toward[1] + turn * toward[0]));
        let from = [x, y];
        (x, y) = (x + dx, y + dy);
        [from[0], from[1], dx, dy, half(n), half(n + 1)]
    };
    (0..steps).map(piece).collect()
}

/// Slivers of slag that were rolled out lengthwise.
fn inclusion(rng: &mut Rng, canvas: &Canvas) -> Patch {
    let (along, across) = direction(rng.range(-0.06, 0.06));
    let longest = rng.range(14.0, 40.0);
    let cloud = Cloud::new(rng);
    let slivers: Vec<[f32; 5]> = (0..rng.count(3, 7))
        .map(|n| {
            let half = if n == 0 { longest } else { longest * rng.range(0.2, 0.6) };
            let middle = rng.signed() * (longest - half);
            [middle, rng.signed() * 6.0, half, rng.range(0.9, 3.2), rng.range(40.0, 85.0)]
        })
        .collect();
    canvas.paint(longest + 3.0, 15.0, |x, y| {
        let wave = 2.5 * cloud.at(x / 15.0, 9.0);
        let (length, aside) = (x * along + y * across, y * along - x * across + wave);
        let speckle = 0.75 + 0.45 * cloud.rough(x / 3.5, y / 1.8);
        let mut dark = 0.0_f32;
        for &[middle, beside, half, width, strength] in &slivers {
            let end = (length - middle) / half;
            let taper = (1.0 - end * end).max(0.0) * (1.0 + 0.6 * cloud.at(x / 5.0, beside));
            if taper > 0.0 {
                dark =
                    dark.max(strength * speckle * canvas.line(aside - beside, width * taper) * step(0.0, 0.3, taper));
            }
        }
        (-dark, 0.0)
    })
}
