//! `inspectd check`: everything that the daemon needs, a line each, without starting it.

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::config::{CameraConfig, Config, SourceConfig};
use crate::exit::Exit;
use crate::fitting::Want;
use crate::frame::source::{self, Next};
use crate::log;
use crate::model::bundle::Bundle;
use crate::model::{golden, runtime};
use crate::mqtt::link::{Link, LinkOptions};
use crate::outbox::Outbox;
use crate::stop::Stop;
use crate::update::boot;
use crate::update::ledger::Ledger;

/// The configuration of the package's service.
const OF_SERVICE: &str = "/etc/inspectd/inspectd.toml";
/// A camera that shows nothing in this time is not well.
const PATIENCE: Duration = Duration::from_secs(12);
/// One that waits for a trigger of its own may be quiet.
const QUIET: Duration = Duration::from_secs(2);

/// Arguments of `check`.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Look at the file alone, and not at what it names: before a reload, for instance.
    #[arg(long)]
    pub file_only: bool,
}

/// Prints a line for each part.
///
/// # Errors
/// None; what is wrong is printed and told by the exit code.
pub fn run(args: &Args) -> Result<ExitCode> {
    let path = args.config.as_path();
    let config = match Config::read(path) {
        Ok(config) => config,
        Err(e) => {
            report("configuration", &Err(e));
            return Ok(ExitCode::from(Exit::Config as u8));
        }
    };
    report("configuration", &Ok(format!("{} with {} camera(s)", path.display(), config.cameras.len())));
    if args.file_only {
        return Ok(ExitCode::SUCCESS);
    }
    let mut well = report("state folder", &state(&config));
    let environment = runtime::load(config.model.runtime.as_deref());
    well &= report("runtime", &environment.as_ref().map(|_| runtime::LIBRARY.to_owned()).map_err(|e| anyhow!("{e:#}")));
    well &= report("model bundle", &environment.and_then(|environment| model(&config, &environment)));
    for camera in &config.cameras {
        well &= report(&format!("camera {}", camera.name()), &look(camera, &config));
    }
    // Root sees more than the service that is going to run by this file.
    if path == Path::new(OF_SERVICE) && rustix::process::geteuid().is_root() {
        for wrong in closed_to_service(&config) {
            well &= report("rights of the service", &Err(wrong));
        }
    }
    well &= report("broker", &broker(&config));
    if let Some(address) = config.metrics.listen {
        well &= report("figures", &figures(address));
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(Exit::Unavailable as u8) })
}

fn report(what: &str, result: &Result<String>) -> bool {
    match result {
        Ok(text) => say(&format!("ok    {what}: {text}")),
        // In the journal of a reload it is an error.
        Err(e) => say(&format!("{}WRONG {what}: {e:#}", if log::is_journal(std::io::stdout()) { "<3>" } else { "" })),
    }
    result.is_ok()
}

/// A reader that has gone (`| head -1`) is no reason to panic.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What the service, which has a user of its own and sees no `/home`, `/root` and `/tmp`, cannot read or write.
fn closed_to_service(config: &Config) -> Vec<anyhow::Error> {
    let mut wrong = Vec::new();
    let state = &config.gateway.state_dir;
    if state != Path::new("/var/lib/inspectd") {
        wrong.push(anyhow!(
            "gateway.state_dir: the service may write to /var/lib/inspectd alone, not to {}",
            state.display()
        ));
    }
    let mut named = vec![("model.bundle".to_owned(), config.model.bundle.clone())];
    named.extend(config.model.runtime.clone().map(|path| ("model.runtime".to_owned(), path)));
    let mqtt = &config.mqtt;
    for (key, path) in [("mqtt.ca_file", &mqtt.ca_file), ("mqtt.cert_file", &mqtt.cert_file)] {
        named.extend(path.clone().map(|path| (key.to_owned(), path)));
    }
    let mut secrets = vec![
        ("mqtt.password_file".to_owned(), mqtt.password_file.clone()),
        ("mqtt.key_file".to_owned(), mqtt.key_file.clone()),
    ];
    for camera in &config.cameras {
        let of = format!("camera {}", camera.name());
        named.extend(camera.model.iter().filter_map(|own| own.bundle.clone()).map(|path| (of.clone(), path)));
        let mut source = camera.source.clone();
        if let SourceConfig::Rtsp(rtsp) = &source {
            secrets.push((of, rtsp.password_file.clone()));
        } else {
            named.extend(source.paths().into_iter().map(|path| (of.clone(), path.clone())));
        }
    }
    if let Some(address) = config.metrics.listen.filter(|address| address.port() < first_open_port()) {
        wrong.push(anyhow!(
            "metrics.listen: the service cannot listen at {address}: ports below {} are root's; choose a higher one",
            first_open_port()
        ));
    }
    // Devices have their groups.
    named.retain(|(_, path)| !path.starts_with("/dev"));
    for (what, path) in named {
        if let Some(why) = closed(&path) {
            wrong.push(anyhow!(
                "{what}: the service cannot read {}: {why}; put it under /srv, for instance",
                path.display()
            ));
        }
    }
    // Secrets are handed over out of one folder, and need not be open to anybody.
    let folder = Path::new(OF_SERVICE).with_file_name("secrets");
    for (what, path) in secrets {
        if let Some(path) = path.filter(|path| !path.starts_with(&folder))
            && let Some(why) = closed(&path)
        {
            let (path, folder) = (path.display(), folder.display());
            wrong.push(anyhow!(
                "{what}: the service cannot read {path}: {why}; put it into {folder} and write credential:NAME"
            ));
        }
    }
    wrong
}

