//! The console as a child, and an HTTP client that has logged in to it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use ureq::Agent;

use super::{INSPECTD, eventually, free_port};

pub struct Console {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    port: u16,
    scheme: &'static str,
}

impl Console {
    pub fn start(url: &str, state: &Path) -> Self {
        Self::start_with(url, state, &[])
    }

    /// With more arguments.
    pub fn start_with(url: &str, state: &Path, more: &[&str]) -> Self {
        let port = free_port();
        let mut child = Command::new(INSPECTD)
            .args(["console", "--broker", url, "--listen", &format!("127.0.0.1:{port}"), "--state"])
            .arg(state)
            .args(more)
            .env_remove("JOURNAL_STREAM")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        for out in [
            Box::new(child.stdout.take().unwrap()) as Box<dyn std::io::Read + Send>,
            Box::new(child.stderr.take().unwrap()),
        ] {
            let sink = Arc::clone(&said);
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    sink.lock().unwrap().push(line);
                }
            });
        }
        let scheme = if more.contains(&"--tls-cert") { "https" } else { "http" };
        let console = Self { child, said, port, scheme };
        console.wait_for_log(20, "the page is at");
        console
    }

    pub fn log(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    #[track_caller]
    pub fn wait_for_log(&self, seconds: u64, text: &str) {
        eventually(seconds, &format!("log line with {text:?} in:\n{}", self.log()), || {
            self.log().contains(text).then_some(())
        });
    }

    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// The password that the first start has printed.
    pub fn password(&self) -> String {
        let log = self.log();
        let words: Vec<&str> = log.split_whitespace().collect();
        let at = words.windows(2).position(|pair| pair == ["the", "password"]).expect("it was printed");
        words[at + 2].to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    #[track_caller]
    pub fn terminate(mut self, seconds: u64) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        eventually(seconds, "the console ends", || self.child.try_wait().unwrap())
    }

    /// Logged in as the engineer of the first start.
    pub fn engineer(&self) -> Web {
        self.login("admin", &self.password())
    }

    pub fn login(&self, user: &str, password: &str) -> Web {
        let mut web = Web::new(self.url());
        let (status, body) = web.post("/api/v1/login", &json!({ "user": user, "password": password }));
        assert_eq!(status, 200, "{body}");
        web.logged_in = true;
        web
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the console's log\n{}", self.log());
        }
    }
}

/// A client with a cookie.
pub struct Web {
    base: String,
    agent: Agent,
    pub cookie: String,
    pub logged_in: bool,
}

impl Web {
    pub fn new(base: String) -> Self {
        // Certificates of tests vouch for themselves.
        let tls = ureq::tls::TlsConfig::builder()
            .disable_verification(true)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder().http_status_as_error(false).tls_config(tls).build().into();
        Self { base, agent, cookie: String::new(), logged_in: false }
    }

    fn answer(&mut self, mut response: ureq::http::Response<ureq::Body>) -> (u16, Value) {
        if let Some(cookie) = response.headers().get("set-cookie") {
            cookie.to_str().unwrap().split(';').next().unwrap().clone_into(&mut self.cookie);
        }
        let text = response.body_mut().read_to_string().unwrap_or_default();
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub fn get(&mut self, path: &str) -> (u16, Value) {
        let request = self.agent.get(format!("{}{path}", self.base)).header("Cookie", &self.cookie);
        let response = request.call().unwrap();
        self.answer(response)
    }

    /// What must be there.
    #[track_caller]
    pub fn read(&mut self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub fn post(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.agent.post(format!("{}{path}", self.base)).header("Cookie", &self.cookie);
        let request = request.header("X-Inspectd", "1").header("Content-Type", "application/json");
        let response = request.send(body.to_string()).unwrap();
        self.answer(response)
    }

    pub fn upload(&mut self, path: &str, bytes: &[u8]) -> (u16, Value) {
        let request = self.agent.post(format!("{}{path}", self.base)).header("Cookie", &self.cookie);
        let request = request.header("X-Inspectd", "1").header("Content-Type", "application/x-tar");
        let response = request.send(bytes).unwrap();
        self.answer(response)
    }

    pub fn delete(&mut self, path: &str) -> (u16, Value) {
        let request = self.agent.delete(format!("{}{path}", self.base)).header("Cookie", &self.cookie);
        let response = request.header("X-Inspectd", "1").call().unwrap();
        self.answer(response)
    }

    /// Without the cookie, and with these headers.
    pub fn bare(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = self.agent.run(request.body(String::new()).unwrap()).unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap_or_default())
    }
}
