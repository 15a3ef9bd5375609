//! Whether messages reach a hub's endpoints.

use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::hubs;
use serde_json::json;

/// The built-in endpoint is the hub's own log: it takes messages as long as the primary holds its lease.
pub async fn health(call: Call) -> Outcome {
    let hub = call.hub()?;
    let figures = hubs::figures(&call, hub.id).await;
    let (status, error) = match figures {
        None => (
            "unknown",
            Some(format!(
                "The primary region '{}' did not give its figures in time.",
                hub.primary
            )),
        ),
        Some(figures) if !figures.lease.held => (
            "unhealthy",
            Some(format!(
                "The primary region '{}' holds no lease and accepts nothing.",
                hub.primary
            )),
        ),
        Some(_) => ("healthy", None),
    };
    let mut events = json!({ "endpointId": "events", "healthStatus": status });
    if let Some(error) = error {
        events["lastKnownError"] = error.into();
        events["lastKnownErrorTime"] = wire::timestamp::http_date(call.now).into();
    }
    answer::list(vec![events])
}
