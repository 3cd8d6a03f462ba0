//! Alarms as they are asked for.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::intake::{rank, word};
use super::{Store, millis, time};
use crate::config::Severity;
use crate::mqtt::payload::AlarmKind;

/// Alarms that one answer holds at most, where it is a page of a list.
const PAGE: usize = 500;

/// Which alarms, by their state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// What wants attention.
    #[default]
    Open,
    /// What is there now.
    Active,
    /// What nobody has seen.
    Unacknowledged,
    /// What was put off.
    Shelved,
    /// What is kept quiet.
    Quiet,
    /// What is over.
    Over,
    /// All.
    All,
}

/// Which alarms.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// By state.
    pub view: View,
    /// Of these severities; of all where none is given.
    pub severities: Vec<Severity>,
    /// Of these kinds; of all where none is given.
    pub kinds: Vec<AlarmKind>,
    /// Of this site.
    pub site: Option<String>,
    /// Of this gateway.
    pub gateway: Option<String>,
    /// Of this camera.
    pub camera: Option<String>,
    /// Of classes of this name, in which `*` is any text.
    pub class: Option<String>,
    /// With this text in a name or comment.
    pub text: Option<String>,
    /// Raised from here
    pub from: Option<Timestamp>,
    /// to here.
    pub to: Option<Timestamp>,
    /// After this one in the list, as [`Page::next`] said.
    pub before: Option<String>,
    /// The worst first, and of the same severity the latest; else the latest.
    pub worst_first: bool,
    /// So many.
    pub limit: usize,
}

/// An alarm, as the API shows it.
pub type AlarmRow = Map<String, Value>;

/// Site, gateway and camera.
pub type Eye = (String, String, String);

/// A transition, as the API shows it.
pub type EventRow = Map<String, Value>;

/// A part of a list, the latest first.
#[derive(Debug, Default)]
pub struct Page {
    /// The alarms.
    pub alarms: Vec<AlarmRow>,
    /// Where it goes on.
    pub next: Option<String>,
}

/// Open alarms of the whole plant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// By severity.
    pub critical: i64,
    /// By severity.
    pub major: i64,
    /// By severity.
    pub minor: i64,
    /// By severity.
    pub info: i64,
    /// That nobody has seen.
    pub unacknowledged: i64,
    /// Put off.
    pub shelved: i64,
}

/// A condition and what stands in for its question marks.
pub(super) struct Filter {
    pub text: String,
    pub values: Vec<Sql>,
}

impl Filter {
    fn add(&mut self, text: &str, values: impl IntoIterator<Item = Sql>) {
        self.text += " AND ";
        self.text += text;
        self.values.extend(values);
    }
}

impl Query {
    pub(super) fn filter(&self) -> Result<Filter> {
        let mut filter = Filter { text: "1".to_owned(), values: Vec::new() };
        match self.view {
            View::Open => filter.add("open = 1", []),
            View::Active => filter.add("open = 1 AND state <> 'returned_to_normal_unacknowledged'", []),
            View::Unacknowledged => {
                filter.add("open = 1 AND state IN ('unacknowledged', 'returned_to_normal_unacknowledged')", []);
            }
            View::Shelved => filter.add("open = 0 AND state <> 'normal' AND state = 'shelved'", []),
            View::Quiet => {
                filter
                    .add("open = 0 AND state <> 'normal' AND state IN ('suppressed_by_design', 'out_of_service')", []);
            }
            View::Over => filter.add("open = 0 AND state = 'normal'", []),
            View::All => {}
        }
        let marks = |n: usize| vec!["?"; n].join(", ");
        if !self.severities.is_empty() {
            let values = self.severities.iter().map(|severity| Sql::Integer(rank(*severity)));
            filter.add(&format!("severity IN ({})", marks(self.severities.len())), values);
        }
        if !self.kinds.is_empty() {
            let kinds = self.kinds.iter().map(word).collect::<Result<Vec<_>>>()?;
            filter.add(&format!("kind IN ({})", marks(kinds.len())), kinds.into_iter().map(Sql::Text));
        }
        for (column, value) in [("site", &self.site), ("gateway", &self.gateway), ("camera", &self.camera)] {
            if let Some(value) = value {
                filter.add(&format!("{column} = ?"), [Sql::Text(value.clone())]);
            }
        }
        if let Some(class) = &self.class {
            filter.add("class GLOB ?", [Sql::Text(class.replace('[', "[[]").replace('?', "[?]"))]);
        }
        if let Some(text) = &self.text {
            let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            let names = "class || ' ' || site || '/' || gateway || '/' || camera || ' ' || coalesce(comment, '')";
            filter.add(&format!("({names}) LIKE ? ESCAPE '\\'"), [Sql::Text(format!("%{escaped}%"))]);
        }
        if let Some(from) = self.from {
            filter.add("raised_at >= ?", [Sql::Integer(millis(from))]);
        }
        if let Some(to) = self.to {
            filter.add("raised_at < ?", [Sql::Integer(millis(to))]);
        }
        Ok(filter)
    }
}

