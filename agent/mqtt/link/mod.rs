//! One connection to a broker: the only module that knows rumqttc.
//!
//! It speaks MQTT 5 where the broker does, else 3.1.1 ([`v5`], [`v3`]), and is the same to its user either way, but for what only
//! MQTT 5 can say: [`Event::Rejected`], [`Event::TakenOver`], [`Agreed`].
//!
//! A [`Link`] lives for one connection and is thrown away with it, with all that rumqttc still holds: what was not
//! acknowledged is known to the caller, who sends it again over the next one. (rumqttc itself would forget it when the
//! broker has no session.) Each publish gets a [`Token`], and [`Event::Acknowledged`] gives it back.

mod v3;
mod v5;
mod words;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rumqttc::{TlsConfiguration, Transport};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::tls::{self, TlsFiles};
use crate::config::value::{BrokerUrl, Scheme};
use crate::config::{MqttConfig, ProtocolVersion, secret};

/// A broker that does not answer in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Events that may wait for the caller; beyond it the connection is not read, which slows the broker down.
const EVENTS: usize = 64;
/// Commands and lessons are smaller; a larger packet ends the connection, see [`Event::Garbled`].
const LARGEST_INCOMING: usize = 4 << 20;
/// Packet identifiers in use at the same time; far more than any window, so that rumqttc never has to wait for one.
const IDENTIFIERS: u16 = 1024;

const WRONG_USER: &str = "wrong user or password (mqtt.user, mqtt.password_file)";
const NOT_AUTHORISED: &str =
    "not authorised: it wants a user and password, or these are wrong (mqtt.user, mqtt.password_file)";
const WRONG_ID: &str = "it does not take this client id (mqtt.client_id)";
const NOT_READY: &str = "it is not ready";

/// How to reach a broker.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// Its address.
    pub url: BrokerUrl,
    /// With TLS: whom to trust, and who we are.
    pub tls: TlsFiles,
    /// Client id.
    pub client_id: String,
    /// Which MQTT.
    pub version: ProtocolVersion,
    /// User name.
    pub user: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// Time between signs of life.
    pub keep_alive: Duration,
    /// Unacknowledged messages at a time.
    pub window: usize,
    /// Largest packet that is sent.
    pub max_packet: usize,
    /// Largest packet that is read.
    pub max_incoming: usize,
    /// The broker keeps what is subscribed to, and what comes in the meantime, for this client id.
    pub lasting: bool,
    /// What the broker has kept so far is to be thrown away first.
    pub forget: bool,
    /// What the broker publishes, retained, when the connection breaks.
    pub will: Option<(String, Vec<u8>)>,
}

impl LinkOptions {
    /// From the configuration.
    #[must_use]
    pub fn new(config: &MqttConfig, client_id: String) -> Self {
        Self {
            url: config.url.clone(),
            tls: TlsFiles { ca: config.ca_file.clone(), client: config.cert_file.clone().zip(config.key_file.clone()) },
            client_id,
            version: config.version,
            user: config.user.clone(),
            password_file: config.password_file.clone(),
            keep_alive: Duration::from_secs(config.keep_alive_s.get()),
            window: config.window.get() as usize,
            max_packet: config.max_packet_kib.get() as usize * 1024,
            max_incoming: LARGEST_INCOMING,
            forget: false,
            lasting: false,
            will: None,
        }
    }
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The broker said no.
    #[error("the broker at {0} refuses: {1}")]
    Refused(String, &'static str),
    /// Nobody answered.
    #[error("no broker at {0}: {1}")]
    Unreachable(String, String),
    /// One of the two does not accept the other's certificate.
    #[error("no trust between this machine and the broker at {0}: {1}")]
    Distrusted(String, String),
    /// The password file or a certificate is missing or wrong.
    #[error("{0:#}")]
    Secret(anyhow::Error),
}

/// A message that the broker keeps until it is acknowledged; good for the link on which it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    link: u64,
    identifier: u16,
}

