//! Subscriptions, tenants and locations.

use crate::answer::{self, Outcome};
use crate::call::Call;
use control::model::Subscription;
use serde_json::{Value, json};

const READ: &str = "Microsoft.Resources/subscriptions/read";

/// Every subscription in which the caller may read something.
pub fn list(call: &Call) -> Outcome {
    let all = call.state.subscriptions.values();
    let reach = call.reach(READ);
    let items: Vec<Value> = all
        .filter(|one| reach.touches(&format!("/subscriptions/{}", one.id)))
        .map(|one| body(call, one))
        .collect();
    answer::ok(&json!({ "value": items, "count": { "type": "Total", "value": items.len() } }))
}

pub fn get(call: &Call) -> Outcome {
    answer::ok(&body(call, call.subscription()?))
}

/// The one tenant.
pub fn tenants(call: &Call) -> Outcome {
    let tenant = &call.state.deployment.tenant;
    answer::list(vec![json!({
        "id": format!("/tenants/{tenant}"),
        "tenantId": tenant,
        "displayName": "Castling",
        "defaultDomain": call.state.deployment.domain,
        "tenantCategory": "Home",
    })])
}

fn body(call: &Call, subscription: &Subscription) -> Value {
    json!({
        "id": format!("/subscriptions/{}", subscription.id),
        "subscriptionId": subscription.id,
        "tenantId": call.state.deployment.tenant,
        "displayName": subscription.display_name,
        "state": "Enabled",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionPolicies": {
            "locationPlacementId": "Castling",
            "quotaId": "Castling",
            "spendingLimit": "Off",
        },
    })
}

/// Every region of the catalogue; those in which nothing runs here say so.
pub fn locations(call: &Call) -> Outcome {
    let subscription = &call.subscription()?.id;
    let id = |name: &str| format!("/subscriptions/{subscription}/locations/{name}");
    let running = &call.state.deployment.regions;
    let location = |region: &types::regions::Region| {
        let name = region.name.as_str();
        let pair = region.paired_with.iter();
        let pairs: Vec<Value> = pair
            .map(|pair| json!({ "name": pair, "id": id(pair.as_str()) }))
            .collect();
        let runs = running.contains(&region.name);
        json!({
            "id": id(name),
            "name": name,
            "type": "Region",
            "displayName": region.display_name,
            "regionalDisplayName": region.display_name,
            "metadata": {
                "regionType": "Physical",
                "regionCategory": if runs { "Recommended" } else { "Other" },
                "geography": region.geography,
                "geographyGroup": region.geography,
                "latitude": region.latitude.to_string(),
                "longitude": region.longitude.to_string(),
                "pairedRegion": pairs,
            },
            "castling": {
                "running": runs,
                "note": if runs { "running here" } else { "not running here" },
                "manualFailover": region.manual_failover,
            },
        })
    };
    answer::list(call.api.backend.catalogue().iter().map(location).collect())
}
