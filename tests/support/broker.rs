//! Real mosquitto as a child, with the configuration that ships, and what a subscriber gets from it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::{eventually, free_port, root};

pub struct Broker {
    pub port: u16,
    more: String,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Broker {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// With more lines in its configuration.
    pub fn start_with(more: &str) -> Self {
        let (port, dir, more) = (free_port(), tempfile::tempdir().unwrap(), more.to_owned());
        let mut broker = Self { port, more, dir, child: None };
        broker.up();
        broker
    }

    /// Starts it (again), on the same port and with what it had saved.
    pub fn up(&mut self) {
        let shipped = std::fs::read_to_string(root().join("config/mosquitto.conf")).unwrap();
        let state = self.dir.path().display().to_string();
        let shipped = shipped.replace("@PORT@", &self.port.to_string()).replace("@STATE@", &state);
        // As root, mosquitto would become a user who cannot write here.
        let config = format!("{shipped}\nuser root\n{}\n", self.more);
        let path = self.dir.path().join("mosquitto.conf");
        std::fs::write(&path, config).unwrap();
        let program =
            ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"].iter().map(PathBuf::from).find(|p| p.exists());
        let program = program.unwrap_or_else(|| "mosquitto".into());
        let child = Command::new(program).arg("-c").arg(&path).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("mosquitto is installed by `make test`"));
        let port = self.port;
        eventually(10, "mosquitto listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    }

    /// Ends it as a restart does: it saves what it holds.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            let _ = child.wait();
        }
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// A subscriber with a session that outlives cuts.
    pub fn subscribe(&self, filter: &str) -> Subscriber {
        Subscriber::start(self.port, filter)
    }

    /// The retained message of a topic, if there is one.
    pub fn retained(&self, topic: &str) -> Option<Value> {
        let out = Command::new("mosquitto_sub")
            .args(["-p", &self.port.to_string(), "-t", topic, "-C", "1", "-W", "1"])
            .output()
            .unwrap();
        serde_json::from_slice(&out.stdout).ok()
    }

    /// Whether anything at all is retained under a filter.
    pub fn retains(&self, filter: &str) -> bool {
        let out = Command::new("mosquitto_sub")
            .args(["-p", &self.port.to_string(), "-t", filter, "-C", "1", "-W", "1"])
            .output()
            .unwrap();
        !out.stdout.is_empty()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

type Messages = Vec<(String, Vec<u8>)>;

/// `mosquitto_sub` as a child: topics and payloads in the order in which they came.
pub struct Subscriber {
    child: Child,
    lines: Arc<Mutex<Messages>>,
}

impl Subscriber {
    fn start(port: u16, filter: &str) -> Self {
        let id = format!("test-{}", uuid::Uuid::now_v7());
        let mut child = Command::new("mosquitto_sub")
            // Payload in hexadecimal, since pictures are no text.
            .args(["-p", &port.to_string(), "-i", &id, "-c", "-q", "1", "-F", "%t %x", "-t", filter])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_sub is installed by `make test`");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (sink, out) = (Arc::clone(&lines), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let (topic, payload) = line.split_once(' ').unwrap_or((&line, ""));
                sink.lock().unwrap().push((topic.to_owned(), hex::decode(payload).unwrap_or_default()));
            }
        });
        // The subscription is in force once the broker has answered; there is no output to wait for.
        std::thread::sleep(Duration::from_millis(300));
        Self { child, lines }
    }

    pub fn messages(&self) -> Messages {
        self.lines.lock().unwrap().clone()
    }

    /// How many messages have come.
    pub fn count(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    /// Those payloads that are JSON.
    pub fn json(&self) -> Vec<Value> {
        self.messages().iter().filter_map(|(_, payload)| serde_json::from_slice(payload).ok()).collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
