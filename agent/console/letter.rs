//! What comes over MQTT, read with distrust. Pure.
//!
//! Guarantees: what is taken fits the contract, is about the gateway whose topic it came on, and is bounded in size; a picture is a
//! JPEG of the hash that it is called by. Text is not cleaned: it is data, and whoever shows it shows it as text.

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::store::Item;
use crate::config::Name;
use crate::mqtt::payload::{Alarm, AlarmBody, AlarmEvent, CameraState, GatewayState, Reply};
use crate::update::reported::Reported;

/// What is subscribed to.
pub const FILTERS: [&str; 7] =
    ["events", "images/+", "replies/+", "alarms/+", "state", "cameras/+/state", "model/reported"];
/// Bytes of a picture, and of everything else.
const LARGEST: (usize, usize) = (8 << 20, 64 << 10);
/// Numbers up to this are exact in JSON. No gateway comes so far.
const HIGHEST: u64 = 1 << 53;
/// A gateway's clock that is before this was never set.
const FIRST: Timestamp = Timestamp::constant(946_684_800, 0); // 2000-01-01
/// Letters of a class, and of what is said.
const LETTERS: (usize, usize) = (200, 4000);

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The site.
    pub site: String,
    /// The gateway.
    pub gateway: String,
}

/// What came.
#[derive(Debug)]
pub enum Letter {
    /// To be kept.
    Kept(Item),
    /// A gateway's state; none where it is gone.
    Gateway(Address, Option<Box<GatewayState>>),
    /// A camera's state; none where the camera is gone.
    Camera(Address, String, Option<Box<CameraState>>),
    /// How far an update is.
    Model(Address, Option<Box<Reported>>),
    /// Nothing that concerns us.
    Nothing,
}

/// Reads a message.
///
/// # Errors
/// What is wrong with it.
pub fn read(topic: &str, payload: Vec<u8>, retained: bool) -> Result<Letter> {
    let mut levels = topic.split('/');
    ensure!((levels.next(), levels.next()) == (Some("inspect"), Some("v1")), "it is no topic of ours");
    let mut name = |what: &str| -> Result<String> {
        let name = levels.next().context("its topic is cut off")?;
        Ok(Name::new(name).map_err(anyhow::Error::msg).with_context(|| format!("the {what} in its topic"))?.to_string())
    };
    let address = Address { site: name("site")?, gateway: name("gateway")? };
    let rest: Vec<&str> = levels.collect();
    let most = if rest.first() == Some(&"images") { LARGEST.0 } else { LARGEST.1 };
    ensure!(payload.len() <= most, "it has {} bytes, {most} are taken", payload.len());
    Ok(match rest[..] {
        ["events"] => {
            let event: AlarmEvent = serde_json::from_slice(&payload).context("it is no alarm event")?;
            ensure!((&event.site, &event.gateway) == (&address.site, &address.gateway), "it is of another gateway");
            ensure!(event.seq <= HIGHEST, "its number is too large");
            ensure!(event.at >= FIRST, "its time is before 2000: the gateway's clock is not set");
            body(&event.body)?;
            Letter::Kept(Item::Event(Box::new(event)))
        }
        ["alarms", id] if payload.is_empty() => Letter::Kept(Item::Gone(address, id.to_owned())),
        ["alarms", id] => {
            let alarm: Alarm = serde_json::from_slice(&payload).context("it is no alarm")?;
            ensure!(alarm.body.alarm.to_string() == id, "it is another alarm than its topic says");
            body(&alarm.body)?;
            let Address { site, gateway } = address;
            Letter::Kept(Item::Alarm { site, gateway, alarm: Box::new(alarm), retained })
        }
        ["images", hash] => {
            ensure!(is_hash(hash), "its name is no hash");
            ensure!(payload.starts_with(&[0xff, 0xd8, 0xff]), "it is no JPEG");
            ensure!(hex::encode(Sha256::digest(&payload)) == hash, "it is not what its name says");
            Letter::Kept(Item::Image { sha256: hash.to_owned(), bytes: payload })
        }
        ["replies", id] => {
            let reply: Reply = serde_json::from_slice(&payload).context("it is no reply")?;
            ensure!(reply.id == id, "it is a reply to another command than its topic says");
            Letter::Kept(Item::Reply(address, Box::new(reply)))
        }
        ["state"] => {
            let state = (!payload.is_empty()).then(|| serde_json::from_slice(&payload)).transpose();
            Letter::Gateway(address, state.context("it is no state of a gateway")?)
        }
        ["cameras", camera, "state"] => {
            let camera = Name::new(camera).map_err(anyhow::Error::msg).context("the camera in its topic")?;
            let state = (!payload.is_empty()).then(|| serde_json::from_slice(&payload)).transpose();
            Letter::Camera(address, camera.to_string(), state.context("it is no state of a camera")?)
        }
        ["model", "reported"] => {
            let reported = (!payload.is_empty()).then(|| serde_json::from_slice(&payload)).transpose();
            Letter::Model(address, reported.context("it says nothing about an update")?)
        }
        _ => Letter::Nothing,
    })
}

