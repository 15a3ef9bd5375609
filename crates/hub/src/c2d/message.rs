//! How a cloud-to-device message is stored: written once on send, never changed, removed at its end.
//!
//! Layout (docs/formats/state.md, `c`): version byte, length of the header (u32, little-endian), header as JSON, body.

use crate::ViewError;
use crate::command::{Ack, C2dMessage};
use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};
use types::UnixMillis;

const VERSION: u8 = 1;
const PREFIX_BYTES: usize = 5;

/// Everything of a stored message but its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Header {
    pub message_id: String,
    pub enqueued: UnixMillis,
    pub expiry: UnixMillis,
    /// Generation of the device when the message was sent; feedback names it.
    pub generation: String,
    pub ack: Ack,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<(String, String)>,
}

/// Encodes a message.
pub(super) fn encode(header: &Header, body: &[u8]) -> Vec<u8> {
    let json =
        serde_json::to_vec(header).expect("a header has string keys and is written to memory");
    let length = u32::try_from(json.len()).expect("send bounds the header's texts");
    let mut out = Vec::with_capacity(PREFIX_BYTES + json.len() + body.len());
    out.push(VERSION);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&json);
    out.extend_from_slice(body);
    out
}

/// Decodes a message; the body shares the value's bytes.
///
/// # Errors
/// When the bytes are not what [`encode`] writes.
pub(super) fn decode(value: &Bytes) -> Result<(Header, Bytes), ViewError> {
    let corrupt = |why: &str| ViewError(format!("cloud-to-device message: {why}"));
    let Some(([version, length @ ..], rest)) = value.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(corrupt("the value is too short"));
    };
    if *version != VERSION {
        return Err(corrupt("its format version is unknown"));
    }
    let length = u32::from_le_bytes(*length) as usize;
    let Some((json, _)) = rest.split_at_checked(length) else {
        return Err(corrupt("the header is longer than the value"));
    };
    let header = serde_json::from_slice(json).map_err(|error| corrupt(&error.to_string()))?;
    let mut body = value.clone();
    body.advance(PREFIX_BYTES + length);
    Ok((header, body))
}

impl Header {
    /// The message as it was sent, with its id and expiry filled in.
    pub(super) fn into_message(self, body: Bytes) -> C2dMessage {
        C2dMessage {
            message_id: self.message_id,
            correlation_id: self.correlation_id,
            user_id: self.user_id,
            content_type: self.content_type,
            content_encoding: self.content_encoding,
            expiry: Some(self.expiry),
            ack: self.ack,
            properties: self.properties,
            body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Header {
        Header {
            message_id: "m-1".into(),
            enqueued: UnixMillis(1_700_000_000_000),
            expiry: UnixMillis(1_700_003_600_000),
            generation: "638000000000000000".into(),
            ack: Ack::Full,
            correlation_id: Some("c/1".into()),
            user_id: None,
            content_type: Some("application/json".into()),
            content_encoding: Some("utf-8".into()),
            properties: vec![("alert".into(), "true".into()), ("é".into(), String::new())],
        }
    }

    /// Written by format version 1; must open for ever.
    const FIXTURE: &str = concat!(
        r#"{"messageId":"m-1","enqueued":1700000000000,"expiry":1700003600000,"generation":"638000000000000000","ack":"Full","#,
        r#""correlationId":"c/1","contentType":"application/json","contentEncoding":"utf-8","#,
        r#""properties":[["alert","true"],["é",""]]}"#,
    );

    fn fixture() -> Vec<u8> {
        let mut value = vec![1];
        value.extend_from_slice(&(FIXTURE.len() as u32).to_le_bytes());
        value.extend_from_slice(FIXTURE.as_bytes());
        value.extend_from_slice(b"\x00body\xff");
        value
    }

    #[test]
    fn a_version_1_message_opens_for_ever() {
        let (header, body) = decode(&fixture().into()).unwrap();
        assert_eq!(header, sample());
        assert_eq!(&body[..], b"\x00body\xff");
        assert_eq!(encode(&sample(), b"\x00body\xff"), fixture());
    }

    #[test]
    fn damaged_messages_are_errors() {
        let whole = fixture();
        let mut newer = whole.clone();
        newer[0] = 2;
        for bad in [&b""[..], &whole[..4], &whole[..40], &newer] {
            assert!(decode(&Bytes::copy_from_slice(bad)).is_err());
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes.into());
        }
    }
}
