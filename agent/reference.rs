//! The reference of the configuration, in Markdown, out of its JSON Schema: what is said of a key stands beside its type, once. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The tables in the order in which a person would fill them in; others follow.
const ORDER: [&str; 10] =
    ["gateway", "mqtt", "model", "cameras", "anomaly", "alarm", "outbox", "update", "metrics", "limits"];

const HEAD: &str = "# Configuration

Every key of the configuration file, generated from the types that read it: `inspectd schema config --markdown`. The file is TOML; a key that is
not listed here is refused, and so is a value out of its range, with file, line and what would be right. Paths are relative to the folder of
the file; `credential:NAME` in place of a path is the file NAME of `/etc/inspectd/secrets` ([quick-start.md](quick-start.md#3-secrets)). An example of all
of it is [config/inspectd.toml](../config/inspectd.toml); `inspectd check --config FILE` says whether a file is well.

A key without a default must be there; `none` means that it may be left out, and what holds then stands beside it.
";

/// One table of the file: how it is written there, and its schema.
struct Table<'a> {
    path: String,
    schema: &'a Value,
}

/// Writes it.
#[must_use]
pub fn markdown(schema: &Value) -> String {
    let definitions = schema["$defs"].as_object().cloned().unwrap_or_default();
    let root = schema["properties"].as_object().cloned().unwrap_or_default();
    let book = Book { definitions: &definitions };
    let mut out = HEAD.to_owned();
    let others = root.keys().map(String::as_str).filter(|name| !ORDER.contains(name));
    for name in ORDER.into_iter().chain(others) {
        let Some(property) = root.get(name) else { continue };
        let is_list = property["type"] == "array";
        let at = if is_list { &property["items"] } else { property };
        let path = if is_list { format!("[[{name}]]") } else { format!("[{name}]") };
        let about = if is_list { &property["description"] } else { &Value::Null };
        book.table(&Table { path, schema: book.resolve(at) }, about, &mut BTreeSet::new(), &mut out);
    }
    out
}

struct Book<'a> {
    definitions: &'a Map<String, Value>,
}

