//! The way to the control room: topics, payloads, and a session that keeps the outbox's promise.

pub mod args;
pub mod board;
pub mod discovery;
mod flight;
pub mod link;
pub mod pace;
pub mod payload;
pub mod session;
pub mod status;
pub mod suspect;
pub mod tls;
pub mod topics;
