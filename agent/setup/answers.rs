//! What is said about a gateway, and the configuration that follows from it. Pure.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail, ensure};

use crate::config::value::{BrokerUrl, RtspUrl};
use crate::config::{Config, Name, SITE_LEVELS};

/// A secret's name, and what is in it.
pub type Secret = (String, String);
/// The same where it may not be known yet.
pub type Wanted = (String, Option<String>);

/// A camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Camera {
    /// Its name.
    pub name: String,
    /// The value of `source`, as TOML: `rtsp = { … }`.
    pub source: String,
    /// What it needs to log in with.
    pub secret: Option<Wanted>,
}

/// All that is said.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// The plant.
    pub site: String,
    /// This gateway.
    pub gateway: String,
    /// The broker's address.
    pub broker: String,
    /// Who we are there.
    pub user: Option<String>,
    /// There is a password.
    pub has_password: bool,
    /// Authorities that may vouch for the broker.
    pub ca_file: Option<PathBuf>,
    /// Our certificate; its key is a secret.
    pub cert_file: Option<PathBuf>,
    /// The model.
    pub bundle: PathBuf,
    /// The state folder.
    pub state_dir: PathBuf,
    /// At least one.
    pub cameras: Vec<Camera>,
}

impl Answers {
    /// The file that says so.
    ///
    /// # Errors
    /// Something is no possible value, with what would be right.
    pub fn file(&self) -> Result<String> {
        for (what, name) in [("site", &self.site), ("gateway", &self.gateway)] {
            Name::new(name).map_err(|e| anyhow!("{what}: {e}"))?;
        }
        let taken = SITE_LEVELS.join(", ");
        ensure!(
            !SITE_LEVELS.contains(&self.gateway.as_str()),
            "gateway: none of {taken}, which are topics of the whole site"
        );
        BrokerUrl::new(&self.broker).map_err(|e| anyhow!("broker: {e}"))?;
        ensure!(!self.cameras.is_empty(), "camera: at least one is needed");
        let path = |path: &PathBuf| quoted(&path.to_string_lossy());
        let mut out = String::from(
            "# Written by `inspectd setup`; change it as you like. Every key there is: /etc/inspectd/inspectd.example.toml\n\
             # After a change: inspectd check --config FILE, then systemctl reload inspectd (restart, where [gateway], [model],\n\
             # [outbox], [update], [metrics] or a secret has changed).\n\n",
        );
        let _ = write!(
            out,
            "[gateway]\nsite = {}\nname = {}\nstate_dir = {}\n\n[mqtt]\nurl = {}\n",
            quoted(&self.site),
            quoted(&self.gateway),
            path(&self.state_dir),
            quoted(&self.broker)
        );
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = writeln!(out, "{key} = {value}");
            }
        };
        line("user", self.user.as_ref().map(|user| quoted(user)));
        line("password_file", self.has_password.then(|| quoted("credential:mqtt-password")));
        line("ca_file", self.ca_file.as_ref().map(path));
        line("cert_file", self.cert_file.as_ref().map(path));
        line("key_file", self.cert_file.as_ref().map(|_| quoted("credential:mqtt-key")));
        let _ = write!(out, "\n[model]\nbundle = {}\n", path(&self.bundle));
        for Camera { name, source, .. } in &self.cameras {
            let _ = write!(
                out,
                "\n[[cameras]]\nname = {}\nsource.{source}\n\
                 # What it looks at; without it every class of the model is looked for, also those of other materials.\n\
                 # classes = [\"steel/*\"]\n",
                quoted(name)
            );
        }
        Config::parse(&out, "inspectd.toml")?;
        Ok(out)
    }
}

