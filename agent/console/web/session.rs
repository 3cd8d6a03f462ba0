//! Log in, log out, and who one is.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Extension, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::Of;
use super::answer::{Answer, Refusal, Sent, blocking, tried};
use super::guard::{Visitor, cookie_name, host};

/// So long a browser keeps a session that it does not use; here it ends sooner.
const MONTH: u32 = 30 * 24 * 3600;

/// Who wants to come in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    user: String,
    password: String,
}

/// Begins a session.
pub async fn login(
    State(console): State<Of>,
    from: ConnectInfo<SocketAddr>,
    Sent(Login { user, password }): Sent<Login>,
) -> Answer<([(HeaderName, String); 1], Json<Value>)> {
    let turn = console.guard.turn(from, &user).await?;
    let (store, name) = (Arc::clone(&console.store), user.clone());
    let begun = blocking(move || {
        let role = if password.len() <= 1000 { store.checked(&name, &password)? } else { None };
        let Some(role) = role else { return Ok(None) };
        turn.right();
        Ok(Some((role, store.begin_session(&name, Timestamp::now())?)))
    });
    let begun = begun.await?;
    let Some((role, token)) = begun else {
        warn!(from = %host(&from), user = %user.chars().take(64).collect::<String>().escape_debug(), "a login was refused");
        return Err(Refusal::Words(StatusCode::UNAUTHORIZED, "user or password is wrong".to_owned()));
    };
    info!(from = %host(&from), user, "logged in");
    let cookie = set_cookie(&token, MONTH, console.is_secure);
    Ok(([(SET_COOKIE, cookie)], Json(json!({ "user": user, "role": role }))))
}

fn set_cookie(token: &str, seconds: u32, is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    format!("{}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", cookie_name(is_secure))
}

/// Ends it.
pub async fn logout(
    State(console): State<Of>,
    Extension(visitor): Extension<Visitor>,
) -> Answer<([(HeaderName, String); 1], StatusCode)> {
    if let Some(session) = visitor.session {
        let store = Arc::clone(&console.store);
        blocking(move || store.end_session(&session)).await?;
    }
    Ok(([(SET_COOKIE, set_cookie("", 0, console.is_secure))], StatusCode::NO_CONTENT))
}

/// Who is logged in; nobody may ask as well, and hears that it is nobody.
pub async fn me(State(console): State<Of>, visitor: Option<Extension<Visitor>>) -> Response {
    let Some(Extension(visitor)) = visitor else { return Json(json!({ "user": null })).into_response() };
    let (broker, version) = (console.broker(), env!("CARGO_PKG_VERSION"));
    let person = &visitor.person;
    let body = Json(json!({ "user": person.name, "role": person.role, "version": version, "broker": broker }));
    match &visitor.session {
        // The page asks again and again: for as long as it does, the browser keeps the session.
        Some(session) => ([(SET_COOKIE, set_cookie(session, MONTH, console.is_secure))], body).into_response(),
        None => body.into_response(),
    }
}

/// Another password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passwords {
    old: String,
    new: String,
}

/// Changes it.
pub async fn password(
    State(console): State<Of>,
    from: ConnectInfo<SocketAddr>,
    Extension(visitor): Extension<Visitor>,
    Sent(Passwords { old, new }): Sent<Passwords>,
) -> Answer<StatusCode> {
    let Some(session) = visitor.session else { return Err(Refusal::wrong("a token has no password")) };
    let (store, name) = (Arc::clone(&console.store), visitor.person.name);
    let turn = console.guard.turn(from, &name).await?;
    let changed = tried(move || {
        let is_right = store.checked(&name, &old)?.is_some();
        if is_right {
            turn.right();
        }
        anyhow::ensure!(is_right, "the old password is wrong");
        store.change_password(&name, &new, &session)
    });
    changed.await.map(|()| StatusCode::NO_CONTENT)
}
