//! Drills: a failover and a failback on purpose, with a report (docs/formats/failovers-api.md).

use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::failure::{Failure, shown};
use crate::fields::{Mistakes, reason};
use crate::{failover_body, reports, waits};
use axum::http::StatusCode;
use control::iso::iso8601;
use control::{Answer, Command, Drill, DrillStatus, Hub, State};
use serde_json::{Value, json};
use types::limits;

const TYPE: &str = "Castling.Failover/drills";

/// Starts a drill: 202. While one runs on the hub, that one is the answer.
pub async fn start(call: Call) -> Outcome {
    let hub = call.hub()?;
    let (hold_ms, reason) = read(&call.json_or_empty()?)?;
    if let Some(running) = call.state.running_drill(hub.id) {
        return Ok(accepted(&call, hub, running));
    }
    let id = call.operation_id(&format!("drill {}", hub.id), true)?;
    if let Some(known) = call.state.drills.get(&id) {
        // It came twice, and the first one has ended meanwhile.
        return Ok(accepted(&call, hub, known));
    }
    let command = Command::StartDrill {
        hub: hub.id,
        drill: id,
        reason,
        hold_ms,
    };
    match call.submit(command).await {
        Ok(Answer::Drill(drill)) => Ok(accepted(&call, hub, &drill)),
        Ok(other) => Err(unexpected(&other)),
        Err(failure) => match call.api.backend.state().running_drill(hub.id) {
            // Another request was faster, at this region or elsewhere.
            Some(running) if failure.code == "DrillRunning" => Ok(accepted(&call, hub, running)),
            _ => Err(failure),
        },
    }
}

/// The hub's drills, the latest first.
pub fn list(call: &Call) -> Outcome {
    let hub = call.hub()?;
    let drills = call.state.drills_of(hub.id).into_iter();
    answer::list(drills.map(|one| body(call, hub, one, false)).collect())
}

/// One drill with its legs.
pub fn get(call: &Call) -> Outcome {
    let (hub, drill) = find(call)?;
    answer::ok(&body(call, hub, drill, true))
}

/// The report as it was written when the drill ended (docs/formats/report.md); as a page for those who ask for HTML.
pub fn report(call: &Call) -> Outcome {
    let (_, drill) = find(call)?;
    match &drill.report {
        Some(report) => Ok(reports::answer(call, report)),
        None if drill.is_running() => {
            let waits = waits::of_drill(&call.state, drill, call.now).unwrap_or_default();
            Err(Failure::conflict(
                "DrillRunning",
                format!(
                    "The report of drill '{}' is written when it ends. It waits for {waits}.",
                    drill.id
                ),
            ))
        }
        None => Err(Failure::not_found(
            "ReportNotFound",
            format!("Drill '{}' ended without a report.", drill.id),
        )),
    }
}

/// Seconds to hold, as milliseconds, and the reason.
fn read(body: &Value) -> Result<(i64, String), Failure> {
    let mut mistakes = Mistakes::default();
    let most = limits::DRILL_HOLD_MS_MAX;
    let hold_ms = match &body["holdSeconds"] {
        Value::Null => limits::DRILL_HOLD_MS_DEFAULT,
        given => match given.as_f64().map(|seconds| (seconds * 1000.0).round()) {
            // In range, so nothing is cut off.
            Some(millis) if (0.0..=most as f64).contains(&millis) => millis as i64,
            _ => {
                let why = format!(
                    "{} is not a number of seconds from 0 to {}",
                    shown(&given.to_string()),
                    most / 1000
                );
                mistakes.add("holdSeconds", why);
                0
            }
        },
    };
    let reason = reason(body, &mut mistakes);
    match mistakes.0.is_empty() {
        true => Ok((hold_ms, reason)),
        false => Err(Failure::bad("InvalidProperties", mistakes.0.join("; ")).details(&mistakes.0)),
    }
}

fn find(call: &Call) -> Result<(&Hub, &Drill), Failure> {
    let hub = call.hub()?;
    let id = call.param("drill");
    let drill = call
        .state
        .drills
        .get(id)
        .filter(|drill| drill.hub == hub.id);
    let drill = drill.ok_or_else(|| {
        Failure::not_found(
            "DrillNotFound",
            format!(
                "IotHub '{}' has no drill '{}' in its history.",
                hub.name,
                shown(id)
            ),
        )
    })?;
    Ok((hub, drill))
}

fn accepted(call: &Call, hub: &Hub, drill: &Drill) -> axum::response::Response {
    let mut response = answer::json(StatusCode::ACCEPTED, &body(call, hub, drill, true));
    let address = format!("https://{}{}", call.host, path(hub, drill));
    answer::set(&mut response, axum::http::header::LOCATION, &address);
    response
}

fn path(hub: &Hub, drill: &Drill) -> String {
    format!("{}/providers/{TYPE}/{}", hub.path(), drill.id)
}

fn body(call: &Call, hub: &Hub, drill: &Drill, whole: bool) -> Value {
    let mut properties = json!({
        "status": match drill.status {
            DrillStatus::Running => "Running",
            DrillStatus::Succeeded => "Succeeded",
            DrillStatus::Failed => "Failed",
        },
        "from": drill.from,
        "to": drill.to,
        "holdSeconds": drill.hold_ms as f64 / 1000.0,
        "by": drill.by,
        "reason": drill.reason,
        "started": iso8601(drill.started),
        "ended": drill.ended.map(iso8601),
        "durationMs": drill.ended.map(|ended| ended.since(drill.started)),
        "waitsFor": waits::of_drill(&call.state, drill, call.now),
        "legalNext": legal_next(&call.state, drill),
        "error": drill.error.as_ref().map(|(code, message)| json!({ "code": code, "message": message })),
        "hasReport": drill.report.is_some(),
        "legs": legs(&call.state, drill),
    });
    if whole {
        properties["report"] = drill.report.clone().unwrap_or_default();
    }
    json!({
        "id": path(hub, drill),
        "name": drill.id,
        "type": TYPE,
        "properties": properties,
    })
}

/// The failover and the failback as far as they began; what left the history is named without figures.
fn legs(state: &State, drill: &Drill) -> Value {
    let leg = |(kind, id): (&str, &Option<String>)| {
        let op = id.as_ref().and_then(|id| state.operations.get(id));
        json!({
            "kind": kind,
            "failover": id,
            "status": op.map(|op| failover_body::status(op.status)),
            "started": op.map(|op| iso8601(op.started)),
            "ended": op.and_then(|op| op.ended).map(iso8601),
            "pauseMs": op.and_then(control::Operation::pause_ms),
        })
    };
    ["failover", "failback"]
        .into_iter()
        .zip(&drill.legs)
        .map(leg)
        .collect()
}

fn legal_next(state: &State, drill: &Drill) -> String {
    if !drill.is_running() {
        return "none: the drill has ended".into();
    }
    let mut legs = drill.legs.iter().flatten();
    let running = legs.find_map(|id| state.operations.get(id).filter(|op| op.is_running()));
    match running {
        Some(op) => format!("of failover {}: {}", op.id, op.legal_next()),
        None => "wait: the coordinator goes on with it".into(),
    }
}
