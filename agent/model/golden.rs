//! Proof that this runtime on this machine computes what was trained: the bundle's golden input must give its golden
//! outputs.

use anyhow::{Context, Result, ensure};

use super::bundle::Bundle;
use super::preprocess::Input;
use super::runtime::Session;

/// Runs the golden input and compares every output; gives the largest difference, as a share of the tolerance.
///
/// # Errors
/// A difference over the tolerance, with the output's name.
pub fn verify(bundle: &Bundle, session: &mut Session) -> Result<f32> {
    let golden = &bundle.manifest.golden;
    let &[1, 3, height, width] = golden.input.shape.as_slice() else {
        anyhow::bail!("the golden input is {:?}, not (1, 3, height, width)", golden.input.shape);
    };
    let input = Input { width, height, data: bundle.tensor(&golden.input)?, ..Input::default() };
    let maps = session.maps(&input)?;
    let mut worst = 0.0_f32;
    for (spec, (_, map)) in bundle.manifest.outputs.iter().zip(&maps) {
        let expected = golden.outputs.get(&spec.name).context("an output has no golden vector")?;
        ensure!(
            expected.shape == [1, map.channels, map.height, map.width],
            "golden output {} is {:?}",
            spec.name,
            expected.shape
        );
        let values = bundle.tensor(expected)?;
        ensure!(values.iter().all(|v| v.is_finite()), "golden output {} holds values that are no numbers", spec.name);
        let largest = values.iter().fold(1e-6_f32, |m, v| m.max(v.abs()));
        let difference = values.iter().zip(&map.data).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs())) / largest;
        ensure!(
            difference <= golden.tolerance,
            "output {} differs by {difference:.2e} of its largest value, more than {:.0e}: this runtime does not \
             compute what was trained",
            spec.name,
            golden.tolerance
        );
        worst = worst.max(difference / golden.tolerance);
    }
    Ok(worst)
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
