//! Brings a device to its configured format, rate and controls, or says what it offers instead. Pure but for the device,
//! which is a trait so that tests can be one.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use tracing::warn;

use super::pixels::KNOWN;
use crate::config::V4l2Source;
use crate::config::value::Side;

/// What a device sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// Four letters.
    pub fourcc: [u8; 4],
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from one row to the next, 0 where it does not say.
    pub stride: u32,
}

/// A format that a device offers, with its sizes and their rates in words.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Four letters.
    pub fourcc: [u8; 4],
    /// For instance `1280x720 (30, 15)`.
    pub sizes: Vec<String>,
}

/// How a control is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// On or off.
    Switch,
    /// One of some numbered items.
    Menu,
    /// A number.
    Number,
    /// Only to be read, a button, a text.
    Fixed,
}

/// A control of a device.
#[derive(Debug, Clone)]
pub struct Control {
    /// The kernel's number.
    pub id: u32,
    /// The driver's words, for instance `Exposure Time, Absolute`.
    pub name: String,
    /// How it is set.
    pub kind: Kind,
    /// Least value.
    pub low: i64,
    /// Largest value.
    pub high: i64,
    /// Between two values.
    pub step: u64,
    /// Of a menu: numbers and names.
    pub items: Vec<(i64, String)>,
}

/// What is asked of a device.
pub trait Device {
    /// The format now.
    fn format(&self) -> std::io::Result<Format>;
    /// Asks for a format; gives what the driver made of it.
    fn set_format(&mut self, format: &Format) -> std::io::Result<Format>;
    /// Asks for a rate; gives what the driver made of it.
    fn set_rate(&mut self, fps: f64) -> std::io::Result<f64>;
    /// Formats, sizes and rates.
    fn offers(&self) -> Vec<Offer>;
    /// All controls.
    fn controls(&self) -> std::io::Result<Vec<Control>>;
    /// Sets a control.
    fn set(&mut self, control: &Control, value: i64) -> std::io::Result<()>;
}

/// Brings a device to what is configured.
///
/// # Errors
/// What is not offered, and what is.
pub fn apply(device: &mut impl Device, config: &V4l2Source) -> Result<Format> {
    let format = format(device, config)?;
    if let Some(fps) = config.fps {
        let got = device.set_rate(fps.get()).context("its rate cannot be set: leave `fps` out")?;
        if (got - fps.get()).abs() > fps.get() * 0.01 {
            warn!("the camera gives {got} pictures a second, not {}; it offers: {}", fps.get(), offered(device));
        }
    }
    controls(device, &config.controls)?;
    Ok(format)
}

fn format(device: &mut impl Device, config: &V4l2Source) -> Result<Format> {
    let now =
        device.format().context("it tells no format: is it a camera? (of its devices, the one that ends in index0)")?;
    let wanted = config.format.as_ref().and_then(|f| <[u8; 4]>::try_from(f.as_str().as_bytes()).ok());
    // What can be decoded: the format that it has, else the best that it offers.
    let usual = || {
        let offers = device.offers();
        let known = KNOWN.into_iter().find(|known| offers.iter().any(|offer| offer.fourcc == *known));
        if KNOWN.contains(&now.fourcc) { now.fourcc } else { known.unwrap_or(now.fourcc) }
    };
    let fourcc = wanted.unwrap_or_else(usual);
    let width = config.width.map_or(now.width, Side::get);
    let height = config.height.map_or(now.height, Side::get);
    let asked = Format { fourcc, width, height, stride: 0 };
    let got = device.set_format(&asked).context("its format cannot be set: does another program use it?")?;
    if (got.fourcc, got.width, got.height) != (fourcc, width, height) {
        bail!("it does not offer {}, but would give {}; it offers: {}", words(&asked), words(&got), offered(device));
    }
    if !KNOWN.contains(&got.fourcc) {
        let known = KNOWN.map(letters).join(", ");
        bail!("its format {} cannot be decoded, only {known}; it offers: {}", letters(got.fourcc), offered(device));
    }
    Ok(got)
}

