//! Random ids and keys, and the ids a response carries.

use crate::failure::Failure;
use crate::tokens::hex;
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use types::limits;

/// Fresh random bytes.
///
/// # Errors
/// When the system gives none; nothing has happened then.
pub fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::internal(format!("The system gives no randomness: {error}")))?;
    Ok(bytes)
}

/// A fresh operation id.
pub fn operation_id() -> Result<String, Failure> {
    Ok(hex(&random::<16>()?))
}

/// A fresh symmetric key as base64.
pub fn key() -> Result<String, Failure> {
    Ok(STANDARD.encode(random::<{ limits::KEY_BYTES_MADE }>()?))
}

/// A random identifier in its usual text form (version 4).
pub fn guid() -> Result<String, Failure> {
    let mut bytes = random::<16>()?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex(&bytes);
    Ok(format!(
        "{}-{}-{}-{}-{}",
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..]
    ))
}

/// Longest id a client may give its request.
const GIVEN_CHARS_MAX: usize = 128;

/// An id that a client gave in a header; `None` if it is missing or strange.
pub fn given(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.{}|:".contains(&b);
    let good = (1..=GIVEN_CHARS_MAX).contains(&text.len()) && text.bytes().all(plain);
    good.then(|| text.to_owned())
}

/// The ids of one request.
pub struct RequestIds {
    pub request: String,
    pub correlation: String,
    /// The client's own, if it wants it back.
    client: Option<String>,
}

impl RequestIds {
    pub fn of(headers: &HeaderMap) -> RequestIds {
        // An answer without a telling id is better than none.
        let request = guid().unwrap_or_else(|_| "00000000-0000-0000-0000-000000000000".to_owned());
        let wants = headers
            .get("x-ms-return-client-request-id")
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
        RequestIds {
            correlation: given(headers, "x-ms-correlation-request-id")
                .unwrap_or_else(|| request.clone()),
            client: given(headers, "x-ms-client-request-id").filter(|_| wants),
            request,
        }
    }

    /// Writes the headers that every answer has.
    pub fn write(&self, headers: &mut HeaderMap) {
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        put("x-ms-request-id", &self.request);
        put("x-ms-correlation-request-id", &self.correlation);
        if let Some(client) = &self.client {
            put("x-ms-client-request-id", client);
        }
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-cache"));
    }
}
