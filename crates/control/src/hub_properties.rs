//! Properties of a hub that are kept as their owner wrote them (control-plane notes section 7): read as a whole, and either
//! obeyed, or known to ask for nothing, or refused with their path.

use crate::naming::shown;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use types::{AddressBlock, AddressRule, HubAccess, NetworkRules, limits};

/// Property that keeps a hub's data in one region; fixed at creation.
pub const DATA_RESIDENCY: &str = "enableDataResidency";

/// What the properties come to, and every mistake in them with its path.
pub(crate) fn read(stored: &Value) -> (HubAccess, Vec<String>) {
    let mut reader = Reader::default();
    for (name, value) in stored.as_object().into_iter().flatten() {
        if !value.is_null() {
            reader.property(name, value);
        }
    }
    if let Some(names) = reader
        .outbound
        .take()
        .filter(|_| reader.outbound_restricted)
    {
        reader.access.outbound = Some(names);
    } else if reader.outbound_restricted {
        reader.access.outbound = Some(Vec::new());
    }
    (reader.access, reader.mistakes)
}

/// Whether the hub's data stays in one region.
pub(crate) fn stays_home(stored: &Value) -> bool {
    stored[DATA_RESIDENCY] == Value::Bool(true)
}

#[derive(Default)]
struct Reader {
    access: HubAccess,
    outbound_restricted: bool,
    outbound: Option<Vec<String>>,
    mistakes: Vec<String>,
}

impl Reader {
    fn add(&mut self, path: &str, why: impl std::fmt::Display) {
        self.mistakes.push(format!("{path}: {why}"));
    }

    fn property(&mut self, name: &str, value: &Value) {
        match name {
            "ipFilterRules" => self.filters(value),
            "networkRuleSets" => self.network(value),
            "publicNetworkAccess" => {
                self.access.public_network =
                    self.word(name, value, &["Enabled", "Disabled"]) != Some("Disabled");
            }
            "disableLocalAuth" => self.access.policy_tokens = !self.flag(name, value),
            "disableDeviceSAS" => self.access.device_tokens = !self.flag(name, value),
            "disableModuleSAS" => self.access.module_tokens = !self.flag(name, value),
            "minTlsVersion" => {
                self.word(name, value, &["1.2"]);
            }
            "restrictOutboundNetworkAccess" => self.outbound_restricted = self.flag(name, value),
            "allowedFqdnList" => self.outbound(value),
            DATA_RESIDENCY => drop(self.flag(name, value)),
            "comments" => drop(self.text(name, value)),
            "features" => {
                self.word(name, value, &["None", "DeviceManagement"]);
            }
            "storageEndpoints" => self.storage(value),
            "messagingEndpoints" => self.messaging(value),
            "enableFileUploadNotifications" => {
                if self.flag(name, value) {
                    self.add(name, "file upload is not available here, only false");
                }
            }
            "connectionProfile" => {
                self.word(name, value, &["Classic"]);
            }
            // Read and obeyed by the routing of messages.
            "routing" => drop(self.object(name, value)),
            "privateEndpointConnections" => {
                self.inert(name, value, "private endpoints are not available here");
            }
            "encryption" => {
                self.inert(
                    name,
                    value,
                    "keys of your own for storage are not available here",
                );
            }
            "deviceStreams" => self.inert(name, value, "device streams are not available here"),
            "operationsMonitoringProperties" => {
                self.inert(name, value, "operations monitoring is not available here");
            }
            "rootCertificate" => {
                self.inert(
                    name,
                    value,
                    "the certificate is the deployment's, not the hub's",
                );
            }
            "deviceRegistry" => self.inert(name, value, "a device registry is not available here"),
            "ipVersion" => self.inert(name, value, "it cannot be chosen, both versions are served"),
            other => self.inert(
                &shown(other),
                value,
                "it is not a property of an IoT hub that is known here",
            ),
        }
    }

    /// Takes what asks for nothing, however deep.
    fn inert(&mut self, path: &str, value: &Value, why: &str) {
        fn asks(value: &Value) -> bool {
            match value {
                Value::Null | Value::Bool(false) => false,
                Value::String(text) => !text.is_empty() && !text.eq_ignore_ascii_case("None"),
                Value::Array(items) => items.iter().any(asks),
                Value::Object(fields) => fields.values().any(asks),
                Value::Bool(true) | Value::Number(_) => true,
            }
        }
        if asks(value) {
            self.add(path, why);
        }
    }

