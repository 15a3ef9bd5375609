//! Reads what a client wants a hub to be. Every mistake is named, with the path of its field.

use crate::call::Call;
use crate::failure::{Failure, shown};
use crate::fields::{Mistakes, duration, field, object, tags, whole};
use crate::hub_body::OWN_PROPERTIES;
use crate::{ids, locations, policies};
use control::command::HubSpec;
use control::{Answer, Command, Hub, RefusalCode, Request, State};
use serde_json::{Map, Value};
use types::{CloudToDevice, HubName, PartnerAway, Policy, Replication, limits};

/// Reads the body of a hub's PUT as a whole.
///
/// # Errors
/// All mistakes at once: those of form that are found here and those of substance that the control plane would find. A wrong
/// location alone has a code of its own.
pub fn read(call: &Call, name: HubName, body: &Value) -> Result<HubSpec, Failure> {
    let existing = call.hub_if_there();
    let mut mistakes = Mistakes::default();
    let location = locations::of_hub(call, body, existing);
    let properties = object(body, "properties", "properties", &mut mistakes);
    let mut spec = HubSpec {
        subscription: call.param("subscription").into(),
        group: call.param("group").into(),
        name,
        location: match &location {
            Ok(region) => region.clone(),
            // Stands in while the other mistakes are looked for; a spec with a mistake is never sent.
            Err(_) => {
                existing.map_or_else(|| call.api.backend.region().clone(), |hub| hub.home.clone())
            }
        },
        partner: None,
        sku_name: String::new(),
        sku_capacity: 1,
        tags: tags(body, &mut mistakes),
        partition_count: None,
        retention_days: None,
        replication: None,
        partner_away: None,
        lag_max_ms: None,
        cloud_to_device: None,
        policies: None,
        default_policies: policies::defaults()?,
        stored_properties: Value::Null,
        if_match: call.header("if-match").map(str::to_owned),
    };
    spec.partner = locations::pair_of(call, &spec.location);
    sku(body, existing, &mut spec, &mut mistakes);
    identity(body, &mut mistakes);
    events(properties, &mut spec, &mut mistakes);
    cloud_to_device(properties, existing, &mut spec, &mut mistakes);
    spec.policies = authorization(properties, &mut mistakes)?;
    castling(properties, &mut spec, &mut mistakes);
    crate::routing::check(properties, &mut mistakes);
    spec.stored_properties = Value::Object(stored(properties));
    match location {
        Ok(_) if mistakes.0.is_empty() => Ok(spec),
        location => Err(refuse(call, spec, location.err(), mistakes.0)),
    }
}

/// The refusal of a request with mistakes, with those that the control plane would add.
fn refuse(call: &Call, spec: HubSpec, location: Option<Failure>, found: Vec<String>) -> Failure {
    let hub = spec.name.clone();
    let mut all = found;
    match would_be_refused(call, spec) {
        Some(refusal) if refusal.code == RefusalCode::InvalidProperties => {
            let prefix = format!("IotHub '{hub}': ");
            let text = refusal
                .message
                .strip_prefix(&prefix)
                .unwrap_or(&refusal.message);
            all.extend(text.split("; ").map(str::to_owned));
        }
        // The group is not there, the name is taken: the properties do not matter then.
        Some(refusal) => return refusal.into(),
        None => {}
    }
    if let Some(location) = location {
        if all.is_empty() {
            return location;
        }
        all.insert(0, format!("location: {}", location.message));
    }
    let message = format!("IotHub '{hub}': {}", all.join("; "));
    Failure::bad("InvalidProperties", message).details(&all)
}

/// Finds what the control plane would refuse about a hub that is to be written later.
///
/// # Errors
/// Its mistakes. Refusals that other resources of the same request may lift (a name, a group, a number of hubs) are not looked at.
pub fn check(call: &Call, spec: HubSpec) -> Result<(), Failure> {
    match would_be_refused(call, spec) {
        Some(refusal) if refusal.code == RefusalCode::InvalidProperties => Err(refusal.into()),
        _ => Ok(()),
    }
}

/// What the control plane would say, tried on a copy.
fn would_be_refused(call: &Call, spec: HubSpec) -> Option<control::Refusal> {
    let mut copy = State::clone(&call.state);
    let request = Request {
        now: call.now,
        by: call.by.clone(),
        id: String::new(),
        command: Command::PutHub {
            operation: "try".into(),
            spec: Box::new(spec),
        },
        origin: Default::default(),
    };
    match copy.apply(&request) {
        Answer::Refused(refusal) => Some(refusal),
        _ => None,
    }
}

