//! New alarms to another system, one after the other, by HTTP POST.
//!
//! Guarantees: an alarm waits in the store until the other side has answered 2xx, across restarts; it may come twice, with the same
//! id. While the other side fails the next attempt comes after 1 s to 5 min. One that it refuses for good ([`PATIENCE`] times 4xx) is
//! given up, so that it does not hold up the others, and of more than 10,000 that wait the oldest are; both are said.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;
use tracing::{info, warn};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use super::store::Store;
use crate::backoff::Backoff;
use crate::config::secret;
use crate::stop::Stop;

/// The other side answers in this time.
const TIMEOUT: Duration = Duration::from_secs(20);
/// What was refused so often is given up.
const PATIENCE: u32 = 20;
/// How often it is looked for new ones.
const IDLE: Duration = Duration::from_millis(500);

/// Where they go.
pub struct Webhook {
    url: String,
    secret: Option<String>,
    agent: Agent,
}

impl Webhook {
    /// To this address.
    ///
    /// # Errors
    /// It is none, or the secret cannot be read.
    pub fn new(url: &str, secret_file: Option<&Path>) -> Result<Self> {
        ensure!(
            url.starts_with("http://") || url.starts_with("https://"),
            "--webhook: {url} is no http:// or https:// address"
        );
        url.parse::<ureq::http::Uri>().with_context(|| format!("--webhook: {url}"))?;
        let secret = secret_file.map(secret).transpose()?;
        let roots = rustls_native_certs::load_native_certs().certs;
        let roots: Vec<_> = roots.iter().map(|root| ureq::tls::Certificate::from_der(root).to_owned()).collect();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .max_redirects(0)
            .http_status_as_error(false)
            .tls_config(tls)
            .build()
            .into();
        Ok(Self { url: url.to_owned(), secret, agent })
    }

    /// Tells what is new until it is time to stop.
    pub fn run(&self, store: &Store, stop: &Stop) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        // The alarm that is refused, and how often.
        let mut refused = (0, 0);
        loop {
            let told = match store.untold() {
                Ok(None) => Ok(false),
                Ok(Some((n, body))) => match self.post(&body) {
                    Err(e)
                        if e.downcast_ref().is_some_and(Answered::is_final) && again(&mut refused, n) >= PATIENCE =>
                    {
                        warn!("the webhook refuses an alarm for good, which is given up: {e:#}; {body}");
                        store.told(n).map(|()| true)
                    }
                    posted => posted.and_then(|()| store.told(n)).map(|()| true),
                },
                Err(e) => Err(e),
            };
            let pause = match told {
                Ok(true) => {
                    if backoff.attempts() > 0 {
                        info!("the webhook takes alarms again");
                    }
                    backoff.reset();
                    Duration::ZERO
                }
                Ok(false) => IDLE,
                Err(e) => {
                    let delay = backoff.next_delay();
                    warn!(
                        "the webhook does not take an alarm: {e:#}; next attempt in {:.0} s",
                        delay.as_secs_f64().max(1.0)
                    );
                    delay
                }
            };
            if stop.wait(pause) {
                return;
            }
        }
    }

    fn post(&self, body: &str) -> Result<()> {
        let mut request = self.agent.post(&self.url).header("Content-Type", "application/json");
        if let Some(secret) = &self.secret {
            request = request.header("X-Inspectd-Signature", sign(secret, body)?);
        }
        let status = request.send(body)?.status();
        ensure!(status.is_success(), Answered(status.as_u16()));
        Ok(())
    }
}

/// How often this one was refused, with this time.
fn again(refused: &mut (i64, u32), n: i64) -> u32 {
    *refused = if refused.0 == n { (n, refused.1 + 1) } else { (n, 1) };
    refused.1
}

/// Something else than 2xx.
#[derive(Debug, Error)]
#[error("it answers {0}")]
struct Answered(u16);

impl Answered {
    /// The same will be answered the next time.
    fn is_final(&self) -> bool {
        matches!(self.0, 400..=499) && !matches!(self.0, 401 | 403 | 404 | 408 | 429)
    }
}

/// `sha256=` and the HMAC in hexadecimal digits, as many receivers know it.
fn sign(secret: &str, body: &str) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).context("the secret cannot be used")?;
    mac.update(body.as_bytes());
    Ok(format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_rfc_4231_does() {
        let signature = sign("Jefe", "what do ya want for nothing?").unwrap();
        assert_eq!(signature, "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
