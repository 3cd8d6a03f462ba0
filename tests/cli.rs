//! The command line: exit codes, messages, help.

use std::process::{Command, Output};

use crate::support::broker::Broker;
use crate::support::daemon::{Daemon, config, config_with};
use crate::support::{INSPECTD, bundle, eventually, free_port, root};

/// Without a terminal, also where the tests have one.
fn inspectd(args: &[&str]) -> Output {
    Command::new("setsid").arg("--wait").arg(INSPECTD).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const CAMERA: &str = "[[cameras]]\nname = \"strip\"\nsource.synthetic = {}\n";

#[test]
fn check_says_a_line_for_each_part() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let path = config(dir.path(), &broker.url(), CAMERA);
    let out = inspectd(&["check", "--config", &path.to_string_lossy()]);
    let lines = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{lines}");
    for part in ["configuration", "state folder", "runtime", "model bundle", "camera strip", "broker"] {
        assert!(lines.contains(&format!("ok    {part}: ")), "{lines}");
    }
}

#[test]
fn check_tells_wrong_from_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let camera = "[[cameras]]\nname = \"usb\"\nsource.v4l2 = { device = \"/dev/video99\" }\n";
    let path = config(dir.path(), &format!("mqtt://127.0.0.1:{}", free_port()), camera);
    let out = inspectd(&["check", "--config", &path.to_string_lossy()]);
    let lines = text(&out.stdout);
    assert_eq!(out.status.code(), Some(69), "{lines}");
    assert!(lines.contains("WRONG camera usb: the device /dev/video99 is missing"), "{lines}");
    assert!(lines.contains("WRONG broker: no broker at 127.0.0.1:"), "{lines}");

    let path = config(dir.path(), "mqtt://localhost", "[[cameras]]\nname = \"a\"\nfsp = 1\nsource.synthetic = {}\n");
    for command in ["check", "run"] {
        let out = inspectd(&[command, "--config", &path.to_string_lossy()]);
        let lines = text(&out.stdout) + &text(&out.stderr);
        assert_eq!(out.status.code(), Some(78), "{lines}");
        assert!(lines.contains("inspectd.toml:14:1: cameras[0].fsp: unknown field `fsp`"), "{lines}");
    }
}

#[test]
fn check_knows_a_camera_whose_own_model_cannot_be_had() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let said = |own: &str| {
        let path = config(dir.path(), &broker.url(), &format!("{CAMERA}model = {{ {own} }}\n"));
        let out = inspectd(&["check", "--config", &path.to_string_lossy()]);
        assert_eq!(out.status.code(), Some(69));
        text(&out.stdout)
    };
    let lines = said("input = 320");
    assert!(
        lines.contains("WRONG model bundle: model of camera strip: ") && lines.contains("is not elastic"),
        "{lines}"
    );
    let base = root().join("models/base").display().to_string();
    let lines = said(&format!("bundle = \"{base}\", classes = [\"steal/*\"]"));
    assert!(lines.contains("model of camera strip: ") && lines.contains("no class is called steal/*"), "{lines}");
}

#[test]
fn check_looks_at_the_file_alone_where_it_is_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let camera = "[[cameras]]\nname = \"usb\"\nsource.v4l2 = { device = \"/dev/video99\" }\n";
    let path = config(dir.path(), &format!("mqtt://127.0.0.1:{}", free_port()), camera);
    let check = || inspectd(&["check", "--file-only", "--config", &path.to_string_lossy()]);
    let out = check();
    assert_eq!(out.status.code(), Some(0));
    assert!(text(&out.stdout).starts_with("ok    configuration: ") && text(&out.stdout).lines().count() == 1);
    std::fs::write(&path, "[gateway]\n").unwrap();
    let out = check();
    assert_eq!(out.status.code(), Some(78));
    assert!(text(&out.stdout).starts_with("WRONG configuration: "), "{}", text(&out.stdout));
}

