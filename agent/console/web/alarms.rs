//! Alarms, their pictures, and figures of them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query as Params, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Of;
use super::answer::{Answer, Refusal, blocking};
use super::guard::Visitor;
use crate::console::letter::is_hash;
use crate::console::store::{AlarmRow, Bucket, Query, Store, View};

/// Alarms of a page, where nobody says.
const PAGE: usize = 100;
/// Letters of a text to look for.
const LETTERS: usize = 200;
/// Lines of an export that wait for the other side,
const AHEAD: usize = 64;
/// which takes the next one in this time.
const STALLED: Duration = Duration::from_secs(30);

/// Filters, as they stand in an address.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filters {
    view: Option<View>,
    severity: Option<String>,
    kind: Option<String>,
    site: Option<String>,
    gateway: Option<String>,
    camera: Option<String>,
    class: Option<String>,
    q: Option<String>,
    from: Option<String>,
    to: Option<String>,
    before: Option<String>,
    limit: Option<usize>,
    order: Option<Order>,
    bucket: Option<Bucket>,
}

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The worst.
    Severity,
    /// The latest.
    Time,
}

/// Of what wants attention the worst comes first.
fn usual_order(view: View) -> Order {
    match view {
        View::Open | View::Active | View::Unacknowledged => Order::Severity,
        View::Shelved | View::Quiet | View::Over | View::All => Order::Time,
    }
}

impl Filters {
    fn query(&self, usual: View) -> Result<Query> {
        // An empty field is none.
        let text = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        let time = |name: &str, value: &Option<String>| {
            let parse = |text: String| text.parse::<Timestamp>().with_context(|| format!("{name} is no RFC 3339 time"));
            text(value).map(parse).transpose()
        };
        let query = Query {
            view: self.view.unwrap_or(usual),
            severities: words("severity", self.severity.as_deref())?,
            kinds: words("kind", self.kind.as_deref())?,
            site: text(&self.site),
            gateway: text(&self.gateway),
            camera: text(&self.camera),
            class: text(&self.class),
            text: text(&self.q),
            from: time("from", &self.from)?,
            to: time("to", &self.to)?,
            before: text(&self.before),
            worst_first: self.order.unwrap_or(usual_order(self.view.unwrap_or(usual))) == Order::Severity,
            limit: self.limit.unwrap_or(PAGE),
        };
        let is_place = |text: &String| {
            let mut parts = text.splitn(3, '_');
            parts.next().is_some_and(|n| n.parse::<i64>().is_ok())
                && parts.next().is_some_and(|n| n.parse::<i64>().is_ok())
        };
        anyhow::ensure!(query.before.as_ref().is_none_or(is_place), "`before` is not what `next` said");
        let long = [&query.class, &query.text].into_iter().flatten().any(|text| text.chars().count() > LETTERS);
        anyhow::ensure!(!long, "what is looked for has more than {LETTERS} letters");
        Ok(query)
    }
}

/// Words with commas between them.
fn words<T: DeserializeOwned>(name: &str, text: Option<&str>) -> Result<Vec<T>> {
    let words = text.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| serde_json::from_value(Value::String(word.to_owned())).map_err(|e| anyhow!("{name}: {e}")))
        .collect()
}

/// Filters, or why they are none.
type Asked = Result<Params<Filters>, QueryRejection>;

fn asked(filters: Asked) -> Answer<Filters> {
    filters.map(|Params(filters)| filters).map_err(|e| Refusal::wrong(e.body_text()))
}

/// A page of them.
pub async fn list(State(console): State<Of>, filters: Asked) -> Answer<Json<Value>> {
    let query = asked(filters)?.query(View::Open).map_err(|e| Refusal::because(&e))?;
    let (page, counts) = blocking(move || Ok((console.store.alarms(&query)?, console.store.counts()?))).await?;
    Ok(Json(json!({ "alarms": page.alarms, "next": page.next, "counts": counts })))
}

/// One of them.
pub async fn one(State(console): State<Of>, Path(id): Path<String>) -> Answer<Json<Value>> {
    let found = blocking(move || {
        let Some(alarm) = console.store.alarm(&id)? else { return Ok(None) };
        let (events, commands) = (console.store.events(&id)?, console.store.commands_about(&id)?);
        Ok(Some(json!({ "alarm": alarm, "events": events, "commands": commands })))
    });
    found.await?.map(Json).ok_or_else(|| Refusal::missing("there is no such alarm"))
}

/// Ends one whose gateway is not there to do so.
pub async fn close(
    State(console): State<Of>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let is_done = blocking(move || {
        let Some(alarm) = console.store.alarm(&id)? else { return Ok(None) };
        let name = |key: &str| alarm.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        if console.fleet.is_online(&name("site"), &name("gateway")) {
            return Ok(Some(false));
        }
        console.store.close(&id, &visitor.person.name, Timestamp::now())?;
        console.tell_alarm(&id);
        Ok(Some(true))
    });
    match is_done.await? {
        Some(true) => Ok(StatusCode::NO_CONTENT),
        Some(false) => Err(Refusal::wrong("its gateway is online: answer it there")),
        None => Err(Refusal::missing("there is no such alarm")),
    }
}

/// A picture; nothing where it has not come yet, or was thrown away.
pub async fn image(State(console): State<Of>, Path(sha256): Path<String>) -> Answer<Response> {
    if !is_hash(&sha256) {
        return Err(Refusal::missing("a picture is named by its SHA-256"));
    }
    let bytes = blocking(move || console.store.image(&sha256)).await?;
    // No error: the event that names it may come first, and a page that asks too early is told when it is there.
    let Some(bytes) = bytes else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let kept = HeaderValue::from_static("private, max-age=31536000, immutable");
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("image/jpeg")), (CACHE_CONTROL, kept)], bytes).into_response())
}

