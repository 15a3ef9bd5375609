//! A hub as clients see it: `IotHubDescription` (control-plane notes section 7).

use crate::backend::{HubFigures, PartitionLag};
use crate::call::Call;
use crate::durations;
use control::iso::iso8601;
use control::{Hub, HubState, etag_text};
use serde_json::{Map, Value, json};
use types::{PartnerAway, RegionName, Replication};

pub const TYPE: &str = "Microsoft.Devices/IotHubs";

/// Properties that the hub itself keeps; the others are stored and returned as given.
pub const OWN_PROPERTIES: [&str; 8] = [
    "locations",
    "state",
    "provisioningState",
    "hostName",
    "eventHubEndpoints",
    "cloudToDevice",
    "authorizationPolicies",
    "castling",
];

/// Which of its forms a hub is shown in.
pub enum Shape {
    /// The first answer of a creation: what was asked for, accepted.
    Accepted,
    /// In a list.
    Listed,
    /// On its own, with live figures if its primary gave them.
    One(Option<HubFigures>),
}

/// The hub's body.
pub fn body(call: &Call, hub: &Hub, shape: &Shape) -> Value {
    let accepted = matches!(shape, Shape::Accepted);
    let mut body = json!({
        "id": hub.path(),
        "name": hub.name,
        "type": TYPE,
        "location": hub.home,
        "tags": hub.tags,
        "subscriptionid": hub.subscription,
        "resourcegroup": hub.resource_group,
    });
    if !accepted {
        body["etag"] = etag_text(hub.etag).into();
    }
    body["properties"] = properties(call, hub, shape);
    body["sku"] = sku(hub);
    body["identity"] = json!({ "type": "None" });
    if !accepted {
        body["systemData"] = json!({ "createdAt": iso8601(hub.created) });
    }
    body
}

/// The SKU with its tier.
pub fn sku(hub: &Hub) -> Value {
    json!({
        "name": hub.sku.name,
        "tier": control::naming::sku(&hub.sku.name).map(|sku| sku.tier),
        "capacity": hub.sku.capacity,
    })
}

/// Where the hub's clients connect to.
pub fn host_name(call: &Call, hub: &Hub) -> String {
    format!("{}.{}", hub.name, call.state.deployment.domain)
}

fn properties(call: &Call, hub: &Hub, shape: &Shape) -> Value {
    let accepted = matches!(shape, Shape::Accepted);
    let reachable = hub.state != HubState::Activating;
    let mut all = Map::new();
    let mut put = |name: &str, value: Value| drop(all.insert(name.into(), value));
    if !accepted {
        put("locations", locations(call, hub));
        put("state", state(hub).1.into());
    }
    let provisioning = if accepted { "Accepted" } else { state(hub).0 };
    put("provisioningState", provisioning.into());
    put("ipFilterRules", json!([]));
    if reachable {
        put("hostName", host_name(call, hub).into());
    }
    put(
        "eventHubEndpoints",
        json!({ "events": events(call, hub, reachable) }),
    );
    put("routing", default_routing());
    put(
        "storageEndpoints",
        json!({ "$default": { "sasTtlAsIso8601": "PT1H", "connectionString": "", "containerName": "" } }),
    );
    put(
        "messagingEndpoints",
        json!({ "fileNotifications": {
        "lockDurationAsIso8601": "PT1M", "ttlAsIso8601": "PT1H", "maxDeliveryCount": 10,
    } }),
    );
    put("enableFileUploadNotifications", false.into());
    put("cloudToDevice", cloud_to_device(hub));
    put("features", "None".into());
    put("allowedFqdnList", json!([]));
    put("castling", castling(hub, shape));
    if let Value::Object(stored) = &hub.stored_properties {
        for (name, value) in stored {
            if !OWN_PROPERTIES.contains(&name.as_str()) {
                all.insert(name.clone(), value.clone());
            }
        }
    }
    Value::Object(all)
}

/// `provisioningState` and `state`.
fn state(hub: &Hub) -> (&'static str, &'static str) {
    match hub.state {
        HubState::Activating => ("Activating", "Activating"),
        HubState::Active => ("Succeeded", "Active"),
        HubState::FailingOver => ("FailingOver", "FailingOver"),
        HubState::Deleting => ("Deleting", "Deleting"),
    }
}

/// The primary first; `location` stays where the hub was created.
fn locations(call: &Call, hub: &Hub) -> Value {
    let mut all = vec![json!({ "location": display_name(call, &hub.primary), "role": "primary" })];
    if let Some(secondary) = hub.secondary() {
        all.push(json!({ "location": display_name(call, secondary), "role": "secondary" }));
    }
    Value::Array(all)
}

/// A region's name for people; its plain name if the catalogue does not have it.
pub fn display_name(call: &Call, region: &RegionName) -> String {
    let known = call.api.backend.catalogue().get(region);
    known.map_or_else(|| region.to_string(), |known| known.display_name.clone())
}

