//! Whether a hub's name is free, with the real service's quirks (control-plane notes section 8).

use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::failure::Failure;
use control::naming::hub_name;
use serde_json::json;

/// A free name has the reason `Invalid`, as the real service says it; a hub that is being deleted still has its name.
pub fn check(call: &Call) -> Outcome {
    call.subscription()?;
    let body = call.json()?;
    let name = body["name"].as_str().ok_or_else(|| {
        Failure::bad(
            "InvalidRequestContent",
            "The property 'name' is missing or not a text.",
        )
    })?;
    answer::ok(&match hub_name(name) {
        Err(refusal) => {
            json!({ "nameAvailable": false, "reason": "Invalid", "message": refusal.message })
        }
        Ok(name) if call.state.hub_named(name.as_str()).is_some() => json!({
            "nameAvailable": false,
            "reason": "AlreadyExists",
            "message": format!("IotHub name '{name}' is not available"),
        }),
        Ok(_) => json!({ "nameAvailable": true, "reason": "Invalid", "message": null }),
    })
}
