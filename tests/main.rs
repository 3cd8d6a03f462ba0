//! Tests that need processes: the real binary, real mosquitto, real ONNX Runtime, a real RTSP server.
//!
//! Real pictures are read from `INSPECTD_DATA` (default `../shared/data`); where that folder is missing, those tests say
//! so and pass. Long forms run with `INSPECTD_SOAK=1` (`make soak`).

// A test that cannot go on says why by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod alarms;
mod boards;
mod cameras;
mod cli;
mod commands;
mod console;
mod constancy;
mod delivery;
mod demo;
mod disks;
mod endurance;
mod evaluation;
mod extraction;
mod fairness;
mod false_alarms;
mod figures;
#[cfg(feature = "genicam")]
mod genicam;
mod health;
mod memories;
mod operators;
mod poison;
mod protocol;
mod releases;
mod reload;
mod rollout;
mod rtsp;
mod service;
mod session;
mod setup;
mod support;
mod teaching;
mod training;
mod transport;
mod triggers;
mod units;
mod update_faults;
mod updates;
mod views;
