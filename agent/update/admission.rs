//! Whether a gateway takes a release, before a byte of its content is asked for. Pure.
//!
//! In this order: size, signature, form, for whom, when, the floor, what it replaces, room. The first that fails is the reason. The
//! floor is the largest counter that was ever taken; nothing older is taken again, unless a release that is signed and short-lived
//! says so.

use anyhow::{Context, Result, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::index::{self, Digest};
use super::release::{self, Release};
use super::trust::{self, KeyId, Keyring};
use crate::glob::glob;

/// What stands in `schema` of [`Desired`].
pub const SCHEMA: &str = "inspect.desired/1";
/// No message that says what is wanted is longer: release and signature as JSON strings, with every letter escaped at worst.
pub const MAX_BYTES: usize = 6 * (release::MAX_BYTES + trust::MAX_SIGNATURE) + 1024;
/// A clock before this was never set: it is earlier than this agent.
const FIRST: Timestamp = Timestamp::constant(1_767_225_600, 0); // 2026-01-01
/// So long a release is good that allows a smaller counter than the floor.
const ROLLBACK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// `…/model/desired`, retained: what a gateway or a site shall take up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// `inspect.desired/1`
    #[schemars(extend("const" = "inspect.desired/1"))]
    pub schema: String,
    /// The release (`inspect.release/1`), as the text that was signed.
    pub release: String,
    /// Its signature, as the text of minisign's file.
    pub signature: String,
}

/// What a gateway knows of itself.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// Its site.
    pub site: String,
    /// Its name.
    pub gateway: String,
    /// Its processor.
    pub hardware: String,
    /// Its agent.
    pub agent: Version,
    /// What its clock says.
    pub now: Timestamp,
    /// What it has taken so far.
    pub floor: Floor,
    /// The bundle that is active, by the hash of its manifest.
    pub active: Option<Digest>,
    /// The largest bundle that is allowed.
    pub max_bytes: u64,
    /// Bytes free on its disk, and of all.
    pub disk: (u64, u64),
    /// Share of the disk that stays free.
    pub keep_free: f64,
}

/// What was taken so far; it outlives slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The largest counter.
    pub counter: u64,
    /// A clock that says less goes wrong: the latest `not_before` that was taken.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// The release that was taken last, which may be taken again where its slot was damaged.
    #[serde(default)]
    pub last: Option<Digest>,
}

impl Floor {
    /// The floor once this release was taken. It never sinks, not by a rollback either.
    #[must_use]
    pub fn raised(self, release: &Release, sha256: Digest) -> Self {
        Self {
            counter: self.counter.max(release.counter),
            not_before: self.not_before.max(release.not_before),
            last: Some(sha256),
        }
    }
}

/// A release that is signed.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted {
    /// The message.
    pub desired: Desired,
    /// What it says.
    pub release: Release,
    /// The hash of its text.
    pub sha256: Digest,
    /// Who has signed it.
    pub signer: KeyId,
}

/// Reads a message that says what is wanted: size, signature, form.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(message: &[u8], keys: &Keyring) -> Result<Admitted> {
    ensure!(message.len() <= MAX_BYTES, "what is wanted has {} bytes, {MAX_BYTES} are allowed", message.len());
    let mut json = serde_json::Deserializer::from_slice(message);
    let desired: Desired = serde_path_to_error::deserialize(&mut json).context("it does not say what is wanted")?;
    json.end().context("there is more after it")?;
    ensure!(desired.schema == SCHEMA, "it is of the kind {:?}, not {SCHEMA}", desired.schema);
    let text = desired.release.as_bytes();
    ensure!(
        text.len() <= release::MAX_BYTES,
        "a release may have {} bytes; this one has {}",
        release::MAX_BYTES,
        text.len()
    );
    let signer = keys.verify(text, &desired.signature)?;
    Ok(Admitted { release: Release::read(text)?, sha256: Digest::of(text), signer, desired })
}

/// Whether what was read is wanted here and now.
///
/// # Errors
/// Why not, in words.
pub fn decide(admitted: &Admitted, here: &Circumstances) -> Result<()> {
    let release = &admitted.release;
    still_good(admitted, here)?;
    if let Some(active) = here.active {
        ensure!(
            release.replaces.is_empty() || release.replaces.contains(&active) || release.bundle() == Some(active),
            "it does not replace the bundle that is active here, {active}"
        );
    }
    room(release, here)
}

/// Whether what was let in before would be so again: for whom, when, and the floor.
///
/// # Errors
/// Why not, in words.
pub fn still_good(admitted: &Admitted, here: &Circumstances) -> Result<()> {
    wanted(&admitted.release, here)?;
    timely(&admitted.release, here)?;
    newer(admitted, here.floor)
}

