//! The daemon as a child.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use super::{INSPECTD, bundle, eventually};

pub struct Daemon {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

/// A configuration with the cameras given as TOML.
pub fn config(dir: &Path, url: &str, cameras: &str) -> PathBuf {
    config_with(dir, url, "", cameras)
}

/// The same for a gateway of another name.
pub fn config_of(dir: &Path, gateway: &str, url: &str, cameras: &str) -> PathBuf {
    let path = config(dir, url, cameras);
    let text = std::fs::read_to_string(&path).unwrap().replace("name = \"gw\"", &format!("name = \"{gateway}\""));
    std::fs::write(&path, text).unwrap();
    path
}

/// The same with more tables.
pub fn config_with(dir: &Path, url: &str, more: &str, cameras: &str) -> PathBuf {
    let text = format!(
        "[gateway]\nsite = \"test\"\nname = \"gw\"\nstate_dir = \"state\"\n[mqtt]\nurl = \"{url}\"\nresults = \"all\"\n\
         [model]\nbundle = \"{}\"\nthreads = 2\n{more}\n{cameras}\n",
        bundle().display()
    );
    let path = dir.join("inspectd.toml");
    std::fs::write(&path, text).unwrap();
    path
}

impl Daemon {
    pub fn start(config: &Path) -> Self {
        Self::start_with(config, &[])
    }

    /// With environment variables.
    pub fn start_with(config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(INSPECTD)
            .args(["run", "--config"])
            .arg(config)
            .envs(environment.iter().copied())
            .env_remove("JOURNAL_STREAM")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sink, out) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        Self { child, log }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Reads the log also when the daemon is gone.
    pub fn log_handle(&self) -> impl Fn() -> String + use<> {
        let log = Arc::clone(&self.log);
        move || log.lock().unwrap().join("\n")
    }

    #[track_caller]
    pub fn wait_for_log(&self, seconds: u64, text: &str) {
        eventually(seconds, &format!("log line with {text:?} in:\n{}", self.log()), || {
            self.log().contains(text).then_some(())
        });
    }

    /// kill -9.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub fn terminate(mut self, seconds: u64) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        eventually(seconds, "the daemon ends", || self.child.try_wait().unwrap())
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait_for_end(mut self, seconds: u64, what: &str) {
        eventually(seconds, what, || self.child.try_wait().unwrap());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}", self.log());
        }
    }
}
