use std::time::Instant;

use super::*;
use crate::model::bundle::tests::shipped;
use crate::model::decode::Output;
use crate::model::preprocess::Input;
use crate::model::runtime::{self, Session};
use crate::model::{FeatureMap, golden};

fn base() -> Base {
    Base::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/base")).unwrap()
}

fn all(base: &Base) -> Vec<usize> {
    base.classes(&[]).unwrap()
}

fn setting(size: usize, input: u32, classes: Vec<usize>) -> Setting {
    Setting { size, input, classes, precision: Precision::Float32 }
}

/// The outputs of a bundle for its golden input.
fn outputs(bundle: &Bundle) -> Vec<(OutputKind, FeatureMap)> {
    let golden = &bundle.manifest.golden.input;
    let input = Input {
        width: golden.shape[3],
        height: golden.shape[2],
        data: bundle.tensor(golden).unwrap(),
        ..Input::default()
    };
    let mut session = Session::new(&runtime::load(None).unwrap(), bundle).unwrap();
    let map = |o: &Output| {
        let &[_, channels, height, width] = o.shape.as_slice() else { panic!("{:?}", o.shape) };
        let stride = o.spec.stride as usize;
        (o.spec.kind, FeatureMap { channels, height, width, stride, data: o.data.to_vec() })
    };
    session.outputs(&input, |_, outputs| Ok(outputs.iter().map(map).collect())).unwrap()
}

/// The reference tensors come from PyTorch, which ran the base network at each size: models/train/export.py.
#[test]
fn every_size_computes_what_the_training_side_computed() {
    let base = base();
    assert!(base.sizes().len() >= 6);
    for (number, size) in base.sizes().iter().enumerate() {
        let begun = Instant::now();
        let extracted = base.extract(&setting(number, 256, all(&base))).unwrap();
        let took = begun.elapsed().as_secs_f64();
        assert!(took < 2.0, "size {} took {took:.2} s", size.name);
        let mut worst = 0.0_f32;
        for ((kind, map), spec) in outputs(&extracted.bundle).iter().zip(&base.manifest().outputs) {
            let reference = base.bundle.tensor(&size.golden[&spec.name]).unwrap();
            assert_eq!(reference.len(), map.data.len());
            for (a, b) in map.data.iter().zip(&reference) {
                // Distances are exponentials, up to e^4: there the difference counts relative to the value.
                let unit = if *kind == OutputKind::Distances { b.abs().max(1.0) } else { 1.0 };
                worst = worst.max((a - b).abs() / unit);
            }
        }
        println!("size {:<8} differs by at most {worst:.1e}, extracted in {took:.2} s", size.name);
        assert!(worst <= 1e-3, "size {}: {worst}", size.name);
    }
}

#[test]
fn the_largest_size_is_the_base_network_itself() {
    let base = base();
    let extracted = base.extract(&setting(0, 256, all(&base))).unwrap();
    for ((_, ours), (_, whole)) in outputs(&extracted.bundle).iter().zip(&outputs(&base.bundle)) {
        assert!(ours.data.iter().zip(&whole.data).all(|(a, b)| (a - b).abs() <= 1e-3 * b.abs().max(1.0)));
    }
    assert!(extracted.bundle.model.len() < base.bundle.model.len(), "the norms of other sizes are gone");
}

#[test]
fn a_class_subset_has_its_columns_of_the_whole() {
    let base = base();
    let steel = base.classes(&["steel/*".into(), "pcb/open".into()]).unwrap();
    assert_eq!(steel.len(), 7);
    let some = base.extract(&setting(3, 320, steel.clone())).unwrap();
    let whole = base.extract(&setting(3, 320, all(&base))).unwrap();
    let names: Vec<_> = some.bundle.manifest.classes.iter().map(|c| c.name.as_str()).collect();
    assert!(names[0] == "pcb/open" && names[1..].iter().all(|n| n.starts_with("steel/")), "{names:?}");
    for ((kind, ours), (_, theirs)) in outputs(&some.bundle).iter().zip(&outputs(&whole.bundle)) {
        let plane = ours.width * ours.height;
        let expected: Vec<f32> = match kind {
            OutputKind::Scores => steel.iter().flat_map(|&c| &theirs.data[c * plane..][..plane]).copied().collect(),
            _ => theirs.data.clone(),
        };
        assert!(ours.data.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0)));
    }
    assert!(base.classes(&["wood/*".into()]).unwrap_err().to_string().contains("no class is called wood/*"));
}

