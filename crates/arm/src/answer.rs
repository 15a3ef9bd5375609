//! Answers that are not failures.

use crate::failure::Failure;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value};

/// What a handler gives.
pub type Outcome = Result<Response, Failure>;

/// An answer with a JSON body.
pub fn json(status: StatusCode, body: &Value) -> Response {
    let text = serde_json::to_vec(body).expect("names in JSON values are texts");
    with_body(status, Body::from(text))
}

/// 200 with a JSON body.
pub fn ok(body: &Value) -> Outcome {
    Ok(json(StatusCode::OK, body))
}

/// 200 with a list in one page.
pub fn list(items: Vec<Value>) -> Outcome {
    // `json!` would copy every item.
    let mut body = Map::new();
    body.insert("value".into(), Value::Array(items));
    ok(&Value::Object(body))
}

/// An answer with the body `null`, as the first answer of a delete or a failover has it.
pub fn null(status: StatusCode) -> Response {
    with_body(status, Body::from("null"))
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn with_body(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Sets a header; a value that cannot stand in one is left out.
pub fn set(response: &mut Response, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => drop(response.headers_mut().insert(name, value)),
        Err(_) => tracing::warn!(%name, "a header value holds what no header may"),
    }
}
