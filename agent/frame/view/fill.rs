//! What stands in the place of what is not inspected: its surroundings, drawn on smoothly.
//!
//! A network sees edges first, and a patch of one colour has one all around, whose strength changes with the light; so there is no colour that does
//! no harm. Here every hidden pixel is a weighted mean of those around it that are seen, the nearest most: pull and push
//! over a pyramid (Gortler et al., The Lumigraph, SIGGRAPH 1996). What is hidden then goes with the light as its surroundings do.
//! Guarantee: the seen pixels stay as they are, and the others depend on nothing else.

/// What a picture has of which nothing is seen.
const NOTHING: f32 = 114.0;

/// Colours times weights, and weights of 0 (unknown) to 1.
struct Level {
    width: usize,
    height: usize,
    colour: Vec<f32>,
    weight: Vec<f32>,
}

/// Fills the hidden ones of `hidden.len()` pixels, which stand in rows of `width`, each of `channels` samples.
pub fn fill(pixels: &mut [u8], width: usize, channels: usize, hidden: &[bool]) {
    if width == 0 || hidden.is_empty() {
        return;
    }
    let mut levels = vec![first(pixels, width, channels, hidden)];
    while let Some(finest) = levels.last().filter(|level| level.width * level.height > 1) {
        let coarser = pull(finest, channels);
        levels.push(coarser);
    }
    let mut known = levels.pop().map_or_else(Vec::new, |top| whole(&top, channels, |_, _| NOTHING));
    let mut coarser = 1;
    while let Some(level) = levels.pop() {
        known =
            whole(&level, channels, |at, c| push(&known, coarser, channels, (at % level.width, at / level.width), c));
        coarser = level.width;
    }
    for (at, pixel) in pixels.chunks_exact_mut(channels).enumerate().filter(|(at, _)| hidden[*at]) {
        for (c, sample) in pixel.iter_mut().enumerate() {
            *sample = push(&known, coarser, channels, (at % width, at / width), c).round() as u8;
        }
    }
}

/// The first level, of half as many columns and rows as the picture.
fn first(pixels: &[u8], width: usize, channels: usize, hidden: &[bool]) -> Level {
    let (columns, rows) = (width.div_ceil(2), (hidden.len() / width).div_ceil(2));
    let (mut colour, mut weight) = (vec![0.0; columns * rows * channels], vec![0.0; columns * rows]);
    for (row, (line, hidden)) in pixels.chunks(width * channels).zip(hidden.chunks(width)).enumerate() {
        let weights = &mut weight[row / 2 * columns..][..columns];
        let colours = &mut colour[row / 2 * columns * channels..][..columns * channels];
        let cells = weights.iter_mut().zip(colours.chunks_exact_mut(channels));
        for ((weight, colour), (pair, hidden)) in cells.zip(line.chunks(2 * channels).zip(hidden.chunks(2))) {
            for (pixel, _) in pair.chunks_exact(channels).zip(hidden).filter(|(_, hidden)| !**hidden) {
                *weight += 1.0;
                colour.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += f32::from(*v));
            }
        }
    }
    let mut level = Level { width: columns, height: rows, colour, weight };
    level.settle(channels);
    level
}

impl Level {
    /// Sums of more than one become means.
    fn settle(&mut self, channels: usize) {
        for (weight, colour) in self.weight.iter_mut().zip(self.colour.chunks_exact_mut(channels)) {
            if *weight > 1.0 {
                colour.iter_mut().for_each(|v| *v /= *weight);
                *weight = 1.0;
            }
        }
    }
}

