//! The daemon's whole life: build the parts, run them, and drain them in the order of a frame's way.
//!
//! Order of the end (SIGTERM or SIGINT): cameras stop, workers finish the frame at hand, the alarm thread records what
//! was decided, the session sends what it still can and publishes the offline state. The whole takes under 5 s.

mod running;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use running::Running;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::anomaly::memory::Mark;
use crate::anomaly::shelf::Shelf;
use crate::backoff::Backoff;
use crate::clerk::{Cards, Clerk, Verdicts};
use crate::command::{Letterbox, Office, Pictures};
use crate::config::{Config, GatewayConfig, OutboxConfig};
use crate::engine::Engine;
use crate::exit::{Exit, OrExit};
use crate::keeper::Keeper;
use crate::metrics::{self, Probe};
use crate::model::runtime;
use crate::model::runtime::Environment;
use crate::mqtt::board::Board;
use crate::mqtt::link::{LinkOptions, Receipt};
use crate::mqtt::payload::ModelRef;
use crate::mqtt::session::{Passing, Session};
use crate::mqtt::status::LinkStatus;
use crate::mqtt::topics::Topics;
use crate::outbox::{Outbox, Quota};
use crate::pipeline::Pipeline;
use crate::pulse;
use crate::reload::{Links, Reloader};
use crate::report::{Reporter, Results};
use crate::rig::{self, Rig};
use crate::shared::Shared;
use crate::signals::{HangUp, Signals};
use crate::stop::Stop;
use crate::taught::School;
use crate::trigger::timer::Timer;
use crate::update::boot::{self, Booted};
use crate::update::desk::Desk;
use crate::update::tap::Tap;
use crate::update::updater::{self, Updater};
use crate::verdict::book::{AlarmBook, Identity};

/// Verdicts between the workers and the alarm thread, each with its picture.
const VERDICTS: usize = 4;
/// Results on their way to the session.
const RESULTS: usize = 256;
/// Files and connections that may be open, where the system allows it: cameras must find room whoever reads figures.
const FILES: u64 = 16_384;
/// Threads for what waits for the disk; each that was once needed stays as long as there is work now and then.
const BLOCKING: usize = 12;

/// The largest message that the updater reads: what is wanted, an index, or a chunk.
const MAX_MESSAGE: usize = 2 << 20;

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// Something that it cannot start without is missing: the bundle, the runtime, the state folder.
pub fn run(path: &Path) -> Result<()> {
    let config = Config::read(path).or_exit(Exit::Config)?;
    let _ = rlimit::increase_nofile_limit(FILES); // with fewer it goes as well
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING)
        .enable_all()
        .build()?;
    // From the beginning: who asks for a reload too early must not end the agent by it.
    let hang_up = tokio.block_on(async { HangUp::new() })?;
    let environment = runtime::load(config.model.runtime.as_deref()).or_exit(Exit::Unavailable)?;
    let booted = boot::boot(&config, &environment)?;
    let outbox = Outbox::open(&config.gateway.state_dir, quota(&config.outbox)).or_exit(Exit::CannotCreate)?;
    let (kind, threads) = (Arc::clone(&booted.engine.kind), booted.engine.inspectors.len());
    info!(bundle = %kind.model.name, version = %kind.model.version, threads, "the model answers its golden vectors");
    if config.anomaly.enabled && !kind.manifest.has_features() {
        warn!("the anomaly check is off: the bundle gives no features; only the classes that it names are found");
    }
    let known = serde_json::to_string(&kind.mark)?;
    let is_same = |text: &str| serde_json::from_str(text).is_ok_and(|known: Mark| known.is_like(&kind.mark));
    outbox.looks_are_by(is_same, &known).or_exit(Exit::CannotCreate)?;
    let ended = tokio.block_on(live(path, config, environment, booted, Arc::new(outbox), hang_up));
    // A thread that hangs in a driver must not hold up the end.
    tokio.shutdown_timeout(Duration::from_millis(100));
    ended
}

