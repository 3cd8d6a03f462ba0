//! The units of systemd: how much of the machine they expose, and whether systemd understands them.

use std::process::Command;

use crate::support::root;

const UNITS: [&str; 2] = ["systemd/inspectd.service", "systemd/inspectd-console.service"];

/// At most so much, as `systemd-analyze security` counts (0 to 10).
const EXPOSURE: f64 = 1.5;

#[test]
fn units_expose_little_and_are_understood() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: no systemd-analyze here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for unit in UNITS {
        let out = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(root().join(unit))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        let overall =
            text.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{text}"));
        let level: f64 = overall.split(':').nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
        println!("{unit}: {level}");
        assert!(level <= EXPOSURE, "{text}");
        // The binary of a package that is not installed here is another one, which is there.
        let text = std::fs::read_to_string(root().join(unit)).unwrap();
        let copy = dir.path().join(unit.rsplit('/').next().unwrap());
        std::fs::write(&copy, text.replace("/usr/bin/inspectd", "/bin/true")).unwrap();
        let out = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).replace(&dir.path().display().to_string(), "");
        let about = said.lines().filter(|line| line.contains("inspectd")).collect::<Vec<_>>();
        assert!(out.status.success() && about.is_empty(), "{said}");
    }
}