fn controls(device: &mut impl Device, wanted: &BTreeMap<String, i64>) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let known = device.controls().context("it tells no controls: leave `controls` out")?;
    let mut chosen = Vec::new();
    for (name, value) in wanted {
        let Some(control) = known.iter().find(|c| variable(&c.name) == variable(name)) else {
            let names: Vec<String> = known.iter().filter(|c| c.kind != Kind::Fixed).map(describe).collect();
            bail!("it has no control `{name}`; there are: {}", names.join(", "));
        };
        let fits = (control.low..=control.high).contains(value)
            && value.abs_diff(control.low).checked_rem(control.step).unwrap_or(0) == 0
            && (control.items.is_empty() || control.items.iter().any(|(n, _)| n == value));
        if control.kind == Kind::Fixed {
            bail!("its control `{name}` cannot be set");
        }
        if !fits {
            bail!("{value} is out of range for its control {}", describe(control));
        }
        chosen.push((control, *value));
    }
    // Switches and menus first: most numbers can only be set while the automatism for them is off.
    chosen.sort_by_key(|(control, _)| control.kind);
    for (control, value) in chosen {
        device.set(control, value).with_context(|| {
            format!(
                "its control `{}` cannot be set to {value}: is an automatism for it still on?",
                variable(&control.name)
            )
        })?;
    }
    Ok(())
}

/// The name as `v4l2-ctl` prints it: letters and digits in lower case, anything else between them as one `_`.
fn variable(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("_")
}

fn describe(control: &Control) -> String {
    let range = if control.items.is_empty() {
        let step = if control.step > 1 { format!(" in steps of {}", control.step) } else { String::new() };
        format!("{} to {}{step}", control.low, control.high)
    } else {
        control.items.iter().map(|(n, name)| format!("{n}: {name}")).collect::<Vec<_>>().join(", ")
    };
    format!("`{}` ({range})", variable(&control.name))
}

fn letters(fourcc: [u8; 4]) -> String {
    String::from_utf8_lossy(&fourcc).trim_end().to_owned()
}

fn words(format: &Format) -> String {
    format!("{}x{} {}", format.width, format.height, letters(format.fourcc))
}