fn quota(config: &OutboxConfig) -> Quota {
    Quota {
        messages: config.max_messages.get(),
        image_bytes: config.max_images_mib.get() << 20,
        event_bytes: config.max_events_mib.get() << 20,
    }
}

/// What most parts work with.
struct Common {
    current: Arc<Shared<Config>>,
    topics: Topics,
    pipeline: Arc<Pipeline>,
    keeper: Arc<Keeper>,
    school: Arc<School>,
    book: Arc<Mutex<AlarmBook>>,
    outbox: Arc<Outbox>,
    board: Arc<Board>,
    tap: Arc<Tap>,
    desk: Arc<Desk>,
}

async fn live(
    path: &Path,
    config: Config,
    environment: Environment,
    booted: Booted,
    outbox: Arc<Outbox>,
    hang_up: HangUp,
) -> Result<()> {
    let Booted { engine, ledger } = booted;
    let kind = Arc::clone(&engine.kind);
    let signals = Signals::new(hang_up)?;
    let GatewayConfig { site, name, .. } = &config.gateway;
    let identity = Identity { site: site.to_string(), gateway: name.to_string(), model: ModelRef::clone(&kind.model) };
    let (stop, asked, recording, last) = (Stop::default(), Stop::default(), Stop::default(), Stop::default());
    let common = common(config, &identity, engine, outbox)?;
    let (config, timer) = (common.current.get(), Arc::new(Timer::default()));
    let rig = Arc::new(Rig::new(rig::Parts {
        pipeline: Arc::clone(&common.pipeline),
        keeper: Arc::clone(&common.keeper),
        school: Arc::clone(&common.school),
        environment: environment.clone(),
        timer: Arc::clone(&timer),
    }));
    let prepared = rig.prepare(&config, false).or_exit(Exit::Data)?;
    let status = Arc::new(LinkStatus::default());
    let probe = common.probe(&identity, &status);
    let mut reporter = Reporter::new(common.topics.clone(), probe.clone());
    let (will, of) = ((common.topics.state(), reporter.will()), identity.clone());
    let links: Links = Box::new(move |config| [link_options(config, &of, will.clone()), update_options(config, &of)]);
    let [alarms, updates] = links(&config);
    let ((alarms, changed), (updates, link)) = (watch::channel(alarms), watch::channel(updates));
    let options = alarms.borrow().clone();
    let reloader = Arc::new(reloader(&common, path, &rig, links, [alarms, updates]));
    reloader.announce(None, &config);
    // One that the broker has kept comes after the start.
    let starting = reloader.busy.lock().unwrap_or_else(PoisonError::into_inner);
    let (letterbox, answered, office) = answering(common.office(&identity, &reloader))?;
    let (result_sender, results) = tokio::sync::mpsc::channel::<Passing>(RESULTS);
    let session = Session {
        options,
        changed,
        outbox: Arc::clone(&common.outbox),
        board: Arc::clone(&common.board),
        results,
        subscriptions: vec![common.topics.commands(), common.topics.lessons()],
        commands: letterbox,
        answered,
        backoff: Backoff::default(),
        suspects: Default::default(),
        status,
        stop: last.clone(),
    };
    let session = tokio::spawn(session.run());
    let parts = common.updating(environment, link, [&stop, &asked]);
    let updater = (!parts.keys.is_empty() || ledger.active().is_some())
        .then(|| tokio::spawn(Updater::new(parts, ledger, identity.model, kind.mark.clone()).run()));
    let (mut threads, verdicts) = inspecting(&config, &common.pipeline, &timer, &stop)?;
    rig.apply(None, &config, &prepared).1?;
    drop(starting);
    let clerk = Clerk {
        book: Arc::clone(&common.book),
        current: Arc::clone(&common.current),
        outbox: Arc::clone(&common.outbox),
        results: Results::new(common.topics.clone(), result_sender),
        tap: Arc::clone(&common.tap),
        stop: recording.clone(),
        ticked: Instant::now(),
        pulse: common.pipeline.pulses.begin("outbox"),
        meter: Arc::clone(&probe.meter),
    };
    let cards = Arc::new(Cards::default());
    let shared = Arc::clone(&cards);
    spawn(&mut threads, "alarms".into(), move || clerk.work(&verdicts, &shared))?;
    info!(cameras = common.pipeline.lanes().len(), "inspecting");
    let (pipeline, ended) = (Arc::clone(&common.pipeline), stop.clone());
    thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || pulse::watch(&pipeline.pulses, pulse::STILL, || words(&pipeline), &ended))
        .context("no thread could be started")?;

    if let Some(address) = config.metrics.listen {
        tokio::spawn(metrics::serve::run(address, probe, stop.clone()));
    }
    tokio::spawn(signals.heed(stop.clone(), asked, reloader));
    let running = Running { threads, rig, recording, keeper: Arc::clone(&common.keeper), updater, last, session };
    let failed = running.watch(&mut reporter, &common.board, &office, &stop).await;
    stop.set();
    running.end(&mut reporter, &common.board).await;
    running::summarise(&common.pipeline, &cards);
    failed.map_or(Ok(()), |reason| Err(anyhow!("{reason}; the service manager should start inspectd again")))
}