#[test]
fn a_model_of_one_size_is_not_elastic_and_says_what_is() {
    let error = Base::open(&shipped()).err().unwrap().to_string();
    assert!(error.contains("is not elastic") && error.contains("models/base"), "{error}");
}

type Change<'a> = &'a dyn Fn(&mut Elastic);

/// Names that the graph does not have, depths beyond it, loops: a message, never a panic.
#[test]
fn a_description_that_does_not_fit_is_refused() {
    let whole = || all(&base());
    let refused = |change: &dyn Fn(&mut Elastic)| {
        let mut base = base();
        change(&mut base.elastic);
        let checked = base.elastic.check(base.manifest());
        let error = checked.and_then(|()| base.extract(&setting(5, 256, whole())).map(|_| ()));
        format!("{:#}", error.unwrap_err())
    };
    let cases: [(Change, &str); 6] = [
        (&|e| e.schema = "inspect.elastic/2".into(), "is not inspect.elastic/1"),
        (&|e| e.sizes[5].width = 4096, "has not what is wanted of axis"),
        (&|e| *e.sizes[5].depths.get_mut("neck").unwrap() = 9, "neck is Some(9)"),
        (&|e| e.sizes[5].norm = "@77".into(), "there is no tensor"),
        (&|e| e.depths.get_mut("neck").unwrap()[1][0].to = "nowhere".into(), "the graph has no value nowhere"),
        (
            &|e| {
                let skip = &mut e.depths.get_mut("neck").unwrap()[1][0];
                skip.from = Some(skip.to.clone());
            },
            "stands for itself",
        ),
    ];
    for (change, expected) in cases {
        let message = refused(change);
        assert!(message.contains(expected), "{expected}: {message}");
    }
    assert!(refused(&|e| e.sizes[5].norm = "@3".into()).contains("batch norm"), "another size's norms do not fit");
}

#[test]
fn golden_vectors_of_another_size_are_noticed() {
    let base = base();
    let setting = setting(4, 256, all(&base));
    let mut wrong = self::base();
    wrong.elastic.sizes[4].golden = base.elastic.sizes[0].golden.clone();
    let extracted = wrong.extract(&setting).unwrap();
    let mut session = Session::new(&runtime::load(None).unwrap(), &extracted.bundle).unwrap();
    assert!(golden::verify(&extracted.bundle, &mut session).is_err());
}

#[test]
fn a_bundle_is_saved_whole_and_replaces_only_a_bundle() {
    let base = base();
    let extracted = base.extract(&setting(5, 128, all(&base))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("line/4");
    store::save(&extracted, &out, false).unwrap();
    assert_eq!(Bundle::open(&out).unwrap().sha256, extracted.bundle.sha256);
    assert!(format!("{:#}", store::save(&extracted, &out, false).unwrap_err()).contains("--force"));
    store::save(&extracted, &out, true).unwrap();
    Bundle::open(&out).unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("line")).unwrap().count(), 1, "nothing is left beside it");
    std::fs::remove_file(out.join("bundle.json")).unwrap();
    assert!(format!("{:#}", store::save(&extracted, &out, true).unwrap_err()).contains("no bundle"));
}

/// Rounding to 8 bits moves the golden outputs a little, wrong wiring would move them a lot.
#[test]
fn every_size_can_be_had_in_8_bits() {
    let base = base();
    for (number, size) in base.sizes().iter().enumerate() {
        let int8 = Setting { precision: Precision::Int8, ..setting(number, 256, all(&base)) };
        let small = base.extract(&int8).unwrap();
        let float = base.extract(&setting(number, 256, all(&base))).unwrap();
        assert!(small.bundle.model.len() * 2 < float.bundle.model.len(), "size {}", size.name);
        let mut session = Session::new(&runtime::load(None).unwrap(), &small.bundle).unwrap();
        golden::verify(&small.bundle, &mut session).unwrap();
        for ((kind, ours), (_, theirs)) in outputs(&small.bundle).iter().zip(&outputs(&float.bundle)) {
            let difference =
                |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32;
            let largest = theirs.data.iter().fold(0.01_f32, |m, v| m.max(v.abs()));
            let mean = difference(&ours.data, &theirs.data) / largest;
            assert!(mean < 0.05, "size {}: {kind:?} differs by {mean} of its largest value on average", size.name);
        }
    }
}
