//! The forced failover: started with the loss that was shown and the loss that is accepted (docs/formats/failovers-api.md).

use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::durations;
use crate::failover_body::body;
use crate::failure::{Failure, shown};
use crate::fields::{Mistakes, field, reason, whole};
use crate::locations::region_named;
use crate::operations;
use axum::http::StatusCode;
use axum::response::Response;
use control::checks::CheckReport;
use control::{AcceptedLoss, Answer, Command, Hub, LossEstimate, Operation, State};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::time::Instant;
use types::{HubId, RegionName, limits};

const LEADER_RETRY: Duration = Duration::from_millis(200);

/// Starts a forced failover: 202 with the failover and both addresses to ask.
///
/// The checks are made here first, so that a refusal comes at once; the first step of the operation makes them again, and
/// decides. Safe to repeat: while a forced one to the same region runs, that one is the answer.
pub async fn start(call: Call) -> Outcome {
    let hub = call.hub()?;
    let wanted = read(&call, hub)?;
    if let Some(running) = running_to(&call.state, hub.id, &wanted.to) {
        return Ok(accepted(&call, hub, running));
    }
    let id = call.operation_id(
        &format!("forced failover {} to {}", hub.id, wanted.to),
        true,
    )?;
    if let Some(known) = call.state.operations.get(&id) {
        // It came twice, and the first one has ended meanwhile.
        return Ok(accepted(&call, hub, known));
    }
    let report = check(&call, hub, Some(wanted.accept)).await?;
    if let Some(refusal) = report.refusal() {
        return Err(refusal.into());
    }
    let Some(found) = report.loss else {
        return Err(Failure::internal(
            "The forced check passed without an estimate.",
        ));
    };
    let catalogue = call.api.backend.catalogue();
    let command = Command::StartForcedFailover {
        hub: hub.id,
        to: wanted.to.clone(),
        operation: id,
        reason: wanted.reason,
        excluded: catalogue
            .get(&hub.home)
            .is_some_and(|home| !home.manual_failover),
        accept: wanted.accept,
        shown: wanted.shown.unwrap_or(found),
    };
    match call.submit(command).await {
        Ok(Answer::Operation(op)) => Ok(accepted(&call, hub, &op)),
        Ok(other) => Err(unexpected(&other)),
        Err(failure) => {
            // Another request may have been faster, at this region or elsewhere.
            let state = call.api.backend.state();
            match running_to(&state, hub.id, &wanted.to) {
                Some(running) if failure.status == StatusCode::CONFLICT => {
                    Ok(accepted(&call, hub, running))
                }
                _ => Err(failure),
            }
        }
    }
}

/// The dry run of a forced failover; without `accept` the loss is told, not judged. A control plane that has just lost its
/// leader with the primary's region gets time for another one.
///
/// # Errors
/// 503 when the regions do not answer in time: nothing has happened.
pub async fn check(
    call: &Call,
    hub: &Hub,
    accept: Option<AcceptedLoss>,
) -> Result<CheckReport, Failure> {
    let until = Instant::now() + Duration::from_millis(limits::MANAGEMENT_LEADER_MS_MAX);
    loop {
        let report = check_once(call, hub, accept).await?;
        let leaderless = report.failed().any(|check| check.name == "control-leader");
        if !leaderless || Instant::now() >= until {
            return Ok(report);
        }
        tokio::time::sleep(LEADER_RETRY).await;
    }
}

async fn check_once(
    call: &Call,
    hub: &Hub,
    accept: Option<AcceptedLoss>,
) -> Result<CheckReport, Failure> {
    let most = Duration::from_millis(limits::FAILOVER_CHECK_MS_MAX.unsigned_abs());
    let checked = call.api.backend.check_forced(hub.id, accept);
    let checked = tokio::time::timeout(most, checked).await.map_err(|_| {
        Failure::unavailable("The checks did not end in time; nothing has been changed.")
    })?;
    Ok(checked?)
}

/// What a request asks for.
struct Wanted {
    to: RegionName,
    accept: AcceptedLoss,
    shown: Option<LossEstimate>,
    reason: String,
}

