//! Releases that were uploaded, and how they are brought to gateways.
//!
//! A release is kept as the file that was uploaded, after all in it was found to be what was signed. Whether the signature is one that
//! a gateway trusts is for the gateway to say; the console has no keys. A roll-out that the console's end has cut off is not taken up by
//! itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use uuid::Uuid;

use super::letter::is_hash;
use super::news::News;
use super::store::Store;
use crate::durable;
use crate::mqtt::link::{Link, LinkOptions};
use crate::publish::load::Load;
use crate::publish::rollout::{Plan, Rollout, Settled, Step, Wave};
use crate::publish::target::Target;
use crate::stop::Stop;

/// Releases, and roll-outs, that are kept.
const MOST: (usize, usize) = (100, 100);
/// Under which the store keeps them.
const KEPT: &str = "rollouts";

/// A release that was uploaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The hash of its text.
    pub sha256: String,
    /// The bundle's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its counter.
    pub counter: u64,
    /// The sites that it is for.
    pub site: String,
    /// When it came.
    pub uploaded_at: Timestamp,
    /// Who has brought it.
    pub by: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// What its signature says of who has signed it; not verified here.
    pub signer: String,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Chunks go to the broker.
    Chunks,
    /// Gateways were asked, and decide.
    Waiting,
    /// All have been asked.
    Done,
    /// Too many have failed, or the broker is away.
    Failed,
    /// Somebody has stopped it.
    Stopped,
}

/// A gateway that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Its name.
    pub gateway: String,
    /// `committed` or `failed`.
    pub outcome: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// What is to be rolled out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Which release.
    pub release: String,
    /// `SITE/GATEWAY`, with `*` for any text.
    pub to: String,
    /// As `1,10%,100%`.
    #[serde(default = "all")]
    pub waves: String,
    /// Share of a wave.
    #[serde(default = "tenth")]
    pub max_failed: f64,
    /// For a wave.
    #[serde(default = "hour")]
    pub patience_minutes: f64,
}

fn all() -> String {
    "100%".to_owned()
}

fn tenth() -> f64 {
    0.1
}

fn hour() -> f64 {
    60.0
}

/// A roll-out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Its id.
    pub id: String,
    /// The release.
    pub release: String,
    /// Its bundle's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// For whom.
    pub to: String,
    /// In which steps.
    pub waves: String,
    /// Who has begun it.
    pub by: String,
    /// When.
    pub began_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// How far it is.
    pub phase: Phase,
    /// The wave, from 1.
    pub wave: usize,
    /// Gateways that have been asked.
    pub asked: usize,
    /// Gateways.
    pub of: usize,
    /// Why it is over before its time.
    pub error: Option<String>,
    /// Who has been asked.
    pub gateways: Vec<Asked>,
}

/// All of them.
pub struct Rollouts {
    dir: PathBuf,
    store: Arc<Store>,
    options: LinkOptions,
    news: News,
    courses: Mutex<Vec<Course>>,
    stops: Mutex<BTreeMap<String, Stop>>,
}

