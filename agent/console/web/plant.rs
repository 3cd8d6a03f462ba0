//! Gateways and cameras, and commands to them.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::info;
use uuid::Uuid;

use super::Of;
use super::answer::{Answer, Refusal, Sent, blocking};
use super::guard::Visitor;
use crate::command::Order;
use crate::config::Name;
use crate::console::store::{CommandRow, Role};

/// What operators may command.
const OPERATORS: [&str; 11] =
    ["ack", "alarms", "comment", "lessons", "products", "shelve", "snapshot", "teach", "trigger", "unshelve", "forget"];
/// Commands in which `by` says who has given them.
const SIGNED: [&str; 9] =
    ["ack", "comment", "in_service", "out_of_service", "rollback", "shelve", "suppress", "unshelve", "unsuppress"];

/// A command.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    site: String,
    gateway: String,
    command: String,
    #[serde(default)]
    payload: Map<String, Value>,
}

/// Gives it; the reply comes by the stream.
pub async fn command(
    State(console): State<Of>,
    Extension(visitor): Extension<Visitor>,
    Sent(Wish { site, gateway, command, mut payload }): Sent<Wish>,
) -> Answer<(StatusCode, Json<Value>)> {
    if visitor.person.role < Role::Engineer && !OPERATORS.contains(&command.as_str()) {
        return Err(Refusal::Words(StatusCode::FORBIDDEN, "only an engineer may do that".to_owned()));
    }
    for name in [&site, &gateway] {
        Name::new(name).map_err(Refusal::wrong)?;
    }
    if !console.fleet.knows(&site, &gateway) {
        return Err(Refusal::missing(format!("there is no gateway {site}/{gateway}")));
    }
    payload.remove("by");
    if SIGNED.contains(&command.as_str()) {
        payload.insert("by".to_owned(), Value::String(visitor.person.name.clone()));
    }
    let payload = Value::Object(payload);
    // The gateway's own reading of it, so that what is wrong is said at once.
    Order::parse(&command, payload.to_string().as_bytes()).map_err(|e| Refusal::because(&e))?;
    let alarms: Vec<String> =
        payload["alarms"].as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect();
    let (id, by, at) = (Uuid::now_v7().to_string(), visitor.person.name, Timestamp::now());
    let row = CommandRow {
        id: id.clone(),
        site,
        gateway,
        command,
        payload,
        by,
        at,
        ok: None,
        error: None,
        result: None,
        replied_at: None,
    };
    info!(id, command = row.command, site = row.site, gateway = row.gateway, by = row.by, "commanded");
    let (giver, about) = (console.clone(), alarms.clone());
    blocking(move || giver.store.give(&row, &about)).await?;
    console.given.notify_one();
    let teller = console.clone();
    blocking(move || {
        alarms.iter().for_each(|alarm| teller.tell_alarm(alarm));
        Ok(())
    })
    .await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "id": id }))))
}

/// All gateways.
pub async fn fleet(State(console): State<Of>) -> Answer<Json<Value>> {
    let gateways = blocking(move || console.fleet.shown(&console.store)).await?;
    Ok(Json(json!({ "gateways": gateways })))
}

/// What did not come.
pub async fn gaps(State(console): State<Of>) -> Answer<Json<Value>> {
    Ok(Json(json!({ "gaps": blocking(move || console.store.gaps()).await? })))
}
