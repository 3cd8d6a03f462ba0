//! The six defects of the DeepPCB data set: where a board has room for each, and how it looks there.
//!
//! As in that set, the box is what has changed and [`MARGIN`] around it. Lengths are in units of a picture of 640 px.

use super::copper::{Copper, DIRECTIONS, Outline, Shape, length};
use super::layout::Layout;
use crate::frame::scene::Rng;

/// The kinds of defect.
pub const CLASSES: [&str; 6] =
    ["pcb/open", "pcb/short", "pcb/mouse_bite", "pcb/spur", "pcb/spurious_copper", "pcb/pin_hole"];

/// Between a defect and its box.
const MARGIN: f32 = 10.0;

/// Places that are tried for a defect before another kind is.
const TRIES: usize = 150;

/// No defect is closer to the ends of a board.
const EDGE: f32 = 14.0;

/// A defect, in pixels of the board.
pub struct Defect {
    /// One of [`CLASSES`].
    pub class: &'static str,
    /// Left and upper end of the box.
    pub x: i64,
    pub y: i64,
    /// Size of the box.
    pub width: usize,
    pub height: usize,
    /// Whether copper is where none should be, or none where it should be.
    pub copper: bool,
    /// Row by row, whether a pixel of the box is changed.
    pub marks: Vec<bool>,
}

/// What is drawn or scratched away, and nothing farther than `reach` from `middle` along `across`.
struct Sketch {
    copper: bool,
    strokes: Vec<Shape>,
    /// As if scraped, not cut.
    speckled: bool,
    middle: [f32; 2],
    across: [f32; 2],
    reach: f32,
}

/// A board on which places are looked for.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// Its copper.
    pub copper: &'a Copper,
    /// Its design.
    pub layout: &'a Layout,
}

/// A place on the edge of copper, the direction away from the copper, and the one along the edge.
struct Edge {
    at: [f32; 2],
    out: [f32; 2],
    along: [f32; 2],
}

impl Edge {
    /// So far from the copper and so far along its edge.
    fn place(&self, out: f32, along: f32) -> [f32; 2] {
        [0, 1].map(|n| self.at[n] + out * self.out[n] + along * self.along[n])
    }
}

