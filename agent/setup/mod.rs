//! `inspectd setup`: a gateway's configuration out of a few answers, asked for at a terminal or given as flags, and checked.
//!
//! Guarantees: nothing is written before all of it was found possible; a configuration that somebody has made is never lost; secrets
//! come into files of their own that root alone can read, and what the service must read is copied to where it can.

mod answers;
mod ask;

use std::fs;
use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;

pub use answers::Camera;
use answers::{Answers, Secret};
use ask::Person;

use crate::cameras;
use crate::check;
use crate::config::Name;
use crate::config::value::BrokerUrl;
use crate::durable;
use crate::exit::{Exit, OrExit};
use crate::mqtt::args::LoginArgs;

/// What comes with the package, and says nothing yet.
const PRISTINE: &str = include_str!("../../config/gateway.toml");
/// The configuration of the package's service.
const ETC: &str = "/etc/inspectd/inspectd.toml";
/// Where bundles of the package lie.
const BUNDLE: &str = "/usr/share/inspectd/models/default";

/// Arguments of `setup`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The configuration that is written.
    #[arg(long, value_name = "FILE", default_value = ETC)]
    config: PathBuf,
    /// The plant or grid section: a level of every topic.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// This gateway, unique in the site; the machine's name where nothing else is said.
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
    /// The broker: mqtt://HOST:PORT, mqtts:// for TLS, ws:// or wss:// for WebSocket.
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// All files of it are copied to where the service can read them.
    #[command(flatten)]
    login: LoginArgs,
    /// A camera: rtsp://[USER@]HOST/PATH, /dev/…, a folder's path, genicam:ID, or synthetic. May be given several times.
    #[arg(long = "camera", value_name = "[NAME=]SOURCE")]
    cameras: Vec<String>,
    /// File with the password of that camera in its first line; it is copied. (In the address others would see it in the list of processes.)
    #[arg(long = "camera-password-file", value_name = "NAME=FILE")]
    camera_passwords: Vec<String>,
    /// The model.
    #[arg(long, value_name = "DIR", default_value = BUNDLE)]
    bundle: PathBuf,
    /// Folder for what must outlive a restart.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/inspectd")]
    state: PathBuf,
    /// Ask nothing: without --camera all cameras that are found are taken.
    #[arg(long)]
    yes: bool,
    /// Write another configuration in place of the one that is there, which is kept beside it.
    #[arg(long)]
    replace: bool,
    /// Do not run `check` at the end.
    #[arg(long)]
    no_check: bool,
}

/// Asks, writes, checks.
///
/// # Errors
/// An answer is missing or impossible, a configuration is there already, or a file cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let args = &args.absolute()?;
    let is_asked = !args.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let person = is_asked.then(Person::new);
    ready(args)?;
    let (answers, mut secrets, copies) = collect(args, person.as_ref())?;
    let text = answers.file().or_exit(Exit::Usage)?;
    let of_cameras = answers.cameras.iter().filter_map(|camera| camera.secret.clone());
    secrets.extend(of_cameras.map(|(name, secret)| (name, secret.unwrap_or_default())));
    write(args, &text, &secrets, &copies).or_exit(Exit::CannotCreate)?;
    println!("{} is written.", args.config.display());
    let code = if args.no_check {
        ExitCode::SUCCESS
    } else {
        check::run(&check::Args { config: args.config.clone(), file_only: false })?
    };
    if code == ExitCode::SUCCESS {
        println!(
            "Where several materials are inspected, say for each camera what it looks at: `classes` in that file."
        );
        if args.config == Path::new(ETC) {
            println!("Now start it, or start it anew: systemctl enable inspectd && systemctl restart inspectd");
        } else {
            println!("Now start it: inspectd run --config {}", args.config.display());
        }
    } else {
        println!(
            "It is written all the same. Put right what is WRONG, and look again with: inspectd check --config {}",
            args.config.display()
        );
    }
    Ok(code)
}

impl Args {
    /// With paths that mean the same in the file as on the command line.
    fn absolute(&self) -> Result<Self> {
        let absolute =
            |path: &Path| std::path::absolute(path).with_context(|| path.display().to_string()).or_exit(Exit::Usage);
        let (config, bundle, state) = (absolute(&self.config)?, absolute(&self.bundle)?, absolute(&self.state)?);
        Ok(Self { config, bundle, state, ..self.clone() })
    }
}

