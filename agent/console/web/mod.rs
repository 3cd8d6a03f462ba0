//! The page and its API over HTTP.
//!
//! Guarantees
//! - Without a session or a token nothing is answered but the page's own files and the login ([`guard`] stands in front of all routes
//!   of [`ROUTES`]; a route cannot be added past it).
//! - What changes something is taken from this page or with a token alone (`SameSite=Strict`, the header `X-Inspectd`, and the
//!   browser's own word on where a request comes from).
//! - Bodies are limited; errors are JSON in words.

mod alarms;
mod answer;
mod assets;
mod guard;
mod metrics;
mod openapi;
mod people;
mod plant;
mod releases;
mod session;
mod stream;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{MethodRouter, delete, get, post};
use axum_server::tls_rustls::RustlsConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use guard::Guard;

use super::Console;
use super::store::Role;
use crate::http::patient;

/// Bytes of a request, but for an upload.
const LARGEST: usize = 256 << 10;

/// A certificate and its key.
pub type Tls = RustlsConfig;

type Of = Arc<Console>;

/// A route: method, path, who may, what it does in words, and by what.
struct Route {
    method: &'static str,
    path: &'static str,
    role: Option<Role>,
    summary: &'static str,
    handler: fn() -> MethodRouter<Of>,
}

const fn route(
    method: &'static str,
    path: &'static str,
    role: Option<Role>,
    summary: &'static str,
    handler: fn() -> MethodRouter<Of>,
) -> Route {
    Route { method, path, role, summary, handler }
}

const ANYBODY: Option<Role> = None;
const OPERATOR: Option<Role> = Some(Role::Operator);
const ENGINEER: Option<Role> = Some(Role::Engineer);

/// All of the API.
const ROUTES: &[Route] = &[
    route("POST", "/api/v1/login", ANYBODY, "Begin a session", || post(session::login)),
    route("POST", "/api/v1/logout", OPERATOR, "End the session", || post(session::logout)),
    route("GET", "/api/v1/me", ANYBODY, "Who is logged in, and how the broker is", || get(session::me)),
    route("POST", "/api/v1/me/password", OPERATOR, "Another password", || post(session::password)),
    route(
        "GET",
        "/api/v1/alarms",
        OPERATOR,
        "A page of alarms: of what is open the worst first, else the latest",
        || get(alarms::list),
    ),
    route("GET", "/api/v1/alarms.csv", OPERATOR, "All of these alarms as CSV", || get(alarms::csv)),
    route("GET", "/api/v1/alarms.json", OPERATOR, "All of these alarms as JSON", || get(alarms::json)),
    route("GET", "/api/v1/alarms/{id}", OPERATOR, "An alarm, what happened to it, and commands about it", || {
        get(alarms::one)
    }),
    route("POST", "/api/v1/alarms/{id}/close", ENGINEER, "End an alarm whose gateway is not there", || {
        post(alarms::close)
    }),
    route("GET", "/api/v1/images/{sha256}", OPERATOR, "A picture", || get(alarms::image)),
    route("GET", "/api/v1/classes", OPERATOR, "Names of classes that were seen", || get(alarms::classes)),
    route("GET", "/api/v1/stats", OPERATOR, "Alarms by time, class and camera", || get(alarms::stats)),
    route("POST", "/api/v1/commands", OPERATOR, "A command to a gateway", || post(plant::command)),
    route("GET", "/api/v1/fleet", OPERATOR, "Gateways and cameras", || get(plant::fleet)),
    route("GET", "/api/v1/gaps", OPERATOR, "Events that did not come", || get(plant::gaps)),
    route("GET", "/api/v1/stream", OPERATOR, "What happens, as server-sent events", || get(stream::stream)),
    route("GET", "/api/v1/openapi.json", OPERATOR, "This document", || get(openapi::document)),
    route("GET", "/api/v1/releases", OPERATOR, "Releases that were uploaded", || get(releases::list)),
    route("POST", "/api/v1/releases", ENGINEER, "Upload a release", || {
        post(releases::upload).layer(DefaultBodyLimit::disable())
    }),
    route("DELETE", "/api/v1/releases/{sha256}", ENGINEER, "Throw a release away", || delete(releases::remove)),
    route("GET", "/api/v1/rollouts", OPERATOR, "How far roll-outs are", || get(releases::rollouts)),
    route("POST", "/api/v1/rollouts", ENGINEER, "Roll a release out", || post(releases::begin)),
    route("POST", "/api/v1/rollouts/{id}/stop", ENGINEER, "Stop a roll-out", || post(releases::stop)),
    route("GET", "/api/v1/users", ENGINEER, "Who may log in", || get(people::users)),
    route("POST", "/api/v1/users", ENGINEER, "Let somebody log in", || post(people::add_user)),
    route("DELETE", "/api/v1/users/{name}", ENGINEER, "Let somebody log in no more", || delete(people::remove_user)),
    route("GET", "/api/v1/tokens", ENGINEER, "Other systems that may come in", || get(people::tokens)),
    route("POST", "/api/v1/tokens", ENGINEER, "Let another system in", || post(people::add_token)),
    route("DELETE", "/api/v1/tokens/{name}", ENGINEER, "Let another system in no more", || {
        delete(people::remove_token)
    }),
    route("GET", "/metrics", OPERATOR, "Figures for Prometheus", || get(metrics::metrics)),
];

fn router(console: Of) -> Router {
    let mut router = Router::new();
    for Route { path, role, handler, .. } in ROUTES {
        let guard = guard::Door { console: Arc::clone(&console), role: *role };
        router = router.route(path, handler().layer(middleware::from_fn_with_state(guard, guard::enter)));
    }
    router
        .layer(DefaultBodyLimit::max(LARGEST))
        .route("/", get(assets::index))
        .route("/assets/{name}", get(assets::asset))
        .fallback(answer::nothing)
        .layer(middleware::map_response(guard::harden))
        .with_state(console)
}

/// Serves until it is dropped.
pub async fn serve(console: Of, listener: TcpListener, tls: Option<Tls>) -> Result<()> {
    listener.set_nonblocking(true)?;
    let app = router(console).into_make_service_with_connect_info::<SocketAddr>();
    match tls {
        Some(tls) => patient(axum_server::from_tcp_rustls(listener, tls)?).serve(app).await?,
        None => patient(axum_server::from_tcp(listener)?).serve(app).await?,
    }
    Ok(())
}

/// Reads a certificate and its key.
///
/// # Errors
/// A file is missing, holds nothing of what it should, or the two do not belong together.
pub fn tls(cert: &Path, key: &Path) -> Result<Tls> {
    let of = |path: &Path| format!("cannot read {} as PEM", path.display());
    let chain = CertificateDer::pem_file_iter(cert).with_context(|| of(cert))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().with_context(|| of(cert))?;
    let secret = PrivateKeyDer::from_pem_file(key).with_context(|| of(key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .with_context(|| format!("the key {} does not go with {}", key.display(), cert.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}
