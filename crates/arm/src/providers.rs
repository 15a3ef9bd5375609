//! The resource providers of a deployment, and what can be done with them.

use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::failure::{Failure, shown};
use crate::routes::routes;
use serde_json::{Value, json};

/// Versions that `az` and the SDKs send; any other date is taken as well.
const DEVICES_VERSIONS: [&str; 3] = ["2023-06-30", "2023-06-30-preview", "2021-07-02"];
const RESOURCES_VERSIONS: [&str; 3] = ["2025-04-01", "2024-11-01", "2021-04-01"];

const AUTHORIZATION_VERSIONS: [&str; 3] = ["2022-04-01", "2022-05-01-preview", "2020-05-01"];

const NAMESPACES: [&str; 3] = [
    "Microsoft.Authorization",
    "Microsoft.Devices",
    "Microsoft.Resources",
];

pub fn list(call: &Call) -> Outcome {
    let subscription = call.subscription()?.id.clone();
    let body = |namespace| provider(call, &subscription, namespace);
    answer::list(NAMESPACES.into_iter().map(body).collect())
}

/// One provider; registering one changes nothing, since all are registered.
pub fn get(call: &Call) -> Outcome {
    let subscription = &call.subscription()?.id;
    let wanted = call.param("namespace");
    let known = NAMESPACES
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(wanted));
    let namespace = known.ok_or_else(|| {
        Failure::not_found(
            "InvalidResourceNamespace",
            format!(
                "The resource namespace '{}' is not served by this deployment.",
                shown(wanted)
            ),
        )
    })?;
    answer::ok(&provider(call, subscription, namespace))
}

fn provider(call: &Call, subscription: &str, namespace: &str) -> Value {
    let catalogue = call.api.backend.catalogue();
    let regions = call.state.deployment.regions.iter();
    let locations: Vec<&str> = regions
        .map(|name| {
            catalogue
                .get(name)
                .map_or(name.as_str(), |region| region.display_name.as_str())
        })
        .collect();
    let kind = |name: &str, versions: &[&str]| {
        json!({
            "resourceType": name,
            "locations": locations,
            "apiVersions": versions,
            "defaultApiVersion": versions.first(),
            "capabilities": "None",
        })
    };
    let types = match namespace {
        "Microsoft.Devices" => vec![
            kind("IotHubs", &DEVICES_VERSIONS),
            kind("checkNameAvailability", &DEVICES_VERSIONS),
            kind("usages", &DEVICES_VERSIONS),
            kind("operations", &DEVICES_VERSIONS),
            kind("locations/operationResults", &DEVICES_VERSIONS),
        ],
        "Microsoft.Authorization" => vec![
            kind("locks", &AUTHORIZATION_VERSIONS),
            kind("permissions", &AUTHORIZATION_VERSIONS),
            kind("roleAssignments", &AUTHORIZATION_VERSIONS),
            kind("roleDefinitions", &AUTHORIZATION_VERSIONS),
        ],
        _ => vec![
            kind("subscriptions", &RESOURCES_VERSIONS),
            kind("resourceGroups", &RESOURCES_VERSIONS),
            kind("resources", &RESOURCES_VERSIONS),
        ],
    };
    json!({
        "id": format!("/subscriptions/{subscription}/providers/{namespace}"),
        "namespace": namespace,
        "registrationState": "Registered",
        "registrationPolicy": "RegistrationFree",
        "resourceTypes": types,
    })
}

/// What can be done with IoT hubs here: the permissions of the route table.
pub fn operations(_call: &Call) -> Outcome {
    let mut names: Vec<&str> = routes()
        .map(|route| route.permission)
        .filter(|name| name.starts_with("Microsoft.Devices/"))
        .collect();
    names.sort_unstable();
    names.dedup();
    let item = |name: &str| {
        let (resource, operation) = match name.strip_suffix("/action") {
            Some(rest) => rest.rsplit_once('/').unwrap_or(("", rest)),
            None => name.rsplit_once('/').unwrap_or(("", name)),
        };
        json!({
            "name": name,
            "isDataAction": false,
            "display": {
                "provider": "Microsoft Devices",
                "resource": resource.strip_prefix("Microsoft.Devices/").unwrap_or(resource),
                "operation": operation,
                "description": name,
            },
        })
    };
    answer::list(names.into_iter().map(item).collect())
}
