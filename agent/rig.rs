//! The cameras as configured: their lanes and judges, and the threads that keep them going.
//!
//! Guarantee: [`Rig::apply`] touches those cameras alone whose configuration has changed. One that is inspected otherwise but has the
//! same source goes on without a cut; what it has learned stays in force where it shows the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use tracing::{info, warn};

use crate::anomaly::shelf::Shelf;
use crate::config::{CameraConfig, Config, TriggerOn};
use crate::engine::Engine;
use crate::fitting::{self, Want};
use crate::frame::feed::Feed;
use crate::frame::supervisor;
use crate::keeper::Keeper;
use crate::model::runtime::Environment;
use crate::pipeline::{Lane, Pipeline, Settings};
use crate::pulse::Pulses;
use crate::stop::Stop;
use crate::taught::School;
use crate::trigger::line::{self, Chip};
use crate::trigger::timer::Timer;

/// What it is built of.
pub struct Parts {
    /// Where lanes are put in.
    pub pipeline: Arc<Pipeline>,
    /// What cameras have learned.
    pub keeper: Arc<Keeper>,
    /// What operators have taught.
    pub school: Arc<School>,
    /// The runtime, for cameras with a model of their own.
    pub environment: Environment,
    /// The clock of triggers.
    pub timer: Arc<Timer>,
}

/// The rig.
pub struct Rig {
    parts: Parts,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    running: BTreeMap<Arc<str>, Running>,
    /// Models of cameras' own, by what was asked for.
    engines: Vec<(Value, usize, Arc<Shelf>)>,
    /// Nothing is started any more.
    has_ended: bool,
}

/// The threads of a camera.
struct Running {
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
    /// What they were started for.
    needs: [Value; 6],
}

/// The models of the cameras, in the order of a configuration: number, and shelf where it is not the gateway's.
pub struct Prepared(Vec<(usize, Option<Arc<Shelf>>)>);

/// What was done to a camera.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "did", content = "camera")]
pub enum Did {
    /// It is new.
    Started(String),
    /// It is gone.
    Stopped(String),
    /// It was opened again.
    Restarted(String),
    /// It goes on, and is inspected otherwise.
    Changed(String),
}

impl Rig {
    /// Without cameras.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets ready what may fail: the models that cameras have of their own. Nothing is changed by it.
    ///
    /// # Errors
    /// A camera's model cannot be had or, at a reload, does not know the classes that it is to look for.
    pub fn prepare(&self, config: &Config, is_reload: bool) -> Result<Prepared> {
        let mut engines = Vec::new();
        for camera in &config.cameras {
            let of = || format!("the model of camera {}", camera.name());
            let (engine, shelf) = self.engine(config, camera).with_context(of)?;
            let (kind, _) = self.parts.pipeline.kind(engine).with_context(of)?;
            // A model that came by an update may know fewer; that is no reason not to start with it, and the judge says so.
            if is_reload {
                let of = || format!("classes of camera {}", camera.name());
                kind.manifest.serves(&camera.classes, config.anomaly.enabled).with_context(of)?;
            }
            engines.push((engine, shelf));
        }
        Ok(Prepared(engines))
    }

    fn engine(&self, config: &Config, camera: &CameraConfig) -> Result<(usize, Option<Arc<Shelf>>)> {
        let Some(own) = &camera.model else { return Ok((0, None)) };
        let want = Want::camera(config, camera.name(), own);
        // Another bundle at the same place is another model.
        let asked = serde_json::json!([own, camera.name(), want.origin()?]);
        let found = self
            .inner()
            .engines
            .iter()
            .find(|(known, ..)| *known == asked)
            .map(|(_, n, shelf)| (*n, Arc::clone(shelf)));
        if let Some((engine, shelf)) = found {
            return Ok((engine, Some(shelf)));
        }
        let bundle = fitting::bundle(&want, &self.parts.environment)?;
        let engine = Engine::start(config.model.workers(), &self.parts.environment, &bundle)?;
        info!(camera = camera.name(), model = %engine.kind.model.name, version = %engine.kind.model.version, "has a model of its own");
        let shelf = Arc::new(Shelf::new(&config.gateway.state_dir, engine.kind.mark.clone()));
        let number = self.parts.pipeline.add(engine);
        self.inner().engines.push((asked, number, Arc::clone(&shelf)));
        Ok((number, Some(shelf)))
    }

