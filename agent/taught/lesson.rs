//! A class that an operator has taught, and how a region is named after it.

use anyhow::{Result, ensure};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::look::Look;
use crate::anomaly::memory::Mark;
use crate::config::{ClassName, Severity};

/// What a lesson calls itself.
pub const SCHEMA: &str = "inspect.lesson/1";
/// Examples that a lesson keeps; the oldest go.
pub const EXAMPLES: usize = 20;
/// No lesson is longer.
pub const MAX_BYTES: usize = 512 * 1024;
/// Letters of `by`.
const MAX_BY: usize = 64;
/// Up to this distance a region is named after a lesson. Of boxes of taught classes of steel and tiles (5 examples) nine of
/// ten and six of ten are nearer, of boxes of another domain fewer than one of twenty.
const LIKE: f32 = 0.7;
/// Up to this distance a region is as harmless as a lesson says. Less, since a defect may look a little like it.
const FINE: f32 = 0.25;

/// `inspect/v1/{site}/taught/{class}`, retained: a class that every gateway of the site knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lesson {
    /// `inspect.lesson/1`
    #[schemars(extend("const" = "inspect.lesson/1"))]
    pub schema: String,
    /// What such a region is called.
    pub class: ClassName,
    /// How bad it is.
    pub severity: Severity,
    /// Such a region is fine: no alarm.
    #[serde(default)]
    pub harmless: bool,
    /// What the examples look like: vectors of length one, the oldest first.
    pub examples: Vec<Vec<f32>>,
    /// By which network they were seen.
    pub mark: Mark,
    /// When it was taught last, RFC 3339.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// Where it was taught.
    pub by: String,
}

impl Lesson {
    /// Out of JSON.
    ///
    /// # Errors
    /// It is no lesson, or one that cannot be used; in words for who has written it.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        ensure!(bytes.len() <= MAX_BYTES, "a lesson may have {MAX_BYTES} bytes");
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let lesson: Self = serde_path_to_error::deserialize(&mut json)?;
        json.end()?;
        ensure!(lesson.schema == SCHEMA, "it is of the kind {:?}, not {SCHEMA}", lesson.schema);
        let count = lesson.examples.len();
        ensure!((1..=EXAMPLES).contains(&count), "it has {count} examples; there may be 1 to {EXAMPLES}");
        ensure!(lesson.mark.is_proper(), "its mark must be a vector of length one");
        ensure!(lesson.by.len() <= MAX_BY, "`by` may have {MAX_BY} bytes");
        let length = lesson.mark.0.len();
        let square = |e: &Vec<f32>| e.iter().map(|v| v * v).sum::<f32>();
        let proper = lesson.examples.iter().all(|e| e.len() == length && (square(e) - 1.0).abs() < 0.01);
        ensure!(proper, "its examples must be vectors of length one, with as many values as its mark");
        Ok(lesson)
    }

    /// How far a region is from it, 0 to 4: half from the mean of its examples, half from the nearest of them.
    #[must_use]
    pub fn distance(&self, look: &Look) -> f32 {
        let nearest = self.examples.iter().map(|e| look.distance(e)).fold(4.0, f32::min);
        f32::midpoint(look.distance(&self.mean()), nearest)
    }

    /// Up to which distance a region is called after it.
    #[must_use]
    pub fn limit(&self) -> f32 {
        if self.harmless { FINE } else { LIKE }
    }

    /// Mean distance of its examples from the others; `None` where there is but one.
    #[must_use]
    pub fn spread(&self) -> Option<f32> {
        let looks: Vec<Look> = self.examples.iter().filter_map(|e| Look::new(e)).collect();
        let pairs: Vec<f32> = (0..looks.len())
            .flat_map(|a| (0..a).map(move |b| (a, b)))
            .map(|(a, b)| looks[a].distance(looks[b].values()))
            .collect();
        (!pairs.is_empty()).then(|| pairs.iter().sum::<f32>() / pairs.len() as f32)
    }

    fn mean(&self) -> Vec<f32> {
        let mut mean = vec![0.0; self.mark.0.len()];
        for example in &self.examples {
            mean.iter_mut().zip(example).for_each(|(m, v)| *m += v / self.examples.len() as f32);
        }
        mean
    }
}

/// A lesson that looks like another one.
#[derive(Debug, Clone, PartialEq)]
pub struct Clash {
    /// The other one.
    pub class: ClassName,
    /// Mean distance of the new one's examples from it.
    pub distance: f32,
    /// Mean distance of the new one's examples from each other.
    pub spread: Option<f32>,
}

/// All lessons.
#[derive(Debug, Default)]
pub struct Lessons(Vec<Lesson>);

impl Lessons {
    /// All of them, by class.
    pub fn iter(&self) -> impl Iterator<Item = &Lesson> {
        self.0.iter()
    }

    /// The lesson of a class.
    #[must_use]
    pub fn get(&self, class: &ClassName) -> Option<&Lesson> {
        self.0.iter().find(|lesson| lesson.class == *class)
    }

    /// Takes a lesson in, in place of what was there of its class; whether anything has changed.
    pub fn put(&mut self, lesson: Lesson) -> bool {
        match self.0.binary_search_by(|known| known.class.cmp(&lesson.class)) {
            Ok(at) if self.0[at] == lesson => false,
            Ok(at) => {
                self.0[at] = lesson;
                true
            }
            Err(at) => {
                self.0.insert(at, lesson);
                true
            }
        }
    }

