//! How well regions are called after what was taught, from 1, 3 and 5 examples; and `inspectd teach`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use inspectd::anomaly::memory::Mark;
use inspectd::config::{ClassName, Severity};
use inspectd::frame::still;
use inspectd::frame::view::View;
use inspectd::inspector::Inspector;
use inspectd::model::bundle::Bundle;
use inspectd::model::runtime::{self, Session};
use inspectd::taught::{Lesson, Lessons, Look, SCHEMA};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::support::{INSPECTD, bundle, data, picture, soak};

/// A labelled region.
struct Shown {
    class: String,
    file: String,
    look: Look,
}

/// The regions of a set, at most so many pictures of it, drawn by a seed.
fn shown(set: &Path, pictures: usize) -> Vec<Shown> {
    let bundle = Bundle::open(&bundle()).unwrap();
    let session = Session::new(&runtime::load(None).unwrap(), &bundle).unwrap();
    let mut inspector = Inspector::new(session, &bundle);
    let set_of: Value = serde_json::from_slice(&std::fs::read(set.join("annotations.json")).unwrap()).unwrap();
    let boxes = |image: &Value| image["boxes"].as_array().unwrap().clone();
    let mut images: Vec<Value> =
        set_of["images"].as_array().unwrap().iter().filter(|i| !boxes(i).is_empty()).cloned().collect();
    images.shuffle(&mut StdRng::seed_from_u64(1));
    let mut out = Vec::new();
    for entry in images.iter().take(pictures) {
        let file = entry["file"].as_str().unwrap().to_owned();
        let image = still::read(&set.join(&file), 1 << 24).unwrap();
        let placement = inspector.look(&image, &View::default()).unwrap();
        for labelled in boxes(entry) {
            let side = |k: usize| labelled["xyxy"][k].as_f64().unwrap() as f32;
            let bbox = placement.to_input([side(0), side(1), side(2), side(3)]);
            let look = Look::of(&inspector.forward.features, bbox).unwrap();
            out.push(Shown { class: labelled["class"].as_str().unwrap().to_owned(), file: file.clone(), look });
        }
    }
    out
}

/// Mean over the classes of the share that is named right, when `examples` of each class were taught; and the same where
/// regions that are too far from all count as wrong.
fn accuracy(regions: &[Shown], examples: usize, rng: &mut StdRng) -> (f64, f64) {
    let classes: BTreeSet<&str> = regions.iter().map(|r| r.class.as_str()).collect();
    let (mut lessons, mut taught) = (Lessons::default(), BTreeSet::new());
    let mark = Mark(regions[0].look.values().to_vec());
    for class in &classes {
        let mut of_class: Vec<&Shown> = regions.iter().filter(|r| r.class == *class).collect();
        of_class.shuffle(rng);
        let chosen = &of_class[..examples.min(of_class.len())];
        taught.extend(chosen.iter().map(|r| r.file.as_str()));
        lessons.put(Lesson {
            schema: SCHEMA.into(),
            class: ClassName::new(class).unwrap(),
            severity: Severity::Major,
            harmless: false,
            examples: chosen.iter().map(|r| r.look.values().to_vec()).collect(),
            mark: mark.clone(),
            at: jiff::Timestamp::UNIX_EPOCH,
            by: "test".into(),
        });
    }
    let mut right: BTreeMap<&str, [f64; 3]> = BTreeMap::new();
    for region in regions.iter().filter(|r| !taught.contains(r.file.as_str())) {
        let nearest =
            lessons.iter().min_by(|a, b| a.distance(&region.look).total_cmp(&b.distance(&region.look))).unwrap();
        let counts = right.entry(&region.class).or_default();
        counts[0] += 1.0;
        counts[1] += f64::from(u8::from(nearest.class.as_str() == region.class));
        let named = lessons.name(&region.look, &mark).is_some_and(|lesson| lesson.class.as_str() == region.class);
        counts[2] += f64::from(u8::from(named));
    }
    let mean = |k: usize| right.values().map(|counts| counts[k] / counts[0]).sum::<f64>() / right.len() as f64;
    (mean(1), mean(2))
}

#[test]
fn five_examples_name_three_of_four_regions() {
    let Some(data) = data() else { return };
    for (set, wanted) in [("neu_det", 0.85), ("magnetic_tile", 0.7)] {
        let regions = shown(&data.join(set), if soak() { 600 } else { 240 });
        let draws = 10;
        for examples in [1, 3, 5] {
            let mut rng = StdRng::seed_from_u64(rand_seed(examples));
            let found: Vec<(f64, f64)> = (0..draws).map(|_| accuracy(&regions, examples, &mut rng)).collect();
            let mean = found.iter().map(|f| f.0).sum::<f64>() / f64::from(draws);
            let named = found.iter().map(|f| f.1).sum::<f64>() / f64::from(draws);
            let spread = (found.iter().map(|f| (f.0 - mean).powi(2)).sum::<f64>() / f64::from(draws)).sqrt();
            println!(
                "{set}: {examples} example(s) of each class: {:.1} ± {:.1} % nearest to the right one, {:.1} % named so \
                 ({} regions)",
                100.0 * mean,
                100.0 * spread,
                100.0 * named,
                regions.len()
            );
            assert!(examples < 5 || mean >= wanted, "{set}: {mean}");
            assert!(examples < 5 || named >= wanted - 0.15, "{set}: {named}");
        }
    }
}

fn rand_seed(examples: usize) -> u64 {
    StdRng::seed_from_u64(examples as u64).random()
}

#[test]
fn a_lesson_out_of_pictures_is_taken_in_by_a_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    picture(&dir.path().join("a.jpg"), 1, true);
    picture(&dir.path().join("b.jpg"), 2, true);
    let teach = |args: &[&str]| {
        let bundle = bundle();
        let run =
            Command::new(INSPECTD).args(["teach", "--bundle", &bundle.to_string_lossy()]).args(args).output().unwrap();
        (run.status.code(), String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr))
    };
    let blot = format!("{}@170,75,230,125", path("a.jpg"));
    let (code, text) =
        teach(&["--class", "demo/blot", "--severity", "minor", "--out", &path("l.json"), &blot, &path("b.jpg")]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2 example(s)") && text.contains("inspect/v1/SITE/taught/demo/blot"), "{text}");
    let lesson = Lesson::read(&std::fs::read(path("l.json")).unwrap()).unwrap();
    assert_eq!((lesson.class.as_str(), lesson.severity, lesson.examples.len()), ("demo/blot", Severity::Minor, 2));
    let (code, text) = teach(&["--class", "demo/blot", "--state", &path("state"), &blot]);
    assert_eq!(code, Some(0), "{text}");
    assert!(dir.path().join("state/taught/demo~blot.lesson.json").is_file());
    for (args, wanted, message) in [
        (&["--class", "demo//blot", &blot][..], 64, "with '/' between its parts"),
        (&["--class", "a", "nowhere.png"], 66, "nowhere.png"),
        (&["--class", "a", &format!("{}@9,9,3,3", path("a.jpg"))], 64, "write PICTURE@x0,y0,x1,y1"),
        (&["--class", "a", &format!("{}@900,9,950,30", path("a.jpg"))], 66, "outside the picture of 320x240"),
        (&["--class", "a", "--severity", "huge", &blot], 64, "info, minor, major and critical"),
    ] {
        let (code, text) = teach(args);
        assert_eq!(code, Some(wanted), "{text}");
        assert!(text.contains(message), "{text}");
    }
}
