//! How often the anomaly check alarms where nothing is wrong: good pictures of four sets, again and again in other light and
//! at another place, against the rate that was wanted; as it is, and with an operator who says of each alarm "this is fine".

use std::path::Path;
use std::sync::Arc;

use inspectd::anomaly::memory::Mark;
use inspectd::config::{AnomalyConfig, ClassName, Severity};
use inspectd::frame::{Image, Region, still};
use inspectd::inspector::{Inspector, Judge};
use inspectd::model::bundle::Bundle;
use inspectd::model::golden;
use inspectd::model::runtime::{self, Session};
use inspectd::taught::{Lesson, Look, SCHEMA, School};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::support::{bundle, data, soak};

fn good(set: &Path) -> Vec<Image> {
    let annotations: Value = serde_json::from_slice(&std::fs::read(set.join("annotations.json")).unwrap()).unwrap();
    let images = annotations["images"].as_array().unwrap().iter();
    let fine = images.filter(|i| ["good", "normal", "ok", "functional"].contains(&i["label"].as_str().unwrap_or("")));
    fine.map(|i| still::read(&set.join(i["file"].as_str().unwrap()), 1 << 24).unwrap()).collect()
}

/// The picture in other light, and the part of it that the camera sees.
fn varied(image: &Image, rng: &mut StdRng) -> (Image, Region) {
    let (gain, offset) = (rng.random_range(0.85..1.15_f32), rng.random_range(-10.0..10.0_f32));
    let table: Vec<u8> = (0..256).map(|v| (v as f32 * gain + offset).clamp(0.0, 255.0) as u8).collect();
    let pixels = image.pixels.iter().map(|v| table[usize::from(*v)]).collect();
    let (x, y) = (rng.random_range(0.0..0.05_f32), rng.random_range(0.0..0.05_f32));
    (Image { pixels, ..image.clone() }, Region([x, y, x + 0.95, y + 0.95]))
}

/// "This is fine", said of what a picture shows.
fn fine(which: usize, look: &Look, mark: &Mark) -> Lesson {
    Lesson {
        schema: SCHEMA.into(),
        class: ClassName::new(&format!("fine/{which}")).unwrap(),
        severity: Severity::Info,
        harmless: true,
        examples: vec![look.values().to_vec()],
        mark: mark.clone(),
        at: jiff::Timestamp::UNIX_EPOCH,
        by: "test".into(),
    }
}

#[test]
fn good_pictures_raise_as_few_alarms_as_are_wanted_once_they_are_answered() {
    let Some(data) = data() else { return };
    let bundle = Bundle::open(&bundle()).unwrap();
    let mut session = Session::new(&runtime::load(None).unwrap(), &bundle).unwrap();
    let mark = Mark::of(&golden::features(&bundle, &mut session).unwrap());
    let mut inspector = Inspector::new(session, &bundle);
    let frames = if soak() { 5000 } else { 150 };
    let (mut all, mut alarms, mut answers) = (0, 0, 0);
    for set in ["aws_cookie", "elpv", "magnetic_tile", "kolektor_sdd"] {
        let pictures = good(&data.join(set));
        let mut rng = StdRng::seed_from_u64(9);
        let dir = tempfile::tempdir().unwrap();
        let school = Arc::new(School::open(dir.path(), mark.clone()));
        let mut judge = Judge::new(&AnomalyConfig::default(), 1.0, &bundle.manifest).taught(Arc::clone(&school));
        let (mut judged, mut alarmed, mut answered) = (0, 0, 0);
        for _ in 0..frames {
            let which = rng.random_range(0..pictures.len());
            let (image, region) = varied(&pictures[which], &mut rng);
            let placement = inspector.look(&image, &region.into()).unwrap();
            let judgement = judge.judge(&inspector.forward, &placement);
            let anomaly = judgement.anomaly.unwrap();
            if anomaly.standing.is_calibrated() {
                judged += 1;
                alarmed += u32::from(!anomaly.regions.is_empty());
                let looks: Vec<&Look> = judgement.findings.iter().filter_map(|f| f.look.as_ref()).collect();
                answered += u32::from(!looks.is_empty());
                looks.iter().for_each(|look| drop(school.teach(fine(which, look, &mark)).unwrap()));
            }
        }
        println!(
            "{set}: {} good pictures, {judged} frames judged, {alarmed} false alarms, {answered} where each is answered",
            pictures.len()
        );
        (all, alarms, answers) = (all + judged, alarms + alarmed, answers + answered);
    }
    let (rate, left) = (f64::from(alarms) / f64::from(all), f64::from(answers) / f64::from(all));
    println!(
        "{alarms} of {all} frames: {:.2} % where 0.10 % were wanted; {answers}, {:.2} %, where each was answered",
        100.0 * rate,
        100.0 * left
    );
    // By itself it does not keep what was wanted where odd pictures come again and again (docs/anomaly.md); answered, it does.
    assert!(rate <= 0.02, "{rate}");
    assert!(left <= if soak() { 0.001 } else { 0.01 }, "{left}");
}
