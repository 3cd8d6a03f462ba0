//! Releases, and how they are rolled out.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio_stream::StreamExt as _;

use super::Of;
use super::answer::{Answer, Refusal, Sent, blocking, tried};
use super::guard::Visitor;
use crate::console::rollouts::{Release, Wish};
use crate::publish::load::MAX_BYTES;

/// The next part of an upload comes in this time.
const STALLED: Duration = Duration::from_secs(30);

/// The releases that are there.
pub async fn list(State(console): State<Of>) -> Answer<Json<Value>> {
    Ok(Json(json!({ "releases": blocking(move || console.rollouts.releases()).await? })))
}

/// Takes one in.
pub async fn upload(
    State(console): State<Of>,
    Extension(visitor): Extension<Visitor>,
    body: Body,
) -> Answer<(StatusCode, Json<Release>)> {
    let Ok(_permit) = Arc::clone(&console.uploads).try_acquire_owned() else { return Err(Refusal::Slower(5)) };
    let path = console.rollouts.incoming();
    let received = receive(body, &path).await;
    let taken = match received {
        Ok(()) => {
            let (file, by) = (path.clone(), visitor.person.name);
            tried(move || console.rollouts.take(&file, &by, Timestamp::now())).await
        }
        Err(refusal) => Err(refusal),
    };
    let _ = tokio::fs::remove_file(&path).await; // it was moved where it is a release
    taken.map(|release| (StatusCode::CREATED, Json(release)))
}

async fn receive(body: Body, path: &std::path::Path) -> Answer<()> {
    let broken = |e: std::io::Error| Refusal::Broken(anyhow::Error::new(e).context("an upload cannot be kept"));
    let mut file = tokio::fs::File::create(path).await.map_err(broken)?;
    let (mut stream, mut bytes) = (body.into_data_stream(), 0);
    let stalled = |_| Refusal::wrong("the upload has stalled");
    while let Some(chunk) = tokio::time::timeout(STALLED, stream.next()).await.map_err(stalled)? {
        let chunk = chunk.map_err(|_| Refusal::wrong("the upload was cut off"))?;
        bytes += chunk.len();
        if bytes > MAX_BYTES {
            return Err(Refusal::Words(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a release has at most {MAX_BYTES} bytes"),
            ));
        }
        file.write_all(&chunk).await.map_err(broken)?;
    }
    file.sync_all().await.map_err(broken)
}

/// Throws one away.
pub async fn remove(State(console): State<Of>, Path(sha256): Path<String>) -> Answer<StatusCode> {
    console.rollouts.delete(&sha256).map(|()| StatusCode::NO_CONTENT).map_err(|e| Refusal::because(&e))
}

/// How far they are.
pub async fn rollouts(State(console): State<Of>) -> Json<Value> {
    Json(json!({ "rollouts": console.rollouts.all() }))
}

/// Begins one.
pub async fn begin(
    State(console): State<Of>,
    Extension(visitor): Extension<Visitor>,
    Sent(wish): Sent<Wish>,
) -> Answer<(StatusCode, Json<Value>)> {
    let id = console.rollouts.begin(&wish, &visitor.person.name, Timestamp::now()).map_err(|e| Refusal::because(&e))?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "id": id }))))
}

/// Stops one.
pub async fn stop(State(console): State<Of>, Path(id): Path<String>) -> Answer<StatusCode> {
    console.rollouts.stop(&id).map(|()| StatusCode::NO_CONTENT).map_err(|e| Refusal::because(&e))
}
