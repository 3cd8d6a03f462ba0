//! Sets in a camera what the configuration asks for, and says where the camera made something else of it.
//!
//! Features go by their GenICam names. Where the standard has changed its mind (ExposureTime and ExposureTimeAbs, Gain
//! and GainRaw), Aravis finds the one that the camera has.

use std::fmt::Display;

use anyhow::{Context, Result, anyhow, bail, ensure};
use aravis::glib::object::ObjectExt;
use aravis::prelude::{CameraExt, DeviceExt};
use aravis::{AcquisitionMode, Camera, GcBoolean, GcCommand, GcEnumeration, GcFloat, GcInteger, GcString};
use aravis::{GvPacketSizeAdjustment, glib};
use tracing::info;

use super::pixels::{LAYOUTS, Layout};
use crate::config::genicam::{FeatureValue, PacketSize};
use crate::config::{Auto, GenicamSource, TriggerMode};

/// Sets everything but the transport.
///
/// # Errors
/// The first thing that the camera does not have or take.
pub fn configure(camera: &Camera, config: &GenicamSource) -> Result<()> {
    for (name, value) in &config.features.0 {
        feature(camera, name.as_str(), value).with_context(|| format!("features.{name}"))?;
    }
    pixel_format(camera, config).context("pixel_format")?;
    region(camera, config)?;
    exposure(camera, config)?;
    gain(camera, config)?;
    trigger(camera, config)?;
    if let Some(rate) = config.frame_rate {
        let bounds = camera.frame_rate_bounds().map_err(refused).context("frame_rate: the camera has none")?;
        within(rate.get(), bounds).context("frame_rate")?;
        camera.set_frame_rate(rate.get()).map_err(refused).context("frame_rate")?;
        rounded("frame_rate", rate.get(), camera.frame_rate().ok());
    }
    chunks(camera, config).context("chunks")
}

/// Sets size and pace of the packets; to be called before the stream is made.
///
/// # Errors
/// The camera does not take them, or is no GigE Vision camera.
pub fn transport(camera: &Camera, config: &GenicamSource) -> Result<()> {
    if !camera.is_gv_device() {
        let asked = matches!(config.packet_size, PacketSize::Bytes(_)) || config.packet_delay_us.is_some();
        ensure!(!asked, "packet_size and packet_delay_us are for GigE Vision; this camera is none");
        return Ok(());
    }
    match config.packet_size {
        PacketSize::Auto => camera.gv_set_packet_size_adjustment(GvPacketSizeAdjustment::Always),
        PacketSize::Bytes(bytes) => {
            camera.gv_set_packet_size_adjustment(GvPacketSizeAdjustment::Never);
            camera.gv_set_packet_size(i32::from(bytes)).map_err(refused).context("packet_size")?;
            let set = camera.gv_get_packet_size().map_err(refused).context("packet_size")?;
            rounded("packet_size", f64::from(bytes), Some(f64::from(set)));
        }
    }
    if let Some(delay) = config.packet_delay_us {
        let nanoseconds = (delay.get() * 1000.0) as i64;
        camera.gv_set_packet_delay(nanoseconds).map_err(refused).context("packet_delay_us")?;
        rounded("packet_delay_us", delay.get(), camera.gv_get_packet_delay().map(|ns| ns as f64 / 1000.0).ok());
    }
    Ok(())
}

#[allow(clippy::needless_pass_by_value)] // as `map_err` gives it
fn refused(error: glib::Error) -> anyhow::Error {
    anyhow!("{}", error.message())
}

fn within<T: PartialOrd + Display + Copy>(value: T, (low, high): (T, T)) -> Result<()> {
    ensure!((&low..=&high).contains(&&value), "{value} is out of the camera's range, {low} to {high}");
    Ok(())
}

/// Says where the camera made another value of it. That it cannot be read back is no fault: some features cannot.
fn rounded(name: &str, asked: f64, made: Option<f64>) {
    if let Some(made) = made
        && (made - asked).abs() > asked.abs() * 1e-6
    {
        info!("{name}: the camera made {made} of {asked}");
    }
}

fn one_of(wanted: &str, entries: &[glib::GString]) -> Result<()> {
    let known: Vec<&str> = entries.iter().map(glib::GString::as_str).collect();
    ensure!(known.contains(&wanted), "the camera has no {wanted}; it has {}", known.join(", "));
    Ok(())
}

