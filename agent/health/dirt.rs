//! Spots that stay where they are while the scene behind them changes.
//!
//! Method: the picture is cut into cells; of each the logarithm of its brightness counts, relative to the picture's median, so
//! that light falls out. What is usual for each cell is learned from the first good pictures. A cell is darkened where the
//! median of the last [`FRAMES`] pictures lies below that, by more than a spot must take away and by more than chance explains,
//! and where nearly all of these pictures lie below. Darkened cells that touch are a spot if their surroundings are not
//! darkened as well; what covers much of the picture is none. Dirt only darkens: where other cells became brighter in the same
//! way, or there are many spots, the scene is another one. Where the scene under the spot is so still that one on the lens
//! cannot be told from one on the product, it must last [`STILL`] times as long.

use std::collections::VecDeque;

use super::small::Small;
use super::usual::quantile;

mod spot;

/// Reduced pixels along a cell's side.
const CELL: usize = 4;
/// Pictures of which the median counts.
const FRAMES: usize = 32;
/// Pictures between two looks.
const EVERY: usize = 4;
/// Unit of what is stored.
const UNIT: f32 = 0.004;
/// Smallest spread of a cell that is believed.
const FLOOR: f32 = 0.01;
/// Standard deviations of single pictures by which the median may stray; its own is 0.22 of them, as is that of the usual.
const DEVIATIONS: f32 = 1.25;
/// Share of the pictures that lie below the usual.
const NEARLY_ALL: f32 = 0.8;
/// Cells that stray by less than this (standard deviation) are still.
const STIR: f32 = 0.012;
/// See the module.
const STILL: u32 = 16;
/// Times that what is usual is learned anew and averaged; then it stays, so that dirt that grows slowly is found.
const LESSONS: u32 = 16;

/// What one camera's cells were.
#[derive(Debug, Clone)]
pub struct Dirt {
    above: f32,
    size: (usize, usize),
    ring: VecDeque<Vec<i16>>,
    usual: Option<Usual>,
    seen: usize,
    suspicious: u32,
    found: spot::Found,
}

/// What is usual for each cell.
#[derive(Debug, Clone)]
struct Usual {
    middle: Vec<f32>,
    spread: Vec<f32>,
    lessons: u32,
}

impl Dirt {
    /// With the share of light that a spot takes away.
    pub fn new(above: f32) -> Self {
        Self {
            above: -(1.0 - above.clamp(0.02, 0.98)).ln(),
            size: (0, 0),
            ring: VecDeque::new(),
            usual: None,
            seen: 0,
            suspicious: 0,
            found: spot::Found::default(),
        }
    }

    /// Frames that are missing until it can judge.
    pub fn missing(&self) -> usize {
        if self.usual.is_some() { 0 } else { FRAMES - self.ring.len().min(FRAMES - 1) }
    }

    /// Takes the next picture, in which nothing else is wrong.
    pub fn see(&mut self, small: &Small) {
        let cells = small.binned(CELL);
        if (cells.width, cells.height) != self.size {
            // Other pictures: begin anew.
            *self = Self { size: (cells.width, cells.height), ..Self::new(1.0 - (-self.above).exp()) };
        }
        if self.ring.len() == FRAMES {
            self.ring.pop_front();
        }
        self.ring.push_back(relative(&cells));
        self.seen += 1;
        if self.ring.len() < FRAMES {
            return;
        }
        let Some(usual) = &self.usual else {
            let (middle, spread) = self.learned();
            self.usual = Some(Usual { middle, spread, lessons: 1 });
            self.ring.clear();
            self.seen = 0;
            return;
        };
        if self.seen.is_multiple_of(EVERY) {
            let falls = self.falls(usual);
            self.found = spot::find(&falls, self.size, self.above);
            self.suspicious = if self.found.still >= 1.0 { self.suspicious.saturating_add(1) } else { 0 };
        }
    }

    /// Learns the last pictures, in none of which a fault was found.
    pub fn learn(&mut self) {
        if self.seen < FRAMES || self.ring.len() < FRAMES || self.found.level.max(self.found.still) > 0.5 {
            return;
        }
        self.seen = 0;
        let (middle, spread) = self.learned();
        let Some(usual) = self.usual.as_mut().filter(|usual| usual.lessons < LESSONS) else { return };
        usual.lessons += 1;
        let share = 1.0 / usual.lessons as f32;
        let blend = |old: &mut Vec<f32>, new: Vec<f32>| {
            old.iter_mut().zip(new).for_each(|(old, new)| *old += share * (new - *old));
        };
        blend(&mut usual.middle, middle);
        blend(&mut usual.spread, spread);
    }

    /// Middle and spread of each cell over the ring.
    fn learned(&self) -> (Vec<f32>, Vec<f32>) {
        let mut values = Vec::with_capacity(FRAMES);
        (0..self.size.0 * self.size.1)
            .map(|cell| {
                self.values(cell, &mut values);
                let middle = quantile(&mut values, 0.5);
                // Downwards by itself, where a cell is sometimes dark.
                let below = (middle - quantile(&mut values, 0.1)) / 1.28;
                values.iter_mut().for_each(|v| *v = (*v - middle).abs());
                (middle, (1.4826 * quantile(&mut values, 0.5)).max(below).max(FLOOR))
            })
            .unzip()
    }

    fn values(&self, cell: usize, out: &mut Vec<f32>) {
        out.clear();
        out.extend(self.ring.iter().map(|frame| f32::from(frame[cell]) * UNIT));
    }

    /// How far each cell has fallen, 0 where that may be chance.
    fn falls(&self, usual: &Usual) -> Vec<spot::Fall> {
        let mut values = Vec::with_capacity(FRAMES);
        let mut falls: Vec<spot::Fall> = (0..usual.middle.len())
            .map(|cell| {
                self.values(cell, &mut values);
                let middle = usual.middle[cell];
                let depth = middle - quantile(&mut values, 0.5);
                let share = if depth > 0.0 { NEARLY_ALL } else { 1.0 - NEARLY_ALL };
                let nearly_all = (quantile(&mut values, share) < middle) == (depth > 0.0);
                let spread = usual.spread[cell];
                let sure = if nearly_all { depth / (DEVIATIONS * spread) } else { 0.0 };
                spot::Fall { depth, sure, stirs: spread > STIR }
            })
            .collect();
        let mut depths: Vec<f32> = falls.iter().map(|f| f.depth).collect();
        let common = quantile(&mut depths, 0.5);
        falls.iter_mut().for_each(|f| f.depth -= common);
        falls
    }

    /// How much too dirty it is: 1 at the threshold.
    pub fn level(&self) -> f32 {
        let needed = STILL * (FRAMES / EVERY) as u32;
        self.found.level.max(self.found.still.min(self.suspicious as f32 / needed as f32))
    }

    /// Share of the picture under spots.
    pub fn share(&self) -> Option<f32> {
        self.usual.as_ref().map(|_| self.found.share)
    }
}

/// Logarithm of brightness relative to the picture's median, in units.
fn relative(cells: &Small) -> Vec<i16> {
    // A few grey levels are noise, and darkness has no logarithm.
    let logs: Vec<f32> = cells.data.iter().map(|v| (f32::from(*v) + 4.0).ln()).collect();
    let middle = quantile(&mut logs.clone(), 0.5);
    logs.into_iter().map(|log| ((log - middle) / UNIT).round() as i16).collect()
}
