//! Softer than this camera's own usual.
//!
//! Both measures of [`super::sharpness`] must have fallen together, as medians of the last frames: a content that looks unlike
//! the rest moves them apart rather than down. Of a picture so soft that its finest steps are noise, the slope alone must
//! have fallen further. How far is counted in standard deviations of what this camera's pictures do by themselves, so that
//! where every frame shows something else more is needed.
//! Frames that show nothing have no say, nor have those with far less relief than usual (an empty belt).

use super::sharpness::Edges;
use super::small::Small;
use super::usual::{Fit, Recent, Usual};

/// Frames of which the median counts, and how many standard deviations of single frames the two may fall on average: about
/// six of those by which the median itself strays.
const QUICK: (usize, f32) = (12, 2.0);
const SLOW: (usize, f32) = (24, 1.5);
/// The slope alone must fall further, by this factor.
const ALONE: f32 = 1.5;
/// Relief may be smaller than usual by this much (natural logarithm), or by so many deviations.
const RELIEF: (f32, f32) = (0.5, 4.0);
/// Reduced pixels a side of a square of which relief is made: coarse enough that blur does not change it.
const COARSE: usize = 5;

/// How sharp one camera was.
#[derive(Debug, Clone)]
pub struct Focus {
    least: f32,
    /// Slope and loss.
    usual: [Usual; 2],
    quick: [Recent; 2],
    slow: [Recent; 2],
    relief: Usual,
    last: Option<([f32; 2], f32)>,
}

impl Focus {
    /// With the share of the usual sharpness below which it is defocused.
    pub fn new(below: f32) -> Self {
        Self {
            least: -below.clamp(0.01, 0.99).ln(),
            usual: [(); 2].map(|()| Usual::new(0.02, 0.05)),
            quick: [(); 2].map(|()| Recent::new(QUICK.0)),
            slow: [(); 2].map(|()| Recent::new(SLOW.0)),
            relief: Usual::new(0.03, 1.0),
            last: None,
        }
    }

    /// Takes the next picture; whether it can be judged by it.
    pub fn see(&mut self, edges: Option<Edges>, small: &Small) -> bool {
        self.last = None;
        let Some(edges) = edges else { return false };
        let relief = relief(small);
        let flat = self.relief.fit().is_some_and(|fit| fit.middle - relief > RELIEF.0.max(RELIEF.1 * fit.spread));
        if flat {
            return false;
        }
        let values = [edges.slope, edges.loss];
        for recents in [&mut self.quick, &mut self.slow] {
            recents.iter_mut().zip(values).for_each(|(recent, value)| recent.push(value));
        }
        self.last = Some((values, relief));
        true
    }

    /// Learns the last picture.
    pub fn learn(&mut self) {
        let Some((values, relief)) = self.last else { return };
        self.usual.iter_mut().zip(values).for_each(|(usual, value)| usual.learn(value));
        self.relief.learn(relief);
    }

    /// See [`Usual::spoil`].
    pub fn spoil(&mut self) {
        self.usual.iter_mut().for_each(Usual::spoil);
        self.relief.spoil();
    }

    /// How far both have fallen, as logarithms and in standard deviations.
    fn falls(&self, recents: &[Recent; 2], usual: fn(&Usual) -> Option<Fit>) -> Option<[(f32, f32); 2]> {
        let fall = |k: usize| {
            let (fit, now) = usual(&self.usual[k]).zip(recents[k].median())?;
            Some((fit.middle - now, (fit.middle - now) / fit.spread))
        };
        Some([fall(0)?, fall(1)?])
    }

    /// Sharpness as a share of the usual: the geometric mean of both measures, or the slope where that has fallen further.
    pub fn share_of_usual(&self) -> Option<f32> {
        self.falls(&self.quick, Usual::fit)
            .map(|[slope, loss]| (-f32::midpoint(slope.0, loss.0).max(slope.0 / ALONE)).exp())
    }

    /// How much too soft it is: 1 at the threshold.
    pub fn level(&self) -> f32 {
        let tier = |recents: &[Recent; 2], usual: fn(&Usual) -> Option<Fit>, deviations: f32| {
            let Some([slope, loss]) = self.falls(recents, usual) else { return 0.0 };
            let level = |fall: f32, sure: f32| (fall / self.least).min(sure / deviations);
            let both = level(f32::midpoint(slope.0, loss.0), f32::midpoint(slope.1, loss.1));
            let alone = level(slope.0 / ALONE, slope.1 / ALONE);
            if slope.0.min(loss.0) > 0.0 { both.max(alone) } else { alone }
        };
        tier(&self.quick, Usual::fit, QUICK.1).max(tier(&self.slow, Usual::sure, SLOW.1)).max(0.0)
    }
}

/// Logarithm of how much light and shade there is at large.
fn relief(small: &Small) -> f32 {
    let coarse = small.binned(COARSE).data;
    let n = coarse.len().max(1) as f32;
    let mean = coarse.iter().map(|v| f32::from(*v)).sum::<f32>() / n;
    let variance = coarse.iter().map(|v| (f32::from(*v) - mean).powi(2)).sum::<f32>() / n;
    (variance.sqrt() + 1.0).ln()
}
