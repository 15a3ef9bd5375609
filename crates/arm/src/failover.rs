//! The failover in Azure's words: `POST …/failover` (control-plane notes sections 6 and 9).

use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::failure::{Failure, shown};
use crate::hub_body::display_name;
use crate::locations::region_named;
use crate::operations;
use axum::http::StatusCode;
use control::{Answer, Command, Hub, Operation, State};
use serde_json::Value;
use types::{HubId, RegionName};

/// Starts a planned failover to the hub's secondary: 202 with both addresses to ask.
///
/// Safe to repeat: while one to the same region runs, that one is the answer.
pub async fn start(call: Call) -> Outcome {
    let hub = call.hub()?;
    let wanted = call.json_or_empty()?;
    let to = target(&call, hub, &wanted)?;
    let reason = match &wanted["reason"] {
        Value::Null => String::new(),
        Value::String(reason) => reason.clone(),
        _ => {
            return Err(Failure::bad(
                "InvalidProperties",
                "reason: a text is expected",
            ));
        }
    };
    if let Some(running) = running_to(&call.state, hub.id, &to) {
        return Ok(accepted(&call, hub, running));
    }
    let catalogue = call.api.backend.catalogue();
    let command = Command::StartFailover {
        hub: hub.id,
        to: to.clone(),
        operation: call.operation_id(&format!("failover {} to {to}", hub.id), true)?,
        reason,
        excluded: catalogue
            .get(&hub.home)
            .is_some_and(|home| !home.manual_failover),
        drill: None,
    };
    match call.submit(command).await {
        Ok(Answer::Operation(op)) => Ok(accepted(&call, hub, &op)),
        Ok(other) => Err(unexpected(&other)),
        Err(failure) => {
            // Another request may have been faster, at this region or elsewhere.
            let state = call.api.backend.state();
            match running_to(&state, hub.id, &to) {
                Some(running) if failure.status == StatusCode::CONFLICT => {
                    Ok(accepted(&call, hub, running))
                }
                _ => Err(failure),
            }
        }
    }
}

fn accepted(call: &Call, hub: &Hub, op: &Operation) -> axum::response::Response {
    let mut response = answer::null(StatusCode::ACCEPTED);
    operations::point_to_both(call, op, &hub.home, &mut response);
    response
}

/// The failover to a region that runs on a hub now.
fn running_to<'a>(state: &'a State, hub: HubId, to: &RegionName) -> Option<&'a Operation> {
    let id = state.hub(hub)?.operation.as_ref()?;
    let op = state.operations.get(id)?;
    let switch = op.switch()?;
    (op.is_running() && !switch.forced && switch.to == to).then_some(op)
}

/// The region to fail over to, by its display name or its short name.
fn target(call: &Call, hub: &Hub, body: &Value) -> Result<RegionName, Failure> {
    control::policy::has_pair(hub)?;
    let mismatch = |what: String| {
        let secondary = hub
            .secondary()
            .map(|region| display_name(call, region))
            .unwrap_or_default();
        Failure::bad(
            "FailoverRegionMismatch",
            format!(
                "{what} IotHub '{}' can only fail over to its secondary region '{secondary}'.",
                hub.name
            ),
        )
    };
    let given = match &body["failoverRegion"] {
        Value::String(text) if !text.trim().is_empty() => text,
        Value::Null | Value::String(_) => {
            return Err(mismatch("The property 'failoverRegion' is missing.".into()));
        }
        _ => {
            return Err(mismatch(
                "The property 'failoverRegion' must be a text.".into(),
            ));
        }
    };
    region_named(call, given)
        .ok_or_else(|| mismatch(format!("'{}' is not the name of a region.", shown(given))))
}
