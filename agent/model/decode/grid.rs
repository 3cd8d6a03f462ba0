//! Maps of cells: FCOS (Tian et al. 2019), inspectd's own form. A cell over a class's threshold gives a box around its
//! centre.

use anyhow::{Result, ensure};

use super::Output;
use super::pick::Candidates;
use crate::model::bundle::OutputKind;

pub(super) fn decode(outputs: &[Output], thresholds: &[f32], candidates: &mut Candidates) -> Result<()> {
    let of = |kind| outputs.iter().filter(move |o| o.spec.kind == kind);
    for scores in of(OutputKind::Scores) {
        let stride = scores.spec.stride;
        let Some(distances) = of(OutputKind::Distances).find(|d| d.spec.stride == stride) else { continue };
        let &[1, classes, height, width] = scores.shape.as_slice() else {
            anyhow::bail!("output {} is {:?}, not (1, classes, rows, columns)", scores.spec.name, scores.shape);
        };
        let plane = width * height;
        ensure!(
            classes == thresholds.len() && scores.data.len() == classes * plane,
            "output {} is {:?}, for {} classes",
            scores.spec.name,
            scores.shape,
            thresholds.len()
        );
        ensure!(
            distances.shape == [1, 4, height, width] && distances.data.len() == 4 * plane,
            "output {} is {:?}, not (1, 4, {height}, {width})",
            distances.spec.name,
            distances.shape
        );
        let stride = stride as f32;
        for (class, threshold) in thresholds.iter().enumerate() {
            let values = &scores.data[class * plane..][..plane];
            for (cell, &score) in values.iter().enumerate().filter(|(_, s)| **s >= *threshold) {
                let centre = |n: usize| (n as f32 + 0.5) * stride;
                let (x, y) = (centre(cell % width), centre(cell / width));
                let [left, top, right, bottom] = [0, 1, 2, 3].map(|k| distances.data[k * plane + cell] * stride);
                candidates.offer(class, score, [x - left, y - top, x + right, y + bottom]);
            }
        }
    }
    Ok(())
}
