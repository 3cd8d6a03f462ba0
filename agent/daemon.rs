//! The daemon's whole life: build the parts, run them, and drain them in the order of a frame's way.
//!
//! Order of the end (SIGTERM or SIGINT): cameras stop, workers finish the frame at hand, the alarm thread records what
//! was decided, the session sends what it still can and publishes the offline state. The whole takes under 5 s.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::anomaly::memory::Mark;
use crate::anomaly::shelf::Shelf;
use crate::backoff::Backoff;
use crate::clerk::{Clerk, Verdicts};
use crate::command::{Letterbox, Office};
use crate::config::{CameraConfig, Config, GatewayConfig, OutboxConfig};
use crate::engine;
use crate::exit::{Exit, OrExit};
use crate::frame::supervisor::{self, Feed};
use crate::inspector::Inspector;
use crate::keeper::{self, Keeper};
use crate::model::bundle::Bundle;
use crate::model::runtime;
use crate::model::runtime::Environment;
use crate::mqtt::board::Board;
use crate::mqtt::discovery;
use crate::mqtt::link::{LinkOptions, Receipt};
use crate::mqtt::payload::ModelRef;
use crate::mqtt::session::{Passing, Session};
use crate::mqtt::status::LinkStatus;
use crate::mqtt::topics::Topics;
use crate::outbox::{Outbox, Quota};
use crate::pipeline::{Bell, Lane, Pipeline};
use crate::report::{self, Reporter, Results};
use crate::stop::Stop;
use crate::taught::School;
use crate::update::boot::{self, Booted};
use crate::update::desk::Desk;
use crate::update::tap::Tap;
use crate::update::updater::{self, Updater};
use crate::verdict::book::{AlarmBook, Identity};
use crate::verdict::rules::Rules;
use crate::verdict::scorecard::Scorecard;

