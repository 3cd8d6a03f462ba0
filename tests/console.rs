//! The control room: the real binary, a real broker, real gateways and a real browser.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use inspectd::config::value::{BrokerUrl, Density};
use inspectd::config::{ProtocolVersion, SyntheticSource};
use inspectd::frame::jpeg;
use inspectd::frame::source::{FrameSource as _, Next};
use inspectd::frame::synthetic::Synthetic;
use inspectd::mqtt::link::{Event, Link, LinkOptions};
use inspectd::mqtt::tls::TlsFiles;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::commands::unnamed;
use crate::support::broker::Broker;
use crate::support::browser::Browser;
use crate::support::console::{Console, Web};
use crate::support::daemon::{Daemon, config};
use crate::support::plant::Plant;
use crate::support::{INSPECTD, eventually, root, soak};

/// An event, as a gateway would send it.
fn event(gateway: &str, seq: u64, change: Value) -> Value {
    let now = Timestamp::now();
    let mut event = json!({
        "schema": "inspect.event/1", "id": Uuid::now_v7(), "seq": seq, "at": now, "site": "test", "gateway": gateway,
        "alarm": Uuid::now_v7(), "transition": "raised", "state": "unacknowledged", "kind": "defect", "class": "steel/scratches",
        "severity": "major", "score": 0.9, "camera": "line-1", "box": [60, 40, 200, 160],
        "frame": { "seq": 1, "captured_at": now, "width": 320, "height": 240 }, "image": null,
        "model": { "name": "demo", "version": "1.0.0", "sha256": "00" }, "replayed": false,
    });
    let (Value::Object(all), Value::Object(change)) = (&mut event, change) else { panic!() };
    all.extend(change);
    event
}

fn publish(broker: &Broker, topic: &str, payload: &[u8], more: &[&str]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), payload).unwrap();
    let port = broker.port.to_string();
    let args = ["-p", &port, "-q", "1", "-t", topic, "-f"];
    assert!(Command::new("mosquitto_pub").args(args).arg(file.path()).args(more).status().unwrap().success());
}

fn say(broker: &Broker, event: &Value) {
    let gateway = event["gateway"].as_str().unwrap();
    publish(broker, &format!("inspect/v1/test/{gateway}/events"), event.to_string().as_bytes(), &[]);
}

/// Logs in by the page.
fn enter(browser: &Browser, console: &Console, password: &str) {
    browser.open(&console.url());
    browser.write("[data-test=login-user]", "admin");
    browser.write("[data-test=login-password]", password);
    browser.click("[data-test=login-submit]");
    eventually(20, "the page behind the login", || {
        (!browser.has("[data-test=login-user]") && browser.has("[data-test=nav-alarms]")).then_some(())
    });
}

