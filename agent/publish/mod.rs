//! `inspectd model`: the engineer's side of updates. Keys, signatures, and what is put on the broker.

mod keys;
mod sign;
mod verify;

use anyhow::Result;
use clap::{Args as Arguments, Subcommand};

/// Arguments of `model`.
#[derive(Arguments)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key pair of minisign's kind.
    #[command(
        after_help = "Example:\n  inspectd model keygen keys/line\n\nThe line it prints goes into update.keys of each gateway."
    )]
    Keygen(keys::Args),
    /// Sign a bundle: writes its release, its signature and its index.
    #[command(after_help = "Example:\n  inspectd model sign --bundle models/line4 --key keys/line.key --counter 12 \
        --site 'plant-*' --out releases/12\n\n`minisign -Vm releases/12/release.json -p keys/line.pub` verifies the same.")]
    Sign(sign::Args),
    /// Verify a release, and the bundle that it names.
    #[command(after_help = "Example:\n  inspectd model verify releases/12 --key keys/line.pub --bundle models/line4")]
    Verify(verify::Args),
}

/// Does it.
///
/// # Errors
/// See each command.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Keygen(args) => keys::run(args),
        Command::Sign(args) => sign::run(args),
        Command::Verify(args) => verify::run(args),
    }
}
