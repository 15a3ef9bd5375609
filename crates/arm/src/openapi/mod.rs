//! The API's description: an OpenAPI document made from the route table, a row of documentation per operation, and schemas.
//!
//! Served at `/openapi.json`, kept as docs/openapi.json. A route without a row here fails a test.

mod documents;

use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::routes::{Handler, Route, routes};
use documents::{Body, Document};
use serde_json::{Map, Value, json};

/// Schemas by name, as JSON.
const SCHEMAS: &str = include_str!("schemas.json");

/// Refusals that any operation with a token may answer.
const REFUSALS: [(u16, &str); 9] = [
    (
        400,
        "The request is malformed, or what it asks for is not possible.",
    ),
    (401, "There is no token, or it is not good here and now."),
    (
        403,
        "The caller has no right to do this, or another person must approve it first.",
    ),
    (404, "There is no such resource."),
    (
        409,
        "The resource is in a state, or under a lock, in which this cannot be done.",
    ),
    (412, "The resource was changed since it was read."),
    (413, "The request is too large."),
    (
        429,
        "Too many requests; `Retry-After` says when to come again.",
    ),
    (
        503,
        "A region or the control plane does not answer now; nothing has been done.",
    ),
];

/// Serves the document.
pub fn serve(_call: &Call) -> Outcome {
    answer::ok(&document())
}

/// The whole document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in routes() {
        let entry = paths.entry(route.path).or_insert_with(|| json!({}));
        entry[route.method.to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Castling management API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Azure IoT Hub's management API, as its clients speak it, and what Castling adds under `Castling.*`. Paths match without regard to case.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } },
            "responses": refusals(),
            "schemas": schemas(),
        },
    })
}

/// Those that all operations share, in their three forms.
fn refusals() -> Value {
    let mut all = Map::new();
    for (status, text) in REFUSALS {
        for (form, body) in [
            ("Refused", Body::Of("Error")),
            ("Oauth", Body::Of("OauthOrError")),
            ("Silent", Body::Nothing),
        ] {
            all.insert(format!("{form}{status}"), response(text, body));
        }
    }
    Value::Object(all)
}

fn schemas() -> Value {
    serde_json::from_str(SCHEMAS).expect("a test reads it")
}

fn operation(route: &Route) -> Value {
    let document = documents::find(route.operation);
    let open = route.handler.is_open();
    let mut body = json!({
        "operationId": route.operation,
        "tags": [route.operation.split('_').next().unwrap_or_default()],
        "summary": document.map_or("", |document| document.summary),
        "parameters": parameters(route, document),
        "responses": responses(route, document),
    });
    if open {
        body["security"] = json!([]);
    }
    if !route.permission.is_empty() {
        body["x-permission"] = route.permission.into();
    }
    if let Some(request) = document.and_then(|document| document.request) {
        let kind = match request {
            Body::Form(_) => "application/x-www-form-urlencoded",
            _ => "application/json",
        };
        body["requestBody"] = json!({
            "required": !document.is_some_and(|document| document.request_is_optional),
            "content": { kind: { "schema": schema(request) } },
        });
    }
    body
}

fn parameters(route: &Route, document: Option<&Document>) -> Value {
    let words = route.path.split('/');
    let names = words.filter_map(|word| word.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<Value> = names
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }))
        .collect();
    if route.versioned {
        all.push(json!({
            "name": "api-version", "in": "query", "required": true,
            "description": "A date, with or without `-preview`.",
            "schema": { "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?$", "example": "2023-06-30" },
        }));
    }
    for name in document.map_or(&[][..], |document| document.query) {
        all.push(json!({ "name": name, "in": "query", "required": false, "schema": { "type": "string" } }));
    }
    Value::Array(all)
}

fn responses(route: &Route, document: Option<&Document>) -> Value {
    let mut all = Map::new();
    for (status, body, text) in document.map_or(&[][..], |document| document.answers) {
        all.insert(status.to_string(), response(text, *body));
    }
    let oauth = ["oauth2", "discovery", ".well-known"];
    let form = match route.handler {
        _ if route.method == "HEAD" => "Silent",
        Handler::Open(_) | Handler::OpenAct(_)
            if oauth.iter().any(|word| route.path.contains(word)) =>
        {
            "Oauth"
        }
        _ => "Refused",
    };
    for (status, _) in REFUSALS {
        let shared = format!("#/components/responses/{form}{status}");
        all.entry(status.to_string())
            .or_insert_with(|| json!({ "$ref": shared }));
    }
    if let Handler::Missing(_) = route.handler {
        all.insert(
            "501".into(),
            response("Not served by this version.", Body::Of("Error")),
        );
    }
    Value::Object(all)
}

fn response(text: &str, body: Body) -> Value {
    let kind = match body {
        Body::Nothing => return json!({ "description": text }),
        Body::Page => return json!({ "description": text, "content": { "text/html": {} } }),
        Body::Lines => "application/x-ndjson",
        _ => "application/json",
    };
    let schema = match body {
        Body::Lines => return json!({ "description": text, "content": { kind: {} } }),
        body => schema(body),
    };
    json!({ "description": text, "content": { kind: { "schema": schema } } })
}

fn schema(body: Body) -> Value {
    let of = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    match body {
        Body::Of(name) | Body::Form(name) => of(name),
        Body::List(name) => json!({
            "type": "object",
            "required": ["value"],
            "properties": {
                "value": { "type": "array", "items": of(name) },
                "nextLink": { "type": ["string", "null"] },
            },
        }),
        Body::Array(name) => json!({ "type": "array", "items": of(name) }),
        Body::Null => json!({ "type": "null" }),
        Body::Nothing | Body::Page | Body::Lines => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

    #[test]
    fn every_route_is_described_and_nothing_else() {
        for route in routes() {
            let known = documents::find(route.operation);
            assert!(
                known.is_some(),
                "{} {} ({}) has no row in openapi/documents",
                route.method,
                route.path,
                route.operation
            );
        }
        for document in documents::all() {
            let known = routes().any(|route| route.operation == document.operation);
            assert!(
                known,
                "{} is described, but is no route",
                document.operation
            );
        }
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let mut names: Vec<&str> = routes().map(|route| route.operation).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn every_schema_that_is_named_exists() {
        let text = document().to_string();
        let known = schemas();
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            assert!(known.get(name).is_some(), "schema {name} is missing");
        }
    }

    /// Renew it with `CASTLING_RENEW_GOLDEN=1 cargo test -p castling-arm openapi`.
    #[test]
    fn the_document_is_the_golden_one() {
        let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        if std::env::var_os("CASTLING_RENEW_GOLDEN").is_some() {
            std::fs::write(GOLDEN, &text).unwrap();
        }
        let golden = std::fs::read_to_string(GOLDEN).unwrap_or_default();
        assert!(
            golden == text,
            "docs/openapi.json differs: look at the change, then renew it with CASTLING_RENEW_GOLDEN=1 cargo test -p castling-arm openapi"
        );
    }
}