/// What a page must never do.
fn is_clean(browser: &Browser, console: &Console, expected: &[&str]) {
    let complaints = browser.complaints();
    let bad: Vec<_> = complaints.iter().filter(|text| !expected.iter().any(|known| text.contains(known))).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let own = console.url();
    let is_ours = |url: &String| url.starts_with(&own) || url.starts_with("data:") || url.starts_with("blob:");
    let foreign: Vec<String> =
        browser.requests().into_iter().filter(|url| !is_ours(url) && !url.starts_with("chrome")).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

/// Where screenshots go: with `INSPECTD_SHOTS` into docs.
fn shot(browser: &Browser, name: &str) {
    if std::env::var_os("INSPECTD_SHOTS").is_some() {
        browser.screenshot(&root().join("docs/console").join(format!("{name}.png")));
    }
}

#[test]
fn an_alarm_is_seen_within_a_second_answered_and_taught() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let console = Console::start(&broker.url(), &dir.path().join("console"));
    let browser = Browser::start(1600, 900);
    enter(&browser, &console, &console.password());
    // The first one takes the longest, so it is not measured.
    let mut times = Vec::new();
    for n in 1..=6 {
        let event = event("press", n, json!({}));
        let row = format!("[data-test=alarm-row][data-id='{}']", event["alarm"].as_str().unwrap());
        let begun = Instant::now();
        say(&broker, &event);
        browser.find(&row);
        times.push(begun.elapsed().as_secs_f64());
    }
    times.remove(0);
    times.sort_by(f64::total_cmp);
    println!(
        "from publishing (a process each) to the row on the page: median {:.3} s, most {:.3} s",
        times[2], times[4]
    );
    assert!(times[4] < 1.0, "{times:?}");

    // A real gateway.
    let daemon = Daemon::start(&config(dir.path(), &broker.url(), &unnamed(5)));
    let anomaly = "[data-test=alarm-row][data-kind=anomaly]";
    eventually(120, "an anomaly of the gateway", || browser.has(anomaly).then_some(()));
    let id = browser.run(&format!("return document.querySelector({}).dataset.id", json!(anomaly)));
    let id = id.as_str().unwrap().to_owned();
    browser.click(&format!("[data-test=alarm-row][data-id='{id}']"));
    browser.find("[data-test=detail]");
    browser.find("[data-test=detail] [data-test=action-ack]");
    browser.keys("a");
    let state = || {
        browser
            .run(&format!("return document.querySelector(\"[data-test=alarm-row][data-id='{id}']\")?.dataset.state"))
            .as_str()
            .map(ToOwned::to_owned)
    };
    // It may be over by then, which is an end as well.
    eventually(10, "the gateway says that it is acknowledged", || {
        (state().is_none_or(|state| matches!(state.as_str(), "acknowledged" | "normal"))).then_some(())
    });
    let mut web = console.login("admin", &console.password());
    let alarm = web.read(&format!("/api/v1/alarms/{id}"));
    assert_eq!((&alarm["alarm"]["acknowledged"], &alarm["alarm"]["by"]), (&json!(true), &json!("admin")), "{alarm}");
    assert_eq!(alarm["alarm"]["pending"], json!([]));
    assert!(alarm["alarm"]["heat"]["values"].as_str().is_some_and(|values| !values.is_empty()), "{alarm}");
    let sha256 = alarm["alarm"]["image"].as_str().unwrap().to_owned();
    eventually(5, "its picture", || (web.get(&format!("/api/v1/images/{sha256}")).0 == 200).then_some(()));

    browser.click("[data-test=detail] [data-test=action-teach]");
    browser.write("[data-test=teach-class]", "strip/mark");
    browser.click("[data-test=teach-submit]");
    let taught = |web: &mut Web| {
        let commands = web.read(&format!("/api/v1/alarms/{id}"))["commands"].clone();
        commands.as_array().unwrap().iter().find(|c| c["command"] == "teach" && c["ok"] == true).cloned()
    };
    let taught = eventually(10, "it is taught", || taught(&mut web));
    assert_eq!(taught["result"]["class"], "strip/mark", "{taught}");
    daemon.wait_for_log(10, "command=\"teach\"");

    // What a gateway refuses is told to who asked.
    let order = json!({ "site": "test", "gateway": "gw", "command": "ack", "payload": { "alarms": [Uuid::now_v7()] } });
    let (status, given) = web.post("/api/v1/commands", &order);
    assert_eq!(status, 202, "{given}");
    // A picture of now, of a camera that nothing asks for.
    let order = json!({ "site": "test", "gateway": "gw", "command": "snapshot", "payload": { "camera": "strip" } });
    assert_eq!(web.post("/api/v1/commands", &order).0, 202);
    for (payload, words) in [
        (
            json!({ "site": "test", "gateway": "nobody", "command": "ack", "payload": { "alarms": [] } }),
            "there is no gateway",
        ),
        (json!({ "site": "test", "gateway": "gw", "command": "dance" }), "there is no command dance"),
        (json!({ "site": "test", "gateway": "gw", "command": "trigger", "payload": {} }), "missing field `camera`"),
    ] {
        let (status, body) = web.post("/api/v1/commands", &payload);
        assert!(status >= 400 && body["error"].as_str().unwrap().contains(words), "{body}");
    }
    is_clean(&browser, &console, &[]);
    assert!(daemon.terminate(5).success());
    assert!(console.terminate(5).success());
}

