//! Whether the camera still looks to where it looked.
//!
//! Method: a reference is the mean of the first [`REFERENCE`] pictures, reduced: what is steady stays in it, what changes is
//! averaged out. It is cut into blocks, and each is sought in the following pictures by normalised cross-correlation, to a part of
//! a reduced pixel by a parabola. Blocks that were found again and again at the same place in [`TRIAL`] good pictures are
//! steady, in one direction or both: along an edge nothing tells where a block lies. Where there are too few of them (a moving strip, another thing in each picture) nothing is judged. Else a shift and
//! a rotation with scaling are fitted to the displacements of the steady blocks, whose medians over a few frames are compared
//! with what they were in good pictures, in standard deviations of what parts that lie differently did by themselves.
//! The reference stays as it is: a camera that creeps away is found as well.

use super::small::Small;
use super::usual::{Recent, Usual, median, quantile};

mod block;

use block::{BLOCK, Block, MARGIN};

/// Pictures of which the reference is made.
const REFERENCE: usize = 12;
/// Pictures in which blocks must prove to be steady.
const TRIAL: usize = 26;
/// Correlation of a block that was found.
const FOUND: f32 = 0.5;
/// Reduced pixels by which a steady block's place may stray, as a standard deviation.
const STEADY: f32 = 0.7;
/// Steady blocks that are needed, and which share of all.
const FEWEST: (usize, f32) = (4, 0.1);
/// Frames of which the median counts.
const FRAMES: usize = 8;
/// Standard deviations that are nothing. The median of 8 strays by 0.44 of these.
const DEVIATIONS: f32 = 3.0;
/// Reduced pixels that cannot be told from none.
const LEAST: f32 = 0.25;
/// Frames after which a scene of which less than half is found again is gone.
const GONE: u32 = 48;
/// Reduced pixels a side of a square, and squares to each side, in the search for a large shift.
const COARSE: (usize, isize) = (4, 8);

#[derive(Debug, Clone)]
enum Stage {
    /// Sums of the first pictures.
    Reference { sums: Vec<u16>, seen: usize },
    /// Each picture's finds, one for each block.
    Trial { finds: Vec<Vec<Option<[f32; 2]>>> },
    /// Judging.
    Known,
    /// Nothing here is steady.
    Unsteady,
}

/// Where one camera looks.
#[derive(Debug, Clone)]
pub struct Place {
    above_px: f32,
    size: (usize, usize),
    stage: Stage,
    coarse: Small,
    blocks: Vec<Block>,
    /// Shift in x and y, rotation and scaling, as reduced pixels that the picture moves by on average.
    usual: [Usual; 4],
    recent: [Recent; 4],
    last: Option<[f32; 4]>,
    lost: u32,
    factor: f32,
}

impl Place {
    /// With the pixels of the frame above which it has moved.
    pub fn new(above_px: f32) -> Self {
        Self {
            above_px: above_px.max(0.1),
            size: (0, 0),
            stage: Stage::Reference { sums: Vec::new(), seen: 0 },
            coarse: Small::default(),
            blocks: Vec::new(),
            usual: [(); 4].map(|()| Usual::central(0.04, 0.1)),
            recent: [(); 4].map(|()| Recent::new(FRAMES)),
            last: None,
            lost: 0,
            factor: 1.0,
        }
    }

    /// Frames that are missing until it can judge, if it ever can.
    pub fn missing(&self) -> usize {
        match &self.stage {
            Stage::Reference { seen, .. } => REFERENCE + TRIAL - seen,
            Stage::Trial { finds } => TRIAL - finds.len(),
            Stage::Known | Stage::Unsteady => 0,
        }
    }

