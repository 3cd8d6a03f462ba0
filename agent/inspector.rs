//! One frame's way through the model: prepare, forward pass, anomaly score, findings. The daemon, `eval` and `bench` all
//! inspect with this.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::anomaly::{Anomaly, Check};
use crate::config::{AnomalyConfig, Severity};
use crate::frame::Image;
use crate::frame::view::View;
use crate::glob::glob;
use crate::model::Detection;
use crate::model::bundle::{Bundle, ClassSpec, InputSpec, Manifest};
use crate::model::decode::iou;
use crate::model::preprocess::{self, Input, Placement};
use crate::model::runtime::{Forward, Session};
use crate::mqtt::payload::{AlarmKind, Finding, ModelRef};
use crate::taught::{Look, Scene, School};
use crate::verdict::heat::Heat;

/// The class of an anomaly that nothing names.
pub const UNKNOWN: &str = "unknown";
/// An anomalous region that a named detection covers this much is that defect, not a second finding.
const SAME_PLACE: f32 = 0.3;

/// What one thread needs to look at frames.
pub struct Inspector {
    session: Session,
    spec: InputSpec,
    input: Input,
    /// What the last forward pass gave.
    pub forward: Forward,
    /// How long the parts of the last look took.
    pub times: Times,
    /// Whose findings these are.
    pub model: Arc<ModelRef>,
    /// Which of the models that this pipeline has had, from 0.
    pub generation: u64,
}

/// How long the parts took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// From capture until a worker took it.
    pub queue: Duration,
    /// Crop, resize, normalise.
    pub prepare: Duration,
    /// The network, with decoding of its detections.
    pub forward: Duration,
    /// Anomaly score and findings.
    pub judge: Duration,
}

impl Times {
    /// Preparation and network.
    #[must_use]
    pub fn looked(&self) -> Duration {
        self.prepare + self.forward
    }
}

impl ModelRef {
    /// Of a bundle.
    #[must_use]
    pub fn of(bundle: &Bundle) -> Self {
        let manifest = &bundle.manifest;
        Self { name: manifest.name.clone(), version: manifest.version.clone(), sha256: bundle.sha256.clone() }
    }
}

impl Inspector {
    /// With a session of its own.
    #[must_use]
    pub fn new(session: Session, bundle: &Bundle) -> Self {
        Self {
            session,
            spec: bundle.manifest.input.clone(),
            input: Input::default(),
            forward: Forward::default(),
            times: Times::default(),
            model: Arc::new(ModelRef::of(bundle)),
            generation: 0,
        }
    }

    /// Runs the network over a picture; the features and detections are then in `forward`.
    ///
    /// # Errors
    /// The forward pass failed.
    pub fn look(&mut self, image: &Image, view: &View) -> Result<Placement> {
        let begun = Instant::now();
        self.times = Times::default();
        preprocess::prepare(image, view, &self.spec, &mut self.input)?;
        let prepared = Instant::now();
        self.session.run(&self.input, &mut self.forward)?;
        self.times = Times { prepare: prepared - begun, forward: prepared.elapsed(), ..Times::default() };
        Ok(self.input.placement.clone())
    }

    /// The input of the last look, for the stopwatch.
    #[must_use]
    pub fn input(&self) -> &Input {
        &self.input
    }
}

/// What is judged by the memory of one camera: everything that depends on earlier frames.
pub struct Judge {
    check: Option<Check>,
    /// By the model's numbers; none where this camera does not look for that class.
    classes: Vec<Option<ClassSpec>>,
    severity: Severity,
    school: Option<Arc<School>>,
    is_trusted: bool,
}

/// A frame's findings.
#[derive(Debug)]
pub struct Judgement {
    /// In pixels of the frame.
    pub findings: Vec<Finding>,
    /// What the anomaly check said.
    pub anomaly: Option<Anomaly>,
    /// Where the frame looks strange, if that is an anomaly.
    pub heat: Option<Heat>,
    /// What the network has seen, where something was found.
    pub scene: Option<Scene>,
}

impl Judge {
    /// For one camera. Without feature outputs in the bundle there is no anomaly check, whatever the configuration says.
    #[must_use]
    pub fn new(config: &AnomalyConfig, sensitivity: f64, manifest: &Manifest) -> Self {
        let runs = config.enabled && manifest.has_features();
        let check = runs.then(|| Check::new(config.false_alarm_rate.get(), sensitivity));
        let classes = manifest.classes.iter().cloned().map(Some).collect();
        Self { check, classes, severity: config.severity, school: None, is_trusted: true }
    }

