//! `inspectd`: argument parsing, one call per subcommand, exit codes.

use std::process::ExitCode;

use std::path::PathBuf;

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};
use inspectd::{
    bench, cameras, check, console, daemon, eval, exit, extract, log, manual, model, publish, schema, setup, support,
    teach, update, watch,
};

/// Edge inspection agent for industrial cameras: one model for all defects, alarms over MQTT.
#[derive(Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon.
    #[command(after_help = "Example:\n  inspectd run --config /etc/inspectd/inspectd.toml")]
    Run(daemon::Args),
    /// Write this gateway's configuration out of a few answers, and check it.
    #[command(
        after_help = "Example:\n  sudo inspectd setup\n  sudo inspectd setup --yes --site plant-1 --broker mqtt://10.0.0.1:1883 \\\n    \
        --camera gate=rtsp://viewer@10.0.0.20/stream1 --camera-password-file gate=password.txt"
    )]
    Setup(Box<setup::Args>),
    /// Check configuration, bundle, runtime, cameras and broker, a line each.
    #[command(after_help = "Example:\n  inspectd check --config /etc/inspectd/inspectd.toml\n\n\
        Exit code: 0 all well, 78 the configuration is wrong, 69 something cannot be reached.")]
    Check(check::Args),
    /// See which cameras there are.
    Cameras(cameras::Args),
    /// Run the daemon's own pipeline over a labelled set.
    #[command(after_help = "Example:\n  inspectd eval --bundle models/default --data data/cookies \
        --stream data/cookies/streams/0.txt --out predictions.jsonl --maps maps")]
    Eval(eval::Args),
    /// Put the whole pipeline, and the bare ONNX Runtime beside it, under a stopwatch.
    #[command(after_help = "Example:\n  inspectd bench --bundle models/default --seconds 20 --threads 2 --json")]
    Bench(bench::Args),
    /// Extract the bundle that fits this gateway out of the base bundle.
    #[command(after_help = "Example:\n  inspectd extract --from models/base --out models/line4 --classes 'steel/*' \
        --budget-ms 20\n\nWithout --out it lists the settings there are and writes nothing.")]
    Extract(extract::Args),
    /// Learn a class from a few pictures, offline.
    #[command(after_help = "Example:\n  inspectd teach --bundle models/default --class steel/dent \
        a.png@120,40,180,90 b.png@15,200,70,260\n\nThe same by alarms: the MQTT command `teach`, see `inspectd schema teach`.")]
    Teach(teach::Args),
    /// Sign bundles and bring them to gateways.
    Model(Box<publish::Args>),
    /// Print alarms as they come, a line each.
    #[command(
        after_help = "Example:\n  inspectd watch --broker mqtt://localhost:1883 --severity critical,major --class 'steel/*' --images snapshots"
    )]
    Watch(watch::Args),
    /// The control room: a page with all alarms, gateways and models.
    #[command(
        after_help = "Example:\n  inspectd console --broker mqtt://localhost:1883 --listen 127.0.0.1:8080 --state /var/lib/inspectd-console\n\n\
        At its first start it prints the password of the user admin."
    )]
    Console(Box<console::Args>),
    /// Print the completions of a shell.
    #[command(after_help = "Example:\n  inspectd completions bash > /etc/bash_completion.d/inspectd")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Put together what a bug report needs, without secrets and pictures.
    #[command(
        after_help = "Example:\n  sudo inspectd support-bundle\n\nIt prints what is in it; look before you send it."
    )]
    SupportBundle(support::Args),
    /// Print the JSON Schema of a payload or of the configuration.
    #[command(after_help = "Example:\n  inspectd schema event")]
    Schema(schema::Args),
}

/// What the agent and its package call themselves: in no help, no completions and no man page.
#[derive(Parser)]
#[command(name = "inspectd")]
enum Inner {
    /// The process in which an update proves itself.
    Prove(update::prove::child::Args),
    /// Write the man pages of all commands into a folder.
    Man {
        /// The folder.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    keep_to_ourselves();
    let is_inner = std::env::args_os().nth(1).is_some_and(|command| command == "prove" || command == "man");
    let ended = if is_inner {
        Inner::try_parse().map(|inner| called(&inner))
    } else {
        Cli::try_parse().map(|cli| dispatch(cli.command))
    };
    match ended {
        Ok(Ok(code)) => code,
        Err(e) => {
            let _ = e.print(); // to whom, if not there
            ExitCode::from(if e.use_stderr() { exit::Exit::Usage as u8 } else { 0 })
        }
        Ok(Err(error)) => ExitCode::from(told(&error)),
    }
}

/// Says what went wrong, and with which code it ends.
fn told(error: &anyhow::Error) -> u8 {
    eprintln!("inspectd: {error:#}");
    exit::code(error).unwrap_or(exit::Exit::Software) as u8
}

/// ONNX Runtime is told not to speak to its maker, before it is loaded; a process that is started from here inherits it.
#[allow(unsafe_code)]
fn keep_to_ourselves() {
    // SAFETY: this is the first thing that the process does; there is no other thread that could read the environment meanwhile.
    unsafe { std::env::set_var(model::runtime::SILENT, "1") };
}

fn called(inner: &Inner) -> Result<ExitCode> {
    log::init(false);
    model::preprocess::one_thread();
    match inner {
        Inner::Prove(args) => update::prove::child::run(args)?,
        Inner::Man { dir } => manual::write(&Cli::command(), dir)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn dispatch(command: Command) -> Result<ExitCode> {
    log::init(matches!(command, Command::Run(_) | Command::Console(_)));
    model::preprocess::one_thread();
    match command {
        Command::Run(args) => exit::leave(daemon::run(&args.config).map_or_else(|e| told(&e), |()| 0)),
        Command::Setup(args) => setup::run(&args),
        Command::SupportBundle(args) => support::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Check(args) => check::run(&args),
        Command::Cameras(args) => cameras::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Eval(args) => eval::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Bench(args) => bench::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Extract(args) => extract::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Teach(args) => teach::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Model(args) => publish::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Watch(args) => watch::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Console(args) => console::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "inspectd", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Schema(args) => schema::run(&args).map(|()| ExitCode::SUCCESS),
    }
}
