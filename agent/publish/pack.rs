//! `inspectd model pack`: a release and its bundle in one file, to be uploaded to the console.

use std::io::BufWriter;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::load::Load;
use crate::durable;
use crate::exit::{Exit, OrExit};

/// Arguments of `model pack`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the release.
    #[arg(value_name = "DIR")]
    release: PathBuf,
    /// Folder of the bundle that was signed; none for an order.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// The file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Packs it.
///
/// # Errors
/// Release or bundle are not what was signed, or the file cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let load = Load::read(&args.release, args.bundle.as_deref()).or_exit(Exit::Data)?;
    let mut bytes = Vec::new();
    load.pack(BufWriter::new(&mut bytes)).context("cannot pack it")?;
    durable::write(&args.out, &bytes).or_exit(Exit::CannotCreate)?;
    println!(
        "{}: {} {}, counter {}, {:.1} MB",
        args.out.display(),
        load.release.name,
        load.release.version,
        load.release.counter,
        bytes.len() as f64 / 1e6
    );
    Ok(())
}
