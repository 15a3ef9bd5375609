//! The topics of MQTT (data-plane notes section 3.4): what devices publish and subscribe to, and what the hub sends.
//!
//! Ids stand raw in topics, never percent-encoded; request ids (`$rid`) are echoed as they came.

use crate::percent;
use std::fmt;
use types::{DeviceId, limits};

/// A publish of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish<'a> {
    /// `devices/{id}/messages/events/{bag}`; `bag` is not checked yet.
    Telemetry { device: &'a str, bag: &'a str },
    /// `$iothub/methods/res/{status}/?$rid={rid}`
    MethodResponse { status: i32, rid: &'a str },
    /// `$iothub/twin/GET/?$rid={rid}`
    TwinGet { rid: &'a str },
    /// `$iothub/twin/PATCH/properties/reported/?$rid={rid}[&$version={base}]`
    TwinPatchReported {
        rid: &'a str,
        base_version: Option<u64>,
    },
}

/// A subscription the hub serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    /// `devices/{id}/messages/devicebound/#`
    C2d,
    /// `$iothub/methods/POST/#`
    Methods,
    /// `$iothub/twin/res/#`
    TwinResponse,
    /// `$iothub/twin/PATCH/properties/desired/#`
    DesiredPatch,
}

/// Why a topic or filter is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// It belongs to another identity than the one that connected.
    OtherDevice,
    /// It belongs to a module; modules are not served.
    Module,
    /// A published topic holds `+`, `#` or U+0000.
    Wildcard,
    /// A filter breaks MQTT's rules for wildcards, or is empty.
    Malformed,
    /// The query misses `$rid`, or a number in the topic is none.
    Request(&'static str),
    /// Well-formed, but nothing this hub knows.
    Unknown,
    /// Longer than an MQTT string can be (65,535 bytes).
    TooLong,
}

impl TopicError {
    /// True when a subscriber is told so by SUBACK 0x80; false when the connection must close.
    pub fn is_refusable(self) -> bool {
        matches!(
            self,
            TopicError::OtherDevice | TopicError::Module | TopicError::Unknown
        )
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TopicError::OtherDevice => "the topic belongs to another device",
            TopicError::Module => "topics of modules are not served",
            TopicError::Wildcard => "a published topic must not hold wildcards",
            TopicError::Malformed => "the topic filter is malformed",
            TopicError::Request(why) => return write!(f, "the request topic is malformed: {why}"),
            TopicError::Unknown => "the topic is not one of the hub's",
            TopicError::TooLong => "the topic is longer than 65535 bytes",
        })
    }
}

impl std::error::Error for TopicError {}

/// Reads the topic of a publish (or will) by the authenticated device `own`.
///
/// # Errors
/// Any [`TopicError`] means: close the connection.
pub fn parse_publish<'a>(topic: &'a str, own: &DeviceId) -> Result<Publish<'a>, TopicError> {
    if let Some(rest) = topic.strip_prefix("$iothub/") {
        check_no_wildcard(rest)?;
        return parse_request(rest);
    }
    let rest = topic.strip_prefix("devices/").ok_or(TopicError::Unknown)?;
    let tail = own_tail(rest, own)?;
    // Ids may hold `+` and `#`, which is why only what follows the id is looked at.
    check_no_wildcard(tail)?;
    let device = &rest[..rest.len() - tail.len() - 1];
    if tail == "modules" || tail.starts_with("modules/") {
        return Err(TopicError::Module);
    }
    match tail.strip_prefix("messages/events") {
        Some("") => Ok(Publish::Telemetry { device, bag: "" }),
        Some(bag) => {
            let bag = bag.strip_prefix('/').ok_or(TopicError::Unknown)?;
            Ok(Publish::Telemetry {
                device,
                bag: bag.strip_suffix('/').unwrap_or(bag),
            })
        }
        None => Err(TopicError::Unknown),
    }
}

/// Reads a subscription's filter of the authenticated device `own`.
///
/// # Errors
/// [`TopicError::is_refusable`] tells SUBACK 0x80 from closing.
pub fn parse_filter(filter: &str, own: &DeviceId) -> Result<Filter, TopicError> {
    check_filter(filter)?;
    for known in [Filter::Methods, Filter::TwinResponse, Filter::DesiredPatch] {
        if known.fixed() == Some(filter) {
            return Ok(known);
        }
    }
    let rest = filter.strip_prefix("devices/").ok_or(TopicError::Unknown)?;
    match own_tail(rest, own)? {
        "messages/devicebound/#" => Ok(Filter::C2d),
        tail if tail == "modules" || tail.starts_with("modules/") => Err(TopicError::Module),
        _ => Err(TopicError::Unknown),
    }
}

