//! Answers of success.

use super::failure::Failure;
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use serde::Serialize;

/// The content type of every JSON answer.
pub(super) const JSON: &str = "application/json; charset=utf-8";

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// An answer with a body that is JSON text.
pub(super) fn json(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// 200 with `value` as JSON.
pub(super) fn json_of<T: Serialize>(value: &T) -> Response<Body> {
    json(StatusCode::OK, Body::from(to_json(value)))
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("answers have string keys and finite numbers")
}

/// 200 with an entity's JSON text and, if it has one, its etag.
pub(super) fn entity(body: Bytes, etag: &str) -> Result<Response<Body>, Failure> {
    let mut response = json(StatusCode::OK, Body::from(body));
    if !etag.is_empty() {
        let value = HeaderValue::from_str(&wire::if_match::etag_header(etag))
            .map_err(|_| Failure::unexpected_reply())?;
        response.headers_mut().insert(header::ETAG, value);
    }
    Ok(response)
}
