//! What came how often: charts and the shift's report.

use anyhow::Result;
use jiff::Timestamp;
use rusqlite::params_from_iter;
use rusqlite::types::Value as Sql;
use serde::{Deserialize, Serialize};

use super::alarms::Filter;
use super::{Counts, Query, Store, millis, time};

/// Classes and cameras that are listed at most.
const LISTED: usize = 100;
/// Steps of a series at most.
const STEPS: i64 = 2000;

/// The width of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bucket {
    /// An hour.
    #[default]
    Hour,
    /// 24 hours.
    Day,
}

impl Bucket {
    fn millis(self) -> i64 {
        match self {
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }
}

/// By severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BySeverity {
    /// Critical ones.
    pub critical: i64,
    /// Major ones.
    pub major: i64,
    /// Minor ones.
    pub minor: i64,
    /// For the record.
    pub info: i64,
}

/// A step of the series.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Its begin.
    pub at: Timestamp,
    /// Alarms raised in it.
    pub counts: BySeverity,
}

/// Of a class.
#[derive(Debug, Clone, Serialize)]
pub struct OfClass {
    /// The class.
    pub class: String,
    /// What it is about.
    pub kind: String,
    /// Alarms.
    pub count: i64,
    /// Of all, 0 to 1.
    pub share: f64,
}

/// Of a camera.
#[derive(Debug, Clone, Serialize)]
pub struct OfCamera {
    /// The site.
    pub site: String,
    /// The gateway.
    pub gateway: String,
    /// The camera.
    pub camera: String,
    /// Alarms.
    pub count: i64,
}

/// How long alarms waited for somebody.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Waits {
    /// Half of them, seconds.
    pub p50: f64,
    /// 19 of 20, seconds.
    pub p95: f64,
}

/// Of a time.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// From here
    pub from: Timestamp,
    /// to here.
    pub to: Timestamp,
    /// Alarms raised.
    pub total: i64,
    /// One after the other, without a hole.
    pub series: Vec<Step>,
    /// Most first.
    pub classes: Vec<OfClass>,
    /// Most first.
    pub cameras: Vec<OfCamera>,
    /// From raised to acknowledged.
    pub acknowledge_s: Option<Waits>,
    /// Open now, of the whole plant.
    pub open: i64,
}

impl Store {
    /// Figures of what a query finds, whatever its state.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn figures(&self, query: &Query, from: Timestamp, to: Timestamp, bucket: Bucket) -> Result<Figures> {
        let query = Query { from: Some(from), to: Some(to), ..query.clone() };
        let Filter { text: which, values } = query.filter()?;
        let Counts { critical, major, minor, info, .. } = self.counts()?;
        // Steps are so wide that no series is longer than can be drawn.
        let span = (millis(to) - millis(from)).max(1);
        let width = bucket.millis() * (span / bucket.millis() / STEPS + 1);
        let first = millis(from).div_euclid(width);
        let last = (millis(to) - 1).div_euclid(width).max(first);
        let mut series: Vec<Step> =
            (first..=last).map(|n| Step { at: time(n * width), counts: BySeverity::default() }).collect();
        self.read(|reader| {
            let bind = || params_from_iter(values.iter().map(Clone::clone).collect::<Vec<Sql>>());
            let mut total = 0;
            let text = format!("SELECT raised_at / {width}, severity, count(*) FROM alarm WHERE {which} GROUP BY 1, 2");
            let mut statement = reader.prepare_cached(&text)?;
            let mut rows = statement.query(bind())?;
            while let Some(row) = rows.next()? {
                let (n, severity, count): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                total += count;
                let Some(step) = usize::try_from(n - first).ok().and_then(|n| series.get_mut(n)) else { continue };
                match severity {
                    0 => step.counts.info += count,
                    1 => step.counts.minor += count,
                    2 => step.counts.major += count,
                    _ => step.counts.critical += count,
                }
            }
            let text = format!(
                "SELECT class, kind, count(*) FROM alarm WHERE {which} GROUP BY 1, 2 ORDER BY 3 DESC, 1 LIMIT {LISTED}"
            );
            let mut statement = reader.prepare_cached(&text)?;
            let classes = statement.query_map(bind(), |row| {
                let count: i64 = row.get(2)?;
                Ok(OfClass { class: row.get(0)?, kind: row.get(1)?, count, share: count as f64 / total.max(1) as f64 })
            })?;
            let classes = classes.collect::<rusqlite::Result<_>>()?;
            let text = format!(
                "SELECT site, gateway, camera, count(*) FROM alarm WHERE {which} GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT {LISTED}"
            );
            let mut statement = reader.prepare_cached(&text)?;
            let cameras = statement.query_map(bind(), |row| {
                Ok(OfCamera { site: row.get(0)?, gateway: row.get(1)?, camera: row.get(2)?, count: row.get(3)? })
            })?;
            let cameras = cameras.collect::<rusqlite::Result<_>>()?;
            let text = format!(
                "SELECT acknowledged_at - raised_at FROM alarm WHERE {which} AND acknowledged_at IS NOT NULL ORDER BY 1"
            );
            let mut statement = reader.prepare_cached(&text)?;
            let waits = statement.query_map(bind(), |row| row.get(0))?;
            let waits: Vec<i64> = waits.collect::<rusqlite::Result<_>>()?;
            let at = |share: f64| waits.get(((waits.len() as f64 - 1.0) * share).round() as usize);
            let seconds = |share: f64| at(share).map(|ms| *ms as f64 / 1000.0);
            let acknowledge_s = seconds(0.5).zip(seconds(0.95)).map(|(p50, p95)| Waits { p50, p95 });
            let open = critical + major + minor + info;
            Ok(Figures { from, to, total, series, classes, cameras, acknowledge_s, open })
        })
    }
}