/// Counts the links of this process, so that no receipt is taken for another link's.
static LINKS: AtomicU64 = AtomicU64::new(0);

/// Names one publish on one link.
pub type Token = u64;

/// What happened on a link.
#[derive(Debug)]
pub enum Event {
    /// The broker has taken responsibility for a publish of QoS 1.
    Acknowledged(Token),
    /// The broker refuses a publish. MQTT 5 only: a broker of 3.1.1 acknowledges what it throws away.
    Rejected {
        /// Which one.
        token: Token,
        /// Why, in words.
        reason: &'static str,
        /// It would take it at another time.
        passing: bool,
    },
    /// A message came.
    Message {
        /// For [`Link::acknowledge`], where that is wanted.
        receipt: Option<Receipt>,
        /// Its topic.
        topic: String,
        /// Its bytes.
        payload: Vec<u8>,
        /// The broker had kept it.
        retained: bool,
    },
    /// The broker does not let us read what was subscribed to.
    Refused,
    /// The connection is gone, and why.
    Lost(String),
    /// The connection is gone, since another client has come with the same id. MQTT 5 only.
    TakenOver,
    /// The connection is gone, since what came is no MQTT, or too large. Where the broker keeps messages it sends the same
    /// again at the next connection, and so for ever, unless it is told to forget them.
    Garbled(String),
}

impl Event {
    /// Whether the connection is gone.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::TakenOver | Self::Garbled(_))
    }
}

/// What the broker has said about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// `3.1.1` or `5`.
    pub version: &'static str,
    /// The largest packet that it takes.
    pub max_packet: usize,
    /// How many publishes it takes unacknowledged.
    pub window: usize,
}