fn sku(body: &Value, existing: Option<&Hub>, spec: &mut HubSpec, mistakes: &mut Mistakes) {
    let Some(fields) = object(body, "sku", "sku", mistakes) else {
        match existing {
            Some(hub) => {
                spec.sku_name.clone_from(&hub.sku.name);
                spec.sku_capacity = hub.sku.capacity;
            }
            None if body.get("sku").is_none_or(Value::is_null) => {
                mistakes.add("sku", "it is missing")
            }
            None => {}
        }
        if spec.sku_name.is_empty() {
            // Named above; a valid one lets the other mistakes be found.
            spec.sku_name = "S1".into();
        }
        return;
    };
    match field(fields, "name") {
        Some(Value::String(name)) => spec.sku_name.clone_from(name),
        _ => {
            mistakes.add("sku.name", "a text is expected");
            spec.sku_name = "S1".into();
        }
    }
    if let Some(capacity) = whole(fields, "capacity", "sku", mistakes) {
        spec.sku_capacity = capacity;
    }
}

/// Managed identities do not exist here; asking for none is fine.
fn identity(body: &Value, mistakes: &mut Mistakes) {
    let Some(fields) = object(body, "identity", "identity", mistakes) else {
        return;
    };
    if let Some(kind) = field(fields, "type")
        && !kind
            .as_str()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("None"))
    {
        mistakes.add(
            "identity.type",
            "managed identities are not available here, only 'None'",
        );
    }
}

fn events(properties: Option<&Map<String, Value>>, spec: &mut HubSpec, mistakes: &mut Mistakes) {
    const PATH: &str = "eventHubEndpoints";
    let Some(properties) = properties else { return };
    let endpoints = match field(properties, PATH) {
        None => return,
        Some(Value::Object(endpoints)) => endpoints,
        Some(_) => return mistakes.add(PATH, "an object is expected"),
    };
    for (name, value) in endpoints {
        match (name.as_str(), value) {
            ("events", Value::Object(events)) => {
                let path = "eventHubEndpoints.events";
                spec.partition_count = whole(events, "partitionCount", path, mistakes);
                spec.retention_days = whole(events, "retentionTimeInDays", path, mistakes);
            }
            (_, Value::Null) => {}
            ("events", _) => mistakes.add("eventHubEndpoints.events", "an object is expected"),
            // Older hubs had it; clients still send it back.
            ("operationsMonitoringEvents", _) => {}
            (other, _) => mistakes.add(
                PATH,
                format!(
                    "'{}' is unknown, the only endpoint is 'events'",
                    shown(other)
                ),
            ),
        }
    }
}

/// Fields that are not named keep what the hub has, or take the default.
fn cloud_to_device(
    properties: Option<&Map<String, Value>>,
    existing: Option<&Hub>,
    spec: &mut HubSpec,
    mistakes: &mut Mistakes,
) {
    const PATH: &str = "cloudToDevice";
    let Some(value) = properties.and_then(|properties| field(properties, PATH)) else {
        return;
    };
    let Value::Object(fields) = value else {
        return mistakes.add(PATH, "an object is expected");
    };
    let mut c2d = existing.map_or_else(CloudToDevice::default, |hub| hub.cloud_to_device.clone());
    if let Some(count) = whole(fields, "maxDeliveryCount", PATH, mistakes) {
        c2d.max_delivery_count = count;
    }
    if let Some(ttl) = duration(fields, "defaultTtlAsIso8601", PATH, mistakes) {
        c2d.default_ttl_ms = ttl;
    }
    if let Some(feedback) = object(value, "feedback", "cloudToDevice.feedback", mistakes) {
        let path = "cloudToDevice.feedback";
        if let Some(lock) = duration(feedback, "lockDurationAsIso8601", path, mistakes) {
            c2d.feedback.lock_ms = lock;
        }
        if let Some(ttl) = duration(feedback, "ttlAsIso8601", path, mistakes) {
            c2d.feedback.ttl_ms = ttl;
        }
        if let Some(count) = whole(feedback, "maxDeliveryCount", path, mistakes) {
            c2d.feedback.max_delivery_count = count;
        }
    }
    spec.cloud_to_device = Some(c2d);
}

/// Keys that are missing are made: that is how a key is renewed.
fn authorization(
    properties: Option<&Map<String, Value>>,
    mistakes: &mut Mistakes,
) -> Result<Option<Vec<Policy>>, Failure> {
    const PATH: &str = "authorizationPolicies";
    let Some(value) = properties.and_then(|properties| field(properties, PATH)) else {
        return Ok(None);
    };
    let Value::Array(items) = value else {
        mistakes.add(PATH, "an array is expected");
        return Ok(None);
    };
    let mut policies = Vec::new();
    for (at, item) in items.iter().enumerate() {
        if let Some(policy) = policy(item, &format!("{PATH}[{at}]"), mistakes)? {
            policies.push(policy);
        }
    }
    Ok(Some(policies))
}

