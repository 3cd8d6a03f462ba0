//! Who may come in.

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::info;

use super::Of;
use super::answer::{Answer, Refusal, blocking};
use super::guard::Visitor;
use crate::console::Console;
use crate::console::store::{NewToken, Role};

/// Somebody new.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Newcomer {
    name: String,
    role: Role,
    password: String,
}

/// Another system.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    name: String,
    role: Role,
}

/// What the store refuses is the visitor's to know.
async fn tried<T: Send + 'static>(
    console: Of,
    f: impl FnOnce(&Console) -> anyhow::Result<T> + Send + 'static,
) -> Answer<T> {
    let done = tokio::task::spawn_blocking(move || f(&console)).await;
    done.map_err(|e| Refusal::Broken(e.into()))?.map_err(|e| Refusal::because(&e))
}

/// Everybody.
pub async fn users(State(console): State<Of>) -> Answer<Json<Value>> {
    Ok(Json(json!({ "users": blocking(move || console.store.people()).await? })))
}

/// Adds somebody.
pub async fn add_user(
    State(console): State<Of>,
    Extension(visitor): Extension<Visitor>,
    Json(Newcomer { name, role, password }): Json<Newcomer>,
) -> Answer<StatusCode> {
    info!(by = visitor.person.name, user = %name.escape_debug(), "a user is added");
    tried(console, move |console| console.store.add_person(&name, role, &password, Timestamp::now())).await?;
    Ok(StatusCode::CREATED)
}

/// Removes somebody.
pub async fn remove_user(
    State(console): State<Of>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    info!(by = visitor.person.name, user = %name.escape_debug(), "a user is removed");
    tried(console, move |console| console.store.remove_person(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The other systems.
pub async fn tokens(State(console): State<Of>) -> Answer<Json<Value>> {
    Ok(Json(json!({ "tokens": blocking(move || console.store.tokens()).await? })))
}

/// Lets one in.
pub async fn add_token(
    State(console): State<Of>,
    Extension(visitor): Extension<Visitor>,
    Json(Machine { name, role }): Json<Machine>,
) -> Answer<(StatusCode, Json<NewToken>)> {
    info!(by = visitor.person.name, token = %name.escape_debug(), "a token is made");
    let token = tried(console, move |console| console.store.add_token(&name, role, Timestamp::now())).await?;
    Ok((StatusCode::CREATED, Json(token)))
}

/// Lets it in no more.
pub async fn remove_token(
    State(console): State<Of>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    info!(by = visitor.person.name, token = %name.escape_debug(), "a token is taken back");
    tried(console, move |console| console.store.remove_token(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}
