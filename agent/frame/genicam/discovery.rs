//! Finds cameras and opens them.
//!
//! Aravis keeps one list of devices for the whole process; a lock of our own stands before it, since two threads that
//! look at the same time would free each other's list. A list that another thread has made since we asked serves us as
//! well, so that many missing cameras cost one broadcast a second together. A camera that streams needs none of this.

use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use aravis::glib::object::Cast;
use aravis::prelude::{CameraExt, DeviceExt, InterfaceExt};
use aravis::{Camera, GvDevice, GvInterface, UvInterface};

use super::{Device, Reach};
use crate::config::value::DeviceKey;
use crate::stop::Stop;

/// A camera that is being switched on is waited for so long before opening it fails.
const PRESENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(300);
/// GigE Vision's register with the address of the application that controls the camera.
const PRIMARY_APPLICATION: u64 = 0x0A14;

struct List {
    asked: Option<Instant>,
    devices: Vec<Device>,
}

static LIST: Mutex<List> = Mutex::new(List { asked: None, devices: Vec::new() });

/// The list as it is at `since` or later. While the guard lives, no other thread looks for cameras or opens one.
fn fresh(since: Instant) -> MutexGuard<'static, List> {
    let mut list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
    if list.asked.is_none_or(|asked| asked < since) {
        list.asked = Some(Instant::now());
        list.devices.clear();
        for interface in [GvInterface::instance(), UvInterface::instance()].into_iter().flatten() {
            interface.update_device_list();
            list.devices.extend((0..interface.n_devices()).map(|n| {
                let text = |value: Option<aravis::glib::GString>| value.map(String::from).unwrap_or_default();
                Device {
                    id: text(interface.device_id(n)),
                    vendor: text(interface.device_vendor(n)),
                    model: text(interface.device_model(n)),
                    serial: text(interface.device_serial_nbr(n)),
                    mac: text(interface.device_physical_id(n)),
                    address: text(interface.device_address(n)),
                    protocol: text(interface.device_protocol(n)),
                }
            }));
        }
    }
    list
}

/// All cameras that answer.
pub fn list() -> Vec<Device> {
    fresh(Instant::now()).devices.clone()
}

/// Whether a camera could be opened.
pub fn reach(device: &Device) -> Reach {
    let _alone = LIST.lock().unwrap_or_else(PoisonError::into_inner);
    match Camera::new(Some(&device.id)) {
        Ok(camera) if controls(&camera) => Reach::Free,
        Ok(_) => Reach::InUse,
        Err(e) => Reach::Silent(e.message().to_owned()),
    }
}

/// Opens a camera and takes its control.
///
/// # Errors
/// It is not there, does not answer, or belongs to another program.
pub fn open(key: &DeviceKey, stop: &Stop) -> Result<Camera> {
    let deadline = Instant::now() + PRESENCE;
    loop {
        if let Some(camera) = attempt(key)? {
            return Ok(camera);
        }
        if Instant::now() >= deadline || stop.wait(PAUSE) {
            bail!(
                "no GenICam camera \"{key}\" answers: look at its power, its cable and its address \
                 (`inspectd cameras list` shows what there is)"
            );
        }
    }
}

/// None where it is not there.
fn attempt(key: &DeviceKey) -> Result<Option<Camera>> {
    let list = fresh(Instant::now());
    let (name, listed) = match pick(&list.devices, key.as_str())? {
        Some(device) => (device.id.clone(), true),
        // In another network no broadcast reaches it, but it may well answer when it is asked itself.
        None if key.as_str().parse::<Ipv4Addr>().is_ok() => (key.to_string(), false),
        None => return Ok(None),
    };
    let camera = match Camera::new(Some(&name)) {
        Ok(camera) => camera,
        Err(_) if !listed => return Ok(None),
        Err(e) => bail!("the camera {name} was found, but cannot be opened: {}", e.message()),
    };
    drop(list);
    if controls(&camera) {
        return Ok(Some(camera));
    }
    let by = camera.device().and_then(|device| device.read_register(PRIMARY_APPLICATION).ok()).map(|(_, ip)| ip);
    let by = by.filter(|ip| *ip != 0).map(|ip| format!(" at {}", Ipv4Addr::from(ip))).unwrap_or_default();
    bail!(
        "the camera {name} is controlled by another program{by}: end that one, or take the camera out of one of the two \
         (after a crash a camera frees itself within some seconds)"
    )
}

fn controls(camera: &Camera) -> bool {
    let device = camera.device().and_then(|device| device.downcast::<GvDevice>().ok());
    device.is_none_or(|gv| gv.is_controller()) // USB gives a camera to one program only
}

/// The camera that is meant.
///
/// # Errors
/// More than one is.
fn pick<'a>(devices: &'a [Device], key: &str) -> Result<Option<&'a Device>> {
    if let Some(device) = devices.iter().find(|d| d.id == key) {
        return Ok(Some(device));
    }
    let mac = key.to_ascii_lowercase().replace('-', ":");
    let meant: Vec<&Device> = devices
        .iter()
        .filter(|d| d.serial == key || d.address == key || d.mac.to_ascii_lowercase().replace('-', ":") == mac)
        .collect();
    if let [first, second, ..] = meant.as_slice() {
        bail!("\"{key}\" may be the camera {} or {}: name it by its id", first.id, second.id);
    }
    Ok(meant.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, serial: &str, mac: &str, address: &str) -> Device {
        let [vendor, model, protocol] = ["V", "M", "GigEVision"].map(String::from);
        let [id, serial, mac, address] = [id, serial, mac, address].map(String::from);
        Device { id, vendor, model, serial, mac, address, protocol }
    }

    #[test]
    fn a_camera_is_known_by_each_of_its_names() {
        let devices = [
            device("V-M-17", "17", "00:0F:31:00:00:01", "10.0.0.5"),
            device("W-N-17", "17", "00:0f:31:00:00:02", "10.0.0.6"),
            device("W-N-18", "18", "00:0f:31:00:00:03", "10.0.0.7"),
        ];
        for (key, id) in [
            ("V-M-17", "V-M-17"),
            ("18", "W-N-18"),
            ("10.0.0.6", "W-N-17"),
            ("00:0f:31:00:00:01", "V-M-17"),
            ("00-0F-31-00-00-03", "W-N-18"),
        ] {
            assert_eq!(pick(&devices, key).unwrap().map(|d| d.id.as_str()), Some(id), "{key}");
        }
        assert_eq!(pick(&devices, "19").unwrap(), None);
        assert!(pick(&devices, "17").unwrap_err().to_string().contains("V-M-17 or W-N-17"));
    }
}
