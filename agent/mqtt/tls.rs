//! TLS to the broker: whom to trust, and who we are. Beside the console's page and webhook the only module that knows rustls.
//!
//! The provider is named in each configuration, so that no state of the process decides which one is used.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Files in PEM.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// The authorities that may vouch for the broker; those that this machine trusts where none is given.
    pub ca: Option<PathBuf>,
    /// Our certificate, with what leads to its authority, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Reads the files. They are read at every connection, so that a certificate that was renewed is used.
///
/// # Errors
/// A file is missing, holds nothing of what it should, or the key does not belong to the certificate.
pub fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &files.ca {
        for certificate in certificates(path)? {
            roots.add(certificate).with_context(|| format!("{} holds no usable authority", path.display()))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        ensure!(!roots.is_empty(), "this machine trusts no authority: install ca-certificates, or set mqtt.ca_file");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots);
    let config = match &files.client {
        Some((certificate, key)) => {
            let secret = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("{} holds no private key in PEM that can be read", key.display()))?;
            builder.with_client_auth_cert(certificates(certificate)?, secret).with_context(|| {
                format!("the key {} does not go with the certificate {}", key.display(), certificate.display())
            })?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let found = read().with_context(|| format!("cannot read certificates in PEM from {}", path.display()))?;
    ensure!(!found.is_empty(), "{} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)", path.display());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let why = |files: &TlsFiles| format!("{:#}", client_config(files).unwrap_err());
        let files = TlsFiles { ca: Some(path.clone()), client: None };
        assert!(why(&files).contains("cannot read certificates in PEM from"), "{}", why(&files));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(why(&files).contains("holds no certificate in PEM"), "{}", why(&files));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(why(&files).contains("holds no usable authority"), "{}", why(&files));
    }
}