    /// Brings the cameras from one configuration (none at the start) to another. Where a thread cannot be started, all else is done
    /// nevertheless, and the next call tries it again.
    ///
    /// # Errors
    /// What could not be started.
    pub fn apply(&self, old: Option<&Config>, new: &Config, prepared: &Prepared) -> (Vec<Did>, Result<()>) {
        let mut done = Vec::new();
        if let Err(e) = self.arrange(old, new, prepared, &mut done) {
            return (done, Err(e));
        }
        self.tidy();
        let lanes = self.parts.pipeline.lanes();
        let begins = |lane: &&Arc<Lane>, running: &BTreeMap<Arc<str>, Running>| {
            running.get(lane.name()).is_none_or(|running| running.needs != needs(&lane.settings().camera, new))
        };
        let (starting, ending): (Vec<&Arc<Lane>>, Vec<Running>) = {
            let mut inner = self.inner();
            let starting: Vec<_> = lanes.iter().filter(|lane| begins(lane, &inner.running)).collect();
            let goes = |name: &Arc<str>| {
                !lanes.iter().any(|lane| lane.name() == name) || starting.iter().any(|lane| lane.name() == name)
            };
            let ending = inner.running.extract_if(.., |name, _| goes(name));
            let ending = ending.map(|(name, running)| {
                if let Some(lane) = starting.iter().find(|lane| *lane.name() == name) {
                    done.retain(|did| *did != Did::Changed(lane.name().to_string()));
                    done.push(Did::Restarted(lane.name().to_string()));
                }
                running
            });
            let ending = ending.collect();
            (starting, ending)
        };
        // Not under the lock: a driver may take its time to let go.
        ending.iter().for_each(|running| running.stop.set());
        ending.into_iter().for_each(Running::end);
        let mut result = Ok(());
        for lane in starting {
            let begun = run(lane, &lane.settings().camera, new, &self.parts.pipeline.pulses);
            let begun = begun.with_context(|| format!("camera {}", lane.name())).map(|running| {
                let mut inner = self.inner();
                if inner.has_ended {
                    running.stop.set();
                } else {
                    inner.running.insert(Arc::clone(lane.name()), running);
                }
            });
            result = result.and(begun);
        }
        (done, result)
    }

    /// Lets go of models that no camera has any more.
    pub fn tidy(&self) {
        let used: Vec<usize> = self.parts.pipeline.lanes().iter().map(|lane| lane.settings().engine).collect();
        self.inner().engines.retain(|(_, number, _)| used.contains(number));
        self.parts.pipeline.keep(&used);
    }

    /// The lanes, without the threads.
    fn arrange(&self, old: Option<&Config>, new: &Config, prepared: &Prepared, done: &mut Vec<Did>) -> Result<()> {
        let Parts { pipeline, keeper, school, timer, .. } = &self.parts;
        keeper.change(|change| {
            let (before, mut lanes) = (pipeline.lanes(), Vec::new());
            for (camera, (engine, shelf)) in new.cameras.iter().zip(&prepared.0) {
                let (kind, generation) = pipeline.kind(*engine).context("a model is gone")?;
                let judge = kind.judge(&new.anomaly, camera, (*engine == 0).then_some(school));
                let settings = Settings::new(camera.clone(), *engine);
                let Some(lane) = before.iter().find(|lane| &**lane.name() == camera.name()) else {
                    let bell = Arc::clone(&pipeline.bell);
                    let feed =
                        Feed::new(camera.name().into(), Box::new(move || bell.ring())).with_timer(Arc::clone(timer));
                    feed.configure(camera.trigger.as_ref(), camera.source.is_exposed_by_line());
                    let lane = Arc::new(Lane::new(Arc::new(feed), settings, generation, judge));
                    change.enrol(&lane, shelf.as_ref(), true)?;
                    if old.is_some() {
                        done.push(Did::Started(camera.name().to_owned()));
                    }
                    lanes.push(lane);
                    continue;
                };
                let was = lane.settings();
                let same_camera = text(&was.camera) == text(camera) && was.engine == *engine;
                if !same_camera || old.is_none_or(|old| text(&old.anomaly) != text(&new.anomaly)) {
                    change.save(lane);
                    let knows = shows(&was.camera) == shows(camera) && was.engine == *engine;
                    lane.reconfigure(settings, generation, judge, knows);
                    lane.feed.configure(camera.trigger.as_ref(), camera.source.is_exposed_by_line());
                    change.enrol(lane, shelf.as_ref(), was.camera.product != camera.product)?;
                    done.push(Did::Changed(camera.name().to_owned()));
                }
                lanes.push(Arc::clone(lane));
            }
            for gone in before.iter().filter(|lane| !lanes.iter().any(|kept| kept.name() == lane.name())) {
                change.leave(gone);
                gone.feed.close();
                done.push(Did::Stopped(gone.name().to_string()));
            }
            pipeline.set_lanes(lanes);
            Ok::<(), anyhow::Error>(())
        })
    }

