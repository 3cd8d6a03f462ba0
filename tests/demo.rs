//! `make demo`'s script, as a newcomer runs it, for a few seconds.

use std::process::Command;

use crate::support::{INSPECTD, data, root};

fn demo(seconds: u32, pictures: Option<&std::path::Path>) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(root().join("scripts/demo"));
    command.env("FOR", seconds.to_string()).env("DEMO_DIR", dir.path()).env("INSPECTD", INSPECTD).env_remove("DATA");
    if let Some(path) = pictures {
        command.env("DATA", path);
    }
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}");
    // Every picture that a line names is there.
    let named: Vec<_> = text.split_whitespace().filter(|w| w.contains(".jpg")).collect();
    assert!(!named.is_empty(), "{text}");
    for picture in named {
        assert!(std::path::Path::new(picture).is_file(), "{picture} of\n{text}");
    }
    text
}

#[test]
fn the_synthetic_demo_raises_alarms_and_ends_by_itself() {
    let text = demo(14, None);
    assert!(text.contains("RAISED") && text.contains("ground truth: found"), "{text}");
}

#[test]
fn the_demo_over_real_pictures_raises_alarms() {
    let Some(data) = data() else { return };
    let text = demo(25, Some(&data.join("aws_cookie")));
    assert!(text.contains("RAISED") && text.contains("pictures of"), "{text}");
}
