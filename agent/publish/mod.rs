//! `inspectd model`: the engineer's side of updates. Keys, signatures, and what is put on the broker.

mod fleet;
mod keys;
pub mod load;
mod pack;
mod push;
pub mod rollout;
mod sign;
pub mod target;
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
    /// Put a release and its bundle into one file, for the console.
    #[command(after_help = "Example:\n  inspectd model pack releases/12 --bundle models/line4 --out line4-12.tar")]
    Pack(pack::Args),
    /// Bring a release to gateways, in waves.
    #[command(
        after_help = "Example:\n  inspectd model push releases/12 --bundle models/line4 --broker mqtt://broker:1883 \
        --to 'plant-1/*' --wave 1,10%,100%"
    )]
    Push(push::Args),
    /// How far the update of each gateway is.
    #[command(after_help = "Example:\n  inspectd model status --broker mqtt://broker:1883 --of 'plant-1/*'")]
    Status(fleet::StatusArgs),
    /// Let an update that waits become the active one.
    #[command(after_help = "Example:\n  inspectd model approve --broker mqtt://broker:1883 --to plant-1/gw-1")]
    Approve(fleet::WordArgs),
    /// Give up the update that is under way or on trial.
    #[command(after_help = "Example:\n  inspectd model rollback --broker mqtt://broker:1883 --to 'plant-1/*'")]
    Rollback(fleet::WordArgs),
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
        Command::Pack(args) => pack::run(args),
        Command::Push(args) => push::run(args),
        Command::Status(args) => fleet::status(args),
        Command::Approve(args) => fleet::say(args, "approve"),
        Command::Rollback(args) => fleet::say(args, "rollback"),
    }
}
