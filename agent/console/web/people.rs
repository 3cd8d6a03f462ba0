//! Who may come in.

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::info;

use super::Of;
use super::answer::{Answer, Sent, blocking, tried};
use super::guard::Visitor;
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

/// Everybody.
pub async fn users(State(console): State<Of>) -> Answer<Json<Value>> {
    Ok(Json(json!({ "users": blocking(move || console.store.people()).await? })))
}

/// Adds somebody.
pub async fn add_user(
    State(console): State<Of>,
    Extension(visitor): Extension<Visitor>,
    Sent(Newcomer { name, role, password }): Sent<Newcomer>,
) -> Answer<StatusCode> {
    info!(by = visitor.person.name, user = %name.escape_debug(), "a user is added");
    tried(move || console.store.add_person(&name, role, &password, Timestamp::now())).await?;
    Ok(StatusCode::CREATED)
}

/// Removes somebody.
pub async fn remove_user(
    State(console): State<Of>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    info!(by = visitor.person.name, user = %name.escape_debug(), "a user is removed");
    tried(move || console.store.remove_person(&name)).await?;
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
    Sent(Machine { name, role }): Sent<Machine>,
) -> Answer<(StatusCode, Json<NewToken>)> {
    info!(by = visitor.person.name, token = %name.escape_debug(), "a token is made");
    let token = tried(move || console.store.add_token(&name, role, Timestamp::now())).await?;
    Ok((StatusCode::CREATED, Json(token)))
}

/// Lets it in no more.
pub async fn remove_token(
    State(console): State<Of>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    info!(by = visitor.person.name, token = %name.escape_debug(), "a token is taken back");
    tried(move || console.store.remove_token(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}
