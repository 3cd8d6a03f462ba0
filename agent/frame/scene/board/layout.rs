//! The design of a board: parts on a grid, and the traces that join them.
//!
//! Lengths are in units of a picture of 640 px.

mod part;

use super::copper::{Copper, Outline, Shape};
use super::route::{End, Grid, Node, PITCH};
use crate::frame::scene::Rng;

/// A straight piece of a trace.
#[derive(Debug, Clone, Copy)]
pub struct Trace {
    pub from: [f32; 2],
    pub to: [f32; 2],
    pub width: f32,
}

/// Which traces a terminal takes.
#[derive(Clone, Copy, PartialEq)]
enum Width {
    Thin,
    Wide,
    Any,
}

/// Where a trace may end.
#[derive(Clone, Copy)]
struct Terminal {
    end: End,
    /// To which the trace goes on.
    root: Node,
    part: usize,
    wide: Width,
    used: bool,
}

/// A design, as far as it is drawn.
pub struct Layout {
    /// Copper, and what is drilled out of it.
    layers: [Vec<Shape>; 2],
    /// For finding places of defects.
    pub traces: Vec<Trace>,
    grid: Grid,
    /// Place of the first node.
    origin: [f32; 2],
    terminals: Vec<Terminal>,
    parts: usize,
    /// Width of ordinary traces, and of wide ones.
    widths: [f32; 2],
}

const COPPER: usize = 0;
const DRILLED: usize = 1;

impl Layout {
    /// Draws a design of this size.
    pub fn new(rng: &mut Rng, width: f32, height: f32) -> Self {
        let nodes = |side: f32| ((side - PITCH) / PITCH).max(0.0) as usize;
        let (columns, rows) = (nodes(width), nodes(height));
        let first = |side: f32, nodes: usize| (side - nodes.saturating_sub(1) as f32 * PITCH) / 2.0;
        let mut layout = Self {
            layers: Default::default(),
            traces: Vec::new(),
            grid: Grid::new(columns, rows),
            origin: [first(width, columns), first(height, rows)],
            terminals: Vec::new(),
            parts: 0,
            widths: [rng.range(8.5, 12.0), rng.range(18.0, 26.0)],
        };
        if columns > 2 && rows > 2 {
            if rng.chance(0.5) {
                layout.bus(rng, width);
            }
            layout.place_parts(rng);
            layout.join_parts(rng);
            layout.join_vias(rng);
        }
        layout
    }

    /// Lays the copper.
    pub fn paint(&self, copper: &mut Copper, outline: &Outline) {
        self.layers[COPPER].iter().for_each(|shape| copper.paint(shape, outline, true));
        self.layers[DRILLED].iter().for_each(|shape| copper.paint(shape, outline, false));
    }

    /// Whether a place is in a drilled hole.
    pub fn is_hole(&self, at: [f32; 2]) -> bool {
        self.layers[DRILLED].iter().any(|shape| shape.distance(at) < 1.0)
    }

    fn at(&self, (column, row): Node) -> [f32; 2] {
        [self.origin[0] + column as f32 * PITCH, self.origin[1] + row as f32 * PITCH]
    }

    fn terminal(&mut self, root: Node, end: End, wide: Width) {
        let part = self.parts;
        self.terminals.push(Terminal { end, root, part, wide, used: false });
    }

    /// Joins each terminal with one of the nearest of another part. Neighbours go to neighbours where they can, so
    /// that their traces run side by side.
    fn join_parts(&mut self, rng: &mut Rng) {
        let mut partner = usize::MAX;
        for n in 0..self.terminals.len() {
            let Terminal { end: End { node, .. }, part, wide, used, .. } = self.terminals[n];
            if used {
                continue;
            }
            let away = |other: &Terminal| {
                let far = other.end.node.0.abs_diff(node.0) + other.end.node.1.abs_diff(node.1);
                (far > 3).then_some(if other.part == partner { far / 2 } else { far })
            };
            let fit = |other: &Terminal| wide == other.wide || wide == Width::Any || other.wide == Width::Any;
            let others = self.terminals.iter().enumerate();
            let others = others.filter(|(_, other)| !other.used && other.part != part && fit(other));
            let mut near: Vec<(usize, usize)> = others.filter_map(|(n, other)| Some((away(other)?, n))).collect();
            near.sort_unstable();
            for &(_, other) in near.iter().take(4) {
                let wide = match (wide, self.terminals[other].wide) {
                    (Width::Any, Width::Any) => rng.chance(0.6),
                    (one, other) => one == Width::Wide || other == Width::Wide,
                };
                if self.join(self.terminals[n], self.terminals[other], wide) {
                    partner = self.terminals[other].part;
                    (self.terminals[n].used, self.terminals[other].used) = (true, true);
                    break;
                }
            }
        }
    }

