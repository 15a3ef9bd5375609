//! Telemetry sent over HTTPS: request headers to a property bag, and the JSON batch body (data-plane notes section 4).

use crate::property_bag::{self, BagError, Builder};
use crate::sas::BASE64;
use base64::Engine;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use types::{ErrorCode, Reject};

/// The content type of a batch.
pub const BATCH_CONTENT_TYPE: &str = "application/vnd.microsoft.iothub.json";

const APPLICATION_PREFIX: &str = "iothub-app-";

/// Puts the properties among request headers into a bag; other headers are passed over. Names compare without case.
///
/// # Errors
/// As [`property_bag::validate`].
pub fn bag_from_headers<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<String, BagError> {
    let mut builder = Builder::new();
    for (name, value) in headers {
        if let Some(short) = system_short_name(name) {
            builder = builder.system(short, value);
        } else if name.eq_ignore_ascii_case("iothub-ack") {
            builder = builder.application("iothub-ack", Some(value));
        } else if let Some(name) = application_name(name) {
            builder = builder.application(name, Some(value));
        }
    }
    let bag = builder.finish();
    property_bag::validate(&bag)?;
    Ok(bag)
}

fn system_short_name(header: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 10] = [
        ("iothub-messageid", "mid"),
        ("iothub-correlationid", "cid"),
        ("iothub-userid", "uid"),
        ("iothub-to", "to"),
        ("iothub-expiry", "exp"),
        ("iothub-contenttype", "ct"),
        ("iothub-contentencoding", "ce"),
        ("iothub-interface-id", "ifid"),
        ("iothub-creationtimeutc", "ctime"),
        ("dt-subject", "sub"),
    ];
    NAMES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(header))
        .map(|(_, short)| *short)
}

fn application_name(header: &str) -> Option<&str> {
    let (prefix, name) = header.split_at_checked(APPLICATION_PREFIX.len())?;
    (prefix.eq_ignore_ascii_case(APPLICATION_PREFIX) && !name.is_empty()).then_some(name)
}

/// One message of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub bag: String,
    pub body: Vec<u8>,
}

/// Why a batch is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// Not the documented JSON; says where.
    Json(String),
    /// The body of the message at this position (from 0) is not base64.
    Base64 {
        at: usize,
    },
    Properties {
        at: usize,
        why: BagError,
    },
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Json(why) => write!(f, "the batch is not valid: {why}"),
            BatchError::Base64 { at } => {
                write!(f, "the body of message {at} of the batch is not base64")
            }
            BatchError::Properties { at, why } => write!(f, "message {at} of the batch: {why}"),
        }
    }
}

impl std::error::Error for BatchError {}

impl From<BatchError> for Reject {
    fn from(error: BatchError) -> Reject {
        let code = match error {
            BatchError::Json(_) => ErrorCode::IotHubFormatError,
            BatchError::Base64 { .. } | BatchError::Properties { .. } => ErrorCode::ArgumentInvalid,
        };
        Reject::new(code, error.to_string())
    }
}

#[derive(Deserialize)]
struct Raw {
    body: String,
    // Absent means true: Node sends base64 without the flag.
    #[serde(rename = "base64Encoded", default)]
    base64_encoded: Option<bool>,
    #[serde(default)]
    properties: Option<BTreeMap<String, Option<String>>>,
}

/// Reads a batch: `[{"body":"…","base64Encoded":true,"properties":{"iothub-app-k":"v"}}]`. The caller bounds the size.
///
/// # Errors
/// [`BatchError`]; nothing of the batch may then be used.
pub fn parse_batch(body: &[u8]) -> Result<Vec<Message>, BatchError> {
    let raw: Vec<Raw> =
        serde_json::from_slice(body).map_err(|e| BatchError::Json(e.to_string()))?;
    raw.into_iter()
        .enumerate()
        .map(|(at, raw)| {
            let properties = raw.properties.unwrap_or_default();
            let headers = properties
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_deref().unwrap_or_default()));
            let bag =
                bag_from_headers(headers).map_err(|why| BatchError::Properties { at, why })?;
            let body = match raw.base64_encoded {
                Some(false) => raw.body.into_bytes(),
                _ => BASE64
                    .decode(raw.body)
                    .map_err(|_| BatchError::Base64 { at })?,
            };
            Ok(Message { bag, body })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::property_bag::Properties;
    use proptest::prelude::*;

    #[test]
    fn headers_become_system_and_application_properties() {
        let bag = bag_from_headers([
            ("Host", "h.net"),
            ("IoTHub-MessageId", "m1"),
            ("iothub-contenttype", "application/json"),
            ("dt-subject", "thermostat"),
            ("iothub-app-Room Temp", "a=b&c"),
            ("IOTHUB-APP-x", ""),
            ("iothub-ack", "full"),
            ("iothub-unknown", "1"),
            ("iothub-app-", "no name"),
        ]);
        let properties = Properties::parse(&bag.unwrap()).unwrap();
        assert_eq!(properties.system("mid"), Some("m1"));
        assert_eq!(properties.system("ct"), Some("application/json"));
        assert_eq!(properties.system("sub"), Some("thermostat"));
        assert_eq!(
            properties.application["Room Temp"].as_deref(),
            Some("a=b&c")
        );
        assert_eq!(properties.application["x"].as_deref(), Some(""));
        assert_eq!(
            properties.application["iothub-ack"].as_deref(),
            Some("full")
        );
        assert_eq!(
            (properties.system.len(), properties.application.len()),
            (3, 3)
        );
        assert_eq!(
            bag_from_headers([("iothub-messageid", "x".repeat(129).as_str())]),
            Err(BagError::MessageIdTooLong)
        );
    }

    #[test]
    fn batches_default_to_base64_and_may_hold_text() {
        let batch = br#"[{"body":"aGk="},{"body":"hi","base64Encoded":false,"properties":{"iothub-app-k":"v","dt-subject":"s"}}]"#;
        let messages = parse_batch(batch).unwrap();
        assert_eq!(
            messages[0],
            Message {
                bag: String::new(),
                body: b"hi".to_vec()
            }
        );
        assert_eq!(
            messages[1],
            Message {
                bag: "%24.sub=s&k=v".into(),
                body: b"hi".to_vec()
            }
        );
        assert_eq!(parse_batch(b"[]"), Ok(vec![]));
    }

    #[test]
    fn a_bad_message_refuses_the_whole_batch() {
        assert_eq!(
            parse_batch(br#"[{"body":"aGk="},{"body":"!"}]"#),
            Err(BatchError::Base64 { at: 1 })
        );
        let long = format!(
            r#"[{{"body":"","properties":{{"iothub-messageid":"{}"}}}}]"#,
            "x".repeat(129)
        );
        assert_eq!(
            parse_batch(long.as_bytes()),
            Err(BatchError::Properties {
                at: 0,
                why: BagError::MessageIdTooLong
            })
        );
        for bad in [&b"{}"[..], b"", b"[1]", b"[{}]", b"[{\"body\":1}]", b"\xff"] {
            let error = parse_batch(bad).unwrap_err();
            assert_eq!(Reject::from(error).code, ErrorCode::IotHubFormatError);
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse_batch(&bytes);
        }
    }
}