/// Any feature, by its name and its own type.
fn feature(camera: &Camera, name: &str, value: &FeatureValue) -> Result<()> {
    let node = camera.device().and_then(|device| device.feature(name)).context("the camera has no such feature")?;
    let available = camera.is_feature_available(name).map_err(refused)?;
    ensure!(available, "the camera has it, but it is not available now: another feature may have to be set before it");
    let takes = |what: &str| anyhow!("it takes {what}, not {value}");
    if node.is::<GcEnumeration>() {
        let entries = camera.dup_available_enumerations_as_strings(name).map_err(refused)?;
        let FeatureValue::Text(entry) = value else { return Err(takes("the name of an entry")) };
        one_of(entry, &entries)?;
        camera.set_string(name, entry).map_err(refused)?;
        let made = camera.string(name).map_err(refused)?;
        if made != entry.as_str() {
            info!("{name}: the camera made {made} of {entry}");
        }
    } else if node.is::<GcBoolean>() {
        let FeatureValue::Bool(on) = value else { return Err(takes("true or false")) };
        camera.set_boolean(name, *on).map_err(refused)?;
        let made = camera.boolean(name).map_err(refused)?;
        ensure!(made == *on, "the camera left it at {made}");
    } else if node.is::<GcCommand>() {
        let FeatureValue::Bool(true) = value else { return Err(takes("true, by which the command is executed")) };
        camera.execute_command(name).map_err(refused)?;
    } else if node.is::<GcFloat>() {
        let number = match value {
            FeatureValue::Float(number) => *number,
            FeatureValue::Integer(number) => *number as f64,
            _ => return Err(takes("a number")),
        };
        within(number, camera.float_bounds(name).map_err(refused)?)?;
        camera.set_float(name, number).map_err(refused)?;
        rounded(name, number, camera.float(name).ok());
    } else if node.is::<GcInteger>() {
        let FeatureValue::Integer(number) = value else { return Err(takes("a whole number")) };
        integer(camera, name, *number)?;
    } else if node.is::<GcString>() {
        let FeatureValue::Text(text) = value else { return Err(takes("a text")) };
        camera.set_string(name, text).map_err(refused)?;
    } else {
        bail!("it is nothing that can be set");
    }
    Ok(())
}

fn integer(camera: &Camera, name: &str, value: i64) -> Result<()> {
    let (low, high) = camera.integer_bounds(name).map_err(refused)?;
    within(value, (low, high))?;
    camera.set_integer(name, value).map_err(refused).with_context(|| match camera.integer_increment(name) {
        Ok(step @ 2..) => format!("{value} was not taken; the camera goes in steps of {step} from {low}"),
        _ => format!("{value} was not taken"),
    })?;
    rounded(name, value as f64, camera.integer(name).map(|made| made as f64).ok());
    Ok(())
}

fn pixel_format(camera: &Camera, config: &GenicamSource) -> Result<()> {
    let known = || camera.dup_available_pixel_formats_as_strings().map_err(refused);
    if let Some(wanted) = &config.pixel_format {
        one_of(wanted.as_str(), &known()?)?;
        camera.set_pixel_format_from_string(wanted.as_str()).map_err(refused)?;
    }
    let set = camera.pixel_format().map_err(refused)?;
    if Layout::of(set.raw()).is_none() {
        let name = camera.pixel_format_as_string().map_or_else(|_| format!("{:#x}", set.raw()), String::from);
        let all = known()?;
        let usable: Vec<&str> = LAYOUTS.iter().map(|l| l.name).filter(|n| all.iter().any(|a| a == n)).collect();
        bail!("{name} cannot be converted; of the camera's formats these can: {}", usable.join(", "));
    }
    Ok(())
}

fn region(camera: &Camera, config: &GenicamSource) -> Result<()> {
    let sides = [
        ("Width", "OffsetX", "offset_x", config.width, config.offset_x),
        ("Height", "OffsetY", "offset_y", config.height, config.offset_y),
    ];
    for (size, offset, key, pixels, start) in sides {
        if let Some(pixels) = pixels {
            // How large it may be depends on where it begins.
            if camera.is_feature_available(offset).unwrap_or(false) {
                let (low, _) = camera.integer_bounds(offset).map_err(refused)?;
                camera.set_integer(offset, low).map_err(refused).with_context(|| offset.to_owned())?;
            }
            integer(camera, size, i64::from(pixels.get())).with_context(|| size.to_lowercase())?;
        }
        if let Some(start) = start {
            integer(camera, offset, start.get()).with_context(|| key.to_owned())?;
        }
    }
    Ok(())
}