impl Store {
    /// A page of alarms, the latest or the worst first.
    ///
    /// # Errors
    /// The cursor is none, or the disk refuses.
    pub fn alarms(&self, query: &Query) -> Result<Page> {
        let mut filter = query.filter()?;
        if let Some(before) = &query.before {
            let wrong = "`before` is not what `next` said";
            let mut parts = before.splitn(3, '_');
            let mut number = || parts.next().and_then(|text| text.parse().ok()).map(Sql::Integer).context(wrong);
            let (severity, at) = (number()?, number()?);
            let alarm = Sql::Text(parts.next().context(wrong)?.to_owned());
            if query.worst_first {
                filter.add("(severity, raised_at, alarm) < (?, ?, ?)", [severity, at, alarm]);
            } else {
                filter.add("(raised_at, alarm) < (?, ?)", [at, alarm]);
            }
        }
        let limit = query.limit.clamp(1, PAGE);
        let Filter { text, values } = filter;
        let order = if query.worst_first { "severity DESC, raised_at DESC" } else { "raised_at DESC" };
        let text = format!(
            "SELECT {COLUMNS} FROM alarm JOIN alarm_body USING (alarm) WHERE {text} ORDER BY {order}, alarm DESC LIMIT {}",
            limit + 1
        );
        self.read(|reader| {
            let mut statement = reader.prepare_cached(&text)?;
            let rows = statement.query_map(params_from_iter(values), read)?;
            let mut page = Page::default();
            let mut last = None;
            for row in rows {
                let (place, row) = row?;
                if page.alarms.len() == limit {
                    page.next = last;
                    break;
                }
                last = row.get("alarm").and_then(Value::as_str).map(|alarm| format!("{place}_{alarm}"));
                page.alarms.push(row);
            }
            page.alarms.iter_mut().try_for_each(|row| pending(reader, row))?;
            Ok(page)
        })
    }

    /// Each of the alarms, the latest first, however many.
    ///
    /// # Errors
    /// The disk refuses, or `f` does.
    pub fn each_alarm(&self, query: &Query, mut f: impl FnMut(AlarmRow) -> Result<()>) -> Result<()> {
        let mut query = Query { limit: PAGE, before: None, ..query.clone() };
        loop {
            let page = self.alarms(&query)?;
            page.alarms.into_iter().try_for_each(&mut f)?;
            match page.next {
                Some(next) => query.before = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// One alarm.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn alarm(&self, alarm: &str) -> Result<Option<AlarmRow>> {
        self.read(|reader| {
            let text = format!("SELECT {COLUMNS} FROM alarm JOIN alarm_body USING (alarm) WHERE alarm = ?1");
            let row = reader.prepare_cached(&text)?.query_row([alarm], read).optional()?;
            row.map(|(_, mut row)| pending(reader, &mut row).map(|()| row)).transpose()
        })
    }

    /// What happened to an alarm, the first first; the latest thousand where that is more.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn events(&self, alarm: &str) -> Result<Vec<EventRow>> {
        const SHOWN: [&str; 9] = ["id", "seq", "at", "transition", "state", "severity", "score", "by", "comment"];
        self.read(|reader| {
            let text = "SELECT body FROM event WHERE alarm = ?1 ORDER BY at DESC, seq DESC LIMIT 1000";
            let mut statement = reader.prepare_cached(text)?;
            let rows = statement.query_map([alarm], |row| row.get::<_, String>(0))?;
            let mut events = Vec::new();
            for body in rows {
                let mut body: Map<String, Value> = serde_json::from_str(&body?)?;
                let mut event = EventRow::new();
                for key in SHOWN.into_iter().chain(["replayed"]) {
                    event.insert(key.to_owned(), body.remove(key).unwrap_or_default());
                }
                events.push(event);
            }
            events.reverse();
            Ok(events)
        })
    }

    /// Open alarms.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn counts(&self) -> Result<Counts> {
        self.read(|reader| {
            let mut counts = Counts::default();
            let text =
                "SELECT severity, count(*), sum(state <> 'acknowledged') FROM alarm WHERE open = 1 GROUP BY severity";
            let mut statement = reader.prepare_cached(text)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (severity, count): (i64, i64) = (row.get(0)?, row.get(1)?);
                counts.unacknowledged += row.get::<_, i64>(2)?;
                match severity {
                    0 => counts.info = count,
                    1 => counts.minor = count,
                    2 => counts.major = count,
                    _ => counts.critical = count,
                }
            }
            let text = "SELECT count(*) FROM alarm WHERE open = 0 AND state <> 'normal' AND state = 'shelved'";
            counts.shelved = reader.prepare_cached(text)?.query_row([], |row| row.get(0))?;
            Ok(counts)
        })
    }

    /// Names of classes that were seen, for suggestions.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn classes(&self) -> Result<Vec<String>> {
        self.read(|reader| {
            // From one name to the next by the index, however many alarms there are of each.
            let text = "WITH RECURSIVE name (class) AS (
                            SELECT min(class) FROM alarm
                            UNION ALL SELECT (SELECT min(class) FROM alarm WHERE class > name.class) FROM name WHERE name.class IS NOT NULL)
                        SELECT class FROM name WHERE class IS NOT NULL LIMIT 1000";
            let mut statement = reader.prepare_cached(text)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// The picture of each camera's newest alarm, by site, gateway and camera.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn newest_images(&self) -> Result<BTreeMap<Eye, (String, Timestamp)>> {
        self.read(|reader| {
            // From one camera to the next by the index, however many alarms there are of each.
            let mut images = BTreeMap::new();
            let next = "SELECT site, gateway, camera FROM alarm WHERE (site, gateway, camera) > (?1, ?2, ?3)
                        ORDER BY site, gateway, camera LIMIT 1";
            let newest = "SELECT image, changed_at FROM alarm WHERE site = ?1 AND gateway = ?2 AND camera = ?3
                          AND image IS NOT NULL ORDER BY raised_at DESC LIMIT 1";
            let (mut next, mut newest) = (reader.prepare_cached(next)?, reader.prepare_cached(newest)?);
            let mut at = (String::new(), String::new(), String::new());
            while let Some(key) =
                next.query_row([&at.0, &at.1, &at.2], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?
            {
                at = key;
                let image = |row: &Row| Ok((row.get(0)?, time(row.get(1)?)));
                if let Some(image) = newest.query_row([&at.0, &at.1, &at.2], image).optional()? {
                    images.insert(at.clone(), image);
                }
            }
            Ok(images)
        })
    }
}