impl Site<'_> {
    /// A defect beside the others, if there is room for one.
    pub fn defect(self, rng: &mut Rng, others: &[(u64, Defect)]) -> Option<Defect> {
        (0..CLASSES.len()).find_map(|_| {
            let kind = rng.count(0, CLASSES.len() as u32 - 1) as usize;
            (0..TRIES).find_map(|_| {
                let sketch = match kind {
                    0 => self.open(rng),
                    1 => self.short(rng),
                    2 => self.mouse_bite(rng),
                    3 => self.spur(rng),
                    4 => self.spurious_copper(rng),
                    _ => self.pin_hole(rng),
                }?;
                let defect = self.draw(rng, CLASSES[kind], &sketch)?;
                let apart = |(_, other): &(u64, Defect)| {
                    let gap =
                        |a: i64, b: i64, a_size: usize, b_size: usize| a + a_size as i64 <= b || b + b_size as i64 <= a;
                    gap(defect.x, other.x, defect.width, other.width)
                        || gap(defect.y, other.y, defect.height, other.height)
                };
                others.iter().all(apart).then_some(defect)
            })
        })
    }

    /// A trace that is interrupted.
    fn open(self, rng: &mut Rng) -> Option<Sketch> {
        let traces = &self.layout.traces;
        let trace = traces.get(rng.count(0, (traces.len() as u32).max(1) - 1) as usize)?;
        let vector = [trace.to[0] - trace.from[0], trace.to[1] - trace.from[1]];
        let whole = length(vector);
        if whole < 36.0 {
            return None;
        }
        let along = vector.map(|part| part / whole);
        let far = rng.range(14.0, whole - 14.0);
        let edge = Edge { at: [0, 1].map(|n| trace.from[n] + far * along[n]), out: [-along[1], along[0]], along };
        let gap = rng.range(7.0, 15.0);
        let half = trace.width / 2.0;
        let bare = |along: f32| [half + 3.5, -half - 3.5].iter().all(|&out| !self.copper.at(edge.place(out, along)));
        let trace_goes_on = [-gap, gap].iter().all(|&along| self.copper.at(edge.place(0.0, along)));
        if !(trace_goes_on && [-gap, 0.0, gap].into_iter().all(bare)) {
            return None;
        }
        let slant = rng.signed() * 0.4 * trace.width;
        let ends = [edge.place(half, slant), edge.place(-half, -slant)];
        let bend = edge.place(0.0, rng.signed() * 2.0);
        let halves = [rng.range(0.7, 1.0), rng.range(0.7, 1.0), rng.range(0.7, 1.0)].map(|share| share * gap / 2.0);
        let strokes = vec![
            Shape::Line { from: ends[0], to: bend, half: [halves[0], halves[1]] },
            Shape::Line { from: bend, to: ends[1], half: [halves[1], halves[2]] },
        ];
        Some(Sketch {
            copper: false,
            strokes,
            speckled: rng.chance(0.12),
            middle: edge.at,
            across: edge.out,
            reach: half + 2.5,
        })
    }

    /// Two pieces of copper that are joined.
    fn short(self, rng: &mut Rng) -> Option<Sketch> {
        let edge = self.edge(rng)?;
        let gap = self.copper.change(edge.place(1.0, 0.0), edge.out, 50.0)? + 1.0;
        let half = rng.range(2.6, 4.8).min(1.5 + 0.25 * gap);
        let bend = edge.place(gap / 2.0, rng.signed() * 0.12 * gap);
        let free = |n: f32| self.copper.change(bend, edge.along.map(|part| n * part), half + 5.0).is_none();
        if gap < 10.0 || self.layout.is_hole(bend) || !free(1.0) || !free(-1.0) {
            return None;
        }
        let end = edge.place(gap + 2.0, rng.signed() * 0.15 * gap);
        let opposite = self.facing(edge.place(gap, 0.0))?;
        let cosine = opposite.out[0] * edge.out[0] + opposite.out[1] * edge.out[1];
        if cosine > -0.9 || !self.straight(&opposite, 9.0) || self.depth(&opposite, 5.0) < 5.0 {
            return None;
        }
        if !self.copper.at(end) || self.depth(&edge, 5.0) < 5.0 || !self.straight(&edge, 9.0) {
            return None;
        }
        let waist = half * rng.range(0.85, 1.0);
        let strokes = vec![
            Shape::Line { from: edge.place(-2.0, 0.0), to: bend, half: [half, waist] },
            Shape::Line { from: bend, to: end, half: [waist, half * rng.range(0.8, 1.2)] },
        ];
        Some(Sketch {
            copper: true,
            strokes,
            speckled: false,
            middle: bend,
            across: edge.along,
            reach: 2.0 * half + 0.2 * gap,
        })
    }

    /// Copper that is missing at an edge.
    fn mouse_bite(self, rng: &mut Rng) -> Option<Sketch> {
        let edge = self.edge(rng)?;
        let wide = self.depth(&edge, 40.0);
        let depth = (wide * rng.range(0.45, 0.62)).min(wide - 3.5).min(rng.range(7.0, 17.0));
        let half = (depth * rng.range(0.3, 0.65)).max(2.6);
        // In the set two of three are in wide copper.
        let least = if rng.chance(0.67) { 18.0 } else { 9.0 };
        if wide < least || !self.bare(&edge, 6.0) || !self.straight(&edge, 10.0) {
            return None;
        }
        // Steep walls, as something has eaten it.
        let beside = |rng: &mut Rng| rng.signed() * 0.4 * depth;
        let (start, end) = (edge.place(1.5, beside(rng)), edge.place(half - depth, beside(rng)));
        let mut strokes = vec![Shape::Line { from: start, to: end, half: [half * rng.range(0.8, 1.1), half] }];
        if rng.chance(0.5) {
            let beside = edge.place(1.0, rng.signed() * 8.0);
            strokes.push(Shape::Line { from: end, to: beside, half: [half, half * rng.range(0.6, 1.0)] });
        }
        // No deeper, and nothing of what lies opposite.
        let middle = edge.place(1.5 - depth / 2.0, 0.0);
        Some(Sketch {
            copper: false,
            strokes,
            speckled: rng.chance(0.12),
            middle,
            across: edge.out,
            reach: 1.5 + depth / 2.0,
        })
    }

    /// Copper that sticks out.
    fn spur(self, rng: &mut Rng) -> Option<Sketch> {
        let edge = self.edge(rng)?;
        let long = rng.range(9.0, 16.5);
        let half = rng.range(3.0, 4.8);
        let tip = edge.place(long - half, rng.signed() * 0.6 * long);
        let room = self.copper.change(edge.place(1.0, 0.0), edge.out, long + 5.0).is_none();
        if !room || self.layout.is_hole(edge.place(4.0, 0.0)) || !self.copper.even(tip, half + 1.5) {
            return None;
        }
        if self.depth(&edge, 5.0) < 5.0 || !self.straight(&edge, 9.0) {
            return None;
        }
        let foot = half * rng.range(0.9, 1.5);
        let mut strokes = vec![Shape::Line { from: edge.place(-2.0, 0.0), to: tip, half: [foot, half] }];
        if rng.chance(0.3) {
            let beside = edge.place(0.0, rng.signed() * 5.0);
            strokes.push(Shape::Line { from: beside, to: edge.place(0.3 * long, 0.0), half: [half; 2] });
        }
        Some(Sketch { copper: true, strokes, speckled: false, middle: edge.at, across: edge.out, reach: long + 2.0 })
    }

    /// Copper on its own.
    fn spurious_copper(self, rng: &mut Rng) -> Option<Sketch> {
        let radius = rng.range(5.0, 14.0);
        let middle = self.anywhere(rng)?;
        let room = !self.copper.at(middle) && self.copper.even(middle, radius + 6.0) && !self.layout.is_hole(middle);
        room.then(|| blob(rng, true, middle, radius, [2.8, 5.5]))
    }

    /// A hole in copper.
    fn pin_hole(self, rng: &mut Rng) -> Option<Sketch> {
        let radius = rng.range(5.5, 13.0);
        let middle = self.anywhere(rng)?;
        let room = self.copper.at(middle) && self.copper.even(middle, radius + 3.0);
        room.then(|| blob(rng, false, middle, radius, [2.6, 5.2]))
    }

    /// How far the copper reaches inwards from its edge, at most `limit`.
    fn depth(self, edge: &Edge, limit: f32) -> f32 {
        self.copper.change(edge.place(-1.0, 0.0), edge.out.map(|part| -part), limit).map_or(limit, |depth| depth + 1.0)
    }

    /// Whether nothing is so near opposite of an edge.
    fn bare(self, edge: &Edge, limit: f32) -> bool {
        self.copper.change(edge.place(1.0, 0.0), edge.out, limit).is_none()
    }

    /// Whether the edge goes on so far to both sides without a corner.
    fn straight(self, edge: &Edge, far: f32) -> bool {
        [-far, far].iter().all(|&far| !self.copper.at(edge.place(2.5, far)) && self.copper.at(edge.place(-2.5, far)))
    }

    fn anywhere(self, rng: &mut Rng) -> Option<[f32; 2]> {
        let [width, height] = self.copper.units(self.copper.width, self.copper.height);
        let within = |rng: &mut Rng, size: f32| (size > 2.0 * EDGE).then(|| rng.range(EDGE, size - EDGE));
        Some([within(rng, width)?, within(rng, height)?])
    }

    /// A place where copper ends.
    fn edge(self, rng: &mut Rng) -> Option<Edge> {
        let from = self.anywhere(rng)?;
        let [right, down] = DIRECTIONS[rng.count(0, 15) as usize];
        let far = self.copper.change(from, [right, down], 50.0)?;
        let at = [from[0] + far * right, from[1] + far * down];
        self.facing(at)
    }

    /// A place on an edge, if it is one.
    fn facing(self, at: [f32; 2]) -> Option<Edge> {
        let out = self.copper.outward(at)?;
        let edge = Edge { at, out, along: [-out[1], out[0]] };
        (!self.copper.at(edge.place(1.5, 0.0)) && self.copper.at(edge.place(-1.5, 0.0))).then_some(edge)
    }

    fn draw(self, rng: &mut Rng, class: &'static str, sketch: &Sketch) -> Option<Defect> {
        let Sketch { copper, strokes, speckled, middle, across, reach } = sketch;
        let scale = self.copper.scale;
        let outline = Outline::ragged(rng, scale);
        let specks = rng.bits();
        let bounds = strokes
            .iter()
            .map(Shape::bounds)
            .reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])])?;
        let [x0, y0, x1, y1] = bounds.map(|at| (at * scale) as i64);
        let around = outline.most() as i64 + 1;
        let changed = |&(x, y): &(i64, i64)| {
            let at = self.copper.units(x, y);
            let off = (at[0] - middle[0]) * across[0] + (at[1] - middle[1]) * across[1];
            let distance = strokes.iter().map(|stroke| stroke.distance(at)).fold(f32::MAX, f32::min) * scale;
            off.abs() < *reach
                && distance < outline.at(x, y, 4.0 * scale)
                && self.copper.pixel(x, y) != *copper
                && !(*speckled && Rng(specks ^ (x as u64) << 32 ^ y as u64).chance(0.15))
        };
        let inside = |at: i64, limit: i64| (0..limit).contains(&at);
        let rows = (y0 - around..=y1 + around).filter(|&y| inside(y, self.copper.height));
        let pixels = rows.flat_map(|y| (x0 - around..=x1 + around).map(move |x| (x, y)));
        let marked: Vec<(i64, i64)> = pixels.filter(changed).collect();
        let ends =
            |part: fn(&(i64, i64)) -> i64| Some((marked.iter().map(part).min()?, marked.iter().map(part).max()?));
        let ((left, right), (top, bottom)) = (ends(|at| at.0)?, ends(|at| at.1)?);
        let margin = (MARGIN * scale + 0.5) as i64;
        let (x, end) = (left - margin, right + margin + 1);
        let (y, low) = ((top - margin).max(0), (bottom + margin + 1).min(self.copper.height));
        // Smaller would be no more than a ragged outline.
        let large = marked.len() as f32 >= 14.0 * scale * scale;
        if !large || x < 0 || end > self.copper.width {
            return None;
        }
        let (width, height) = ((end - x) as usize, (low - y) as usize);
        let mut marks = vec![false; width * height];
        for (column, row) in marked {
            marks[(row - y) as usize * width + (column - x) as usize] = true;
        }
        Some(Defect { class, x, y, width, height, copper: *copper, marks })
    }
}

