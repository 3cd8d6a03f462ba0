//! One tensor with a candidate a row: the YOLO families.

use anyhow::{Result, ensure};

use super::Output;
use super::pick::{Candidates, top};
use super::table::Table;
use crate::model::bundle::Format;

/// Strides of YOLOX's cells, in the order of its export.
const STRIDES: [usize; 3] = [8, 16, 32];
/// A score may be this far out of 0..=1 before it is no score: rounding of sums and products.
const SLACK: f32 = 0.01;

/// The rows of an output of this format.
pub(super) fn table<'a>(output: &Output<'a>, format: Format, classes: usize) -> Result<Table<'a>> {
    match format {
        Format::Yolov8 => Table::new(output, 4 + classes, true),
        Format::EndToEnd => Table::new(output, 6, false),
        _ => Table::new(output, 5 + classes, false),
    }
}

/// Rows of box, perhaps objectness, and class scores.
pub(super) fn decode(
    output: &Output,
    format: Format,
    thresholds: &[f32],
    [width, height]: [usize; 2],
    candidates: &mut Candidates,
) -> Result<()> {
    let table = table(output, format, thresholds.len())?;
    let objectness = format != Format::Yolov8;
    let first = 4 + usize::from(objectness);
    let name = &output.spec.name;
    are_scores(&table, 4, name)?;
    let cells = (format == Format::Yolox).then(|| cells(width, height));
    if let Some(cells) = &cells {
        ensure!(
            cells.len() == table.rows,
            "output {name} has {} rows, but an input of {width}x{height} has {} cells of stride 8, 16 and 32",
            table.rows,
            cells.len()
        );
    }
    let lowest = thresholds.iter().copied().fold(f32::INFINITY, f32::min);
    for row in hopeful(&table, first, lowest) {
        let object = if objectness { table.at(row, 4).clamp(0.0, 1.0) } else { 1.0 };
        let scores = (0..thresholds.len()).map(|class| object * table.at(row, first + class));
        let Some((class, score)) = top(scores, thresholds) else { continue };
        let mut bbox = table.bbox(row);
        if let Some([x, y, stride]) = cells.as_ref().map(|cells| cells[row]) {
            bbox = [(bbox[0] + x) * stride, (bbox[1] + y) * stride, bbox[2].exp() * stride, bbox[3].exp() * stride];
        }
        candidates.offer_centred(class, score, bbox);
    }
    Ok(())
}

/// Rows that may reach the lowest threshold, found in the order in which the values lie in memory.
fn hopeful(table: &Table, first: usize, lowest: f32) -> impl Iterator<Item = usize> {
    let mut reach = vec![false; table.rows];
    if first > 4 {
        // No class score is over the objectness, give or take the slack.
        for (row, it) in reach.iter_mut().enumerate() {
            *it = table.at(row, 4) * (1.0 + SLACK) >= lowest;
        }
    } else if table.by_column {
        for column in table.data[first * table.rows..].chunks_exact(table.rows.max(1)) {
            for (it, score) in reach.iter_mut().zip(column) {
                *it |= *score >= lowest;
            }
        }
    } else {
        for (it, row) in reach.iter_mut().zip(table.data.chunks_exact(table.columns)) {
            *it = row[first..].iter().any(|score| *score >= lowest);
        }
    }
    reach.into_iter().enumerate().filter_map(|(row, it)| it.then_some(row))
}

/// Refuses what lies out of 0..=1 from this column on.
fn are_scores(table: &Table, first: usize, name: &str) -> Result<()> {
    let fold = |(low, high): (f32, f32), score: &f32| (low.min(*score), high.max(*score));
    let (low, high) = if table.by_column {
        table.data[first * table.rows..].iter().fold((0.0, 0.0), fold)
    } else {
        table.data.chunks_exact(table.columns).flat_map(|row| &row[first..]).fold((0.0, 0.0), fold)
    };
    ensure!(
        low >= -SLACK && high <= 1.0 + SLACK,
        "output {name} has scores from {low} to {high}, which must lie in 0 to 1: is detector.format right, and does the \
         network end with the sigmoid?"
    );
    Ok(())
}

/// Column, row and stride of every cell.
fn cells(width: usize, height: usize) -> Vec<[f32; 3]> {
    let of = |stride: usize| {
        let (columns, rows) = (width / stride, height / stride);
        (0..columns * rows).map(move |n| [(n % columns) as f32, (n / columns) as f32, stride as f32])
    };
    STRIDES.into_iter().flat_map(of).collect()
}

/// Rows of corners, score and class: nothing is left to do but to look at the thresholds.
pub(super) fn decode_final(output: &Output, thresholds: &[f32], candidates: &mut Candidates) -> Result<()> {
    let table = table(output, Format::EndToEnd, thresholds.len())?;
    let name = &output.spec.name;
    for row in 0..table.rows {
        let (score, class) = (table.at(row, 4), table.at(row, 5));
        if score.is_nan() || class.is_nan() {
            continue;
        }
        ensure!(
            (-SLACK..=1.0 + SLACK).contains(&score),
            "output {name} has the score {score}, which must lie in 0 to 1: is detector.format right?"
        );
        // Rows that are only there to fill up have no score.
        if score <= 0.0 {
            continue;
        }
        let known = (0.0..thresholds.len() as f32).contains(&class.round()) && (class - class.round()).abs() < SLACK;
        ensure!(
            known,
            "output {name} has the class {class}; the manifest's {} classes are numbered from 0",
            thresholds.len()
        );
        let class = class.round() as usize;
        if thresholds.get(class).is_some_and(|threshold| score >= *threshold) {
            candidates.offer(class, score, table.bbox(row));
        }
    }
    Ok(())
}
