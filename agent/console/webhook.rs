//! New alarms to another system, one after the other, by HTTP POST.
//!
//! Guarantees: an alarm waits in the store until the other side has answered 2xx, across restarts; it may come twice, with the same
//! id. While the other side fails the next attempt comes after 1 s to 5 min. Of more than 10,000 that wait the oldest are given up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tracing::{info, warn};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use super::store::Store;
use crate::backoff::Backoff;
use crate::config::secret;
use crate::stop::Stop;

/// The other side answers in this time.
const TIMEOUT: Duration = Duration::from_secs(20);
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
        url.parse::<axum::http::Uri>().with_context(|| format!("--webhook: {url}"))?;
        let secret = secret_file.map(secret).transpose()?;
        let roots = rustls_native_certs::load_native_certs().certs;
        let roots: Vec<_> = roots.iter().map(|root| ureq::tls::Certificate::from_der(root).to_owned()).collect();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent =
            Agent::config_builder().timeout_global(Some(TIMEOUT)).max_redirects(0).tls_config(tls).build().into();
        Ok(Self { url: url.to_owned(), secret, agent })
    }

    /// Tells what is new until it is time to stop.
    pub fn run(&self, store: &Store, stop: &Stop) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        loop {
            let told = match store.untold() {
                Ok(None) => Ok(false),
                Ok(Some((n, body))) => self.post(&body).and_then(|()| store.told(n)).map(|()| true),
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
        match request.send(body) {
            Ok(_) => Ok(()),
            Err(ureq::Error::StatusCode(code)) => Err(anyhow!("it answers {code}")),
            Err(e) => Err(anyhow!("{e}")),
        }
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