/// One to three thick strokes.
fn blob(rng: &mut Rng, copper: bool, middle: [f32; 2], radius: f32, halves: [f32; 2]) -> Sketch {
    let half = rng.range(halves[0], halves[1]).min(radius);
    let away = radius - half;
    let first = rng.count(0, 15) as usize;
    let at = |turn: usize, share: f32| {
        let direction = DIRECTIONS[(first + turn) % 16];
        [0, 1].map(|n| middle[n] + share * away * direction[n])
    };
    let (from, to) = (at(0, 1.0), at(rng.count(5, 11) as usize, rng.range(0.5, 1.0)));
    let bend = at(rng.count(2, 14) as usize, rng.range(0.0, 0.6));
    let [start, waist, end] = [0; 3].map(|_| half * rng.range(0.8, 1.15));
    let mut strokes =
        vec![Shape::Line { from, to: bend, half: [start, waist] }, Shape::Line { from: bend, to, half: [waist, end] }];
    if rng.chance(0.3) {
        let to = at(rng.count(3, 13) as usize, 1.0);
        strokes.push(Shape::Line { from: bend, to, half: [waist, 0.8 * half] });
    }
    Sketch { copper, strokes, speckled: rng.chance(0.12), middle, across: [1.0, 0.0], reach: 2.0 * radius }
}