impl Rollouts {
    /// Those that are kept; who was under way has failed.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn open(dir: PathBuf, store: Arc<Store>, options: LinkOptions, news: News, now: Timestamp) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for entry in fs::read_dir(&dir)?.filter_map(Result::ok) {
            if entry.path().extension().is_some_and(|extension| extension == "part") {
                let _ = fs::remove_file(entry.path()); // an upload that was cut off
            }
        }
        let kept = store.setting(KEPT)?;
        let mut courses: Vec<Course> = kept
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .unwrap_or_else(|e| {
                warn!("what is kept of roll-outs is damaged and left out: {e}");
                None
            })
            .unwrap_or_default();
        for course in courses.iter_mut().filter(|course| course.ended_at.is_none()) {
            course.ended_at = Some(now);
            course.phase = Phase::Failed;
            course.error = Some(
                "the console was stopped meanwhile: begin it again, gateways that have it are asked nothing".into(),
            );
        }
        Ok(Self { dir, store, options, news, courses: Mutex::new(courses), stops: Mutex::default() })
    }

    fn courses(&self) -> MutexGuard<'_, Vec<Course>> {
        self.courses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stops(&self) -> MutexGuard<'_, BTreeMap<String, Stop>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where an upload may be put while it comes.
    #[must_use]
    pub fn incoming(&self) -> PathBuf {
        self.dir.join(format!("{}.part", Uuid::now_v7()))
    }

    /// Takes in a file that was uploaded.
    ///
    /// # Errors
    /// It is no release, something in it is not what was signed, or there are too many.
    pub fn take(&self, file: &std::path::Path, by: &str, now: Timestamp) -> Result<Release> {
        let load = Load::unpack(BufReader::new(File::open(file)?))?;
        ensure!(self.releases()?.len() < MOST.0, "there are {} releases already: delete some", MOST.0);
        let sha256 = load.sha256.to_string();
        let comment = load.signature.lines().find_map(|line| line.strip_prefix("trusted comment: "));
        let release = Release {
            name: load.release.name.clone(),
            version: load.release.version.to_string(),
            counter: load.release.counter,
            site: load.release.sites.join(", "),
            uploaded_at: now,
            by: by.to_owned(),
            bytes: fs::metadata(file)?.len(),
            signer: comment.unwrap_or_default().chars().take(200).collect(),
            sha256,
        };
        fs::rename(file, self.path(&release.sha256))?;
        durable::write(&self.note(&release.sha256), &serde_json::to_vec(&release)?)?;
        info!(name = release.name, version = release.version, by, "a release was uploaded");
        Ok(release)
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}.tar"))
    }

    fn note(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}.json"))
    }

    /// The releases that are there, the latest first.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn releases(&self) -> Result<Vec<Release>> {
        let mut releases = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                releases.extend(serde_json::from_slice::<Release>(&fs::read(&path)?));
            }
        }
        releases.sort_by_key(|release| std::cmp::Reverse(release.uploaded_at));
        Ok(releases)
    }

    /// Throws a release away.
    ///
    /// # Errors
    /// There is none, or it is being rolled out.
    pub fn delete(&self, sha256: &str) -> Result<()> {
        ensure!(is_hash(sha256) && self.note(sha256).is_file(), "there is no such release");
        let is_used = self.courses().iter().any(|course| course.release == sha256 && course.ended_at.is_none());
        ensure!(!is_used, "it is being rolled out: stop that first");
        durable::remove(&self.note(sha256))?;
        durable::remove(&self.path(sha256))
    }

    /// The roll-outs, the latest first.
    #[must_use]
    pub fn all(&self) -> Vec<Course> {
        self.courses().iter().rev().cloned().collect()
    }

    /// Stops one.
    ///
    /// # Errors
    /// It is not under way.
    pub fn stop(&self, id: &str) -> Result<()> {
        self.stops().get(id).context("it is not under way")?.set();
        Ok(())
    }

    /// Stops all, and waits until gateways and broker have been told.
    pub async fn end(&self) {
        self.stops().values().for_each(Stop::set);
        while !self.stops().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Begins a roll-out; gives its id.
    ///
    /// # Errors
    /// The wish is wrong, there is no such release, or a gateway of it is under way already.
    pub fn begin(self: &Arc<Self>, wish: &Wish, by: &str, now: Timestamp) -> Result<String> {
        let to: Target = wish.to.parse().map_err(|e| anyhow!("to: {e}"))?;
        let waves = wish.waves.split(',').map(|wave| wave.trim().parse());
        let waves: Vec<Wave> = waves.collect::<Result<_, _>>().map_err(|e| anyhow!("waves: {e}"))?;
        ensure!((0.0..=1.0).contains(&wish.max_failed), "max_failed is a share, 0 to 1");
        ensure!((0.1..=10_000.0).contains(&wish.patience_minutes), "patience_minutes is 0.1 to 10000");
        let release = self.releases()?.into_iter().find(|release| release.sha256 == wish.release);
        let release = release.context("there is no such release")?;
        let mut courses = self.courses();
        if let Some(other) = courses.iter().find(|course| course.ended_at.is_none() && site(&course.to) == to.site) {
            bail!("{} {} is being rolled out at {}: stop that first, or wait", other.name, other.version, other.to);
        }
        let id = Uuid::now_v7().to_string();
        courses.push(Course {
            id: id.clone(),
            release: release.sha256.clone(),
            name: release.name,
            version: release.version,
            to: wish.to.clone(),
            waves: wish.waves.clone(),
            by: by.to_owned(),
            began_at: now,
            ended_at: None,
            phase: Phase::Chunks,
            wave: 0,
            asked: 0,
            of: 0,
            error: None,
            gateways: Vec::new(),
        });
        if courses.len() > MOST.1
            && let Some(oldest) = courses.iter().position(|course| course.ended_at.is_some())
        {
            courses.remove(oldest);
        }
        drop(courses);
        let stop = Stop::default();
        self.stops().insert(id.clone(), stop.clone());
        let patience = Duration::from_secs_f64(wish.patience_minutes * 60.0);
        let plan = Plan { to, waves, max_failed: wish.max_failed, patience, keep: false };
        let (this, own, path) = (Arc::clone(self), id.clone(), self.path(&release.sha256));
        tokio::spawn(async move {
            let outcome = this.go(&own, &plan, path, stop.clone()).await;
            this.ended(&own, outcome, stop.is_set());
        });
        Ok(id)
    }

    async fn go(&self, id: &str, plan: &Plan, path: PathBuf, stop: Stop) -> Result<()> {
        let load = tokio::task::spawn_blocking(move || Load::unpack(BufReader::new(File::open(path)?))).await??;
        let options =
            LinkOptions { client_id: format!("inspectd-rollout-{id}"), lasting: false, ..self.options.clone() };
        let link = Link::connect(&options).await?;
        let mut tell = |step: Step| self.step(id, &step);
        Rollout::new(plan, &load, link, stop, &mut tell).run().await
    }

    /// Changes what is said of it, and keeps that where it is more than a gateway's word.
    fn change(&self, id: &str, is_kept: bool, f: impl FnOnce(&mut Course)) {
        let mut courses = self.courses();
        if let Some(course) = courses.iter_mut().find(|course| course.id == id) {
            f(course);
        }
        if !is_kept {
            drop(courses);
            self.news.tell("rollout", "{}");
            return;
        }
        let text = serde_json::to_string(&*courses);
        drop(courses);
        match text.map_err(Into::into).and_then(|text| self.store.set(KEPT, &text)) {
            Ok(()) => self.news.tell("rollout", "{}"),
            Err(e) => warn!("how far a roll-out is cannot be kept: {e:#}"),
        }
    }

    fn step(&self, id: &str, step: &Step) {
        match *step {
            Step::Begins(_, gateways) => self.change(id, true, |course| course.of = gateways.len()),
            Step::Publishing(..) => {}
            Step::WaveEnds(..) => self.change(id, true, |_| {}),
            Step::Wave(wave, asked) => self.change(id, true, |course| {
                (course.phase, course.asked, course.wave) = (Phase::Waiting, asked, course.wave + 1);
                let asked = wave.iter().map(|gateway| Asked { gateway: gateway.clone(), outcome: None, reason: None });
                course.gateways.extend(asked);
            }),
            Step::Settled(gateway, outcome) => self.change(id, false, |course| {
                for asked in course.gateways.iter_mut().filter(|asked| asked.gateway == gateway) {
                    (asked.outcome, asked.reason) = match outcome {
                        Settled::Committed => (Some("committed".into()), None),
                        Settled::Failed(reason) => (Some("failed".into()), Some(reason.clone())),
                    };
                }
            }),
        }
    }

    fn ended(&self, id: &str, outcome: Result<()>, is_stopped: bool) {
        self.change(id, true, |course| {
            course.ended_at = Some(Timestamp::now());
            course.phase = match &outcome {
                Ok(()) => Phase::Done,
                Err(_) if is_stopped => Phase::Stopped,
                Err(_) => Phase::Failed,
            };
            course.error = outcome.as_ref().err().map(|e| format!("{e:#}"));
        });
        match outcome {
            Ok(()) => info!(id, "the roll-out is done"),
            Err(e) => warn!(id, "the roll-out is over before its time: {e:#}"),
        }
        self.stops().remove(id);
    }
}

fn site(to: &str) -> &str {
    to.split('/').next().unwrap_or_default()
}
