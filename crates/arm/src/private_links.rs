//! Private links and private endpoints, of which there are none here: clients that look learn so in the documented forms
//! (control-plane notes section 8).

use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::failure::{Failure, shown};
use axum::http::StatusCode;
use serde_json::json;

/// No groups: nothing of a hub can be reached by a private link.
pub fn resources(call: &Call) -> Outcome {
    call.hub()?;
    answer::list(Vec::new())
}

pub fn resource(call: &Call) -> Outcome {
    let hub = call.hub()?;
    Err(Failure::not_found(
        "PrivateLinkResourceNotFound",
        format!(
            "IotHub '{}' has no private link resource '{}': private links are not available here.",
            hub.name,
            shown(call.param("resource"))
        ),
    ))
}

/// A bare array, unlike other lists.
pub fn connections(call: &Call) -> Outcome {
    call.hub()?;
    answer::ok(&json!([]))
}

pub fn connection(call: &Call) -> Outcome {
    let hub = call.hub()?;
    Err(Failure::not_found(
        "PrivateEndpointConnectionNotFound",
        format!(
            "IotHub '{}' has no private endpoint connection '{}': private endpoints are not available here.",
            hub.name,
            shown(call.param("connection"))
        ),
    ))
}

/// There is nothing to delete.
pub fn delete_connection(call: &Call) -> Outcome {
    call.hub()?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
