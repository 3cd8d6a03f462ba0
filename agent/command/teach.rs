//! Teaching by command, and lessons that come from elsewhere in the site.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::Office;
use super::order::Teach;
use crate::anomaly::memory::Mark;
use crate::config::{ClassName, Severity};
use crate::inspector::UNKNOWN;
use crate::outbox::examples::{LOOKS, SCENES};
use crate::outbox::{Kind, Message};
use crate::taught::{Lesson, Look, SCHEMA, Scene};

/// Examples that one command may name.
const EXAMPLES: usize = 5;

impl Office {
    /// Teaches a class by alarms of this gateway, or regions of their pictures, and tells the site.
    pub(super) fn teach(&self, order: &Teach) -> Result<Value> {
        ensure!(order.class.as_str() != UNKNOWN, "class: {UNKNOWN} is what nobody has named; give it a name");
        let examples = self.examples(order)?;
        let known = self.school.lessons().get(&order.class).cloned();
        let (lesson, clash) = self.school.merged(Lesson {
            schema: SCHEMA.into(),
            class: order.class.clone(),
            severity: order.severity.or(known.as_ref().map(|l| l.severity)).unwrap_or(Severity::Major),
            harmless: order.harmless.or(known.as_ref().map(|l| l.harmless)).unwrap_or_default(),
            examples,
            mark: Mark::clone(&self.school.mark()),
            at: Timestamp::now(),
            by: self.gateway.clone(),
        });
        // The site first: what is told comes back, so that it is in force here even if this disk then refuses.
        self.tell(&lesson)?;
        self.school.put(lesson.clone())?;
        let warning = clash.as_ref().map(|clash| {
            let own = clash.spread.map_or_else(String::new, |s| format!(", from each other {s:.2}"));
            format!(
                "regions may be taken for {}: the examples are {:.2} away from it{own}; teach more examples of both, or one \
                 class for both",
                clash.class, clash.distance
            )
        });
        let mut result = json!({ "class": lesson.class.as_str(), "examples": lesson.examples.len() });
        if let (Some(clash), Some(warning)) = (clash, warning) {
            warn!(class = %lesson.class, "{warning}");
            result["warning"] = warning.into();
            result["clash"] =
                json!({ "class": clash.class.as_str(), "distance": clash.distance, "own_distance": clash.spread });
        }
        Ok(result)
    }

    /// What the examples look like, each once.
    fn examples(&self, order: &Teach) -> Result<Vec<Vec<f32>>> {
        let count = order.alarms.len() + order.regions.len();
        let wanted = (1..=EXAMPLES).contains(&count);
        ensure!(wanted, "alarms, regions: {count} examples are named; there may be 1 to {EXAMPLES} of both together");
        let mut looks = Vec::new();
        for alarm in &order.alarms {
            let look = self.outbox.look(&alarm.to_string())?.and_then(|values| Look::new(&values));
            looks.push(look.with_context(|| {
                format!(
                    "alarm {alarm} cannot be an example here: only the latest {LOOKS} anomalies of this gateway can. An \
                     alarm of a class of the model's own is not taught: change that class's threshold in the bundle, or the \
                     camera's `classes`"
                )
            })?);
        }
        for (n, region) in order.regions.iter().enumerate() {
            let scene = self.outbox.scene(&region.image)?.with_context(|| {
                format!(
                    "regions[{n}].image: {} is not among the latest {SCENES} pictures that alarms of this gateway have named",
                    region.image
                )
            })?;
            looks.push(Scene::from_bytes(scene).look(region.bbox).with_context(|| format!("regions[{n}]"))?);
        }
        let mut examples: Vec<Vec<f32>> = Vec::new();
        for look in looks {
            let values = look.values().to_vec();
            if !examples.contains(&values) {
                examples.push(values);
            }
        }
        Ok(examples)
    }

    /// Forgets a class, and tells the site, where it may be known though it is not here.
    pub(super) fn forget(&self, class: &ClassName) -> Result<Value> {
        self.publish(class, Vec::new())?;
        let known = self.school.forget(class)?;
        Ok(json!({ "class": class.as_str(), "known_here": known }))
    }

    /// What was taught, without the examples themselves.
    pub(super) fn list_lessons(&self) -> Value {
        let lessons = self.school.lessons();
        let rows = lessons.iter().map(|lesson| {
            json!({
                "class": lesson.class.as_str(), "severity": lesson.severity, "harmless": lesson.harmless,
                "examples": lesson.examples.len(), "at": lesson.at, "by": lesson.by,
                "in_force": lesson.mark.is_like(&self.school.mark()),
            })
        });
        json!({ "lessons": rows.collect::<Vec<_>>() })
    }

    /// Takes in what another gateway, or `inspectd teach`, has published; an empty message forgets the class.
    pub(super) fn receive(&self, class: &str, payload: &[u8]) {
        if let Err(e) = self.take_in(class, payload) {
            warn!("what was published as {} is not taken in: {e:#}", self.topics.lesson(class));
        }
    }

    fn take_in(&self, class: &str, payload: &[u8]) -> Result<()> {
        let class = ClassName::new(class).map_err(anyhow::Error::msg)?;
        if payload.is_empty() {
            if self.school.forget(&class)? {
                info!(%class, "forgotten by the site");
            }
            return Ok(());
        }
        let lesson = Lesson::read(payload)?;
        ensure!(lesson.class == class, "it is about {}", lesson.class);
        let by = lesson.by.clone();
        let usable = |lesson: &Lesson| lesson.mark.is_like(&self.school.mark());
        // Not within the `if let`, which would hold the lessons' lock while the disk is written to.
        let known = self.school.lessons().get(&class).cloned().filter(&usable);
        if let Some(known) = known {
            if known.at >= lesson.at {
                if known.at > lesson.at {
                    self.tell(&known)?; // the site has an older one: what was taught here never got there
                }
                return Ok(());
            }
            ensure!(
                usable(&lesson),
                "a network of other features has seen it ({by}); what is known of {class} here stays"
            );
            if known.by != lesson.by {
                warn!(%class, by, "replaces what was taught by {}", known.by);
            }
        }
        let usable = usable(&lesson);
        if self.school.put(lesson)? {
            if usable {
                info!(%class, by, "learned from the site");
            } else {
                warn!(%class, by, "was taught with a network of other features: it names nothing here");
            }
        }
        Ok(())
    }

    /// Publishes a lesson, retained, so that every gateway and every gateway added later knows it.
    fn tell(&self, lesson: &Lesson) -> Result<()> {
        self.publish(&lesson.class, serde_json::to_vec(lesson)?)
    }

    fn publish(&self, class: &ClassName, payload: Vec<u8>) -> Result<()> {
        let topic = self.topics.lesson(class.as_str());
        self.outbox.transaction(|t| {
            t.push(&Message { kind: Kind::Lesson, subject: Some(topic.clone()), topic, payload, retain: true })
        })
    }
}
