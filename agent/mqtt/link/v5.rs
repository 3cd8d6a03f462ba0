//! MQTT 5 by rumqttc.

use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::v5::{
    ConnAckProperties, ConnectProperties, ConnectReturnCode, DisconnectReasonCode, LastWill, PubAckReason, Publish,
    PublishProperties, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{self, QoS};
use rumqttc::v5::{self, AsyncClient, ConnectionError, EventLoop, Incoming, MqttOptions, StateError};
use tokio::sync::mpsc;

use super::{
    Agreed, CONNECT_TIMEOUT, Client, Event, Failed, IDENTIFIERS, Link, LinkError, LinkOptions, Receipt, Tokens,
    credentials, place, unreachable, way, words,
};

/// The broker keeps what comes for a gateway that is away for so long; later, a command would no longer be what its sender wants.
const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// The protocol's own default, where a broker sets no limit.
const RECEIVE_MAXIMUM: u16 = u16::MAX;

/// Connects, and waits for the broker's answer.
pub(super) async fn connect(options: &LinkOptions, number: u64) -> Result<Link, Failed> {
    let known = |error| Failed { error, unknown_version: false };
    let (address, port, transport) = way(options).map_err(known)?;
    let mut mqtt = MqttOptions::new(&options.client_id, address, port);
    mqtt.set_transport(transport);
    mqtt.set_keep_alive(options.keep_alive);
    mqtt.set_clean_start(!options.lasting);
    mqtt.set_manual_acks(options.lasting);
    mqtt.set_outgoing_inflight_upper_limit(IDENTIFIERS);
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = options.lasting.then_some(SESSION_EXPIRY.as_secs() as u32);
    properties.max_packet_size = u32::try_from(options.max_incoming).ok();
    mqtt.set_connect_properties(properties);
    if let Some((user, password)) = credentials(options).map_err(known)? {
        mqtt.set_credentials(user, password);
    }
    if let Some((topic, payload)) = &options.will {
        mqtt.set_last_will(LastWill::new(topic, payload.clone(), QoS::AtLeastOnce, true, None));
    }
    let (client, mut event_loop) = AsyncClient::new(mqtt, usize::from(IDENTIFIERS));
    let place = place(options);
    let error = match tokio::time::timeout(CONNECT_TIMEOUT, event_loop.poll()).await {
        Err(_) => known(LinkError::Unreachable(place, "it does not answer".into())),
        Ok(Err(ConnectionError::ConnectionRefused(code))) => {
            use ConnectReturnCode::{RefusedProtocolVersion, UnsupportedProtocolVersion};
            let unknown_version = matches!(code, RefusedProtocolVersion | UnsupportedProtocolVersion);
            Failed { error: LinkError::Refused(place, refusal(code)), unknown_version }
        }
        // The connection was open, and what came over it was no answer of MQTT 5; or nothing came at all.
        Ok(Err(e @ (ConnectionError::MqttState(_) | ConnectionError::NotConnAck(_) | ConnectionError::Timeout(_)))) => {
            Failed { error: unreachable(place, told(&e)), unknown_version: true }
        }
        Ok(Err(e)) => known(unreachable(place, told(&e))),
        Ok(Ok(v5::Event::Incoming(Incoming::ConnAck(answer)))) => {
            let properties = answer.properties.as_ref();
            if let Some(reason) = properties.and_then(unusable) {
                return Err(known(LinkError::Refused(place, reason)));
            }
            let receipts = options.lasting.then_some(number);
            let start = |events| tokio::spawn(pump(event_loop, events, receipts));
            return Ok(Link::new(Client::V5(client), agreed(properties), number, start));
        }
        Ok(Ok(_)) => known(LinkError::Unreachable(place, "it answers something else than it should".into())),
    };
    Err(error)
}

/// What makes a broker useless here.
fn unusable(properties: &ConnAckProperties) -> Option<&'static str> {
    if properties.max_qos == Some(0) {
        Some("it takes messages of QoS 0 only, of which any may be lost")
    } else {
        (properties.retain_available == Some(0))
            .then_some("it retains no messages, by which states and active alarms are known")
    }
}

fn agreed(properties: Option<&ConnAckProperties>) -> Agreed {
    let max_packet = properties.and_then(|p| p.max_packet_size).map_or(usize::MAX, |size| size as usize);
    let window = properties.and_then(|p| p.receive_max).unwrap_or(RECEIVE_MAXIMUM).clamp(1, IDENTIFIERS);
    Agreed { version: "5", max_packet, window: usize::from(window) }
}

pub(super) fn publish(
    client: &AsyncClient,
    topic: &str,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
    expiry: Option<Duration>,
) -> Option<()> {
    let qos = if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    let Some(expiry) = expiry else { return client.try_publish(topic, qos, retain, payload).ok() };
    let seconds = u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX);
    let properties = PublishProperties { message_expiry_interval: Some(seconds), ..PublishProperties::default() };
    client.try_publish_with_properties(topic, qos, retain, payload, properties).ok()
}

pub(super) fn subscribe(client: &AsyncClient, filter: &str) -> Result<(), String> {
    client.try_subscribe(filter, QoS::AtLeastOnce).map_err(|e| e.to_string())
}

