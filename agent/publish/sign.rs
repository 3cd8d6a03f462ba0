//! `inspectd model sign`: out of a bundle its release, signature and index.
//!
//! A release is a folder: `release.json`, which is signed; `release.json.minisig`; `release.index`; and `desired.json`, the
//! message that makes gateways take it up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use jiff::{SignedDuration, Timestamp};
use semver::Version;

use super::keys::{Password, secret_key};
use crate::durable;
use crate::exit::{Exit, OrExit};
use crate::model::bundle::Bundle;
use crate::model::extract::{Base, table};
use crate::update::admission::{self, Desired};
use crate::update::index::{self, Chunk, Digest};
use crate::update::release::{self, FileSpec, Order, Promotion, Release};

/// The release in a release's folder.
pub const RELEASE: &str = "release.json";
/// Its signature.
pub const SIGNATURE: &str = "release.json.minisig";
/// Its index.
pub const INDEX: &str = "release.index";
/// The message that makes gateways take it up.
pub const DESIRED: &str = "desired.json";

/// Arguments of `model sign`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the bundle.
    #[arg(long, value_name = "DIR", required_unless_present = "order_from")]
    bundle: Option<PathBuf>,
    /// In place of a bundle: gateways extract it themselves, out of this base that they have.
    #[arg(long, value_name = "BASE_DIR", conflicts_with = "bundle")]
    order_from: Option<PathBuf>,
    /// With --order-from: only these classes, names with * for any text.
    #[arg(long, value_name = "GLOB,…", value_delimiter = ',', requires = "order_from")]
    classes: Vec<String>,
    /// With --order-from: a median time a frame, on each gateway.
    #[arg(long, value_name = "N", requires = "order_from")]
    budget_ms: Option<f64>,
    /// With --order-from: this size of the base.
    #[arg(long, value_name = "NAME", requires = "order_from")]
    size: Option<String>,
    /// With --order-from: this side of the input.
    #[arg(long, value_name = "PX", requires = "order_from")]
    input: Option<u32>,
    /// The secret key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    password: Password,
    /// Larger than that of every release before, for instance the date and a number: 2026112601.
    #[arg(long, value_name = "N")]
    counter: u64,
    /// Sites that shall take it: names, in which * is any text.
    #[arg(long = "site", value_name = "NAME", default_value = "*")]
    sites: Vec<String>,
    /// Gateways of them.
    #[arg(long = "gateway", value_name = "NAME", default_value = "*")]
    gateways: Vec<String>,
    /// Processors that it is for: `x86_64`, `aarch64`; any where none is named.
    #[arg(long, value_name = "NAME")]
    hardware: Vec<String>,
    /// Not to be taken before this time, as 2026-12-24T06:00:00Z.
    #[arg(long, value_name = "TIME")]
    not_before: Option<Timestamp>,
    /// For how many days it can be taken.
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// The oldest agent that may take it.
    #[arg(long, value_name = "VERSION")]
    min_agent: Option<Version>,
    /// Only in place of this bundle: the sha256 of its bundle.json, as a gateway's state says.
    #[arg(long, value_name = "SHA256")]
    replaces: Vec<Digest>,
    /// Gateways that have taken a later release may go back to this one, for a week at most; down to this counter.
    #[arg(long, value_name = "N")]
    rollback_to: Option<u64>,
    #[command(flatten)]
    promotion: PromotionArgs,
    /// Folder for the release.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// When it becomes the active one; defaults as in `inspectd schema release`.
#[derive(clap::Args)]
struct PromotionArgs {
    /// It waits on each gateway for the command `approve`.
    #[arg(long)]
    approve: bool,
    /// Frames that it sees beside the active one first.
    #[arg(long, value_name = "N")]
    shadow_frames: Option<u32>,
    /// Least share of them that is judged as by the active one, 0 to 1.
    #[arg(long, value_name = "SHARE")]
    min_agreement: Option<f64>,
    /// Most findings that the active one does not have, on 1,000 frames.
    #[arg(long, value_name = "N")]
    max_new_findings: Option<f64>,
    /// At most so many times as slow as the active one.
    #[arg(long, value_name = "X")]
    max_slowdown: Option<f64>,
    /// Frames as the active one, after which there is no way back by itself.
    #[arg(long, value_name = "N")]
    trial_frames: Option<u32>,
}

impl PromotionArgs {
    fn promotion(&self) -> Promotion {
        let usual = Promotion::default();
        Promotion {
            approve: self.approve,
            shadow_frames: self.shadow_frames.unwrap_or(usual.shadow_frames),
            min_agreement: self.min_agreement.unwrap_or(usual.min_agreement),
            max_new_findings: self.max_new_findings.unwrap_or(usual.max_new_findings),
            max_slowdown: self.max_slowdown.unwrap_or(usual.max_slowdown),
            trial_frames: self.trial_frames.unwrap_or(usual.trial_frames),
        }
    }
}

