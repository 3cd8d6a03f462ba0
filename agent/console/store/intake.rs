//! What comes from the broker finds its place.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};
use serde::Serialize;
use serde_json::Value;

use super::{Store, images, millis};
use crate::config::Severity;
use crate::console::letter::Address;
use crate::mqtt::payload::{Alarm, AlarmEvent, AlarmState, Reply, Transition};

/// Something that came.
#[derive(Debug)]
pub enum Item {
    /// An alarm's transition.
    Event(Box<AlarmEvent>),
    /// An alarm's present state, kept by the broker: how alarms are known that are older than the store.
    Alarm {
        /// Of which site,
        site: String,
        /// and gateway.
        gateway: String,
        /// The alarm.
        alarm: Box<Alarm>,
        /// The broker had kept it, so that nothing that it still holds for us is newer.
        retained: bool,
    },
    /// A picture, whose hash was verified.
    Image {
        /// Its hash.
        sha256: String,
        /// JPEG.
        bytes: Vec<u8>,
    },
    /// An alarm's topic was emptied: its finding is gone, whatever its events have said.
    Gone(Address, String),
    /// The answer to a command.
    Reply(Address, Box<Reply>),
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Taken {
    /// Alarms that are new or have changed.
    pub alarms: Vec<String>,
    /// Commands that are answered.
    pub commands: Vec<String>,
    /// Pictures that were not known.
    pub images: Vec<String>,
    /// Events that were not known.
    pub events: usize,
    /// Those that had come before.
    pub copies: usize,
}

/// Events of a gateway that did not come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The site.
    pub site: String,
    /// The gateway.
    pub gateway: String,
    /// The first number.
    pub from: i64,
    /// The last one.
    pub to: i64,
    /// When it was noticed.
    pub noticed_at: Timestamp,
}

impl Store {
    /// Takes in what came, in its order; with `tells` an alarm that is new waits for the webhook as well.
    ///
    /// # Errors
    /// The disk refuses; then nothing of it was taken.
    pub fn take(&self, items: &[Item], now: Timestamp, tells: bool) -> Result<Taken> {
        let mut taken = Taken::default();
        // Pictures first: what names one comes after it, and a file that no row knows is written over.
        for item in items {
            if let Item::Image { sha256, bytes } = item {
                images::write(&self.dir, sha256, bytes)?;
            }
        }
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        for item in items {
            match item {
                Item::Event(event) => take_event(&transaction, event, now, tells, &mut taken)?,
                Item::Alarm { site, gateway, alarm, retained } => {
                    let place =
                        Place { site, gateway, epoch: 0, seq: 0, at: millis(alarm.raised_at), now: millis(now) };
                    take_alarm(&transaction, &place, alarm, *retained, &mut taken)?;
                }
                Item::Gone(address, alarm) => gone(&transaction, address, alarm, now, &mut taken)?,
                Item::Image { sha256, bytes } => {
                    let text = "INSERT OR IGNORE INTO image VALUES (?1, ?2, ?3)";
                    let new =
                        transaction.prepare_cached(text)?.execute(params![sha256, millis(now), bytes.len() as i64])?;
                    taken.images.extend((new > 0).then(|| sha256.clone()));
                }
                Item::Reply(address, reply) => {
                    let text = "UPDATE command SET ok = ?2, error = ?3, result = ?4, replied_at = ?5
                                WHERE id = ?1 AND site = ?6 AND gateway = ?7 AND (replied_at IS NULL OR error = ?8)";
                    let result = (!reply.result.is_null()).then(|| reply.result.to_string());
                    let row = params![
                        reply.id,
                        reply.ok,
                        reply.error,
                        result,
                        millis(now),
                        address.site,
                        address.gateway,
                        super::commands::UNANSWERED
                    ];
                    let known = transaction.prepare_cached(text)?.execute(row)?;
                    taken.commands.extend((known > 0).then(|| reply.id.clone()));
                }
            }
        }
        transaction.commit().context("the store cannot keep what came (is the disk full?)")?;
        Ok(taken)
    }