fn events(call: &Call, hub: &Hub, reachable: bool) -> Value {
    let partitions: Vec<String> = (0..hub.partition_count).map(|n| n.to_string()).collect();
    let mut events = json!({
        "retentionTimeInDays": hub.retention_days,
        "partitionCount": hub.partition_count,
    });
    if reachable {
        events["partitionIds"] = partitions.into();
        events["path"] = hub.name.key().into();
        events["endpoint"] = format!("sb://{}/", host_name(call, hub)).into();
    }
    events
}

fn cloud_to_device(hub: &Hub) -> Value {
    let c2d = &hub.cloud_to_device;
    json!({
        "maxDeliveryCount": c2d.max_delivery_count,
        "defaultTtlAsIso8601": durations::format(c2d.default_ttl_ms),
        "feedback": {
            "lockDurationAsIso8601": durations::format(c2d.feedback.lock_ms),
            "ttlAsIso8601": durations::format(c2d.feedback.ttl_ms),
            "maxDeliveryCount": c2d.feedback.max_delivery_count,
        },
    })
}

fn default_routing() -> Value {
    json!({
        "endpoints": {
            "serviceBusQueues": [],
            "serviceBusTopics": [],
            "eventHubs": [],
            "storageContainers": [],
            "cosmosDBSqlContainers": [],
        },
        "routes": [],
        "fallbackRoute": {
            "name": "$fallback",
            "source": "DeviceMessages",
            "condition": "true",
            "endpointNames": ["events"],
            "isEnabled": true,
        },
    })
}

/// What the public service has no field for. `storedOnly`: settings that are kept but that nothing here obeys.
fn castling(hub: &Hub, shape: &Shape) -> Value {
    let mut own = json!({
        "epoch": hub.epoch,
        "replication": match hub.replication { Replication::Async => "async", Replication::Sync => "sync" },
        "partnerAway": match hub.partner_away { PartnerAway::Wait => "wait", PartnerAway::Degrade => "degrade" },
        "lagMaxSeconds": seconds(hub.lag_max_ms.unwrap_or(0)),
        "storedOnly": stored_only(&hub.stored_properties),
    });
    if let Shape::One(figures) = shape {
        let figures = figures.as_ref();
        own["lagRecords"] = figures.map(HubFigures::lag_records).into();
        own["lagMs"] = figures.map(HubFigures::lag_ms).into();
        own["lag"] = figures.map_or(Value::Null, lag);
        own["partnerConnected"] = figures.map(|f| f.partner_connected).into();
        own["degraded"] = figures.map(|f| f.degraded).into();
        own["lease"] = figures.map_or(
            Value::Null,
            |f| json!({ "held": f.lease.held, "leftMs": f.lease.left_ms }),
        );
        own["oldPrimary"] = old_primary(hub);
    }
    own
}

/// Whole seconds as a whole number, others with their fraction.
fn seconds(millis: u32) -> Value {
    match millis % 1000 {
        0 => (millis / 1000).into(),
        _ => (f64::from(millis) / 1000.0).into(),
    }
}

/// The region that the last forced failover left, until another failover: whether it is back, and since when it is away, or back.
fn old_primary(hub: &Hub) -> Value {
    let parted = hub.away().or_else(|| {
        let last = hub.divergences.last();
        last.filter(|parted| parted.epoch == hub.epoch)
    });
    let Some(parted) = parted else {
        return Value::Null;
    };
    let back = parted.returned.as_ref();
    json!({
        "region": parted.from,
        "returned": back.is_some(),
        "since": iso8601(back.map_or(parted.at, |back| back.at)),
        "failover": parted.operation,
    })
}

fn lag(figures: &HubFigures) -> Value {
    let of = |lag: &PartitionLag| json!({ "partition": lag.partition, "records": lag.records, "ms": lag.ms });
    figures.partitions.iter().map(of).collect()
}

/// Stored settings that are obeyed, or ask for nothing.
const OBEYED: [&str; 13] = [
    "ipFilterRules",
    "networkRuleSets",
    "publicNetworkAccess",
    "disableLocalAuth",
    "disableDeviceSAS",
    "disableModuleSAS",
    "minTlsVersion",
    "restrictOutboundNetworkAccess",
    "allowedFqdnList",
    "enableDataResidency",
    "routing",
    "comments",
    "connectionProfile",
];

/// Names of stored settings that ask for something that nothing here obeys.
fn stored_only(stored: &Value) -> Vec<&String> {
    let asks = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::String(text) => !text.is_empty() && text != "None",
        Value::Bool(true) | Value::Number(_) => true,
    };
    stored
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| !OBEYED.contains(&name.as_str()) && asks(value))
        .map(|(name, _)| name)
        .collect()
}
