//! GigE Vision and USB3 Vision cameras, through Aravis.
//!
//! Guarantees: a picture of which anything is missing is [`Next::Unreadable`](super::source::Next), never a picture;
//! what the configuration asks of a camera is either done, and said where the camera has rounded it, or an error that
//! names the feature and what would be right; a camera that is lost is noticed within seconds, also while it waits for
//! a trigger; the control of a camera is given back at the end.
//!
//! Aravis is linked with the feature `genicam`, which is on by default. Without it everything here still answers, and
//! says what is missing.

#[cfg(feature = "genicam")]
mod control;
#[cfg(feature = "genicam")]
mod discovery;
pub mod pixels;
#[cfg(feature = "genicam")]
mod stream;

use anyhow::Result;
use serde::Serialize;

use super::source::FrameSource;
use crate::config::{GenicamSource, Limits};
use crate::stop::Stop;

/// What a build without Aravis says.
#[cfg(not(feature = "genicam"))]
const WITHOUT: &str = "this build of inspectd has no GenICam support: install the packaged one, or build with \
    `--features genicam`, which needs libaravis-dev 0.8.25 or later";

/// A camera that answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// `Vendor-Model-Serial`.
    pub id: String,
    /// Who made it.
    pub vendor: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// MAC address, or what stands for it on USB.
    pub mac: String,
    /// IP address, or what stands for it on USB.
    pub address: String,
    /// `GigEVision` or `USB3Vision`.
    pub protocol: String,
}

/// Whether a camera could be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub enum Reach {
    /// It can.
    Free,
    /// Another program controls it.
    InUse,
    /// It was seen, but does not answer.
    Silent(String),
}

/// Opens a camera and starts it.
///
/// # Errors
/// It is not there, belongs to another program, or cannot do what is asked; or this build has no GenICam support.
#[cfg(feature = "genicam")]
pub fn open(config: &GenicamSource, limits: &Limits, stop: &Stop) -> Result<Box<dyn FrameSource>> {
    Ok(Box::new(stream::Genicam::open(config, limits, stop)?))
}

/// All cameras that answer, which takes about a second, and whether they can be opened.
///
/// # Errors
/// This build has no GenICam support.
#[cfg(feature = "genicam")]
#[allow(clippy::unnecessary_wraps)] // the other build has nothing else
pub fn list() -> Result<Vec<(Device, Reach)>> {
    Ok(discovery::list().into_iter().map(|device| (device.clone(), discovery::reach(&device))).collect())
}

/// Says what is missing.
///
/// # Errors
/// Always.
#[cfg(not(feature = "genicam"))]
pub fn open(_: &GenicamSource, _: &Limits, _: &Stop) -> Result<Box<dyn FrameSource>> {
    anyhow::bail!(WITHOUT)
}

/// Says what is missing.
///
/// # Errors
/// Always.
#[cfg(not(feature = "genicam"))]
pub fn list() -> Result<Vec<(Device, Reach)>> {
    anyhow::bail!(WITHOUT)
}

#[cfg(all(test, not(feature = "genicam")))]
mod tests {
    use super::*;
    use crate::config::value::DeviceKey;

    #[test]
    fn a_build_without_it_says_what_is_missing() {
        let config = GenicamSource::new(DeviceKey::new("T1").unwrap());
        let error = open(&config, &Limits::default(), &Stop::default()).map(drop).unwrap_err().to_string();
        assert!(error.contains("--features genicam") && error.contains("libaravis-dev"), "{error}");
        assert_eq!(list().unwrap_err().to_string(), error);
    }
}
