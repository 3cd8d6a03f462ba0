//! Figures and health over HTTP, as Prometheus and a person at the gateway read them, and in the gateway's state.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::broker::Broker;
use crate::support::daemon::{Daemon, config_with};
use crate::support::{eventually, free_port};

const STRIP: &str = "[[cameras]]\nname = \"strip\"\n\
    source.synthetic = { rate = 10.0, width = 320, height = 240, defects_per_frame = 0.2, speed = 48.0 }\n";
const AWAY: &str = "[[cameras]]\nname = \"away\"\nsource.v4l2 = { device = \"/dev/video99\" }\n";

/// Status and body.
fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent.get(format!("http://127.0.0.1:{port}{path}")).call().ok()?;
    Some((answer.status().as_u16(), answer.body_mut().read_to_string().ok()?))
}

/// By name and labels.
fn metrics(port: u16) -> BTreeMap<String, f64> {
    let (_, text) = get(port, "/metrics").unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

fn health(port: u16) -> (u16, Value) {
    let (status, body) = eventually(20, "it answers", || get(port, "/health"));
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn figures_are_what_the_state_says() {
    let (broker, dir, port) = (Broker::start(), tempfile::tempdir().unwrap(), free_port());
    let more = format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
    let daemon = Daemon::start(&config_with(dir.path(), &broker.url(), &more, STRIP));
    let state = || broker.retained("inspect/v1/test/gw/state");
    let seen = |state: &Value| state["raised"].as_object().is_some_and(|raised| !raised.is_empty());
    let said = eventually(60, "alarms and times in the state", || {
        state().filter(|state| seen(state) && state["stages"]["forward"]["p99_ms"].as_f64() > Some(0.0))
    });
    for stage in ["queue", "prepare", "forward", "judge", "record", "latency"] {
        let (p50, p99) = (&said["stages"][stage]["p50_ms"], &said["stages"][stage]["p99_ms"]);
        assert!(p50.as_f64().unwrap() <= p99.as_f64().unwrap(), "{stage}: {said}");
    }
    let figures = metrics(port);
    let strip = |name: &str| figures[&format!("inspectd_{name}{{camera=\"strip\"}}")];
    let (captured, inspected) = (strip("frames_captured_total"), strip("frames_inspected_total"));
    assert!(inspected >= 1.0 && captured >= inspected, "{captured} {inspected}");
    assert_eq!(strip("camera_streaming"), 1.0);
    // The number of frames that went through the stages is that of those with a verdict, but for those under way.
    let through = figures["inspectd_stage_seconds_count{stage=\"forward\"}"];
    assert!((strip("frames_inspected_total") - through).abs() <= 6.0, "{through} {}", strip("frames_inspected_total"));
    let raised: f64 =
        figures.iter().filter(|(name, _)| name.starts_with("inspectd_alarms_raised_total")).map(|f| f.1).sum();
    let before: f64 = said["raised"].as_object().unwrap().values().map(|count| count.as_f64().unwrap()).sum();
    assert!(raised >= before && before >= 1.0, "{raised} {before}");
    assert_eq!(figures["inspectd_broker_connected"], 1.0);
    let build =
        format!("inspectd_build_info{{version=\"{}\",site=\"test\",gateway=\"gw\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(figures[&build], 1.0);
    let (status, body) = health(port);
    assert_eq!((status, &body["status"]), (200, &Value::from("ok")), "{body}");
    assert_eq!(get(port, "/").unwrap().0, 404);
    assert!(daemon.terminate(5).success());
}

#[test]
fn health_says_what_is_away_and_what_is_stuck() {
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let more = format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
    let path = config_with(dir.path(), "mqtt://127.0.0.1:1", &more, &format!("{STRIP}{AWAY}"));
    let daemon = Daemon::start_with(&path, &[("INSPECTD_FAIL_AT", "stall.inference:60")]);
    let (status, body) = eventually(30, "it is degraded", || {
        let (status, body) = health(port);
        (body["status"] == "degraded").then_some((status, body))
    });
    assert_eq!(status, 200, "a new start would mend nothing: {body}");
    let reasons = || health(port).1["reasons"].to_string();
    eventually(30, "both are named", || {
        let reasons = reasons();
        (reasons.contains("camera away is away: ") && reasons.contains("the broker is away")).then_some(())
    });
    let (status, body) = eventually(40, "it is stuck", || {
        let (status, body) = health(port);
        (body["status"] == "stuck").then_some((status, body))
    });
    assert_eq!(status, 503);
    assert!(body["reasons"][0].as_str().unwrap().starts_with("inference has stood still for"), "{body}");
    assert!(metrics(port)["inspectd_stage_idle_seconds{stage=\"inference\"}"] > 10.0);
    drop(daemon);
}

/// A port that is taken is no reason not to inspect.
#[test]
fn figures_come_when_their_port_is_free() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let more = format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
    let daemon = Daemon::start(&config_with(dir.path(), &broker.url(), &more, STRIP));
    daemon.wait_for_log(20, "is something else there");
    daemon.wait_for_log(20, "inspecting");
    drop(taken);
    eventually(20, "figures", || get(port, "/health"));
    assert!(daemon.terminate(5).success());
}
