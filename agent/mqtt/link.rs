//! One connection to a broker: the only module that knows rumqttc.
//!
//! A [`Link`] lives for one connection and is thrown away with it, with all that rumqttc still holds: what was not
//! acknowledged is known to the caller, who sends it again over the next one. (rumqttc itself would forget it when the
//! broker has no session.) Each publish gets a [`Token`], and [`Event::Acknowledged`] gives it back.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, Incoming, LastWill, MqttOptions, Outgoing, Publish,
    QoS, StateError, SubscribeReasonCode, TlsConfiguration, Transport, mqttbytes,
};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::tls::{self, TlsFiles};
use crate::config::value::{BrokerUrl, Scheme};
use crate::config::{MqttConfig, secret};

/// A broker that does not answer in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Events that may wait for the caller; beyond it the connection is not read, which slows the broker down.
const EVENTS: usize = 64;
/// Commands and lessons are smaller; a larger packet ends the connection, see [`Event::Garbled`].
const LARGEST_INCOMING: usize = 4 << 20;
/// Packet identifiers in use at the same time; far more than any window, so that rumqttc never has to wait for one.
const IDENTIFIERS: u16 = 1024;

/// How to reach a broker.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// Its address.
    pub url: BrokerUrl,
    /// With TLS: whom to trust, and who we are.
    pub tls: TlsFiles,
    /// Client id.
    pub client_id: String,
    /// User name.
    pub user: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// Time between signs of life.
    pub keep_alive: Duration,
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
            user: config.user.clone(),
            password_file: config.password_file.clone(),
            keep_alive: Duration::from_secs(config.keep_alive_s.get()),
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
    /// The connection is gone, since what came is no MQTT, or too large. Where the broker keeps messages it sends the same
    /// again at the next connection, and so for ever, unless it is told to forget them.
    Garbled(String),
}

/// An open connection.
pub struct Link {
    client: AsyncClient,
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
        let (host, port) = options.url.address();
        let scheme = options.url.scheme();
        let address = if matches!(scheme, Scheme::Ws | Scheme::Wss) { options.url.as_str() } else { &host };
        let mut mqtt = MqttOptions::new(&options.client_id, address, port);
        if scheme.is_secure() {
            let config = TlsConfiguration::Rustls(tls::client_config(&options.tls).map_err(LinkError::Secret)?);
            mqtt.set_transport(if scheme == Scheme::Wss { Transport::Wss(config) } else { Transport::Tls(config) });
        } else if scheme == Scheme::Ws {
            mqtt.set_transport(Transport::Ws);
        }
        mqtt.set_keep_alive(options.keep_alive);
        mqtt.set_clean_session(!options.lasting);
        mqtt.set_max_packet_size(options.max_incoming, options.max_packet);
        mqtt.set_manual_acks(options.lasting);
        mqtt.set_inflight(IDENTIFIERS);
        if let Some(user) = &options.user {
            let password = match &options.password_file {
                Some(path) => secret(path).map_err(LinkError::Secret)?,
                None => String::new(),
            };
            mqtt.set_credentials(user, password);
        }
        if let Some((topic, payload)) = &options.will {
            mqtt.set_last_will(LastWill::new(topic, payload.clone(), QoS::AtLeastOnce, true));
        }
        let place = format!("{host}:{port}");
        let (client, mut event_loop) = AsyncClient::new(mqtt, usize::from(IDENTIFIERS));
        match tokio::time::timeout(CONNECT_TIMEOUT, event_loop.poll()).await {
            Err(_) => return Err(LinkError::Unreachable(place, "it does not answer".into())),
            Ok(Err(ConnectionError::ConnectionRefused(code))) => return Err(LinkError::Refused(place, refusal(code))),
            Ok(Err(e)) => {
                let text = words(&e);
                let kind = if hint(&text).is_some() { LinkError::Distrusted } else { LinkError::Unreachable };
                return Err(kind(place, text));
            }
            Ok(Ok(_)) => {}
        }
        let (sender, events) = mpsc::channel(EVENTS);
        let number = LINKS.fetch_add(1, Ordering::Relaxed);
        let pump = tokio::spawn(pump(event_loop, sender, options.lasting.then_some(number)));
        Ok(Self { client, events, pump, published: 0, number })
    }

    /// Hands a message to the connection; `None` when it cannot take more now.
    pub fn publish(&mut self, topic: &str, payload: Vec<u8>, qos: u8, retain: bool) -> Option<Token> {
        let qos = if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        self.client.try_publish(topic, qos, retain, payload).ok()?;
        let token = self.published;
        self.published += 1;
        Some(token)
    }

    /// Asks for messages.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn subscribe(&self, filter: &str) -> Result<(), String> {
        self.client.try_subscribe(filter, QoS::AtLeastOnce).map_err(|e| e.to_string())
    }

    /// Tells the broker that a message has been dealt with. What is never acknowledged comes again over a later link.
    pub fn acknowledge(&self, receipt: Receipt) {
        if receipt.link == self.number {
            let mut publish = Publish::new("", QoS::AtLeastOnce, Vec::new());
            publish.pkid = receipt.identifier;
            let _ = self.client.try_ack(&publish); // when the connection has no room for it, it comes again
        }
    }

    /// The next thing that happens. May be dropped and called again without losing anything.
    pub async fn next(&mut self) -> Event {
        self.events.recv().await.unwrap_or_else(|| Event::Lost("the connection was closed".into()))
    }

    /// Says good-bye, so that the broker does not publish the last will.
    pub async fn disconnect(mut self) {
        if self.client.try_disconnect().is_ok() {
            let gone = async { while !matches!(self.next().await, Event::Lost(_) | Event::Garbled(_)) {} };
            let _ = tokio::time::timeout(Duration::from_secs(1), gone).await;
        }
    }
}

