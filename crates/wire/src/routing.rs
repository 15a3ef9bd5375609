//! Which telemetry a hub keeps, and what it adds to it (data-plane notes section 11).

use crate::condition::{Condition, ConditionError, Message};
use crate::property_bag::{Builder, Properties};
use serde_json::Value;
use types::Routing;

/// Names of system properties in conditions, by their short names in bags.
const SYSTEM: [(&str, &str); 8] = [
    ("contentType", "ct"),
    ("contentEncoding", "ce"),
    ("messageId", "mid"),
    ("correlationId", "cid"),
    ("userId", "uid"),
    ("dt-subject", "sub"),
    ("iothub-creation-time-utc", "ctime"),
    ("dt-dataschema", "ifid"),
];

/// The short name in bags of a system property as conditions name it.
pub fn short_name(name: &str) -> Option<&'static str> {
    let known = SYSTEM
        .iter()
        .find(|(long, short)| long.eq_ignore_ascii_case(name) || short.eq_ignore_ascii_case(name));
    known.map(|(_, short)| *short)
}

/// A hub's routing, compiled.
pub struct Routes<'a> {
    conditions: Vec<Condition>,
    routing: &'a Routing,
    hub: &'a str,
}

impl<'a> Routes<'a> {
    /// Compiles the conditions of `hub`.
    ///
    /// # Errors
    /// The first that is not understood.
    pub fn new(routing: &'a Routing, hub: &'a str) -> Result<Self, ConditionError> {
        // With a fallback everything is kept, whatever the conditions say.
        let wanted = routing.conditions.iter().filter(|_| !routing.fallback);
        let conditions = wanted
            .map(|text| Condition::parse(text))
            .collect::<Result<_, _>>()?;
        Ok(Routes {
            conditions,
            routing,
            hub,
        })
    }

    /// The properties that a message of `device` is stored with; `None`: no route takes it.
    pub fn route(&self, device: &str, bag: &str, body: &[u8]) -> Option<String> {
        if !self.routing.fallback {
            let sample = Sample::of(
                device,
                bag,
                body,
                self.conditions.iter().any(Condition::reads_body),
            );
            if !self
                .conditions
                .iter()
                .any(|condition| condition.holds(&sample) == Some(true))
            {
                return None;
            }
        }
        let mut builder = Builder::after(bag);
        for (key, value) in &self.routing.enrichments {
            let value = match value.eq_ignore_ascii_case("$iothubname") {
                true => self.hub,
                false => value,
            };
            builder = builder.application(key, Some(value));
        }
        Some(builder.finish())
    }
}

/// A message as conditions see it.
pub struct Sample {
    properties: Properties,
    device: String,
    body: Option<Value>,
}

impl Sample {
    /// Of a message as it is sent; a bag that is not valid has no properties.
    pub fn of(device: &str, bag: &str, body: &[u8], reads_body: bool) -> Sample {
        let properties = Properties::parse(bag).unwrap_or_default();
        let json = properties.system("ct").is_some_and(is_json);
        let utf8 = properties
            .system("ce")
            .is_some_and(|name| name.eq_ignore_ascii_case("utf-8"));
        Sample {
            body: match reads_body && json && utf8 {
                true => serde_json::from_slice(body).ok(),
                false => None,
            },
            properties,
            device: device.into(),
        }
    }
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default();
    media.trim().eq_ignore_ascii_case("application/json")
}

impl Message for Sample {
    fn application(&self, name: &str) -> Option<&str> {
        let all = &self.properties.application;
        let found = all.get(name).or_else(|| {
            let found = all
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value)
        });
        found?.as_deref()
    }

    fn system(&self, name: &str) -> Option<&str> {
        if name.eq_ignore_ascii_case("connectionDeviceId") {
            return Some(&self.device);
        }
        if name.eq_ignore_ascii_case("messageSource") {
            return Some("Telemetry");
        }
        self.properties.system(short_name(name)?)
    }

    fn body(&self) -> Option<&Value> {
        self.body.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(
        conditions: &[&str],
        fallback: bool,
        enrichments: &[(&str, &str)],
        bag: &str,
        body: &str,
    ) -> Option<String> {
        let routing = Routing {
            conditions: conditions.iter().map(|text| (*text).to_owned()).collect(),
            fallback,
            enrichments: enrichments
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        };
        Routes::new(&routing, "hub-1")
            .unwrap()
            .route("d1", bag, body.as_bytes())
    }

    #[test]
    fn without_a_fallback_only_what_a_route_takes_is_kept() {
        let wanted = ["kind = 'a'", "$body.t > 3"];
        assert_eq!(
            route(&wanted, false, &[], "Kind=a", ""),
            Some("Kind=a".into())
        );
        assert_eq!(route(&wanted, false, &[], "kind=b", "{\"t\":4}"), None);
        let json = "%24.ct=application%2Fjson&%24.ce=utf-8";
        assert!(route(&wanted, false, &[], json, "{\"t\":4}").is_some());
        assert_eq!(route(&wanted, false, &[], json, "{\"t\":3}"), None);
        assert!(route(&wanted, true, &[], "kind=b", "").is_some());
        assert!(route(&["$connectionDeviceId = 'd1'"], false, &[], "", "").is_some());
    }

    #[test]
    fn enrichments_are_added_to_what_is_kept() {
        let more = [("where", "a b"), ("hub", "$iothubname")];
        assert_eq!(
            route(&[], true, &more, "x=1", ""),
            Some("x=1&where=a%20b&hub=hub-1".into())
        );
    }
}
