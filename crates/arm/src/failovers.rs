//! Failovers as a resource of their own: history, steps, cancel, report, dry run (docs/formats/failovers-api.md).

use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::failure::{Failure, shown};
use axum::http::StatusCode;
use control::iso::iso8601;
use control::{Answer, Command, Hub, Operation, OperationStatus, StepName, policy};
use serde_json::{Value, json};
use std::time::Duration;
use types::limits;

const TYPE: &str = "Castling.Failover/failovers";

/// The hub's failovers, the latest first, and whether the next one is allowed now.
pub fn list(call: &Call) -> Outcome {
    let hub = call.hub()?;
    let all = call.state.operations_of(hub.id);
    let items = all.into_iter().filter(|op| op.switch().is_some());
    let items: Vec<Value> = items.map(|op| body(hub, op, false)).collect();
    answer::ok(&json!({ "value": items, "next": next(call, hub) }))
}

/// What the rules say about a failover asked for now; the checks are another matter.
fn next(call: &Call, hub: &Hub) -> Value {
    let Some(to) = hub.secondary() else {
        let why = policy::has_pair(hub).err().map(|refusal| refusal.message);
        return json!({ "to": null, "kind": null, "allowed": false, "why": why, "earliest": null });
    };
    let home = call.api.backend.catalogue().get(&hub.home);
    let excluded = home.is_some_and(|home| !home.manual_failover);
    let refusal = policy::failover_allowed(&call.state, hub, to, excluded, call.now).err();
    let earliest = policy::earliest(&call.state, hub, to, call.now);
    json!({
        "to": to,
        "kind": if *to == hub.home { "failback" } else { "failover" },
        "allowed": refusal.is_none(),
        "why": refusal.map(|refusal| refusal.message),
        "earliest": earliest.map(iso8601),
    })
}

/// One failover with all its steps.
pub fn get(call: &Call) -> Outcome {
    let (hub, op) = find(call)?;
    answer::ok(&body(hub, op, true))
}

/// The report as it was written when the failover ended (docs/formats/report.md).
pub fn report(call: &Call) -> Outcome {
    let (_, op) = find(call)?;
    if op.is_running() {
        let message = format!(
            "The report of failover '{}' is written when it ends. Next: {}.",
            op.id,
            op.legal_next()
        );
        return Err(Failure::conflict("FailoverRunning", message));
    }
    match &op.report {
        Some(report) => answer::ok(report),
        None => Err(Failure::not_found(
            "ReportNotFound",
            format!("Failover '{}' ended without a report.", op.id),
        )),
    }
}

/// Asks for a roll-back: 202, or 409 past the point of no return. Asking twice is the same as asking once.
pub async fn cancel(call: Call) -> Outcome {
    let (hub, op) = find(&call)?;
    let command = Command::CancelFailover {
        operation: op.id.clone(),
    };
    match call.submit(command).await? {
        Answer::Operation(op) => Ok(answer::json(StatusCode::ACCEPTED, &body(hub, &op, true))),
        other => Err(unexpected(&other)),
    }
}

/// The dry run: what the first step of a failover would find now. Changes nothing.
pub async fn check(call: Call) -> Outcome {
    let hub = call.hub()?;
    let most = Duration::from_millis(limits::FAILOVER_CHECK_MS_MAX.unsigned_abs());
    let checked = tokio::time::timeout(most, call.api.backend.check(hub.id)).await;
    let report = checked.map_err(|_| {
        Failure::unavailable("The checks did not end in time; nothing has been changed.")
    })??;
    let body = serde_json::to_value(&report)
        .map_err(|error| Failure::internal(format!("The checks cannot be written: {error}")))?;
    answer::ok(&body)
}

fn find(call: &Call) -> Result<(&Hub, &Operation), Failure> {
    let hub = call.hub()?;
    let id = call.param("failover");
    let op = call.state.operations.get(id);
    let op = op.filter(|op| op.hub == Some(hub.id) && op.switch().is_some());
    let op = op.ok_or_else(|| {
        Failure::not_found(
            "OperationNotFound",
            format!(
                "IotHub '{}' has no failover '{}' in its history.",
                hub.name,
                shown(id)
            ),
        )
    })?;
    Ok((hub, op))
}

fn body(hub: &Hub, op: &Operation, whole: bool) -> Value {
    let switch = op.switch();
    let mut properties = json!({
        "status": status(op.status),
        "kind": if switch.is_some_and(|s| s.back) { "failback" } else { "failover" },
        "from": switch.map(|s| s.from),
        "to": switch.map(|s| s.to),
        "epochBefore": switch.map(|s| s.epoch),
        "epochAfter": switch.map(|s| if op.is_committed() { s.epoch.next() } else { s.epoch }),
        "by": op.by,
        "reason": op.reason,
        "started": iso8601(op.started),
        "ended": op.ended.map(iso8601),
        "durationMs": op.ended.map(|ended| ended.since(op.started)),
        "pauseMs": op.pause_ms(),
        "committed": op.is_committed(),
        "rollingBack": op.is_running() && op.is_rolling_back(),
        "canCancel": op.can_cancel() && op.cancel.is_none() && !op.is_rolling_back(),
        "cancelledBy": op.cancel,
        "legalNext": op.legal_next(),
        "error": op.error.as_ref().map(|(code, message)| json!({ "code": code, "message": message })),
        "hasReport": op.report.is_some(),
    });
    if whole {
        properties["steps"] = steps(op);
        properties["report"] = op.report.clone().unwrap_or_default();
    }
    json!({
        "id": format!("{}/providers/{TYPE}/{}", hub.path(), op.id),
        "name": op.id,
        "type": TYPE,
        "properties": properties,
    })
}

fn status(status: OperationStatus) -> &'static str {
    match status {
        OperationStatus::Running => "Running",
        OperationStatus::Succeeded => "Succeeded",
        OperationStatus::RolledBack => "RolledBack",
        OperationStatus::Cancelled => "Cancelled",
        OperationStatus::Failed => "Failed",
    }
}

/// The seven planned steps in their order, also those that have not begun, then the roll-back if there is one.
fn steps(op: &Operation) -> Value {
    let planned = StepName::PLANNED.into_iter().enumerate();
    let planned = planned.map(|(at, name)| step(op, Some(at + 1), name));
    let back = op
        .has_started(StepName::RollBack)
        .then(|| step(op, None, StepName::RollBack));
    planned.chain(back).collect()
}

fn step(op: &Operation, number: Option<usize>, name: StepName) -> Value {
    let recorded = op.step(name);
    let status = match recorded {
        None if op.is_running() && !op.is_rolling_back() => "Pending",
        None => "NotReached",
        Some(step) if step.ended.is_some() => "Done",
        // A step that began and never ended, of an operation that goes no further forward.
        Some(_) if !op.is_running() || (op.is_rolling_back() && name != StepName::RollBack) => {
            "Abandoned"
        }
        Some(_) => "Running",
    };
    let ended = recorded.and_then(|step| step.ended);
    json!({
        "number": number,
        "name": name.name(),
        "status": status,
        "started": recorded.map(|step| iso8601(step.started)),
        "ended": ended.map(iso8601),
        "ms": recorded.zip(ended).map(|(step, ended)| ended.since(step.started)),
        "detail": recorded.map(|step| step.detail.clone()),
    })
}