/// That the file may be written, before anybody is asked anything.
fn ready(args: &Args) -> Result<()> {
    let path = args.config.display();
    match fs::read_to_string(&args.config) {
        Ok(text) if says_nothing(&text) || args.replace => {}
        Ok(_) => {
            return Err(anyhow!(
                "there is a configuration at {path}: change it by hand, or give --replace for another one (it is kept beside it)"
            ))
            .or_exit(Exit::CannotCreate);
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => {
            return Err(e).with_context(|| format!("cannot read {path}: run it with sudo?")).or_exit(Exit::NoInput);
        }
    }
    let probe = folder(&args.config).join(".setup");
    fs::create_dir_all(folder(&args.config))
        .and_then(|()| fs::write(&probe, ""))
        .and_then(|()| fs::remove_file(&probe))
        .with_context(|| format!("cannot write to {}: run it with sudo?", folder(&args.config).display()))
        .or_exit(Exit::CannotCreate)
}

/// Whether a file is as a package has laid it down, also one of another version: without a camera nothing runs by it.
fn says_nothing(text: &str) -> bool {
    text == PRISTINE || text.parse::<toml::Table>().is_ok_and(|table| !table.contains_key("cameras"))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What a file that is copied becomes: its place and its bytes.
type Copied = (PathBuf, Vec<u8>);

/// Answers and what goes with them, from flags and where one is missing from the person.
fn collect(args: &Args, person: Option<&Person>) -> Result<(Answers, Vec<Secret>, Vec<Copied>)> {
    let name = |text: &str| Name::new(text).map(drop);
    let text =
        |given: &Option<String>, question: &str, default: &str, check: &dyn Fn(&str) -> Result<(), String>| match (
            given, person,
        ) {
            (Some(text), _) => Ok(text.clone()),
            (None, Some(person)) => person.text(question, default, check),
            (None, None) if !default.is_empty() => Ok(default.to_owned()),
            (None, None) => Err(anyhow!("give --site, or run it at a terminal, where it asks")).or_exit(Exit::Usage),
        };
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let site = text(&args.site, "Site (plant or grid section; a level of every topic)", "", &name)?;
    let gateway = text(&args.gateway, "This gateway, unique in the site", &answers::name_of(&host), &name)?;
    let broker = |text: &str| BrokerUrl::new(text).map(drop);
    let broker = text(&args.broker, "Broker", "mqtt://localhost:1883", &broker)?;
    let mut secrets = Vec::new();
    let read = |path: &PathBuf| {
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())).or_exit(Exit::NoInput)
    };
    let LoginArgs { user, password_file, ca_file, cert_file, key_file } = args.login.clone();
    let (mut user, mut ca_file) = (user, ca_file);
    if let Some(path) = &password_file {
        if user.is_none() {
            return Err(anyhow!("a password is of no use without --user")).or_exit(Exit::Usage);
        }
        secrets.push(("mqtt-password".to_owned(), read(path)?.lines().next().unwrap_or_default().to_owned()));
    } else if let Some(person) = person {
        if user.is_none() {
            user = person.perhaps("User name at the broker, or enter where it wants none")?;
        }
        if user.is_some() {
            let password = person.password("Password (is not shown)")?;
            if !password.is_empty() {
                secrets.push(("mqtt-password".to_owned(), password));
            }
        }
    }
    let has_password = !secrets.is_empty();
    let is_secure = BrokerUrl::new(&broker).is_ok_and(|url| url.scheme().is_secure());
    if let (true, None, Some(person)) = (is_secure, &ca_file, person) {
        let question =
            "File with the authority that vouches for the broker (PEM), or enter for those that this machine trusts";
        ca_file = person.perhaps(question)?.map(PathBuf::from);
    }
    if let Some(path) = &key_file {
        secrets.push(("mqtt-key".to_owned(), read(path)?));
    }
    let mut copies = Vec::new();
    let mut copy = |from: Option<&PathBuf>, name: &str| -> Result<Option<PathBuf>> {
        let Some(from) = from else { return Ok(None) };
        let to = folder(&args.config).join(name);
        copies.push((to.clone(), read(from)?.into_bytes()));
        Ok(Some(to))
    };
    let (ca_file, cert_file) = (copy(ca_file.as_ref(), "ca.pem")?, copy(cert_file.as_ref(), "cert.pem")?);
    let answers = Answers {
        site,
        gateway,
        broker,
        user,
        has_password,
        ca_file,
        cert_file,
        bundle: args.bundle.clone(),
        state_dir: args.state.clone(),
        cameras: cameras_of(args, person)?,
    };
    Ok((answers, secrets, copies))
}