    /// A thread that has ended though nobody has asked it to.
    #[must_use]
    pub fn died(&self) -> Option<String> {
        let inner = self.inner();
        let mut threads =
            inner.running.values().filter(|running| !running.stop.is_set()).flat_map(|running| &running.threads);
        threads.find(|thread| thread.is_finished()).map(|thread| thread.thread().name().unwrap_or_default().to_owned())
    }

    /// Ends all threads; those that hang in a driver are waited for as long as it takes.
    pub fn end(&self) {
        let running = {
            let mut inner = self.inner();
            inner.has_ended = true;
            std::mem::take(&mut inner.running)
        };
        running.values().for_each(|running| running.stop.set());
        running.into_values().for_each(Running::end);
    }
}

impl Running {
    fn end(self) {
        self.stop.set();
        self.threads.into_iter().for_each(|thread| drop(thread.join())); // one that panicked has said so itself
    }
}

fn run(lane: &Arc<Lane>, camera: &CameraConfig, config: &Config, pulses: &Pulses) -> Result<Running> {
    let mut running = Running { stop: Stop::default(), threads: Vec::new(), needs: needs(camera, config) };
    let mut spawn = |name: String, f: Box<dyn FnOnce() + Send>| -> Result<()> {
        running.threads.push(thread::Builder::new().name(name).spawn(f).context("no thread could be started")?);
        Ok(())
    };
    let pulse = pulses.begin(format!("capture of {}", camera.name()));
    let (feed, stop, limits, own) =
        (Arc::clone(&lane.feed), running.stop.clone(), config.limits.clone(), camera.clone());
    spawn(
        format!("camera-{}", camera.name()),
        Box::new(move || supervisor::supervise(&own, &limits, &feed, &pulse, &stop)),
    )?;
    if let Some(TriggerOn::Line(config)) = camera.trigger.as_ref().map(|trigger| &trigger.on) {
        let (feed, stop, config) = (Arc::clone(&lane.feed), running.stop.clone(), config.clone());
        spawn(
            format!("trigger-{}", camera.name()),
            Box::new(move || line::watch(|| Chip::open(&config), &feed, &stop)),
        )?;
    }
    Ok(running)
}

/// Effective values, defaults and all; two that are the same configure the same.
fn text(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|e| {
        warn!("a configuration cannot be compared, which restarts more than has changed: {e}");
        Value::Null
    })
}

/// What a camera's threads depend on.
fn needs(camera: &CameraConfig, config: &Config) -> [Value; 6] {
    let line =
        camera.trigger.as_ref().filter(|trigger| matches!(trigger.on, TriggerOn::Line(_))).map(|trigger| &trigger.on);
    [
        text(&camera.source),
        text(&camera.fps),
        text(&camera.hang_timeout_s),
        text(&line),
        text(&camera.trigger.as_ref().map(|trigger| trigger.on.asks())),
        text(&config.limits),
    ]
}

/// What a camera's pictures show the network.
fn shows(camera: &CameraConfig) -> [Value; 2] {
    [camera.source.scene(), text(&camera.view())]
}
