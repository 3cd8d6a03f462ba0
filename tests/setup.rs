//! `inspectd setup` as a technician uses it, by flags and at a terminal, and the bundle for a bug report.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::broker::Broker;
use crate::support::{INSPECTD, bundle, root};

fn setup(dir: &Path, arguments: &[&str]) -> Output {
    let bundle = bundle();
    let mut command = Command::new(INSPECTD);
    command.args(["setup", "--config"]).arg(dir.join("inspectd.toml")).arg("--bundle").arg(bundle);
    command.arg("--state").arg(dir.join("state")).args(arguments).output().unwrap()
}

#[cfg(feature = "genicam")]
type Alone = std::fs::File;
#[cfg(not(feature = "genicam"))]
type Alone = ();

/// While it is held, `setup` finds no camera of another test; nothing, and a word, where this machine has a camera itself.
fn without_cameras() -> Option<Alone> {
    let video = std::fs::read_dir("/dev").unwrap().filter_map(Result::ok);
    if video.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("video")) {
        eprintln!("skipped: this machine has a camera");
        return None;
    }
    #[cfg(feature = "genicam")]
    return Some(crate::support::genicam::alone());
    #[cfg(not(feature = "genicam"))]
    Some(())
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn flags_give_a_configuration_that_check_finds_well() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let path = dir.path().join("inspectd.toml");
    let pristine = std::fs::read_to_string(root().join("config/gateway.toml")).unwrap(); // as the package leaves it
    std::fs::write(&path, pristine + "# of another version\n").unwrap();
    let password = dir.path().join("typed");
    std::fs::write(&password, "pass word\n").unwrap();
    let flags = ["--yes", "--site", "plant-1", "--gateway", "g", "--broker", &broker.url(), "--user", "me"];
    let more = ["--password-file", password.to_str().unwrap(), "--camera", "line=synthetic"];
    let out = setup(dir.path(), &[&flags[..], &more].concat());
    assert!(out.status.success(), "{}", said(&out));
    for word in [
        "is written",
        "ok    configuration",
        "ok    camera line: synthetic",
        "ok    broker",
        "Now start it: inspectd run --config",
    ] {
        assert!(said(&out).contains(word), "{word}: {}", said(&out));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    for name in ["inspectd.toml", "secrets"] {
        assert!(dir.path().join(name).exists());
    }
    assert!(text.contains("credential:mqtt-password") && !text.contains("pass word"), "{text}");
    let secret = dir.path().join("secrets/mqtt-password");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "pass word\n");
    assert_eq!(secret.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(dir.path().join("secrets").metadata().unwrap().permissions().mode() & 0o777, 0o700);

    // What somebody has made is not lost.
    let out = setup(dir.path(), &["--yes", "--site", "other", "--camera", "synthetic"]);
    assert_eq!(out.status.code(), Some(73), "{}", said(&out));
    assert!(said(&out).contains("--replace"), "{}", said(&out));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    std::fs::write(&password, "another").unwrap();
    let flags = [
        "--yes",
        "--replace",
        "--no-check",
        "--site",
        "other",
        "--camera",
        "gate=rtsp://me@10.0.0.1/s",
        "--user",
        "me",
    ];
    let file = password.to_str().unwrap();
    let given = format!("gate={file}");
    let out = setup(dir.path(), &[&flags[..], &["--password-file", file, "--camera-password-file", &given]].concat());
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "another\n");
    assert_eq!(std::fs::read_to_string(dir.path().join("secrets/camera-gate-password")).unwrap(), "another\n");
    let kept = |of: &str| {
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.to_string_lossy().contains(of)).collect::<Vec<_>>()
    };
    let kept_texts: Vec<String> =
        kept("toml.before-").iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(kept_texts.contains(&text), "{kept_texts:?}");
    let old = std::fs::read_dir(&kept("secrets.before-")[0]).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_to_string(old).unwrap(), "pass word\n");
    assert_eq!(
        std::fs::read_dir(dir.path().join("secrets")).unwrap().count(),
        2,
        "no old one is handed to the service"
    );
}

#[test]
fn what_is_missing_or_wrong_is_said_and_nothing_is_written() {
    let Some(_alone) = without_cameras() else { return };
    let dir = tempfile::tempdir().unwrap();
    for (flags, code, word) in [
        (&["--yes", "--camera", "synthetic"][..], 64, "--site"),
        (&["--yes", "--site", "a/b", "--camera", "synthetic"], 64, "site: "),
        (&["--yes", "--site", "a", "--camera", "http://x"], 64, "is no camera"),
        (&["--yes", "--site", "a", "--broker", "localhost", "--camera", "synthetic"], 64, "broker: "),
        (
            &["--yes", "--site", "a", "--broker", "mqtts://b", "--ca-file", "/nowhere", "--camera", "synthetic"],
            66,
            "/nowhere",
        ),
        (&["--yes", "--site", "a"], 69, "no camera was found"),
    ] {
        let out = setup(dir.path(), flags);
        assert_eq!(out.status.code(), Some(code), "{flags:?}: {}", said(&out));
        assert!(said(&out).contains(word), "{flags:?}: {}", said(&out));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{flags:?}");
    }
    // A broker that is away: the file is there, and what is wrong is said.
    let out = setup(dir.path(), &["--yes", "--site", "a", "--broker", "mqtt://127.0.0.1:1", "--camera", "synthetic"]);
    assert_eq!(out.status.code(), Some(69), "{}", said(&out));
    assert!(said(&out).contains("WRONG broker") && said(&out).contains("It is written all the same"), "{}", said(&out));
    assert!(dir.path().join("inspectd.toml").exists());
}

