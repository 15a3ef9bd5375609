//! A failover as clients see it (docs/formats/failovers-api.md).

use crate::{durations, waits};
use control::iso::iso8601;
use control::{
    AcceptedLoss, Hub, LossEstimate, LostRange, Operation, OperationKind, OperationStatus, StepName,
};
use serde_json::{Value, json};

const TYPE: &str = "Castling.Failover/failovers";

/// A failover as it is shown; `whole`: with its steps and its report.
pub fn body(hub: &Hub, op: &Operation, whole: bool) -> Value {
    let switch = op.switch();
    let mut properties = json!({
        "status": status(op.status),
        "kind": if switch.is_some_and(|s| s.back) { "failback" } else { "failover" },
        "forced": op.is_forced(),
        "drill": switch.and_then(|s| s.drill),
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
        "waitsFor": waits::of_failover(op),
        "legalNext": op.legal_next(),
        "error": op.error.as_ref().map(|(code, message)| json!({ "code": code, "message": message })),
        "hasReport": op.report.is_some(),
    });
    if let OperationKind::Forced { accept, shown, .. } = &op.kind {
        properties["lossAccepted"] = accepted(accept);
        properties["lossShown"] = estimated(shown);
        properties["lost"] = lost(hub, op);
    }
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

fn accepted(accept: &AcceptedLoss) -> Value {
    json!({
        "span": accept.span_ms.map(durations::format),
        "records": accept.records,
        "all": accept.all,
        "text": accept.text(),
    })
}

fn estimated(loss: &LossEstimate) -> Value {
    json!({
        "at": iso8601(loss.at),
        "records": loss.records,
        "events": loss.events,
        "bytes": loss.bytes,
        "devices": loss.devices,
        "devicesCut": loss.devices_cut,
        "kinds": loss.kinds,
        "spanMs": loss.span_ms,
        "ageMs": loss.age_ms,
        "worstMs": loss.worst_ms,
        "unknown": loss.unknown,
    })
}

/// What was lost exactly, known once the old primary is back; null until then.
fn lost(hub: &Hub, op: &Operation) -> Value {
    let divergence = hub.divergences.iter().find(|one| one.operation == op.id);
    let Some(back) = divergence.and_then(|divergence| divergence.returned.as_ref()) else {
        return Value::Null;
    };
    json!({
        "at": iso8601(back.at),
        "region": back.region,
        "records": back.records(),
        "events": back.events(),
        "bytes": back.bytes(),
        "spanMs": back.span_ms(),
        "partitions": back.partitions.iter().map(range).collect::<Vec<_>>(),
    })
}

fn range(range: &LostRange) -> Value {
    json!({
        "partition": range.partition,
        "from": range.from,
        "to": range.to,
        "records": range.records,
        "events": range.events,
        "bytes": range.bytes,
        "firstTime": range.first_time.map(iso8601),
        "lastTime": range.last_time.map(iso8601),
    })
}

pub fn status(status: OperationStatus) -> &'static str {
    match status {
        OperationStatus::Running => "Running",
        OperationStatus::Succeeded => "Succeeded",
        OperationStatus::RolledBack => "RolledBack",
        OperationStatus::Cancelled => "Cancelled",
        OperationStatus::Failed => "Failed",
    }
}

/// The steps of its kind in their order, also those that have not begun, then the roll-back if there is one.
fn steps(op: &Operation) -> Value {
    let plan = op.plan().iter().enumerate();
    let plan = plan.map(|(at, name)| step(op, Some(at + 1), *name));
    let back = op
        .has_started(StepName::RollBack)
        .then(|| step(op, None, StepName::RollBack));
    plan.chain(back).collect()
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
