//! Debian's Chromium, driven over the WebDriver protocol (<https://www.w3.org/TR/webdriver2/>).

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ct_codecs::{Base64, Decoder as _};
use serde_json::{Value, json};
use ureq::Agent;

use super::{eventually, free_port};

/// The name under which an element is handed over.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub struct Browser {
    driver: Child,
    agent: Agent,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// A window of this size.
    pub fn start(width: u32, height: u32) -> Self {
        let (port, profile) = (free_port(), tempfile::tempdir().unwrap());
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium-driver is installed by `make test`");
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        let base = format!("http://127.0.0.1:{port}");
        eventually(20, "the browser's driver is ready", || agent.get(format!("{base}/status")).call().ok().map(drop));
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--lang=en-GB",
        ];
        let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        arguments.push(format!("--window-size={width},{height}"));
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let mut browser = Self { driver, agent, session: format!("{base}/session"), _profile: profile };
        let made = browser.post("", &wanted);
        browser.session = format!("{base}/session/{}", made["sessionId"].as_str().expect("a session"));
        browser
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        self.try_post(path, body).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn try_post(&self, path: &str, body: &Value) -> Result<Value, Value> {
        let url = format!("{}{path}", self.session);
        let mut response =
            self.agent.post(url).header("Content-Type", "application/json").send(body.to_string()).unwrap();
        let text = response.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        if response.status().is_success() { Ok(answer["value"].clone()) } else { Err(answer["value"].clone()) }
    }

    fn get(&self, path: &str) -> Value {
        let mut response = self.agent.get(format!("{}{path}", self.session)).call().unwrap();
        let text = response.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["value"].clone()
    }

    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    fn try_find(&self, selector: &str) -> Option<String> {
        let found = self.try_post("/element", &json!({ "using": "css selector", "value": selector })).ok()?;
        found[ELEMENT].as_str().map(ToOwned::to_owned)
    }

    #[track_caller]
    pub fn find(&self, selector: &str) -> String {
        eventually(20, &format!("{selector} on the page"), || self.try_find(selector))
    }

    pub fn has(&self, selector: &str) -> bool {
        self.try_find(selector).is_some()
    }

    /// Clicks as soon as that is possible.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        eventually(20, &format!("a click on {selector}"), || {
            let element = self.try_find(selector)?;
            self.try_post(&format!("/element/{element}/click"), &json!({})).ok()
        });
    }

    #[track_caller]
    pub fn write(&self, selector: &str, text: &str) {
        eventually(20, &format!("writing into {selector}"), || {
            let element = self.try_find(selector)?;
            self.try_post(&format!("/element/{element}/clear"), &json!({})).ok()?;
            self.try_post(&format!("/element/{element}/value"), &json!({ "text": text })).ok()
        });
    }

    /// Puts a file into an input.
    pub fn choose(&self, selector: &str, file: &Path) {
        let element = self.find(selector);
        self.post(&format!("/element/{element}/value"), &json!({ "text": file.display().to_string() }));
    }

    /// Keys for whatever has the focus.
    pub fn keys(&self, text: &str) {
        let strokes: Vec<Value> = text
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() })))
            .collect();
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] }));
    }

    pub fn text(&self, selector: &str) -> String {
        self.run(&format!("return document.querySelector({}).textContent", json!(selector)))
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Runs a script in the page.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The same, with a promise.
    #[track_caller]
    pub fn run_async(&self, script: &str) -> Value {
        self.post("/execute/async", &json!({ "script": script, "args": [] }))
    }

    pub fn size(&self, width: u32, height: u32) {
        // As a phone would say of itself.
        let parameters = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.post("/goog/cdp/execute", &json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": parameters }));
    }

    pub fn screenshot(&self, path: &Path) {
        let text = self.get("/screenshot");
        std::fs::write(path, Base64::decode_to_vec(text.as_str().unwrap(), None).unwrap()).unwrap();
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        self.post("/se/log", &json!({ "type": kind })).as_array().cloned().unwrap_or_default()
    }

    /// What the page has complained of since this was asked last: exceptions, violations of its policy, files that are missing.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.log("browser");
        let bad = log.iter().filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        bad.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Addresses that were asked since this was asked last.
    pub fn requests(&self) -> Vec<String> {
        let log = self.log("performance");
        let sent = log.iter().filter_map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            (message["method"] == "Network.requestWillBeSent")
                .then(|| message["params"]["request"]["url"].as_str().unwrap_or_default().to_owned())
        });
        sent.collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