fn auto(mode: Auto) -> aravis::Auto {
    match mode {
        Auto::Off => aravis::Auto::Off,
        Auto::Once => aravis::Auto::Once,
        Auto::Continuous => aravis::Auto::Continuous,
    }
}

fn exposure(camera: &Camera, config: &GenicamSource) -> Result<()> {
    let adjusts = camera.is_exposure_auto_available().unwrap_or(false);
    let mode = config.exposure_auto.or(config.exposure_us.filter(|_| adjusts).map(|_| Auto::Off));
    if let Some(mode) = mode {
        ensure!(adjusts || mode == Auto::Off, "exposure_auto: the camera has no ExposureAuto");
        if adjusts {
            camera.set_exposure_time_auto(auto(mode)).map_err(refused).context("exposure_auto")?;
        }
    }
    if let Some(time) = config.exposure_us {
        let bounds = camera.exposure_time_bounds().map_err(refused).context("exposure_us: the camera has none")?;
        within(time.get(), bounds).context("exposure_us")?;
        camera.set_exposure_time(time.get()).map_err(refused).context("exposure_us")?;
        rounded("exposure_us", time.get(), camera.exposure_time().ok());
    }
    Ok(())
}

fn gain(camera: &Camera, config: &GenicamSource) -> Result<()> {
    let adjusts = camera.is_gain_auto_available().unwrap_or(false);
    let mode = config.gain_auto.or(config.gain.filter(|_| adjusts).map(|_| Auto::Off));
    if let Some(mode) = mode {
        ensure!(adjusts || mode == Auto::Off, "gain_auto: the camera has no GainAuto");
        if adjusts {
            camera.set_gain_auto(auto(mode)).map_err(refused).context("gain_auto")?;
        }
    }
    if let Some(gain) = config.gain {
        let bounds = camera.gain_bounds().map_err(refused).context("gain: the camera has none")?;
        within(gain.get(), bounds).context("gain")?;
        camera.set_gain(gain.get()).map_err(refused).context("gain")?;
        rounded("gain", gain.get(), camera.gain().ok());
    }
    Ok(())
}

fn trigger(camera: &Camera, config: &GenicamSource) -> Result<()> {
    if camera.is_feature_available("AcquisitionMode").unwrap_or(false) {
        camera.set_acquisition_mode(AcquisitionMode::Continuous).map_err(refused).context("AcquisitionMode")?;
    }
    let source = match (config.trigger, &config.trigger_source) {
        (TriggerMode::FreeRun, _) => {
            // A camera without triggers runs freely anyway.
            if camera.is_feature_available("TriggerMode").unwrap_or(false) {
                camera.clear_triggers().map_err(refused).context("trigger: it cannot be switched off")?;
            }
            return Ok(());
        }
        (TriggerMode::Line, Some(line)) => line.as_str(),
        (TriggerMode::Line, None) => bail!("trigger_source is missing"),
        (TriggerMode::Software, _) => "Software",
    };
    let sources = camera.dup_available_trigger_sources().map_err(refused).context("trigger: the camera has none")?;
    one_of(source, &sources).context("trigger_source")?;
    camera.set_trigger(source).map_err(refused).context("trigger")?;
    if let Some(activation) = &config.trigger_activation {
        let value = FeatureValue::Text(activation.to_string());
        feature(camera, "TriggerActivation", &value).context("trigger_activation")?;
    }
    if config.trigger == TriggerMode::Software {
        let fires = camera.is_feature_available("TriggerSoftware").map_err(refused)?;
        ensure!(fires, "trigger: the camera has no command TriggerSoftware");
    }
    Ok(())
}

fn chunks(camera: &Camera, config: &GenicamSource) -> Result<()> {
    if config.chunks.is_empty() {
        return Ok(());
    }
    let appends = camera.is_feature_available("ChunkModeActive").unwrap_or(false);
    ensure!(appends, "the camera appends no data to pictures (it has no ChunkModeActive)");
    let entries = camera.dup_available_enumerations_as_strings("ChunkSelector").map_err(refused)?;
    for chunk in &config.chunks {
        one_of(chunk.as_str(), &entries)?;
    }
    let list: Vec<&str> = config.chunks.iter().map(crate::config::value::FeatureName::as_str).collect();
    camera.set_chunks(&list.join(",")).map_err(refused)?;
    for chunk in list {
        let on = camera.chunk_state(chunk).map_err(refused)?;
        ensure!(on, "the camera left {chunk} off");
    }
    Ok(())
}