#[test]
fn names_are_text_and_the_language_changes_at_once() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let console = Console::start(&broker.url(), &dir.path().join("console"));
    let evil = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>";
    say(
        &broker,
        &event("gw", 1, json!({ "class": evil, "kind": "anomaly", "comment": evil, "by": evil, "reason": evil })),
    );
    // What is no picture, and what is of another gateway, is not taken.
    let html = b"<html><script>alert(1)</script>";
    let hash = hex::encode(Sha256::digest(html));
    publish(&broker, &format!("inspect/v1/test/gw/images/{hash}"), html, &[]);
    publish(&broker, "inspect/v1/test/gw/events", event("other", 2, json!({})).to_string().as_bytes(), &[]);
    publish(&broker, "inspect/v1/test/gw/events", b"\xff\xfe{", &[]);
    let browser = Browser::start(1600, 900);
    enter(&browser, &console, &console.password());
    browser.click("[data-test=alarm-row]");
    browser.find("[data-test=detail]");
    assert!(browser.text("[data-test=alarm-row]").contains("<script>"), "it is shown as it is written");
    assert_eq!(browser.run("return document.querySelectorAll('[data-test=detail] script, [data-test=alarm-row] script, img[src=x]').length"), 0);
    let english = browser.text("[data-test=nav-alarms]");
    browser.click("[data-test=lang-switch]");
    eventually(5, "another language", || (browser.text("[data-test=nav-alarms]") != english).then_some(()));
    assert_eq!(browser.run("return document.documentElement.lang.slice(0, 2)"), "zh");
    for view in ["history", "fleet", "models", "report", "settings", "alarms"] {
        browser.click(&format!("[data-test=nav-{view}]"));
        std::thread::sleep(Duration::from_millis(200));
        assert_ne!(browser.run("return document.title"), "pwned");
    }
    let missing = browser.run_async(
        "const done = arguments[0];
         import('/assets/i18n.js').then((i18n) => done(i18n.differences()));",
    );
    assert_eq!(missing, json!([]), "both dictionaries say the same");
    is_clean(&browser, &console, &[]);
    let mut web = console.engineer();
    // Its gateway was never there, so that only the control room can end it.
    let id = web.read("/api/v1/alarms")["alarms"][0]["alarm"].as_str().unwrap().to_owned();
    browser.click("[data-test=nav-alarms]");
    browser.click("[data-test=alarm-row]");
    browser.click("[data-test=detail] [data-test=action-close]");
    browser.click("[data-test=confirm]");
    let alarm = eventually(10, "it is closed", || {
        let alarm = web.read(&format!("/api/v1/alarms/{id}"))["alarm"].clone();
        (alarm["state"] == "normal").then_some(alarm)
    });
    assert!(alarm["comment"].as_str().unwrap().contains("by admin"), "{alarm}");
    say(&broker, &event("gw", 9, json!({ "class": evil })));
    eventually(10, "the next one", || {
        (!web.read("/api/v1/alarms")["alarms"].as_array().unwrap().is_empty()).then_some(())
    });
    assert_eq!(web.get(&format!("/api/v1/images/{hash}")).0, 204);
    assert_eq!(web.read("/api/v1/alarms")["alarms"].as_array().unwrap().len(), 1);
}

#[test]
fn a_bundle_is_uploaded_rolled_out_and_committed() {
    let plant = Plant::new();
    let daemon = plant.ready("");
    let bundle = plant.bundle("9.9.9", |_| {});
    let release = plant.sign(&bundle, "7", &[]);
    plant.model(&["pack", &release, "--bundle", &bundle.display().to_string(), "--out", "line.tar"]);
    let console = Console::start(&plant.broker.url(), &plant.path("console"));
    let browser = Browser::start(1600, 900);
    enter(&browser, &console, &console.password());
    browser.click("[data-test=nav-models]");
    browser.choose("[data-test=upload-input]", &plant.path("line.tar"));
    let mut web = console.engineer();
    let releases = eventually(20, "it is uploaded", || {
        let releases = web.read("/api/v1/releases")["releases"].clone();
        (!releases.as_array().unwrap().is_empty()).then_some(releases)
    });
    assert_eq!((&releases[0]["version"], &releases[0]["counter"]), (&json!("9.9.9"), &json!(7)), "{releases}");
    // A file in which one byte is another is refused before it is kept.
    let mut damaged = std::fs::read(plant.path("line.tar")).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let (status, body) = web.upload("/api/v1/releases", &damaged);
    assert!(status == 422 && body["error"].as_str().unwrap().contains("not the one that was signed"), "{body}");
    assert_eq!(web.upload("/api/v1/releases", b"nothing of the kind").0, 422);

    browser.find("[data-test=rollout-submit]");
    eventually(10, "the roll-out can be begun", || {
        browser
            .run("const b = document.querySelector('[data-test=rollout-submit]'); return b && !b.disabled")
            .as_bool()
            .filter(|b| *b)
    });
    browser.click("[data-test=rollout-submit]");
    let course = eventually(60, "the roll-out has ended", || {
        let courses = web.read("/api/v1/rollouts")["rollouts"].clone();
        (!courses[0]["ended_at"].is_null()).then(|| courses[0].clone())
    });
    assert_eq!(
        (&course["phase"], &course["gateways"][0]["outcome"]),
        (&json!("done"), &json!("committed")),
        "{course}"
    );
    assert_eq!(plant.reported()["active"]["version"], "9.9.9");
    eventually(10, "the page says so", || browser.text("[data-test=rollout-row]").contains("9.9.9").then_some(()));
    // One that needs a word of the engineer's.
    let bundle = plant.bundle("9.9.10", |_| {});
    let release = plant.sign(&bundle, "8", &["--approve"]);
    plant.model(&["pack", &release, "--bundle", &bundle.display().to_string(), "--out", "line-8.tar"]);
    let (status, second) = web.upload("/api/v1/releases", &std::fs::read(plant.path("line-8.tar")).unwrap());
    assert_eq!(status, 201, "{second}");
    let wish = json!({ "release": second["sha256"], "to": "test/*", "waves": "1,100%" });
    assert_eq!(web.post("/api/v1/rollouts", &wish).0, 202);
    let (status, body) = web.post("/api/v1/rollouts", &wish);
    assert!(status == 422 && body["error"].as_str().unwrap().contains("is being rolled out"), "{body}");
    let waits = |reported: &Value| {
        reported["phase"] == "shadow" && reported["reason"].as_str().is_some_and(|r| r.contains("approve"))
    };
    plant.wait_for("it waits for a word", waits);
    let order = json!({ "site": "test", "gateway": "gw", "command": "approve" });
    assert_eq!(web.post("/api/v1/commands", &order).0, 202);
    eventually(60, "it is committed", || {
        (web.read("/api/v1/rollouts")["rollouts"][0]["phase"] == "done").then_some(())
    });
    assert_eq!(web.delete(&format!("/api/v1/releases/{}", second["sha256"].as_str().unwrap())).0, 204);
    is_clean(&browser, &console, &[]);
    assert!(daemon.terminate(5).success());
}

