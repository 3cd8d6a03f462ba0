//! Which bundle the agent starts with. It always starts with one.

use std::time::Duration;

use anyhow::Result;
use tracing::{error, warn};

use super::ledger::{Installed, Ledger};
use crate::anomaly::memory::Mark;
use crate::config::Config;
use crate::engine;
use crate::exit::{Exit, OrExit};
use crate::fitting;
use crate::inspector::Inspector;
use crate::model::bundle::Bundle;
use crate::model::runtime::Environment;

/// Building sessions and golden vectors take no longer.
const HANGS: Duration = Duration::from_secs(60);

/// What the agent starts with.
pub struct Booted {
    /// The active bundle.
    pub bundle: Bundle,
    /// Its inspectors.
    pub inspectors: Vec<Inspector>,
    /// The mark of its features.
    pub mark: Mark,
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
            Ok((bundle, inspectors, mark)) => return Ok(Booted { bundle, inspectors, mark, ledger }),
            Err(e) => {
                let reason = format!("at the start: {e:#}");
                error!("the updated bundle cannot be used, the one before is: {reason}");
                if let Err(e) = ledger.fall_back(&reason) {
                    warn!("which cannot be noted: {e:#}");
                }
            }
        }
    }
    let bundle = fitting::bundle(config, environment)?;
    let (inspectors, mark) = engine::inspectors(config, environment, &bundle).or_exit(Exit::Data)?;
    Ok(Booted { bundle, inspectors, mark, ledger })
}

fn slot(
    config: &Config,
    environment: &Environment,
    ledger: &Ledger,
    installed: Installed,
) -> Result<(Bundle, Vec<Inspector>, Mark)> {
    let bundle = open(ledger, installed)?;
    let (inspectors, mark) = guarded(|| engine::inspectors(config, environment, &bundle))?;
    Ok((bundle, inspectors, mark))
}

/// Does what may hang in a bundle's network; then the process ends, which counts as one of the bundle's starts.
pub fn guarded<T>(f: impl FnOnce() -> T) -> T {
    let (done, waits) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if waits.recv_timeout(HANGS) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            error!("an updated bundle hangs before its first frame: inspectd ends");
            std::process::exit(i32::from(Exit::Software as u8));
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
