//! Proof that this runtime on this machine computes what was trained: the bundle's golden input must give its golden
//! outputs, all of them, and they must be what the manifest says they are.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

use super::FeatureMap;
use super::bundle::{Bundle, Format, OutputKind};
use super::decode::{Head, Output};
use super::preprocess::Input;
use super::runtime::{Forward, Session};

/// Scores are compared on a scale of at least this, or of the tolerance where that is more: what is far below every
/// threshold need not agree to four digits.
const LEAST_SCORE: f32 = 0.01;
/// Everything else is compared on a scale of at least this.
const LEAST: f32 = 1e-6;

/// Runs the golden input and compares every output; gives the largest difference, as a share of the tolerance.
///
/// # Errors
/// A difference over the tolerance, with the output's name; an output that cannot be decoded.
pub fn verify(bundle: &Bundle, session: &mut Session) -> Result<f32> {
    let golden = &bundle.manifest.golden;
    let input = input(bundle)?;
    let unordered = bundle.manifest.format().is_some_and(Format::is_unordered);
    session.outputs(&input, |head, outputs| {
        let mut worst = 0.0_f32;
        for output in outputs {
            let name = &output.spec.name;
            let expected = golden.outputs.get(name).with_context(|| format!("output {name} has no golden vector"))?;
            ensure!(
                expected.shape == output.shape,
                "golden output {name} is {:?}, the network gives {:?}",
                expected.shape,
                output.shape
            );
            let values = bundle.tensor(expected)?;
            ensure!(values.iter().all(|v| v.is_finite()), "golden output {name} holds values that are no numbers");
            let expected = Output { spec: output.spec, shape: output.shape.clone(), data: &values };
            let difference = difference(&expected, output, head, unordered, golden.tolerance)?;
            ensure!(
                difference <= golden.tolerance,
                "output {name} differs by {difference:.2e} of its largest value, more than {:.0e}: this runtime does \
                 not compute what was trained",
                golden.tolerance
            );
            worst = worst.max(difference / golden.tolerance);
        }
        head.decode(outputs, [input.width, input.height], &mut Vec::new())
            .context("the golden outputs cannot be decoded")?;
        Ok(worst)
    })
}

/// The feature maps that this network makes here of the golden input.
///
/// # Errors
/// The forward pass failed.
pub fn features(bundle: &Bundle, session: &mut Session) -> Result<Vec<FeatureMap>> {
    let mut forward = Forward::default();
    session.run(&input(bundle)?, &mut forward)?;
    Ok(forward.features)
}

fn input(bundle: &Bundle) -> Result<Input> {
    let golden = &bundle.manifest.golden.input;
    let &[1, 3, height, width] = golden.shape.as_slice() else {
        bail!("the golden input is {:?}, not (1, 3, height, width)", golden.shape);
    };
    Ok(Input { width, height, data: bundle.tensor(golden)?, ..Input::default() })
}

/// The largest difference, as a share of the largest value of its part: boxes are hundreds of pixels, and the scores
/// beside them at most 1.
fn difference(golden: &Output, output: &Output, head: &Head, unordered: bool, tolerance: f32) -> Result<f32> {
    let scores = matches!(output.spec.kind, OutputKind::Scores | OutputKind::Rows);
    let least = if scores { LEAST_SCORE.max(tolerance) } else { LEAST };
    let (Some(expected), Some(found)) = (head.table(golden)?, head.table(output)?) else {
        let largest = golden.data.iter().fold(least, |most, v| most.max(v.abs()));
        return Ok(apart(golden.data, output.data) / largest);
    };
    let part = |columns: Range<usize>, least: f32| {
        let (mut most, mut largest) = (0.0_f32, least);
        for column in columns {
            let mut pair = [&expected, &found].map(|table| table.column(column).collect::<Vec<_>>());
            if unordered {
                // Candidates of nearly the same score may change places from machine to machine.
                pair.iter_mut().for_each(|values| values.sort_unstable_by(f32::total_cmp));
            }
            most = most.max(apart(&pair[0], &pair[1]));
            largest = pair[0].iter().fold(largest, |most, v| most.max(v.abs()));
        }
        most / largest
    };
    let columns = expected.columns;
    Ok(match output.spec.kind {
        // Rows in any order are the final ones, which end with score and class.
        OutputKind::Rows if unordered => part(0..4, LEAST).max(part(4..5, least)).max(part(5..columns, least)),
        OutputKind::Rows => part(0..4, LEAST).max(part(4..columns, least)),
        _ => part(0..columns, least),
    })
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bundle::tests::shipped;
    use crate::model::runtime;

    #[test]
    fn the_shipped_bundle_computes_what_was_trained() {
        let bundle = Bundle::open(&shipped()).unwrap();
        let mut session = Session::new(&runtime::load(None).unwrap(), &bundle).unwrap();
        let worst = verify(&bundle, &mut session).unwrap();
        assert!(worst < 0.5, "{worst} of the tolerance");
        let mut strict = bundle;
        strict.manifest.golden.tolerance = 1e-9;
        assert!(verify(&strict, &mut session).is_err(), "a tolerance of nothing must not hold");
    }
}
