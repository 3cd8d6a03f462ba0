//! MQTT 3.1.1 by rumqttc.

use rumqttc::mqttbytes;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, EventLoop, Incoming, LastWill, MqttOptions, Outgoing, Publish,
    QoS, StateError, SubscribeReasonCode,
};
use tokio::sync::mpsc;

use super::{
    Agreed, CONNECT_TIMEOUT, Client, Event, Failed, IDENTIFIERS, Link, LinkError, LinkOptions, Receipt, Tokens,
    credentials, place, unreachable, way, words,
};

/// Connects, and waits for the broker's answer.
pub(super) async fn connect(options: &LinkOptions, number: u64) -> Result<Link, Failed> {
    let known = |error| Failed { error, unknown_version: false };
    let (address, port, transport) = way(options).map_err(known)?;
    let mut mqtt = MqttOptions::new(&options.client_id, address, port);
    mqtt.set_transport(transport);
    mqtt.set_keep_alive(options.keep_alive);
    mqtt.set_clean_session(!options.lasting);
    mqtt.set_max_packet_size(options.max_incoming, options.max_packet);
    mqtt.set_manual_acks(options.lasting);
    mqtt.set_inflight(IDENTIFIERS);
    if let Some((user, password)) = credentials(options).map_err(known)? {
        mqtt.set_credentials(user, password);
    }
    if let Some((topic, payload)) = &options.will {
        mqtt.set_last_will(LastWill::new(topic, payload.clone(), QoS::AtLeastOnce, true));
    }
    let (client, mut event_loop) = AsyncClient::new(mqtt, usize::from(IDENTIFIERS));
    let place = place(options);
    match tokio::time::timeout(CONNECT_TIMEOUT, event_loop.poll()).await {
        Err(_) => Err(known(LinkError::Unreachable(place, "it does not answer".into()))),
        Ok(Err(ConnectionError::ConnectionRefused(code))) => {
            let unknown_version = code == ConnectReturnCode::RefusedProtocolVersion;
            Err(Failed { error: LinkError::Refused(place, refusal(code)), unknown_version })
        }
        Ok(Err(e)) => Err(known(unreachable(place, told(&e)))),
        Ok(Ok(_)) => {
            let agreed = Agreed { version: "3.1.1", max_packet: usize::MAX, window: usize::from(IDENTIFIERS) };
            let receipts = options.lasting.then_some(number);
            let start = |events| tokio::spawn(pump(event_loop, events, receipts));
            Ok(Link::new(Client::V3(client), agreed, number, start))
        }
    }
}

pub(super) fn publish(client: &AsyncClient, topic: &str, payload: Vec<u8>, qos: u8, retain: bool) -> Option<()> {
    let qos = if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    client.try_publish(topic, qos, retain, payload).ok()
}

pub(super) fn acknowledge(client: &AsyncClient, identifier: u16) {
    let mut publish = Publish::new("", QoS::AtLeastOnce, Vec::new());
    publish.pkid = identifier;
    let _ = client.try_ack(&publish);
}

/// Polls the connection.
async fn pump(mut event_loop: EventLoop, events: mpsc::Sender<Event>, receipts: Option<u64>) {
    let mut tokens = Tokens::default();
    loop {
        let event = match event_loop.poll().await {
            Ok(rumqttc::Event::Outgoing(Outgoing::Publish(identifier))) => {
                tokens.sent(identifier);
                continue;
            }
            Ok(rumqttc::Event::Incoming(Incoming::PubAck(ack))) => match tokens.acknowledged(ack.pkid) {
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
                let receipt = receipts.filter(|_| identifier != 0).map(|link| Receipt { link, identifier });
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
            Err(e) => Event::Lost(told(&e)),
        };
        let last = event.is_last();
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

/// An error without what it is wrapped in, and what to do about it.
fn told(error: &ConnectionError) -> String {
    words::advised(match error {
        ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::Io(e)) | StateError::Io(e))
        | ConnectionError::Io(e) => e.to_string(),
        other => other.to_string(),
    })
}

fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::BadUserNamePassword => super::WRONG_USER,
        ConnectReturnCode::NotAuthorized => super::NOT_AUTHORISED,
        ConnectReturnCode::BadClientId => super::WRONG_ID,
        ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1 (mqtt.version)",
        ConnectReturnCode::ServiceUnavailable => super::NOT_READY,
        ConnectReturnCode::Success => "without a reason",
    }
}
