//! Which pixels of the frame make which pixel of the network's input, where that is more than a resize.
//!
//! Computed once for frames of a size. Guarantee: no pixel whose place is masked, or lies outside the polygon that is inspected,
//! has a part in any pixel that is seen; for that, what is hidden reaches up to two pixels of the input beyond its outline.

use super::fill::fill;
use super::{Laid, Placement};

/// How one frame size comes into one input.
#[derive(Debug)]
pub struct Plan {
    pub(super) laid: Laid,
    /// For each pixel of the input where it comes from; none without a lens.
    taps: Vec<Tap>,
    /// Which pixels of the input are not inspected; none where all are.
    hidden: Vec<bool>,
}

/// A place between four pixels: the first of them, and the shares of the next ones in 1/256.
#[derive(Debug, Clone, Copy, Default)]
struct Tap {
    x: u32,
    y: u32,
    right: u16,
    down: u16,
}

impl Plan {
    pub(super) fn new(laid: &Laid) -> Self {
        let (taps, mut hidden): (Vec<Tap>, Vec<bool>) = (0..laid.inner[0] * laid.inner[1])
            .map(|n| {
                let corner = laid.corner.map(|v| v as f32);
                let at = [corner[0] + (n % laid.inner[0]) as f32 + 0.5, corner[1] + (n / laid.inner[0]) as f32 + 0.5];
                let point = laid.placement.point_to_frame(at);
                (tap(laid, point), is_hidden(laid, at, point))
            })
            .unzip();
        if !hidden.contains(&true) {
            hidden = Vec::new();
        }
        Self { laid: laid.clone(), taps: if laid.placement.optics.is_some() { taps } else { Vec::new() }, hidden }
    }

    /// Whether nothing is seen.
    pub(super) fn is_blind(&self) -> bool {
        !self.hidden.is_empty() && !self.hidden.contains(&false)
    }

    /// Whether the picture goes through a lens.
    #[must_use]
    pub fn bends(&self) -> bool {
        !self.taps.is_empty()
    }

    /// Which pixels of the input are not inspected; empty where all are.
    #[must_use]
    pub fn hidden(&self) -> &[bool] {
        &self.hidden
    }

    /// The input's pixels out of the region's, shrunk by [`Laid::shrink`], whose rows lie `stride` bytes apart.
    #[must_use]
    pub fn bend(&self, region: &[u8], stride: usize, channels: usize) -> Vec<u8> {
        let mut out = vec![0; self.taps.len() * channels];
        match channels {
            1 => self.gather::<1>(region, stride, &mut out),
            _ => self.gather::<3>(region, stride, &mut out),
        }
        out
    }

    fn gather<const CHANNELS: usize>(&self, region: &[u8], stride: usize, out: &mut [u8]) {
        let [width, height] = self.laid.shrunk();
        // There is no next one in a picture of one column or row, and a tap has no share of it.
        let (beside, below) = (if width > 1 { CHANNELS } else { 0 }, if height > 1 { stride } else { 0 });
        let (pixels, _) = out.as_chunks_mut::<CHANNELS>();
        for (tap, pixel) in self.taps.iter().zip(pixels) {
            let at = tap.y as usize * stride + tap.x as usize * CHANNELS;
            let (upper, lower) =
                (&region[at..at + beside + CHANNELS], &region[at + below..at + below + beside + CHANNELS]);
            let (right, down) = (u32::from(tap.right), u32::from(tap.down));
            for (c, sample) in pixel.iter_mut().enumerate() {
                let mix = |row: &[u8]| u32::from(row[c]) * (256 - right) + u32::from(row[beside + c]) * right;
                let (upper, lower) = (mix(upper), mix(lower));
                *sample = ((upper * (256 - down) + lower * down + (1 << 15)) >> 16) as u8;
            }
        }
    }

    /// Draws the surroundings of what is hidden on over it.
    pub fn fill(&self, pixels: &mut [u8], channels: usize) {
        if !self.hidden.is_empty() {
            fill(pixels, self.laid.inner[0] as usize, channels, &self.hidden);
        }
    }
}

/// Where a point of the frame lies between the pixels of the shrunk region.
fn tap(laid: &Laid, point: [f32; 2]) -> Tap {
    let along = |k: usize| {
        let size = laid.shrunk()[k];
        let at = (point[k] - laid.part[k] as f32) / laid.shrink[k] as f32 - 0.5;
        let at = at.max(0.0).min((size - 1) as f32);
        let first = (at as u32).min(size.saturating_sub(2));
        (first, ((at - first as f32) * 256.0).round() as u16)
    };
    let ((x, right), (y, down)) = (along(0), along(1));
    Tap { x, y, right, down }
}

/// Whether a pixel of the input shows anything that is not inspected: `at` is its middle, `point` the same in the frame.
fn is_hidden(laid: &Laid, at: [f32; 2], point: [f32; 2]) -> bool {
    let Placement { start, end, optics, area, .. } = &laid.placement;
    // Beside the region there is nothing to see. Without a lens the input ends where the region does.
    let beside = (0..2).any(|k| point[k] < start[k] || point[k] > end[k]);
    if let Some(optics) = optics
        && (beside || !optics.reaches(laid.placement.point_to_flat(at)))
    {
        return true;
    }
    let Some((area, size)) = area else { return false };
    // Two pixels of the shrunk region, or half of what an average is taken over and what it begins in.
    let reach = |k: usize| {
        let shrunk = 2.0 * laid.shrink[k] as f32;
        if optics.is_some() { shrunk } else { shrunk.max(laid.placement.scale[k].abs() / 2.0 + 1.0) }
    };
    // The region ends at a whole pixel, its outline may do so half a pixel beside it.
    let low = |k: usize| (point[k] - reach(k)).max(start[k] + 0.5).min(point[k]) / size[k];
    let high = |k: usize| (point[k] + reach(k)).min(end[k] - 0.5).max(point[k]) / size[k];
    !area.holds_all([low(0), low(1), high(0), high(1)])
}