/// A camera out of what is typed: `[NAME=]SOURCE`, where the source is an address (`rtsp://[USER:PASSWORD@]HOST/PATH`), a device
/// (`/dev/video0`), a folder, `genicam:ID`, or `synthetic`. `taken` are names that others have.
///
/// # Errors
/// It is none of these.
pub fn camera(text: &str, taken: &[String]) -> Result<Camera> {
    let named = text.split_once('=').filter(|(name, _)| Name::new(name).is_ok());
    let (name, source) = named.map_or((None, text), |(name, source)| (Some(name.to_owned()), source));
    let name = name.unwrap_or_else(|| free("line", taken));
    ensure!(!taken.contains(&name), "there is a camera {name} already");
    let (source, secret) = if source.starts_with("rtsp://") || source.starts_with("rtsps://") {
        rtsp(source, &name)?
    } else if source == "synthetic" {
        ("synthetic = {}".to_owned(), None)
    } else if let Some(id) = source.strip_prefix("genicam:") {
        (format!("genicam = {{ camera = {} }}", quoted(id)), None)
    } else if source.starts_with("/dev/") {
        (format!("v4l2 = {{ device = {} }}", quoted(source)), None)
    } else if source.starts_with('/') {
        (format!("folder = {{ path = {} }}", quoted(source)), None)
    } else {
        // It may hold a password, which must not be shown.
        let shown = if source.contains('@') { "that" } else { &format!("\"{}\"", source.escape_debug()) };
        bail!(
            "{shown} is no camera: write rtsp://HOST/PATH, /dev/v4l/by-id/…, genicam:ID (see `inspectd cameras list`), the path of a \
             folder from / on, or synthetic; with NAME= before it, it is called so"
        );
    };
    Ok(Camera { name, source, secret })
}

/// User and password go out of the address, and the password out of the file.
fn rtsp(address: &str, name: &str) -> Result<(String, Option<Wanted>)> {
    let (scheme, rest) = address.split_once("://").unwrap_or(("rtsp", address));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A slash in a password looks like the end of the host; what comes then must not be shown or written.
    ensure!(
        !rest[end..].contains('@'),
        "write %40 for @, %2F for /, %3F for ? and %23 for # in an address, or leave its secret part out"
    );
    let (who, host) = rest[..end].rfind('@').map_or((None, rest), |at| (Some(&rest[..at]), &rest[at + 1..]));
    let url = format!("{scheme}://{host}");
    RtspUrl::new(&url).map_err(anyhow::Error::msg)?;
    let Some(who) = who else { return Ok((format!("rtsp = {{ url = {} }}", quoted(&url)), None)) };
    let (user, password) = who.split_once(':').map_or((who, None), |(user, password)| (user, Some(password)));
    let (user, password) = (decoded(user), password.map(decoded));
    let secret = format!("camera-{name}-password");
    let source = format!(
        "rtsp = {{ url = {}, user = {}, password_file = {} }}",
        quoted(&url),
        quoted(&user),
        quoted(&format!("credential:{secret}"))
    );
    Ok((source, Some((secret, password))))
}

/// `%40` is `@` in an address; what is no such number stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .filter(|_| first == b'%')
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// `base-1`, or the first number that nobody has.
pub fn free(base: &str, taken: &[String]) -> String {
    let mut names = (1..).map(|n| format!("{base}-{n}"));
    names.find(|name| !taken.contains(name)).unwrap_or_else(|| base.to_owned())
}