#[test]
fn check_knows_whether_the_figures_have_a_place() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let line = |address: &str| {
        let more = format!("[metrics]\nlisten = \"{address}\"\n");
        let path = config_with(dir.path(), &broker.url(), &more, CAMERA);
        let lines = text(&inspectd(&["check", "--config", &path.to_string_lossy()]).stdout);
        lines.lines().find(|line| line.contains(" figures: ")).unwrap_or_else(|| panic!("{lines}")).to_owned()
    };
    let port = free_port();
    assert_eq!(line(&format!("127.0.0.1:{port}")), format!("ok    figures: http://127.0.0.1:{port}/metrics"));
    assert!(line(&format!("0.0.0.0:{port}")).ends_with("open to every machine that reaches it"));
    let said = line(&taken.local_addr().unwrap().to_string());
    assert!(said.starts_with("WRONG figures: what listens at"), "{said}");
    let said = line("192.0.2.1:9464");
    assert!(said.starts_with("WRONG figures: this machine does not have the address 192.0.2.1"), "{said}");
    // The agent itself is nothing else.
    let more = format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
    let daemon = Daemon::start(&config_with(dir.path(), &broker.url(), &more, CAMERA));
    let answers = || ureq::get(format!("http://127.0.0.1:{port}/metrics")).call().is_ok().then_some(());
    eventually(30, "figures are there", answers);
    assert!(line(&format!("127.0.0.1:{port}")).contains("answers already: the agent is running"));
    drop(daemon);
}

