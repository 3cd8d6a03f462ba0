//! How a command reaches the broker, from its arguments.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::link::LinkOptions;
use super::tls::TlsFiles;
use crate::config::value::BrokerUrl;
use crate::config::{ProtocolVersion, credential};
use crate::exit::{Exit, OrExit};

/// Largest message that is read and written.
const MAX_PACKET: usize = 16 << 20;
/// Messages on their way, where nobody says otherwise.
const WINDOW: usize = 32;

/// Where the broker is, and who we are.
#[derive(clap::Args)]
pub struct BrokerArgs {
    /// Address of the broker: `mqtt://HOST:PORT`, `mqtts://` for TLS, `ws://HOST:PORT/PATH` or `wss://` for WebSocket.
    #[arg(long)]
    broker: String,
    #[command(flatten)]
    login: LoginArgs,
}

/// Who we are at the broker. Each file may also be `credential:NAME`, what systemd's LoadCredential= gives.
#[derive(Debug, Clone, clap::Args)]
pub struct LoginArgs {
    /// User name at the broker.
    #[arg(long)]
    pub user: Option<String>,
    /// File with the password in its first line; here and for the other files `credential:NAME` is what systemd's LoadCredential= gives.
    #[arg(long, id = "broker_password_file", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// With TLS: authorities that may vouch for the broker, in PEM.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// With TLS: our certificate in PEM, for a broker that wants one.
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// The key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
}

impl BrokerArgs {
    /// For a connection of a client that is called after this command.
    ///
    /// # Errors
    /// The address is wrong.
    pub fn options(&self, command: &str) -> Result<LinkOptions> {
        let LoginArgs { user, password_file, ca_file, cert_file, key_file } = &self.login;
        let file = |path: &Option<PathBuf>| path.as_deref().map(credential);
        Ok(LinkOptions {
            url: BrokerUrl::new(&self.broker).map_err(|e| anyhow!("--broker {e}")).or_exit(Exit::Config)?,
            tls: TlsFiles { ca: file(ca_file), client: file(cert_file).zip(file(key_file)) },
            client_id: format!("inspectd-{command}-{}", uuid::Uuid::now_v7()),
            version: ProtocolVersion::Auto,
            user: user.clone(),
            password_file: file(password_file),
            keep_alive: Duration::from_secs(15),
            window: WINDOW,
            max_packet: MAX_PACKET,
            max_incoming: MAX_PACKET,
            forget: false,
            lasting: false,
            will: None,
        })
    }
}
