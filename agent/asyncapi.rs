//! `inspectd schema asyncapi`: an AsyncAPI 3 document of all topics, generated from the same types as everything else.
//!
//! Schemas of parts that several messages share lie under `components/schemas`.

use serde_json::{Map, Value, json};

use crate::schema::{Name, schema};

/// A topic, or all of a kind.
struct Channel {
    id: &'static str,
    address: &'static str,
    /// Whether the agent publishes there.
    sends: bool,
    qos: u8,
    retain: bool,
    /// None where it is no JSON.
    payload: Option<Name>,
    summary: &'static str,
}

const GATEWAY: &str = "inspect/v1/{site}/{gateway}";

/// All topics but those of commands.
const CHANNELS: [Channel; 13] = [
    Channel {
        id: "state",
        address: "state",
        sends: true,
        qos: 1,
        retain: true,
        payload: Some(Name::State),
        summary: "The gateway; its offline form is the last will",
    },
    Channel {
        id: "cameraState",
        address: "cameras/{camera}/state",
        sends: true,
        qos: 1,
        retain: true,
        payload: Some(Name::Camera),
        summary: "A camera",
    },
    Channel {
        id: "results",
        address: "cameras/{camera}/results",
        sends: true,
        qos: 0,
        retain: false,
        payload: Some(Name::Result),
        summary: "An inspected frame, where mqtt.results says so",
    },
    Channel {
        id: "alarm",
        address: "alarms/{alarm}",
        sends: true,
        qos: 1,
        retain: true,
        payload: Some(Name::Alarm),
        summary: "An active alarm; an empty message when it is over",
    },
    Channel {
        id: "events",
        address: "events",
        sends: true,
        qos: 1,
        retain: false,
        payload: Some(Name::Event),
        summary: "Every transition of every alarm",
    },
    Channel {
        id: "images",
        address: "images/{sha256}",
        sends: true,
        qos: 1,
        retain: false,
        payload: None,
        summary: "The JPEG that alarms name by its hash",
    },
    Channel {
        id: "replies",
        address: "replies/{id}",
        sends: true,
        qos: 1,
        retain: false,
        payload: Some(Name::Reply),
        summary: "What became of a command",
    },
    Channel {
        id: "lessonSent",
        address: "../taught/{class}",
        sends: true,
        qos: 1,
        retain: true,
        payload: Some(Name::Lesson),
        summary: "A class that was taught here; an empty message when it is forgotten",
    },
    Channel {
        id: "lessonReceived",
        address: "../taught/{class}",
        sends: false,
        qos: 1,
        retain: true,
        payload: Some(Name::Lesson),
        summary: "A class that was taught at this site",
    },
    Channel {
        id: "modelReported",
        address: "model/reported",
        sends: true,
        qos: 1,
        retain: true,
        payload: Some(Name::Reported),
        summary: "How far an update is, where update.keys names whom to trust",
    },
    Channel {
        id: "modelDesired",
        address: "model/desired",
        sends: false,
        qos: 1,
        retain: true,
        payload: Some(Name::Desired),
        summary: "What this gateway shall take up; comes before what its site shall",
    },
    Channel {
        id: "siteDesired",
        address: "../model/desired",
        sends: false,
        qos: 1,
        retain: true,
        payload: Some(Name::Desired),
        summary: "What every gateway of the site shall take up",
    },
    Channel {
        id: "blobs",
        address: "../blobs/{sha256}/{n}",
        sends: false,
        qos: 1,
        retain: true,
        payload: None,
        summary: "The n-th chunk of a file with this hash, or an index; retained during a rollout",
    },
];