/// Names of classes.
pub async fn classes(State(console): State<Of>) -> Answer<Json<Value>> {
    Ok(Json(json!({ "classes": blocking(move || console.store.classes()).await? })))
}

/// Figures.
pub async fn stats(State(console): State<Of>, filters: Asked) -> Answer<Json<Value>> {
    let filters = asked(filters)?;
    let query = filters.query(View::All).map_err(|e| Refusal::because(&e))?;
    let to = query.to.unwrap_or_else(Timestamp::now);
    let day = to.checked_sub(SignedDuration::from_hours(24)).map_err(Refusal::wrong)?;
    let from = query.from.unwrap_or(day);
    if from >= to {
        return Err(Refusal::wrong("`from` is not before `to`"));
    }
    let bucket = filters.bucket.unwrap_or_default();
    let figures = blocking(move || console.store.figures(&query, from, to, bucket)).await?;
    Ok(Json(serde_json::to_value(figures).map_err(|e| Refusal::Broken(e.into()))?))
}

/// All of them, as JSON.
pub async fn json(State(console): State<Of>, filters: Asked) -> Answer<Response> {
    export(&console, &asked(filters)?, "json", "application/json", |store, query, out| {
        let mut before = "[\n";
        store.each_alarm(query, |alarm| {
            let text = format!("{before}{}", Value::Object(alarm));
            before = ",\n";
            out(text)
        })?;
        out(if before == "[\n" { "[]\n".to_owned() } else { "\n]\n".to_owned() })
    })
}

/// All of them, as CSV.
pub async fn csv(State(console): State<Of>, filters: Asked) -> Answer<Response> {
    export(&console, &asked(filters)?, "csv", "text/csv; charset=utf-8", |store, query, out| {
        out(COLUMNS.join(",") + "\r\n")?;
        store.each_alarm(query, |alarm| out(line(&alarm)))
    })
}

const COLUMNS: [&str; 17] = [
    "raised_at",
    "cleared_at",
    "acknowledged_at",
    "site",
    "gateway",
    "camera",
    "kind",
    "class",
    "severity",
    "state",
    "score",
    "box",
    "by",
    "comment",
    "reason",
    "image",
    "alarm",
];

fn line(alarm: &AlarmRow) -> String {
    let mut line = String::new();
    for column in COLUMNS {
        let text = match alarm.get(column) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let _ = write!(line, "{}\"{}\"", if line.is_empty() { "" } else { "," }, harmless(&text).replace('"', "\"\""));
    }
    line + "\r\n"
}

/// A spreadsheet takes what begins like this for a formula.
fn harmless(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

type Out<'a> = &'a mut dyn FnMut(String) -> Result<()>;

/// Sends what `f` writes while it reads, so that no export has to fit into memory.
fn export(
    console: &Of,
    filters: &Filters,
    extension: &str,
    kind: &'static str,
    f: impl FnOnce(&Store, &Query, Out) -> Result<()> + Send + 'static,
) -> Answer<Response> {
    let query = filters.query(View::All).map_err(|e| Refusal::because(&e))?;
    let Ok(permit) = Arc::clone(&console.exports).try_acquire_owned() else { return Err(Refusal::Slower(5)) };
    let (sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(AHEAD);
    let (store, tokio) = (Arc::clone(&console.store), tokio::runtime::Handle::current());
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut send = |text: String| {
            let sent = tokio.block_on(async { tokio::time::timeout(STALLED, sender.send(Ok(text.into()))).await });
            sent.context("the other side has stalled")?.context("the other side has gone")
        };
        if let Err(e) = f(&store, &query, &mut send) {
            // What ends in the middle must not look whole.
            let _ = sender.blocking_send(Err(std::io::Error::other(e)));
        }
    });
    let name = format!("attachment; filename=\"alarms.{extension}\"");
    let body = Body::from_stream(ReceiverStream::new(receiver));
    Ok(([(CONTENT_TYPE, kind.to_owned()), (CONTENT_DISPOSITION, name)], body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_a_cell() {
        let alarm =
            json!({ "class": "=HYPERLINK(\"x\")", "comment": "a, \"b\"\nc", "score": 0.5, "box": [1, 2, 3, 4] });
        let line = line(alarm.as_object().unwrap());
        assert!(line.contains(r#","'=HYPERLINK(""x"")","#), "{line}");
        assert!(line.contains("\"a, \"\"b\"\"\nc\"") && line.contains("\"[1,2,3,4]\""), "{line}");
    }

    #[test]
    fn filters_say_what_is_wrong_with_them() {
        let filters = |text: &str| serde_json::from_value::<Filters>(serde_json::from_str(text).unwrap()).unwrap();
        let query = filters(r#"{"severity":"critical,major","q":"","kind":"anomaly"}"#).query(View::Open).unwrap();
        assert_eq!((query.severities.len(), query.kinds.len(), query.text), (2, 1, None));
        for (text, message) in [
            (r#"{"severity":"worst"}"#, "severity: unknown variant `worst`"),
            (r#"{"from":"yesterday"}"#, "from is no RFC 3339 time"),
        ] {
            let error = format!("{:#}", filters(text).query(View::Open).unwrap_err());
            assert!(error.contains(message), "{error}");
        }
    }
}