    /// What is left goes to vias, and some vias to others, as to the other side of the board.
    fn join_vias(&mut self, rng: &mut Rng) {
        for n in 0..self.terminals.len() {
            let terminal = self.terminals[n];
            if !terminal.used && terminal.wide != Width::Wide {
                self.join_via(rng, terminal);
            }
        }
        for _ in 0..self.grid.columns * self.grid.rows / 20 {
            let node = self.anywhere(rng);
            let from = self.room_for_via(node).and_then(|via| Some((via, self.join_via(rng, via)?)));
            if let Some((from, radius)) = from {
                self.via(from, radius);
            }
        }
    }

    /// To a via some nodes away; its radius, if there is room.
    fn join_via(&mut self, rng: &mut Rng, from: Terminal) -> Option<f32> {
        let (column, row) = from.end.node;
        let radius = rng.range(10.5, 13.0);
        (0..12).find_map(|_| {
            let away = |rng: &mut Rng, from: usize| (from + rng.count(0, 14) as usize).checked_sub(7);
            let node = (away(rng, column)?, away(rng, row)?);
            let far = node.0.abs_diff(column) + node.1.abs_diff(row);
            let via = self.room_for_via(node).filter(|_| far > 3)?;
            self.join(from, via, false).then(|| self.via(via, radius))?;
            Some(radius)
        })
    }

    /// Takes a node with free ones all around.
    fn room_for_via(&mut self, node: Node) -> Option<Terminal> {
        let corner = (node.0.checked_sub(1)?, node.1.checked_sub(1)?);
        self.grid.free(corner, (node.0 + 1, node.1 + 1)).then(|| {
            let owner = self.grid.owner();
            self.grid.take(node, owner, true);
            Terminal { end: End { node, heading: None }, root: node, part: usize::MAX, wide: Width::Thin, used: false }
        })
    }

    fn via(&mut self, via: Terminal, radius: f32) {
        let [x, y] = self.at(via.root);
        self.layers[COPPER].push(Shape::Disc { x, y, radius });
    }

    fn anywhere(&self, rng: &mut Rng) -> Node {
        let below = |rng: &mut Rng, count: usize| rng.count(0, count.max(1) as u32 - 1) as usize;
        (below(rng, self.grid.columns), below(rng, self.grid.rows))
    }

    /// Lays a trace if there is a way.
    fn join(&mut self, from: Terminal, to: Terminal, wide: bool) -> bool {
        let Some(mut path) = self.grid.connect(from.end, to.end, wide) else { return false };
        path.insert(0, from.root);
        path.push(to.root);
        path.dedup();
        let width = self.widths[usize::from(wide)];
        let mut corners = vec![path[0]];
        for three in path.windows(3) {
            let [before, here, after] = [0, 1, 2].map(|n| (three[n].0 as i64, three[n].1 as i64));
            let turn = |from: (i64, i64), to: (i64, i64)| ((to.0 - from.0).signum(), (to.1 - from.1).signum());
            if turn(before, here) != turn(here, after) {
                corners.push(three[1]);
            }
        }
        corners.push(path[path.len() - 1]);
        let corners: Vec<[f32; 2]> = corners.into_iter().map(|node| self.at(node)).collect();
        self.trace(&corners, width);
        true
    }

    fn trace(&mut self, corners: &[[f32; 2]], width: f32) {
        for pair in corners.windows(2) {
            self.layers[COPPER].push(Shape::line(pair[0], pair[1], width));
            self.traces.push(Trace { from: pair[0], to: pair[1], width });
        }
    }
}
