//! What a hub may have and what it has: SKUs, statistics, quotas, usages.

use crate::answer::{self, Outcome};
use crate::backend::DeviceFigures;
use crate::call::Call;
use crate::failure::Failure;
use crate::hub_body::TYPE;
use crate::hubs;
use control::naming::SKUS;
use serde_json::{Value, json};
use types::limits;

const FREE: &str = "F1";

/// SKUs that the hub can change to: a free one stays free, another never becomes it.
pub fn skus(call: &Call) -> Outcome {
    let free = call.hub()?.sku.name == FREE;
    let sku = |range: control::naming::SkuRange| {
        json!({
            "resourceType": TYPE,
            "sku": { "name": range.name, "tier": range.tier },
            "capacity": {
                "minimum": 1,
                "maximum": range.capacity_max,
                "default": 1,
                "scaleType": if range.capacity_max == 1 { "None" } else { "Manual" },
            },
        })
    };
    let valid = SKUS
        .into_iter()
        .filter(|range| (range.name == FREE) == free);
    answer::list(valid.map(sku).collect())
}

pub async fn stats(call: Call) -> Outcome {
    let figures = live(&call).await?;
    answer::ok(&json!({
        "totalDeviceCount": figures.total,
        "enabledDeviceCount": figures.enabled,
        "disabledDeviceCount": figures.disabled,
    }))
}

/// Messages are neither counted nor limited by the day here: their figures are null.
pub async fn quotas(call: Call) -> Outcome {
    let figures = live(&call).await?;
    answer::list(vec![
        json!({ "name": "TotalMessages", "currentValue": null, "maxValue": null }),
        json!({
            "name": "TotalDeviceCount",
            "currentValue": figures.total,
            "maxValue": limits::DEVICES_PER_HUB_MAX,
        }),
    ])
}

async fn live(call: &Call) -> Result<DeviceFigures, Failure> {
    let hub = call.hub()?;
    let figures = hubs::figures(call, hub.id).await;
    figures.and_then(|figures| figures.devices).ok_or_else(|| {
        Failure::unavailable(format!(
            "The primary region '{}' of IotHub '{}' did not give its figures in time.",
            hub.primary, hub.name
        ))
    })
}

pub fn usages(call: &Call) -> Outcome {
    let subscription = &call.subscription()?.id;
    let all: Vec<_> = call.state.hubs_of_subscription(subscription).collect();
    let free = all.iter().filter(|hub| hub.sku.name == FREE).count();
    let usage = |name: &str, text: &str, current: usize, limit: usize| -> Value {
        json!({
            "id": format!("/subscriptions/{subscription}/providers/Microsoft.Devices/usages/{name}"),
            "type": "Microsoft.Devices/usages",
            "unit": "count",
            "currentValue": current,
            "limit": limit,
            "name": { "value": name, "localizedValue": text },
        })
    };
    answer::list(vec![
        usage(
            "FreeHubCount",
            "Free IoT hubs",
            free,
            limits::FREE_HUBS_PER_SUBSCRIPTION_MAX,
        ),
        usage(
            "TotalHubCount",
            "IoT hubs",
            all.len(),
            call.state.deployment.limits.hubs_per_subscription as usize,
        ),
    ])
}
