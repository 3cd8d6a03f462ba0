//! What stands on a board.

use super::{COPPER, DRILLED, Layout, Width};
use crate::frame::scene::Rng;
use crate::frame::scene::board::copper::Shape;
use crate::frame::scene::board::route::{End, Node, PITCH};

/// The kinds of part.
#[derive(Clone, Copy)]
enum Part {
    /// A filled area with holes, sometimes of two halves with a channel between.
    Area,
    /// A row of drilled round pads.
    Connector,
    /// Two rows of pads.
    Circuit,
    /// Two large square pads: a resistor or a capacitor.
    Pair,
    /// A large drilled pad.
    Ring,
    /// A row of long contacts.
    Contacts,
}

/// Places that are tried for a part.
const TRIES: usize = 30;

impl Layout {
    pub(super) fn place_parts(&mut self, rng: &mut Rng) {
        use Part::{Area, Circuit, Connector, Contacts, Pair, Ring};
        // Largest first: what comes late finds little room.
        let parts: &[Part] = match rng.count(0, 3) {
            0 => &[Area, Area, Connector, Circuit, Circuit, Pair, Ring, Ring, Pair, Pair],
            1 => &[Area, Area, Area, Area, Connector, Ring, Ring, Pair, Pair, Circuit],
            2 => &[Contacts, Connector, Circuit, Circuit, Connector, Circuit, Pair, Pair, Ring],
            _ => &[Area, Circuit, Contacts, Connector, Connector, Pair, Pair, Ring, Pair],
        };
        let rounds = 1 + self.grid.rows * self.grid.columns / 700;
        for _ in 0..rounds {
            for part in parts {
                let turned = rng.chance(0.5);
                match part {
                    Area => self.area(rng),
                    Connector => self.connector(rng, turned),
                    Circuit => self.circuit(rng, turned),
                    Pair => self.pair(rng, turned),
                    Ring => self.ring(rng),
                    Contacts => self.contacts(rng, turned),
                }
            }
        }
    }

    /// A free place for so many nodes, with a free node around.
    fn room(&mut self, rng: &mut Rng, columns: usize, rows: usize) -> Option<Node> {
        (0..TRIES).find_map(|_| {
            let (column, row) = self.anywhere(rng);
            let low = (column.saturating_sub(1), row.saturating_sub(1));
            let high = ((column + columns).min(self.grid.columns - 1), (row + rows).min(self.grid.rows - 1));
            let inside = column + columns <= self.grid.columns && row + rows <= self.grid.rows;
            (inside && self.grid.free(low, high)).then_some((column, row))
        })
    }

    /// A pad that nothing else comes close to.
    fn pad(&mut self, node: Node, shape: Shape) {
        let owner = self.grid.owner();
        self.grid.take(node, owner, true);
        self.grid.fence(node);
        self.layers[COPPER].push(shape);
        self.terminal(node, End { node, heading: None }, Width::Any);
    }

    fn connector(&mut self, rng: &mut Rng, turned: bool) {
        let count = rng.count(3, 7) as usize;
        let (radius, hole) = (rng.range(15.5, 19.0), rng.range(0.48, 0.62));
        let (columns, rows) = if turned { (1, 2 * count - 1) } else { (2 * count - 1, 1) };
        let Some((column, row)) = self.room(rng, columns, rows) else { return };
        for n in (0..2 * count).step_by(2) {
            let node = if turned { (column, row + n) } else { (column + n, row) };
            let [x, y] = self.at(node);
            // The first contact has a square pad.
            let square = Shape::Plate { x, y, half_width: radius, half_height: radius, cut: 0.0 };
            self.pad(node, if n == 0 { square } else { Shape::Disc { x, y, radius } });
            self.layers[DRILLED].push(Shape::Disc { x, y, radius: radius * hole });
        }
        self.parts += 1;
    }