fn policy(item: &Value, path: &str, mistakes: &mut Mistakes) -> Result<Option<Policy>, Failure> {
    let Value::Object(fields) = item else {
        mistakes.add(path, "an object is expected");
        return Ok(None);
    };
    let before = mistakes.0.len();
    let mut text = |name: &str| match field(fields, name) {
        None => None,
        Some(Value::String(text)) => Some(text.as_str()).filter(|text| !text.is_empty()),
        Some(_) => {
            mistakes.add(&format!("{path}.{name}"), "a text is expected");
            None
        }
    };
    let (name, rights) = (text("keyName"), text("rights"));
    let keys = [text("primaryKey"), text("secondaryKey")];
    if name.is_none() {
        mistakes.add(&format!("{path}.keyName"), "it is missing");
    }
    let rights = match rights.map(policies::read_rights) {
        Some(Ok(rights)) => Some(rights),
        Some(Err(word)) => {
            mistakes.add(
                &format!("{path}.rights"),
                format!("'{word}' is not a right"),
            );
            None
        }
        None => {
            mistakes.add(&format!("{path}.rights"), "it is missing");
            None
        }
    };
    let [primary, secondary] = keys;
    let key = |given: Option<&str>| given.map_or_else(ids::key, |key| Ok(key.to_owned()));
    match (name, rights) {
        (Some(name), Some(rights)) if mistakes.0.len() == before => Ok(Some(Policy {
            name: name.into(),
            primary_key: key(primary)?,
            secondary_key: key(secondary)?,
            rights,
        })),
        _ => Ok(None),
    }
}

/// What the public service has no field for; what is not named stays as it is.
fn castling(properties: Option<&Map<String, Value>>, spec: &mut HubSpec, mistakes: &mut Mistakes) {
    let Some(own) = properties.and_then(|properties| field(properties, "castling")) else {
        return;
    };
    let Value::Object(own) = own else {
        return mistakes.add("castling", "an object is expected");
    };
    let replications = [("async", Replication::Async), ("sync", Replication::Sync)];
    spec.replication = word(own, "replication", replications, mistakes);
    let away = [
        ("wait", PartnerAway::Wait),
        ("degrade", PartnerAway::Degrade),
    ];
    spec.partner_away = word(own, "partnerAway", away, mistakes);
    spec.lag_max_ms = lag_max_ms(own, mistakes);
}

/// One of two words, in any case.
fn word<T>(
    fields: &Map<String, Value>,
    name: &str,
    words: [(&str, T); 2],
    mistakes: &mut Mistakes,
) -> Option<T> {
    let value = field(fields, name)?;
    let text = value.as_str().unwrap_or_default();
    let [(first, _), (second, _)] = &words;
    let why = format!("it must be '{first}' or '{second}'");
    let found = words
        .into_iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text));
    if found.is_none() {
        mistakes.add(&format!("castling.{name}"), why);
    }
    found.map(|(_, meaning)| meaning)
}

/// Seconds, also fractions of them, as milliseconds; 0: no bound.
fn lag_max_ms(fields: &Map<String, Value>, mistakes: &mut Mistakes) -> Option<u32> {
    let value = field(fields, "lagMaxSeconds")?;
    let millis = value.as_f64().map(|seconds| (seconds * 1000.0).round());
    let bounds = f64::from(limits::LAG_MAX_MS_MIN)..=f64::from(limits::LAG_MAX_MS_MAX);
    match millis {
        // In range, so nothing is cut off.
        Some(millis) if millis == 0.0 || bounds.contains(&millis) => Some(millis as u32),
        _ => {
            mistakes.add(
                "castling.lagMaxSeconds",
                format!(
                    "{} is neither 0 (no bound) nor a number of seconds from {} to {}",
                    shown(&value.to_string()),
                    f64::from(limits::LAG_MAX_MS_MIN) / 1000.0,
                    f64::from(limits::LAG_MAX_MS_MAX) / 1000.0,
                ),
            );
            None
        }
    }
}

/// What the hub does not keep itself, as given; nulls are left out. The control plane reads it.
fn stored(properties: Option<&Map<String, Value>>) -> Map<String, Value> {
    properties
        .into_iter()
        .flatten()
        .filter(|(name, value)| !value.is_null() && !OWN_PROPERTIES.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
