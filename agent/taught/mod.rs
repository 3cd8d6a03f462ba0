//! Classes that operators have taught: "this anomaly is a CLASS", or "this is fine".
//!
//! Guarantees
//! - What was taught is on disk before it is answered, and in force for the next frame of every camera.
//! - A lesson belongs to the network that saw its examples. After a model update that keeps the features it goes on; after
//!   one that does not it stays on disk, names nothing, and the log and the list of lessons say so.
//! - A gateway knows at most [`CLASSES`] classes.

mod lesson;
mod look;
mod scene;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use anyhow::{Context, Result, ensure};
use tracing::warn;

pub use lesson::{Clash, EXAMPLES, Lesson, Lessons, SCHEMA};
pub use look::Look;
pub use scene::Scene;

use crate::anomaly::memory::Mark;
use crate::config::ClassName;
use crate::durable;

/// Classes a gateway.
pub const CLASSES: usize = 500;
const SUFFIX: &str = ".lesson.json";

/// The lessons in force, and their folder.
pub struct School {
    dir: PathBuf,
    mark: RwLock<Arc<Mark>>,
    lessons: RwLock<Lessons>,
}

impl School {
    /// Opens `taught` in a state folder, for a network of this mark. What cannot be read is said and left where it is.
    #[must_use]
    pub fn open(state_dir: &Path, mark: Mark) -> Self {
        let dir = state_dir.join("taught");
        let mut lessons = Lessons::default();
        let mut paths = Vec::new();
        match fs::read_dir(&dir) {
            Ok(entries) => paths.extend(entries.filter_map(Result::ok).map(|entry| entry.path())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => warn!("{} cannot be read, what was taught is not in force: {e}", dir.display()),
        }
        for path in paths.iter().filter(|path| path.to_string_lossy().ends_with(SUFFIX)) {
            let read = fs::read(path).context("cannot be read").and_then(|bytes| Lesson::read(&bytes));
            match read {
                Ok(lesson) => {
                    if !lesson.mark.is_like(&mark) {
                        warn!(
                            "{} was taught with a network of other features: it names nothing until it is taught again",
                            lesson.class
                        );
                    }
                    lessons.put(lesson);
                }
                Err(e) => warn!("{} is left out: {e:#}", path.display()),
            }
        }
        Self { dir, mark: RwLock::new(Arc::new(mark)), lessons: RwLock::new(lessons) }
    }

    /// By which network regions are seen now.
    #[must_use]
    pub fn mark(&self) -> Arc<Mark> {
        Arc::clone(&self.mark.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on regions are seen by another network. Lessons of one that sees otherwise name nothing.
    pub fn set_mark(&self, mark: &Mark) {
        *self.mark.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(mark.clone());
    }

    /// The lessons.
    pub fn lessons(&self) -> RwLockReadGuard<'_, Lessons> {
        self.lessons.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lesson with the examples that are known of its class already, unless they were seen by other features, or taught
    /// the other way round (harmless or not); and which other class it may be taken for. Changes nothing.
    #[must_use]
    pub fn merged(&self, new: Lesson) -> (Lesson, Option<Clash>) {
        let mut lesson = new;
        let lessons = self.lessons();
        if let Some(known) = lessons.get(&lesson.class)
            && known.mark.is_like(&lesson.mark)
            && known.harmless == lesson.harmless
        {
            let mut examples = known.examples.clone();
            // The same alarm taught twice is no second example.
            examples.retain(|e| !lesson.examples.contains(e));
            examples.append(&mut lesson.examples);
            lesson.examples = examples.split_off(examples.len().saturating_sub(EXAMPLES));
        }
        let clash = lessons.clash(&lesson);
        (lesson, clash)
    }

    /// Adds examples to a class, or makes it; see [`School::merged`].
    ///
    /// # Errors
    /// As for [`School::put`].
    pub fn teach(&self, new: Lesson) -> Result<(Lesson, Option<Clash>)> {
        let (lesson, clash) = self.merged(new);
        self.put(lesson.clone())?;
        Ok((lesson, clash))
    }

    /// Takes a lesson in as it is; whether it is new.
    ///
    /// # Errors
    /// The disk refuses, or there are as many classes as there may be; nothing is changed then.
    pub fn put(&self, lesson: Lesson) -> Result<bool> {
        {
            let lessons = self.lessons();
            let known = lessons.get(&lesson.class);
            if known == Some(&lesson) {
                return Ok(false);
            }
            let room = known.is_some() || lessons.iter().count() < CLASSES;
            ensure!(room, "{CLASSES} classes are taught already; forget one first");
        }
        durable::write(&self.path(&lesson.class), &serde_json::to_vec(&lesson)?)?;
        Ok(self.lessons.write().unwrap_or_else(PoisonError::into_inner).put(lesson))
    }

    /// Forgets a class; whether it was there.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn forget(&self, class: &ClassName) -> Result<bool> {
        durable::remove(&self.path(class))?;
        Ok(self.lessons.write().unwrap_or_else(PoisonError::into_inner).remove(class))
    }

    fn path(&self, class: &ClassName) -> PathBuf {
        // A class has no tilde.
        self.dir.join(class.as_str().replace('/', "~") + SUFFIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Severity;

    fn lesson(class: &str, examples: &[[f32; 2]]) -> Lesson {
        Lesson {
            schema: SCHEMA.into(),
            class: ClassName::new(class).unwrap(),
            severity: Severity::Major,
            harmless: false,
            examples: examples.iter().map(|e| Look::new(e).unwrap().values().to_vec()).collect(),
            mark: Mark(vec![1.0, 0.0]),
            at: jiff::Timestamp::UNIX_EPOCH,
            by: "g".into(),
        }
    }

    #[test]
    fn lessons_outlive_a_restart_and_grow() {
        let dir = tempfile::tempdir().unwrap();
        let school = School::open(dir.path(), Mark(vec![1.0, 0.0]));
        school.teach(lesson("steel/dent", &[[1.0, 0.0]])).unwrap();
        let (now, clash) = school.teach(lesson("steel/dent", &[[1.0, 0.1], [1.0, 0.0]])).unwrap();
        assert_eq!((now.examples.len(), clash), (2, None));
        let again = School::open(dir.path(), Mark(vec![1.0, 0.0]));
        assert_eq!(again.lessons().iter().cloned().collect::<Vec<_>>(), [now]);
        let class = ClassName::new("steel/dent").unwrap();
        assert!(again.forget(&class).unwrap() && !again.forget(&class).unwrap());
        assert_eq!(School::open(dir.path(), Mark(vec![1.0, 0.0])).lessons().iter().count(), 0);
    }

    #[test]
    fn examples_are_bounded_and_damage_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let school = School::open(dir.path(), Mark(vec![1.0, 0.0]));
        for n in 0..2 * EXAMPLES {
            school.teach(lesson("a", &[[1.0, n as f32 / 100.0]])).unwrap();
        }
        assert_eq!(school.lessons().get(&ClassName::new("a").unwrap()).unwrap().examples.len(), EXAMPLES);
        fs::write(dir.path().join("taught/b.lesson.json"), b"{").unwrap();
        let again = School::open(dir.path(), Mark(vec![0.0, 1.0]));
        assert_eq!(again.lessons().iter().count(), 1);
        // What another network saw is replaced, not mixed.
        let (now, _) = again.teach(Lesson { mark: Mark(vec![0.0, 1.0]), ..lesson("a", &[[0.0, 1.0]]) }).unwrap();
        assert_eq!(now.examples.len(), 1);
    }
}