/// Types answers at a terminal that Python opens.
const TYPIST: &str = r#"
import os, pty, select, sys, termios, time
lines, program = sys.argv[1].split("|"), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execv(program[0], program)
shown, end = b"", time.time() + 60
for prompt, answer in (line.split(">", 1) for line in lines):
    while prompt.encode() not in shown and time.time() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            try: shown += os.read(terminal, 4096)
            except OSError: break
    if prompt.encode() not in shown:
        sys.exit(f"never asked for {prompt}: {shown.decode(errors='replace')}")
    shown = b""
    # What is typed before the terminal hides it is thrown away with it; nobody is as quick.
    while prompt == "Password" and termios.tcgetattr(terminal)[3] & termios.ECHO and time.time() < end:
        time.sleep(0.01)
    os.write(terminal, answer.encode() + b"\r")
while True:
    try: chunk = os.read(terminal, 4096)
    except OSError: break
    if not chunk: break
    shown += chunk
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(shown.decode(errors="replace"))
sys.exit(code)
"#;

#[test]
fn a_person_is_asked() {
    let Some(_alone) = without_cameras() else { return };
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let answers = format!(
        "Site>plant-9|This gateway>g7|Broker>{}|User name>me|Password>s3cret|A camera>http://no|is no camera>line=synthetic|Another camera>",
        broker.url()
    );
    let path = dir.path().join("inspectd.toml");
    let (bundle, state) = (bundle(), dir.path().join("state"));
    let setup =
        [INSPECTD, "setup", "--config", path.to_str().unwrap(), "--bundle", bundle.to_str().unwrap(), "--state"];
    let mut python = Command::new("python3");
    let out = python.args(["-c", TYPIST, &answers]).args(setup).arg(state).output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("ok    broker"), "{}", said(&out));
    let text = std::fs::read_to_string(&path).unwrap();
    for line in ["site = \"plant-9\"", "name = \"g7\"", "user = \"me\"", "source.synthetic"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("s3cret") && !said(&out).contains("s3cret"), "{text} {}", said(&out));
    assert_eq!(std::fs::read_to_string(dir.path().join("secrets/mqtt-password")).unwrap(), "s3cret\n");
}

#[test]
fn a_bug_report_has_everything_but_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let out =
        setup(dir.path(), &["--yes", "--no-check", "--site", "a", "--camera", "gate=rtsp://me:s3cret@10.0.0.1/s"]);
    assert!(out.status.success(), "{}", said(&out));
    // What somebody has written into a comment.
    let path = dir.path().join("inspectd.toml");
    let text = std::fs::read_to_string(&path).unwrap() + "# old: rtsp://me:s3cret@10.0.0.1/s\n# password = s3cret\n";
    std::fs::write(&path, text).unwrap();
    let file = dir.path().join("report.tar.gz");
    let report = || {
        Command::new(INSPECTD).args(["support-bundle", "--config"]).arg(&path).arg("--out").arg(&file).output().unwrap()
    };
    let out = report();
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("bench.json"), "{}", said(&out));
    let status = Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(dir.path()).status().unwrap();
    assert!(status.success());
    let read = |name: &str| std::fs::read_to_string(dir.path().join("inspectd-support").join(name)).unwrap();
    let bench: serde_json::Value = serde_json::from_str(&read("bench.json")).unwrap();
    // On a machine that has no time for it the pipeline may come to nothing in so short a while.
    assert!(bench["bare_fps"].as_f64().unwrap() > 0.0, "{bench}");
    assert!(read("versions.txt").contains(env!("CARGO_PKG_VERSION")));
    assert!(read("config.toml").contains("site = \"a\""));
    assert!(read("metrics.txt").contains("metrics.listen is not set"));
    for entry in std::fs::read_dir(dir.path().join("inspectd-support")).unwrap() {
        let path = entry.unwrap().path();
        assert!(!std::fs::read_to_string(&path).unwrap().contains("s3cret"), "{}", path.display());
    }
    let again = report();
    assert_eq!(again.status.code(), Some(73), "what is there is not overwritten: {}", said(&again));
}
