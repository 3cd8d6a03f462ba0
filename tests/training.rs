//! `make model SMOKE=1`: the way of training, over drawn pictures, where Debian's torch is.

use std::process::Command;

use crate::support::{INSPECTD, root};

#[test]
fn the_training_path_leads_to_a_bundle_that_can_be_extracted_from() {
    let imports = "import torch, torchvision, cv2, onnx, numpy";
    let there = Command::new("/usr/bin/python3").args(["-c", imports]).output();
    if !there.is_ok_and(|out| out.status.success()) {
        eprintln!("skipped: training needs python3-torch, python3-torchvision, python3-opencv and python3-onnx");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = Command::new(root().join("scripts/model"))
        .envs([("SMOKE", "1"), ("INSPECTD", INSPECTD)])
        .env("OUT", dir.path())
        .env_remove("RUN")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}");
    assert!(text.contains("goes on from step 3"), "a checkpoint is taken up: {text}");
    for bundle in ["base", "default"] {
        inspectd::model::bundle::Bundle::open(&dir.path().join(bundle)).unwrap();
    }
}