/// The commands.
const COMMANDS: [(&str, Name); 20] = [
    ("ack", Name::Ack),
    ("alarms", Name::Alarms),
    ("approve", Name::Approve),
    ("changeover", Name::Changeover),
    ("comment", Name::Comment),
    ("forget", Name::Forget),
    ("in_service", Name::InService),
    ("lessons", Name::Lessons),
    ("out_of_service", Name::OutOfService),
    ("products", Name::Products),
    ("relearn", Name::Relearn),
    ("reload", Name::Reload),
    ("rollback", Name::Rollback),
    ("shelve", Name::Shelve),
    ("snapshot", Name::Trigger),
    ("suppress", Name::Suppress),
    ("teach", Name::Teach),
    ("trigger", Name::Trigger),
    ("unshelve", Name::Unshelve),
    ("unsuppress", Name::Unsuppress),
];

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut document = Document::default();
    for channel in &CHANNELS {
        let address = match channel.address.strip_prefix("../") {
            Some(of_site) => format!("inspect/v1/{{site}}/{of_site}"),
            None => format!("{GATEWAY}/{}", channel.address),
        };
        let payload = channel.payload.map(|name| document.payload(name));
        document.add(channel, &address, payload);
    }
    for (command, name) in COMMANDS {
        let address = format!("{GATEWAY}/commands/{command}/{{id}}");
        let summary = "A command; `id` is the sender's and comes again in the reply";
        let channel =
            Channel { id: command, address: "", sends: false, qos: 1, retain: false, payload: Some(name), summary };
        let payload = document.payload(name);
        document.add(&channel, &address, Some(payload));
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "inspectd",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Alarms, states and commands of inspection gateways over MQTT. Fields are added, never changed in meaning, \
                            within /1; readers ignore what they do not know.",
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "channels": document.channels,
        "operations": document.operations,
        "components": { "messages": document.messages, "schemas": document.schemas },
    })
}

#[derive(Default)]
struct Document {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
    schemas: Map<String, Value>,
}

impl Document {
    /// The schema of a payload; what it shares with others goes to the components.
    fn payload(&mut self, name: Name) -> Value {
        let mut value = schema(name).to_value();
        if let Some(map) = value.as_object_mut() {
            map.remove("$schema");
            if let Some(Value::Object(shared)) = map.remove("$defs") {
                self.schemas.extend(shared.into_iter().map(|(key, mut part)| {
                    moved(&mut part);
                    (key, part)
                }));
            }
        }
        moved(&mut value);
        value
    }

    fn add(&mut self, channel: &Channel, address: &str, payload: Option<Value>) {
        let id = channel.id;
        let message = match payload {
            Some(payload) => json!({ "name": id, "summary": channel.summary, "payload": payload }),
            None if id == "images" => json!({ "name": id, "summary": channel.summary, "contentType": "image/jpeg" }),
            None => json!({ "name": id, "summary": channel.summary, "contentType": "application/octet-stream" }),
        };
        self.messages.insert(id.into(), message);
        let named = address.split(['{', '}']).skip(1).step_by(2);
        let parameters: Map<String, Value> = named.map(|name| (name.into(), json!({}))).collect();
        let reference = json!({ "$ref": format!("#/components/messages/{id}") });
        let entry = json!({ "address": address, "messages": { id: reference }, "parameters": parameters });
        self.channels.insert(id.into(), entry);
        let action = if channel.sends { "send" } else { "receive" };
        let operation = json!({
            "action": action,
            "summary": channel.summary,
            "channel": { "$ref": format!("#/channels/{id}") },
            "bindings": { "mqtt": { "qos": channel.qos, "retain": channel.retain } },
        });
        self.operations.insert(id.into(), operation);
    }
}

/// References from where schemars has put the parts to where AsyncAPI has them.
fn moved(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref") {
                *reference = reference.replace("#/$defs/", "#/components/schemas/");
            }
            map.values_mut().for_each(moved);
        }
        Value::Array(list) => list.iter_mut().for_each(moved),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Order;

    #[test]
    fn every_command_is_there_and_every_reference_leads_somewhere() {
        let document = document();
        let error = Order::parse("?", b"{}").unwrap_err().to_string();
        let known: Vec<&str> = error.rsplit("there are ").next().unwrap().split(", ").collect();
        assert_eq!(known, COMMANDS.map(|(command, _)| command));
        let mut references = Vec::new();
        collect(&document, &mut references);
        assert!(references.len() > 50);
        for reference in references {
            let at = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(at).is_some(), "{reference}");
        }
    }

    fn collect(value: &Value, references: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                references.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|v| collect(v, references));
            }
            Value::Array(list) => list.iter().for_each(|v| collect(v, references)),
            _ => {}
        }
    }
}
