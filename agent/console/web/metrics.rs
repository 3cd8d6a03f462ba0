//! Figures for Prometheus, in its text format.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::Of;
use super::answer::{Answer, blocking};

/// All figures.
pub async fn metrics(State(console): State<Of>) -> Answer<Response> {
    let text = blocking(move || {
        let (counts, sizes, (tables, images)) = (console.store.counts()?, console.fleet.sizes(), console.store.size()?);
        let missing = console.store.missing()?.values().fold(0_i64, |all, n| all.saturating_add(*n));
        let tally = &console.counts;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, values: &[(&str, f64)]| {
            let _ = writeln!(text, "# HELP inspectd_console_{name} {help}\n# TYPE inspectd_console_{name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(text, "inspectd_console_{name}{labels} {value}");
            }
        };
        family(
            "broker_connected",
            "gauge",
            "Whether the broker is there.",
            &[("", f64::from(u8::from(console.broker().connected)))],
        );
        family("events_total", "counter", "Events that were taken in.", &[("", count(&tally.events))]);
        family("event_copies_total", "counter", "Events that had come before.", &[("", count(&tally.copies))]);
        family("messages_refused_total", "counter", "Messages that were left out.", &[("", count(&tally.refused))]);
        family("events_missing", "gauge", "Events that did not come, by their numbers.", &[("", missing as f64)]);
        family(
            "alarms_open",
            "gauge",
            "Alarms that want attention.",
            &[
                ("{severity=\"critical\"}", counts.critical as f64),
                ("{severity=\"major\"}", counts.major as f64),
                ("{severity=\"minor\"}", counts.minor as f64),
                ("{severity=\"info\"}", counts.info as f64),
            ],
        );
        family("alarms_unacknowledged", "gauge", "Those that nobody has seen.", &[("", counts.unacknowledged as f64)]);
        family(
            "gateways",
            "gauge",
            "Gateways.",
            &[("{state=\"online\"}", sizes.online as f64), ("{state=\"offline\"}", sizes.offline as f64)],
        );
        family("cameras", "gauge", "Cameras of gateways that are online.", &[("", sizes.cameras as f64)]);
        family(
            "store_bytes",
            "gauge",
            "The store.",
            &[("{part=\"tables\"}", tables as f64), ("{part=\"images\"}", images as f64)],
        );
        Ok(text)
    });
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.await?).into_response())
}
