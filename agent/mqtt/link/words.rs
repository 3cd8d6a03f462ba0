//! What goes wrong on the way to a broker, in words that say what to do; what the system or the library said follows in brackets, for
//! who wants to look it up.

/// What a text of the system or of rustls means.
struct Meaning {
    /// Found in the text.
    mark: &'static str,
    /// What it means here, and what to do.
    words: &'static str,
    /// The connection stands; it is certificates that do not.
    is_trust: bool,
}

const fn way(mark: &'static str, words: &'static str) -> Meaning {
    Meaning { mark, words, is_trust: false }
}

const fn trust(mark: &'static str, words: &'static str) -> Meaning {
    Meaning { mark, words, is_trust: true }
}

const OURS: &str =
    "it wants a certificate that it knows: mqtt.cert_file and mqtt.key_file, or --cert-file and --key-file";

/// The first that is found counts.
const MEANINGS: [Meaning; 22] = [
    way("Temporary failure in name resolution", "its name cannot be looked up now: no DNS server answers this machine"),
    way(
        "failed to lookup address information",
        "no machine of that name is known here: look at the broker's address and at this machine's DNS",
    ),
    way("Connection refused", "nothing listens there: is the broker running, its port right, and the firewall open?"),
    way(
        "No route to host",
        "there is no way to it: look at cable, network, its address, and firewalls that turn it away",
    ),
    way("Network is unreachable", "there is no way to it: look at cable, network and its address"),
    way("timed out", "it does not answer: look at its address and at firewalls on the way"),
    way("InvalidContentType", "it speaks no TLS at that port: mqtts:// is usually 8883, and mqtt:// is without TLS"),
    trust(
        "alert: CertificateExpired",
        "it says that our certificate has expired (mqtt.cert_file or --cert-file), or its clock is wrong",
    ),
    trust("alert: Certificate", OURS),
    trust("alert: BadCertificate", OURS),
    trust("alert: UnsupportedCertificate", OURS),
    trust("alert: UnknownCA", OURS),
    trust("alert: AccessDenied", OURS),
    way("received fatal alert", "it ends the TLS handshake: look at its log, and at its versions of TLS and ciphers"),
    trust("UnknownIssuer", "its certificate is by an authority that is not trusted here: mqtt.ca_file or --ca-file"),
    trust("NotValidForName", "its certificate is for another name than the host in its address"),
    trust("not valid for name", "its certificate is for another name than the host in its address"),
    trust("Expired", "its certificate has expired, or this machine's clock is wrong"),
    trust("expired", "its certificate has expired, or this machine's clock is wrong"),
    trust("NotValidYet", "its certificate is not valid yet, or this machine's clock is wrong"),
    trust("not valid yet", "its certificate is not valid yet, or this machine's clock is wrong"),
    trust(
        "invalid peer certificate",
        "its certificate must be for the host in its address, and by an authority that is trusted here (mqtt.ca_file or --ca-file)",
    ),
];

fn meaning(text: &str) -> Option<&'static Meaning> {
    MEANINGS.iter().find(|meaning| text.contains(meaning.mark))
}

/// Whether certificates are the matter.
pub(super) fn is_trust(text: &str) -> bool {
    meaning(text).is_some_and(|meaning| meaning.is_trust)
}

/// The text of an error, after what it means.
pub(super) fn advised(text: String) -> String {
    match meaning(&text) {
        Some(meaning) => format!("{} [{text}]", meaning.words),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpStream, ToSocketAddrs as _};
    use std::time::Duration;

    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

    use super::*;

    #[test]
    fn what_the_system_says_is_known() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let refused = advised(TcpStream::connect(("127.0.0.1", port)).unwrap_err().to_string());
        assert!(refused.starts_with("nothing listens there") && refused.contains("[Connection refused"), "{refused}");
        let unknown = advised(("nowhere.invalid", 1).to_socket_addrs().unwrap_err().to_string());
        assert!(unknown.contains("name") && unknown.contains("DNS") && unknown.ends_with(']'), "{unknown}");
        assert_eq!(advised("something else".into()), "something else");
    }

    #[test]
    fn what_rustls_says_is_known() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let name = || ServerName::try_from("broker").unwrap().to_owned();
        for (error, words) in [
            (CertificateError::UnknownIssuer, "an authority that is not trusted here"),
            (CertificateError::NotValidForName, "another name than the host in its address"),
            (
                CertificateError::NotValidForNameContext { expected: name(), presented: vec!["other".into()] },
                "another name than the host in its address",
            ),
            (CertificateError::Expired, "has expired"),
            (CertificateError::ExpiredContext { time: at(9), not_after: at(8) }, "has expired"),
            (CertificateError::NotValidYet, "is not valid yet"),
            (CertificateError::NotValidYetContext { time: at(8), not_before: at(9) }, "is not valid yet"),
            (CertificateError::BadSignature, "must be for the host"),
        ] {
            let text = Error::InvalidCertificate(error).to_string();
            assert!(advised(text.clone()).contains(words) && is_trust(&text), "{text}: {}", advised(text.clone()));
        }
        let plain = Error::InvalidMessage(InvalidMessage::InvalidContentType).to_string();
        assert!(advised(plain.clone()).starts_with("it speaks no TLS") && !is_trust(&plain), "{plain}");
        for (alert, words) in [
            (AlertDescription::CertificateRequired, "it wants a certificate that it knows"),
            (AlertDescription::HandshakeFailure, "it ends the TLS handshake"),
            (AlertDescription::ProtocolVersion, "it ends the TLS handshake"),
            (AlertDescription::BadCertificate, "it wants a certificate that it knows"),
            (AlertDescription::UnknownCA, "it wants a certificate that it knows"),
            (AlertDescription::CertificateExpired, "it says that our certificate has expired"),
        ] {
            let text = Error::AlertReceived(alert).to_string();
            assert!(advised(text.clone()).starts_with(words), "{text}");
        }
    }
}
