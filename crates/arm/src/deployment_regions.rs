//! The deployment as it describes itself to those who signed in: its regions and where they are reached.

use crate::answer::{self, Outcome};
use crate::call::Call;
use serde_json::{Value, json};

/// Every region, with addresses and ports where this one knows them.
pub fn list(call: &Call) -> Outcome {
    let deployment = &call.state.deployment;
    let reached = call.api.backend.reached();
    let catalogue = call.api.backend.catalogue();
    let regions: Vec<Value> = deployment
        .regions
        .iter()
        .map(|name| {
            let known = reached.iter().find(|known| known.name == *name);
            json!({
                "id": format!("/providers/Castling.Deployment/regions/{name}"),
                "name": name.as_str(),
                "type": "Castling.Deployment/regions",
                "properties": {
                    "displayName": catalogue.get(name).map(|region| region.display_name.clone()),
                    "here": name == call.api.backend.region(),
                    "address": known.map(|known| known.address.clone()),
                    "httpsPort": known.map(|known| known.https_port),
                    "mqttPort": known.map(|known| known.mqtt_port),
                    "plainMqttPort": known.and_then(|known| known.plain_mqtt_port),
                    "managementPort": known.map(|known| known.management_port),
                },
            })
        })
        .collect();
    // Which subscriptions there are is for those who may read them.
    let readable = call.state.subscriptions.values().filter(|subscription| {
        let scope = format!("/subscriptions/{}", subscription.id);
        call.may("Microsoft.Resources/subscriptions/read", &scope)
    });
    let subscriptions: Vec<&str> = readable.map(|one| one.id.as_str()).collect();
    answer::ok(&json!({
        "domain": deployment.domain,
        "tenant": deployment.tenant,
        "subscriptions": subscriptions,
        "value": regions,
    }))
}