    fn circuit(&mut self, rng: &mut Rng, turned: bool) {
        let (count, apart) = (rng.count(4, 8) as usize, rng.count(3, 5) as usize);
        let (across, along) = (rng.range(5.2, 6.5), rng.range(15.0, 18.0));
        let (columns, rows) = if turned { (apart + 3, count) } else { (count, apart + 3) };
        let Some((column, row)) = self.room(rng, columns, rows) else { return };
        let round = rng.chance(0.3);
        // Traces leave it to the outside.
        for (side, out, heading) in [(1, 0, 4), (apart + 1, apart + 2, 0)] {
            for n in 0..count {
                let place = |side: usize| if turned { (column + side, row + n) } else { (column + n, row + side) };
                let (root, node, heading) = (place(side), place(out), if turned { heading } else { (heading + 2) % 8 });
                let [x, y] = self.at(root);
                // Farther to the outside than to the inside, where traces pass.
                let shift = if side == 1 { -5.0 } else { 5.0 };
                let [x, y] = if turned { [x + shift, y] } else { [x, y + shift] };
                let (half_width, half_height) = if turned { (along, across) } else { (across, along) };
                let end = along - across;
                let (dx, dy) = if turned { (end, 0.0) } else { (0.0, end) };
                let long = Shape::line([x - dx, y - dy], [x + dx, y + dy], 2.0 * across);
                let plate = Shape::Plate { x, y, half_width, half_height, cut: 1.0 };
                self.layers[COPPER].push(if round { long } else { plate });
                let owner = self.grid.owner();
                self.grid.take(root, owner, true);
                self.grid.take(node, owner, false);
                self.terminal(root, End { node, heading: Some(heading) }, Width::Thin);
            }
            // Each row is a part of its own, so that what leaves it may come back to the other.
            self.parts += 1;
        }
    }

    fn pair(&mut self, rng: &mut Rng, turned: bool) {
        let apart = rng.count(2, 4) as usize;
        let (along, across) = (rng.range(12.0, 15.0), rng.range(13.0, 17.0));
        let (columns, rows) = if turned { (1, apart + 1) } else { (apart + 1, 1) };
        let Some((column, row)) = self.room(rng, columns, rows) else { return };
        for n in [0, apart] {
            let node = if turned { (column, row + n) } else { (column + n, row) };
            let [x, y] = self.at(node);
            let (half_width, half_height) = if turned { (across, along) } else { (along, across) };
            self.pad(node, Shape::Plate { x, y, half_width, half_height, cut: 2.0 });
        }
        self.parts += 1;
    }

    fn ring(&mut self, rng: &mut Rng) {
        let Some((column, row)) = self.room(rng, 3, 3) else { return };
        let (node, radius) = ((column + 1, row + 1), rng.range(23.0, 30.0));
        let [x, y] = self.at(node);
        let owner = self.grid.owner();
        for (column, row) in (column..column + 3).flat_map(|column| (row..row + 3).map(move |row| (column, row))) {
            self.grid.take((column, row), owner, false);
        }
        self.layers[COPPER].push(Shape::Disc { x, y, radius });
        self.layers[DRILLED].push(Shape::Disc { x, y, radius: radius * rng.range(0.45, 0.62) });
        self.terminal(node, End { node, heading: None }, Width::Any);
        self.parts += 1;
    }

    fn contacts(&mut self, rng: &mut Rng, turned: bool) {
        let count = rng.count(5, 10) as usize;
        let (columns, rows) = if turned { (3, count) } else { (count, 3) };
        let Some((column, row)) = self.room(rng, columns, rows) else { return };
        let (width, end) = (rng.range(11.0, 14.0), usize::from(rng.chance(0.5)));
        for n in 0..count {
            let node = |m: usize| if turned { (column + m, row + n) } else { (column + n, row + m) };
            let owner = self.grid.owner();
            (0..3).for_each(|m| self.grid.take(node(m), owner, true));
            self.layers[COPPER].push(Shape::line(self.at(node(0)), self.at(node(2)), width));
            let node = node(2 * end);
            let heading = if turned { 4 * (1 - end) } else { 6 - 4 * end };
            self.terminal(node, End { node, heading: Some(heading) }, Width::Thin);
        }
        self.parts += 1;
    }

