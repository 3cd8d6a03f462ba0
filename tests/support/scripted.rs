//! A broker whose every move the test decides: it speaks MQTT 3.1.1 over one connection at a time, keeps what it gets, and
//! acknowledges, cuts and answers as its script says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::{ConnAck, ConnectReturnCode, Packet, Protocol, PubAck, Publish, SubAck, SubscribeReasonCode};

/// What to do about a publish.
pub enum Move {
    Acknowledge,
    /// It is kept, and never acknowledged; soon after the connection ends.
    Ignore,
    /// It is kept, and the connection ends before it is acknowledged.
    Cut,
}

/// Between a message that is ignored and the end of the connection.
const SOON: Duration = Duration::from_millis(50);

/// A connection: how it was opened, and what came over it.
#[derive(Default)]
pub struct Seen {
    pub clean_session: bool,
    pub publishes: Vec<Publish>,
}

/// The state that the test and the broker share.
#[derive(Default)]
pub struct Record {
    pub connections: Vec<Seen>,
}

impl Record {
    /// All that came, over all connections.
    pub fn publishes(&self) -> impl Iterator<Item = &Publish> {
        self.connections.iter().flat_map(|c| &c.publishes)
    }
}

/// Decides about the n-th publish of the k-th connection, both from 0.
type Script = Box<dyn FnMut(usize, usize, &Publish) -> Move + Send>;
/// Bytes that are sent after the subscription of the k-th connection.
type Greeting = Box<dyn FnMut(usize) -> Vec<u8> + Send>;

pub struct Scripted {
    pub port: u16,
    pub record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
}

impl Scripted {
    pub fn start(mut script: Script, mut greeting: Greeting) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (record, stop) = (Arc::new(Mutex::new(Record::default())), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (Arc::clone(&record), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let _ = serve(stream.unwrap(), &shared, &mut script, &mut greeting, &stopped);
            }
        });
        Self { port, record, stop }
    }

    pub fn connections(&self) -> usize {
        self.record.lock().unwrap().connections.len()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port)); // wakes it
    }
}

fn send(stream: &mut TcpStream, packet: &Packet) -> std::io::Result<()> {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, 1 << 28).unwrap();
    stream.write_all(&bytes)
}

fn serve(
    mut stream: TcpStream,
    record: &Mutex<Record>,
    script: &mut Script,
    greeting: &mut Greeting,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    stream.set_nodelay(true)?;
    let (mut bytes, mut buffer) = (BytesMut::new(), vec![0; 1 << 16]);
    let number = record.lock().unwrap().connections.len();
    let mut end: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
        loop {
            let Ok(packet) = Packet::read(&mut bytes, 1 << 28) else { break };
            match packet {
                Packet::Connect(connect) if connect.protocol == Protocol::V5 => {
                    let code = ConnectReturnCode::RefusedProtocolVersion;
                    return send(&mut stream, &Packet::ConnAck(ConnAck { session_present: false, code }));
                }
                Packet::Connect(connect) => {
                    let seen = Seen { clean_session: connect.clean_session, publishes: Vec::new() };
                    record.lock().unwrap().connections.push(seen);
                    let session_present = number > 0 && !connect.clean_session;
                    send(&mut stream, &Packet::ConnAck(ConnAck { session_present, code: ConnectReturnCode::Success }))?;
                }
                Packet::Subscribe(subscribe) => {
                    let codes = subscribe.filters.iter().map(|f| SubscribeReasonCode::Success(f.qos)).collect();
                    send(&mut stream, &Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes: codes }))?;
                    stream.write_all(&greeting(number))?;
                }
                Packet::Publish(publish) => {
                    let pkid = publish.pkid;
                    let n = record.lock().unwrap().connections[number].publishes.len();
                    let then = script(number, n, &publish);
                    record.lock().unwrap().connections[number].publishes.push(publish);
                    match then {
                        Move::Acknowledge if pkid > 0 => send(&mut stream, &Packet::PubAck(PubAck::new(pkid)))?,
                        Move::Acknowledge => {}
                        Move::Ignore => {
                            end.get_or_insert(Instant::now() + SOON);
                        }
                        Move::Cut => return Ok(()),
                    }
                }
                Packet::PingReq => send(&mut stream, &Packet::PingResp)?,
                Packet::Disconnect => return Ok(()),
                _ => {}
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
