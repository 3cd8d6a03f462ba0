//! What happens, as server-sent events, for as long as the visitor may see it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Of;
use super::guard::Visitor;

/// How often it is looked whether the session still is one.
const CHECK: Duration = Duration::from_secs(30);
/// Events that wait for a page.
const AHEAD: usize = 64;

/// Begins a stream.
pub async fn stream(State(console): State<Of>, Extension(visitor): Extension<Visitor>) -> impl IntoResponse {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(feed(console, visitor, sender));
    Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default())
}

async fn feed(console: Of, visitor: Visitor, page: mpsc::Sender<Result<Event, Infallible>>) {
    let (mut news, mut check) = (console.news.listen(), tokio::time::interval(CHECK));
    let broker = serde_json::to_string(&console.broker()).unwrap_or_default();
    if page.send(Ok(Event::default().event("broker").data(broker))).await.is_err() {
        return;
    }
    loop {
        let event = tokio::select! {
            told = news.recv() => match told {
                Ok(bulletin) => Event::default().event(bulletin.about).data(&*bulletin.json),
                Err(RecvError::Lagged(_)) => Event::default().event("reset").data("{}"),
                Err(RecvError::Closed) => return,
            },
            _ = check.tick() => {
                let (console, visitor) = (Arc::clone(&console), visitor.clone());
                let still = tokio::task::spawn_blocking(move || {
                    let person = match (&visitor.session, &visitor.token) {
                        (Some(session), _) => console.store.in_session(session, Timestamp::now()),
                        (None, Some(token)) => console.store.of_token(token),
                        (None, None) => Ok(None),
                    };
                    person.is_ok_and(|person| person.is_some())
                });
                if !still.await.unwrap_or(false) {
                    return;
                }
                continue;
            }
            () = page.closed() => return,
            () = console.stop.stopped() => return,
        };
        if page.send(Ok(event)).await.is_err() {
            return;
        }
    }
}
