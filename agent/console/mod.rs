//! `inspectd console`: the control room. One process beside any MQTT broker.
//!
//! The way of an alarm: broker ─▶ [`line`] (read with distrust by [`letter`]) ─▶ [`store`] ─▶ [`web`] and [`news`] ─▶ page. The way of
//! an answer: page ─▶ [`web`] ─▶ [`store`] (as pending) ─▶ [`line`] ─▶ gateway, whose reply comes the first way.

mod fleet;
pub mod letter;
mod line;
mod news;
mod rollouts;
pub mod store;
mod web;
mod webhook;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore, mpsc};
use tracing::{info, warn};
use uuid::Uuid;

use crate::config::credential;
use crate::exit::{Exit, OrExit};
use crate::fail;
use crate::mqtt::args::BrokerArgs;
use crate::mqtt::link::LinkOptions;
use crate::pulse::{self, Pulses};
use crate::stop::Stop;
use fleet::Fleet;
use line::{BrokerStatus, Line};
use news::News;
use rollouts::Rollouts;
use store::{Keep, Store, Taken};
use webhook::Webhook;

/// Batches of which pages have not been told.
const REPORTS: usize = 64;
/// Files and connections that may be open, where the system allows it.
const FILES: u64 = 65_536;
/// What is under way has so long to come to an end.
const FAREWELL: Duration = Duration::from_secs(4);
/// Largest message that is read. The broker is told so (MQTT 5), and leaves out what is larger.
const MAX_INCOMING: usize = 16 << 20;
/// How often old things are thrown away.
const TIDY: Duration = Duration::from_secs(600);
/// How often the store is asked whether it answers.
const ASK: Duration = Duration::from_secs(5);
/// What has not gone on for so long is stuck: throwing a year of alarms away may take a while.
const STILL: Duration = Duration::from_secs(60);
/// Pages are told of the fleet at most so often.
const TICK: Duration = Duration::from_secs(1);

/// Arguments of `console`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Where the page is served. Other machines reach it under another address than 127.0.0.1 only; then give a certificate as well.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Folder of the store; each console has its own.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Serve HTTPS with this certificate, in PEM, with what leads to its authority.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Days that alarms and pictures are kept.
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    keep_days: u32,
    /// GiB that the store may take; the oldest go first.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    keep_gib: u64,
    /// Each new alarm is posted to this address, as JSON.
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// File with a secret in its first line: each post is signed by it (HMAC-SHA-256, header X-Inspectd-Signature).
    #[arg(long, value_name = "FILE", requires = "webhook")]
    webhook_secret_file: Option<PathBuf>,
    /// Print a new password for this user, and end; the console must not run meanwhile.
    #[arg(long, value_name = "USER")]
    reset_password: Option<String>,
}

/// Gives somebody a new password, which is printed.
fn reset(state: &Path, name: &str) -> Result<()> {
    let store = Store::open(state)
        .context("a password can be reset while the console does not run: stop it first")
        .or_exit(Exit::CannotCreate)?;
    let password = store.reset_password(name).or_exit(Exit::Data)?;
    println!("{name} has the new password {password}");
    Ok(())
}

/// What all parts of it share.
pub struct Console {
    store: Arc<Store>,
    fleet: Fleet,
    news: News,
    rollouts: Arc<Rollouts>,
    /// A command was given.
    given: Notify,
    broker: Mutex<BrokerStatus>,
    trouble: Mutex<Option<String>>,
    fleet_changed: AtomicBool,
    counts: Tally,
    /// A webhook waits for new alarms.
    tells: bool,
    /// Cookies are for HTTPS only.
    is_secure: bool,
    guard: web::Guard,
    /// Exports that may run at the same time.
    exports: Arc<Semaphore>,
    /// Uploads that may run at the same time.
    uploads: Arc<Semaphore>,
    /// Whether its parts go on.
    pulses: Arc<Pulses>,
    stop: Stop,
}

/// Counted since the console started.
#[derive(Debug, Default)]
struct Tally {
    events: AtomicU64,
    copies: AtomicU64,
    refused: AtomicU64,
}