    fn flag(&mut self, path: &str, value: &Value) -> bool {
        value.as_bool().unwrap_or_else(|| {
            self.add(path, "true or false is expected");
            false
        })
    }

    fn text<'a>(&mut self, path: &str, value: &'a Value) -> Option<&'a str> {
        let text = value.as_str();
        if text.is_none() {
            self.add(path, "a text is expected");
        }
        text
    }

    /// One of the words, in any case, as it is spelled in the list.
    fn word(&mut self, path: &str, value: &Value, words: &[&'static str]) -> Option<&'static str> {
        let text = self.text(path, value)?;
        let found = words.iter().find(|word| word.eq_ignore_ascii_case(text));
        if found.is_none() {
            let why = format!("'{}' is not one of: {}", shown(text), words.join(", "));
            self.add(path, why);
        }
        found.copied()
    }

    fn object<'a>(&mut self, path: &str, value: &'a Value) -> Option<&'a Map<String, Value>> {
        let fields = value.as_object();
        if fields.is_none() {
            self.add(path, "an object is expected");
        }
        fields
    }

    /// The items of a list, within its bound.
    fn list<'a>(&mut self, path: &str, value: &'a Value, most: usize) -> &'a [Value] {
        match value.as_array() {
            None => self.add(path, "an array is expected"),
            Some(items) if items.len() > most => {
                self.add(path, format!("{} entries exceed {most}", items.len()));
            }
            Some(items) => return items,
        }
        &[]
    }

    fn known(&mut self, path: &str, fields: &Map<String, Value>, names: &[&str]) {
        for (name, value) in fields {
            if !value.is_null() && !names.contains(&name.as_str()) {
                self.add(&format!("{path}.{}", shown(name)), "it is not known here");
            }
        }
    }

    fn filters(&mut self, value: &Value) {
        const PATH: &str = "ipFilterRules";
        let rules = self.rules(PATH, value, &["Accept", "Reject"]);
        let rule = |(action, block)| AddressRule {
            block,
            accept: action == "Accept",
        };
        self.access.filters = rules.into_iter().map(rule).collect();
    }

    fn network(&mut self, value: &Value) {
        const PATH: &str = "networkRuleSets";
        let Some(fields) = self.object(PATH, value) else {
            return;
        };
        self.known(
            PATH,
            fields,
            &["defaultAction", "applyToBuiltInEventHubEndpoint", "ipRules"],
        );
        let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
        let mut rules = NetworkRules {
            allow_by_default: false,
            events_too: false,
            allowed: Vec::new(),
        };
        if let Some(value) = given("defaultAction") {
            let path = format!("{PATH}.defaultAction");
            rules.allow_by_default = self.word(&path, value, &["Allow", "Deny"]) == Some("Allow");
        }
        match given("applyToBuiltInEventHubEndpoint") {
            Some(value) => {
                let path = format!("{PATH}.applyToBuiltInEventHubEndpoint");
                rules.events_too = self.flag(&path, value);
            }
            None => self.add(
                &format!("{PATH}.applyToBuiltInEventHubEndpoint"),
                "it is missing",
            ),
        }
        match given("ipRules") {
            Some(value) => {
                let path = format!("{PATH}.ipRules");
                let read = self.rules(&path, value, &["Allow"]);
                rules.allowed = read.into_iter().map(|(_, block)| block).collect();
            }
            None => self.add(&format!("{PATH}.ipRules"), "it is missing"),
        }
        self.access.network = Some(rules);
    }

    /// Rules with a name of their own, an action and a block of addresses each; without an action the first one counts.
    fn rules(
        &mut self,
        path: &str,
        value: &Value,
        actions: &[&'static str],
    ) -> Vec<(&'static str, AddressBlock)> {
        let mut rules = Vec::new();
        let mut names = BTreeSet::new();
        for (at, item) in (self.list(path, value, limits::HUB_ADDRESS_RULES_MAX).iter()).enumerate()
        {
            let path = format!("{path}[{at}]");
            let Some(fields) = self.object(&path, item) else {
                continue;
            };
            self.known(&path, fields, &["filterName", "action", "ipMask"]);
            let mut given = |name: &str| {
                let value = fields.get(name).filter(|value| !value.is_null());
                if value.is_none() && name != "action" {
                    self.add(&format!("{path}.{name}"), "it is missing");
                }
                value
            };
            let (name, mask) = (given("filterName"), given("ipMask"));
            let action = given("action");
            if let Some(value) = name
                && let Some(name) = self.text(&format!("{path}.filterName"), value)
            {
                self.rule_name(&format!("{path}.filterName"), name, &mut names);
            }
            let action = match action {
                Some(value) => self.word(&format!("{path}.action"), value, actions),
                // Azure's rule sets have one action only, which may be left out.
                None if actions.len() == 1 => actions.first().copied(),
                None => {
                    self.add(&format!("{path}.action"), "it is missing");
                    None
                }
            };
            let mask = mask.and_then(|value| self.text(&format!("{path}.ipMask"), value));
            match mask.map(|text| (text, AddressBlock::parse(text))) {
                Some((_, Ok(block))) => rules.extend(action.map(|action| (action, block))),
                Some((text, Err(why))) => {
                    self.add(
                        &format!("{path}.ipMask"),
                        format!("'{}': {why}", shown(text)),
                    );
                }
                None => {}
            }
        }
        rules
    }

    fn rule_name(&mut self, path: &str, name: &str, seen: &mut BTreeSet<String>) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b" -:.+%_#*?!(),=@;'".contains(&b);
        if !(1..=128).contains(&name.len()) || !name.bytes().all(plain) {
            self.add(
                path,
                "1 to 128 ASCII letters, digits and - : . + % _ # * ? ! ( ) , = @ ' are expected",
            );
        } else if !seen.insert(name.to_ascii_lowercase()) {
            self.add(path, format!("'{}' stands twice", shown(name)));
        }
    }

    fn outbound(&mut self, value: &Value) {
        const PATH: &str = "allowedFqdnList";
        let mut names = Vec::new();
        for (at, item) in (self.list(PATH, value, limits::HUB_FQDNS_MAX).iter()).enumerate() {
            let path = format!("{PATH}[{at}]");
            let Some(name) = self.text(&path, item) else {
                continue;
            };
            let label = |label: &str| {
                (1..=63).contains(&label.len())
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            };
            let bare = name.strip_suffix('.').unwrap_or(name);
            if bare.len() <= 253 && bare.split('.').all(label) {
                names.push(bare.to_ascii_lowercase());
            } else {
                self.add(
                    &path,
                    format!("'{}' is not the name of a host", shown(name)),
                );
            }
        }
        self.outbound = Some(names);
    }

    /// Where uploaded files would go: there is no file upload, so an empty place is all that can be named.
    fn storage(&mut self, value: &Value) {
        const PATH: &str = "storageEndpoints";
        for (name, endpoint) in self.object(PATH, value).into_iter().flatten() {
            let path = format!("{PATH}.{}", shown(name));
            if endpoint.is_null() {
                continue;
            }
            if name != "$default" {
                self.add(&path, "the only one is '$default'");
                continue;
            }
            for (field, value) in self.object(&path, endpoint).into_iter().flatten() {
                let path = format!("{path}.{}", shown(field));
                match field.as_str() {
                    // The life of a link that is never made, and how it would be signed.
                    "sasTtlAsIso8601" if value.is_string() => {}
                    "authenticationType"
                        if (value.as_str()).is_some_and(|t| t.eq_ignore_ascii_case("keyBased")) => {
                    }
                    _ => self.inert(&path, value, "file upload is not available here"),
                }
            }
        }
    }

    /// Notifications of uploads that are never made: kept within their bounds.
    fn messaging(&mut self, value: &Value) {
        const PATH: &str = "messagingEndpoints";
        for (name, endpoint) in self.object(PATH, value).into_iter().flatten() {
            let path = format!("{PATH}.{}", shown(name));
            if endpoint.is_null() {
                continue;
            }
            if name != "fileNotifications" {
                self.add(&path, "the only one is 'fileNotifications'");
                continue;
            }
            for (field, value) in self.object(&path, endpoint).into_iter().flatten() {
                let path = format!("{path}.{}", shown(field));
                match field.as_str() {
                    _ if value.is_null() => {}
                    "lockDurationAsIso8601" | "ttlAsIso8601" => drop(self.text(&path, value)),
                    "maxDeliveryCount" => {
                        let most = u64::from(limits::C2D_DELIVERY_COUNT_MAX);
                        if !value.as_u64().is_some_and(|n| (1..=most).contains(&n)) {
                            self.add(
                                &path,
                                format!("{} is not from 1 to {most}", shown(&value.to_string())),
                            );
                        }
                    }
                    _ => self.add(&path, "it is not known here"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::IpAddr;
    use types::Entrance;

    fn check_bad(stored: Value, text: &str) {
        let (_, mistakes) = read(&stored);
        assert!(
            mistakes.iter().any(|mistake| mistake.contains(text)),
            "{stored}: {mistakes:?}"
        );
    }

    fn good(stored: Value) -> HubAccess {
        let (access, mistakes) = read(&stored);
        assert!(mistakes.is_empty(), "{stored}: {mistakes:?}");
        access
    }

    #[test]
    fn what_is_not_said_leaves_a_hub_open() {
        assert_eq!(good(json!({})), HubAccess::default());
        assert_eq!(good(Value::Null), HubAccess::default());
        let all_null =
            json!({ "ipFilterRules": null, "publicNetworkAccess": null, "disableLocalAuth": null });
        assert_eq!(good(all_null), HubAccess::default());
    }

    #[test]
    fn what_clients_send_by_default_is_taken() {
        let access = good(json!({
            "storageEndpoints": { "$default": { "sasTtlAsIso8601": "PT1H", "connectionString": "", "containerName": "" } },
            "messagingEndpoints": { "fileNotifications": {
                "lockDurationAsIso8601": "PT5S", "ttlAsIso8601": "PT1H", "maxDeliveryCount": 10,
            } },
            "enableFileUploadNotifications": false,
            "ipFilterRules": [], "features": "None", "allowedFqdnList": [], "minTlsVersion": "1.2",
            "enableDataResidency": false, "disableLocalAuth": false, "comments": "hello",
            "publicNetworkAccess": "Enabled", "privateEndpointConnections": [], "encryption": {},
            "deviceStreams": { "streamingEndpoints": [] }, "routing": { "routes": [] }, "rootCertificate": null,
            "somethingNew": false,
        }));
        assert_eq!(access, HubAccess::default());
    }

    #[test]
    fn rules_are_read_in_their_order() {
        let access = good(json!({
            "ipFilterRules": [
                { "filterName": "one", "action": "accept", "ipMask": "192.0.2.7" },
                { "filterName": "two", "action": "Reject", "ipMask": "0.0.0.0/0" },
            ],
            "networkRuleSets": { "defaultAction": "Deny", "applyToBuiltInEventHubEndpoint": true,
                "ipRules": [{ "filterName": "one", "ipMask": "192.0.2.0/24" }] },
            "disableLocalAuth": true, "disableDeviceSAS": true, "disableModuleSAS": true,
        }));
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        assert!(access.admits(ip("192.0.2.7"), Entrance::Events));
        assert!(!access.admits(ip("192.0.2.8"), Entrance::Events));
        assert!(!access.policy_tokens && !access.device_tokens && !access.module_tokens);
        assert!(!good(json!({ "publicNetworkAccess": "disabled" })).public_network);
    }

    #[test]
    fn outbound_names_count_only_where_they_are_asked_for() {
        assert_eq!(good(json!({ "allowedFqdnList": ["a.b"] })).outbound, None);
        let both = json!({ "allowedFqdnList": ["A.b."], "restrictOutboundNetworkAccess": true });
        assert_eq!(good(both).outbound, Some(vec!["a.b".to_owned()]));
        let none = json!({ "restrictOutboundNetworkAccess": true });
        assert_eq!(good(none).outbound, Some(Vec::new()));
    }

    #[test]
    fn what_would_not_be_obeyed_is_refused_with_its_path() {
        for (stored, text) in [
            (
                json!({ "minTlsVersion": "1.0" }),
                "minTlsVersion: '1.0' is not one of: 1.2",
            ),
            (
                json!({ "publicNetworkAccess": "Maybe" }),
                "publicNetworkAccess: 'Maybe'",
            ),
            (
                json!({ "disableLocalAuth": "yes" }),
                "disableLocalAuth: true or false",
            ),
            (json!({ "features": "X" }), "features: 'X'"),
            (json!({ "features": 5 }), "features: a text"),
            (json!({ "comments": 5 }), "comments: a text"),
            (
                json!({ "enableFileUploadNotifications": true }),
                "enableFileUploadNotifications: file upload",
            ),
            (
                json!({ "storageEndpoints": { "$default": { "connectionString": "secret" } } }),
                "storageEndpoints.$default.connectionString: file upload",
            ),
            (
                json!({ "storageEndpoints": { "$default": { "authenticationType": "identityBased" } } }),
                "storageEndpoints.$default.authenticationType",
            ),
            (
                json!({ "storageEndpoints": { "other": {} } }),
                "storageEndpoints.other",
            ),
            (
                json!({ "messagingEndpoints": { "fileNotifications": { "maxDeliveryCount": 0 } } }),
                "messagingEndpoints.fileNotifications.maxDeliveryCount: 0",
            ),
            (
                json!({ "encryption": { "keySource": "Microsoft.KeyVault" } }),
                "encryption: keys",
            ),
            (
                json!({ "deviceStreams": { "streamingEndpoints": ["x"] } }),
                "deviceStreams:",
            ),
            (
                json!({ "deviceRegistry": { "id": "x" } }),
                "deviceRegistry:",
            ),
            (
                json!({ "privateEndpointConnections": [{ "a": "b" }] }),
                "privateEndpointConnections:",
            ),
            (json!({ "ipVersion": "ipv6" }), "ipVersion:"),
            (
                json!({ "connectionProfile": "MqttV5" }),
                "connectionProfile:",
            ),
            (
                json!({ "somethingNew": { "a": 1 } }),
                "somethingNew: it is not a property",
            ),
            (json!({ "routing": [] }), "routing: an object"),
            (
                json!({ "allowedFqdnList": ["http://x"] }),
                "allowedFqdnList[0]: 'http://x'",
            ),
            (json!({ "ipFilterRules": {} }), "ipFilterRules: an array"),
            (
                json!({ "ipFilterRules": [1] }),
                "ipFilterRules[0]: an object",
            ),
            (
                json!({ "ipFilterRules": [{}] }),
                "ipFilterRules[0].ipMask: it is missing",
            ),
            (
                json!({ "ipFilterRules": [{ "filterName": "a", "action": "Drop", "ipMask": "::/0" }] }),
                "ipFilterRules[0].action: 'Drop'",
            ),
            (
                json!({ "ipFilterRules": [{ "filterName": "a", "action": "Accept", "ipMask": "::/200" }] }),
                "ipFilterRules[0].ipMask: '::/200'",
            ),
            (
                json!({ "ipFilterRules": [
                    { "filterName": "a", "action": "Accept", "ipMask": "::/0" },
                    { "filterName": "A", "action": "Accept", "ipMask": "::/0" },
                ] }),
                "ipFilterRules[1].filterName: 'A' stands twice",
            ),
        ] {
            check_bad(stored, text);
        }
    }

    #[test]
    fn network_rules_that_would_not_be_obeyed_are_refused_and_no_secret_is_repeated() {
        for (stored, text) in [
            (
                json!({ "networkRuleSets": {} }),
                "networkRuleSets.ipRules: it is missing",
            ),
            (
                json!({ "networkRuleSets": { "applyToBuiltInEventHubEndpoint": true, "ipRules": [
                    { "filterName": "a", "action": "Deny", "ipMask": "::/0" },
                ] } }),
                "networkRuleSets.ipRules[0].action: 'Deny'",
            ),
        ] {
            check_bad(stored, text);
        }
        let (_, mistakes) = read(
            &json!({ "storageEndpoints": { "$default": { "connectionString": "topsecret" } } }),
        );
        assert!(!mistakes.concat().contains("topsecret"));
    }

    #[test]
    fn rules_are_bounded() {
        let rule = |n: usize| json!({ "filterName": format!("r{n}"), "action": "Accept", "ipMask": "::/0" });
        let many = |n: usize| json!({ "ipFilterRules": (0..n).map(rule).collect::<Vec<_>>() });
        good(many(limits::HUB_ADDRESS_RULES_MAX));
        check_bad(
            many(limits::HUB_ADDRESS_RULES_MAX + 1),
            "ipFilterRules: 101 entries exceed 100",
        );
    }
}