fn common(config: Config, identity: &Identity, engine: Engine, outbox: Arc<Outbox>) -> Result<Common> {
    let (state, mark) = (&config.gateway.state_dir, engine.kind.mark.clone());
    let school = Arc::new(School::open(state, mark.clone()));
    let shelf = Shelf::new(state, mark);
    let pipeline = Arc::new(Pipeline::new(Arc::default(), engine));
    let keeper = Arc::new(Keeper::new(shelf, Arc::clone(&pipeline)));
    let names: Vec<Arc<str>> = config.cameras.iter().map(|camera| camera.name().into()).collect();
    let book = AlarmBook::open(identity.clone(), &config.alarm, &names, &outbox).or_exit(Exit::CannotCreate)?;
    Ok(Common {
        topics: Topics::new(&identity.site, &identity.gateway),
        pipeline,
        keeper,
        school,
        book: Arc::new(Mutex::new(book)),
        outbox,
        board: Arc::default(),
        tap: Arc::default(),
        desk: Arc::default(),
        current: Arc::new(Shared::new(config)),
    })
}

fn reloader(
    common: &Common,
    path: &Path,
    rig: &Arc<Rig>,
    links: Links,
    connections: [watch::Sender<LinkOptions>; 2],
) -> Reloader {
    Reloader {
        path: path.to_owned(),
        current: Arc::clone(&common.current),
        rig: Arc::clone(rig),
        book: Arc::clone(&common.book),
        outbox: Arc::clone(&common.outbox),
        board: Arc::clone(&common.board),
        topics: common.topics.clone(),
        links,
        connections,
        busy: Mutex::default(),
    }
}

impl Common {
    fn probe(&self, identity: &Identity, status: &Arc<LinkStatus>) -> Probe {
        Probe {
            pipeline: Arc::clone(&self.pipeline),
            outbox: Arc::clone(&self.outbox),
            book: Arc::clone(&self.book),
            status: Arc::clone(status),
            meter: Arc::default(),
            whose: [identity.site.clone(), identity.gateway.clone()],
            state_dir: self.current.get().gateway.state_dir.clone(),
            started: Instant::now(),
        }
    }

    fn office(&self, identity: &Identity, reloader: &Arc<Reloader>) -> Office {
        Office {
            topics: self.topics.clone(),
            gateway: identity.gateway.clone(),
            book: Arc::clone(&self.book),
            keeper: Arc::clone(&self.keeper),
            school: Arc::clone(&self.school),
            outbox: Arc::clone(&self.outbox),
            updates: Arc::clone(&self.desk),
            pipeline: Arc::clone(&self.pipeline),
            reloader: Arc::clone(reloader),
            pictures: Pictures::default(),
        }
    }