#[test]
fn without_a_login_no_route_answers_and_guessing_is_slow() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let console = Console::start(&broker.url(), &dir.path().join("console"));
    let mut web = console.engineer();
    let document = web.read("/api/v1/openapi.json");
    let nobody = Web::new(console.url());
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{id}", "x").replace("{sha256}", &"0".repeat(64)).replace("{name}", "admin");
            for headers in [
                &[][..],
                &[("X-Inspectd", "1"), ("Cookie", "inspectd=00"), ("Authorization", "Bearer x")],
                &[("X-Inspectd", "1")],
            ] {
                let (status, body) = nobody.bare(&method.to_uppercase(), &path, headers);
                let wanted: &[u16] = if path.ends_with("/login") { &[403, 415] } else { &[401, 403] };
                let is_nobody = path == "/api/v1/me" && status == 200 && body == r#"{"user":null}"#;
                assert!(wanted.contains(&status) || is_nobody, "{method} {path}: {status} {body}");
                assert!(
                    serde_json::from_str::<Value>(&body).is_ok_and(|body| body.as_object().unwrap().len() == 1),
                    "{path}: {body}"
                );
                tried += 1;
            }
        }
    }
    // What is no body of that route is refused in the same form.
    let (status, body) = web.post("/api/v1/users", &json!({ "name": 3 }));
    assert!(status == 422 && body["error"].as_str().is_some_and(|words| words.contains("name")), "{status} {body}");
    for path in [
        "/api",
        "/api/v1",
        "/api/v2/alarms",
        "/assets/../console.db",
        "/console.db",
        "/assets/%2e%2e%2fmod.rs",
        "/.env",
    ] {
        assert_eq!(nobody.bare("GET", path, &[]).0, 404, "{path}");
    }
    println!("{tried} requests without a login: none answers data");
    // What changes something comes from this page alone.
    let cookie = web.cookie.clone();
    for headers in [
        vec![("Cookie", cookie.as_str())],
        vec![("Cookie", cookie.as_str()), ("X-Inspectd", "1"), ("Origin", "http://evil.example")],
    ] {
        assert_eq!(nobody.bare("DELETE", "/api/v1/users/admin", &headers).0, 403);
    }
    // Roles.
    assert_eq!(
        web.post("/api/v1/users", &json!({ "name": "ann", "role": "operator", "password": "long enough" })).0,
        201
    );
    let mut ann = console.login("ann", "long enough");
    assert_eq!(ann.get("/api/v1/users").0, 403);
    assert_eq!(ann.post("/api/v1/commands", &json!({ "site": "a", "gateway": "b", "command": "reload" })).0, 403);
    assert_eq!(ann.post("/api/v1/rollouts", &json!({ "release": "x", "to": "a/b" })).0, 403);
    let (_, token) = web.post("/api/v1/tokens", &json!({ "name": "grafana", "role": "operator" }));
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    let (status, metrics) = nobody.bare("GET", "/metrics", &[("Authorization", &bearer)]);
    assert!(status == 200 && metrics.contains("inspectd_console_broker_connected 1"), "{metrics}");
    assert_eq!(nobody.bare("GET", "/api/v1/users", &[("Authorization", &bearer)]).0, 403);

    let mut guesser = Web::new(console.url());
    let (begun, mut slower, mut checked) = (Instant::now(), 0, 0);
    for n in 0..1000 {
        let (status, _) = guesser.post("/api/v1/login", &json!({ "user": "admin", "password": format!("guess-{n}") }));
        (slower, checked) = (slower + usize::from(status == 429), checked + usize::from(status == 401));
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("1,000 wrong logins in {seconds:.1} s: {checked} were checked, {slower} told to wait");
    assert!(checked <= 6 + seconds as usize && checked + slower == 1000, "{checked} {slower}");
    assert_eq!(web.get("/api/v1/me").0, 200, "who is logged in already stays so");
}

