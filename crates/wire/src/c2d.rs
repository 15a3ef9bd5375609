//! Cloud-to-device messages as devices receive them: MQTT property bag and HTTP response headers (data-plane notes sections
//! 3.4 and 4).

use crate::property_bag::Builder;
use crate::{if_match, percent, timestamp};
use types::{DeviceId, UnixMillis};

/// What is delivered beside the body.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    pub device: &'a DeviceId,
    pub message_id: &'a str,
    pub correlation_id: Option<&'a str>,
    pub user_id: Option<&'a str>,
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
    pub expiry: Option<UnixMillis>,
    /// `positive`, `negative` or `full`; `None`: no feedback is wanted.
    pub ack: Option<&'a str>,
    pub sequence: u64,
    pub enqueued: UnixMillis,
    pub delivery_count: u16,
    /// Application properties, in order.
    pub properties: &'a [(String, String)],
}

impl Delivery<'_> {
    /// The bag for [`topic::c2d`](crate::topic::c2d).
    pub fn mqtt_bag(&self) -> String {
        let builder = Builder::new()
            .system("to", &self.to())
            .system("mid", self.message_id)
            .system_if("cid", self.correlation_id)
            .system_if("uid", self.user_id)
            .system_if("exp", self.expiry.map(timestamp::iso).as_deref())
            .system_if("ct", self.content_type)
            .system_if("ce", self.content_encoding);
        let builder = match self.ack {
            Some(ack) => builder.application("iothub-ack", Some(ack)),
            None => builder,
        };
        self.properties
            .iter()
            .fold(builder, |builder, (name, value)| {
                builder.application(name, Some(value))
            })
            .finish()
    }

    /// The response headers of an HTTPS receive, with the lock token as `ETag`.
    ///
    /// What cannot stand in a header (control characters, non-ASCII) is percent-encoded.
    pub fn http_headers(&self, lock_token: &str) -> Vec<(String, String)> {
        let mut headers = vec![
            ("ETag".to_owned(), if_match::etag_header(lock_token)),
            ("iothub-messageid".to_owned(), header_text(self.message_id)),
            (
                "iothub-sequencenumber".to_owned(),
                self.sequence.to_string(),
            ),
            (
                "iothub-enqueuedtime".to_owned(),
                timestamp::iso(self.enqueued),
            ),
            (
                "iothub-deliverycount".to_owned(),
                self.delivery_count.to_string(),
            ),
            ("iothub-to".to_owned(), header_text(&self.to())),
            (
                "iothub-ack".to_owned(),
                header_text(self.ack.unwrap_or("none")),
            ),
        ];
        if let Some(expiry) = self.expiry {
            headers.push(("iothub-expiry".to_owned(), timestamp::iso(expiry)));
        }
        for (name, value) in [
            ("iothub-correlationid", self.correlation_id),
            ("iothub-userid", self.user_id),
            ("iothub-contenttype", self.content_type),
            ("iothub-contentencoding", self.content_encoding),
        ] {
            if let Some(value) = value {
                headers.push((name.to_owned(), header_text(value)));
            }
        }
        for (name, value) in self.properties {
            headers.push((
                format!("iothub-app-{}", header_name(name)),
                header_text(value),
            ));
        }
        headers
    }

    fn to(&self) -> String {
        format!("/devices/{}/messages/deviceBound", self.device)
    }
}

/// A value that may stand in a header as it is, or its percent-encoding.
fn header_text(value: &str) -> String {
    let plain = value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) && value.trim() == value;
    if plain {
        value.to_owned()
    } else {
        percent::encode(value)
    }
}

/// The token characters of RFC 9110 as they are, everything else percent-encoded (`%` is itself a token character).
fn header_name(name: &str) -> String {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.bytes().all(token) {
        name.to_owned()
    } else {
        percent::encode(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::property_bag::Properties;

    fn with<R>(properties: &[(String, String)], check: impl FnOnce(Delivery<'_>) -> R) -> R {
        let device = DeviceId::parse("d1").unwrap();
        check(Delivery {
            device: &device,
            message_id: "m 1",
            correlation_id: Some("c"),
            user_id: None,
            content_type: Some("application/json"),
            content_encoding: Some("utf-8"),
            expiry: Some(UnixMillis(1_795_403_045_678)),
            ack: Some("full"),
            sequence: 7,
            enqueued: UnixMillis(1_795_403_000_000),
            delivery_count: 2,
            properties,
        })
    }

    #[test]
    fn the_bag_of_a_delivery_names_its_target_and_ids() {
        let bag = with(&[("a b".into(), "ü".into())], |delivery| {
            delivery.mqtt_bag()
        });
        assert!(bag.starts_with("%24.to=%2Fdevices%2Fd1%2Fmessages%2FdeviceBound&%24.mid=m%201&%24.cid=c&%24.exp=2026-11-23T03%3A04%3A05.678Z"));
        let properties = Properties::parse(&bag).unwrap();
        assert_eq!(
            properties.system("to"),
            Some("/devices/d1/messages/deviceBound")
        );
        assert_eq!(properties.system("uid"), None);
        assert_eq!(
            properties.application["iothub-ack"].as_deref(),
            Some("full")
        );
        assert_eq!(properties.application["a b"].as_deref(), Some("ü"));
    }

    #[test]
    fn the_headers_of_a_delivery_can_stand_in_http() {
        let properties = [
            ("Name".into(), "v 1".into()),
            ("odd:näme".into(), "line\r\nX-Evil: 1".into()),
        ];
        let headers = with(&properties, |delivery| delivery.http_headers("lock"));
        let get = |name: &str| {
            headers
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.as_str())
        };
        assert_eq!(get("ETag"), Some("\"lock\""));
        assert_eq!(get("iothub-messageid"), Some("m 1"));
        assert_eq!(get("iothub-sequencenumber"), Some("7"));
        assert_eq!(get("iothub-deliverycount"), Some("2"));
        assert_eq!(get("iothub-expiry"), Some("2026-11-23T03:04:05.678Z"));
        assert_eq!(get("iothub-to"), Some("/devices/d1/messages/deviceBound"));
        assert_eq!(get("iothub-userid"), None);
        assert_eq!(get("iothub-app-Name"), Some("v 1"));
        assert_eq!(
            get("iothub-app-odd%3An%C3%A4me"),
            Some("line%0D%0AX-Evil%3A%201")
        );
    }
}