/// Ports below it are root's.
fn first_open_port() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok();
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

/// Why others than its owner cannot read a path, if so.
fn closed(path: &Path) -> Option<String> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let hidden = ["/home", "/root", "/tmp", "/var/tmp", "/run/user"];
    if let Some(hidden) = hidden.iter().find(|dir| path.starts_with(dir) || real.starts_with(dir)) {
        return Some(format!("{hidden} is not there for it"));
    }
    let closed = |at: &&Path| {
        let Ok(about) = std::fs::metadata(at) else { return false };
        // Folders on the way are gone through; what is meant is read.
        let wanted = match (*at == real, about.is_dir()) {
            (false, _) => 0o001,
            (true, true) => 0o005,
            (true, false) => 0o004,
        };
        about.permissions().mode() & wanted != wanted
    };
    real.ancestors().find(closed).map(|at| format!("{} is closed to others", at.display()))
}

fn state(config: &Config) -> Result<String> {
    let dir = &config.gateway.state_dir;
    if !dir.exists() {
        let above = dir.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
        ensure!(above.is_dir(), "{} cannot be made: {} is a file", dir.display(), above.display());
        return Ok(format!("{} will be made at the first start", dir.display()));
    }
    ensure!(dir.is_dir(), "{} is a file, not a folder", dir.display());
    Ok(format!("{}, {} message(s) waiting", dir.display(), Outbox::waiting(dir)?))
}

fn model(config: &Config, environment: &runtime::Environment) -> Result<String> {
    let bundle = Bundle::open(&config.model.bundle)?;
    let mut session = runtime::Session::new(environment, &bundle)?;
    golden::verify(&bundle, &mut session)?;
    let want = Want::gateway(config);
    let mut manifest = want.outline()?;
    let mut extraction =
        if want.is_extraction() { "; the first start extracts this gateway's own from it" } else { "" };
    // An update that was taken stands before what is configured.
    let mut update = String::new();
    let ledger = Ledger::open(&config.gateway.state_dir);
    if let Some(installed) = ledger.active() {
        let active = boot::open(&ledger, installed).context("the update that is active")?;
        golden::verify(&active, &mut runtime::Session::new(environment, &active)?)
            .context("the update that is active")?;
        let (name, version) = (&manifest.name, &manifest.version);
        update = format!(" (by an update; {name} {version}, which is configured, is for when that is rolled back)");
        (manifest, extraction) = (active.manifest, "");
    }
    for camera in &config.cameras {
        let of = || format!("classes of camera {}", camera.name());
        match &camera.model {
            None => manifest.serves(&camera.classes, config.anomaly.enabled).with_context(of)?,
            Some(own) => {
                let manifest = Want::camera(config, camera.name(), own).outline();
                let own = || format!("model of camera {}", camera.name());
                manifest.with_context(own)?.serves(&camera.classes, config.anomaly.enabled).with_context(of)?;
            }
        }
    }
    let anomaly = match (config.anomaly.enabled, manifest.has_features()) {
        (true, true) => "",
        (true, false) => "; anomaly check off: the bundle gives no features",
        (false, _) => "; anomaly check off: the configuration says so",
    };
    let (name, version, classes) = (&manifest.name, &manifest.version, manifest.classes.len());
    Ok(format!("{name} {version}{update}, {classes} class(es), golden vectors hold{anomaly}{extraction}"))
}