    /// How many events of each gateway did not come.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn missing(&self) -> Result<BTreeMap<Address, i64>> {
        self.read(|reader| {
            let text = "SELECT site, gateway, sum(min(last - first + 1, 1000000000)) FROM gap GROUP BY 1, 2";
            let mut query = reader.prepare_cached(text)?;
            let rows =
                query.query_map([], |row| Ok((Address { site: row.get(0)?, gateway: row.get(1)? }, row.get(2)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Ends an alarm whose gateway cannot; false where there is none that is not over.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn close(&self, alarm: &str, by: &str, now: Timestamp) -> Result<bool> {
        let text = "UPDATE alarm SET state = 'normal', open = 0, changed_at = ?2, cleared_at = coalesce(cleared_at, ?2), comment = ?3
                    WHERE alarm = ?1 AND state <> 'normal'";
        let comment = format!("closed in the control room by {by}: its gateway was not there");
        Ok(self.writer().execute(text, params![alarm, millis(now), comment])? == 1)
    }

    /// Events that did not come, of all gateways.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn gaps(&self) -> Result<Vec<Gap>> {
        self.read(|reader| {
            let text = "SELECT site, gateway, first, last, noticed_at FROM gap ORDER BY noticed_at DESC LIMIT 1000";
            let mut query = reader.prepare_cached(text)?;
            let rows = query.query_map([], |row| {
                let noticed_at = super::time(row.get(4)?);
                Ok(Gap { site: row.get(0)?, gateway: row.get(1)?, from: row.get(2)?, to: row.get(3)?, noticed_at })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }
}

fn take_event(
    transaction: &Transaction,
    event: &AlarmEvent,
    now: Timestamp,
    tells: bool,
    taken: &mut Taken,
) -> Result<()> {
    let id = event.id.to_string();
    let known = transaction.prepare_cached("SELECT 1 FROM event WHERE id = ?1")?.exists([&id])?;
    if known {
        taken.copies += 1;
        return Ok(());
    }
    taken.events += 1;
    let epoch = number(transaction, event, now)?;
    let alarm = event.body.alarm.to_string();
    let text = "INSERT INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let body = serde_json::to_string(event)?;
    let (seq, at) = (event.seq as i64, millis(event.at));
    let transition = word(&event.transition)?;
    let row = params![id, event.site, event.gateway, epoch, seq, at, alarm, transition, body];
    transaction.prepare_cached(text)?.execute(row)?;
    let place = Place { site: &event.site, gateway: &event.gateway, epoch, seq, at, now: millis(now) };
    put(transaction, &place, event.transition, &serde_json::to_value(event)?, &event.body)?;
    if !taken.alarms.contains(&alarm) {
        taken.alarms.push(alarm);
    }
    if tells && event.transition == Transition::Raised {
        transaction.prepare_cached("INSERT INTO told (body) VALUES (?1)")?.execute([body])?;
    }
    Ok(())
}

/// Where a gateway's numbers have come to with this event: its epoch.
fn number(transaction: &Transaction, event: &AlarmEvent, now: Timestamp) -> Result<i64> {
    let (site, gateway, seq, at) = (&event.site, &event.gateway, event.seq as i64, millis(event.at));
    let text = "SELECT epoch, top, latest FROM gateway WHERE site = ?1 AND gateway = ?2";
    let known = transaction
        .prepare_cached(text)?
        .query_row([site, gateway], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let set = "INSERT INTO gateway VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (site, gateway) DO UPDATE SET epoch = ?3, top = ?4, latest = max(latest, ?5)";
    let set = |epoch: i64, top: i64| -> Result<i64> {
        transaction.prepare_cached(set)?.execute(params![site, gateway, epoch, top, at])?;
        Ok(epoch)
    };
    // What was before the store began is nobody's loss.
    let Some((epoch, top, latest)): Option<(i64, i64, i64)> = known else { return set(1, seq) };
    if seq > top {
        if seq > top + 1 {
            let gap = "INSERT INTO gap VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let row = params![site, gateway, epoch, top + 1, seq - 1, millis(now)];
            transaction.prepare_cached(gap)?.execute(row)?;
        }
        return set(epoch, seq);
    }
    let text =
        "SELECT epoch, first, last, noticed_at FROM gap WHERE site = ?1 AND gateway = ?2 AND first <= ?3 AND last >= ?3
                ORDER BY epoch DESC LIMIT 1";
    let gap = transaction.prepare_cached(text)?.query_row(params![site, gateway, seq], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
    });
    if let Some((epoch, first, last, noticed)) = gap.optional()? {
        let text = "DELETE FROM gap WHERE site = ?1 AND gateway = ?2 AND epoch = ?3 AND first = ?4";
        transaction.prepare_cached(text)?.execute(params![site, gateway, epoch, first])?;
        for (first, last) in [(first, seq - 1), (seq + 1, last)].into_iter().filter(|(first, last)| first <= last) {
            let text = "INSERT INTO gap VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            transaction.prepare_cached(text)?.execute(params![site, gateway, epoch, first, last, noticed])?;
        }
        return Ok(epoch);
    }
    let text = "SELECT 1 FROM event WHERE site = ?1 AND gateway = ?2 AND epoch = ?3 AND seq = ?4";
    let is_taken = transaction.prepare_cached(text)?.exists(params![site, gateway, epoch, seq])?;
    // A number that another event has, or that is before the beginning though the event is not: the gateway counts anew.
    if is_taken || at > latest {
        return set(epoch + 1, seq);
    }
    Ok(epoch)
}

/// Where something stands.
struct Place<'a> {
    site: &'a str,
    gateway: &'a str,
    epoch: i64,
    seq: i64,
    at: i64,
    /// When it came.
    now: i64,
}

/// Brings an alarm's row to what its latest event says.
fn put(
    transaction: &Transaction,
    place: &Place,
    transition: Transition,
    body: &Value,
    alarm: &crate::mqtt::payload::AlarmBody,
) -> Result<()> {
    let is_over = matches!(alarm.state, AlarmState::Normal | AlarmState::ReturnedToNormalUnacknowledged);
    let is_quiet =
        matches!(alarm.state, AlarmState::Shelved | AlarmState::SuppressedByDesign | AlarmState::OutOfService);
    let open = alarm.state != AlarmState::Normal && !is_quiet;
    let raised = (transition == Transition::Raised).then_some(place.at);
    let acknowledged = (transition == Transition::Acknowledged).then_some(place.at);
    let cleared = (is_over && transition == Transition::Cleared).then_some(place.at);
    let id = alarm.alarm.to_string();
    // Of one gateway alone: nobody has a say about another one's alarms.
    let text = "INSERT INTO alarm VALUES
            (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, coalesce(?11, ?12), ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)
        ON CONFLICT (alarm) DO UPDATE SET
            camera = ?4, kind = ?5, class = ?6, severity = ?7, score = ?8, state = ?9, open = ?10,
            raised_at = coalesce(?11, min(raised_at, ?12)), changed_at = ?12,
            acknowledged_at = coalesce(acknowledged_at, ?13), cleared_at = CASE WHEN ?20 THEN coalesce(?14, cleared_at) END,
            epoch = ?15, seq = ?16, image = coalesce(?17, image), comment = coalesce(?18, comment)
        WHERE site = ?2 AND gateway = ?3 AND (epoch, seq) < (?15, ?16)";
    let row = params![
        id,
        place.site,
        place.gateway,
        alarm.camera,
        word(&alarm.kind)?,
        alarm.class,
        rank(alarm.severity),
        alarm.score,
        word(&alarm.state)?,
        open,
        raised,
        place.at,
        acknowledged,
        cleared,
        place.epoch,
        place.seq,
        alarm.image,
        alarm.comment,
        place.now,
        is_over
    ];
    if transaction.prepare_cached(text)?.execute(row)? > 0 {
        let text = "INSERT INTO alarm_body VALUES (?1, ?2) ON CONFLICT (alarm) DO UPDATE SET body = ?2";
        transaction.prepare_cached(text)?.execute(params![id, body.to_string()])?;
        return Ok(());
    }
    // An earlier event that comes late says what happened when, and nothing about what is now.
    let text = "UPDATE alarm SET raised_at = coalesce(?2, min(raised_at, ?3)),
            acknowledged_at = min(coalesce(acknowledged_at, ?4), coalesce(?4, acknowledged_at)),
            cleared_at = CASE WHEN state IN ('normal', 'returned_to_normal_unacknowledged') THEN coalesce(cleared_at, ?5) END,
            comment = coalesce(comment, ?6)
        WHERE alarm = ?1 AND site = ?7 AND gateway = ?8";
    let row = params![id, raised, place.at, acknowledged, cleared, alarm.comment, place.site, place.gateway];
    transaction.prepare_cached(text)?.execute(row)?;
    Ok(())
}

/// What the broker has kept of an alarm: one that is not known begins by it, and one whose events were lost on the way goes on by it.
fn take_alarm(
    transaction: &Transaction,
    place: &Place,
    alarm: &Alarm,
    retained: bool,
    taken: &mut Taken,
) -> Result<()> {
    let id = alarm.body.alarm.to_string();
    let text = "SELECT site, gateway, epoch, seq, state FROM alarm WHERE alarm = ?1";
    let row = |row: &rusqlite::Row| {
        let address = Address { site: row.get(0)?, gateway: row.get(1)? };
        Ok((address, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?, row.get::<_, String>(4)?))
    };
    let known = transaction.prepare_cached(text)?.query_row([&id], row).optional()?;
    let body = serde_json::to_value(alarm)?;
    match known {
        None => put(transaction, place, Transition::Raised, &body, &alarm.body)?,
        Some((address, epoch, seq, state)) => {
            let is_own = address.site == place.site && address.gateway == place.gateway;
            if !retained || !is_own || state == word(&alarm.body.state)? {
                return Ok(()); // its events say the same, and more
            }
            // At the same place among its events, and later ones count again.
            transaction.prepare_cached("UPDATE alarm SET seq = seq - 1 WHERE alarm = ?1")?.execute([&id])?;
            let place = Place { epoch, seq, at: place.now, ..*place };
            put(transaction, &place, Transition::Updated, &body, &alarm.body)?;
        }
    }
    taken.alarms.push(id);
    Ok(())
}

/// An alarm whose topic was emptied though its events have not said that it is over.
fn gone(transaction: &Transaction, address: &Address, alarm: &str, now: Timestamp, taken: &mut Taken) -> Result<()> {
    let text = "UPDATE alarm SET
            state = CASE WHEN acknowledged_at IS NULL AND state = 'unacknowledged' THEN 'returned_to_normal_unacknowledged' ELSE 'normal' END,
            open = acknowledged_at IS NULL AND state = 'unacknowledged', changed_at = ?4, cleared_at = coalesce(cleared_at, ?4)
        WHERE alarm = ?1 AND site = ?2 AND gateway = ?3 AND state NOT IN ('normal', 'returned_to_normal_unacknowledged')";
    let row = params![alarm, address.site, address.gateway, millis(now)];
    if transaction.prepare_cached(text)?.execute(row)? > 0 {
        taken.alarms.push(alarm.to_owned());
    }
    Ok(())
}

/// As it is written.
pub(super) fn word(value: &impl Serialize) -> Result<String> {
    serde_json::to_value(value)?.as_str().map(ToOwned::to_owned).context("a word was expected")
}

/// The worse the higher.
pub(super) fn rank(severity: Severity) -> i64 {
    match severity {
        Severity::Info => 0,
        Severity::Minor => 1,
        Severity::Major => 2,
        Severity::Critical => 3,
    }
}