/// Runs it until SIGTERM or SIGINT.
///
/// # Errors
/// A wrong argument, or the store or the address cannot be had. A broker that is away is waited for.
pub fn run(args: &Args) -> Result<()> {
    let mut options = args.broker.options("console")?;
    let file = |path: &Option<PathBuf>| path.as_deref().map(credential);
    let secret = file(&args.webhook_secret_file);
    let hook = args.webhook.as_ref().map(|url| Webhook::new(url, secret.as_deref())).transpose();
    let hook = hook.or_exit(Exit::Config)?;
    let certificate = file(&args.tls_cert).zip(file(&args.tls_key));
    let tls = certificate.map(|(cert, key)| web::tls(&cert, &key)).transpose().or_exit(Exit::Config)?;
    if !args.listen.ip().is_loopback() && tls.is_none() {
        warn!(
            "{} can be reached from other machines, and passwords go there in the clear: give --tls-cert and --tls-key",
            args.listen
        );
    }
    if let Some(name) = &args.reset_password {
        return reset(&args.state, name);
    }
    let _ = rlimit::increase_nofile_limit(FILES); // with fewer it goes as well, until many come at once
    let store = Arc::new(Store::open(&args.state).or_exit(Exit::CannotCreate)?);
    options.client_id = client_id(&store).or_exit(Exit::CannotCreate)?;
    (options.lasting, options.max_incoming) = (true, MAX_INCOMING);
    if let Some((name, password)) = store.first_person(Timestamp::now()).or_exit(Exit::CannotCreate)? {
        println!("first start: log in as {name} with the password {password} (it is not shown again), and change it");
    }
    let keep = Keep { age: SignedDuration::from_hours(24 * i64::from(args.keep_days)), bytes: args.keep_gib << 30 };
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = tokio.block_on(live(args, options, store, hook, tls, keep));
    tokio.shutdown_timeout(Duration::from_secs(2));
    ended
}

/// The broker keeps messages under this id, so it stays the same.
fn client_id(store: &Store) -> Result<String> {
    if let Some(id) = store.setting("client_id")? {
        return Ok(id);
    }
    let id = format!("inspectd-console-{}", Uuid::now_v7());
    store.set("client_id", &id)?;
    Ok(id)
}

async fn live(
    args: &Args,
    options: LinkOptions,
    store: Arc<Store>,
    hook: Option<Webhook>,
    tls: Option<web::Tls>,
    keep: Keep,
) -> Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = std::net::TcpListener::bind(args.listen)
        .with_context(|| format!("cannot listen on {}: is something else there?", args.listen))
        .or_exit(Exit::Unavailable)?;
    let (news, stop, (reports, reported)) = (News::default(), Stop::default(), mpsc::channel(REPORTS));
    let releases = args.state.join("releases");
    let rollouts = Rollouts::open(releases, Arc::clone(&store), options.clone(), news.clone(), Timestamp::now());
    let broker = BrokerStatus { url: options.url.to_string(), ..BrokerStatus::default() };
    let console = Arc::new(Console {
        store,
        fleet: Fleet::default(),
        news,
        rollouts: Arc::new(rollouts.or_exit(Exit::CannotCreate)?),
        given: Notify::new(),
        broker: Mutex::new(broker),
        trouble: Mutex::default(),
        fleet_changed: AtomicBool::new(false),
        counts: Tally::default(),
        tells: hook.is_some(),
        is_secure: tls.is_some(),
        guard: web::Guard::default(),
        exports: Arc::new(Semaphore::new(4)),
        uploads: Arc::new(Semaphore::new(1)),
        pulses: Arc::default(),
        stop: stop.clone(),
    });
    let mut line = tokio::spawn(Line::new(Arc::clone(&console), options, reports).run());
    let teller = Arc::clone(&console);
    drop(tokio::task::spawn_blocking(move || teller.tell(reported))); // it ends with the line
    let care = tokio::spawn(care(Arc::clone(&console), keep));
    let asking = tokio::spawn(ask_the_store(Arc::clone(&console)));
    if let Some(hook) = hook {
        let console = Arc::clone(&console);
        std::thread::Builder::new().name("webhook".into()).spawn(move || hook.run(&console.store, &console.stop))?;
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    info!("the page is at {scheme}://{}", listener.local_addr()?);
    let server = web::serve(Arc::clone(&console), listener, tls);
    let watched = Arc::clone(&console);
    std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || pulse::watch(&watched.pulses, STILL, || watched.words(), &watched.stop))?;
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = server => Some(ended.err().unwrap_or_else(|| anyhow!("the server has ended"))),
        _ = &mut line => Some(anyhow!("the connection to the broker has died; the service manager should start the console again")),
    };
    info!("stopping");
    stop.set();
    // Gateways that were asked and have not begun are told that it is not wanted, and chunks are taken off the broker.
    let rollouts = tokio::time::timeout(FAREWELL, console.rollouts.end());
    let line = async {
        if !line.is_finished() {
            let _ = tokio::time::timeout(FAREWELL, line).await; // what it has not acknowledged comes again
        }
    };
    let (_, ()) = tokio::join!(rollouts, line);
    care.abort();
    asking.abort();
    failed.map_or(Ok(()), Err)
}

