//! `castling hub export` and `import`: a hub's definition as an ARM template, and its devices, to make it anew elsewhere.

use super::Context;
use super::failure::Failure;
use super::hub::ensure_group;
use super::json::{at, items, number, text, without_secrets};
use super::management::{HubResource, Management, region_key};
use super::out::progress;
use super::service::{Service, refusal};
use crate::world::deployment::write_private;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use types::limits;
use ureq::http::Method;
use wire::percent;

const SCHEMA: &str =
    "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#";
const API_VERSION: &str = "2023-06-30";
const HUB: &str = "Microsoft.Devices/IotHubs";
const CONSUMER_GROUP: &str = "Microsoft.Devices/IotHubs/eventHubEndpoints/ConsumerGroups";
/// What a list of devices may hold; the service gives no second page.
const DEVICES_MAX: usize = 1_000;
/// What the service says of a hub and nobody sets.
const ONLY_SHOWN: [&str; 8] = [
    "provisioningState",
    "state",
    "hostName",
    "locations",
    "privateEndpointConnections",
    "castling",
    "features",
    "eventHubEndpoints",
];
/// Settings of our own among what is shown.
const OWN: [&str; 3] = ["replication", "partnerAway", "lagMaxMs"];

#[derive(clap::Args)]
pub struct Export {
    name: String,
    /// Its devices as well
    #[arg(long)]
    devices: bool,
    /// Keys of policies and devices as well: keep the file to yourself
    #[arg(long)]
    keys: bool,
    /// Where to; mode 0600 [default: standard output]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct Import {
    file: PathBuf,
    /// Another name than in the file
    #[arg(long)]
    name: Option<String>,
    /// Resource group, made if it is missing
    #[arg(long, default_value = "castling")]
    group: String,
}

pub fn export(wanted: &Export, context: &Context) -> Result<(), Failure> {
    let management = Management::new(&context.network);
    let hub = management.hub(&wanted.name)?;
    let document = management.get(&hub.path)?;
    let mut properties = settings(&document);
    if wanted.keys {
        let path = format!("{}/listkeys", hub.path);
        let keys = management.call(Method::POST, &path, None)?.json()?;
        properties["authorizationPolicies"] = keys["value"].clone();
    }
    let groups = format!("{}/eventHubEndpoints/events/ConsumerGroups", hub.path);
    let groups: Vec<String> = management
        .list(&groups)?
        .iter()
        .map(|group| text(group, "name"))
        .filter(|name| name != "$Default")
        .collect();
    let mut template = template(&document, properties, &groups);
    if wanted.devices {
        let service = Service::open(&context.network, &hub.name)?;
        let found = devices(&service)?;
        let found = if wanted.keys {
            found
        } else {
            without_secrets(found)
        };
        template["metadata"] = json!({ "castling": { "devices": found } });
    }
    let body = format!("{template:#}\n");
    match &wanted.file {
        None => context.out.line(body.trim_end()),
        Some(file) => {
            write_private(file, body.as_bytes())?;
            context.out.show(&json!({ "file": file }), |out| {
                out.line(format!("{} is in {}.", hub.name, file.display()))
            })
        }
    }
}

/// What of a hub's document can be set.
fn settings(document: &Value) -> Value {
    let all = at(document, "properties")
        .and_then(Value::as_object)
        .cloned();
    let mut kept: Map<String, Value> = all
        .unwrap_or_default()
        .into_iter()
        .filter(|(name, _)| !ONLY_SHOWN.contains(&name.as_str()))
        .collect();
    let events = |field: &str| {
        at(document, "properties.eventHubEndpoints.events")
            .and_then(|events| events.get(field))
            .cloned()
            .unwrap_or(Value::Null)
    };
    kept.insert(
        "eventHubEndpoints".into(),
        json!({ "events": {
            "retentionTimeInDays": events("retentionTimeInDays"), "partitionCount": events("partitionCount"),
        }}),
    );
    let own: Map<String, Value> = OWN
        .iter()
        .filter_map(|name| {
            let value = at(document, "properties.castling")?.get(*name)?;
            (!value.is_null()).then(|| ((*name).to_owned(), value.clone()))
        })
        .collect();
    if !own.is_empty() {
        kept.insert("castling".into(), Value::Object(own));
    }
    Value::Object(kept)
}

