//! `inspectd cameras list`: the cameras that this machine can see, each with the lines that the configuration needs.
//!
//! Looking takes about two seconds. A GenICam camera is opened for a moment to learn whether it is free; one that
//! another program controls is left as it is.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use crate::config::value::DeviceKey;
use crate::frame::genicam::{self, Device, Reach};
use crate::setup::Camera;

/// Arguments of `cameras`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the cameras that answer, each with its lines for the configuration.
    #[command(after_help = "Example:\n  inspectd cameras list\n  inspectd cameras list --interface gige --json")]
    List {
        /// One JSON object a camera and line, for machines.
        #[arg(long)]
        json: bool,
        /// Only what is connected this way.
        #[arg(long, value_enum)]
        interface: Option<Interface>,
    },
}

/// How a camera is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Interface {
    /// GigE Vision, by network.
    Gige,
    /// USB3 Vision.
    Usb3,
    /// Video4Linux: USB cameras and frame grabbers.
    V4l2,
}

/// A camera that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// A name for it, unique in the list.
    name: String,
    #[serde(flatten)]
    what: What,
    /// The lines for the configuration.
    snippet: String,
    #[serde(skip)]
    source: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
enum What {
    Genicam {
        #[serde(flatten)]
        device: Device,
        #[serde(flatten)]
        reach: Reach,
    },
    V4l2 {
        /// A name that stays.
        device: PathBuf,
        /// What the driver calls it.
        model: String,
    },
}

/// What to look at when a camera is missing.
const HINTS: &str = "A GigE Vision camera that is missing:
  power and link: does the network interface say \"state UP\"?     ip -brief link
  addresses: are both in the same network, or both link-local?   ip -brief address
  firewall: discovery is UDP port 3956, pictures come by UDP from the camera to a port of this machine's choice
  another program has it: cameras that are in use are listed all the same
A camera behind a router answers no broadcast: name it by its IP address in the configuration.
A USB camera that is missing: is it in `lsusb`, and may this user open it? (group video; for USB3 Vision see docs/cameras.md)
";

/// Prints what is there.
///
/// # Errors
/// Nothing can be printed.
pub fn run(args: &Args) -> Result<()> {
    let Command::List { json, interface } = &args.command;
    let (cameras, missing) = look(*interface);
    let mut out = std::io::stdout().lock();
    for camera in &cameras {
        if *json {
            writeln!(out, "{}", serde_json::to_string(camera)?)?;
        } else {
            write!(out, "{}", text(camera))?;
        }
    }
    if let Some(missing) = &missing {
        eprintln!("GigE Vision and USB3 Vision cameras are not looked for: {missing}");
    }
    if cameras.is_empty() && !json {
        write!(out, "No camera was found.\n\n{HINTS}")?;
    }
    out.flush()?;
    Ok(())
}

/// What is connected in any way; and why some cannot be looked for, where that is so.
#[must_use]
pub fn found() -> (Vec<Found>, Option<String>) {
    look(None)
}

fn look(interface: Option<Interface>) -> (Vec<Found>, Option<String>) {
    let mut all = Vec::new();
    let mut missing = None;
    if interface != Some(Interface::V4l2) {
        match genicam::list() {
            Ok(devices) => all.extend(devices.into_iter().map(|(device, reach)| What::Genicam { device, reach })),
            Err(e) => missing = Some(format!("{e:#}")),
        }
    }
    all.extend(video4linux(Path::new("/dev"), Path::new("/sys/class/video4linux")));
    all.retain(|what| interface.is_none_or(|wanted| connected_by(what) == Some(wanted)));
    (described(all), missing)
}

/// A camera in a line, for a choice.
#[must_use]
pub fn line(camera: &Found) -> String {
    let text = match &camera.what {
        What::Genicam { device, reach } => {
            let state = if *reach == Reach::Free { "" } else { " (does not answer, or is in use)" };
            format!("{} {} {}, {}{state}", device.vendor, device.model, device.serial, device.protocol)
        }
        What::V4l2 { device, model } => format!("{model}, {}", device.display()),
    };
    printable(&text)
}

