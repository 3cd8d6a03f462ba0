//! TLS and WebSocket to a real mosquitto that wants a certificate, and what is said when something is wrong.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use inspectd::config::ProtocolVersion;
use inspectd::config::value::BrokerUrl;
use inspectd::mqtt::link::{Event, Link, LinkOptions};
use inspectd::mqtt::tls::TlsFiles;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::support::{eventually, free_port};

struct Secure {
    child: Child,
    dir: tempfile::TempDir,
    ports: [u16; 3],
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Secure {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        for authority in ["ca", "other"] {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, authority);
            let key = KeyPair::generate().unwrap();
            write(&format!("{authority}.pem"), &params.self_signed(&key).unwrap().pem());
            if authority == "ca" {
                let issuer = Issuer::new(params, key);
                for (name, host) in [("broker", "localhost"), ("client", "gateway-1")] {
                    let key = KeyPair::generate().unwrap();
                    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
                    params.distinguished_name.push(DnType::CommonName, host);
                    let certificate = params.signed_by(&key, &issuer);
                    write(&format!("{name}.pem"), &certificate.unwrap().pem());
                    write(&format!("{name}.key"), &key.serialize_pem());
                }
            }
        }
        let ports = [free_port(), free_port(), free_port()];
        let path = |name: &str| dir.path().join(name).display().to_string();
        let tls = format!(
            "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
            path("ca.pem"),
            path("broker.pem"),
            path("broker.key")
        );
        let text = format!(
            "user root\nallow_anonymous true\nlistener {} 127.0.0.1\n{tls}listener {} 127.0.0.1\nprotocol websockets\n\
             listener {} 127.0.0.1\nprotocol websockets\n{tls}",
            ports[0], ports[1], ports[2]
        );
        write("mosquitto.conf", &text);
        let program =
            ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"].iter().map(PathBuf::from).find(|p| p.exists());
        let mut command = Command::new(program.unwrap_or_else(|| "mosquitto".into()));
        let child = command.arg("-c").arg(dir.path().join("mosquitto.conf")).stderr(Stdio::null()).spawn().unwrap();
        for port in ports {
            eventually(10, "mosquitto listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        }
        Self { child, dir, ports }
    }

    fn options(&self, url: &str, ca: &str, client: Option<(&str, &str)>) -> LinkOptions {
        let file = |name: &str| self.dir.path().join(name);
        LinkOptions {
            url: BrokerUrl::new(url).unwrap(),
            tls: TlsFiles { ca: Some(file(ca)), client: client.map(|(c, k)| (file(c), file(k))) },
            client_id: "transport".into(),
            version: ProtocolVersion::Auto,
            user: None,
            password_file: None,
            keep_alive: Duration::from_secs(10),
            window: 32,
            max_packet: 1 << 20,
            max_incoming: 4 << 20,
            lasting: false,
            forget: false,
            will: None,
        }
    }
}

async fn delivers(options: &LinkOptions) -> Result<(), String> {
    let mut link = Link::connect(options).await.map_err(|e| e.to_string())?;
    link.publish("a/b", vec![7; 100_000], 1, false, None).unwrap();
    match tokio::time::timeout(Duration::from_secs(10), link.next()).await {
        Ok(Event::Acknowledged(_)) => Ok(()),
        Ok(Event::Lost(reason) | Event::Garbled(reason)) => Err(reason),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn tls_and_websocket_carry_messages_and_what_is_wrong_is_said() {
    let broker = Secure::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mine = Some(("client.pem", "client.key"));
    let [tls, ws, wss] = broker.ports;
    let urls = [
        format!("mqtts://localhost:{tls}"),
        format!("ws://localhost:{ws}/mqtt"),
        format!("wss://localhost:{wss}/mqtt"),
    ];
    for url in &urls {
        let done = runtime.block_on(delivers(&broker.options(url, "ca.pem", mine)));
        assert_eq!(done, Ok(()), "{url}");
    }
    let fails = |options: LinkOptions| runtime.block_on(delivers(&options)).unwrap_err();
    let stranger = fails(broker.options(&urls[0], "other.pem", mine));
    assert!(stranger.contains("UnknownIssuer") || stranger.contains("certificate"), "{stranger}");
    let by_address = fails(broker.options(&format!("mqtts://127.0.0.1:{tls}"), "ca.pem", mine));
    assert!(by_address.contains("certificate"), "{by_address}");
    let nobody = fails(broker.options(&urls[0], "ca.pem", None));
    assert!(nobody.contains("ertificate"), "{nobody}");
    let mixed = fails(broker.options(&urls[0], "ca.pem", Some(("client.pem", "broker.key"))));
    assert!(mixed.contains("does not go with the certificate"), "{mixed}");
    println!("{stranger}\n{by_address}\n{nobody}\n{mixed}");
}