fn template(document: &Value, properties: Value, groups: &[String]) -> Value {
    let name = text(document, "name");
    let hub = json!({
        "type": HUB, "apiVersion": API_VERSION, "name": name,
        "location": home(document),
        "tags": at(document, "tags").cloned().unwrap_or_else(|| json!({})),
        "sku": { "name": text(document, "sku.name"), "capacity": number(document, "sku.capacity") },
        "properties": properties,
    });
    let groups = groups.iter().map(|group| {
        json!({
            "type": CONSUMER_GROUP, "apiVersion": API_VERSION, "name": format!("{name}/events/{group}"),
            "dependsOn": [format!("[resourceId('{HUB}', '{name}')]")],
            "properties": { "name": group },
        })
    });
    json!({
        "$schema": SCHEMA, "contentVersion": "1.0.0.0",
        "resources": std::iter::once(hub).chain(groups).collect::<Vec<_>>(),
    })
}

fn home(document: &Value) -> String {
    region_key(&text(document, "location"))
}

fn devices(service: &Service<'_>) -> Result<Value, Failure> {
    let path = format!("/devices?top={DEVICES_MAX}");
    let found = service.call(Method::GET, &path, &[], None)?.json()?;
    let count = service.call(Method::GET, "/statistics/devices", &[], None)?;
    let count = number(&count.json()?, "totalDeviceCount").unwrap_or_default();
    let listed = items(&found, "").len();
    if usize::try_from(count).unwrap_or(usize::MAX) > listed {
        return Err(Failure::Failed(format!(
            "the hub has {count} devices, of which the registry lists {listed}: only hubs of up to {DEVICES_MAX} devices can be exported with them"
        )));
    }
    const KEPT: [&str; 4] = ["deviceId", "status", "statusReason", "authentication"];
    let kept = items(&found, "").iter().map(|device| {
        let fields = KEPT
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), device.get(*name)?.clone())));
        Value::Object(fields.collect())
    });
    Ok(Value::Array(kept.collect()))
}

pub fn import(wanted: &Import, context: &Context) -> Result<(), Failure> {
    let file = wanted.file.display();
    let bytes =
        std::fs::read(&wanted.file).map_err(|error| Failure::Failed(format!("{file}: {error}")))?;
    let template: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::Usage(format!("{file}: {error}")))?;
    let of = |kind: &str| -> Vec<&Value> {
        let all = items(&template, "resources").iter();
        all.filter(|one| text(one, "type").eq_ignore_ascii_case(kind))
            .collect()
    };
    let hubs = of(HUB);
    let [hub] = hubs.as_slice() else {
        return Err(Failure::Usage(format!(
            "{file} has {} hubs, not one",
            hubs.len()
        )));
    };
    let name = wanted.name.clone().unwrap_or_else(|| text(hub, "name"));
    let management = Management::new(&context.network);
    if management
        .hubs()?
        .iter()
        .any(|there| there.name.eq_ignore_ascii_case(&name))
    {
        return Err(Failure::Failed(format!(
            "there is a hub named `{name}` already"
        )));
    }
    ensure_group(&wanted.group, &text(hub, "location"), &management)?;
    let path = format!(
        "{}/providers/{HUB}/{}",
        management.group_path(&wanted.group),
        percent::encode(&name)
    );
    let body = json!({
        "location": hub["location"], "tags": hub["tags"], "sku": hub["sku"], "properties": hub["properties"],
    });
    let begun = management.call(Method::PUT, &path, Some(&body))?;
    management.finish(&begun, &path, &format!("creating {name}"))?;
    for group in of(CONSUMER_GROUP) {
        let group = text(group, "properties.name");
        let path = format!(
            "{path}/eventHubEndpoints/events/ConsumerGroups/{}",
            percent::encode(&group)
        );
        let body = json!({ "properties": { "name": group } });
        management.call(Method::PUT, &path, Some(&body))?;
    }
    let devices = items(&template, "metadata.castling.devices");
    let failed = import_devices(&management.hub(&name)?, devices, context)?;
    let told = json!({ "name": name, "devices": devices.len() - failed.len(), "errors": failed });
    context.out.show(&told, |out| {
        out.line(format!(
            "{name} is there, with {} devices.",
            devices.len() - failed.len()
        ))
    })?;
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(Failure::Failed(format!(
            "{} devices were not created, the first: {} {}",
            failed.len(),
            text(first, "deviceId"),
            text(first, "errorStatus")
        ))),
    }
}