/// A machine's name as one of ours.
pub fn name_of(host: &str) -> String {
    let short = host.trim().split('.').next().unwrap_or_default();
    let name: String = short.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_').take(40).collect();
    if Name::new(&name).is_ok() && name != "localhost" { name } else { "gateway-1".to_owned() }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(cameras: &[&str]) -> Answers {
        let mut all: Vec<Camera> = Vec::new();
        for text in cameras {
            let taken: Vec<String> = all.iter().map(|camera| camera.name.clone()).collect();
            all.push(camera(text, &taken).unwrap());
        }
        Answers {
            site: "plant-1".into(),
            gateway: "g".into(),
            broker: "mqtts://broker".into(),
            user: Some("g \"1\"".into()),
            has_password: true,
            ca_file: Some("/etc/inspectd/ca.pem".into()),
            cert_file: Some("/etc/inspectd/cert.pem".into()),
            bundle: "/usr/share/inspectd/models/default".into(),
            state_dir: "/var/lib/inspectd".into(),
            cameras: all,
        }
    }

    #[test]
    fn what_is_said_is_in_the_file_and_no_password() {
        let said = answers(&[
            "gate=rtsp://me:s3=cr@t@10.0.0.2:554/a?b=c",
            "/dev/video0",
            "/srv/pictures",
            "synthetic",
            "genicam:Acme-1",
        ]);
        let file = said.file().unwrap();
        let config = Config::parse(&file, "f").unwrap();
        let names: Vec<&str> = config.cameras.iter().map(crate::config::CameraConfig::name).collect();
        assert_eq!(names, ["gate", "line-1", "line-2", "line-3", "line-4"]);
        let kinds: Vec<&str> = config.cameras.iter().map(|camera| camera.source.kind()).collect();
        assert_eq!(kinds, ["rtsp", "v4l2", "folder", "synthetic", "genicam"]);
        assert_eq!(said.cameras[0].secret, Some(("camera-gate-password".into(), Some("s3=cr@t".into()))));
        assert!(!file.contains("s3=cr"), "{file}");
        assert!(file.contains("key_file = \"credential:mqtt-key\""), "{file}");
    }

    #[test]
    fn an_address_gives_up_user_and_password_and_nothing_else() {
        let parts = |text: &str| {
            camera(text, &[]).map(|camera| (camera.source, camera.secret.and_then(|(_, password)| password)))
        };
        let (source, password) = parts("rtsp://me:p%40ss%2f@10.0.0.2:554/s?mail=a%40b.c").unwrap();
        assert_eq!(password.as_deref(), Some("p@ss/"));
        assert!(source.contains("rtsp://10.0.0.2:554/s?mail=a%40b.c") && source.contains("user = \"me\""), "{source}");
        for odd in ["rtsp://me:pa/ss@10.0.0.2/s", "rtsp://me:p@heim/ss@10.0.0.2/s", "rtsp://10.0.0.2/a@main"] {
            let refused = parts(odd).unwrap_err().to_string();
            assert!(refused.contains("%2F") && !refused.contains("pa/") && !refused.contains("heim"), "{refused}");
        }
        let (source, password) = parts("rtsp://10.0.0.2:554/a").unwrap();
        assert_eq!((source.as_str(), password), ("rtsp = { url = \"rtsp://10.0.0.2:554/a\" }", None));
        let refused = parts("rtps://me:secret@10.0.0.2/s").unwrap_err().to_string();
        assert!(!refused.contains("secret"), "{refused}");
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (text, word) in [
            ("http://x", "is no camera"),
            ("a=b", "is no camera"),
            ("rtsp://", "rtsp://HOST"),
            ("line-1=synthetic", "already"),
        ] {
            let error = camera(text, &["line-1".to_owned()]).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        let wrong = |change: fn(&mut Answers)| {
            let mut said = answers(&["synthetic"]);
            change(&mut said);
            said.file().unwrap_err().to_string()
        };
        assert!(wrong(|said| said.site = "a/b".into()).starts_with("site: "));
        assert!(wrong(|said| said.broker = "localhost".into()).starts_with("broker: "));
        assert!(wrong(|said| said.cameras.clear()).contains("at least one"));
        assert!(wrong(|said| said.broker = "mqtt://broker".into()).contains("is of no use without TLS"));
    }

    #[test]
    fn a_machine_gives_its_name() {
        assert_eq!(
            ["edge-7.plant.example\n", "localhost", "", "ü"].map(name_of),
            ["edge-7", "gateway-1", "gateway-1", "gateway-1"]
        );
    }
}
