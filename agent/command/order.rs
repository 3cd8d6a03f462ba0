//! What can be commanded, as types; their JSON Schemas are what `inspectd schema` prints.

use anyhow::{Result, anyhow, bail, ensure};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Office;
use super::alarms::{Acknowledge, Comment, ListAlarms, Quieten, Release, Shelve};
use crate::config::{ClassName, Milliseconds, Name, Severity};
use crate::update::desk::Word;
use crate::verdict::quiet::Why;

/// The commands there are.
const COMMANDS: &str = "ack, alarms, approve, changeover, comment, forget, in_service, lessons, out_of_service, products, relearn, \
                        reload, rollback, shelve, snapshot, suppress, teach, trigger, unshelve, unsuppress";
/// The one that is answered when a picture has come.
pub(super) const TRIGGER: &str = "trigger";
/// The same, with the picture itself.
pub(super) const SNAPSHOT: &str = "snapshot";

/// `…/commands/changeover/{id}`: from now on the camera looks at another product.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Changeover {
    /// The camera.
    pub camera: Name,
    /// The product; one that the camera does not know yet is learned anew.
    pub product: Name,
}

/// `…/commands/relearn/{id}`: forget what the camera has learned about a product.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Relearn {
    /// The camera.
    pub camera: Name,
    /// The product; the present one where none is given.
    #[serde(default)]
    pub product: Option<Name>,
}

/// `…/commands/products/{id}`: which products the camera knows.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Products {
    /// The camera.
    pub camera: Name,
}

/// A region of a picture that an alarm of this gateway names.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// The alarm's `image`.
    pub image: String,
    /// x0, y0, x1, y1 in pixels of the frame as captured.
    #[serde(rename = "box")]
    pub bbox: [f32; 4],
}

/// `…/commands/teach/{id}`: what these alarms or regions are about is a class of its own, or is fine; the whole site learns it.
/// 1 to 5 examples, of both together.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Teach {
    /// What such a region is called from now on; a class that is known already learns more examples.
    pub class: ClassName,
    /// The anomalies that are examples: alarms of this gateway, active or not.
    #[schemars(length(max = 5))]
    #[serde(default)]
    pub alarms: Vec<Uuid>,
    /// Regions of pictures that are examples, where an alarm's own box is not what is meant.
    #[schemars(length(max = 5))]
    #[serde(default)]
    pub regions: Vec<Region>,
    /// How bad it is; where nothing is said, what is known of the class, or major.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// It is fine: no alarm from now on. Where nothing is said, what is known of the class, or false. A change forgets the
    /// examples that were taught before.
    #[serde(default)]
    pub harmless: Option<bool>,
}

/// `…/commands/forget/{id}`: the whole site forgets a class that was taught.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forget {
    /// The class.
    pub class: ClassName,
}

/// `…/commands/lessons/{id}`: what was taught.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListLessons {}

/// `…/commands/approve/{id}`: the update that waits may become the active one.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approve {}

/// `…/commands/rollback/{id}`: the update that is under way or on trial is given up, and not taken again.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Who says so.
    #[serde(default)]
    pub by: Option<Name>,
}

/// `…/commands/reload/{id}`: the changed configuration file comes into force; the reply names what has changed.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reload {}

/// `…/commands/trigger/{id}`, and `…/commands/snapshot/{id}`, where the picture is published as well (`image` of the result): the
/// camera's next picture is inspected, whatever triggers it otherwise; the reply's `result` is what
/// `…/results` says of it.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// The camera.
    pub camera: Name,
    /// How long to wait for the picture; as the camera's trigger, or 1000 ms, where nothing is said.
    #[serde(default)]
    pub deadline_ms: Option<Milliseconds>,
}

/// A command that makes sense by itself.
#[derive(Debug, PartialEq)]
pub enum Order {
    /// Another product.
    Changeover(Changeover),
    /// Which products there are.
    Products(Products),
    /// Learn a product anew.
    Relearn(Relearn),
    /// Teach a class.
    Teach(Teach),
    /// Forget a class.
    Forget(Forget),
    /// Which classes were taught.
    Lessons(ListLessons),
    /// Somebody knows.
    Acknowledge(Acknowledge),
    /// Something is said.
    Comment(Comment),
    /// Put off.
    Shelve(Shelve),
    /// Quiet until it is taken back.
    Quieten(Why, Quieten),
    /// Quiet no more.
    Release(Why, Release),
    /// What is active, and what is quiet.
    Alarms(ListAlarms),
    /// An update may go on.
    Approve(Approve),
    /// An update is given up.
    Rollback(Rollback),
    /// The configuration has changed.
    Reload(Reload),
    /// Inspect a picture.
    Trigger(Trigger),
}