fn body(body: &AlarmBody) -> Result<()> {
    Name::new(&body.camera).map_err(anyhow::Error::msg).context("its camera")?;
    ensure!(!body.class.is_empty() && body.class.chars().count() <= LETTERS.0, "its class has no or too many letters");
    let said = [&body.by, &body.comment, &body.reason];
    ensure!(said.into_iter().flatten().all(|text| text.chars().count() <= LETTERS.1), "what it says is too long");
    ensure!(body.score.is_finite() && body.bbox.iter().all(|v| v.is_finite()), "its score or box is no number");
    if body.image.as_deref().is_some_and(|image| !is_hash(image)) {
        bail!("its picture's name is no hash");
    }
    Ok(())
}

/// Whether this is a SHA-256 as it is written.
#[must_use]
pub fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn event(change: Value) -> Vec<u8> {
        let mut event = json!({
            "schema": "inspect.event/1", "id": "0190a000-0000-7000-8000-000000000001", "seq": 3, "at": "2026-11-26T10:00:00Z",
            "site": "plant", "gateway": "gw", "alarm": "0190a000-0000-7000-8000-000000000002", "transition": "raised",
            "state": "unacknowledged", "kind": "defect", "class": "<script>alert(1)</script>", "severity": "major", "score": 0.9,
            "camera": "line", "box": [1, 2, 3, 4], "frame": { "seq": 1, "captured_at": "2026-11-26T10:00:00Z", "width": 6, "height": 4 },
            "image": null, "model": { "name": "m", "version": "1.0.0", "sha256": "00" }, "replayed": false, "later": "ignored",
        });
        if let (Value::Object(event), Value::Object(change)) = (&mut event, change) {
            event.extend(change);
        }
        event.to_string().into_bytes()
    }

    #[test]
    fn what_fits_is_taken_and_markup_is_text() {
        let Letter::Kept(Item::Event(event)) = read("inspect/v1/plant/gw/events", event(json!({})), false).unwrap()
        else {
            panic!()
        };
        assert_eq!((event.seq, event.body.class.as_str()), (3, "<script>alert(1)</script>"));
        let jpeg = b"\xff\xd8\xff\xe0picture".to_vec();
        let hash = hex::encode(Sha256::digest(&jpeg));
        assert!(matches!(
            read(&format!("inspect/v1/plant/gw/images/{hash}"), jpeg, false).unwrap(),
            Letter::Kept(Item::Image { .. })
        ));
    }

    #[test]
    fn what_does_not_is_refused_with_its_reason() {
        let png = b"\x89PNG".to_vec();
        let hash = hex::encode(Sha256::digest(&png));
        let long = "x".repeat(5000);
        for (topic, payload, reason) in [
            ("inspect/v1/plant/gw/events", b"{}".to_vec(), "no alarm event"),
            ("inspect/v1/plant/other/events", event(json!({})), "of another gateway"),
            ("inspect/v1/pl ant/gw/events", event(json!({})), "the site in its topic"),
            ("inspect/v1/plant/gw/events", event(json!({ "camera": "../../etc" })), "its camera"),
            ("inspect/v1/plant/gw/events", event(json!({ "class": "" })), "its class"),
            ("inspect/v1/plant/gw/events", event(json!({ "comment": long })), "too long"),
            ("inspect/v1/plant/gw/events", event(json!({ "image": "../x" })), "no hash"),
            ("inspect/v1/plant/gw/events", event(json!({ "seq": u64::MAX })), "too large"),
            ("inspect/v1/plant/gw/events", event(json!({ "at": "1970-01-01T00:00:09Z" })), "clock is not set"),
            ("inspect/v1/plant/gw/events", vec![b' '; 70 << 10], "are taken"),
            ("inspect/v1/plant/gw/images/../../x", b"\xff\xd8\xff".to_vec(), ""),
            ("inspect/v1/plant/gw/images/abc", b"\xff\xd8\xff".to_vec(), "no hash"),
            (&format!("inspect/v1/plant/gw/images/{hash}"), png.clone(), "no JPEG"),
            (&format!("inspect/v1/plant/gw/images/{hash}"), b"\xff\xd8\xffother".to_vec(), "not what its name says"),
            ("inspect/v1/plant/gw/alarms/other", b"{}".to_vec(), "no alarm"),
            ("inspect/v1/plant/gw/replies/x", b"[]".to_vec(), "no reply"),
            ("inspect/v1/plant/gw/cameras/a b/state", b"{}".to_vec(), "the camera"),
        ] {
            match read(topic, payload, false) {
                Err(e) => assert!(format!("{e:#}").contains(reason), "{topic}: {e:#}"),
                Ok(Letter::Nothing) => assert!(reason.is_empty(), "{topic}"),
                Ok(letter) => panic!("{topic}: {letter:?}"),
            }
        }
    }

    proptest::proptest! {
        /// Whatever comes, nothing panics.
        #[test]
        fn anything_may_come(topic in "(inspect/v1/)?[a-z/+#]{0,40}", payload in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = read(&topic, payload, false);
        }
    }
}
