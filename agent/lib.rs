//! inspectd: an edge inspection agent for industrial cameras.
//!
//! A frame goes one way: [`frame`] → [`model`] and [`anomaly`] (by the [`inspector`], several at a time in the
//! [`pipeline`]) → [`verdict`] → [`outbox`] → [`mqtt`]. The [`daemon`] builds these parts and drains them in order.

pub mod anomaly;
pub mod asyncapi;
pub mod backoff;
pub mod bench;
pub mod cameras;
pub mod check;
pub mod clerk;
pub mod command;
pub mod config;
pub mod console;
pub mod daemon;
pub mod durable;
pub mod engine;
pub mod eval;
pub mod exit;
pub mod extract;
mod fail;
pub mod fitting;
pub mod frame;
pub mod glob;
pub mod health;
mod http;
pub mod inspector;
pub mod keeper;
pub mod log;
pub mod manual;
pub mod metrics;
pub mod model;
pub mod mqtt;
pub mod outbox;
pub mod pipeline;
pub mod publish;
pub mod pulse;
pub mod reference;
pub mod reload;
pub mod report;
pub mod rig;
pub mod schema;
pub mod setup;
pub mod shared;
pub mod signals;
pub mod stop;
pub mod stopwatch;
pub mod support;
pub mod system;
pub mod taught;
pub mod teach;
pub mod trigger;
pub mod update;
pub mod verdict;
pub mod watch;
