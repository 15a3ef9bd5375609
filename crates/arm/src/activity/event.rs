//! An entry as the public service shows one: `EventData`.

use crate::call::Call;
use control::iso::iso8601;
use control::model::Activity;
use serde_json::{Value, json};

/// The fields of an event, as `$select` names them.
pub const FIELDS: &[&str] = &[
    "authorization",
    "caller",
    "channels",
    "claims",
    "correlationId",
    "description",
    "eventDataId",
    "eventName",
    "category",
    "httpRequest",
    "id",
    "level",
    "resourceGroupName",
    "resourceProviderName",
    "resourceId",
    "resourceType",
    "operationId",
    "operationName",
    "properties",
    "status",
    "subStatus",
    "eventTimestamp",
    "submissionTimestamp",
    "subscriptionId",
    "tenantId",
];

/// Ticks of 100 ns from the year 1 to 1970.
const EPOCH_TICKS: i64 = 621_355_968_000_000_000;

pub fn body(call: &Call, subscription: &str, entry: &Activity) -> Value {
    let id = data_id(entry);
    let at = iso8601(entry.at);
    let status = status(&entry.result);
    let ticks = EPOCH_TICKS.saturating_add(entry.at.0.saturating_mul(10_000));
    let correlation = entry
        .origin
        .correlation
        .clone()
        .unwrap_or_else(|| id.clone());
    let begins = status == "Started";
    let request = entry
        .origin
        .address
        .as_ref()
        .map(|address| json!({ "clientIpAddress": address, "clientRequestId": correlation }));
    json!({
        "authorization": { "action": entry.action, "role": null, "scope": entry.resource },
        "caller": entry.by,
        "channels": "Operation",
        "claims": {},
        "correlationId": correlation,
        "description": "",
        "eventDataId": id,
        "eventName": text(if begins { "BeginRequest" } else { "EndRequest" }),
        "category": text("Administrative"),
        "httpRequest": request,
        "id": format!("{}/events/{id}/ticks/{ticks}", entry.resource.trim_end_matches('/')),
        "level": if status == "Failed" { "Error" } else { "Informational" },
        "resourceGroupName": group(&entry.resource),
        "resourceProviderName": text(provider(&entry.action)),
        "resourceId": entry.resource,
        "resourceType": text(&kind(&entry.resource)),
        "operationId": operation(&entry.result).unwrap_or(&correlation),
        "operationName": text(&entry.action),
        "properties": {
            "statusMessage": entry.result,
            "objectId": entry.origin.object_id,
            "userAgent": entry.origin.agent,
            "number": entry.number.to_string(),
            "hash": entry.hash,
        },
        "status": text(status),
        "subStatus": text(sub_status(&entry.result)),
        "eventTimestamp": at,
        "submissionTimestamp": at,
        "subscriptionId": subscription,
        "tenantId": call.state.deployment.tenant,
    })
}

fn text(value: &str) -> Value {
    json!({ "value": value, "localizedValue": value })
}

/// Made from the hash; from before there were hashes, from the time.
fn data_id(entry: &Activity) -> String {
    let hex = match entry.hash.get(..32) {
        Some(hex) => hex.to_owned(),
        None => format!("{:032x}", entry.at.0),
    };
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    let parts: Vec<&str> = parts.into_iter().filter_map(|part| hex.get(part)).collect();
    parts.join("-")
}

/// The public service's words: what starts an operation has begun, its end has an entry of its own.
pub fn status(result: &str) -> &'static str {
    let word = result.split(':').next().unwrap_or_default();
    match word {
        "accepted" if operation(result).is_some() => "Started",
        "Running" => "Started",
        "accepted" | "Succeeded" => "Succeeded",
        _ => "Failed",
    }
}

fn sub_status(result: &str) -> &str {
    match result.split_once(": ") {
        Some(("accepted", _)) | None => "",
        Some((_, rest)) => rest.split(':').next().unwrap_or_default(),
    }
}

fn operation(result: &str) -> Option<&str> {
    result.strip_prefix("accepted: operation ")
}

/// The resource group in a path.
pub fn group(path: &str) -> Option<&str> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    parts.find(|part| part.eq_ignore_ascii_case("resourceGroups"))?;
    parts.next()
}

/// The provider whose action it is.
pub fn provider(action: &str) -> &str {
    action.split('/').next().unwrap_or_default()
}

/// The type of the resource at a path: every second part after the last `providers`.
fn kind(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let last = parts
        .iter()
        .rposition(|part| part.eq_ignore_ascii_case("providers"));
    let Some((namespace, rest)) = last.and_then(|at| parts.get(at + 1..)?.split_first()) else {
        return match group(path) {
            Some(_) => "Microsoft.Resources/subscriptions/resourceGroups".into(),
            None => "Microsoft.Resources/subscriptions".into(),
        };
    };
    let types = rest.iter().step_by(2);
    std::iter::once(namespace)
        .chain(types)
        .copied()
        .collect::<Vec<_>>()
        .join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_become_the_public_services_words() {
        for (result, status_word, sub) in [
            ("accepted", "Succeeded", ""),
            ("accepted: operation x", "Started", ""),
            ("accepted: nothing to delete", "Succeeded", ""),
            ("Running: drill d", "Started", "drill d"),
            ("Succeeded", "Succeeded", ""),
            (
                "RolledBack: PauseCeilingReached: why",
                "Failed",
                "PauseCeilingReached",
            ),
            (
                "refused: FailoverTooSoon: at 10:00",
                "Failed",
                "FailoverTooSoon",
            ),
        ] {
            assert_eq!(
                (status(result), sub_status(result)),
                (status_word, sub),
                "{result}"
            );
        }
    }

    #[test]
    fn types_and_groups_are_read_from_paths() {
        let hub = "/subscriptions/s/resourceGroups/RG/providers/Microsoft.Devices/IotHubs/h";
        assert_eq!(
            (kind(hub).as_str(), group(hub)),
            ("Microsoft.Devices/IotHubs", Some("RG"))
        );
        assert_eq!(
            kind(&format!("{hub}/certificates/c")),
            "Microsoft.Devices/IotHubs/certificates"
        );
        assert_eq!(
            kind("/subscriptions/s/resourceGroups/RG"),
            "Microsoft.Resources/subscriptions/resourceGroups"
        );
        assert_eq!(
            (kind("/").as_str(), group("/")),
            ("Microsoft.Resources/subscriptions", None)
        );
    }
}