fn import_devices(
    hub: &HubResource,
    devices: &[Value],
    context: &Context,
) -> Result<Vec<Value>, Failure> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let service = Service::open(&context.network, &hub.name)?;
    let bar = progress(devices.len() as u64, "creating devices");
    let mut failed = Vec::new();
    for part in devices.chunks(limits::BULK_DEVICES_MAX) {
        let entries: Vec<Value> = part.iter().map(entry).collect();
        let body = Value::Array(entries).to_string();
        let headers = [("content-type", "application/json".to_owned())];
        let answer = service.call_any(Method::POST, "/devices", &headers, Some(body.as_bytes()))?;
        let document = answer.json()?;
        match document.get("errors").and_then(Value::as_array) {
            Some(errors) if matches!(answer.status, 200 | 400) => {
                failed.extend(errors.iter().cloned());
            }
            _ if answer.is_success() => {}
            _ => return Err(refusal(&answer)),
        }
        bar.inc(part.len() as u64);
    }
    bar.finish_and_clear();
    Ok(failed)
}

/// A device of the file as the registry's bulk change takes it. Without keys it gets fresh ones.
fn entry(device: &Value) -> Value {
    let mut entry = json!({ "id": device["deviceId"], "importMode": "create" });
    for field in ["status", "statusReason", "authentication"] {
        if let Some(value) = device.get(field).filter(|value| !value.is_null()) {
            entry[field] = value.clone();
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_shown_is_left_out_and_own_settings_are_kept() {
        let document = json!({"name": "h", "location": "West US 2", "sku": {"name": "S1", "capacity": 1, "tier": "Standard"},
            "properties": {"state": "Active", "hostName": "h.d", "minTlsVersion": "1.2",
                "eventHubEndpoints": {"events": {"retentionTimeInDays": 1, "partitionCount": 4, "path": "h", "endpoint": "sb://"}},
                "castling": {"replication": "Sync", "lease": {"held": true}, "lagMaxMs": null}}});
        let template = template(&document, settings(&document), &["reports".into()]);
        let hub = &template["resources"][0];
        assert_eq!(
            hub["properties"],
            json!({"minTlsVersion": "1.2", "eventHubEndpoints": {"events": {"retentionTimeInDays": 1, "partitionCount": 4}},
                "castling": {"replication": "Sync"}})
        );
        assert_eq!(
            (text(hub, "location"), text(hub, "sku.name")),
            ("westus2".into(), "S1".into())
        );
        assert_eq!(template["resources"][1]["name"], "h/events/reports");
    }

    #[test]
    fn devices_of_a_file_become_entries_of_a_bulk_change() {
        let device = json!({"deviceId": "d", "status": "disabled", "statusReason": null, "authentication": {"type": "sas"}});
        assert_eq!(
            entry(&device),
            json!({"id": "d", "importMode": "create", "status": "disabled", "authentication": {"type": "sas"}})
        );
    }
}