fn cameras_of(args: &Args, person: Option<&Person>) -> Result<Vec<Camera>> {
    let mut all: Vec<Camera> = Vec::new();
    for text in &args.cameras {
        let taken: Vec<String> = all.iter().map(|camera| camera.name.clone()).collect();
        all.push(answers::camera(text, &taken).context("--camera").or_exit(Exit::Usage)?);
    }
    for text in &args.camera_passwords {
        let (name, path) = text.split_once('=').context("--camera-password-file NAME=FILE").or_exit(Exit::Usage)?;
        let camera = all.iter_mut().find(|camera| camera.name == name);
        let wanted = camera.and_then(|camera| camera.secret.as_mut());
        let no = || {
            format!(
                "--camera-password-file: there is no camera {name} that logs in (--camera {name}=rtsp://USER@HOST/PATH)"
            )
        };
        let (_, secret) = wanted.with_context(no).or_exit(Exit::Usage)?;
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}")).or_exit(Exit::NoInput)?;
        *secret = Some(text.lines().next().unwrap_or_default().to_owned());
    }
    for camera in &mut all {
        let Some((_, secret @ None)) = &mut camera.secret else { continue };
        let name = &camera.name;
        let Some(person) = person else {
            return Err(anyhow!(
                "camera {name} logs in, and no password was given: --camera-password-file {name}=FILE"
            ))
            .or_exit(Exit::Usage);
        };
        *secret = Some(person.password(&format!("Password of camera {name} (is not shown)"))?);
    }
    if !all.is_empty() {
        return Ok(all);
    }
    eprintln!("Looking for cameras …");
    let (found, missing) = cameras::found();
    if let Some(missing) = missing {
        eprintln!("GigE Vision and USB3 Vision cameras are not looked for: {missing}");
    }
    match person {
        Some(person) => person.cameras(&found),
        None if found.is_empty() => {
            Err(anyhow!("no camera was found: give --camera (see `inspectd setup --help`)")).or_exit(Exit::Unavailable)
        }
        None => Ok(found.iter().map(cameras::as_answer).collect()),
    }
}

/// Certificates and secrets first: the configuration names them. What is replaced is kept beside it.
fn write(args: &Args, text: &str, secrets: &[Secret], copies: &[Copied]) -> Result<()> {
    let (folder, stamp) = (folder(&args.config), Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ").to_string());
    let dir = folder.join("secrets");
    let secret = |(name, secret): &Secret| (dir.join(name), format!("{}\n", secret.trim_end_matches(['\r', '\n'])));
    let secrets: Vec<(PathBuf, String)> = secrets.iter().map(secret).collect();
    // All that is replaced is kept before anything is.
    for (path, bytes) in copies {
        keep(path, bytes, folder, &stamp)?;
    }
    for (path, bytes) in &secrets {
        // Not in that folder, of which every file is a secret of the service.
        let old = folder.join(format!("secrets.before-{stamp}"));
        if fs::read(path).is_ok_and(|known| known != bytes.as_bytes()) {
            private(&old)?;
        }
        keep(path, bytes.as_bytes(), &old, &stamp)?;
    }
    if fs::read_to_string(&args.config).is_ok_and(|known| known != PRISTINE) {
        keep(&args.config, text.as_bytes(), folder, &stamp)?;
    }
    if !secrets.is_empty() {
        private(&dir)?;
    }
    for (path, bytes) in copies {
        durable::write_public(path, bytes)?;
    }
    for (path, bytes) in &secrets {
        durable::write_private(path, bytes.as_bytes())?;
    }
    durable::write_public(&args.config, text.as_bytes())
}

/// A file that is to be another one stays, in that folder, under another name: a second name for it, which takes no room and cannot be cut
/// off in the middle.
fn keep(path: &Path, new: &[u8], folder: &Path, stamp: &str) -> Result<()> {
    if fs::read(path).map_or(true, |known| known == new) {
        return Ok(());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let kept = folder.join(format!("{name}.before-{stamp}"));
    // Where a second name cannot be had (another file system, or one without), a copy that is as closed as a secret.
    let copy = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Err(anyhow::Error::from(e)),
        _ => durable::write_private(&kept, &fs::read(path)?),
    };
    fs::hard_link(path, &kept)
        .or_else(copy)
        .with_context(|| format!("cannot keep {} as {}", path.display(), kept.display()))?;
    println!("{} is kept as {}.", path.display(), kept.display());
    Ok(())
}

/// A folder that root alone can read.
fn private(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot close {}", dir.display()))
}