/// Both.
///
/// # Errors
/// Why it is not taken, in words.
pub fn admit(message: &[u8], keys: &Keyring, here: &Circumstances) -> Result<Admitted> {
    let admitted = read(message, keys)?;
    decide(&admitted, here)?;
    Ok(admitted)
}

fn wanted(release: &Release, here: &Circumstances) -> Result<()> {
    let matches = |patterns: &[String], name: &str| patterns.iter().any(|pattern| glob(pattern, name));
    ensure!(
        matches(&release.sites, &here.site),
        "it is for the sites {}, not for {}",
        release.sites.join(", "),
        here.site
    );
    ensure!(
        matches(&release.gateways, &here.gateway),
        "it is for the gateways {}, not for {}",
        release.gateways.join(", "),
        here.gateway
    );
    ensure!(
        release.hardware.is_empty() || release.hardware.contains(&here.hardware),
        "it is for {}, this is {}",
        release.hardware.join(", "),
        here.hardware
    );
    if let Some(least) = &release.min_agent {
        ensure!(here.agent >= *least, "it needs inspectd {least} or later, this is {}", here.agent);
    }
    Ok(())
}

fn timely(release: &Release, here: &Circumstances) -> Result<()> {
    let now = here.now;
    let known = here.floor.not_before.map_or(FIRST, |known| known.max(FIRST));
    ensure!(
        now >= known,
        "this gateway's clock says {now:.0}, which is before {known:.0}: it must be set before anything is taken"
    );
    if let Some(from) = release.not_before {
        ensure!(now >= from, "it is not to be taken before {from:.0}; this gateway's clock says {now:.0}");
    }
    ensure!(now < release.expires, "it has expired at {:.0}; this gateway's clock says {now:.0}", release.expires);
    Ok(())
}

fn newer(admitted: &Admitted, floor: Floor) -> Result<()> {
    let release = &admitted.release;
    if release.counter > floor.counter || floor.last == Some(admitted.sha256) {
        return Ok(());
    }
    ensure!(
        release.counter < floor.counter || release.rollback_to.is_some(),
        "its counter {} was taken already, by another release",
        release.counter
    );
    let Some(lowest) = release.rollback_to else {
        bail!("its counter {} is older than {}, which was taken already", release.counter, floor.counter);
    };
    ensure!(release.counter >= lowest, "it allows a rollback to the counter {lowest} only, and is {}", release.counter);
    let short = release.not_before.is_some_and(|from| release.expires.duration_since(from) <= ROLLBACK);
    ensure!(short, "it allows a rollback, and must then have a not_before and expire within a week of it");
    Ok(())
}