impl Order {
    /// Reads a command; an empty payload is `{}`.
    ///
    /// # Errors
    /// There is no such command, or its payload is not what it wants, with the place.
    pub fn parse(command: &str, payload: &[u8]) -> Result<Self> {
        Ok(match command {
            "changeover" => Self::Changeover(read(command, payload)?),
            "products" => Self::Products(read(command, payload)?),
            "relearn" => Self::Relearn(read(command, payload)?),
            "teach" => Self::Teach(read(command, payload)?),
            "forget" => Self::Forget(read(command, payload)?),
            "lessons" => Self::Lessons(read(command, payload)?),
            "ack" => Self::Acknowledge(read(command, payload)?),
            "comment" => Self::Comment(read(command, payload)?),
            "shelve" => Self::Shelve(read(command, payload)?),
            "unshelve" => Self::Release(Why::Shelved, read(command, payload)?),
            "suppress" => Self::Quieten(Why::SuppressedByDesign, read(command, payload)?),
            "unsuppress" => Self::Release(Why::SuppressedByDesign, read(command, payload)?),
            "out_of_service" => Self::Quieten(Why::OutOfService, read(command, payload)?),
            "in_service" => Self::Release(Why::OutOfService, read(command, payload)?),
            "approve" => Self::Approve(read(command, payload)?),
            "rollback" => Self::Rollback(read(command, payload)?),
            "alarms" => Self::Alarms(read(command, payload)?),
            "reload" => Self::Reload(read(command, payload)?),
            TRIGGER | SNAPSHOT => Self::Trigger(read(command, payload)?),
            _ => bail!("there is no command {command}; there are {COMMANDS}"),
        })
    }

    /// Does it, and gives what the reply's `result` is to hold.
    ///
    /// # Errors
    /// It cannot be done, and why; nothing is changed then.
    pub fn execute(&self, office: &Office) -> Result<Value> {
        let keeper = &office.keeper;
        match self {
            Self::Changeover(Changeover { camera, product }) => {
                let frames = keeper.change_over(camera.as_str(), product)?;
                Ok(json!({ "camera": camera.as_str(), "product": product.as_str(), "frames": frames }))
            }
            Self::Products(Products { camera }) => {
                let (present, known) = keeper.products(camera.as_str())?;
                Ok(json!({ "camera": camera.as_str(), "product": present, "known": known }))
            }
            Self::Relearn(Relearn { camera, product }) => {
                let product = keeper.relearn(camera.as_str(), product.as_ref())?;
                Ok(json!({ "camera": camera.as_str(), "product": product.as_str() }))
            }
            Self::Teach(teach) => office.teach(teach),
            Self::Forget(Forget { class }) => office.forget(class),
            Self::Lessons(_) => Ok(office.list_lessons()),
            Self::Acknowledge(order) => office.acknowledge(order),
            Self::Comment(order) => office.comment(order),
            Self::Shelve(order) => office.shelve(order),
            Self::Quieten(why, order) => office.quieten(*why, order),
            Self::Release(why, order) => office.release(*why, order),
            Self::Alarms(_) => Ok(office.list_alarms()),
            Self::Approve(_) => office.updates.say(Word::Approve).map(|()| json!({})),
            Self::Rollback(Rollback { by }) => {
                let by = by.as_ref().map_or("an operator", Name::as_str).to_owned();
                office.updates.say(Word::RollBack(by)).map(|()| json!({}))
            }
            Self::Reload(_) => Ok(serde_json::to_value(office.reloader.reload()?)?),
            Self::Trigger(trigger) => office.refuse_trigger(trigger),
        }
    }
}

pub(super) fn read<T: DeserializeOwned>(command: &str, payload: &[u8]) -> Result<T> {
    let payload = if payload.is_empty() { b"{}" } else { payload };
    // A parser of JSON says of other text what it expected at its first letter.
    ensure!(
        payload.trim_ascii_start().starts_with(b"{"),
        "a command's payload is a JSON object: {{…}}; `inspectd schema {command}` prints it"
    );
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|e| anyhow!("{e}; `inspectd schema {command}` prints what this command takes"))?;
    deserializer.end().map_err(|e| anyhow!("there is more after the command: {e}"))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let name = |text: &str| Name::new(text).unwrap();
        let order = Order::parse("changeover", br#"{"camera":"a","product":"p-1"}"#).unwrap();
        assert_eq!(order, Order::Changeover(Changeover { camera: name("a"), product: name("p-1") }));
        let order = Order::parse("relearn", br#"{"camera":"a"}"#).unwrap();
        assert_eq!(order, Order::Relearn(Relearn { camera: name("a"), product: None }));
    }

    #[test]
    fn what_is_wrong_is_said_and_what_would_be_right() {
        let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
        for (command, payload, message) in [
            ("dance", &b"{}"[..], "there is no command dance; there are ack, alarms, approve"),
            ("products", b"", "missing field `camera`"),
            ("products", b"{\"camera\":\"a b\"}", "camera: \"a b\" is wrong: 1 to 64 letters"),
            ("products", b"{\"camera\":\"a\"} x", "there is more after the command"),
            ("changeover", b"{\"camera\":\"a\",\"product\":\"../../etc\"}", "product: "),
            ("changeover", b"\xff\xfe", "inspectd schema changeover"),
            ("relearn", &deep, "inspectd schema relearn"),
        ] {
            let error = Order::parse(command, payload).unwrap_err().to_string();
            assert!(error.contains(message), "{command}: {error}");
        }
    }
}
