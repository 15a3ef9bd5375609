//! Failovers as a resource of their own: history, steps, cancel, report, dry runs (docs/formats/failovers-api.md).

use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::failover_body::body;
use crate::failure::{Failure, shown};
use crate::fields::Mistakes;
use crate::{forced, reports};
use axum::http::StatusCode;
use control::checks::CheckReport;
use control::iso::iso8601;
use control::{Answer, Command, Hub, Operation, policy};
use serde_json::{Value, json};
use std::time::Duration;
use types::limits;

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

/// The report as it was written when the failover ended (docs/formats/report.md); as a page for those who ask for HTML.
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
        Some(report) => Ok(reports::answer(call, report)),
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

/// The dry run: what the first step of a failover would find now. Changes nothing. `{"forced": true}` asks about a forced one.
pub async fn check(call: Call) -> Outcome {
    let hub = call.hub()?;
    let wanted = call.json_or_empty()?;
    let mut mistakes = Mistakes::default();
    let forced = match &wanted["forced"] {
        Value::Null => false,
        Value::Bool(forced) => *forced,
        _ => {
            mistakes.add("forced", "true or false is expected");
            false
        }
    };
    let accept = forced::accept(&wanted, &mut mistakes);
    if accept.is_some() && !forced {
        mistakes.add("acceptLoss", "a planned failover loses nothing");
    }
    if !mistakes.0.is_empty() {
        return Err(Failure::bad("InvalidProperties", mistakes.0.join("; ")).details(&mistakes.0));
    }
    let report = match forced {
        true => forced::check(&call, hub, accept).await?,
        false => planned_check(&call, hub).await?,
    };
    let mut body = serde_json::to_value(&report)
        .map_err(|error| Failure::internal(format!("The checks cannot be written: {error}")))?;
    let refusal = report.refusal().map(|refusal| Failure::from(refusal).code);
    body["refusal"] = refusal.map(String::from).into();
    answer::ok(&body)
}

async fn planned_check(call: &Call, hub: &Hub) -> Result<CheckReport, Failure> {
    let most = Duration::from_millis(limits::FAILOVER_CHECK_MS_MAX.unsigned_abs());
    let checked = tokio::time::timeout(most, call.api.backend.check(hub.id)).await;
    let report = checked.map_err(|_| {
        Failure::unavailable("The checks did not end in time; nothing has been changed.")
    })??;
    Ok(report)
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
