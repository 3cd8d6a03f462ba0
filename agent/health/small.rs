//! The picture, reduced: at most [`SIDE`] pixels along its longer side, each the mean of a square of pixels.

use super::sample::Raster;

/// Pixels along the longer side at most.
pub const SIDE: usize = 160;
/// Of each square at least so many rows are read.
const ROWS: usize = 4;

/// A reduced grey picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Small {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Pixels of the picture that one of these is wide and high.
    pub factor: usize,
    /// `width * height` grey values.
    pub data: Vec<u8>,
}

impl Small {
    /// Reduces; `look` is shown each row that is read, in grey.
    pub fn of<const C: usize>(raster: &Raster<'_, C>, mut look: impl FnMut(&[u8])) -> Self {
        if raster.width == 0 {
            return Self::default();
        }
        let factor = raster.width.max(raster.height).div_ceil(SIDE);
        let (width, height) = ((raster.width / factor).max(1), (raster.height / factor).max(1));
        let step = (factor / ROWS).max(1);
        let mut row = vec![0_u8; raster.width];
        let mut sums = vec![0_u32; raster.width];
        let mut data = Vec::with_capacity(width * height);
        for y in 0..height {
            sums.fill(0);
            let mut rows = 0;
            for line in (y * factor..((y + 1) * factor).min(raster.height)).step_by(step) {
                raster.grey(0, line, &mut row);
                look(&row);
                sums.iter_mut().zip(&row).for_each(|(sum, v)| *sum = sum.wrapping_add(u32::from(*v)));
                rows += 1;
            }
            for square in sums.chunks(factor).take(width) {
                let n = (rows * square.len() as u32).max(1);
                data.push(((square.iter().fold(0, |a: u32, b| a.wrapping_add(*b)) + n / 2) / n) as u8);
            }
        }
        Self { width, height, factor, data }
    }

    /// One row.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.width..(y + 1) * self.width]
    }

    /// Means of squares of `k` pixels; what does not fill one is left out.
    pub fn binned(&self, k: usize) -> Self {
        let (width, height) = (self.width / k, self.height / k);
        let mut data = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let rows = (y * k..(y + 1) * k).map(|line| &self.row(line)[x * k..(x + 1) * k]);
                let sum: usize = rows.flatten().map(|v| usize::from(*v)).sum();
                data.push(((sum + k * k / 2) / (k * k)) as u8);
            }
        }
        Self { width, height, factor: self.factor * k, data }
    }
}
