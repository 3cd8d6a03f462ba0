//! Which bundle the agent starts with. It always starts with one.

use std::time::Duration;

use anyhow::Result;
use tracing::{error, warn};

use super::ledger::{Installed, Ledger};
use crate::config::Config;
use crate::engine::Engine;
use crate::exit::{self, Exit, OrExit};
use crate::fitting::{self, Want};
use crate::model::bundle::Bundle;
use crate::model::runtime::Environment;

/// Building sessions and golden vectors take no longer.
const HANGS: Duration = Duration::from_secs(60);

/// What the agent starts with.
pub struct Booted {
    /// The active bundle, ready to inspect.
    pub engine: Engine,
    /// Where it is from.
    pub ledger: Ledger,
}

/// The active bundle, proved by its golden vectors. One in a slot that cannot be used gives way to the one before, and in the end to
/// the configured one.
///
/// # Errors
/// The configured one is needed and cannot be used.
pub fn boot(config: &Config, environment: &Environment) -> Result<Booted> {
    let mut ledger = Ledger::open(&config.gateway.state_dir);
    if ledger.started() {
        error!("an update is given up: {}", ledger.phase().1.unwrap_or_default());
    }
    while let Some(installed) = ledger.active() {
        match slot(config, environment, &ledger, installed) {
            Ok(engine) => return Ok(Booted { engine, ledger }),
            Err(e) => {
                let reason = format!("at the start: {e:#}");
                error!("the updated bundle cannot be used, the one before is: {reason}");
                if let Err(e) = ledger.fall_back(&reason) {
                    warn!("which cannot be noted: {e:#}");
                }
            }
        }
    }
    let bundle = fitting::bundle(&Want::gateway(config), environment)?;
    let engine = Engine::start(config.model.workers(), environment, &bundle).or_exit(Exit::Data)?;
    Ok(Booted { engine, ledger })
}

fn slot(config: &Config, environment: &Environment, ledger: &Ledger, installed: Installed) -> Result<Engine> {
    let bundle = open(ledger, installed)?;
    guarded(|| Engine::start(config.model.workers(), environment, &bundle))
}

/// Does what may hang in a bundle's network; then the process ends, which counts as one of the bundle's starts.
pub fn guarded<T>(f: impl FnOnce() -> T) -> T {
    let (done, waits) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if waits.recv_timeout(HANGS) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            error!("an updated bundle hangs before its first frame: inspectd ends");
            exit::leave(Exit::Software as u8);
        }
    });
    let result = f();
    drop(done);
    result
}

/// The bundle in a slot, if it is the one that was installed there.
///
/// # Errors
/// It is not, or has changed.
pub fn open(ledger: &Ledger, installed: Installed) -> Result<Bundle> {
    let bundle = Bundle::open(&ledger.folder(installed.slot))?;
    anyhow::ensure!(bundle.sha256 == installed.bundle.to_string(), "there is another bundle in its slot");
    Ok(bundle)
}