fn room(release: &Release, here: &Circumstances) -> Result<()> {
    let bytes = release.bytes().context("its sizes are too large to add up")?;
    let index = release.index.map_or(0, |index| index.bytes);
    ensure!(
        bytes <= here.max_bytes,
        "its files have {bytes} bytes, {} are allowed (update.max_bundle_mib)",
        here.max_bytes
    );
    ensure!(index <= index::largest(release), "its index has {index} bytes, more than its files can need");
    // Chunks and the files that are made of them, at the same time.
    let needed = bytes.saturating_mul(2).saturating_add(index);
    let (free, all) = here.disk;
    let kept = (all as f64 * here.keep_free) as u64;
    ensure!(
        free.saturating_sub(needed) >= kept,
        "it needs {needed} bytes of the disk, where {free} are free and {kept} are to stay so"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::release::tests::sample;
    use crate::update::trust::tests::{pair, sign};
    use minisign::KeyPair;

    type Change = fn(&mut Release, &mut Circumstances);

    fn here() -> Circumstances {
        Circumstances {
            site: "plant-1".into(),
            gateway: "gw-1".into(),
            hardware: "x86_64".into(),
            agent: Version::new(0, 1, 0),
            now: "2027-01-01T00:00:00Z".parse().unwrap(),
            floor: Floor { counter: 6, ..Floor::default() },
            active: None,
            max_bytes: 1 << 20,
            disk: (1 << 30, 10 << 30),
            keep_free: 0.05,
        }
    }

    fn message(pair: &KeyPair, release: &Release) -> Vec<u8> {
        let text = serde_json::to_string(release).unwrap();
        let signature = sign(pair, text.as_bytes());
        serde_json::to_vec(&Desired { schema: SCHEMA.into(), release: text, signature }).unwrap()
    }

    #[test]
    fn what_is_signed_and_wanted_is_taken_and_all_else_is_refused_with_its_reason() {
        let pair = pair();
        let keys = Keyring::new(vec![pair.pk.clone()], Vec::new());
        let admitted = admit(&message(&pair, &sample()), &keys, &here()).unwrap();
        assert_eq!(admitted.release, sample());
        let cases: [(Change, &str); 17] = [
            (|r, _| r.sites = vec!["other".into()], "it is for the sites other, not for plant-1"),
            (|r, _| r.gateways = vec!["gw-2".into()], "it is for the gateways gw-2"),
            (|r, _| r.hardware = vec!["aarch64".into()], "it is for aarch64, this is x86_64"),
            (|r, _| r.min_agent = Some(Version::new(9, 0, 0)), "it needs inspectd 9.0.0"),
            (|_, h| h.now = Timestamp::UNIX_EPOCH, "clock says 1970-01-01T00:00:00Z, which is before 2026"),
            (|_, h| h.now = "2099-01-01T00:00:00Z".parse().unwrap(), "it has expired at 2030-01-01T00:00:00Z; this"),
            (|r, _| r.not_before = Some("2028-01-01T00:00:00Z".parse().unwrap()), "not to be taken before 2028"),
            (|_, h| h.floor.not_before = Some("2028-01-01T00:00:00Z".parse().unwrap()), "which is before 2028"),
            (|_, h| h.floor.counter = 8, "its counter 7 is older than 8"),
            (|_, h| h.floor.counter = 7, "its counter 7 was taken already, by another release"),
            (|r, _| (r.counter, r.rollback_to) = (4, Some(5)), "a rollback to the counter 5 only"),
            (|r, _| (r.counter, r.rollback_to) = (5, Some(5)), "must then have a not_before"),
            (|r, _| (r.counter, r.rollback_to, r.not_before) = (5, Some(5), Some(FIRST)), "expire within a week"),
            (|r, h| (r.replaces, h.active) = (vec![Digest::of(b"a")], Some(Digest::of(b"b"))), "does not replace"),
            (|r, _| r.files.get_mut("model.onnx").unwrap().bytes = 1 << 63, "update.max_bundle_mib"),
            (|r, _| r.index.as_mut().unwrap().bytes = 1 << 63, "its index has"),
            (|_, h| h.disk.0 = h.disk.1 / 20, "are to stay so"),
        ];
        for (change, reason) in cases {
            let (mut release, mut here) = (sample(), here());
            change(&mut release, &mut here);
            let error = format!("{:#}", admit(&message(&pair, &release), &keys, &here).unwrap_err());
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }

    #[test]
    fn a_signed_release_may_allow_a_rollback_for_a_week() {
        let pair = pair();
        let keys = Keyring::new(vec![pair.pk.clone()], Vec::new());
        let mut release = sample();
        (release.counter, release.rollback_to) = (5, Some(5));
        release.not_before = Some("2026-12-30T00:00:00Z".parse().unwrap());
        release.expires = "2027-01-05T00:00:00Z".parse().unwrap();
        let admitted = admit(&message(&pair, &release), &keys, &here()).unwrap();
        let floor = here().floor.raised(&admitted.release, admitted.sha256);
        assert_eq!((floor.counter, floor.not_before), (6, release.not_before), "it does not sink");
        // What was rolled back cannot be played again; what it was rolled back to may be repaired.
        let after = Circumstances { floor, ..here() };
        let rolled_back = message(&pair, &Release { counter: 6, ..sample() });
        assert!(admit(&rolled_back, &keys, &after).is_err());
        assert!(admit(&message(&pair, &release), &keys, &after).is_ok());
        let later = Circumstances { now: "2027-02-01T00:00:00Z".parse().unwrap(), ..here() };
        assert!(admit(&message(&pair, &release), &keys, &later).is_err(), "it cannot be used again later");
    }

    #[test]
    fn older_releases_that_are_played_again_are_refused() {
        let pair = pair();
        let keys = Keyring::new(vec![pair.pk.clone()], Vec::new());
        let mut floor = Floor::default();
        let mut sent = Vec::new();
        for counter in 1..=51 {
            let release = Release { counter, ..sample() };
            let message = message(&pair, &release);
            let admitted = admit(&message, &keys, &Circumstances { floor, ..here() }).unwrap();
            floor = floor.raised(&admitted.release, admitted.sha256);
            sent.push(message);
        }
        sent.pop();
        assert!(sent.iter().all(|message| admit(message, &keys, &Circumstances { floor, ..here() }).is_err()));
    }

    #[test]
    fn a_message_of_which_any_byte_was_changed_is_refused() {
        let pair = pair();
        let keys = Keyring::new(vec![pair.pk.clone()], Vec::new());
        let good = message(&pair, &sample());
        let text = String::from_utf8(good.clone()).unwrap();
        let release = text.find("\"release\":\"").unwrap() + 11..text.find("\",\"signature\"").unwrap();
        for at in release {
            for value in [good[at] ^ 1, good[at] ^ 0x20, b' ', b'"', 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                assert!(value == good[at] || admit(&bad, &keys, &here()).is_err(), "byte {at} as {value}");
            }
        }
        for end in (0..good.len()).step_by(7) {
            assert!(admit(&good[..end], &keys, &here()).is_err());
        }
        assert!(admit(&vec![b' '; MAX_BYTES + 1], &keys, &here()).is_err());
    }
}
