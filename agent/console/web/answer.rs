//! What a request is answered: JSON, or an error in words.

use std::fmt::Display;

use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::error;

/// Why there is no answer.
#[derive(Debug)]
pub enum Refusal {
    /// With these words.
    Words(StatusCode, String),
    /// Seconds until it may be tried again.
    Slower(u64),
    /// Something is broken here.
    Broken(anyhow::Error),
}

/// An answer.
pub type Answer<T> = Result<T, Refusal>;

impl Refusal {
    /// The request is wrong.
    #[allow(clippy::needless_pass_by_value)] // so that it can stand in a `map_err`
    pub fn wrong(words: impl Display) -> Self {
        Self::Words(StatusCode::UNPROCESSABLE_ENTITY, words.to_string())
    }

    /// There is no such thing.
    #[allow(clippy::needless_pass_by_value)]
    pub fn missing(words: impl Display) -> Self {
        Self::Words(StatusCode::NOT_FOUND, words.to_string())
    }

    /// What was asked for cannot be done.
    pub fn because(error: &anyhow::Error) -> Self {
        Self::wrong(format!("{error:#}"))
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, words, wait) = match self {
            Self::Words(status, words) => (status, words, None),
            Self::Slower(seconds) => {
                (StatusCode::TOO_MANY_REQUESTS, format!("too many attempts: try again in {seconds} s"), Some(seconds))
            }
            Self::Broken(e) => {
                error!("a request cannot be answered: {e:#}");
                (StatusCode::INTERNAL_SERVER_ERROR, "the console cannot answer; its log says why".to_owned(), None)
            }
        };
        let mut response = (status, Json(json!({ "error": words }))).into_response();
        if let Some(wait) = wait {
            response.headers_mut().insert(RETRY_AFTER, wait.into());
        }
        response
    }
}

/// The body of a request in JSON; one that is none is refused in the same form as all else.
#[derive(Debug)]
pub struct Sent<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(e) => Err(Refusal::Words(e.status(), e.body_text())),
        }
    }
}

/// There is no such page.
pub async fn nothing() -> Refusal {
    Refusal::missing("there is nothing here")
}

/// Runs what waits for the disk where it holds up nobody.
///
/// # Errors
/// What it says.
pub async fn blocking<T: Send + 'static>(f: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> Answer<T> {
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Refusal::Broken(anyhow::anyhow!("the task that answers a request has died"))),
    }
}

/// The same for what may be refused, which the visitor is to know.
///
/// # Errors
/// What it says, in its words.
pub async fn tried<T: Send + 'static>(f: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> Answer<T> {
    let done = tokio::task::spawn_blocking(f).await.map_err(|e| Refusal::Broken(e.into()))?;
    done.map_err(|e| Refusal::because(&e))
}
