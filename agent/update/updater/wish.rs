//! What is wanted, and whether it is taken.

use anyhow::{Context, Result, anyhow, ensure};
use jiff::Timestamp;
use semver::Version;
use tokio::task::block_in_place;
use tracing::{info, warn};

use super::{Decided, KEEP_FREE, Updater, clean};
use crate::update::admission::{self, Admitted, Circumstances, Desired};
use crate::update::disk;
use crate::update::index::Digest;
use crate::update::ledger::Ledger;

impl Updater {
    /// What is wanted of this gateway alone comes before what is wanted of the site.
    pub(super) fn consider(&mut self) {
        let wish = self.parts.topics.desired().iter().find_map(|topic| self.wanted.get(topic).cloned());
        let decided = wish.clone().map_or(Decided::Nothing, Decided::Wish);
        if self.decided == decided {
            return;
        }
        self.decided = decided;
        let before = self.refused.take();
        let desired = wish.as_ref().and_then(|wish| serde_json::from_slice::<Desired>(wish).ok());
        self.about = desired.map(|desired| Digest::of(desired.release.as_bytes()));
        match wish {
            None => self.drop_candidate(),
            Some(wish) => {
                if let Err(e) = self.decide(&wish) {
                    self.refused = before; // the same reason again is no news
                    self.refuse(format!("{e:#}"));
                }
            }
        }
        self.report();
    }

    /// A release that is on its way, and not on trial yet, is not wanted any more.
    fn drop_candidate(&mut self) {
        if self.ledger.trial().is_none() && self.ledger.candidate().is_some() {
            info!("the release that was on its way is not wanted any more");
            self.idle();
            self.noted(Ledger::forget);
            clean(&self.ledger);
        }
    }

    fn decide(&mut self, wish: &[u8]) -> Result<()> {
        let admitted = admission::read(wish, &self.parts.keys)?;
        let candidate = self.ledger.candidate().map(|c| c.installed.release);
        if candidate == Some(admitted.sha256) {
            return Ok(());
        }
        if self.ledger.active().map(|a| a.release) == Some(admitted.sha256) {
            self.drop_candidate();
            return Ok(());
        }
        if let Some((reason, is_last)) = self.ledger.given_up(&admitted.sha256) {
            // The report says so anyway while nothing else has happened.
            let known = format!("it was given up on this gateway, and has to be signed again: {reason}");
            self.drop_candidate();
            return if is_last { Ok(()) } else { Err(anyhow!(known)) };
        }
        ensure!(self.ledger.trial().is_none(), "another release is on trial; this one is looked at when that is over");
        admission::decide(&admitted, &self.here()?)?;
        info!(name = admitted.release.name, counter = admitted.release.counter, signer = %admitted.signer, "an update is wanted");
        self.begin(&admitted)
    }

    fn here(&self) -> Result<Circumstances> {
        let config = self.parts.config.get();
        let (gateway, update) = (&config.gateway, &config.update);
        Ok(Circumstances {
            site: gateway.site.to_string(),
            gateway: gateway.name.to_string(),
            hardware: std::env::consts::ARCH.to_owned(),
            agent: Version::parse(env!("CARGO_PKG_VERSION"))?,
            now: Timestamp::now(),
            floor: self.ledger.floor()?,
            active: self.active.sha256.parse().ok(),
            max_bytes: update.max_bundle_mib.get() << 20,
            disk: disk::space(&gateway.state_dir)?,
            keep_free: KEEP_FREE,
        })
    }

    /// The candidate is still signed by somebody who is trusted, and still for here and now.
    fn is_still_good(&self) -> Result<()> {
        let candidate = self.ledger.candidate().context("there is no candidate")?;
        let admitted = admission::read(&serde_json::to_vec(&candidate.desired)?, &self.parts.keys)?;
        admission::still_good(&admitted, &self.here()?)
    }

    /// Whether the candidate goes on. One that was revoked or has expired since is dropped and refused, not given up: a clock that is
    /// not set yet after a start is no fault of the release, and refusals are looked at again.
    pub(super) fn goes_on(&mut self) -> bool {
        let good = self.is_still_good();
        if let Err(e) = &good {
            self.drop_candidate();
            self.refuse(format!("{e:#}"));
        }
        good.is_ok()
    }

    pub(super) fn refuse(&mut self, reason: String) {
        if self.refused.as_ref() != Some(&reason) {
            warn!("an update is refused: {reason}");
            self.refused = Some(reason);
        }
    }

    fn begin(&mut self, admitted: &Admitted) -> Result<()> {
        block_in_place(|| self.ledger.begin(admitted))?;
        self.idle();
        self.shadow = None;
        Ok(())
    }
}