    /// Forgets a class; whether it was there.
    pub fn remove(&mut self, class: &ClassName) -> bool {
        let before = self.0.len();
        self.0.retain(|lesson| lesson.class != *class);
        self.0.len() < before
    }

    /// The lesson that names a region, by a network of this mark.
    #[must_use]
    pub fn name(&self, look: &Look, mark: &Mark) -> Option<&Lesson> {
        let usable = self.0.iter().filter(|lesson| lesson.mark.is_like(mark));
        let near = usable.map(|lesson| (lesson.distance(look), lesson)).filter(|(far, lesson)| *far <= lesson.limit());
        near.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, lesson)| lesson)
    }

    /// The other lesson that is so near that regions may be called after the wrong one.
    #[must_use]
    pub fn clash(&self, new: &Lesson) -> Option<Clash> {
        let looks: Vec<Look> = new.examples.iter().filter_map(|e| Look::new(e)).collect();
        let others = self.0.iter().filter(|other| other.class != new.class && other.mark.is_like(&new.mark));
        let far = |other: &Lesson| looks.iter().map(|l| other.distance(l)).sum::<f32>() / looks.len().max(1) as f32;
        let nearest = others.map(|other| (far(other), other)).min_by(|a, b| a.0.total_cmp(&b.0));
        let (distance, other) = nearest.filter(|(distance, _)| *distance <= LIKE)?;
        Some(Clash { class: other.class.clone(), distance, spread: new.spread() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark(vec![1.0, 0.0, 0.0])
    }

    fn lesson(class: &str, examples: &[[f32; 3]]) -> Lesson {
        Lesson {
            schema: SCHEMA.into(),
            class: ClassName::new(class).unwrap(),
            severity: Severity::Minor,
            harmless: false,
            examples: examples.iter().map(|e| Look::new(e).unwrap().values().to_vec()).collect(),
            mark: mark(),
            at: Timestamp::UNIX_EPOCH,
            by: "g".into(),
        }
    }

    fn look(values: [f32; 3]) -> Look {
        Look::new(&values).unwrap()
    }

    #[test]
    fn a_region_is_named_after_the_nearest_lesson_or_none() {
        let mut lessons = Lessons::default();
        assert!(lessons.put(lesson("steel/dent", &[[1.0, 0.0, 0.0], [1.0, 0.2, 0.0]])));
        assert!(!lessons.put(lesson("steel/dent", &[[1.0, 0.0, 0.0], [1.0, 0.2, 0.0]])), "the same again");
        lessons.put(lesson("steel/oil", &[[0.0, 1.0, 0.0]]));
        let name = |values| lessons.name(&look(values), &mark()).map(|l| l.class.to_string());
        assert_eq!(name([1.0, 0.1, 0.1]).as_deref(), Some("steel/dent"));
        assert_eq!(name([0.2, 1.0, 0.0]).as_deref(), Some("steel/oil"));
        assert_eq!(name([0.0, 0.0, 1.0]), None);
        assert!(
            lessons.name(&look([1.0, 0.0, 0.0]), &Mark(vec![0.0, 1.0, 0.0])).is_none(),
            "another network's lessons"
        );
        assert!(lessons.remove(&ClassName::new("steel/oil").unwrap()));
        assert!(!lessons.remove(&ClassName::new("steel/oil").unwrap()));
    }

    #[test]
    fn what_is_harmless_must_be_nearer() {
        let mut lessons = Lessons::default();
        lessons.put(Lesson { harmless: true, ..lesson("fine/glare", &[[1.0, 0.0, 0.0]]) });
        assert!(lessons.name(&look([1.0, 0.3, 0.0]), &mark()).is_some());
        assert!(lessons.name(&look([1.0, 0.7, 0.0]), &mark()).is_none());
    }

    #[test]
    fn a_clash_is_told_with_both_distances() {
        let mut lessons = Lessons::default();
        lessons.put(lesson("steel/dent", &[[1.0, 0.0, 0.0]]));
        let clash = lessons.clash(&lesson("steel/ding", &[[1.0, 0.2, 0.0], [1.0, 0.0, 0.2]])).unwrap();
        assert_eq!(clash.class.as_str(), "steel/dent");
        assert!(clash.distance > 0.0 && clash.distance < 0.1 && clash.spread.unwrap() < 0.2, "{clash:?}");
        assert_eq!(lessons.clash(&lesson("steel/oil", &[[0.0, 1.0, 0.0]])), None);
        assert_eq!(lessons.clash(&lesson("steel/dent", &[[1.0, 0.0, 0.1]])), None, "itself");
    }

    #[test]
    fn what_is_no_lesson_is_refused() {
        let good = serde_json::to_value(lesson("a/b", &[[1.0, 0.0, 0.0]])).unwrap();
        let read = |value: &serde_json::Value| Lesson::read(value.to_string().as_bytes());
        assert_eq!(read(&good).unwrap(), lesson("a/b", &[[1.0, 0.0, 0.0]]));
        for (key, value, message) in [
            ("schema", serde_json::json!("other"), "not inspect.lesson/1"),
            ("examples", serde_json::json!([]), "0 examples"),
            ("examples", serde_json::json!([[1.0, 0.0]]), "vectors of length one"),
            ("examples", serde_json::json!([[3.0, 0.0, 0.0]]), "vectors of length one"),
            ("class", serde_json::json!("a//b"), "class: "),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            let error = read(&bad).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert!(Lesson::read(b"\xff").is_err() && Lesson::read(b"").is_err());
    }
}
