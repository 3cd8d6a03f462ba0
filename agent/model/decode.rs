//! From the network's outputs to detections: which candidates are over their class's threshold, their boxes in input
//! pixels, and non-maximum suppression per class where the format needs it.
//!
//! Guarantees, whatever the numbers: no panic; boxes have an area and lie within the input; scores are 0 to 1; at most
//! [`pick::MAX_DETECTIONS`] detections, from at most twice [`pick::MAX_CANDIDATES`] candidates in memory. What cannot be
//! an output of the stated format (a shape, a score, a class) is an error: a frame without verdict is better than a
//! verdict without meaning.
//!
//! A candidate of a [`rows`] or [`queries`] format becomes one detection: of the classes whose thresholds it reaches,
//! that of the highest score.

use anyhow::{Context, Result};

use super::Detection;
use super::bundle::{Format, Manifest, OutputKind, OutputSpec};
use pick::Candidates;

mod grid;
pub mod pick;
mod queries;
mod rows;
mod table;
#[cfg(test)]
mod tests;

pub use pick::iou;
pub use table::Table;

/// Overlap over which two boxes of a class are the same thing, where the bundle says nothing.
const OVERLAP: f32 = 0.6;

/// An output as the runtime gave it.
#[derive(Debug, Clone)]
pub struct Output<'a> {
    /// What the manifest says of it.
    pub spec: &'a OutputSpec,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// As many values as the shape says.
    pub data: &'a [f32],
}

/// Decodes the outputs of one network.
#[derive(Debug)]
pub struct Head {
    format: Option<Format>,
    thresholds: Vec<f32>,
    overlap: f32,
}

impl Head {
    /// For a bundle.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        Self {
            format: manifest.format(),
            thresholds: manifest.classes.iter().map(|c| c.threshold).collect(),
            overlap: manifest.detector.and_then(|d| d.overlap).unwrap_or(OVERLAP),
        }
    }

    /// From now on everything from this score on is decoded, whatever the classes' thresholds.
    pub fn listen_from(&mut self, score: f32) {
        self.thresholds.fill(score);
    }

    /// The detections, in pixels of an input of this width and height, best first.
    ///
    /// # Errors
    /// An output cannot be one of the stated format.
    pub fn decode(&self, outputs: &[Output], size: [usize; 2], detections: &mut Vec<Detection>) -> Result<()> {
        detections.clear();
        let Some(format) = self.format else { return Ok(()) };
        let mut candidates = Candidates::new(size);
        let one = |kind: OutputKind| {
            outputs.iter().find(|o| o.spec.kind == kind).with_context(|| format!("there is no output of kind {kind}"))
        };
        match format {
            Format::Fcos => grid::decode(outputs, &self.thresholds, &mut candidates)?,
            Format::Detr | Format::RtDetr => {
                let (logits, boxes) = (one(OutputKind::Logits)?, one(OutputKind::Boxes)?);
                queries::decode(logits, boxes, format == Format::Detr, &self.thresholds, size, &mut candidates)?;
            }
            Format::EndToEnd => rows::decode_final(one(OutputKind::Rows)?, &self.thresholds, &mut candidates)?,
            Format::Yolov8 | Format::Yolov5 | Format::Yolox | Format::YoloxDecoded => {
                rows::decode(one(OutputKind::Rows)?, format, &self.thresholds, size, &mut candidates)?;
            }
        }
        candidates.best(format.needs_suppression().then_some(self.overlap), detections);
        Ok(())
    }

    /// An output's candidates; none where it is a map.
    ///
    /// # Errors
    /// The output cannot be one of the stated format.
    pub fn table<'a>(&self, output: &Output<'a>) -> Result<Option<Table<'a>>> {
        let columns = output.shape.last().copied().unwrap_or_default();
        Ok(match (output.spec.kind, self.format) {
            (OutputKind::Rows, Some(format)) => Some(rows::table(output, format, self.thresholds.len())?),
            (OutputKind::Logits | OutputKind::Boxes, _) => Some(Table::new(output, columns, false)?),
            _ => None,
        })
    }
}