impl Filter {
    /// The filter as `device` writes it.
    pub fn text(self, device: &DeviceId) -> String {
        self.fixed().map_or_else(
            || format!("devices/{device}/messages/devicebound/#"),
            str::to_owned,
        )
    }

    fn fixed(self) -> Option<&'static str> {
        match self {
            Filter::C2d => None,
            Filter::Methods => Some("$iothub/methods/POST/#"),
            Filter::TwinResponse => Some("$iothub/twin/res/#"),
            Filter::DesiredPatch => Some("$iothub/twin/PATCH/properties/desired/#"),
        }
    }
}

/// The topic on which `device` sends telemetry with `bag`.
///
/// # Errors
/// [`TopicError::TooLong`].
pub fn telemetry(device: &DeviceId, bag: &str) -> Result<String, TopicError> {
    bounded(format!("devices/{device}/messages/events/{bag}"))
}

/// The topic on which a cloud-to-device message with `bag` is delivered.
///
/// # Errors
/// [`TopicError::TooLong`].
pub fn c2d(device: &DeviceId, bag: &str) -> Result<String, TopicError> {
    // Node's client needs the slash after `devicebound` even when the bag is empty.
    bounded(format!("devices/{device}/messages/devicebound/{bag}"))
}

/// The topic on which a direct method is called.
///
/// # Errors
/// [`TopicError::TooLong`].
pub fn method_call(method: &str, rid: &str) -> Result<String, TopicError> {
    bounded(format!(
        "$iothub/methods/POST/{}/?$rid={rid}",
        percent::encode(method)
    ))
}

/// The topic of a reply to a twin request; `version` is the new reported version after a patch.
pub fn twin_response(status: u16, rid: &str, version: Option<u64>) -> String {
    match version {
        None => format!("$iothub/twin/res/{status}/?$rid={rid}"),
        Some(version) => format!("$iothub/twin/res/{status}/?$rid={rid}&$version={version}"),
    }
}

/// The topic on which a change of desired properties is told.
pub fn desired_patch(version: u64) -> String {
    format!("$iothub/twin/PATCH/properties/desired/?$version={version}")
}

fn bounded(topic: String) -> Result<String, TopicError> {
    if topic.len() > limits::MQTT_STRING_BYTES_MAX {
        Err(TopicError::TooLong)
    } else {
        Ok(topic)
    }
}

/// What follows `{id}/`, if the id is `own`.
fn own_tail<'a>(rest: &'a str, own: &DeviceId) -> Result<&'a str, TopicError> {
    let tail = rest
        .strip_prefix(own.as_str())
        .and_then(|tail| tail.strip_prefix('/'));
    tail.ok_or(if rest.contains('/') {
        TopicError::OtherDevice
    } else {
        TopicError::Unknown
    })
}

fn parse_request(rest: &str) -> Result<Publish<'_>, TopicError> {
    if let Some(query) = rest.strip_prefix("twin/GET/") {
        return Ok(Publish::TwinGet {
            rid: Query::parse(query)?.rid,
        });
    }
    if let Some(query) = rest.strip_prefix("twin/PATCH/properties/reported/") {
        let Query { rid, version } = Query::parse(query)?;
        return Ok(Publish::TwinPatchReported {
            rid,
            base_version: version,
        });
    }
    if let Some(rest) = rest.strip_prefix("methods/res/") {
        let (status, query) = rest
            .split_once('/')
            .ok_or(TopicError::Request("`/?$rid=` is missing"))?;
        let status = status
            .parse()
            .map_err(|_| TopicError::Request("the status is not a number"))?;
        return Ok(Publish::MethodResponse {
            status,
            rid: Query::parse(query)?.rid,
        });
    }
    Err(TopicError::Unknown)
}

struct Query<'a> {
    rid: &'a str,
    version: Option<u64>,
}

impl<'a> Query<'a> {
    fn parse(text: &'a str) -> Result<Self, TopicError> {
        let pairs = text
            .strip_prefix('?')
            .ok_or(TopicError::Request("`?$rid=` is missing"))?;
        let (mut rid, mut version) = (None, None);
        for pair in pairs.split('&') {
            match pair.split_once('=') {
                Some(("$rid", value)) => rid = Some(value),
                Some(("$version", value)) => {
                    version = Some(
                        value
                            .parse()
                            .map_err(|_| TopicError::Request("`$version` is not a number"))?,
                    );
                }
                _ => {}
            }
        }
        Ok(Query {
            rid: rid.ok_or(TopicError::Request("`$rid` is missing"))?,
            version,
        })
    }
}

