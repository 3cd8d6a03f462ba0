//! `inspectd prove`: the process in which a bundle proves itself. Not for people: it reads frames and writes answers.

use std::io::{BufRead as _, Read as _, Write as _};
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landlock::{ABI, Access as _, AccessFs, Ruleset, RulesetAttr as _};
use rlimit::Resource;

use super::{Answer, Found, Header};
use crate::exit;
use crate::frame::view::View;
use crate::frame::{Image, PixelFormat};
use crate::inspector::Inspector;
use crate::model::bundle::Bundle;
use crate::model::{golden, runtime};

/// Seconds of processor time, after which the kernel ends it whatever its parent does.
const PROCESSOR: u64 = 6 * 3600;
/// No picture has more bytes.
const MAX_PIXELS: usize = 1 << 30;

/// Arguments of `prove`.
#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    bundle: PathBuf,
    #[arg(long)]
    runtime: Option<PathBuf>,
    /// Bytes that it may use beside what it has when the runtime is loaded.
    #[arg(long)]
    memory: u64,
}

/// Answers until its input ends.
///
/// # Errors
/// Nobody reads its answers.
pub fn run(args: &Args) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let mut say = |answer: &Answer| -> Result<()> {
        serde_json::to_writer(&mut out, answer)?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    };
    match prove(args, &mut say) {
        Ok(()) => Ok(()),
        Err(e) => say(&Answer::Failed(format!("{e:#}"))),
    }
}

fn prove(args: &Args, say: &mut dyn FnMut(&Answer) -> Result<()>) -> Result<()> {
    end_with(parent_id());
    // Where memory is short, it goes first.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000"); // where that is not allowed, it is one of many
    let bundle = Bundle::open(&args.bundle)?;
    let environment = runtime::load(args.runtime.as_deref())?;
    confine(args.memory)?;
    let mut session = runtime::Session::new(&environment, &bundle)?;
    golden::verify(&bundle, &mut session).context("the bundle's golden vectors")?;
    let mut inspector = Inspector::new(session, &bundle);
    say(&Answer::Ready)?;
    let mut input = std::io::stdin().lock();
    let mut view = View::default();
    loop {
        let mut line = Vec::new();
        if input.by_ref().take(1 << 16).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let header: Header = serde_json::from_slice(&line)?;
        let size =
            (header.width as usize).checked_mul(header.height as usize).and_then(|n| n.checked_mul(header.channels));
        let size = size.filter(|size| *size <= MAX_PIXELS).context("a frame is too large")?;
        let mut pixels = vec![0; size];
        input.read_exact(&mut pixels)?;
        let format = match (header.channels, header.bgr) {
            (1, _) => PixelFormat::Mono8,
            (3, true) => PixelFormat::Bgr8,
            _ => PixelFormat::Rgb8,
        };
        let (width, height) = (header.width, header.height);
        let image = Image { width, height, format, pixels, origin: None, truth: None };
        // The same as before has its plans made.
        if view != header.view {
            view = header.view;
        }
        let placement = inspector.look(&image, &view)?;
        let classes = &bundle.manifest.classes;
        let counting = inspector.forward.detections.iter().filter_map(|d| {
            let class = classes.get(d.class).filter(|class| d.score >= class.threshold)?;
            Some(Found { class: class.name.clone(), score: d.score, bbox: placement.finding(d.bbox)? })
        });
        let times = inspector.times;
        let ms = (times.prepare + times.forward).as_secs_f32() * 1000.0;
        say(&Answer::Frame { found: counting.collect(), ms })?;
    }
}

/// Ends this process when its parent has ended, also while it hangs in the network.
fn end_with(parent: u32) {
    std::thread::spawn(move || {
        while parent_id() == parent {
            std::thread::sleep(Duration::from_secs(1));
        }
        exit::leave(1);
    });
}

/// From here on: so much more memory, so much time, and no files.
fn confine(memory: u64) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot see its own memory")?;
    let used = status
        .lines()
        .find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let limit = used.context("cannot see its own memory")?.saturating_mul(1024).saturating_add(memory);
    let (_, most) = Resource::AS.get()?;
    let limit = limit.min(most);
    Resource::AS.set(limit, limit).context("its memory cannot be limited")?;
    let (_, most) = Resource::CPU.get()?;
    Resource::CPU.set(PROCESSOR.min(most), PROCESSOR.min(most)).context("its time cannot be limited")?;
    // A kernel without Landlock restricts nothing; the structure check has refused what would read files.
    let restricted = Ruleset::default().handle_access(AccessFs::from_all(ABI::V3)).and_then(Ruleset::create);
    let restricted = restricted.and_then(landlock::RulesetCreated::restrict_self);
    ensure!(restricted.is_ok(), "its access to files cannot be taken away: {restricted:?}");
    Ok(())
}