/// Polls the connection. rumqttc sends publishes in the order in which it took them and names each one's packet
/// identifier as it goes out, so counting them tells which identifier belongs to which token.
async fn pump(mut event_loop: EventLoop, events: mpsc::Sender<Event>, lasting: Option<u64>) {
    let mut sent: Token = 0;
    let mut tokens: HashMap<u16, Token> = HashMap::new();
    loop {
        let event = match event_loop.poll().await {
            Ok(rumqttc::Event::Outgoing(Outgoing::Publish(identifier))) => {
                tokens.insert(identifier, sent);
                sent += 1;
                continue;
            }
            Ok(rumqttc::Event::Incoming(Incoming::PubAck(ack))) => match tokens.remove(&ack.pkid) {
                Some(token) => Event::Acknowledged(token),
                None => continue,
            },
            Ok(rumqttc::Event::Incoming(Incoming::SubAck(ack)))
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) =>
            {
                Event::Refused
            }
            Ok(rumqttc::Event::Incoming(Incoming::Publish(publish))) => {
                let identifier = publish.pkid;
                let receipt = lasting.filter(|_| identifier != 0).map(|link| Receipt { link, identifier });
                let (topic, payload, retained) = (publish.topic, publish.payload.to_vec(), publish.retain);
                Event::Message { receipt, topic, payload, retained }
            }
            Ok(_) => continue,
            // A connection that breaks comes in the same wrapping as one over which nonsense comes.
            Err(ConnectionError::MqttState(StateError::Deserialization(e)))
                if !matches!(e, mqttbytes::Error::Io(_)) =>
            {
                Event::Garbled(e.to_string())
            }
            Err(e) => Event::Lost(words(&e)),
        };
        let lost = matches!(event, Event::Lost(_) | Event::Garbled(_));
        if events.send(event).await.is_err() || lost {
            return;
        }
    }
}

/// An error without what it is wrapped in, and what to do about it.
fn words(error: &ConnectionError) -> String {
    let text = match error {
        ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::Io(e)) | StateError::Io(e))
        | ConnectionError::Io(e) => e.to_string(),
        other => other.to_string(),
    };
    match hint(&text) {
        Some(hint) => format!("{text} ({hint})"),
        None => text,
    }
}

/// What to do where certificates are the matter.
fn hint(text: &str) -> Option<&'static str> {
    if text.contains("received fatal alert") {
        Some("it wants a certificate that it knows: mqtt.cert_file, mqtt.key_file")
    } else {
        text.contains("invalid peer certificate")
            .then_some("its certificate must be for the host in mqtt.url, and by an authority of mqtt.ca_file")
    }
}

fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::BadUserNamePassword => "wrong user or password (mqtt.user, mqtt.password_file)",
        ConnectReturnCode::NotAuthorized => "not authorised: it may want a user and password (mqtt.user)",
        ConnectReturnCode::BadClientId => "it does not take this client id (mqtt.client_id)",
        ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
        ConnectReturnCode::ServiceUnavailable => "it is not ready",
        ConnectReturnCode::Success => "without a reason",
    }
}