/// [MQTT-3.3.2-2] A topic name holds no wildcards; [MQTT-1.5.3-2] no string holds U+0000.
fn check_no_wildcard(topic: &str) -> Result<(), TopicError> {
    if topic.bytes().any(|b| matches!(b, b'+' | b'#' | 0)) {
        Err(TopicError::Wildcard)
    } else {
        Ok(())
    }
}

/// [MQTT-4.7.1-2], [MQTT-4.7.1-3], [MQTT-4.7.3-1], with the exception that an id below `devices/` may hold wildcards.
fn check_filter(filter: &str) -> Result<(), TopicError> {
    if filter.is_empty() || filter.contains('\0') {
        return Err(TopicError::Malformed);
    }
    let levels = filter.split('/').count();
    for (index, level) in filter.split('/').enumerate() {
        let is_id = index == 1 && filter.starts_with("devices/") && levels > 2;
        let hash = level.contains('#') && !(level == "#" && index + 1 == levels);
        let plus = level.contains('+') && level != "+";
        if (hash || plus) && !is_id {
            return Err(TopicError::Malformed);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn device(id: &str) -> DeviceId {
        DeviceId::parse(id).unwrap()
    }

    fn publish(topic: &str) -> Result<Publish<'_>, TopicError> {
        parse_publish(topic, &device("d1"))
    }

    fn filter(text: &str) -> Result<Filter, TopicError> {
        parse_filter(text, &device("d1"))
    }

    #[test]
    fn telemetry_topics_carry_a_bag_and_tolerate_a_trailing_slash() {
        let check = |topic, bag| {
            assert_eq!(
                publish(topic),
                Ok(Publish::Telemetry { device: "d1", bag }),
                "{topic}"
            )
        };
        check("devices/d1/messages/events/", "");
        check("devices/d1/messages/events", "");
        check("devices/d1/messages/events/a=b&%24.mid=1", "a=b&%24.mid=1");
        check("devices/d1/messages/events/%24.on=out/", "%24.on=out");
        check("devices/d1/messages/events/a=b/c", "a=b/c");
    }

    #[test]
    fn requests_carry_their_rid_as_it_came() {
        let rid = "0a1b-%20X/y";
        assert_eq!(
            publish(&format!("$iothub/twin/GET/?$rid={rid}")),
            Ok(Publish::TwinGet { rid })
        );
        assert_eq!(
            publish(&format!(
                "$iothub/twin/PATCH/properties/reported/?$rid={rid}"
            )),
            Ok(Publish::TwinPatchReported {
                rid,
                base_version: None
            })
        );
        assert_eq!(
            publish(&format!(
                "$iothub/twin/PATCH/properties/reported/?$version=7&$rid={rid}"
            )),
            Ok(Publish::TwinPatchReported {
                rid,
                base_version: Some(7)
            })
        );
        assert_eq!(
            publish(&format!("$iothub/methods/res/-200/?$rid={rid}")),
            Ok(Publish::MethodResponse { status: -200, rid })
        );
    }

    #[test]
    fn what_a_device_may_not_publish_is_told_apart() {
        let check = |topic: &str, error| assert_eq!(publish(topic), Err(error), "{topic}");
        check("devices/d2/messages/events/", TopicError::OtherDevice);
        check("devices/d11/messages/events/", TopicError::OtherDevice);
        check("devices/D1/messages/events/", TopicError::OtherDevice);
        check("devices/d1/modules/m/messages/events/", TopicError::Module);
        check("devices/d1/modules", TopicError::Module);
        check("devices/d1/messages/eventsx", TopicError::Unknown);
        check("devices/d1/messages/devicebound/", TopicError::Unknown);
        check("devices/d1", TopicError::Unknown);
        check("", TopicError::Unknown);
        check("foo/bar", TopicError::Unknown);
        check(
            "$iothub/credentials/POST/issueCertificate/?$rid=1",
            TopicError::Unknown,
        );
        check(
            "$iothub/twin/PATCH/properties/desired/?$rid=1",
            TopicError::Unknown,
        );
        check("devices/d1/messages/events/a=+", TopicError::Wildcard);
        check("devices/d1/messages/events/#", TopicError::Wildcard);
        check("devices/d1/messages/events/a\0", TopicError::Wildcard);
        check("$iothub/twin/GET/?$rid=+", TopicError::Wildcard);
        for request in [
            "$iothub/twin/GET/",
            "$iothub/twin/GET/?rid=1",
            "$iothub/twin/GET/$rid=1",
            "$iothub/twin/PATCH/properties/reported/?$rid=1&$version=x",
            "$iothub/methods/res/ok/?$rid=1",
            "$iothub/methods/res/200",
        ] {
            assert!(
                matches!(publish(request), Err(TopicError::Request(_))),
                "{request}"
            );
        }
    }

    #[test]
    fn an_id_with_wildcard_characters_is_still_an_id() {
        let odd = device("a+b#c");
        assert_eq!(
            parse_publish("devices/a+b#c/messages/events/x=1", &odd),
            Ok(Publish::Telemetry {
                device: "a+b#c",
                bag: "x=1"
            })
        );
        assert_eq!(
            parse_filter("devices/a+b#c/messages/devicebound/#", &odd),
            Ok(Filter::C2d)
        );
    }

    #[test]
    fn the_filters_of_the_clients_are_known_and_written_back() {
        for known in [
            Filter::C2d,
            Filter::Methods,
            Filter::TwinResponse,
            Filter::DesiredPatch,
        ] {
            assert_eq!(filter(&known.text(&device("d1"))), Ok(known));
        }
    }

    #[test]
    fn foreign_filters_are_refused_and_abused_wildcards_close() {
        for (text, error, refusable) in [
            (
                "devices/d2/messages/devicebound/#",
                TopicError::OtherDevice,
                true,
            ),
            (
                "devices/+/messages/devicebound/#",
                TopicError::OtherDevice,
                true,
            ),
            ("devices/d1/modules/m/#", TopicError::Module, true),
            ("devices/d1/messages/events/#", TopicError::Unknown, true),
            ("#", TopicError::Unknown, true),
            ("devices/#", TopicError::Unknown, true),
            ("$iothub/#", TopicError::Unknown, true),
            ("", TopicError::Malformed, false),
            ("a#", TopicError::Malformed, false),
            ("#/a", TopicError::Malformed, false),
            ("a/b+/c", TopicError::Malformed, false),
            (
                "devices/d1/messages/devicebound/#/",
                TopicError::Malformed,
                false,
            ),
            ("a\0", TopicError::Malformed, false),
        ] {
            assert_eq!(filter(text), Err(error), "{text}");
            assert_eq!(error.is_refusable(), refusable, "{text}");
        }
    }

    #[test]
    fn topics_to_devices_are_written_as_documented() {
        let d1 = device("d1");
        assert_eq!(c2d(&d1, "").unwrap(), "devices/d1/messages/devicebound/");
        assert_eq!(
            telemetry(&d1, "a=1").unwrap(),
            "devices/d1/messages/events/a=1"
        );
        assert_eq!(
            twin_response(200, "r", None),
            "$iothub/twin/res/200/?$rid=r"
        );
        assert_eq!(
            twin_response(204, "r", Some(5)),
            "$iothub/twin/res/204/?$rid=r&$version=5"
        );
        assert_eq!(
            desired_patch(9),
            "$iothub/twin/PATCH/properties/desired/?$version=9"
        );
        assert_eq!(
            method_call("re boot", "1").unwrap(),
            "$iothub/methods/POST/re%20boot/?$rid=1"
        );
        assert_eq!(c2d(&d1, &"x".repeat(65_536)), Err(TopicError::TooLong));
    }

    proptest! {
        #[test]
        fn the_grammar_never_panics(text in "\\PC{0,60}", close in "(devices|d1|messages|events|devicebound|\\$iothub|twin|GET|PATCH|properties|reported|methods|res|modules|[/?&=+#]|\\$rid|\\$version|é|[0-9])*") {
            for text in [text, close] {
                let _ = publish(&text);
                let _ = filter(&text);
            }
        }

        #[test]
        fn telemetry_topics_are_read_back(bag in "([a-z]=[a-z0-9%]{1,5}){0,1}") {
            let d1 = device("d1");
            let topic = telemetry(&d1, &bag).unwrap();
            prop_assert_eq!(parse_publish(&topic, &d1), Ok(Publish::Telemetry { device: "d1", bag: &bag }));
        }
    }
}