    fn updating(
        &self,
        environment: Environment,
        link: watch::Receiver<LinkOptions>,
        [stop, asked]: [&Stop; 2],
    ) -> updater::Parts {
        updater::Parts {
            config: Arc::clone(&self.current),
            environment,
            topics: self.topics.clone(),
            keys: self.current.get().update.keyring(),
            link,
            pipeline: Arc::clone(&self.pipeline),
            keeper: Arc::clone(&self.keeper),
            school: Arc::clone(&self.school),
            outbox: Arc::clone(&self.outbox),
            board: Arc::clone(&self.board),
            tap: Arc::clone(&self.tap),
            desk: Arc::clone(&self.desk),
            stop: stop.clone(),
            asked: asked.clone(),
        }
    }
}

/// Threads of workers and of the triggers' clock, and what comes of them; it ends when the last worker has.
fn inspecting(
    config: &Config,
    pipeline: &Arc<Pipeline>,
    timer: &Arc<Timer>,
    stop: &Stop,
) -> Result<(Vec<JoinHandle<()>>, Verdicts)> {
    let (sender, verdicts) = mpsc::sync_channel(VERDICTS);
    let mut threads = Vec::new();
    for n in 0..config.model.workers() {
        let (pipeline, sender, stop) = (Arc::clone(pipeline), sender.clone(), stop.clone());
        spawn(&mut threads, format!("inspect-{n}"), move || pipeline.work(&sender, &stop))?;
    }
    let (pipeline, timer, stop) = (Arc::clone(pipeline), Arc::clone(timer), stop.clone());
    spawn(&mut threads, "triggers".into(), move || timer.run(&pipeline, &stop))?;
    Ok((threads, verdicts))
}

/// The thread that answers commands until their letterbox is gone.
fn answering(office: Office) -> Result<(Letterbox, tokio::sync::mpsc::Receiver<Receipt>, JoinHandle<()>)> {
    let (letterbox, inbox, answered) = Letterbox::new(office.topics.clone());
    let thread = thread::Builder::new().name("commands".into()).spawn(move || office.work(&inbox));
    Ok((letterbox, answered, thread.context("no thread could be started")?))
}

/// For the service manager's status line.
fn words(pipeline: &Pipeline) -> String {
    let lanes = pipeline.lanes();
    let well = lanes.iter().filter(|lane| lane.feed.is_streaming()).count();
    let inspected: u64 = lanes.iter().map(|lane| lane.counts().0).sum();
    let model = pipeline.model();
    format!(
        "{well} of {} cameras stream, {inspected} pictures inspected, model {} {}",
        lanes.len(),
        model.name,
        model.version
    )
}

fn link_options(config: &Config, identity: &Identity, will: (String, Vec<u8>)) -> LinkOptions {
    let default = || format!("inspectd-{}-{}", identity.site, identity.gateway);
    let client_id = config.mqtt.client_id.as_ref().map_or_else(default, ToString::to_string);
    LinkOptions { will: Some(will), lasting: true, ..LinkOptions::new(&config.mqtt, client_id) }
}

/// A connection of its own for updates, so that nothing else waits for them.
fn update_options(config: &Config, identity: &Identity) -> LinkOptions {
    let options = link_options(config, identity, Default::default());
    let client_id = format!("{}-update", options.client_id);
    LinkOptions { client_id, will: None, lasting: false, max_incoming: MAX_MESSAGE, ..options }
}

fn spawn(threads: &mut Vec<JoinHandle<()>>, name: String, f: impl FnOnce() + Send + 'static) -> Result<()> {
    threads.push(thread::Builder::new().name(name).spawn(f).context("no thread could be started")?);
    Ok(())
}
