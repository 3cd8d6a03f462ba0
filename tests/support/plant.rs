//! A plant with a broker, a key, and a gateway that trusts it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::broker::Broker;
use super::daemon::{Daemon, config_with};
use super::{INSPECTD, bundle, eventually};

const BOARDS: &str = "[[cameras]]\nname = \"boards\"\n\
    source.synthetic = { scene = \"boards\", seed = 3, rate = 12.0, speed = 640.0, defects_per_frame = 0.5 }\n";

pub struct Plant {
    pub broker: Broker,
    pub dir: tempfile::TempDir,
}

pub fn said(out: &Output) -> String {
    String::from_utf8_lossy(&[&out.stdout[..], &out.stderr].concat()).into_owned()
}

impl Plant {
    pub fn new() -> Self {
        let plant = Self { broker: Broker::start(), dir: tempfile::tempdir().unwrap() };
        plant.model(&["keygen", "--no-password", "line"]);
        plant
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn try_model(&self, args: &[&str]) -> Output {
        Command::new(INSPECTD).arg("model").args(args).current_dir(self.dir.path()).output().unwrap()
    }

    pub fn model(&self, args: &[&str]) -> String {
        let out = self.try_model(args);
        assert!(out.status.success(), "{args:?}: {}", said(&out));
        said(&out)
    }

    pub fn key(&self) -> String {
        std::fs::read_to_string(self.path("line.pub")).unwrap().lines().nth(1).unwrap().to_owned()
    }

    pub fn gateway(&self, more: &str) -> Daemon {
        self.gateway_with(more, &[])
    }

    /// The configuration of a gateway that trusts the key and begins with this bundle.
    pub fn config(&self, more: &str, with: &str) -> PathBuf {
        let update = format!("[update]\nkeys = [\"{}\"]\n{more}", self.key());
        let path = config_with(self.dir.path(), &self.broker.url(), &update, BOARDS);
        let text = std::fs::read_to_string(&path).unwrap().replace(&bundle().display().to_string(), with);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The same, connected, with its state on the broker.
    pub fn ready(&self, more: &str) -> Daemon {
        self.ready_with(more, &[])
    }

    /// With environment variables.
    pub fn ready_with(&self, more: &str, environment: &[(&str, &str)]) -> Daemon {
        let daemon = self.gateway_with(more, environment);
        daemon.wait_for_log(30, "connected");
        eventually(20, "the gateway's state", || {
            (self.broker.retained("inspect/v1/test/gw/state")?["online"] == true).then_some(())
        });
        eventually(20, "the gateway's report", || self.reported().is_object().then_some(()));
        daemon
    }

    /// With environment variables.
    pub fn gateway_with(&self, more: &str, environment: &[(&str, &str)]) -> Daemon {
        let update = format!("[update]\nkeys = [\"{}\"]\n{more}", self.key());
        Daemon::start_with(&config_with(self.dir.path(), &self.broker.url(), &update, BOARDS), environment)
    }

    /// A bundle as the shipped one, with another version and with changes to its manifest.
    pub fn bundle(&self, version: &str, change: impl Fn(&mut Value)) -> PathBuf {
        let to = self.path(&format!("bundle-{version}"));
        copy(&bundle(), &to);
        let path = to.join("bundle.json");
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        manifest["version"] = version.into();
        change(&mut manifest);
        std::fs::write(&path, serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
        to
    }

    pub fn sign(&self, bundle: &Path, counter: &str, more: &[&str]) -> String {
        let (bundle, out) = (bundle.display().to_string(), format!("release-{counter}"));
        let args = ["sign", "--bundle", &bundle, "--key", "line.key", "--counter", counter, "--out", &out];
        let usual = [("--shadow-frames", "10"), ("--trial-frames", "20")];
        let usual = usual.iter().filter(|(name, _)| !more.contains(name)).flat_map(|(name, value)| [*name, *value]);
        self.model(&args.into_iter().chain(usual).chain(more.iter().copied()).collect::<Vec<_>>());
        out
    }

    pub fn push(&self, release: &str, bundle: &Path) -> Output {
        let (url, bundle) = (self.broker.url(), bundle.display().to_string());
        self.try_model(&["push", release, "--bundle", &bundle, "--broker", &url, "--to", "test/*", "--patience", "2"])
    }

    /// As [`Self::push`], and goes on meanwhile.
    pub fn pushing_away(&self, release: &str, bundle: &Path) -> Child {
        let (url, bundle) = (self.broker.url(), bundle.display().to_string());
        Command::new(INSPECTD)
            .args(["model", "push", release, "--bundle", &bundle, "--broker", &url, "--to", "test/*"])
            .current_dir(self.dir.path())
            .spawn()
            .unwrap()
    }

    /// The same in the background.
    pub fn pushing(&self, release: &str, bundle: &Path) -> Child {
        let (url, bundle) = (self.broker.url(), bundle.display().to_string());
        Command::new(INSPECTD)
            .args(["model", "push", release, "--bundle", &bundle, "--broker", &url, "--to", "test/*", "--keep"])
            .current_dir(self.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    pub fn reported(&self) -> Value {
        self.broker.retained("inspect/v1/test/gw/model/reported").unwrap_or_default()
    }

    pub fn wait_for(&self, what: &str, f: impl Fn(&Value) -> bool) -> Value {
        eventually(60, what, || {
            let reported = self.reported();
            f(&reported).then_some(reported)
        })
    }

    pub fn desired(&self, payload: &[u8]) {
        let path = self.path("message");
        std::fs::write(&path, payload).unwrap();
        let port = self.broker.port.to_string();
        let args = ["-p", &port, "-q", "1", "-r", "-t", "inspect/v1/test/gw/model/desired", "-f"];
        assert!(Command::new("mosquitto_pub").args(args).arg(&path).status().unwrap().success());
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