fn offered(device: &impl Device) -> String {
    let offers = device.offers();
    let all = offers.iter().map(|offer| format!("{} {}", letters(offer.fourcc), offer.sizes.join(", ")));
    all.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::{FourCc, Rate, Seconds};
    use std::cell::RefCell;
    use std::io::{Error, Result as Answer};

    /// A usual USB camera.
    #[derive(Default)]
    struct Fake {
        set: RefCell<Vec<(String, i64)>>,
    }

    impl Device for Fake {
        fn format(&self) -> Answer<Format> {
            Ok(Format { fourcc: *b"H264", width: 640, height: 480, stride: 0 })
        }
        fn set_format(&mut self, format: &Format) -> Answer<Format> {
            let fits = [(640, 480), (1280, 720)].contains(&(format.width, format.height));
            Ok(if fits { format.clone() } else { Format { fourcc: *b"YUYV", width: 640, height: 480, stride: 1280 } })
        }
        fn set_rate(&mut self, fps: f64) -> Answer<f64> {
            Ok(fps.min(30.0))
        }
        fn offers(&self) -> Vec<Offer> {
            let sizes = vec!["640x480 (30, 15)".into(), "1280x720 (30)".into()];
            [b"H264", b"MJPG", b"YUYV"].map(|fourcc| Offer { fourcc: *fourcc, sizes: sizes.clone() }).into()
        }
        fn controls(&self) -> Answer<Vec<Control>> {
            let control = |id, name: &str, kind, low, high, step| Control {
                id,
                name: name.into(),
                kind,
                low,
                high,
                step,
                items: Vec::new(),
            };
            let menu = vec![(1, "Manual Mode".into()), (3, "Aperture Priority Mode".into())];
            Ok(vec![
                control(1, "Brightness", Kind::Number, -64, 64, 1),
                control(2, "Exposure Time, Absolute", Kind::Number, 5, 2500, 5),
                Control { items: menu, ..control(3, "Exposure, Auto", Kind::Menu, 0, 3, 1) },
                control(4, "White Balance, Automatic", Kind::Switch, 0, 1, 1),
                control(5, "Firmware", Kind::Fixed, 0, 0, 0),
            ])
        }
        fn set(&mut self, control: &Control, value: i64) -> Answer<()> {
            let mut set = self.set.borrow_mut();
            if control.id == 2 && !set.iter().any(|(name, value)| name == "exposure_auto" && *value == 1) {
                return Err(Error::from_raw_os_error(13));
            }
            set.push((variable(&control.name), value));
            Ok(())
        }
    }

    fn config(controls: &[(&str, i64)]) -> V4l2Source {
        V4l2Source {
            device: "/dev/video0".into(),
            width: None,
            height: None,
            format: None,
            fps: Some(Rate::of(30.0)),
            controls: controls.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            read_timeout_s: Seconds::of(5.0),
        }
    }

    fn refused(config: &V4l2Source) -> String {
        let text = format!("{:#}", apply(&mut Fake::default(), config).unwrap_err());
        println!("{text}");
        text
    }

    #[test]
    fn takes_the_best_format_that_can_be_decoded_where_none_is_given() {
        let got = apply(&mut Fake::default(), &config(&[])).unwrap();
        assert_eq!((&got.fourcc, got.width, got.height), (b"YUYV", 640, 480));
    }

    #[test]
    fn says_what_is_offered_instead() {
        let mut wrong = config(&[]);
        (wrong.width, wrong.height) = (Some(Side::of(1920)), Some(Side::of(1080)));
        wrong.format = Some(FourCc::new("MJPG").unwrap());
        let found = refused(&wrong);
        assert!(found.contains("does not offer 1920x1080 MJPG, but would give 640x480 YUYV"), "{found}");
        assert!(found.contains("MJPG 640x480 (30, 15), 1280x720 (30); YUYV"), "{found}");
        let mut unknown = config(&[]);
        unknown.format = Some(FourCc::new("H264").unwrap());
        assert!(refused(&unknown).contains("H264 cannot be decoded, only"));
    }

    #[test]
    fn controls_by_the_names_of_v4l2_ctl_switches_before_numbers() {
        let mut device = Fake::default();
        let wanted = [("exposure_time_absolute", 155), ("exposure_auto", 1), ("white_balance_automatic", 0)];
        apply(&mut device, &config(&wanted)).unwrap();
        let order = ["white_balance_automatic", "exposure_auto", "exposure_time_absolute"];
        assert_eq!(device.set.borrow().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), order);
    }

    #[test]
    fn a_control_that_cannot_be_set_is_named_with_what_is_right() {
        let unknown = refused(&config(&[("brigtness", 1)]));
        assert!(unknown.contains("no control `brigtness`; there are: `brightness` (-64 to 64), "), "{unknown}");
        assert!(unknown.contains("`exposure_auto` (1: Manual Mode, 3: Aperture Priority Mode)"), "{unknown}");
        assert!(!unknown.contains("firmware"), "{unknown}");
        for (control, words) in [
            (("brightness", 65), "65 is out of range for its control `brightness` (-64 to 64)"),
            (("exposure_time_absolute", 156), "(5 to 2500 in steps of 5)"),
            (("exposure_auto", 2), "(1: Manual Mode, 3: "),
            (("exposure_time_absolute", 155), "is an automatism for it still on?"),
            (("firmware", 0), "cannot be set"),
        ] {
            let found = refused(&config(&[control]));
            assert!(found.contains(words), "{found}");
        }
    }
}