/// The level of half as many columns and rows.
fn pull(fine: &Level, channels: usize) -> Level {
    let (width, height) = (fine.width.div_ceil(2), fine.height.div_ceil(2));
    let mut coarse =
        Level { width, height, colour: vec![0.0; width * height * channels], weight: vec![0.0; width * height] };
    for (row, (weights, colours)) in
        fine.weight.chunks_exact(fine.width).zip(fine.colour.chunks_exact(fine.width * channels)).enumerate()
    {
        for (column, (weight, colour)) in weights.iter().zip(colours.chunks_exact(channels)).enumerate() {
            let at = row / 2 * width + column / 2;
            coarse.weight[at] += weight;
            coarse.colour[at * channels..][..channels].iter_mut().zip(colour).for_each(|(sum, v)| *sum += v);
        }
    }
    coarse.settle(channels);
    coarse
}

/// A level of which everything is known: what is missing comes from the coarser one.
fn whole(level: &Level, channels: usize, coarser: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut known = level.colour.clone();
    for (at, weight) in level.weight.iter().enumerate().filter(|(_, weight)| **weight < 1.0) {
        for c in 0..channels {
            known[at * channels + c] += (1.0 - weight) * coarser(at, c);
        }
    }
    known
}

/// A sample of a pixel out of the coarser level, by bilinear interpolation.
fn push(coarse: &[f32], width: usize, channels: usize, (x, y): (usize, usize), c: usize) -> f32 {
    let height = coarse.len() / (width * channels).max(1);
    // The nearest coarse pixel, and the one on the other side of it.
    let along = |n: usize, size: usize| {
        let near = n / 2;
        (near, if n.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(size - 1) })
    };
    let ((x0, x1), (y0, y1)) = (along(x, width), along(y, height));
    let at = |x: usize, y: usize| coarse[(y * width + x) * channels + c];
    0.75 * (0.75 * at(x0, y0) + 0.25 * at(x1, y0)) + 0.25 * (0.75 * at(x0, y1) + 0.25 * at(x1, y1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn there_is_no_edge_around_what_is_hidden() {
        // A slope of two grey levels a pixel with an object of white in its middle, hidden.
        let (width, height) = (96, 64);
        let slope = |n: usize| 30.0 + 2.0 * (n % width) as f32;
        let hidden: Vec<bool> =
            (0..width * height).map(|n| (30..70).contains(&(n % width)) && (20..44).contains(&(n / width))).collect();
        let mut pixels: Vec<u8> =
            hidden.iter().enumerate().map(|(n, h)| if *h { 255 } else { slope(n) as u8 }).collect();
        fill(&mut pixels, width, 1, &hidden);
        let mut most = 0.0_f32;
        for n in (0..width * height).filter(|n| n % width > 0) {
            most = most.max((f32::from(pixels[n]) - f32::from(pixels[n - 1])).abs());
        }
        assert!(most <= 8.0, "a step of {most}");
        let off = (0..width * height).map(|n| (f32::from(pixels[n]) - slope(n)).abs()).fold(0.0, f32::max);
        assert!(off < 25.0, "{off} grey levels off");
    }

    proptest! {
        #[test]
        fn what_is_hidden_does_not_matter(
            width in 1_usize..40, height in 1_usize..40, channels in prop::sample::select(vec![1_usize, 3]),
            seed in prop::collection::vec(any::<u8>(), 61), holes in prop::collection::vec(any::<bool>(), 37),
        ) {
            let hidden: Vec<bool> = (0..width * height).map(|n| holes[n % 37]).collect();
            let mut one: Vec<u8> = (0..width * height * channels).map(|n| seed[n % 61]).collect();
            let (before, mut other) = (one.clone(), one.clone());
            for (n, pixel) in other.chunks_exact_mut(channels).enumerate().filter(|(n, _)| hidden[*n]) {
                pixel.fill((n * 91) as u8);
            }
            fill(&mut one, width, channels, &hidden);
            fill(&mut other, width, channels, &hidden);
            prop_assert_eq!(&one, &other);
            for n in (0..width * height).filter(|n| !hidden[*n]) {
                prop_assert_eq!(&one[n * channels..(n + 1) * channels], &before[n * channels..(n + 1) * channels]);
            }
        }
    }
}
