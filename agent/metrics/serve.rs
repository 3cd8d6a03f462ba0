//! `/metrics` and `/health` over HTTP, to be read only. Off unless the configuration names an address.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::exposition;
use super::probe::Probe;
use crate::http;
use crate::stop::Stop;

/// Who asks waits so long behind others.
const BUSY: Duration = Duration::from_secs(1);
/// An address that is taken is tried again so often.
const AGAIN: Duration = Duration::from_secs(10);

/// Answers until `stop`. Where the address cannot be had, inspection goes on without, and it is tried again.
pub async fn run(address: SocketAddr, probe: Probe, stop: Stop) {
    if !address.ip().is_loopback() {
        warn!(
            "figures are at http://{address}/metrics for every machine that reaches it; nobody has to log in for them"
        );
    }
    let mut was_said = false;
    loop {
        let served = tokio::select! {
            served = serve(address, probe.clone()) => served,
            () = stop.stopped() => return,
        };
        if let Err(e) = served
            && !was_said
        {
            warn!("{e:#}; it is tried again every {} s", AGAIN.as_secs());
            was_said = true;
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = stop.stopped() => return,
        }
    }
}

async fn serve(address: SocketAddr, probe: Probe) -> Result<()> {
    let listener = std::net::TcpListener::bind(address)
        .with_context(|| format!("figures cannot be served at {address} (metrics.listen): is something else there?"))?;
    listener.set_nonblocking(true)?;
    info!("figures are at http://{}/metrics and /health", listener.local_addr()?);
    let app = Router::new().route("/metrics", get(metrics)).route("/health", get(health)).with_state(probe);
    let mut server = http::patient(axum_server::from_tcp(listener)?);
    // One question a connection, so that none is held for nothing.
    server.http_builder().http1().keep_alive(false);
    server.serve(app.into_make_service()).await?;
    Ok(())
}

async fn metrics(State(probe): State<Probe>) -> Response {
    static READERS: Semaphore = Semaphore::const_new(2);
    match reading(&READERS, move || exposition::text(&probe.figures())).await {
        Ok(Ok(text)) => ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response(),
        Ok(Err(_)) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Err(busy) => busy,
    }
}

/// 200 while it goes on by itself, also where something that it needs is away; 503 where a stage is stuck.
async fn health(State(probe): State<Probe>) -> Response {
    // Not behind those who wait for the disk: it is asked when something is wrong.
    static READERS: Semaphore = Semaphore::const_new(2);
    let health = match reading(&READERS, move || probe.health()).await {
        Ok(health) => health,
        Err(busy) => return busy,
    };
    let code = if health.status == "stuck" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(health)).into_response()
}

/// The queue's file may be slow; who asks more often than it answers is told so, and takes no thread from the agent.
async fn reading<R: Send + 'static>(
    readers: &'static Semaphore,
    f: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Response> {
    let Ok(Ok(permit)) = tokio::time::timeout(BUSY, readers.acquire()).await else {
        return Err((StatusCode::TOO_MANY_REQUESTS, "others are being answered\n").into_response());
    };
    let read = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        f()
    });
    read.await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}