    /// Takes the next picture, in which `good` says that nothing else is wrong.
    pub fn see(&mut self, small: &Small, good: bool) {
        self.last = None;
        if (small.width, small.height) != self.size {
            let fresh = matches!(&self.stage, Stage::Reference { seen, .. } if *seen == 0);
            self.size = (small.width, small.height);
            self.factor = small.factor as f32;
            if !fresh {
                // A source of pictures of several sizes looks nowhere in particular.
                self.stage = Stage::Unsteady;
            }
        }
        match &mut self.stage {
            Stage::Unsteady => {}
            Stage::Reference { .. } | Stage::Trial { .. } if !good => {}
            Stage::Reference { sums, seen } => {
                sums.resize(small.data.len(), 0);
                sums.iter_mut().zip(&small.data).for_each(|(sum, v)| *sum += u16::from(*v));
                *seen += 1;
                if *seen == REFERENCE {
                    let data = sums.iter().map(|sum| (sum / REFERENCE as u16) as u8).collect();
                    self.begin_trial(&Small { data, ..small.clone() });
                }
            }
            Stage::Trial { finds } => {
                finds.push(self.blocks.iter().map(|b| b.seek(small, [0, 0], FOUND)).collect());
                if finds.len() == TRIAL {
                    let finds = std::mem::take(finds);
                    self.end_trial(&finds);
                }
            }
            Stage::Known => self.judge(small),
        }
    }

    fn begin_trial(&mut self, reference: &Small) {
        self.coarse = reference.binned(COARSE.0);
        let places = |side: usize| {
            let room = side.saturating_sub(2 * MARGIN);
            let first = MARGIN + room % BLOCK / 2;
            (0..room / BLOCK).map(move |n| first + n * BLOCK)
        };
        let (width, height) = self.size;
        self.blocks = places(height)
            .flat_map(|y| places(width).map(move |x| (x, y)))
            .filter_map(|(x, y)| Block::of(reference, x, y))
            .collect();
        self.stage = if self.blocks.len() < FEWEST.0 { Stage::Unsteady } else { Stage::Trial { finds: Vec::new() } };
    }

