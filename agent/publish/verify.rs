//! `inspectd model verify`: a release by its signature, and a bundle by its release.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::keys::public_key;
use super::sign::{INDEX, RELEASE, SIGNATURE, contents};
use crate::exit::{Exit, OrExit};
use crate::model::bundle::Bundle;
use crate::update::index::{self, Digest};
use crate::update::release::{self, Release};
use crate::update::trust::Keyring;

/// Arguments of `model verify`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the release.
    #[arg(value_name = "DIR")]
    release: PathBuf,
    /// Public keys that are trusted.
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// Folder of a bundle that must be the one that was signed.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
}

/// Verifies, and prints what was signed.
///
/// # Errors
/// The signature does not hold, or the index or the bundle is not the one that was signed.
pub fn run(args: &Args) -> Result<()> {
    let keys = args.keys.iter().map(|path| public_key(path)).collect::<Result<_>>().or_exit(Exit::NoInput)?;
    let path = args.release.join(RELEASE);
    let length =
        fs::metadata(&path).with_context(|| format!("cannot read {}", path.display())).or_exit(Exit::NoInput)?.len();
    let read = |name: &str| fs::read(args.release.join(name)).with_context(|| format!("cannot read {name}"));
    let verified = || -> Result<(Release, String)> {
        ensure!(length <= release::MAX_BYTES as u64, "{} has {length} bytes, too many", path.display());
        let text = read(RELEASE)?;
        let signature = String::from_utf8(read(SIGNATURE)?).context("the signature is no text")?;
        let signer = Keyring::new(keys, Vec::new()).verify(&text, &signature)?;
        let release = Release::read(&text)?;
        let Some(spec) = release.index else { return Ok((release, signer.to_string())) };
        let index = read(INDEX)?;
        ensure!(Digest::of(&index) == spec.sha256, "{INDEX} is not the one that was signed");
        let recipes = index::decode(&release, &index)?;
        if let Some(dir) = &args.bundle {
            let files = contents(dir, &Bundle::open(dir)?)?;
            ensure!(files.keys().eq(release.files.keys()), "the bundle has other files than the one that was signed");
            for (name, chunks) in &recipes {
                let bytes = &files[name];
                ensure!(Digest::of(bytes) == release.files[name].sha256, "{name} is not the one that was signed");
                ensure!(*chunks == index::cut(bytes), "{name} is cut otherwise than the index says");
            }
        }
        Ok((release, signer.to_string()))
    };
    let (release, signer) = verified().or_exit(Exit::Data)?;
    println!(
        "{} {}, counter {}, signed by {signer}, good until {:.0}, for {}/{}",
        release.name,
        release.version,
        release.counter,
        release.expires,
        release.sites.join(","),
        release.gateways.join(",")
    );
    Ok(())
}
