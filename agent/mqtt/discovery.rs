//! Makes a gateway known to Home Assistant, where `mqtt.home_assistant` says so. Pure.
//!
//! One retained message describes the gateway as a device with its cameras and an event for alarms; what it shows comes from the
//! topics that are published anyway (device discovery, Home Assistant 2024.11 and later).

use serde_json::{Map, Value, json};

use super::topics::Topics;

/// Transitions of an alarm, as events name them.
const TRANSITIONS: [&str; 11] = [
    "raised",
    "updated",
    "acknowledged",
    "shelved",
    "unshelved",
    "suppressed",
    "unsuppressed",
    "removed_from_service",
    "returned_to_service",
    "commented",
    "cleared",
];
/// What of an event becomes an attribute.
const ATTRIBUTES: [&str; 6] = ["camera", "class", "severity", "kind", "state", "alarm"];

/// Topic and payload of the message, under Home Assistant's prefix.
#[must_use]
pub fn device(prefix: &str, site: &str, gateway: &str, cameras: &[&str]) -> (String, Vec<u8>) {
    let topics = Topics::new(site, gateway);
    // Ids may hold letters, digits, _ and - alone.
    let id = format!("inspectd_{site}_{gateway}").replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
    let version = env!("CARGO_PKG_VERSION");
    let mut components = Map::new();
    let mut add = |key: String, mut component: Value| {
        component["unique_id"] = json!(format!("{id}_{key}"));
        components.insert(key, component);
    };
    let attributes: Vec<String> =
        ATTRIBUTES.iter().map(|name| format!("\"{name}\": {{{{ value_json.{name} | tojson }}}}")).collect();
    add(
        "alarm".into(),
        json!({
            "platform": "event", "name": "Alarm", "state_topic": topics.events(), "event_types": TRANSITIONS, "qos": 1,
            "value_template": format!("{{\"event_type\": {{{{ value_json.transition | tojson }}}}, {}}}", attributes.join(", ")),
        }),
    );
    for (key, name, template) in [
        ("queued", "Messages that wait", "{{ value_json.outbox.queued }}"),
        ("dropped", "Messages given up", "{{ value_json.outbox.dropped }}"),
        ("bundle", "Model", "{{ value_json.bundle.name }} {{ value_json.bundle.version }}"),
    ] {
        let state = topics.state();
        add(
            key.into(),
            json!({
                "platform": "sensor", "name": name, "state_topic": state, "value_template": template,
                "entity_category": "diagnostic",
            }),
        );
    }
    for camera in cameras {
        let (state, key) = (topics.camera_state(camera), camera.replace(['.', '-'], "_"));
        add(
            format!("camera_{key}"),
            json!({
                "platform": "binary_sensor", "name": format!("Camera {camera}"), "device_class": "connectivity",
                "state_topic": state, "value_template": "{{ 'OFF' if value_json.state in ['opening', 'reconnecting'] else 'ON' }}",
            }),
        );
        add(
            format!("camera_{key}_fps"),
            json!({
                "platform": "sensor", "name": format!("Camera {camera} inspected"), "state_topic": state,
                "value_template": "{{ value_json.fps }}", "unit_of_measurement": "fps", "state_class": "measurement",
            }),
        );
    }
    let device = json!({
        "device": {
            "identifiers": [&id], "name": format!("{site} {gateway}"), "manufacturer": "inspectd", "model": "Inspection gateway",
            "sw_version": version,
        },
        "origin": { "name": "inspectd", "sw_version": version },
        "availability": [{
            "topic": topics.state(), "value_template": "{{ 'online' if value_json.online else 'offline' }}",
        }],
        "components": components,
    });
    (format!("{prefix}/device/{id}/config"), device.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::payload::{AlarmEvent, CameraState, GatewayState, Transition};
    use schemars::schema_for;

    #[test]
    fn it_names_only_what_is_published() {
        let (topic, payload) = device("homeassistant", "plant.1", "gw-1", &["strip", "line.2"]);
        assert_eq!(topic, "homeassistant/device/inspectd_plant_1_gw-1/config");
        let device: Value = serde_json::from_slice(&payload).unwrap();
        let schemas = [
            ("inspect/v1/plant.1/gw-1/state", schema_for!(GatewayState).to_value()),
            ("inspect/v1/plant.1/gw-1/events", schema_for!(AlarmEvent).to_value()),
            ("inspect/v1/plant.1/gw-1/cameras/strip/state", schema_for!(CameraState).to_value()),
            ("inspect/v1/plant.1/gw-1/cameras/line.2/state", schema_for!(CameraState).to_value()),
        ];
        let components = device["components"].as_object().unwrap();
        assert_eq!(components.len(), 8);
        for component in components.values().chain(std::iter::once(&device["availability"][0])) {
            let topic = component["state_topic"].as_str().or(component["topic"].as_str()).unwrap();
            let (_, schema) = schemas.iter().find(|(known, _)| *known == topic).unwrap();
            let template = component["value_template"].as_str().unwrap();
            assert!(template.contains("value_json."));
            for path in template.split("value_json.").skip(1) {
                let field = path.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
                assert!(schema["properties"].get(field).is_some(), "{topic} has no {field}");
            }
        }
    }

    #[test]
    fn it_knows_every_transition() {
        let schema = schema_for!(Transition).to_value();
        let known: Vec<&str> =
            schema["oneOf"].as_array().unwrap().iter().map(|one| one["const"].as_str().unwrap()).collect();
        assert_eq!(known, TRANSITIONS);
    }
}