fn read(call: &Call, hub: &Hub) -> Result<Wanted, Failure> {
    let body = call.json()?;
    let mut mistakes = Mistakes::default();
    if body["forced"] != Value::Bool(true) {
        mistakes.add(
            "forced",
            "it must be true: a planned failover, which loses nothing, is started with POST …/failover",
        );
    }
    let accept = accept(&body, &mut mistakes);
    if accept.is_none()
        && mistakes
            .0
            .iter()
            .all(|mistake| !mistake.starts_with("acceptLoss"))
    {
        mistakes.add("acceptLoss", "it is missing: say what loss is accepted");
    }
    let shown_loss = match &body["shown"] {
        Value::Null => None,
        given => LossEstimate::deserialize(given)
            .map_err(|error| {
                mistakes.add("shown", format!("it is no estimate of a check: {error}"))
            })
            .ok(),
    };
    let reason = reason(&body, &mut mistakes);
    if !mistakes.0.is_empty() {
        return Err(Failure::bad("InvalidProperties", mistakes.0.join("; ")).details(&mistakes.0));
    }
    Ok(Wanted {
        to: target(call, hub, &body["to"])?,
        accept: accept.unwrap_or_default(),
        shown: shown_loss,
        reason,
    })
}

/// `acceptLoss` of a body: `{"span"}`, `{"records"}`, both, or `{"all": true}`; `None`: it is missing or a mistake was noted.
pub fn accept(body: &Value, mistakes: &mut Mistakes) -> Option<AcceptedLoss> {
    const PATH: &str = "acceptLoss";
    let fields = match &body[PATH] {
        Value::Null => return None,
        Value::Object(fields) => fields,
        _ => {
            mistakes.add(PATH, "an object is expected");
            return None;
        }
    };
    let before = mistakes.0.len();
    for name in fields.keys() {
        if !["span", "records", "all"].contains(&name.as_str()) {
            mistakes.add(
                &format!("{PATH}.{}", shown(name)),
                "it is not one of span, records, all",
            );
        }
    }
    let accept = AcceptedLoss {
        span_ms: span(fields, mistakes),
        records: whole(fields, "records", PATH, mistakes),
        all: all(fields, mistakes),
    };
    let bounded = accept.span_ms.is_some() || accept.records.is_some();
    if mistakes.0.len() == before && bounded == accept.all {
        mistakes.add(
            PATH,
            "either bounds (span, records) or all: true is expected",
        );
    }
    (mistakes.0.len() == before).then_some(accept)
}

fn span(fields: &Map<String, Value>, mistakes: &mut Mistakes) -> Option<i64> {
    let value = field(fields, "span")?;
    let millis = value.as_str().and_then(durations::parse);
    if millis.is_none() {
        mistakes.add(
            "acceptLoss.span",
            format!(
                "{} is not an ISO 8601 duration such as PT2S",
                shown(&value.to_string())
            ),
        );
    }
    millis
}

fn all(fields: &Map<String, Value>, mistakes: &mut Mistakes) -> bool {
    match field(fields, "all") {
        None => false,
        Some(Value::Bool(all)) => *all,
        Some(_) => {
            mistakes.add("acceptLoss.all", "true or false is expected");
            false
        }
    }
}

/// The region to fail over to; left out, it is the secondary.
fn target(call: &Call, hub: &Hub, given: &Value) -> Result<RegionName, Failure> {
    control::policy::has_pair(hub)?;
    let secondary = hub.secondary();
    let named = match given {
        Value::Null => secondary.cloned(),
        Value::String(name) => region_named(call, name),
        _ => None,
    };
    named.filter(|to| Some(to) == secondary).ok_or_else(|| {
        let secondary = secondary.map_or("none", RegionName::as_str);
        Failure::bad(
            "FailoverRegionMismatch",
            format!(
                "to: IotHub '{}' can only fail over to its secondary region '{secondary}', not to {}.",
                hub.name,
                shown(&given.to_string())
            ),
        )
    })
}

fn accepted(call: &Call, hub: &Hub, op: &Operation) -> Response {
    let mut response = answer::json(StatusCode::ACCEPTED, &body(hub, op, true));
    operations::point_to_both(call, op, &hub.home, &mut response);
    response
}

/// The forced failover to a region that runs on a hub now.
fn running_to<'a>(state: &'a State, hub: HubId, to: &RegionName) -> Option<&'a Operation> {
    let id = state.hub(hub)?.operation.as_ref()?;
    let op = state.operations.get(id)?;
    let switch = op.switch()?;
    (op.is_running() && switch.forced && switch.to == to).then_some(op)
}