const COLUMNS: &str =
    "raised_at, body, site, gateway, changed_at, acknowledged_at, cleared_at, image, comment, alarm, severity, state";

/// Its place in a list, and the row.
fn read(row: &Row) -> rusqlite::Result<(String, AlarmRow)> {
    let (raised_at, body): (i64, String) = (row.get(0)?, row.get(1)?);
    // It was written by us.
    let mut alarm: AlarmRow = serde_json::from_str(&body).unwrap_or_default();
    for key in ["schema", "id", "seq", "at", "transition"] {
        alarm.remove(key);
    }
    let at = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(time));
    let columns = [
        ("site", json!(row.get::<_, String>(2)?)),
        ("gateway", json!(row.get::<_, String>(3)?)),
        ("raised_at", json!(time(raised_at))),
        ("changed_at", json!(at(4)?)),
        ("acknowledged_at", json!(at(5)?)),
        ("cleared_at", json!(at(6)?)),
        ("image", json!(row.get::<_, Option<String>>(7)?)),
        ("comment", json!(row.get::<_, Option<String>>(8)?)),
        ("alarm", json!(row.get::<_, String>(9)?)),
        ("state", json!(row.get::<_, String>(11)?)),
    ];
    for (key, value) in columns {
        alarm.insert(key.to_owned(), value);
    }
    for (key, usual) in [("replayed", json!(false)), ("untrusted", json!([]))] {
        alarm.entry(key).or_insert(usual);
    }
    for key in ["until", "by", "count", "reason", "heat", "model"] {
        alarm.entry(key).or_insert(Value::Null);
    }
    Ok((format!("{}_{raised_at}", row.get::<_, i64>(10)?), alarm))
}

/// The commands about it that nobody has answered.
fn pending(reader: &Connection, row: &mut AlarmRow) -> Result<()> {
    let Some(alarm) = row.get("alarm").and_then(Value::as_str) else { bail!("an alarm without an id") };
    let text = "SELECT command.id, command.command, command.at FROM command_alarm JOIN command USING (id)
                WHERE command_alarm.alarm = ?1 AND replied_at IS NULL ORDER BY command.at";
    let mut statement = reader.prepare_cached(text)?;
    let rows = statement.query_map([alarm], |row| {
        let (id, command): (String, String) = (row.get(0)?, row.get(1)?);
        Ok(json!({ "id": id, "command": command, "at": time(row.get(2)?) }))
    })?;
    let commands = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    row.insert("pending".to_owned(), Value::Array(commands));
    Ok(())
}
