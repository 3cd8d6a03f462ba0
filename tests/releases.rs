//! Keys, signatures and releases, beside Debian's `minisign`.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::{INSPECTD, bundle};

fn model(args: &[&str], dir: &Path) -> Output {
    Command::new(INSPECTD).arg("model").args(args).current_dir(dir).output().unwrap()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&[&out.stdout[..], &out.stderr].concat()).into_owned()
}

#[test]
fn a_bundle_is_signed_and_verified_and_minisign_agrees_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let (shipped, at) = (bundle().display().to_string(), dir.path());
    let out = model(&["keygen", "--no-password", "keys/line"], at);
    assert!(out.status.success(), "{}", said(&out));
    assert!(String::from_utf8_lossy(&out.stdout).starts_with("keys = [\"RW"), "{}", said(&out));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(at.join("keys/line.key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let again = model(&["keygen", "--no-password", "keys/line"], at);
    assert!(again.status.code() == Some(73) && said(&again).contains("is there already"), "{}", said(&again));

    let sign = ["sign", "--bundle", &shipped, "--key", "keys/line.key", "--counter", "12", "--out", "r"];
    let out = model(&sign, at);
    assert!(out.status.success(), "{}", said(&out));
    let out = model(&["verify", "r", "--key", "keys/line.pub", "--bundle", &shipped], at);
    assert!(out.status.success() && said(&out).contains("counter 12, signed by"), "{}", said(&out));

    let minisign = |args: &[&str]| Command::new("minisign").args(args).current_dir(at).output().unwrap();
    let out = minisign(&["-Vm", "r/release.json", "-p", "keys/line.pub"]);
    assert!(out.status.success() && said(&out).contains("counter 12"), "{}", said(&out));
    // Theirs: a key without a password, and a signature.
    let out = minisign(&["-GW", "-p", "keys/theirs.pub", "-s", "keys/theirs.key"]);
    assert!(out.status.success(), "{}", said(&out));
    let out = minisign(&["-Sm", "r/release.json", "-s", "keys/theirs.key"]);
    assert!(out.status.success(), "{}", said(&out));
    let out = model(&["verify", "r", "--key", "keys/line.pub"], at);
    assert!(out.status.code() == Some(65) && said(&out).contains("not trusted here"), "{}", said(&out));
    let out = model(&["verify", "r", "--key", "keys/line.pub", "--key", "keys/theirs.pub"], at);
    assert!(out.status.success(), "{}", said(&out));
    // And our command signs with their key.
    let with_theirs = sign.map(|arg| if arg == "keys/line.key" { "keys/theirs.key" } else { arg });
    assert!(model(&with_theirs, at).status.success());
    assert!(minisign(&["-Vm", "r/release.json", "-p", "keys/theirs.pub"]).status.success());
}

#[test]
fn a_key_with_a_password_wants_it() {
    let dir = tempfile::tempdir().unwrap();
    let (shipped, at) = (bundle().display().to_string(), dir.path());
    std::fs::write(at.join("right"), "a long password\n").unwrap();
    std::fs::write(at.join("wrong"), "another\n").unwrap();
    let out = model(&["keygen", "k", "--password-file", "right"], at);
    assert!(out.status.success(), "{}", said(&out));
    let sign = |password: &str| {
        let args = [
            "sign",
            "--bundle",
            &shipped,
            "--key",
            "k.key",
            "--counter",
            "1",
            "--out",
            "r",
            "--password-file",
            password,
        ];
        model(&args, at)
    };
    let out = sign("wrong");
    assert!(out.status.code() == Some(66) && said(&out).contains("is the password right?"), "{}", said(&out));
    let out = sign("right");
    assert!(out.status.success(), "{}", said(&out));
}

#[test]
fn what_no_gateway_would_take_is_not_signed() {
    let dir = tempfile::tempdir().unwrap();
    let (shipped, at) = (bundle().display().to_string(), dir.path());
    assert!(model(&["keygen", "--no-password", "k"], at).status.success());
    let sign = |more: &[&str]| {
        let args = ["sign", "--bundle", &shipped, "--key", "k.key", "--out", "r"];
        model(&[&args[..], more].concat(), at)
    };
    for (more, message) in [
        (&["--counter", "18446744073709551615"][..], "counter: 1 to 9007199254740991"),
        (&["--counter", "1", "--min-agreement", "2"], "min_agreement is at most 1"),
        (&["--counter", "1", "--not-before", "tomorrow"], "--not-before"),
    ] {
        let out = sign(more);
        assert!(out.status.code().is_some_and(|c| c == 64 || c == 2) && said(&out).contains(message), "{}", said(&out));
        assert!(!at.join("r").exists());
    }
}
