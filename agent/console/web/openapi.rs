//! The OpenAPI document, out of the same table as the routes.

use axum::Json;
use serde_json::{Map, Value, json};

use super::{ROUTES, Route};
use crate::console::store::Role;

/// The filters of alarms: name, and what it is.
const FILTERS: [(&str, &str); 13] = [
    (
        "view",
        "open (as it is for a list), active, unacknowledged, shelved, quiet, over or all (as it is for exports and figures)",
    ),
    ("severity", "critical, major, minor, info; several with commas between them"),
    ("kind", "defect, anomaly, camera, model; several with commas between them"),
    ("site", "a site"),
    ("gateway", "a gateway"),
    ("camera", "a camera"),
    ("class", "a class, in which * is any text"),
    ("q", "text in a name or comment"),
    ("from", "raised from, RFC 3339"),
    ("to", "raised before, RFC 3339"),
    ("order", "severity (the worst first, as it is for what is open) or time (the latest first)"),
    ("limit", "1 to 500"),
    ("before", "what `next` of the page before said"),
];

/// The document.
pub async fn document() -> Json<Value> {
    Json(build())
}

fn build() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "inspectd console",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Alarms, gateways and models of a plant. Another system comes in with a token (Authorization: Bearer), \
                            which an engineer makes under Settings. What is answered to events, states and commands is described by \
                            `inspectd schema`.",
        },
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "session": { "type": "apiKey", "in": "cookie", "name": "inspectd" },
            },
            "schemas": {
                "Error": { "type": "object", "required": ["error"], "properties": { "error": { "type": "string" } } },
            },
        },
        "paths": paths,
    })
}

fn operation(route: &Route) -> Value {
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = names
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    if route.path.starts_with("/api/v1/alarms") && !route.path.contains('{') || route.path.ends_with("/stats") {
        parameters.extend(FILTERS.iter().map(
            |(name, what)| json!({ "name": name, "in": "query", "description": what, "schema": { "type": "string" } }),
        ));
    }
    if route.path.ends_with("/stats") {
        let schema = json!({ "enum": ["hour", "day"] });
        parameters.push(json!({ "name": "bucket", "in": "query", "schema": schema }));
    }
    let error = json!({ "description": "In words", "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } } });
    let mut operation = json!({
        "summary": route.summary,
        "parameters": parameters,
        "responses": { "2XX": { "description": "Done" }, "4XX": error },
    });
    match route.role {
        None => operation["security"] = json!([]),
        Some(role) => {
            operation["security"] = json!([{ "token": [] }, { "session": [] }]);
            let who = if role == Role::Engineer { "Engineers only." } else { "Operators and engineers." };
            operation["description"] = json!(who);
        }
    }
    if let Some(body) = body(route) {
        operation["requestBody"] = json!({ "required": true, "content": body });
    }
    operation
}

/// What a request brings.
fn body(route: &Route) -> Option<Value> {
    let fields: &[(&str, &str)] = match (route.method, route.path) {
        ("POST", "/api/v1/releases") => {
            return Some(json!({ "application/x-tar": { "schema": { "type": "string", "format": "binary" } } }));
        }
        ("POST", "/api/v1/login") => &[("user", "string"), ("password", "string")],
        ("POST", "/api/v1/me/password") => &[("old", "string"), ("new", "string")],
        ("POST", "/api/v1/commands") => {
            &[("site", "string"), ("gateway", "string"), ("command", "string"), ("payload", "object")]
        }
        ("POST", "/api/v1/rollouts") => &[
            ("release", "string"),
            ("to", "string"),
            ("waves", "string"),
            ("max_failed", "number"),
            ("patience_minutes", "number"),
        ],
        ("POST", "/api/v1/users") => &[("name", "string"), ("role", "string"), ("password", "string")],
        ("POST", "/api/v1/tokens") => &[("name", "string"), ("role", "string")],
        _ => return None,
    };
    let properties: Map<String, Value> =
        fields.iter().map(|(name, kind)| ((*name).to_owned(), json!({ "type": kind }))).collect();
    Some(json!({ "application/json": { "schema": { "type": "object", "properties": properties } } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_in_it_and_says_who_may() {
        let document = build();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.to_lowercase()];
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{}", route.path);
            assert_eq!(operation["security"] == json!([]), route.role.is_none(), "{}", route.path);
        }
        let open: Vec<&str> = ROUTES.iter().filter(|route| route.role.is_none()).map(|route| route.path).collect();
        assert_eq!(
            open,
            ["/api/v1/login", "/api/v1/me"],
            "who asks who he is hears that he is nobody; nothing else is answered"
        );
    }
}