#[test]
fn what_is_missing_is_named_without_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let shipped = bundle().to_string_lossy().into_owned();
    let pictures = dir.path().to_string_lossy().into_owned();
    std::fs::write(dir.path().join("annotations.json"), r#"{"images":[{"file":"a.png"}]}"#).unwrap();
    for (args, code, words) in [
        (vec!["run", "--config", "/nowhere.toml"], 78, "cannot read the configuration /nowhere.toml"),
        (vec!["eval", "--bundle", &shipped, "--data", "/nowhere", "--out", &at("o")], 66, "annotations.json"),
        (vec!["eval", "--bundle", "/nowhere", "--data", "/nowhere", "--out", &at("o")], 66, "/nowhere"),
        (
            vec!["eval", "--bundle", &shipped, "--data", &pictures, "--out", &at("o"), "--classes", "steal/*"],
            64,
            "no class is called steal/*; there are",
        ),
        (vec!["model", "keygen", &at("k")], 64, "no terminal at which the key's password could be asked for"),
        (vec!["teach", "--bundle", &shipped, "--class", "unknown", "a.png"], 64, "unknown is what nobody has named"),
        (vec!["bench", "--bundle", "/nowhere"], 65, "bundle.json is missing"),
        (vec!["bench", "--bundle", &shipped, "--source", "/nowhere"], 66, "cannot read the folder /nowhere"),
        (vec!["watch", "--broker", "localhost"], 78, "write mqtt://HOST[:PORT]"),
        (vec!["schema", "nothing"], 64, "possible values"),
    ] {
        let out = inspectd(&args);
        let err = text(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
        assert!(!err.contains("panicked"), "{err}");
    }
}

#[test]
fn man_pages_name_files_and_inner_commands_stay_inside() {
    let dir = tempfile::tempdir().unwrap();
    assert!(inspectd(&["man", &dir.path().to_string_lossy()]).status.success());
    let page = |name: &str| std::fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
    assert!(
        page("inspectd-run").contains(".SH \"FILES\"\n.TP\n\\fB/etc/inspectd/inspectd.toml"),
        "{}",
        page("inspectd-run")
    );
    assert!(page("inspectd").contains("EXIT STATUS") && page("inspectd").contains("INSPECTD_LOG"));
    for inner in ["prove", "man"] {
        assert!(!dir.path().join(format!("inspectd-{inner}.1")).exists());
        for shell in ["bash", "zsh", "fish"] {
            let offered = text(&inspectd(&["completions", shell]).stdout);
            assert!(offered.contains("support-bundle"), "{shell}");
            let mut words = offered.split(|c: char| !c.is_ascii_alphanumeric());
            assert!(!words.any(|word| word == inner), "{shell} offers {inner}");
        }
        assert!(!text(&inspectd(&["--help"]).stdout).lines().any(|line| line.trim_start().starts_with(inner)));
    }
    // What is wrong with them is said all the same.
    let out = inspectd(&["man"]);
    assert_eq!(out.status.code(), Some(64));
    assert!(text(&out.stderr).contains("<DIR>"), "{}", text(&out.stderr));
}

#[test]
fn every_command_shows_an_example() {
    for command in ["run", "check", "eval", "bench", "watch", "schema"] {
        let out = inspectd(&[command, "--help"]);
        assert!(text(&out.stdout).contains("Example:\n  inspectd "), "{command}");
    }
    for name in ["event", "alarm", "state", "camera", "result", "config", "bundle"] {
        let schema: serde_json::Value = serde_json::from_slice(&inspectd(&["schema", name]).stdout).unwrap();
        assert!(schema["properties"].is_object(), "{name}");
    }
}

#[test]
fn the_shipped_bundle_is_what_its_schema_says() {
    let schema = serde_json::from_slice(&inspectd(&["schema", "bundle"]).stdout).unwrap();
    let bundle = serde_json::from_slice(&std::fs::read(bundle().join("bundle.json")).unwrap()).unwrap();
    assert!(jsonschema::validator_for(&schema).unwrap().is_valid(&bundle));
}

#[test]
fn a_wrong_password_is_said_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let conf = dir.path().join("m.conf");
    std::fs::write(&conf, format!("listener {port} 127.0.0.1\nallow_anonymous false\nuser root\n")).unwrap();
    let mut broker = Command::new("/usr/sbin/mosquitto").arg("-c").arg(&conf).spawn().unwrap();
    crate::support::eventually(10, "mosquitto", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let path = config(dir.path(), &format!("mqtt://127.0.0.1:{port}"), CAMERA);
    let out = inspectd(&["check", "--config", &path.to_string_lossy()]);
    let _ = broker.kill();
    let _ = broker.wait();
    assert!(text(&out.stdout).contains("refuses: not authorised"), "{}", text(&out.stdout));
}

#[test]
fn bench_gives_every_figure() {
    let bundle = bundle().to_string_lossy().into_owned();
    let out = inspectd(&["bench", "--bundle", &bundle, "--seconds", "3", "--threads", "2", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    println!("{report}");
    for name in ["fps", "bare_fps", "overhead", "peak_rss_mb"] {
        assert!(report[name].as_f64().is_some_and(|v| v > 0.0), "{name}: {report}");
    }
    for stage in ["prepare", "forward", "judge", "record", "capture_to_verdict"] {
        let (p50, p99) = (&report["stages"][stage]["p50_ms"], &report["stages"][stage]["p99_ms"]);
        assert!(p50.as_f64().unwrap() <= p99.as_f64().unwrap(), "{report}");
    }
    assert!(report["peak_rss_mb"].as_f64().unwrap() < 300.0, "{report}");
}

#[test]
fn only_the_rooms_of_the_architecture_know_the_libraries() {
    let mut sources = Vec::new();
    collect(&root().join("agent"), &mut sources);
    for path in sources {
        let (text, name) = (
            std::fs::read_to_string(&path).unwrap(),
            path.strip_prefix(root()).unwrap().to_string_lossy().into_owned(),
        );
        for (library, rooms) in [
            ("rumqttc::", &["agent/mqtt/link/"][..]),
            ("ort::", &["agent/model/runtime.rs"]),
            (
                "opencv::",
                &[
                    "agent/frame/video.rs",
                    "agent/frame/genicam/pixels.rs",
                    "agent/frame/v4l2/pixels.rs",
                    "agent/frame/view/",
                    "agent/model/preprocess.rs",
                ],
            ),
            ("ffmpeg_next", &["agent/frame/rtsp.rs"]),
            ("v4l::", &["agent/frame/v4l2/"]),
            ("gpiocdev::", &["agent/trigger/line.rs"]),
            ("aravis::", &["agent/frame/genicam/"]),
            ("rusqlite::", &["agent/outbox/", "agent/console/store/"]),
            ("axum::", &["agent/console/web/", "agent/metrics/serve.rs"]),
            ("prometheus_client::", &["agent/metrics/exposition.rs"]),
            ("dialoguer::", &["agent/setup/ask.rs"]),
            ("ureq::", &["agent/console/webhook.rs", "agent/support/"]),
        ] {
            let named =
                text.lines().any(|l| l.trim_start().starts_with("use ") && l.contains(&format!("use {library}")));
            assert!(!named || rooms.iter().any(|room| name.starts_with(room)), "{name} names {library}");
        }
    }
}

fn collect(dir: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// ONNX Runtime's own build notes each start in the home folder, and sends it to its maker, unless it is told not to.
#[test]
fn the_runtime_keeps_to_itself() {
    let home = tempfile::tempdir().unwrap();
    let mut bench = Command::new(INSPECTD);
    bench.args(["bench", "--seconds", "2", "--json", "--bundle"]).arg(bundle());
    let out = bench.env("HOME", home.path()).env_remove("ORT_DISABLE_TELEMETRY").output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
