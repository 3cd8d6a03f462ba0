//! Logs: to the journal in its own format under systemd, else to stderr, in colour only on a terminal.
//!
//! `INSPECTD_LOG` sets the level, for instance `debug` or `warn,inspectd::mqtt=debug`.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging; `daemon` is more talkative than the other commands.
pub fn init(daemon: bool) {
    let level = if daemon { LevelFilter::INFO } else { LevelFilter::WARN };
    let filter =
        EnvFilter::builder().with_env_var("INSPECTD_LOG").with_default_directive(level.into()).from_env_lossy();
    // Libraries speak only when something is wrong.
    let filter =
        ["ort=warn", "rumqttc=off"].iter().filter_map(|d| d.parse().ok()).fold(filter, EnvFilter::add_directive);
    let registry = tracing_subscriber::registry().with(filter);
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let result = if let Some(journal) = journal {
        registry.with(journal.with_syslog_identifier("inspectd".into())).try_init()
    } else {
        let colour = std::io::stderr().is_terminal();
        registry.with(fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(colour)).try_init()
    };
    // A second call, in tests, keeps the first logger.
    drop(result);
}
