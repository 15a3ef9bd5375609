//! What a SAS token speaks for: its resource, compared segment by segment (data-plane notes section 2.1).

use crate::host;
use types::DeviceId;

/// The decoded resource of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `None`: an IP literal or `localhost`, which name no hub.
    label: Option<String>,
    segments: Vec<String>,
}

/// The widest thing a scope covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Covers<'a> {
    /// Everything of the hub.
    Hub,
    /// Every device: `devices`.
    Devices,
    /// One device: `devices/{id}`.
    Device(&'a str),
    /// One module: `devices/{id}/modules/{module}`.
    Module(&'a str, &'a str),
    /// Reading events: `messages/events`.
    Events,
    /// Something else or narrower, as path segments.
    Path(&'a [String]),
}

impl Scope {
    /// Reads a decoded resource: `[scheme://]host[:port][/path]`. Any text is a scope; an odd one covers nothing.
    pub fn parse(resource: &str) -> Scope {
        let rest = resource
            .split_once("://")
            .map_or(resource, |(_, rest)| rest);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let segments = path.trim_end_matches('/').split('/').map(str::to_owned);
        Scope {
            label: host::label(authority).map(str::to_ascii_lowercase),
            segments: if path.trim_end_matches('/').is_empty() {
                Vec::new()
            } else {
                segments.collect()
            },
        }
    }

    /// The first label of the host in lower case, which names the hub; `None` for IP literals and `localhost`.
    pub fn host_label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    pub fn covers(&self) -> Covers<'_> {
        let words: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        let is = |text: &str, word: &str| text.eq_ignore_ascii_case(word);
        match words[..] {
            [] => Covers::Hub,
            [devices] if is(devices, "devices") => Covers::Devices,
            [devices, id] if is(devices, "devices") => Covers::Device(id),
            [devices, id, modules, module] if is(devices, "devices") && is(modules, "modules") => {
                Covers::Module(id, module)
            }
            [messages, events] if is(messages, "messages") && is(events, "events") => {
                Covers::Events
            }
            _ => Covers::Path(&self.segments),
        }
    }

    /// True when the token may act for `device` of the hub: its resource is a segment-wise prefix of `{host}/devices/{id}`.
    pub fn covers_device(&self, hub_name: &str, device: &DeviceId) -> bool {
        self.is_of(hub_name) && self.is_prefix_of(&["devices", device.as_str()])
    }

    /// True when the token speaks for the whole hub.
    pub fn covers_hub(&self, hub_name: &str) -> bool {
        self.is_of(hub_name) && self.segments.is_empty()
    }

    /// True when the token may read the hub's events.
    pub fn covers_events(&self, hub_name: &str) -> bool {
        self.is_of(hub_name) && self.is_prefix_of(&["messages", "events"])
    }

    /// A host that names no hub fits any: who got as far as verifying the signature found the hub, and its keys, another way.
    fn is_of(&self, hub_name: &str) -> bool {
        self.label
            .as_deref()
            .is_none_or(|label| label.eq_ignore_ascii_case(hub_name))
    }

    /// Fixed words compare without case, ids (odd positions below `devices`) with it.
    fn is_prefix_of(&self, path: &[&str]) -> bool {
        let ids = path.first() == Some(&"devices");
        self.segments.len() <= path.len()
            && self
                .segments
                .iter()
                .zip(path)
                .enumerate()
                .all(|(index, (own, other))| {
                    if ids && index % 2 == 1 {
                        own == other
                    } else {
                        own.eq_ignore_ascii_case(other)
                    }
                })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers_d1(resource: &str) -> bool {
        Scope::parse(resource).covers_device("MyHub", &DeviceId::parse("d1").unwrap())
    }

    #[test]
    fn a_resource_covers_what_it_is_a_segment_wise_prefix_of() {
        for yes in [
            "myhub.net",
            "MYHUB.net/",
            "myhub",
            "myhub.net:8883/devices",
            "myhub.net/Devices/d1",
            "https://myhub.net/devices/d1/",
        ] {
            assert!(covers_d1(yes), "{yes}");
        }
        for no in [
            "other.net",
            "myhub2.net/devices/d1",
            "myhub.net/devices/d",
            "myhub.net/devices/d11",
            "myhub.net/devices/D1",
            "myhub.net/device",
            "myhub.net/devices/d1/modules/m",
            "myhub.net/devices/d1/messages/events",
            "myhub.net/messages/events",
            "myhub.net//devices/d1",
            "custom.myhub.net",
        ] {
            assert!(!covers_d1(no), "{no}");
        }
    }

    #[test]
    fn only_the_bare_host_covers_the_hub() {
        let hub = |resource| Scope::parse(resource).covers_hub("myhub");
        assert!(hub("myhub.net") && hub("sb://MyHub.net:5671/") && hub("127.0.0.1:10443"));
        assert!(!hub("myhub.net/devices") && !hub("yours.net"));
    }

    #[test]
    fn events_are_covered_by_the_hub_and_by_themselves() {
        let events = |resource| Scope::parse(resource).covers_events("myhub");
        assert!(
            events("myhub.net")
                && events("myhub.net/messages")
                && events("myhub.net/Messages/Events")
        );
        assert!(
            !events("myhub.net/devices")
                && !events("myhub.net/messages/events/more")
                && !events("yours.net")
        );
    }

    #[test]
    fn addresses_name_no_hub_and_leave_it_to_the_keys() {
        for resource in [
            "127.0.0.1/devices/d1",
            "localhost:8883/devices/d1",
            "[::1]:8883/devices/d1",
        ] {
            assert_eq!(Scope::parse(resource).host_label(), None, "{resource}");
            assert!(covers_d1(resource), "{resource}");
        }
        assert_eq!(Scope::parse("MyHub.net/x").host_label(), Some("myhub"));
    }

    #[test]
    fn the_widest_thing_covered_is_named() {
        let check = |resource: &str, expected| {
            assert_eq!(Scope::parse(resource).covers(), expected, "{resource}")
        };
        check("h.net", Covers::Hub);
        check("h.net/devices", Covers::Devices);
        check("h.net/devices/a:b", Covers::Device("a:b"));
        check("h.net/devices/d/modules/m", Covers::Module("d", "m"));
        check("h.net/messages/events", Covers::Events);
        check(
            "sb://ns/hub/consumergroups/g",
            Covers::Path(&["hub".into(), "consumergroups".into(), "g".into()]),
        );
    }
}
