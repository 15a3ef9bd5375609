//! What a client asks first: where everything is (control-plane notes section 3).

use crate::answer::{self, Outcome};
use crate::call::Call;
use serde_json::{Value, json};

/// The name under which the deployment appears as a cloud.
const NAME: &str = "Castling";

/// The old flat form, an array, or one object, by api-version.
pub fn endpoints(call: &Call) -> Outcome {
    let one = description(&call.host);
    answer::ok(&match call.query("api-version").unwrap_or_default() {
        "1.0" | "2015-01-01" => flat(&call.host),
        version if !version.is_empty() && version < "2022-09-01" => json!([one]),
        _ => one,
    })
}

fn description(host: &str) -> Value {
    let base = format!("https://{host}");
    json!({
        "name": NAME,
        "portal": base,
        "resourceManager": base,
        "authentication": {
            "loginEndpoint": format!("{base}/adfs"),
            "audiences": [format!("{base}/"), "https://management.azure.com/", "https://management.core.windows.net/"],
            "tenant": "common",
            "identityProvider": "ADFS",
        },
        "graph": format!("{base}/"),
        "graphAudience": format!("{base}/"),
        "microsoftGraphResourceId": format!("{base}/"),
        "gallery": format!("{base}/"),
        "media": null,
        "batch": null,
        "sqlManagement": null,
        "vmImageAliasDoc": null,
        "activeDirectoryDataLake": null,
        "appInsightsResourceId": null,
        "logAnalyticsResourceId": null,
        "ossrdbmsResourceId": null,
        "synapseAnalyticsResourceId": null,
        "attestationResourceId": null,
        "suffixes": {},
    })
}

fn flat(host: &str) -> Value {
    let base = format!("https://{host}");
    json!({
        "galleryEndpoint": format!("{base}/"),
        "graphEndpoint": format!("{base}/"),
        "portalEndpoint": base,
        "authentication": { "loginEndpoint": format!("{base}/adfs"), "audiences": [format!("{base}/")] },
    })
}
