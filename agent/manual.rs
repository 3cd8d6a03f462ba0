//! Man pages out of the argument parser, and what a parser does not know: files, environment, exit codes.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Command;

/// Of one page beside what the parser knows: its name, and pairs of what there is and what it is for.
type Files = (&'static str, &'static [(&'static str, &'static str)]);

const FILES: [Files; 4] = [
    (
        "inspectd-run",
        &[
            ("/etc/inspectd/inspectd.toml", "The configuration of the package's service."),
            ("/etc/inspectd/inspectd.example.toml", "Every key with its default."),
            (
                "/etc/inspectd/secrets/",
                "Passwords and keys, a file each; the configuration names one as credential:NAME.",
            ),
            (
                "/var/lib/inspectd/",
                "What outlives a restart: the queue of alarms, what was learned, bundles of updates.",
            ),
            ("/usr/share/inspectd/models/", "The bundles that come with the package."),
            ("/usr/share/doc/inspectd/docs/", "The guides."),
        ],
    ),
    (
        "inspectd-setup",
        &[
            (
                "/etc/inspectd/inspectd.toml",
                "What is written. One that is replaced is kept beside it, with the time in its name.",
            ),
            ("/etc/inspectd/secrets/", "Passwords and keys go there, open to root alone."),
        ],
    ),
    (
        "inspectd-support-bundle",
        &[
            ("/etc/inspectd/inspectd.toml", "Taken along without secrets."),
            ("/var/lib/inspectd/", "Looked at, not taken along."),
        ],
    ),
    (
        "inspectd-console",
        &[
            ("/etc/inspectd/console.env", "Options of the package's service, as environment variables."),
            ("/var/lib/inspectd-console/", "The log of alarms, pictures, releases and users."),
        ],
    ),
];

/// After sysexits.h, as [`crate::exit::Exit`] has them.
const CODES: [(&str, &str); 8] = [
    ("0", "It was done."),
    ("64", "An argument is wrong."),
    ("65", "The input data is wrong."),
    ("66", "An input file is missing or cannot be read."),
    ("69", "A camera, broker or library cannot be reached."),
    ("70", "A fault of inspectd's own."),
    ("73", "An output file cannot be made."),
    ("78", "The configuration is wrong."),
];

/// Writes a page for each command, `inspectd.1`, `inspectd-run.1` and so on.
///
/// # Errors
/// The folder or a file cannot be written.
pub fn write(command: &Command, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    clap_mangen::generate_to(command.clone(), dir).context("cannot write the man pages")?;
    for (page, files) in FILES {
        append(dir, page, &section("FILES", files))?;
    }
    let log = ("INSPECTD_LOG", "What is logged, for instance debug, or warn,inspectd::mqtt=debug.");
    append(dir, "inspectd", &(section("EXIT STATUS", &CODES) + &section("ENVIRONMENT", &[log])))
}

/// A list in roff.
fn section(title: &str, list: &[(&str, &str)]) -> String {
    // A line that begins with a dot or an apostrophe would be a request, and a backslash a command.
    let plain = |text: &str| text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    let item = |(what, text): &(&str, &str)| format!(".TP\n\\fB{}\\fR\n\\&{}\n", plain(what), plain(text));
    format!(".SH \"{title}\"\n{}", list.iter().map(item).collect::<String>())
}

fn append(dir: &Path, page: &str, text: &str) -> Result<()> {
    let path = dir.join(format!("{page}.1"));
    // A page that is not there is no page of ours.
    let mut file =
        File::options().append(true).open(&path).with_context(|| format!("there is no {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_roff_would_take_for_its_own_is_text() {
        let text = section("FILES", &[("/a-b", "'it' \\ .x")]);
        assert_eq!(text, ".SH \"FILES\"\n.TP\n\\fB/a\\-b\\fR\n\\&\\(aqit\\(aq \\e .x\n");
    }
}