/// Whether the store answers, as the page would ask it.
async fn ask_the_store(console: Arc<Console>) {
    let pulse = console.pulses.begin("the store");
    loop {
        let store = Arc::clone(&console.store);
        // One that refuses answers as well; one whose disk hangs does not.
        let asked = tokio::task::spawn_blocking(move || {
            fail::stall("store");
            store.counts().is_ok()
        });
        let _ = asked.await;
        pulse.beat();
        tokio::time::sleep(ASK).await;
    }
}

/// What is done from time to time.
async fn care(console: Arc<Console>, keep: Keep) {
    let (mut tick, mut tidy) = (tokio::time::interval(TICK), tokio::time::interval(TIDY));
    loop {
        tokio::select! {
            _ = tick.tick() => {
                if console.fleet_changed.swap(false, Ordering::Relaxed) {
                    console.news.tell("fleet", "{}");
                }
            }
            _ = tidy.tick() => {
                let console = Arc::clone(&console);
                let tidied = tokio::task::spawn_blocking(move || {
                    console.expire();
                    console.store.tidy(&keep, Timestamp::now())
                });
                match tidied.await {
                    Ok(Ok(gone)) if gone != store::Gone::default() => info!(?gone, "thrown away"),
                    Ok(Ok(_)) | Err(_) => {}
                    Ok(Err(e)) => warn!("old things cannot be thrown away: {e:#}"),
                }
            }
        }
    }
}

impl Console {
    /// The broker is there, or is away and why.
    fn set_broker(&self, connected: bool, reason: Option<String>) {
        let mut broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner);
        (broker.connected, broker.reason) = (connected, reason);
        let text = serde_json::to_string(&*broker).unwrap_or_default();
        drop(broker);
        self.news.tell("broker", &text);
    }

    fn broker(&self) -> BrokerStatus {
        let mut broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(trouble) = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            broker.reason = Some(trouble);
        }
        broker
    }

    /// For the service manager's status line.
    fn words(&self) -> String {
        let (sizes, broker) = (self.fleet.sizes(), self.broker());
        let link = if broker.connected { "connected" } else { "the broker is away" };
        format!("{link}, {} of {} gateways online", sizes.online, sizes.online + sizes.offline)
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn fleet_changed(&self) {
        self.fleet_changed.store(true, Ordering::Relaxed);
    }

    fn refused(&self) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Something was taken in.
    fn taken(&self, taken: &Taken) {
        self.counts.events.fetch_add(taken.events as u64, Ordering::Relaxed);
        self.counts.copies.fetch_add(taken.copies as u64, Ordering::Relaxed);
        self.set_trouble(None);
    }

    /// Tells the pages what was taken in, until nothing comes any more.
    fn tell(&self, mut reports: mpsc::Receiver<Taken>) {
        while let Some(taken) = reports.blocking_recv() {
            let image = |sha256: &String| self.news.tell("image", &serde_json::json!({ "sha256": sha256 }).to_string());
            taken.images.iter().for_each(image);
            taken.alarms.iter().for_each(|alarm| self.tell_alarm(alarm));
            taken.commands.iter().for_each(|id| self.tell_command(id));
        }
    }

    /// A command that the broker does not take.
    fn refuse(&self, id: &str, reason: &str) {
        match self.store.refuse(id, reason, Timestamp::now()) {
            Ok(()) => self.tell_command(id),
            Err(e) => warn!("a refused command cannot be noted: {e:#}"),
        }
    }

    fn tell_alarm(&self, alarm: &str) {
        match self.store.alarm(alarm) {
            Ok(Some(row)) => self.news.tell("alarm", &Value::Object(row).to_string()),
            Ok(None) => {}
            Err(e) => warn!("pages are not told of an alarm: {e:#}"),
        }
    }

    fn tell_command(&self, id: &str) {
        let told = || -> Result<()> {
            let Some(command) = self.store.command(id)? else { return Ok(()) };
            // The alarms first, so that a page has none pending any more when it hears of the reply.
            self.store.alarms_of(id)?.iter().for_each(|alarm| self.tell_alarm(alarm));
            self.news.tell("command", &serde_json::to_string(&command)?);
            Ok(())
        };
        if let Err(e) = told() {
            warn!("pages are not told of a reply: {e:#}");
        }
    }

    /// Commands that nobody will answer any more.
    fn expire(&self) {
        match self.store.expire(line::PATIENCE, Timestamp::now()) {
            Ok(expired) => expired.iter().for_each(|id| self.tell_command(id)),
            Err(e) => warn!("commands without a reply cannot be given up: {e:#}"),
        }
    }
}
