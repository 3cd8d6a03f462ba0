//! Too little light, and too much.
//!
//! Each picture's brightness is compared with what is usual for this camera, so that a scene that is always dark, or one in
//! front of a light that is always saturated, is well. How far a camera's brightness strays by itself counts as well: where
//! every picture has another brightness, it must change more. A picture in which nothing is brighter than black is dark, and
//! one in which nothing is darker than white is overexposed, whatever is usual. Judged by the median of a few frames, and by
//! that of some more, which strays less and may therefore be nearer to the usual.

use super::sample::Tones;
use super::small::Small;
use super::usual::{Fit, Recent, Usual, quantile};

/// Frames of which the median counts, and standard deviations of single frames by which it may stray: about six of its own.
const QUICK: (usize, f32) = (5, 3.2);
const SLOW: (usize, f32) = (16, 2.0);
/// Where the brightest hundredth is darker than this, nothing is to be seen; and where the darkest is brighter than this.
const NOTHING: (f32, f32) = (12.0 / 255.0, 250.0 / 255.0);
/// Saturated share beyond which a camera looks into a light by intention.
const BACKLIGHT: f32 = 0.9;
/// Overexposed is also what has lost this share of the distance to white.
const HEADROOM: f32 = 0.5;

/// What one camera's light did.
#[derive(Debug, Clone)]
pub struct Exposure {
    dark_below: f32,
    saturated_above: f32,
    /// Logarithm of the mean, logarithm of the distance from white, and the saturated share.
    usual: [Usual; 3],
    quick: [Recent; 3],
    slow: [Recent; 3],
    last: [f32; 3],
    brightest: Recent,
    darkest: Recent,
}

impl Exposure {
    /// With the share of the usual brightness below which it is dark, and the share of additional saturated pixels above
    /// which it is overexposed.
    pub fn new(dark_below: f32, saturated_above: f32) -> Self {
        Self {
            dark_below: dark_below.clamp(0.01, 0.99),
            saturated_above: saturated_above.max(0.01),
            usual: [Usual::new(0.02, 0.2), Usual::new(0.02, 0.2), Usual::new(0.005, 0.05)],
            quick: [(); 3].map(|()| Recent::new(QUICK.0)),
            slow: [(); 3].map(|()| Recent::new(SLOW.0)),
            last: [0.0; 3],
            brightest: Recent::new(QUICK.0),
            darkest: Recent::new(QUICK.0),
        }
    }

    /// Takes the next picture.
    pub fn see(&mut self, tones: &Tones, small: &Small) {
        let log = |v: f32| v.max(0.004).ln();
        self.last = [log(tones.mean), log(1.0 - tones.mean), tones.saturated];
        for recents in [&mut self.quick, &mut self.slow] {
            recents.iter_mut().zip(self.last).for_each(|(recent, value)| recent.push(value));
        }
        let mut grey: Vec<f32> = small.data.iter().map(|v| f32::from(*v) / 255.0).collect();
        self.brightest.push(quantile(&mut grey, 0.99));
        self.darkest.push(quantile(&mut grey, 0.01));
    }

    /// Learns the last picture.
    pub fn learn(&mut self) {
        self.usual.iter_mut().zip(self.last).for_each(|(usual, value)| usual.learn(value));
    }

    /// See [`Usual::spoil`].
    pub fn spoil(&mut self) {
        self.usual.iter_mut().for_each(Usual::spoil);
    }

    /// Frames that are missing until the usual is known.
    pub fn missing(&self) -> usize {
        self.usual[0].missing()
    }

    /// Whether the last picture alone is outside of what is usual, by light; then it is not for others to learn from.
    pub fn is_odd(&self) -> bool {
        let far =
            |k: usize| self.usual[k].fit().is_some_and(|fit| fit.middle - self.last[k] > QUICK.1 * fit.spread.max(0.1));
        far(0) || far(1)
    }

    /// How much too dark it is: 1 at the threshold.
    pub fn dark(&self) -> f32 {
        let nothing = self.brightest.median().map_or(0.0, |b| NOTHING.0 / b.max(0.001)).min(9.0);
        nothing.max(-self.change(0, -self.dark_below.ln()))
    }

    /// How much too bright it is: 1 at the threshold.
    pub fn bright(&self) -> f32 {
        let usual = self.usual[2].fit();
        let backlit = usual.is_some_and(|fit| fit.middle > BACKLIGHT);
        let white = self.darkest.median().is_some_and(|d| d >= NOTHING.1);
        let saturated = self.change(2, self.saturated_above);
        let nothing: f32 = if white && !backlit { 2.0 } else { 0.0 };
        nothing.max(saturated).max(-self.change(1, -HEADROOM.ln()))
    }

    /// How far a value has risen, in units of what is too far: so much, and more than it strays by itself.
    fn change(&self, k: usize, least: f32) -> f32 {
        let usual = &self.usual[k];
        let tier = |fit: Option<Fit>, recents: &[Recent; 3], deviations: f32| {
            let (fit, now) = fit.zip(recents[k].median())?;
            Some((now - fit.middle) / least.max(deviations * fit.spread))
        };
        let (quick, slow) = (tier(usual.fit(), &self.quick, QUICK.1), tier(usual.sure(), &self.slow, SLOW.1));
        let further = |a: f32, b: f32| if a.abs() > b.abs() { a } else { b };
        further(quick.unwrap_or(0.0), slow.unwrap_or(0.0))
    }

    /// Brightness now as a share of the usual.
    pub fn share_of_usual(&self) -> Option<f32> {
        self.usual[0].fit().zip(self.quick[0].median()).map(|(fit, now)| (now - fit.middle).exp())
    }
}
