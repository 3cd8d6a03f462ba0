//! `inspectd eval`: over generated pictures, and over real ones where they are.

use std::process::Command;

use serde_json::Value;

use crate::support::{INSPECTD, bundle, data, picture};

fn eval(args: &[&str]) -> Vec<Value> {
    let out = tempfile::NamedTempFile::new().unwrap();
    let run = Command::new(INSPECTD)
        .args(["eval", "--bundle", &bundle().to_string_lossy(), "--out", &out.path().to_string_lossy()])
        .args(args)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    std::fs::read_to_string(out.path()).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn score(line: &Value) -> f64 {
    line["anomaly"]["score"].as_f64().unwrap()
}

/// Share of pairs of a defective and a good frame in which the defective one has the higher score.
fn auroc(scored: &[(bool, f64)]) -> f64 {
    let (mut wins, mut pairs) = (0.0, 0.0);
    for (_, bad) in scored.iter().filter(|(defective, _)| *defective) {
        for (_, good) in scored.iter().filter(|(defective, _)| !*defective) {
            wins += if bad > good {
                1.0
            } else if (bad - good).abs() < 1e-12 {
                0.5
            } else {
                0.0
            };
            pairs += 1.0;
        }
    }
    wins / pairs
}

#[test]
fn a_generated_set_is_scored_causally_and_a_broken_picture_has_no_score() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let mut list = String::new();
    for n in 0..16 {
        let name = format!("{n}.jpg");
        picture(&dir.path().join(&name), n, n == 9 || n == 12);
        list.push_str(&name);
        list.push('\n');
    }
    std::fs::write(dir.path().join("broken.jpg"), [0xff, 0xd8, 0xff, 0xe0, 1, 2, 3]).unwrap();
    std::fs::write(path("all.txt"), format!("{list}broken.jpg\n")).unwrap();
    std::fs::write(path("first.txt"), list.lines().take(10).collect::<Vec<_>>().join("\n")).unwrap();
    let set = dir.path().to_string_lossy().into_owned();
    let all = eval(&["--data", &set, "--stream", &path("all.txt"), "--maps", &path("maps")]);
    assert_eq!(all.len(), 17);
    assert!(all[16]["anomaly"].is_null() && all[16]["error"].as_str().unwrap().contains("cut off or damaged"));
    let scored: Vec<_> = (4..16).map(|n| (n == 9 || n == 12, score(&all[n]))).collect();
    assert!(auroc(&scored) > 0.99, "{scored:?}");
    // A frame's score does not depend on what comes after it.
    let first = eval(&["--data", &set, "--stream", &path("first.txt")]);
    for (a, b) in first.iter().zip(&all) {
        assert!((score(a) - score(b)).abs() < 1e-6, "{a} {b}");
    }
    // The map's strongest place is the blot (200, 100 of 320x240).
    let map =
        image::open(dir.path().join("maps").join(all[9]["anomaly"]["map"].as_str().unwrap())).unwrap().into_luma16();
    let (x, y, _) = map.enumerate_pixels().max_by_key(|(_, _, v)| v.0[0]).unwrap();
    let at = (f64::from(x) + 0.5) / f64::from(map.width()) * 320.0;
    assert!((at - 200.0).abs() < 40.0 && ((f64::from(y) + 0.5) / f64::from(map.height()) * 240.0 - 100.0).abs() < 40.0);
}

/// Not the figure of merit (that is `scripts/evaluate` with the independent scorer), but a floor below which something
/// is broken.
#[test]
fn real_pictures_keep_their_floor() {
    let Some(data) = data() else { return };
    for (set, floor) in [("aws_cookie", 0.9), ("kolektor_sdd", 0.65)] {
        let dir = data.join(set);
        let stream = dir.join("streams/0.txt");
        let annotations: Value = serde_json::from_slice(&std::fs::read(dir.join("annotations.json")).unwrap()).unwrap();
        let good = |file: &str| {
            let images = annotations["images"].as_array().unwrap();
            let image = images.iter().find(|i| i["file"] == file).unwrap();
            ["good", "normal", "ok"].contains(&image["label"].as_str().unwrap())
        };
        let lines = eval(&["--data", &dir.to_string_lossy(), "--stream", &stream.to_string_lossy()]);
        let scored: Vec<_> = lines[4..].iter().map(|l| (!good(l["file"].as_str().unwrap()), score(l))).collect();
        let auroc = auroc(&scored);
        println!("{set}: image AUROC {auroc:.3} on stream 0");
        assert!(auroc >= floor, "{set}: {auroc}");
    }
}