/// Writes the release.
///
/// # Errors
/// The bundle, the key or a value cannot be used, or the folder cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let dir = args.bundle.as_ref().or(args.order_from.as_ref()).context("--bundle or --order-from is missing")?;
    let bundle = Bundle::open(dir).or_exit(Exit::Data)?;
    let order = order(args, &bundle).or_exit(Exit::Data)?;
    let contents = if order.is_some() { BTreeMap::new() } else { contents(dir, &bundle).or_exit(Exit::Data)? };
    let chunks: Vec<Chunk> = contents.values().flat_map(|bytes| index::cut(bytes)).collect();
    let index = index::encode(chunks.iter());
    let spec = |bytes: &[u8]| FileSpec { bytes: bytes.len() as u64, sha256: Digest::of(bytes) };
    let now = Timestamp::now();
    // A release that allows a rollback must say from when on, and is good for a week.
    let not_before = args.not_before.or(args.rollback_to.map(|_| now));
    let days = if args.rollback_to.is_some() { args.days.min(7) } else { args.days };
    let expires = not_before.unwrap_or(now) + SignedDuration::from_hours(i64::from(days) * 24);
    let version = Version::parse(&bundle.manifest.version)
        .with_context(|| format!("the bundle's version {} is no semantic version", bundle.manifest.version))
        .or_exit(Exit::Data)?;
    let release = Release {
        schema: release::SCHEMA.into(),
        name: bundle.manifest.name.clone(),
        version,
        counter: args.counter,
        sites: args.sites.clone(),
        gateways: args.gateways.clone(),
        hardware: args.hardware.clone(),
        not_before,
        expires,
        min_agent: args.min_agent.clone(),
        replaces: args.replaces.clone(),
        rollback_to: args.rollback_to,
        promotion: args.promotion.promotion(),
        files: contents.iter().map(|(name, bytes)| (name.clone(), spec(bytes))).collect(),
        index: order.is_none().then(|| spec(&index)),
        order,
    };
    let text = serde_json::to_string_pretty(&release)?;
    Release::read(text.as_bytes()).context("no gateway would take it").or_exit(Exit::Usage)?;
    let signature = signed(args, &release, &text).or_exit(Exit::NoInput)?;
    let desired = Desired { schema: admission::SCHEMA.into(), release: text.clone(), signature: signature.clone() };
    let write = |name: &str, bytes: &[u8]| durable::write(&args.out.join(name), bytes).or_exit(Exit::CannotCreate);
    if release.index.is_some() {
        write(INDEX, &index)?;
    }
    write(RELEASE, text.as_bytes())?;
    write(SIGNATURE, signature.as_bytes())?;
    write(DESIRED, &serde_json::to_vec(&desired)?)?;
    println!(
        "{} {} with the counter {}, {} bytes in {} chunks, good until {:.0}: {}",
        release.name,
        release.version,
        release.counter,
        release.bytes().unwrap_or_default(),
        chunks.len(),
        release.expires,
        args.out.display()
    );
    Ok(())
}

/// What gateways are to extract, if that is asked for; the base must be able to give it.
fn order(args: &Args, base: &Bundle) -> Result<Option<Order>> {
    let Some(dir) = &args.order_from else { return Ok(None) };
    let elastic = Base::open(dir)?;
    let classes = elastic.classes(&args.classes).context("--classes")?;
    table::rows(&elastic, &classes, None, args.input, args.size.as_deref())?;
    Ok(Some(Order {
        base: base.sha256.parse().map_err(anyhow::Error::msg)?,
        classes: args.classes.clone(),
        budget_ms: args.budget_ms,
        size: args.size.clone(),
        input: args.input,
    }))
}

fn signed(args: &Args, release: &Release, text: &str) -> Result<String> {
    let key = secret_key(&args.key, &args.password)?;
    let comment = format!("{} {} counter {}", release.name, release.version, release.counter);
    let signature = minisign::sign(None, &key, text.as_bytes(), Some(&comment), None);
    Ok(signature.map_err(|e| anyhow!("it cannot be signed: {e}"))?.to_string())
}

/// The bytes of all files of a bundle, by name.
///
/// # Errors
/// One cannot be read, or has changed since the bundle was opened.
pub fn contents(dir: &Path, bundle: &Bundle) -> Result<BTreeMap<String, Vec<u8>>> {
    let names = bundle.manifest.files.keys().map(String::as_str).chain(["bundle.json"]);
    let contents = names
        .map(|name| Ok((name.to_owned(), fs::read(dir.join(name)).with_context(|| format!("cannot read {name}"))?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    let manifest = contents.get("bundle.json").map(|bytes| Digest::of(bytes).to_string());
    ensure!(manifest.as_ref() == Some(&bundle.sha256), "the bundle changes while it is read");
    Ok(contents)
}
