//! A tensor of candidates, which may lie either way: `(1, rows, columns)` or `(1, columns, rows)`.
//!
//! Which one shows in the number of columns, which the format and the classes give.

use anyhow::{Result, bail, ensure};

use super::Output;

/// A tensor of rows and columns.
pub struct Table<'a> {
    pub(super) data: &'a [f32],
    /// Candidates.
    pub rows: usize,
    /// Values of a candidate.
    pub columns: usize,
    /// A column's values lie together.
    pub(super) by_column: bool,
}

impl<'a> Table<'a> {
    /// Finds out how the tensor lies; `by_column` where both would do.
    ///
    /// # Errors
    /// It has not that many columns.
    pub(super) fn new(output: &Output<'a>, columns: usize, by_column: bool) -> Result<Self> {
        let (name, shape, data) = (&output.spec.name, output.shape.as_slice(), output.data);
        let &[1, a, b] = shape else { bail!("output {name} is {shape:?}, not (1, rows, {columns})") };
        let (rows, by_column) = match (a == columns, b == columns) {
            (true, true) => (columns, by_column),
            (true, false) => (b, true),
            (false, true) => (a, false),
            (false, false) => bail!(
                "output {name} is {shape:?}, and neither side has the {columns} columns of its format and classes: is \
                 detector.format right, and are all classes listed?"
            ),
        };
        ensure!(Some(data.len()) == rows.checked_mul(columns), "output {name} does not hold what its shape says");
        Ok(Self { data, rows, columns, by_column })
    }

    /// A value.
    #[must_use]
    pub fn at(&self, row: usize, column: usize) -> f32 {
        self.data[if self.by_column { column * self.rows + row } else { row * self.columns + column }]
    }

    /// The first four values of a row.
    pub(super) fn bbox(&self, row: usize) -> [f32; 4] {
        [0, 1, 2, 3].map(|column| self.at(row, column))
    }

    /// A column from the first row to the last.
    pub fn column(&self, column: usize) -> impl Iterator<Item = f32> {
        (0..self.rows).map(move |row| self.at(row, column))
    }
}
