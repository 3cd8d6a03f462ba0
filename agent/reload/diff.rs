//! What differs between two configurations, key by key, by effective values: a default that is written out is no difference. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::config::Config;

/// Ends a camera's name, which may hold dots, within keys.
const END: char = '\u{1f}';

/// A key that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `mqtt.window`, `cameras.NAME.fps`.
    pub key: String,
    /// Its value before; nothing where it is new.
    pub old: Option<String>,
    /// Its value now; nothing where it is gone.
    pub new: Option<String>,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "{}: {old} -> {new}", self.key),
            (None, Some(new)) => write!(f, "+ {}: {new}", self.key),
            (Some(old), None) => write!(f, "- {}: {old}", self.key),
            (None, None) => f.write_str(&self.key),
        }
    }
}

/// All that differs, in the order of the keys. A camera that is new or gone is one change.
///
/// # Errors
/// None that a user could cause.
pub fn diff(old: &Config, new: &Config) -> Result<Vec<Change>> {
    let (mut old, mut new) = (flat(old)?, flat(new)?);
    let before = old.clone();
    summarise(&mut old, &new);
    summarise(&mut new, &before);
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let changes = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    Ok(changes
        .map(|key| Change { key: key.replace(END, "."), old: old.get(key).cloned(), new: new.get(key).cloned() })
        .collect())
}

/// Of a camera that the other side does not have, the kind of its source says enough.
fn summarise(mine: &mut BTreeMap<String, String>, other: &BTreeMap<String, String>) {
    let camera =
        |key: &str| key.strip_prefix("cameras.").and_then(|rest| rest.find(END)).map(|at| key[..at + 8].to_owned());
    let known: BTreeSet<String> = other.keys().filter_map(|key| camera(key)).collect();
    let mut lone: BTreeMap<String, String> = BTreeMap::new();
    mine.retain(|key, _| {
        let Some(name) = camera(key).filter(|name| !known.contains(name)) else { return true };
        if let Some(source) = key.strip_prefix(&format!("{name}{END}source.")) {
            let kind = source.split('.').next().unwrap_or_default();
            lone.insert(name, kind.to_owned());
        }
        false
    });
    mine.extend(lone.into_iter().map(|(name, kind)| (name.replace(END, ""), kind)));
}

fn flat(config: &Config) -> Result<BTreeMap<String, String>> {
    let mut value = serde_json::to_value(config).context("a configuration cannot be compared")?;
    let mut out = BTreeMap::new();
    if let Some(Value::Array(cameras)) = value.as_object_mut().and_then(|map| map.remove("cameras")) {
        for (camera, at) in cameras.iter().zip(&config.cameras) {
            leaves(&format!("cameras.{}{END}", at.name()), camera, &mut out);
        }
    }
    leaves("", &value, &mut out);
    Ok(out)
}

fn leaves(key: &str, value: &Value, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let below = match key {
                    "" => name.clone(),
                    key if key.ends_with(END) => format!("{key}{name}"),
                    key => format!("{key}.{name}"),
                };
                leaves(&below, value, out);
            }
        }
        Value::Null => {}
        other => drop(out.insert(key.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"
[gateway]
site = "s"
name = "g"
state_dir = "state"
[mqtt]
url = "mqtt://localhost"
[model]
bundle = "bundle"
[[cameras]]
name = "a"
source.synthetic = {}
[[cameras]]
name = "b"
source.synthetic = {}
"#;

    fn changes(to: &str) -> Vec<String> {
        let parse = |text: &str| Config::parse(text, "f.toml").unwrap();
        diff(&parse(OLD), &parse(to)).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_differs_is_named_and_nothing_else() {
        assert!(changes(OLD).is_empty());
        let spelled =
            OLD.replace("url = ", "window = 32\nurl = ").replacen("name = \"a\"", "name = \"a\"\nsensitivity = 1.0", 1);
        assert!(changes(&spelled).is_empty(), "defaults that are written out");
        let other = OLD.replacen("name = \"a\"", "name = \"a\"\nfps = 5.0", 1).replace("name = \"b\"", "name = \"c\"");
        let found = changes(&other);
        assert_eq!(found, ["+ cameras.a.fps: 5.0", "- cameras.b: synthetic", "+ cameras.c: synthetic"]);
        let found = changes(&OLD.replace("synthetic = {}", "synthetic = { rate = 4.0 }"));
        assert_eq!(
            found,
            ["cameras.a.source.synthetic.rate: 10.0 -> 4.0", "cameras.b.source.synthetic.rate: 10.0 -> 4.0"]
        );
    }

    #[test]
    fn the_order_of_cameras_is_no_difference() {
        let (a, b) = (
            "[[cameras]]\nname = \"a\"\nsource.synthetic = {}\n",
            "[[cameras]]\nname = \"b\"\nsource.synthetic = {}\n",
        );
        assert!(changes(&OLD.replace(a, "").replace(b, &format!("{b}{a}"))).is_empty());
    }
}