/// Waits for the camera's first picture, on a thread of its own since a driver may hang.
fn look(camera: &CameraConfig, config: &Config) -> Result<String> {
    let (sender, receiver) = mpsc::channel();
    let (camera, limits) = (camera.clone(), config.limits.clone());
    thread::spawn(move || {
        let first = || -> Result<String> {
            let mut source = source::open(&camera.source, &limits, &Stop::default())?;
            source.fire()?;
            let fired = Instant::now();
            loop {
                match source.next(Instant::now())? {
                    Next::Picture { image, .. } => {
                        let kind = camera.source.kind();
                        return Ok(format!("{kind}, {}x{} {:?}", image.width, image.height, image.format));
                    }
                    Next::Unreadable { origin, reason } => bail!("{} {reason}", origin.unwrap_or_default()),
                    Next::Idle if camera.source.is_triggered() && fired.elapsed() > QUIET => {
                        return Ok(format!("{}, answers, and waits for its trigger", camera.source.kind()));
                    }
                    Next::Idle => {}
                    Next::Ended => bail!("it has no pictures"),
                }
            }
        };
        let _ = sender.send(first()); // nobody listens any more when patience has ended
    });
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(anyhow!("no picture within {} s", PATIENCE.as_secs())))
}

fn broker(config: &Config) -> Result<String> {
    let options = LinkOptions::new(&config.mqtt, format!("inspectd-check-{}", uuid::Uuid::now_v7()));
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio.block_on(async {
        let link = Link::connect(&options).await?;
        link.disconnect().await;
        Ok(format!("{} answers", options.url))
    })
}

/// Whether the figures' address is free, or an agent answers at it already.
fn figures(address: SocketAddr) -> Result<String> {
    let is_open = if address.ip().is_loopback() { "" } else { ", open to every machine that reaches it" };
    match TcpListener::bind(address) {
        Ok(_) => Ok(format!("http://{address}/metrics{is_open}")),
        Err(e) if e.kind() == ErrorKind::AddrInUse && is_agent(address) => {
            Ok(format!("http://{address}/metrics answers already: the agent is running{is_open}"))
        }
        Err(e) if e.kind() == ErrorKind::AddrInUse => {
            Err(anyhow!("what listens at {address} does not answer as the agent: choose another port (metrics.listen)"))
        }
        Err(e) if e.kind() == ErrorKind::AddrNotAvailable => {
            Err(anyhow!("this machine does not have the address {} (metrics.listen)", address.ip()))
        }
        Err(e) => Err(anyhow!("{address} cannot be listened at (metrics.listen): {e}")),
    }
}

/// Whether it is an agent that serves its figures there.
fn is_agent(address: SocketAddr) -> bool {
    // It is this machine, whatever the environment says of proxies.
    let config = ureq::Agent::config_builder().timeout_global(Some(QUIET)).http_status_as_error(false).proxy(None);
    let Ok(mut answer) = config.build().new_agent().get(format!("http://{address}/metrics")).call() else {
        return false;
    };
    let is_busy = answer.status().as_u16() == 429; // with others who read
    is_busy || answer.body_mut().read_to_string().is_ok_and(|text| text.contains("inspectd_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_cannot_read_is_known() {
        assert!(closed(Path::new("/root/x")).unwrap().contains("/root is not there"));
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp/closed");
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("file");
        std::fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let said = |path: &Path| closed(path).unwrap_or_default();
        mode(&dir, 0o711);
        mode(&file, 0o644);
        let is_hidden = ["/home", "/root", "/tmp"].iter().any(|hidden| dir.starts_with(hidden));
        if !is_hidden && dir.ancestors().skip(1).all(|at| closed(at).is_none()) {
            assert_eq!(closed(&file), None, "a folder that others may go through");
            assert!(said(&dir).contains("closed"), "and may not list");
            mode(&dir, 0o700);
            assert!(said(&file).contains("target/tmp/closed is closed"), "{}", said(&file));
            mode(&dir, 0o755);
            mode(&file, 0o600);
            assert!(said(&file).contains("file is closed"), "{}", said(&file));
        }
    }
}