    fn end_trial(&mut self, finds: &[Vec<Option<[f32; 2]>>]) {
        let all = self.blocks.len();
        let mut kept = Vec::new();
        for (k, block) in self.blocks.iter_mut().enumerate() {
            let found: Vec<[f32; 2]> = finds.iter().filter_map(|find| find[k]).collect();
            for axis in 0..2 {
                let mut values: Vec<f32> = found.iter().map(|f| f[axis]).collect();
                block.home[axis] = median(&mut values);
                values.iter_mut().for_each(|v| *v = (*v - block.home[axis]).abs());
                block.steady[axis] = quantile(&mut values, 0.68) <= STEADY;
            }
            kept.push(found.len() * 4 >= finds.len() * 3 && block.steady != [false; 2]);
        }
        let mut keep = kept.iter();
        self.blocks.retain(|_| keep.next().copied().unwrap_or(false));
        if self.blocks.len() < FEWEST.0.max((FEWEST.1 * all as f32) as usize) {
            self.stage = Stage::Unsteady;
            return;
        }
        self.stage = Stage::Known;
        for find in finds {
            let find: Vec<_> = find.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(f, _)| *f).collect();
            if let Some(motion) = self.motion(&find) {
                self.usual.iter_mut().zip(motion).for_each(|(usual, v)| usual.learn(v));
            }
        }
        if self.usual[0].fit().is_none() {
            self.stage = Stage::Unsteady;
        }
    }

    fn judge(&mut self, small: &Small) {
        let seek = |from: [isize; 2]| self.blocks.iter().map(|b| b.seek(small, from, FOUND)).collect::<Vec<_>>();
        let mut motion = self.motion(&seek([0, 0]));
        if motion.is_none() {
            let from = block::coarse(&self.coarse, &small.binned(COARSE.0), COARSE.1).map(|d| d * COARSE.0 as isize);
            motion = if from == [0, 0] { None } else { self.motion(&seek(from)) };
        }
        match motion {
            Some(motion) => {
                self.recent.iter_mut().zip(motion).for_each(|(recent, v)| recent.push(v));
                self.last = Some(motion);
                self.lost = 0;
            }
            None => self.lost = self.lost.saturating_add(1),
        }
    }

    /// The motion that explains where blocks were found; `None` where less than half were.
    fn motion(&self, finds: &[Option<[f32; 2]>]) -> Option<[f32; 4]> {
        let pairs = self.blocks.iter().zip(finds);
        let found: Vec<(&Block, [f32; 2])> =
            pairs.filter_map(|(b, f)| f.map(|f| (b, [f[0] - b.home[0], f[1] - b.home[1]]))).collect();
        if found.len() < FEWEST.0 || found.len() * 2 < finds.len() {
            return None;
        }
        let n = found.len() as f32;
        let centre = [0, 1].map(|axis| found.iter().map(|(b, _)| b.middle()[axis]).sum::<f32>() / n);
        let steady = |axis: usize| found.iter().filter(move |(b, _)| b.steady[axis]).map(move |(_, d)| d[axis]);
        let shift = [0, 1].map(|axis| median(&mut steady(axis).collect::<Vec<_>>()));
        // The picture's own mean square radius. Blocks that lie close together say little of rotation, and the fit is drawn to
        // none.
        let radius2 = ((self.size.0 as f32).powi(2) + (self.size.1 as f32).powi(2)) / 12.0;
        let (mut turn, mut scale) = ((0.0, 0.05 * n * radius2), (0.0, 0.05 * n * radius2));
        for (block, d) in &found {
            let [x, y] = [0, 1].map(|axis| block.middle()[axis] - centre[axis]);
            let mut add = |axis: usize, across: f32, along: f32| {
                if block.steady[axis] {
                    turn = (turn.0 + across * (d[axis] - shift[axis]), turn.1 + across * across);
                    scale = (scale.0 + along * (d[axis] - shift[axis]), scale.1 + along * along);
                }
            };
            add(0, -y, x);
            add(1, x, y);
        }
        let radius = radius2.sqrt();
        Some([shift[0], shift[1], radius * turn.0 / turn.1, radius * scale.0 / scale.1])
    }

    /// Learns the last picture.
    pub fn learn(&mut self) {
        let Some(motion) = self.last else { return };
        self.usual.iter_mut().zip(motion).for_each(|(usual, v)| usual.learn(v));
    }

    /// See [`Usual::spoil`].
    pub fn spoil(&mut self) {
        self.usual.iter_mut().for_each(Usual::spoil);
    }

    /// Shift and what strays by itself, in pixels of the frame.
    fn measured(&self) -> Option<(f32, f32)> {
        let mut sums = (0.0, 0.0);
        for (usual, recent) in self.usual.iter().zip(&self.recent) {
            let (fit, now) = usual.fit().zip(recent.median())?;
            sums = (sums.0 + (now - fit.middle).powi(2), sums.1 + fit.spread.powi(2));
        }
        Some((sums.0.sqrt() * self.factor, sums.1.sqrt() * self.factor))
    }

    /// How far the picture has moved, in pixels of the frame.
    pub fn shift_px(&self) -> Option<f32> {
        if !matches!(self.stage, Stage::Known) || self.is_gone() {
            return None;
        }
        self.measured().map(|(shift, _)| shift)
    }

    /// Whether the scene it knew is not to be found any more.
    pub fn is_gone(&self) -> bool {
        self.lost >= GONE
    }

    /// How much too far it has moved: 1 at the threshold.
    pub fn level(&self) -> f32 {
        if !matches!(self.stage, Stage::Known) {
            return 0.0;
        }
        let gone = self.lost as f32 / GONE as f32;
        let shift = self
            .measured()
            .map_or(0.0, |(shift, stray)| shift / self.above_px.max(LEAST * self.factor).max(DEVIATIONS * stray));
        // Where it is lost, what was measured before says nothing.
        if self.lost > 0 { gone.max(shift.min(0.99)) } else { shift }
    }
}
