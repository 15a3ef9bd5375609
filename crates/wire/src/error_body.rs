//! JSON bodies of refusals (data-plane notes section 9). Tracking id and time are the caller's.

use crate::timestamp;
use serde::Serialize;
use types::{ErrorCode, Reject, UnixMillis};

/// The response header that carries [`header_value`].
pub const HEADER: &str = "iothub-errorcode";

/// The value of [`HEADER`].
pub fn header_value(code: ErrorCode) -> &'static str {
    code.name()
}

#[derive(Serialize)]
struct Outer<'a> {
    #[serde(rename = "Message")]
    message: &'a str,
    #[serde(rename = "ExceptionMessage")]
    exception_message: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inner<'a> {
    error_code: u32,
    tracking_id: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Info>,
    timestamp_utc: String,
}

#[derive(Serialize)]
struct Info {}

/// The registry's shape: `{"Message":"ErrorCode:Name;text","ExceptionMessage":"Tracking ID:…"}`.
///
/// The Node client splits `Message` at `;` and takes the second piece as the text, so the text holds none and is not empty.
pub fn registry(reject: &Reject, tracking_id: &str, at: UnixMillis) -> String {
    let text = reject.message.replace(';', ",");
    let text = if text.trim().is_empty() {
        reject.code.name()
    } else {
        &text
    };
    json(&Outer {
        message: &format!("ErrorCode:{};{text}", reject.code.name()),
        exception_message: &format!(
            "Tracking ID:{tracking_id}-G:0-TimeStamp:{}-Error:",
            timestamp::tracking(at)
        ),
    })
}

/// The shape of methods, twins and cloud-to-device: `Message` is itself a JSON text with `errorCode`.
pub fn inner_json(reject: &Reject, tracking_id: &str, at: UnixMillis) -> String {
    let inner = Inner {
        info: Some(Info {}),
        ..inner(reject, tracking_id, at)
    };
    json(&Outer {
        message: &json(&inner),
        exception_message: "",
    })
}

/// The body of an MQTT twin reply that refuses. Node clients look for `errorCode` in it and at nothing else.
pub fn mqtt_twin(reject: &Reject, tracking_id: &str, at: UnixMillis) -> String {
    json(&inner(reject, tracking_id, at))
}

fn inner<'a>(reject: &'a Reject, tracking_id: &'a str, at: UnixMillis) -> Inner<'a> {
    Inner {
        error_code: reject.code.number(),
        tracking_id,
        message: &reject.message,
        info: None,
        timestamp_utc: timestamp::iso(at),
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("structs of texts and numbers always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const AT: UnixMillis = UnixMillis(1_795_403_045_678);

    fn reject(message: &str) -> Reject {
        Reject::new(ErrorCode::DeviceNotFound, message)
    }

    #[test]
    fn the_registry_shape_is_what_the_node_client_splits() {
        let body: Value =
            serde_json::from_str(&registry(&reject("no \"d1\"; sorry"), "abc", AT)).unwrap();
        assert_eq!(body["Message"], "ErrorCode:DeviceNotFound;no \"d1\", sorry");
        assert_eq!(
            body["ExceptionMessage"],
            "Tracking ID:abc-G:0-TimeStamp:11/23/2026 03:04:05-Error:"
        );
        let empty: Value = serde_json::from_str(&registry(&reject(" "), "abc", AT)).unwrap();
        assert_eq!(empty["Message"], "ErrorCode:DeviceNotFound;DeviceNotFound");
        assert_eq!(header_value(ErrorCode::DeviceNotFound), "DeviceNotFound");
    }

    #[test]
    fn the_inner_shape_carries_json_in_a_text() {
        let body: Value = serde_json::from_str(&inner_json(&reject("gone"), "abc", AT)).unwrap();
        assert_eq!(body["ExceptionMessage"], "");
        assert_eq!(
            body["Message"],
            r#"{"errorCode":404001,"trackingId":"abc","message":"gone","info":{},"timestampUtc":"2026-11-23T03:04:05.678Z"}"#
        );
    }

    #[test]
    fn the_mqtt_shape_has_an_error_code() {
        assert_eq!(
            mqtt_twin(&reject("gone"), "abc", AT),
            r#"{"errorCode":404001,"trackingId":"abc","message":"gone","timestampUtc":"2026-11-23T03:04:05.678Z"}"#
        );
    }
}
