//! A resource group's hubs as a template, without keys.

use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::failure::{Failure, shown};
use crate::hub_body::{Shape, body};
use control::Hub;
use serde_json::{Map, Value, json};

const SCHEMA: &str =
    "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#";
const VERSION: &str = "2023-06-30";

/// What the service fills in itself.
const READ_ONLY: [&str; 6] = [
    "locations",
    "state",
    "provisioningState",
    "hostName",
    "privateEndpointConnections",
    "authorizationPolicies",
];

/// `{"resources": ["*"]}` or ids of hubs.
pub fn export(call: &Call) -> Outcome {
    let group = call.group()?;
    let wanted = call.json()?;
    let mut hubs: Vec<&Hub> = call
        .state
        .hubs_of_group(&group.subscription, &group.name)
        .collect();
    match &wanted["resources"] {
        Value::Null => {}
        Value::Array(ids) => {
            let ids: Vec<&str> = ids
                .iter()
                .map(|id| id.as_str().unwrap_or_default())
                .collect();
            let known = |id: &str| hubs.iter().any(|hub| hub.path().eq_ignore_ascii_case(id));
            if let Some(id) = ids.iter().find(|id| **id != "*" && !known(id)) {
                return Err(Failure::not_found(
                    "ResourceNotFound",
                    format!("The resource '{}' was not found in this group.", shown(id)),
                ));
            }
            let all = ids.contains(&"*");
            hubs.retain(|hub| all || ids.iter().any(|id| hub.path().eq_ignore_ascii_case(id)));
        }
        _ => {
            return Err(Failure::bad(
                "InvalidRequestContent",
                "resources: an array is expected.",
            ));
        }
    }
    let mut resources = Vec::new();
    for hub in hubs {
        resources.push(resource(call, hub));
        let groups = hub
            .consumer_groups
            .iter()
            .filter(|group| group.name != "$Default");
        for group in groups {
            resources.push(json!({
                "type": "Microsoft.Devices/IotHubs/eventHubEndpoints/ConsumerGroups",
                "apiVersion": VERSION,
                "name": format!("{}/events/{}", hub.name, group.name),
                "dependsOn": [format!("[resourceId('Microsoft.Devices/IotHubs', '{}')]", hub.name)],
                "properties": { "name": group.name },
            }));
        }
    }
    answer::ok(&json!({
        "template": {
            "$schema": SCHEMA,
            "contentVersion": "1.0.0.0",
            "parameters": {},
            "variables": {},
            "resources": resources,
        },
    }))
}

fn resource(call: &Call, hub: &Hub) -> Value {
    let shown = body(call, hub, &Shape::Listed);
    let mut properties = Map::new();
    for (name, value) in shown["properties"].as_object().into_iter().flatten() {
        let value = match name.as_str() {
            name if READ_ONLY.contains(&name) => continue,
            "eventHubEndpoints" => json!({ "events": {
                "retentionTimeInDays": hub.retention_days,
                "partitionCount": hub.partition_count,
            } }),
            "castling" => json!({
                "replication": value["replication"],
                "partnerAway": value["partnerAway"],
                "lagMaxSeconds": value["lagMaxSeconds"],
            }),
            _ => without_secrets(value),
        };
        properties.insert(name.clone(), literal(&value));
    }
    json!({
        "type": crate::hub_body::TYPE,
        "apiVersion": VERSION,
        "name": hub.name,
        "location": hub.home,
        "tags": literal(&json!(hub.tags)),
        "sku": shown["sku"],
        "identity": shown["identity"],
        "properties": properties,
    })
}

/// Connection strings hold keys.
fn without_secrets(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match name.as_str() {
                "connectionString" | "primaryKey" | "secondaryKey" => (name.clone(), json!("")),
                _ => (name.clone(), without_secrets(value)),
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_secrets).collect(),
        other => other.clone(),
    }
}

/// Texts that would be read as expressions are escaped.
fn literal(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with('[') => format!("[{text}").into(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), literal(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(literal).collect(),
        other => other.clone(),
    }
}