/// As somebody would have typed it.
#[must_use]
pub fn as_answer(camera: &Found) -> Camera {
    Camera { name: camera.name.clone(), source: camera.source.clone(), secret: None }
}

fn connected_by(what: &What) -> Option<Interface> {
    match what {
        What::V4l2 { .. } => Some(Interface::V4l2),
        What::Genicam { device, .. } if device.protocol == "GigEVision" => Some(Interface::Gige),
        What::Genicam { device, .. } if device.protocol == "USB3Vision" => Some(Interface::Usb3),
        What::Genicam { .. } => None,
    }
}

/// Names them and writes their snippets.
fn described(all: Vec<What>) -> Vec<Found> {
    let mut names = HashSet::new();
    all.into_iter()
        .map(|what| {
            let (text, source) = match &what {
                What::Genicam { device, .. } => {
                    // What an id may be, our configuration knows; an odd one is named by its address.
                    let key = if DeviceKey::new(&device.id).is_ok() { &device.id } else { &device.address };
                    (format!("{}-{}", device.model, device.serial), format!("genicam = {{ camera = {} }}", quoted(key)))
                }
                What::V4l2 { device, model } => {
                    (model.clone(), format!("v4l2 = {{ device = {} }}", quoted(&device.to_string_lossy())))
                }
            };
            let base = name_of(&text);
            let name = (1..=names.len() + 1)
                .map(|n| if n == 1 { base.clone() } else { format!("{base}-{n}") })
                .find(|name| names.insert(name.clone()))
                .unwrap_or(base);
            let snippet = format!("[[cameras]]\nname = {}\nsource.{source}\n", quoted(&name));
            Found { name, what, snippet, source }
        })
        .collect()
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A name for the configuration out of any text: short enough that a number can follow.
fn name_of(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => name.push(c),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    name.truncate(56);
    let name = name.trim_end_matches('-');
    if name.is_empty() { "camera".to_owned() } else { name.to_owned() }
}

fn text(camera: &Found) -> String {
    let mut out = String::new();
    let _ = match &camera.what {
        What::Genicam { device, reach } => {
            let Device { id, vendor, model, serial, mac, address, protocol } = device;
            let state = match reach {
                Reach::Free => "free".to_owned(),
                Reach::InUse => {
                    "in use: another program controls it (inspectd itself, where it runs with this camera)".into()
                }
                Reach::Silent(why) => format!("seen, but it does not answer ({why}): is its address in this network?"),
            };
            writeln!(
                out,
                "{id}\n  vendor    {vendor}\n  model     {model}\n  serial    {serial}\n  protocol  {protocol}\n  \
                 address   {address}\n  MAC       {mac}\n  state     {state}\n"
            )
        }
        What::V4l2 { device, model } => {
            writeln!(out, "{}\n  model     {model}\n  protocol  Video4Linux\n", device.display())
        }
    };
    for line in camera.snippet.lines() {
        let _ = writeln!(out, "  {line}");
    }
    out.push('\n');
    printable(&out)
}

/// What comes from a camera must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Capture devices by the name that stays, where udev has made one. Of the nodes of a device the first takes pictures,
/// further ones carry metadata.
fn video4linux(dev: &Path, sys: &Path) -> Vec<What> {
    let entries = |dir: &Path| -> Vec<PathBuf> {
        let mut paths: Vec<_> =
            std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let lasting: Vec<(PathBuf, PathBuf)> = entries(&dev.join("v4l/by-id"))
        .into_iter()
        .filter_map(|path| std::fs::canonicalize(&path).ok().map(|node| (path, node)))
        .collect();
    entries(sys)
        .into_iter()
        .filter_map(|node| {
            let read = |file: &str| std::fs::read_to_string(node.join(file)).map(|t| t.trim().to_owned()).ok();
            if read("index").is_some_and(|index| index != "0") {
                return None;
            }
            let name = node.file_name().filter(|name| name.to_string_lossy().starts_with("video"))?;
            let plain = dev.join(name);
            let real = std::fs::canonicalize(&plain).ok()?;
            let device = lasting.iter().find(|(_, to)| *to == real).map_or(plain, |(path, _)| path.clone());
            Some(What::V4l2 { device, model: read("name").unwrap_or_else(|| "camera".into()) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, SourceConfig};

    fn device(model: &str, serial: &str) -> What {
        let device = Device {
            id: format!("Acme \"GmbH\"-{model}-{serial}"),
            vendor: "Acme".into(),
            model: model.into(),
            serial: serial.into(),
            mac: "00:0f:31:00:00:01".into(),
            address: "10.0.0.5".into(),
            protocol: "GigEVision".into(),
        };
        What::Genicam { device, reach: Reach::Free }
    }

    fn parsed(found: &[Found]) -> Config {
        let snippets: String = found.iter().map(|f| f.snippet.as_str()).collect();
        let head = "[gateway]\nsite = \"s\"\nname = \"g\"\nstate_dir = \"s\"\n[mqtt]\nurl = \"mqtt://localhost\"\n\
            [model]\nbundle = \"b\"\n";
        Config::parse(&format!("{head}{snippets}"), "f.toml").unwrap_or_else(|e| panic!("{e}\n{snippets}"))
    }

    #[test]
    fn snippets_are_valid_and_their_names_unique() {
        let odd = "ü/#\u{7}";
        let all =
            vec![device("acA1920", "22"), device("acA1920", "22"), device(odd, odd), device(&"x".repeat(99), "1")];
        let found = described(all);
        let names: Vec<&str> = found.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names[..3], ["aca1920-22", "aca1920-22-2", "camera"]);
        let config = parsed(&found);
        let keys: Vec<&str> = config
            .cameras
            .iter()
            .filter_map(|c| match &c.source {
                SourceConfig::Genicam(genicam) => Some(genicam.camera.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(keys[0], "Acme \"GmbH\"-acA1920-22");
        assert_eq!(keys[2], "10.0.0.5");
        assert!(!text(&found[2]).contains('\u{7}'));
    }

    #[test]
    fn of_video4linux_only_what_takes_pictures() {
        let dir = tempfile::tempdir().unwrap();
        let (dev, sys) = (dir.path().join("dev"), dir.path().join("sys"));
        std::fs::create_dir_all(dev.join("v4l/by-id")).unwrap();
        for (node, index, name) in
            [("video0", "0", "HD Webcam: HD"), ("video1", "1", "HD Webcam: HD"), ("video2", "0", "Grabber")]
        {
            std::fs::create_dir_all(sys.join(node)).unwrap();
            std::fs::write(dev.join(node), "").unwrap();
            std::fs::write(sys.join(node).join("index"), format!("{index}\n")).unwrap();
            std::fs::write(sys.join(node).join("name"), format!("{name}\n")).unwrap();
        }
        std::fs::create_dir_all(sys.join("v4l-subdev0")).unwrap();
        std::os::unix::fs::symlink("../../video0", dev.join("v4l/by-id/usb-Webcam-video-index0")).unwrap();
        let found = described(video4linux(&dev, &sys));
        let names: Vec<&str> = found.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["hd-webcam-hd", "grabber"]);
        assert!(found[0].snippet.contains("by-id/usb-Webcam-video-index0\""), "{}", found[0].snippet);
        assert!(found[1].snippet.contains("dev/video2\""), "{}", found[1].snippet);
        assert_eq!(parsed(&found).cameras.len(), 2);
        assert!(video4linux(Path::new("/nowhere"), Path::new("/nowhere")).is_empty());
    }
}