    fn area(&mut self, rng: &mut Rng) {
        let (columns, rows) = (rng.count(4, 11) as usize, rng.count(3, 8) as usize);
        let Some((column, row)) = self.room(rng, columns, rows) else { return };
        let halves = if columns > 5 && rng.chance(0.6) {
            let left = rng.count(2, columns as u32 - 3) as usize;
            vec![(column, left, true), (column + left, columns - left, false)]
        } else {
            vec![(column, columns, false)]
        };
        let channel = rng.range(9.0, 15.0);
        for (column, columns, channelled) in halves {
            let owner = self.grid.owner();
            let ([left, top], [right, bottom]) =
                (self.at((column, row)), self.at((column + columns - 1, row + rows - 1)));
            // As far as the channel, beside which the other half begins.
            let right = if channelled { right + PITCH - 6.0 - channel } else { right + 6.0 };
            let (left, top, bottom) = (left - 6.0, top - 6.0, bottom + 6.0);
            let cut = if rng.chance(0.5) { rng.range(8.0, 24.0) } else { 2.0 };
            let plate = Shape::Plate {
                x: left.midpoint(right),
                y: top.midpoint(bottom),
                half_width: (right - left) / 2.0,
                half_height: (bottom - top) / 2.0,
                cut,
            };
            self.layers[COPPER].push(plate);
            for node in (column..column + columns).flat_map(|column| (row..row + rows).map(move |row| (column, row))) {
                self.grid.take(node, owner, true);
            }
            self.fill(rng, (column, row), (columns, rows));
        }
        self.parts += 1;
    }

    /// Terminals beside an area, and holes in it.
    fn fill(&mut self, rng: &mut Rng, (column, row): Node, (columns, rows): (usize, usize)) {
        if columns < 3 {
            return;
        }
        for _ in 0..rng.count(1, 3) {
            let along = column + rng.count(1, columns as u32 - 2) as usize;
            let above = row > 1 && rng.chance(0.5);
            let (root, near, far) = if above {
                (row, row - 1, row.saturating_sub(2))
            } else {
                (row + rows - 1, row + rows, row + rows + 1)
            };
            let node = (along, far);
            if self.grid.free((along, near.min(far)), (along, near.max(far))) {
                let owner = self.grid.owner();
                self.grid.take((along, near), owner, true);
                self.grid.take(node, owner, false);
                self.terminal((along, root), End { node, heading: Some(if above { 6 } else { 2 }) }, Width::Wide);
            }
        }
        for (column, row) in (1..columns - 1)
            .step_by(2)
            .flat_map(|x| (1..rows - 1).step_by(2).map(move |y| (x, y)))
            .map(|(x, y)| (column + x, row + y))
        {
            let [x, y] = self.at((column, row));
            if rng.chance(0.1) {
                self.layers[DRILLED].push(Shape::Disc { x, y, radius: rng.range(10.0, 14.0) });
            }
        }
    }

    /// Parallel traces along the whole panel, with a bend there and back.
    pub(super) fn bus(&mut self, rng: &mut Rng, width: f32) {
        let (count, pitch) = (rng.count(3, 6), rng.range(18.0, 26.0));
        let down = PITCH * rng.count(1, 3) as f32;
        let deep = (((count - 1) as f32 * pitch + down) / PITCH).ceil() as usize + 1;
        if deep + 8 > self.grid.rows {
            return;
        }
        let first = if rng.chance(0.5) { 0 } else { self.grid.rows - deep };
        let (owner, columns) = (self.grid.owner(), self.grid.columns);
        for node in (first..first + deep).flat_map(|row| (0..columns).map(move |column| (column, row))) {
            self.grid.take(node, owner, true);
        }
        let (there, back) = (width * rng.range(0.2, 0.4), width * rng.range(0.6, 0.75));
        for n in 0..count {
            let y = self.at((0, first))[1] + n as f32 * pitch;
            // The corners lie on the line that halves the angle, or the traces would come closer at 45 degrees.
            let shift = 0.414 * n as f32 * pitch;
            let corners = [
                [-PITCH, y],
                [there - shift, y],
                [there + down - shift, y + down],
                [back + shift, y + down],
                [back + down + shift, y],
                [width + PITCH, y],
            ];
            self.trace(&corners, self.widths[0]);
        }
    }
}