pub(super) fn acknowledge(client: &AsyncClient, identifier: u16) {
    let mut publish = Publish::new("", QoS::AtLeastOnce, Vec::new(), None);
    publish.pkid = identifier;
    let _ = client.try_ack(&publish);
}

/// Polls the connection.
async fn pump(mut event_loop: EventLoop, events: mpsc::Sender<Event>, receipts: Option<u64>) {
    let mut tokens = Tokens::default();
    loop {
        let event = match event_loop.poll().await {
            Ok(v5::Event::Outgoing(Outgoing::Publish(identifier))) => {
                tokens.sent(identifier);
                continue;
            }
            Ok(v5::Event::Incoming(Incoming::PubAck(ack))) => {
                match (tokens.acknowledged(ack.pkid), rejection(ack.reason)) {
                    (None, _) => continue,
                    (Some(token), None) => Event::Acknowledged(token),
                    (Some(token), Some((reason, passing))) => Event::Rejected { token, reason, passing },
                }
            }
            Ok(v5::Event::Incoming(Incoming::SubAck(ack)))
                if !ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) =>
            {
                Event::Refused
            }
            Ok(v5::Event::Incoming(Incoming::Publish(publish))) => match String::from_utf8(publish.topic.to_vec()) {
                Ok(topic) => {
                    let identifier = publish.pkid;
                    let receipt = receipts.filter(|_| identifier != 0).map(|link| Receipt { link, identifier });
                    Event::Message { receipt, topic, payload: publish.payload.to_vec(), retained: publish.retain }
                }
                Err(_) => Event::Garbled("a topic that is no UTF-8".into()),
            },
            Ok(_) => continue,
            Err(ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. })) => farewell(reason_code),
            // A connection that breaks comes in the same wrapping as one over which nonsense comes.
            Err(ConnectionError::MqttState(StateError::Deserialization(e)))
                if !matches!(e, mqttbytes::Error::Io(_) | mqttbytes::Error::OutgoingPacketTooLarge { .. }) =>
            {
                Event::Garbled(e.to_string())
            }
            Err(e) => Event::Lost(told(&e)),
        };
        let last = event.is_last();
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

/// Why a publish was not taken, and whether it may be at another time.
fn rejection(reason: PubAckReason) -> Option<(&'static str, bool)> {
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
        PubAckReason::NotAuthorized => Some(("this user may not publish there", false)),
        PubAckReason::TopicNameInvalid => Some(("it does not take the topic", false)),
        PubAckReason::PayloadFormatInvalid => Some(("it does not take the payload", false)),
        PubAckReason::QuotaExceeded => Some(("its quota is used up", true)),
        PubAckReason::PacketIdentifierInUse => Some(("it has mixed up packet identifiers", true)),
        PubAckReason::UnspecifiedError | PubAckReason::ImplementationSpecificError => {
            Some(("it gives no reason", true))
        }
    }
}

/// Why the broker has ended the connection.
fn farewell(reason: DisconnectReasonCode) -> Event {
    use DisconnectReasonCode as Code;
    let text = match reason {
        Code::SessionTakenOver => return Event::TakenOver,
        Code::ServerShuttingDown => "it is shutting down",
        Code::ServerBusy => "it is busy",
        Code::AdministrativeAction => "its administrator has ended the connection",
        Code::KeepAliveTimeout => "it has heard nothing for too long (mqtt.keep_alive_s)",
        Code::PacketTooLarge => "a packet is too large for it (mqtt.max_packet_kib)",
        Code::MessageRateTooHigh => "messages come too fast for it (mqtt.window)",
        Code::QuotaExceeded => "its quota is used up",
        Code::NotAuthorized => "this user may not do that",
        other => return Event::Lost(format!("it says {other:?}")),
    };
    Event::Lost(text.to_owned())
}

/// An error without what it is wrapped in, and what to do about it.
fn told(error: &ConnectionError) -> String {
    words::advised(match error {
        ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::Io(e)) | StateError::Io(e))
        | ConnectionError::Io(e) => e.to_string(),
        ConnectionError::MqttState(StateError::ConnectionAborted) => "connection closed by the broker".to_owned(),
        ConnectionError::Timeout(_) => "it does not answer".to_owned(),
        other => other.to_string(),
    })
}

fn refusal(code: ConnectReturnCode) -> &'static str {
    use ConnectReturnCode as Code;
    match code {
        Code::BadUserNamePassword => super::WRONG_USER,
        Code::NotAuthorized => super::NOT_AUTHORISED,
        Code::BadClientId | Code::ClientIdentifierNotValid => super::WRONG_ID,
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => "it does not speak MQTT 5 (mqtt.version)",
        Code::ServiceUnavailable | Code::ServerUnavailable | Code::ServerBusy => super::NOT_READY,
        Code::Banned => "it has banned this client",
        Code::BadAuthenticationMethod => "it wants another kind of authentication than user and password",
        Code::PacketTooLarge => "the last will is too large for it",
        Code::QuotaExceeded => "its quota is used up",
        Code::UseAnotherServer | Code::ServerMoved => "it says to use another broker (mqtt.url)",
        Code::ConnectionRateExceeded => "too many connections in a short time",
        _ => "without a reason that helps",
    }
}