enum Client {
    V3(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

/// Which token belongs to which packet identifier. rumqttc sends publishes in the order in which it took them and names each one's
/// identifier as it goes out, so counting them is enough.
#[derive(Default)]
struct Tokens {
    sent: Token,
    of: HashMap<u16, Token>,
}

impl Tokens {
    fn sent(&mut self, identifier: u16) {
        self.of.insert(identifier, self.sent);
        self.sent += 1;
    }

    fn acknowledged(&mut self, identifier: u16) -> Option<Token> {
        self.of.remove(&identifier)
    }
}

/// Why a handshake failed, and whether the broker may not know this version of MQTT.
struct Failed {
    error: LinkError,
    unknown_version: bool,
}

/// An open connection.
pub struct Link {
    client: Client,
    agreed: Agreed,
    events: mpsc::Receiver<Event>,
    pump: JoinHandle<()>,
    published: Token,
    number: u64,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Link {
    /// Connects, and waits for the broker's answer.
    ///
    /// # Errors
    /// [`LinkError`], in words for a technician.
    pub async fn connect(options: &LinkOptions) -> Result<Self, LinkError> {
        if options.forget {
            // A session of its own, which ends at once; the one after it lasts again.
            let forgetful = LinkOptions { lasting: false, forget: false, will: None, ..options.clone() };
            Box::pin(Self::connect(&forgetful)).await?.disconnect().await;
        }
        let number = LINKS.fetch_add(1, Ordering::Relaxed);
        match options.version {
            ProtocolVersion::V3 => v3::connect(options, number).await.map_err(|failed| failed.error),
            ProtocolVersion::V5 => v5::connect(options, number).await.map_err(|failed| failed.error),
            ProtocolVersion::Auto => match v5::connect(options, number).await {
                // A broker that does not know MQTT 5 says so, says something else, or just ends the connection.
                Err(failed) if failed.unknown_version => {
                    v3::connect(options, number).await.map_err(|failed| failed.error)
                }
                other => other.map_err(|failed| failed.error),
            },
        }
    }

    fn new(
        client: Client,
        agreed: Agreed,
        number: u64,
        pump: impl FnOnce(mpsc::Sender<Event>) -> JoinHandle<()>,
    ) -> Self {
        let (sender, events) = mpsc::channel(EVENTS);
        Self { client, agreed, events, pump: pump(sender), published: 0, number }
    }

    /// What the broker has said about the connection.
    #[must_use]
    pub fn agreed(&self) -> Agreed {
        self.agreed
    }

    /// Hands a message to the connection; `None` when it cannot take more now. With MQTT 5 a broker throws away what it could
    /// not hand on for as long as `expiry`.
    pub fn publish(
        &mut self,
        topic: &str,
        payload: Vec<u8>,
        qos: u8,
        retain: bool,
        expiry: Option<Duration>,
    ) -> Option<Token> {
        match &self.client {
            Client::V3(client) => v3::publish(client, topic, payload, qos, retain),
            Client::V5(client) => v5::publish(client, topic, payload, qos, retain, expiry),
        }?;
        let token = self.published;
        self.published += 1;
        Some(token)
    }

    /// Asks for messages.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn subscribe(&self, filter: &str) -> Result<(), String> {
        match &self.client {
            Client::V3(client) => client.try_subscribe(filter, rumqttc::QoS::AtLeastOnce).map_err(|e| e.to_string()),
            Client::V5(client) => v5::subscribe(client, filter),
        }
    }

    /// Asks for no more of them.
    pub fn unsubscribe(&self, filter: &str) {
        // Over a connection that is gone nothing comes anyway.
        match &self.client {
            Client::V3(client) => drop(client.try_unsubscribe(filter)),
            Client::V5(client) => drop(client.try_unsubscribe(filter)),
        }
    }

    /// Tells the broker that a message has been dealt with. What is never acknowledged comes again over a later link.
    pub fn acknowledge(&self, receipt: Receipt) {
        if receipt.link == self.number {
            // When the connection has no room for it, it comes again.
            match &self.client {
                Client::V3(client) => v3::acknowledge(client, receipt.identifier),
                Client::V5(client) => v5::acknowledge(client, receipt.identifier),
            }
        }
    }

    /// The next thing that happens. May be dropped and called again without losing anything.
    pub async fn next(&mut self) -> Event {
        self.events.recv().await.unwrap_or_else(|| Event::Lost("the connection was closed".into()))
    }

    /// Says good-bye, so that the broker does not publish the last will.
    pub async fn disconnect(mut self) {
        let leaving = match &self.client {
            Client::V3(client) => client.try_disconnect().is_ok(),
            Client::V5(client) => client.try_disconnect().is_ok(),
        };
        if leaving {
            let gone = async { while !self.next().await.is_last() {} };
            let _ = tokio::time::timeout(Duration::from_secs(1), gone).await;
        }
    }
}

/// Host and port for rumqttc, which wants a whole URL for WebSocket; and how to get there.
fn way(options: &LinkOptions) -> Result<(String, u16, Transport), LinkError> {
    let (host, port) = options.url.address();
    let scheme = options.url.scheme();
    let tls = || tls::client_config(&options.tls).map(TlsConfiguration::Rustls).map_err(LinkError::Secret);
    let whole = || options.url.as_str().to_owned();
    Ok(match scheme {
        Scheme::Mqtt => (host, port, Transport::Tcp),
        Scheme::Mqtts => (host, port, Transport::Tls(tls()?)),
        Scheme::Ws => (whole(), port, Transport::Ws),
        Scheme::Wss => (whole(), port, Transport::Wss(tls()?)),
    })
}

fn credentials(options: &LinkOptions) -> Result<Option<(String, String)>, LinkError> {
    let Some(user) = &options.user else { return Ok(None) };
    let password = match &options.password_file {
        Some(path) => secret(path).map_err(LinkError::Secret)?,
        None => String::new(),
    };
    Ok(Some((user.clone(), password)))
}

fn place(options: &LinkOptions) -> String {
    let (host, port) = options.url.address();
    format!("{host}:{port}")
}

fn unreachable(place: String, text: String) -> LinkError {
    let kind = if words::is_trust(&text) { LinkError::Distrusted } else { LinkError::Unreachable };
    kind(place, text)
}
