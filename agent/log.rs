//! Logs: lines on stderr, under systemd with the priority that the journal reads off their beginning, else with time and in colour where
//! it is a terminal.
//!
//! A line says all of it, fields too, so that `journalctl -u inspectd` shows which camera is meant and `-g NAME` finds it.
//! `INSPECTD_LOG` sets the level, for instance `debug` or `warn,inspectd::mqtt=debug`.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
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
    let lines = fmt::layer().with_writer(std::io::stderr);
    let is_terminal = std::io::stderr().is_terminal();
    let result = if is_journal(std::io::stderr()) {
        registry.with(lines.with_ansi(false).event_format(Journal)).try_init()
    } else {
        registry.with(lines.with_target(false).with_ansi(is_terminal)).try_init()
    };
    // A second call, in tests, keeps the first logger.
    drop(result);
}

/// Whether the journal reads what is written there. systemd says device and inode of it; a program below may have inherited that, with
/// another output.
#[must_use]
pub fn is_journal(out: impl AsFd) -> bool {
    let Ok(said) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(about) = rustix::fs::fstat(out) else { return false };
    said == format!("{}:{}", about.st_dev, about.st_ino)
}

/// `<4>message camera=line-1`: the priority of syslog(3), which systemd takes off each line (`SyslogLevelPrefix=`).
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let priority = priority(*event.metadata().level());
        let mut text = String::new();
        context.field_format().format_fields(Writer::new(&mut text), event)?;
        // Each line of a text of several is one of the journal.
        text.lines().try_for_each(|line| writeln!(writer, "<{priority}>{line}"))
    }
}

fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_of_the_journal_has_priority_and_fields() {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = fmt::layer().with_ansi(false).event_format(Journal).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(camera = %"line-1", "cannot open\nit");
            tracing::info!("well");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "<4>cannot open\n<4>it camera=line-1\n<6>well\n");
    }
}
