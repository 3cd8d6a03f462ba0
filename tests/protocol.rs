//! What MQTT 5 adds, against real mosquitto, and 3.1.1 where a broker knows no other.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use inspectd::config::ProtocolVersion;
use inspectd::mqtt::link::{Event, Link, LinkError, LinkOptions};
use inspectd::outbox::{Kind, Message};

use crate::session::{Carrier, options, runtime};
use crate::support::broker::Broker;
use crate::support::eventually;
use crate::support::scripted::{Move, Scripted};

fn push(carrier: &Carrier, kind: Kind, topic: &str, payload: Vec<u8>) {
    let topic = format!("inspect/v1/s/g/{topic}");
    carrier.outbox.transaction(|t| t.push(&Message { kind, topic, payload, retain: false, subject: None })).unwrap();
}

#[test]
fn mqtt_5_where_the_broker_has_it_and_3_1_1_otherwise() {
    let new = Broker::start();
    let old = Scripted::start(Box::new(|_, _, _| Move::Acknowledge), Box::new(|_| Vec::new()));
    let old = format!("mqtt://127.0.0.1:{}", old.port);
    let version = |url: &str, version| {
        let options = LinkOptions { version, ..options(url, "versions") };
        runtime().block_on(async { Link::connect(&options).await.map(|link| link.agreed().version) })
    };
    assert_eq!(version(&new.url(), ProtocolVersion::Auto).unwrap(), "5");
    assert_eq!(version(&new.url(), ProtocolVersion::V3).unwrap(), "3.1.1");
    assert_eq!(version(&old, ProtocolVersion::Auto).unwrap(), "3.1.1");
    assert!(matches!(version(&old, ProtocolVersion::V5), Err(LinkError::Unreachable(..) | LinkError::Refused(..))));
}

#[test]
fn what_the_broker_refuses_is_set_aside_with_its_reason_and_blocks_nothing() {
    let acl = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(acl.path(), "topic readwrite inspect/v1/s/g/events\ntopic write inspect/v1/s/g/state\n").unwrap();
    let broker = Broker::start_with(&format!("acl_file {}\nmax_packet_size 20000", acl.path().display()));
    let dir = tempfile::tempdir().unwrap();
    let carrier = Carrier::start(dir.path(), &broker.url());
    for n in 0..40 {
        push(&carrier, Kind::Event, "events", format!("{n}").into_bytes());
        push(&carrier, Kind::Image, "images/abc", vec![7; 100]);
    }
    eventually(20, "all is settled", || (carrier.outbox.counts().unwrap().queued == 0).then_some(()));
    let counts = carrier.outbox.counts().unwrap();
    assert_eq!((counts.delivered, counts.dead), (40, 40));
    let dead = carrier.outbox.last_dead().unwrap().unwrap();
    assert_eq!(dead.topic, "inspect/v1/s/g/images/abc");
    assert_eq!(dead.reason, "the broker refuses it: this user may not publish there");

    push(&carrier, Kind::Event, "events", vec![7; 30_000]);
    push(&carrier, Kind::Event, "events", b"41".to_vec());
    eventually(20, "the rest goes on", || (carrier.outbox.counts().unwrap().delivered == 41).then_some(()));
    let dead = carrier.outbox.last_dead().unwrap().unwrap();
    assert_eq!(dead.reason, "30000 bytes are over the 20000 that the broker takes");
    assert_eq!(carrier.status.get().0.connections, 1, "none of it has cost the connection");
    carrier.end();
}

#[test]
fn two_clients_of_the_same_id_are_told_so() {
    let (broker, one, two) = (Broker::start(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let carriers = [one, two].map(|dir| (Carrier::start(dir.path(), &broker.url()), dir));
    let trouble = eventually(20, "it is said", || carriers.iter().find_map(|(carrier, _)| carrier.status.get().1));
    assert!(trouble.contains("another client seems to use the id carrier"), "{trouble}");
    carriers.into_iter().for_each(|(carrier, _)| carrier.end());
}

#[test]
fn the_brokers_last_words_are_understood() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for code in [0x8e, 0x8b] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 1024];
            assert!(stream.read(&mut buffer).unwrap() > 0);
            // With an empty list of properties: rumqttc 0.25 does not read the short form that leaves it out.
            stream.write_all(&[0x20, 3, 0, 0, 0, 0xe0, 2, code, 0]).unwrap();
            while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
        }
    });
    let next = || {
        runtime().block_on(async {
            let mut link = Link::connect(&options(&url, "last")).await.unwrap();
            link.next().await
        })
    };
    assert!(matches!(next(), Event::TakenOver));
    assert!(matches!(next(), Event::Lost(reason) if reason == "it is shutting down"));
    server.join().unwrap();
}

#[test]
fn replies_and_results_expire_and_the_session_is_kept() {
    let broker = Broker::start();
    let runtime = runtime();
    let lasting = options(&broker.url(), "console");
    let payloads = runtime.block_on(async {
        let link = Link::connect(&lasting).await.unwrap();
        link.subscribe("a/b").unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        link.disconnect().await;
        let mut sender =
            Link::connect(&LinkOptions { lasting: false, ..options(&broker.url(), "sender") }).await.unwrap();
        sender.publish("a/b", b"stays".to_vec(), 1, false, None).unwrap();
        sender.publish("a/b", b"goes".to_vec(), 1, false, Some(Duration::from_secs(1))).unwrap();
        sender.publish("a/b", b"stays long enough".to_vec(), 1, false, Some(Duration::from_secs(60))).unwrap();
        for _ in 0..3 {
            assert!(matches!(sender.next().await, Event::Acknowledged(_)));
        }
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let mut link = Link::connect(&lasting).await.unwrap();
        let mut payloads = Vec::new();
        while let Ok(Event::Message { payload, .. }) = tokio::time::timeout(Duration::from_secs(1), link.next()).await {
            payloads.push(String::from_utf8(payload).unwrap());
        }
        payloads
    });
    assert_eq!(payloads, ["stays", "stays long enough"]);
}