    /// Names what the model cannot name after what was taught.
    #[must_use]
    pub fn taught(mut self, school: Arc<School>) -> Self {
        self.school = Some(school);
        self
    }

    /// Looks for those classes alone that match one of these patterns. What another class would have explained can then still be an
    /// anomaly.
    #[must_use]
    pub fn only(mut self, patterns: &[String]) -> Self {
        let wanted = |class: &ClassSpec| patterns.iter().any(|p| glob(p, &class.name));
        self.classes.iter_mut().for_each(|class| *class = class.take().filter(wanted));
        self
    }

    /// The anomaly check, where it runs.
    #[must_use]
    pub fn check(&self) -> Option<&Check> {
        self.check.as_ref()
    }

    /// The anomaly check, to change what it knows.
    pub fn check_mut(&mut self) -> Option<&mut Check> {
        self.check.as_mut()
    }

    /// Whether the frames that come now are to be learned from.
    pub fn trust(&mut self, is_trusted: bool) {
        self.is_trusted = is_trusted;
    }

    /// Judges the forward pass of the next frame. The order of calls is the order of the stream.
    pub fn judge(&mut self, forward: &Forward, placement: &Placement) -> Judgement {
        let is_trusted = self.is_trusted;
        let anomaly = self
            .check
            .as_mut()
            .filter(|_| !forward.features.is_empty())
            .map(|c| c.score(&forward.features, is_trusted));
        let class = |d: &Detection| self.classes.get(d.class).and_then(Option::as_ref);
        let counting = |d: &&Detection| class(d).is_some_and(|class| d.score >= class.threshold);
        let detections: Vec<&Detection> = forward.detections.iter().filter(counting).collect();
        let named = detections.iter().filter_map(|d| {
            let class = class(d)?;
            Some(Finding {
                kind: AlarmKind::Defect,
                class: class.name.clone(),
                severity: class.severity,
                score: d.score,
                bbox: placement.finding(d.bbox)?,
                look: None, // the model's own classes are not taught
                appearance: Look::of(&forward.features, d.bbox),
            })
        });
        let regions = anomaly.iter().flat_map(|a| &a.regions);
        let unnamed = regions.filter(|r| !detections.iter().any(|d| covers(d.bbox, r.bbox)));
        let unknown = unnamed.filter_map(|r| {
            let bbox = placement.finding(r.bbox)?;
            let look = Look::of(&forward.features, r.bbox);
            let (kind, class, severity) = match self.lesson(look.as_ref()) {
                Some(Taught::Fine) => return None,
                Some(Taught::Defect(class, severity)) => (AlarmKind::Defect, class, severity),
                None => (AlarmKind::Anomaly, UNKNOWN.to_owned(), self.severity),
            };
            Some(Finding { kind, class, severity, score: r.score, bbox, appearance: look.clone(), look })
        });
        let findings: Vec<Finding> = named.chain(unknown).collect();
        // What has no name yet: a person shall see why it is strange.
        let strange: Vec<[f32; 4]> =
            findings.iter().filter(|f| f.kind == AlarmKind::Anomaly).map(|f| placement.to_input(f.bbox)).collect();
        let heat = anomaly.as_ref().and_then(|a| Heat::of(&a.map, &strange, placement));
        let scene = (!findings.is_empty()).then(|| Scene::of(&forward.features, placement)).flatten();
        Judgement { findings, anomaly, heat, scene }
    }

    fn lesson(&self, look: Option<&Look>) -> Option<Taught> {
        let school = self.school.as_ref()?;
        let lessons = school.lessons();
        let lesson = lessons.name(look?, &school.mark())?;
        Some(if lesson.harmless { Taught::Fine } else { Taught::Defect(lesson.class.to_string(), lesson.severity) })
    }
}

enum Taught {
    Fine,
    Defect(String, Severity),
}

fn covers(detection: [f32; 4], region: [f32; 4]) -> bool {
    let (x, y) = (f32::midpoint(region[0], region[2]), f32::midpoint(region[1], region[3]));
    let inside = x > detection[0] && x < detection[2] && y > detection[1] && y < detection[3];
    inside || iou(detection, region) > SAME_PLACE
}