impl<'a> Book<'a> {
    /// What is really meant: behind references, and without the possibility that nothing is there.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
            return self.definitions.get(name).unwrap_or(&Value::Null);
        }
        let some = schema["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null"));
        some.map_or(schema, |one| self.resolve(one))
    }

    fn table(&self, table: &Table<'a>, about: &Value, seen: &mut BTreeSet<String>, out: &mut String) {
        let Some(keys) = table.schema["properties"].as_object() else { return };
        let _ = writeln!(out, "\n## `{}`\n", table.path);
        let own = table.schema["description"].as_str().filter(|text| !text.starts_with('`'));
        if let Some(text) = about.as_str().or(own) {
            let _ = writeln!(out, "{}\n", line(text));
        }
        let required: Vec<&str> =
            table.schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let _ = writeln!(out, "| key | value | default | what |\n|---|---|---|---|");
        let mut below = Vec::new();
        for (key, property) in keys {
            let at = self.resolve(property);
            let default = match &property["default"] {
                _ if required.contains(&key.as_str()) => String::new(),
                Value::Null => "none".to_owned(),
                Value::Object(_) => "its own".to_owned(),
                Value::Array(all) if all.is_empty() => "none".to_owned(),
                value => format!("`{value}`"),
            };
            let about = property["description"].as_str().or(at["description"].as_str()).unwrap_or_default();
            let _ = writeln!(out, "| `{key}` | {} | {default} | {} |", self.value(property), cell(about));
            self.children(&table.path, key, property, &mut below);
        }
        for (child, about) in below {
            if seen.insert(child.path.clone()) {
                self.table(&child, about, seen, out);
            }
        }
    }

    /// Tables that a key holds: its own, those of its elements, or one of several.
    fn children(&self, path: &str, key: &str, property: &'a Value, out: &mut Vec<(Table<'a>, &'a Value)>) {
        let at = self.resolve(property);
        let base = path.trim_matches(['[', ']']);
        if at["properties"].is_object() {
            out.push((Table { path: format!("[{base}.{key}]"), schema: at }, &Value::Null));
        } else if at["type"] == "array" && self.resolve(&at["items"])["properties"].is_object() {
            out.push((Table { path: format!("[[{base}.{key}]]"), schema: self.resolve(&at["items"]) }, &Value::Null));
        }
        for variant in at["oneOf"].as_array().into_iter().flatten() {
            let Some((name, inner)) = only(variant) else { continue };
            let inner = self.resolve(inner);
            if inner["properties"].is_object() {
                out.push((Table { path: format!("[{base}.{key}.{name}]"), schema: inner }, &variant["description"]));
            }
        }
    }

    /// What may stand there, in a few words.
    fn value(&self, schema: &'a Value) -> String {
        let at = self.resolve(schema);
        if let Some(variants) = at["oneOf"].as_array() {
            let all: Vec<String> = variants.iter().map(|variant| self.variant(variant)).collect();
            return all.join(", ");
        }
        if let Some(values) = at["enum"].as_array() {
            let all: Vec<String> =
                values.iter().filter(|value| !value.is_null()).map(|value| format!("`{value}`")).collect();
            return all.join(", ");
        }
        let kind = match &at["type"] {
            Value::Array(kinds) => {
                kinds.iter().find_map(|kind| kind.as_str().filter(|kind| *kind != "null")).unwrap_or_default()
            }
            kind => kind.as_str().unwrap_or_default(),
        };
        let range = match (at["minimum"].as_f64(), at["maximum"].as_f64()) {
            (Some(low), Some(high)) => format!(", {low} to {high}"),
            (Some(low), None) => format!(", {low} or more"),
            _ => String::new(),
        };
        match kind {
            "array" => {
                let each = self.value(&at["items"]);
                match (at["minItems"].as_u64(), at["maxItems"].as_u64()) {
                    (Some(low), Some(high)) if low == high => format!("{low} times: {each}"),
                    _ => format!("list of: {each}"),
                }
            }
            "object" if at["properties"].is_object() => "table, below".to_owned(),
            "object" => "table".to_owned(),
            "boolean" => "`true`, `false`".to_owned(),
            "string" => "text".to_owned(),
            "number" | "integer" => format!("number{range}"),
            _ => "any".to_owned(),
        }
    }

    fn variant(&self, variant: &'a Value) -> String {
        if let Some(text) = variant["const"].as_str() {
            return format!("`\"{text}\"`");
        }
        match only(variant) {
            Some((name, inner)) if self.resolve(inner)["properties"].is_object() => format!("`{name}` (below)"),
            Some((name, inner)) => format!("`{name}` = {}", self.value(inner)),
            None => self.value(variant),
        }
    }
}

/// The one key of an object that has one.
fn only(variant: &Value) -> Option<(&String, &Value)> {
    let keys = variant["properties"].as_object().filter(|keys| keys.len() == 1)?;
    keys.iter().next()
}

fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cell(text: &str) -> String {
    line(text).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    fn now() -> String {
        markdown(schema::schema(schema::Name::Config).as_value())
    }

    /// `inspectd schema config --markdown > docs/configuration.md` makes it right.
    #[test]
    fn the_reference_is_that_of_the_types() {
        let kept = include_str!("../docs/configuration.md");
        assert!(
            kept == now(),
            "docs/configuration.md is old: inspectd schema config --markdown > docs/configuration.md"
        );
    }

    #[test]
    fn every_key_is_there_with_what_it_does() {
        let text = now();
        for row in [
            "| `url` | text |  | ",
            "| `window` | number, 1 to 512 | `32` | ",
            "| `severity` | `\"info\"`, `\"minor\"`, `\"major\"`, `\"critical\"` | `\"major\"` | ",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
        for table in [
            "[gateway]",
            "[[cameras]]",
            "[cameras.source.genicam]",
            "[cameras.trigger.on.line]",
            "[[alarm.rules]]",
            "[metrics]",
        ] {
            assert!(text.contains(&format!("\n## `{table}`\n")), "{table}\n{text}");
        }
        let bare = text.lines().filter(|line| line.starts_with("| `") && line.ends_with("|  |")).collect::<Vec<_>>();
        assert!(bare.is_empty(), "nothing is said of {bare:?}");
    }
}
