//! Routes of traces: the cheapest way on a grid from node to node, straight or at 45 degrees, past what is there.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Distance of neighbouring nodes, in units of a picture of 640 px.
pub const PITCH: f32 = 24.0;

/// Nobody's node.
const FREE: u16 = 0;

/// To the right, and on clockwise.
pub const STEPS: [(isize, isize); 8] = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)];

/// Costs of a step straight on or across, and of no turn and one by 45 degrees; boards have no sharper ones.
const STRAIGHT: u32 = 10;
const ACROSS: u32 = 14;
const TURNS: [u32; 2] = [0, 9];

/// Cost of a turn right beside an end, which leaves a short neck.
const NECK: u32 = 25;

/// A node: column and row.
pub type Node = (usize, usize);

/// Where a trace begins or ends.
#[derive(Clone, Copy)]
pub struct End {
    pub node: Node,
    /// The step of [`STEPS`] that it begins with, as if it came from there; none if any will do.
    pub heading: Option<usize>,
}

/// Which node belongs to what.
pub struct Grid {
    /// Nodes a row.
    pub columns: usize,
    /// Rows of nodes.
    pub rows: usize,
    owner: Vec<u16>,
    /// Whether something wide lies on the node, that nothing may pass across close by.
    wide: Vec<bool>,
    /// Of the square to the lower right of a node: whether a trace passes from upper left to lower right, or from
    /// upper right to lower left.
    crossed: Vec<[bool; 2]>,
    owners: u16,
}

impl Grid {
    /// All free.
    pub fn new(columns: usize, rows: usize) -> Self {
        let nodes = columns * rows;
        Self {
            columns,
            rows,
            owner: vec![FREE; nodes],
            wide: vec![false; nodes],
            crossed: vec![[false; 2]; nodes],
            owners: FREE,
        }
    }

    /// Somebody new.
    pub fn owner(&mut self) -> u16 {
        self.owners = self.owners.saturating_add(1);
        self.owners
    }

    fn index(&self, (column, row): Node) -> usize {
        row * self.columns + column
    }

    fn step(&self, (column, row): Node, (right, down): (isize, isize)) -> Option<Node> {
        let (column, row) = (column.checked_add_signed(right)?, row.checked_add_signed(down)?);
        (column < self.columns && row < self.rows).then_some((column, row))
    }

    /// Whether a rectangle of nodes, both corners included, is within the grid and free.
    pub fn free(&self, from: Node, to: Node) -> bool {
        to.0 < self.columns
            && to.1 < self.rows
            && (from.1..=to.1).all(|row| (from.0..=to.0).all(|column| self.owner[self.index((column, row))] == FREE))
    }

    /// Gives a node to somebody.
    pub fn take(&mut self, node: Node, owner: u16, wide: bool) {
        let index = self.index(node);
        self.owner[index] = owner;
        self.wide[index] = wide;
    }

    /// Gives the free neighbours above, below and to both sides to the owner of the node: only he comes so near.
    pub fn fence(&mut self, node: Node) {
        let owner = self.owner[self.index(node)];
        for step in STEPS.into_iter().step_by(2) {
            let Some(index) = self.step(node, step).map(|neighbour| self.index(neighbour)) else { continue };
            if self.owner[index] == FREE {
                self.owner[index] = owner;
            }
        }
    }

    /// Finds the way from an end to another, through free nodes and those of both ends, and gives it to the first
    /// end's owner. None if there is none or it is a long way round.
    pub fn connect(&mut self, from: End, to: End, wide: bool) -> Option<Vec<Node>> {
        let path = self.search(from, to, wide).filter(|path| !meets_itself(path))?;
        let owner = self.owner[self.index(from.node)];
        for pair in path.windows(2) {
            let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
            if x0 != x1 && y0 != y1 {
                let square = self.index((x0.min(x1), y0.min(y1)));
                self.crossed[square][usize::from((x1 > x0) != (y1 > y0))] = true;
            }
        }
        for &node in &path {
            let index = self.index(node);
            if self.owner[index] == FREE {
                self.take(node, owner, wide);
            }
        }
        if wide {
            path.iter().for_each(|&node| self.fence(node));
        }
        Some(path)
    }