/// Verdicts between the workers and the alarm thread, each with its picture.
const VERDICTS: usize = 4;
/// Results on their way to the session.
const RESULTS: usize = 256;
/// The end takes at most this long, whatever hangs.
const LAST: Duration = Duration::from_millis(4800);
/// The session's last words take at most this long.
const FAREWELL: Duration = Duration::from_millis(4500);

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
    let environment = runtime::load(config.model.runtime.as_deref()).or_exit(Exit::Unavailable)?;
    let booted = boot::boot(&config, &environment)?;
    let outbox = Outbox::open(&config.gateway.state_dir, quota(&config.outbox)).or_exit(Exit::CannotCreate)?;
    let model = ModelRef::of(&booted.bundle);
    info!(bundle = %model.name, version = %model.version, threads = booted.inspectors.len(), "the model answers its golden vectors");
    if config.anomaly.enabled && !booted.bundle.manifest.has_features() {
        warn!("the anomaly check is off: the bundle gives no features; only the classes that it names are found");
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let known = serde_json::to_string(&booted.mark)?;
    let is_same = |text: &str| serde_json::from_str(text).is_ok_and(|known: Mark| known.is_like(&booted.mark));
    outbox.looks_are_by(is_same, &known).or_exit(Exit::CannotCreate)?;
    let ended = tokio.block_on(live(Arc::new(config), environment, booted, model, Arc::new(outbox)));
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

async fn live(
    config: Arc<Config>,
    environment: Environment,
    booted: Booted,
    model: ModelRef,
    outbox: Arc<Outbox>,
) -> Result<()> {
    let Booted { bundle, inspectors, mark, ledger } = booted;
    let signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let GatewayConfig { site, name, .. } = &config.gateway;
    let identity = Identity { site: site.to_string(), gateway: name.to_string(), model: model.clone() };
    let topics = Topics::new(&identity.site, &identity.gateway);
    let school = Arc::new(School::open(&config.gateway.state_dir, mark.clone()));
    let shelf = Shelf::new(&config.gateway.state_dir, mark.clone());
    let pipeline = Arc::new(pipeline(&config, &bundle, &school));
    drop(bundle); // as large as its network, and on disk
    let (tap, desk) = (Arc::new(Tap::default()), Arc::new(Desk::default()));
    let keeper = Arc::new(Keeper::new(shelf, &config.cameras, Arc::clone(&pipeline))?);
    let book = open_book(&config, &identity, &pipeline, &outbox)?;
    let office = Office {
        topics: topics.clone(),
        gateway: identity.gateway.clone(),
        book: Arc::clone(&book),
        keeper: Arc::clone(&keeper),
        school: Arc::clone(&school),
        outbox: Arc::clone(&outbox),
        updates: Arc::clone(&desk),
    };
    let (letterbox, answered, office) = answering(office)?;

    let board = Arc::new(Board::default());
    if let Some(prefix) = &config.mqtt.home_assistant {
        let cameras: Vec<&str> = config.cameras.iter().map(CameraConfig::name).collect();
        let (topic, payload) = discovery::device(prefix.as_str(), &identity.site, &identity.gateway, &cameras);
        board.set(&topic, payload);
    }
    let status = Arc::new(LinkStatus::default());
    let mut reporter = Reporter::new(topics.clone(), Arc::clone(&pipeline), Arc::clone(&outbox), Arc::clone(&status));
    let (result_sender, results) = tokio::sync::mpsc::channel::<Passing>(RESULTS);
    let last = Stop::default();
    let session = tokio::spawn(
        Session {
            options: link_options(&config, &identity, (topics.state(), reporter.will())),
            window: config.mqtt.window.get() as usize,
            outbox: Arc::clone(&outbox),
            board: Arc::clone(&board),
            results,
            subscriptions: vec![topics.commands(), topics.lessons()],
            commands: letterbox,
            answered,
            backoff: Backoff::default(),
            suspects: Default::default(),
            status,
            stop: last.clone(),
        }
        .run(),
    );

    let (stop, asked, recording) = (Stop::default(), Stop::default(), Stop::default());
    let parts = updater::Parts {
        config: Arc::clone(&config),
        environment,
        topics: topics.clone(),
        keys: config.update.keyring(),
        link: update_options(&config, &identity),
        pipeline: Arc::clone(&pipeline),
        keeper: Arc::clone(&keeper),
        school,
        outbox: Arc::clone(&outbox),
        board: Arc::clone(&board),
        tap: Arc::clone(&tap),
        desk,
        stop: stop.clone(),
        asked: asked.clone(),
    };
    let updater = (!parts.keys.is_empty() || ledger.active().is_some())
        .then(|| tokio::spawn(Updater::new(parts, ledger, model, mark).run()));
    let (mut threads, verdicts) = inspecting(&config, &pipeline, inspectors, &stop)?;
    let results = Results::new(&config.mqtt, topics, result_sender);
    let clerk = Clerk {
        book,
        rules: Rules::new(&config.alarm.rules),
        outbox: Arc::clone(&outbox),
        results,
        pipeline: Arc::clone(&pipeline),
        tap,
        stop: recording.clone(),
        ticked: Instant::now(),
    };
    let cards = Arc::new(Mutex::new(vec![Scorecard::default(); pipeline.lanes.len()]));
    let shared = Arc::clone(&cards);
    spawn(&mut threads, "alarms".into(), move || clerk.work(&verdicts, &shared))?;
    info!(cameras = pipeline.lanes.len(), "inspecting");

    tokio::spawn(stop_at(signals, stop.clone(), asked));
    let running = Running { threads, recording, keeper, updater, last, session };
    let failed = running.watch(&mut reporter, &board, &office, &stop).await;
    stop.set();
    running.end(&mut reporter, &board).await;
    summarise(&pipeline, &cards);
    failed.map_or(Ok(()), |reason| Err(anyhow!("{reason}; the service manager should start inspectd again")))
}

/// What runs until the end, and ends after the cameras.
struct Running {
    threads: Vec<JoinHandle<()>>,
    recording: Stop,
    keeper: Arc<Keeper>,
    updater: Option<tokio::task::JoinHandle<()>>,
    last: Stop,
    session: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Until `stop`, or until something has died; then what.
    async fn watch(
        &self,
        reporter: &mut Reporter,
        board: &Board,
        office: &JoinHandle<()>,
        stop: &Stop,
    ) -> Option<String> {
        let mut tick = tokio::time::interval(report::TICK);
        let mut save = tokio::time::interval(keeper::EVERY);
        loop {
            tokio::select! {
                _ = tick.tick() => reporter.tick(board),
                _ = save.tick() => {
                    let keeper = Arc::clone(&self.keeper);
                    drop(tokio::task::spawn_blocking(move || keeper.save()));
                }
                () = stop.stopped() => return None,
            }
            // None of these ends by itself; if one has, inspection or delivery has stopped in silence.
            let failed = if let Some(thread) = self.threads.iter().find(|t| t.is_finished()) {
                Some(format!("the thread {} has died", thread.thread().name().unwrap_or_default()))
            } else if office.is_finished() {
                Some("the thread commands has died".to_owned())
            } else if self.session.is_finished() {
                Some("the broker's session has died".to_owned())
            } else if self.updater.as_ref().is_some_and(tokio::task::JoinHandle::is_finished) {
                Some("the updater has died".to_owned())
            } else {
                None
            };
            if failed.is_some() {
                return failed.filter(|_| !stop.is_set());
            }
        }
    }

    async fn end(self, reporter: &mut Reporter, board: &Board) {
        info!("stopping");
        let deadline = tokio::time::Instant::now() + FAREWELL;
        let joined = tokio::task::spawn_blocking(move || self.threads.into_iter().for_each(|t| drop(t.join())));
        if tokio::time::timeout(Duration::from_secs(1), joined).await.is_err() {
            // Either a driver hangs, or the disk is full and what was decided cannot be recorded.
            self.recording.set();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let saved = tokio::task::spawn_blocking(move || self.keeper.save());
        if tokio::time::timeout(Duration::from_secs(1), saved).await.is_err() {
            warn!("the disk took too long; what cameras have learned in the last minute may be lost");
        }
        if let Some(updater) = self.updater
            && tokio::time::timeout(Duration::from_millis(500), updater).await.is_err()
        {
            warn!("an update was cut off; it goes on at the next start");
        }
        reporter.stopped(board);
        self.last.set();
        if tokio::time::timeout_at(deadline, self.session).await.is_err() {
            warn!("the broker took too long; what is left is sent after the next start");
        }
    }
}

fn open_book(
    config: &Config,
    identity: &Identity,
    pipeline: &Pipeline,
    outbox: &Outbox,
) -> Result<Arc<Mutex<AlarmBook>>> {
    let names: Vec<_> = pipeline.lanes.iter().map(|lane| Arc::clone(&lane.feed.name)).collect();
    let book = AlarmBook::open(identity.clone(), &config.alarm, &names, outbox).or_exit(Exit::CannotCreate)?;
    Ok(Arc::new(Mutex::new(book)))
}

/// Waits for a signal, and sees to it that the process then ends in time.
async fn stop_at([mut terminate, mut interrupt]: [Signal; 2], stop: Stop, asked: Stop) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    asked.set();
    stop.set();
    // Whatever hangs (a disk, a driver), the process ends in time; a stop that needs this is a failure.
    thread::spawn(|| {
        thread::sleep(LAST);
        error!("something hangs: ended by force, what was recorded is sent after the next start");
        std::process::exit(i32::from(Exit::Software as u8));
    });
}

/// Threads of cameras and workers, and what comes of them; it ends when the last worker has.
fn inspecting(
    config: &Config,
    pipeline: &Arc<Pipeline>,
    inspectors: Vec<Inspector>,
    stop: &Stop,
) -> Result<(Vec<JoinHandle<()>>, Verdicts)> {
    let (sender, verdicts) = mpsc::sync_channel(VERDICTS);
    let mut threads = Vec::new();
    for (camera, lane) in config.cameras.iter().zip(&pipeline.lanes) {
        let (camera, limits, feed, stop) =
            (camera.clone(), config.limits.clone(), Arc::clone(&lane.feed), stop.clone());
        let name = format!("camera-{}", camera.name());
        spawn(&mut threads, name, move || supervisor::supervise(&camera, &limits, &feed, &stop))?;
    }
    for (n, mut inspector) in inspectors.into_iter().enumerate() {
        let (pipeline, sender, stop) = (Arc::clone(pipeline), sender.clone(), stop.clone());
        spawn(&mut threads, format!("inspect-{n}"), move || pipeline.work(&mut inspector, &sender, &stop))?;
    }
    Ok((threads, verdicts))
}

/// The thread that answers commands until their letterbox is gone.
fn answering(office: Office) -> Result<(Letterbox, tokio::sync::mpsc::Receiver<Receipt>, JoinHandle<()>)> {
    let (letterbox, inbox, answered) = Letterbox::new(office.topics.clone());
    let thread = thread::Builder::new().name("commands".into()).spawn(move || office.work(&inbox));
    Ok((letterbox, answered, thread.context("no thread could be started")?))
}

fn summarise(pipeline: &Pipeline, cards: &Mutex<Vec<Scorecard>>) {
    for (lane, card) in pipeline.lanes.iter().zip(cards.lock().unwrap_or_else(PoisonError::into_inner).iter()) {
        info!(camera = %lane.feed.name, "{}", summary(lane, card));
    }
}

fn summary(lane: &Lane, card: &Scorecard) -> String {
    let (inspected, no_verdict) = lane.counts();
    let (captured, dropped) = lane.feed.slot.counts();
    let mut text =
        format!("{captured} pictures: {inspected} inspected, {no_verdict} without verdict, {dropped} dropped");
    if card.figures().1 > 0 {
        let _ = write!(text, "; ground truth: {card}");
    }
    text
}

fn pipeline(config: &Config, bundle: &Bundle, school: &Arc<School>) -> Pipeline {
    let bell = Arc::new(Bell::default());
    let judges = engine::judges(config, bundle, school);
    let lanes = config.cameras.iter().zip(judges).map(|(camera, judge)| {
        let bell = Arc::clone(&bell);
        let feed = Arc::new(Feed::new(camera.name().into(), Box::new(move || bell.ring())));
        Lane::new(feed, camera.view(), judge)
    });
    let lanes = lanes.collect();
    Pipeline::new(lanes, bell, ModelRef::of(bundle))
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