#[test]
fn over_https_the_cookie_is_for_it_alone() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let more = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let console = Console::start_with(&broker.url(), &dir.path().join("console"), &more);
    let mut web = console.engineer();
    assert!(web.cookie.starts_with("__Host-inspectd="), "{}", web.cookie);
    assert_eq!(web.read("/api/v1/me")["user"], "admin");
    assert!(console.terminate(5).success());
    // A key that belongs to another certificate is said at once.
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&key, other.signing_key.serialize_pem()).unwrap();
    let out = Command::new(INSPECTD)
        .args(["console", "--broker", &broker.url(), "--state", dir.path().join("c").to_str().unwrap()])
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(78) && text.contains("does not go with"), "{text}");
}

/// Publishes events as quickly as the broker takes them.
struct Publisher {
    tokio: tokio::runtime::Runtime,
    options: LinkOptions,
}

impl Publisher {
    fn new(broker: &Broker) -> Self {
        let options = LinkOptions {
            url: BrokerUrl::new(&broker.url()).unwrap(),
            tls: TlsFiles::default(),
            client_id: format!("publisher-{}", Uuid::now_v7()),
            version: ProtocolVersion::Auto,
            user: None,
            password_file: None,
            keep_alive: Duration::from_secs(15),
            window: 512,
            max_packet: 1 << 20,
            max_incoming: 1 << 20,
            forget: false,
            lasting: false,
            will: None,
        };
        Self { tokio: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(), options }
    }

    /// Each until the broker has acknowledged it, however often it goes away.
    fn publish(&self, events: &[Value]) {
        self.tokio.block_on(async {
            let mut acknowledged = 0;
            while acknowledged < events.len() {
                let Ok(mut link) = Link::connect(&self.options).await else {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                };
                let mut sent = acknowledged;
                while acknowledged < events.len() {
                    while sent < events.len() && sent - acknowledged < 512 {
                        let event = &events[sent];
                        let topic = format!(
                            "inspect/v1/{}/{}/events",
                            event["site"].as_str().unwrap(),
                            event["gateway"].as_str().unwrap()
                        );
                        if link.publish(&topic, event.to_string().into_bytes(), 1, false, None).is_none() {
                            break;
                        }
                        sent += 1;
                    }
                    match link.next().await {
                        Event::Acknowledged(_) => acknowledged += 1,
                        event if event.is_last() => break,
                        _ => {}
                    }
                }
            }
        });
    }
}

/// 40 times with `INSPECTD_SOAK=1`, otherwise 6: kill -9 of the console, and restarts of the broker, under load. (A mosquitto that is
/// killed loses what it has acknowledged since it saved its state last, whoever reads from it.)
#[test]
fn nothing_is_missing_after_kills() {
    let (mut broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let state = dir.path().join("console");
    let (rounds, each) = if soak() { (40, 2500) } else { (6, 500) };
    let mut console = Some(Console::start(&broker.url(), &state));
    let password = console.as_ref().unwrap().password();
    console.as_ref().unwrap().wait_for_log(10, "connected to");
    let mut seq = 0;
    let mut all = BTreeSet::new();
    for round in 0..rounds {
        let events: Vec<Value> = (0..each)
            .map(|_| {
                seq += 1;
                event("gw", seq, json!({}))
            })
            .collect();
        all.extend(events.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
        std::thread::scope(|scope| {
            let publisher = Publisher::new(&broker);
            let publishing = scope.spawn(move || publisher.publish(&events));
            std::thread::sleep(Duration::from_millis(20 + 37 * (round as u64 % 9)));
            if round % 3 == 2 {
                broker.stop();
                std::thread::sleep(Duration::from_millis(300));
                broker.up();
            } else {
                console.take().unwrap().kill();
                console = Some(Console::start(&broker.url(), &state));
            }
            publishing.join().unwrap();
        });
    }
    let console = console.unwrap();
    let mut web = console.login("admin", &password);
    let (mut last, mut since) = (0, Instant::now());
    while last < all.len() as u64 && since.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(200));
        let count = web.read("/api/v1/alarms?limit=1")["counts"]["major"].as_u64().unwrap();
        if count > last {
            (last, since) = (count, Instant::now());
        }
    }
    println!("{last} of {} alarms have come", all.len());
    assert_eq!(web.read("/api/v1/gaps")["gaps"], json!([]));
    drop(web);
    assert!(console.terminate(5).success());
    let store = rusqlite::Connection::open(state.join("console.db")).unwrap();
    let mut query = store.prepare("SELECT id FROM event").unwrap();
    let kept: BTreeSet<String> = query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    println!("{} events, {rounds} kills: {} in the store", all.len(), kept.len());
    assert!(kept == all);
}