    fn search(&self, start: End, end: End, wide: bool) -> Option<Vec<Node>> {
        let (from, to) = (start.node, end.node);
        let own = [FREE, self.owner[self.index(from)], self.owner[self.index(to)]];
        let least = |node: Node| {
            let (dx, dy) = (node.0.abs_diff(to.0) as u32, node.1.abs_diff(to.1) as u32);
            STRAIGHT * dx.abs_diff(dy) + ACROSS * dx.min(dy)
        };
        let limit = 3 * least(from) + 100;
        // A state is a node and the direction from which it was entered.
        let mut best = vec![u32::MAX; self.owner.len() * 8];
        let mut before = vec![usize::MAX; best.len()];
        let mut open = BinaryHeap::new();
        for turn in (0..8).filter(|&turn| start.heading.is_none_or(|heading| heading == turn)) {
            let state = self.index(from) * 8 + turn;
            best[state] = 0;
            open.push(Reverse((least(from), state)));
        }
        while let Some(Reverse((promise, state))) = open.pop() {
            let node = (state / 8 % self.columns, state / 8 / self.columns);
            // Into the end as out of it.
            if node == to && end.heading.is_none_or(|heading| TURNS.len() > bend(state % 8, (heading + 4) % 8)) {
                return Some(self.walked(&before, state));
            }
            if promise > limit || promise > best[state].saturating_add(least(node)) {
                continue;
            }
            for (turn, direction) in STEPS.into_iter().enumerate() {
                let Some(&(mut cost)) = TURNS.get(bend(state % 8, turn)) else { continue };
                if cost > 0 && (near(node, from) || near(node, to)) {
                    cost += NECK;
                }
                let Some(next) = self.step(node, direction).filter(|&next| self.passable(node, next, own, wide)) else {
                    continue;
                };
                let cost = best[state] + cost + if turn % 2 == 0 { STRAIGHT } else { ACROSS };
                let reached = self.index(next) * 8 + turn;
                if cost < best[reached] {
                    (best[reached], before[reached]) = (cost, state);
                    open.push(Reverse((cost + least(next), reached)));
                }
            }
        }
        None
    }

    fn walked(&self, before: &[usize], last: usize) -> Vec<Node> {
        let states =
            std::iter::successors(Some(last), |&state| Some(before[state]).filter(|&state| state != usize::MAX));
        let mut path: Vec<Node> = states.map(|state| (state / 8 % self.columns, state / 8 / self.columns)).collect();
        path.reverse();
        path
    }

    fn passable(&self, from: Node, to: Node, own: [u16; 3], wide: bool) -> bool {
        let mine = |node: Node| own.contains(&self.owner[self.index(node)]);
        // Nor along something wide that is its own already: it would stick out to the side.
        if !mine(to) || (self.wide[self.index(from)] && self.wide[self.index(to)]) {
            return false;
        }
        if wide && !STEPS.iter().filter_map(|&step| self.step(to, step)).all(mine) {
            return false;
        }
        if from.0 == to.0 || from.1 == to.1 {
            return true;
        }
        let square = self.index((from.0.min(to.0), from.1.min(to.1)));
        let rising = (to.0 > from.0) != (to.1 > from.1);
        let clear = |node: Node| mine(node) || !(wide || self.wide[self.index(node)]);
        !self.crossed[square][usize::from(!rising)] && clear((from.0, to.1)) && clear((to.0, from.1))
    }
}

/// Multiples of 45 degrees between two steps.
fn bend(from: usize, to: usize) -> usize {
    let bend = (to + 8 - from) % 8;
    bend.min(8 - bend)
}

/// Whether a way comes back to one of its nodes or crosses itself between them.
fn meets_itself(path: &[Node]) -> bool {
    // Twice the middle of each step.
    let middles: Vec<Node> = path.windows(2).map(|pair| (pair[0].0 + pair[1].0, pair[0].1 + pair[1].1)).collect();
    let again = |places: &[Node]| (1..places.len()).any(|n| places[..n].contains(&places[n]));
    again(path) || again(&middles)
}

fn near(a: Node, b: Node) -> bool {
    a != b && a.0.abs_diff(b.0) < 2 && a.1.abs_diff(b.1) < 2
}
