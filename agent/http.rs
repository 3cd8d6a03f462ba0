//! What all of our HTTP servers have in common.

use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::rt::TokioTimer;

/// The head of a request comes in this time.
const SLOWEST: Duration = Duration::from_secs(15);

/// A connection that asks for nothing, or too slowly, is closed, so that idle ones do not use up all files.
pub fn patient<A>(mut server: axum_server::Server<SocketAddr, A>) -> axum_server::Server<SocketAddr, A> {
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(SLOWEST);
    server.http1_only().first_request_timeout(SLOWEST)
}