/// 100,000 events of 200 gateways with `INSPECTD_SOAK=1`, otherwise 6,000.
#[test]
fn many_events_come_in_and_are_found() {
    // One that does not write its whole state to the disk every few messages, which would be what is measured.
    let broker = Broker::start_with("autosave_on_changes false\nautosave_interval 600\n");
    let dir = tempfile::tempdir().unwrap();
    let (count, gateways) = if soak() { (100_000_u64, 200) } else { (6000, 200) };
    let console = Console::start(&broker.url(), &dir.path().join("console"));
    let mut web = console.engineer();
    let classes = ["steel/scratches", "steel/patches", "pcb/short", "tile/crack", "unknown", "container/dent"];
    let severities = ["minor", "major", "critical", "info"];
    let began = Timestamp::now().as_millisecond() - 30 * 24 * 3_600_000;
    for n in 0..gateways {
        let state = json!({
            "schema": "inspect.state/1", "online": true, "agent": "0.1.0", "uptime_s": 10, "cameras": ["a", "b"],
            "bundle": { "name": "m", "version": "1.0.0", "sha256": "00" },
            "outbox": { "appended": 0, "delivered": 0, "dropped": 0, "dead": 0, "queued": 0 },
        });
        if n % 10 == 0 {
            publish(
                &broker,
                &format!("inspect/v1/plant-{}/gw-{n}/state", n % 5),
                state.to_string().as_bytes(),
                &["-r"],
            );
        }
    }
    let mut numbers = vec![0_u64; gateways as usize];
    let events: Vec<Value> = (0..count)
        .map(|n| {
            let gateway = (n * 7919 % gateways) as usize;
            numbers[gateway] += 1;
            let at = Timestamp::from_millisecond(began + (n as i64) * 30 * 24 * 3_600_000 / count as i64).unwrap();
            let over = n % 50 != 0;
            let state = if over { "normal" } else { "unacknowledged" };
            event(&format!("gw-{gateway}"), numbers[gateway], json!({
                "site": format!("plant-{}", gateway % 5), "at": at, "class": classes[(n % 6) as usize], "camera": format!("cam-{}", n % 4),
                "severity": severities[(n / 3 % 4) as usize], "state": state,
            }))
        })
        .collect();
    let begun = Instant::now();
    Publisher::new(&broker).publish(&events);
    let published = begun.elapsed().as_secs_f64();
    let taken = |web: &mut Web| {
        let (_, text) = web.get("/metrics");
        let text = text.as_str().unwrap().to_owned();
        text.lines().find_map(|line| line.strip_prefix("inspectd_console_events_total ")?.parse::<f64>().ok()).unwrap()
    };
    eventually(180, "all are in the store", || (taken(&mut web) >= count as f64).then_some(()));
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{count} events: published in {published:.1} s, in the store after {seconds:.1} s, {:.0} a second",
        count as f64 / seconds
    );
    let mut worst = 0.0_f64;
    for path in [
        "/api/v1/alarms",
        "/api/v1/alarms?view=all",
        "/api/v1/alarms?view=all&severity=critical&class=pcb/*",
        "/api/v1/alarms?view=all&site=plant-3&gateway=gw-3&camera=cam-1",
        "/api/v1/alarms?view=all&q=nothing+of+the+kind",
        "/api/v1/alarms?view=over&q=dent&limit=500",
        "/api/v1/stats?from=2020-01-01T00:00:00Z&bucket=day",
        "/api/v1/fleet",
    ] {
        let mut times: Vec<f64> = (0..40)
            .map(|_| {
                let begun = Instant::now();
                web.read(path);
                begun.elapsed().as_secs_f64() * 1000.0
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{path}: p50 {:.1} ms, p95 {:.1} ms", times[20], times[37]);
        worst = worst.max(times[37]);
    }
    let browser = Browser::start(1600, 900);
    enter(&browser, &console, &console.password());
    let mut loads: Vec<f64> = (0..10)
        .map(|_| {
            let begun = Instant::now();
            browser.open(&console.url());
            browser.find("[data-test=alarm-row]");
            begun.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    loads.sort_by(f64::total_cmp);
    let loaded = browser.run("return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd");
    println!("of that, until the page's own files are there and have run: {:.0} ms", loaded.as_f64().unwrap());
    let status = std::fs::read_to_string(format!("/proc/{}/status", console.pid())).unwrap();
    let memory = status
        .lines()
        .filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"))
        .collect::<Vec<_>>()
        .join(", ");
    println!("the page with its rows: p50 {:.0} ms, most {:.0} ms; {memory}", loads[5], loads[9]);
    assert!(worst < 200.0, "{worst} ms");
    is_clean(&browser, &console, &[]);
}

/// The other side of a webhook, which refuses the first two.
#[test]
fn a_webhook_is_told_of_each_alarm() {
    use std::io::{Read as _, Write as _};
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/alarms", listener.local_addr().unwrap());
    let (sender, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let (mut stream, mut bytes, mut buffer) = (stream.unwrap(), Vec::new(), [0; 4096]);
            let whole = loop {
                let read = stream.read(&mut buffer).unwrap();
                bytes.extend(&buffer[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let length = text.lines().find_map(|line| {
                    line.to_lowercase().strip_prefix("content-length: ")?.trim().parse::<usize>().ok()
                });
                if let (Some((_, body)), Some(length)) = (text.split_once("\r\n\r\n"), length)
                    && body.len() >= length
                {
                    break text;
                }
            };
            let status = if n < 2 { "503 Service Unavailable" } else { "204 No Content" };
            stream
                .write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").as_bytes())
                .unwrap();
            if n >= 2 {
                let _ = sender.send(whole);
            }
        }
    });
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "shared\n").unwrap();
    let more = ["--webhook", &url, "--webhook-secret-file", secret.to_str().unwrap()];
    let console = Console::start_with(&broker.url(), &dir.path().join("console"), &more);
    console.wait_for_log(10, "connected to");
    let events: Vec<Value> = (1..=3).map(|seq| event("gw", seq, json!({}))).collect();
    events.iter().for_each(|event| say(&broker, event));
    say(&broker, &event("gw", 4, json!({ "transition": "cleared", "state": "normal" })));
    let told: Vec<String> =
        (0..3).map(|_| received.recv_timeout(Duration::from_secs(30)).expect("three are told")).collect();
    for (event, told) in events.iter().zip(&told) {
        let (head, body) = told.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!((&body["id"], &body["transition"]), (&event["id"], &json!("raised")), "in their order");
        assert!(head.to_lowercase().contains("x-inspectd-signature: sha256="), "{head}");
    }
    assert!(received.recv_timeout(Duration::from_secs(1)).is_err(), "and what is over is none");
}

/// The pictures in docs/console.md, and what stands for an audit: names, contrast and order.
#[test]
fn every_view_can_be_read_and_reached() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let console = Console::start(&broker.url(), &dir.path().join("console"));
    demonstrate(&broker);
    let browser = Browser::start(1600, 900);
    browser.size(1600, 900);
    enter(&browser, &console, &console.password());
    let audit = std::fs::read_to_string(root().join("tests/support/audit.js")).unwrap();
    let mut said = Vec::new();
    for theme in ["light", "dark"] {
        let dark = || {
            browser
                .run("return getComputedStyle(document.documentElement).colorScheme")
                .as_str()
                .unwrap_or_default()
                .contains("dark")
        };
        if dark() != (theme == "dark") {
            browser.click("[data-test=theme-switch]");
            eventually(5, "the other theme", || (dark() == (theme == "dark")).then_some(()));
        }
        for view in ["alarms", "history", "fleet", "models", "report", "settings"] {
            browser.click(&format!("[data-test=nav-{view}]"));
            std::thread::sleep(Duration::from_millis(500));
            if view == "alarms" {
                browser.click("[data-test=alarm-row]");
                browser.find("[data-test=detail]");
                std::thread::sleep(Duration::from_millis(500));
            }
            // Each view once, and the first in both themes.
            if view == "alarms" || (theme == "dark") == matches!(view, "history" | "fleet") {
                shot(&browser, &format!("{view}-{theme}"));
            }
            let found = browser.run(&audit);
            println!(
                "{view}, {theme}: {} texts, least contrast {:.2}, {} controls",
                found["texts"],
                found["least"].as_f64().unwrap(),
                found["controls"]
            );
            said.extend(
                found["problems"].as_array().unwrap().iter().map(|problem| format!("{view}, {theme}: {problem}")),
            );
        }
    }
    browser.size(390, 844);
    for view in ["alarms", "fleet"] {
        browser.click(&format!("[data-test=nav-{view}]"));
        std::thread::sleep(Duration::from_millis(500));
        shot(&browser, &format!("{view}-phone"));
        let wide = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert!(wide.as_f64().unwrap() <= 0.0, "{view} is wider than a phone by {wide} px");
    }
    assert!(said.is_empty(), "{said:#?}");
    is_clean(&browser, &console, &[]);
}

/// Alarms, gateways and pictures to be looked at.
fn demonstrate(broker: &Broker) {
    let mut strip =
        Synthetic::new(&SyntheticSource { seed: 7, defects_per_frame: Density::of(0.5), ..Default::default() });
    let (jpeg, bbox) = std::iter::repeat_with(|| strip.next(Instant::now()).unwrap())
        .find_map(|next| {
            let Next::Picture { image, .. } = next else { return None };
            // One that lies well within the picture.
            let truth = image.truth.as_ref().unwrap().iter().find(|truth| {
                let [x0, y0, x1, y1] = truth.bbox;
                x0 > 150.0 && x1 < 500.0 && y0 > 100.0 && y1 < 400.0 && x1 - x0 > 40.0
            });
            truth.map(|truth| (jpeg::encode(&image, 90).unwrap(), truth.bbox))
        })
        .unwrap();
    let [x0, y0, x1, y1] = bbox;
    let hash = hex::encode(Sha256::digest(&jpeg));
    let classes = [
        ("steel/scratches", "defect"),
        ("unknown", "anomaly"),
        ("pcb/short", "defect"),
        ("frozen", "camera"),
        ("container/dent", "defect"),
    ];
    let severities = ["critical", "major", "minor", "info"];
    let mut seqs = [0_u64; 3];
    for n in 0..48_usize {
        let gateway = n % 3;
        seqs[gateway] += 1;
        let (class, kind) = classes[n % 5];
        let at = Timestamp::now() - jiff::SignedDuration::from_mins(60 * 24 - 29 * n as i64);
        let state = if n < 36 {
            "normal"
        } else {
            ["unacknowledged", "acknowledged", "returned_to_normal_unacknowledged", "shelved"][n % 4]
        };
        let around = [x0 - 20.0, y0 - 20.0, x1 + 20.0, y1 + 20.0];
        let heat = json!({ "box": around, "width": 4, "height": 4, "values": "AEBAAEDA/0BA/8BAAEBAAA==" });
        let change = json!({
            "at": at, "class": class, "kind": kind, "severity": severities[(n / 2) % 4], "state": state, "image": hash, "camera": format!("line-{}", n % 4 + 1),
            "box": bbox, "frame": { "seq": n, "captured_at": at, "width": 640, "height": 480 }, "heat": if kind == "anomaly" { heat } else { Value::Null },
            "reason": if kind == "camera" { json!("the same picture for 40 s") } else { Value::Null },
        });
        say(broker, &event(["press", "weld", "paint"][gateway], seqs[gateway], change));
    }
    for (n, gateway) in ["press", "weld", "paint"].iter().enumerate() {
        publish(broker, &format!("inspect/v1/test/{gateway}/images/{hash}"), &jpeg, &[]);
        let state = json!({
            "schema": "inspect.state/1", "online": n != 2, "reason": if n == 2 { json!("connection lost") } else { Value::Null }, "agent": "0.1.0",
            "uptime_s": 86_400 * 12 + n, "bundle": { "name": "inspectd-default", "version": "1.2.0", "sha256": "ab".repeat(32) },
            "outbox": { "appended": 900, "delivered": 890, "dropped": 0, "dead": 0, "queued": 10 }, "cameras": ["line-1", "line-2"],
            "system": { "temperature_c": 51.5 + n as f64, "load": [0.8, 0.7, 0.6], "cores": 4, "memory_mib": 240, "disk_free_mib": 18_000 },
        });
        publish(broker, &format!("inspect/v1/test/{gateway}/state"), state.to_string().as_bytes(), &["-r"]);
        for (m, phase) in ["streaming", if n == 1 { "defocused" } else { "streaming" }].iter().enumerate() {
            let camera = json!({
                "schema": "inspect.camera/1", "camera": format!("line-{}", m + 1), "state": phase, "reason": Value::Null, "since": Timestamp::now(),
                "fps": 9.8, "captured": 86_400, "inspected": 86_390, "dropped": 10, "no_verdict": 0, "suppressed": 0, "reopened": m,
                "anomaly": { "state": "learning", "missing": 40 },
            });
            publish(
                broker,
                &format!("inspect/v1/test/{gateway}/cameras/line-{}/state", m + 1),
                camera.to_string().as_bytes(),
                &["-r"],
            );
        }
    }
}
