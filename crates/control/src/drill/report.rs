//! The report of a drill: both operations' reports, what was seen meanwhile, and what it proves (docs/formats/report.md).

use super::{Drill, samples};
use crate::drill::Sample;
use crate::iso::iso8601;
use crate::model::{Operation, OperationStatus, State};
use crate::report;
use serde_json::{Value, json};
use types::UnixMillis;

/// Composes the report of a drill that is about to end. `error` is what its end will say; `at`: when it is written.
pub fn report(
    state: &State,
    drill: &Drill,
    samples: &[Sample],
    error: Option<&(String, String)>,
    at: UnixMillis,
) -> Value {
    let legs = drill.legs.each_ref().map(|leg| {
        leg.as_ref()
            .and_then(|id| state.operations.get(id))
            .filter(|op| !op.is_running())
    });
    let reports = legs.map(|op| op.map_or(Value::Null, |op| leg_report(state, op)));
    let invariants = invariants(state, drill, legs, &reports);
    json!({
        "format": report::FORMAT,
        "kind": "drill",
        "drill": drill.id,
        "hub": state.hub(drill.hub).map_or(drill.target.as_str(), |hub| hub.name.as_str()),
        "outcome": if error.is_none() { "Succeeded" } else { "Failed" },
        "error": error.map(|(code, message)| json!({ "code": code, "message": message })),
        "from": drill.from,
        "to": drill.to,
        "by": drill.by,
        "reason": drill.reason,
        "started": iso8601(drill.started),
        "ended": iso8601(at),
        "durationMs": at.since(drill.started),
        "holdMs": drill.hold_ms,
        "measured": measured(&reports, samples),
        "invariants": invariants,
        "legs": reports,
        "samples": samples::rows(samples, drill.started),
    })
}

/// The operation's own report; one that ended without gets it now.
fn leg_report(state: &State, op: &Operation) -> Value {
    if let Some(report) = &op.report {
        return report.clone();
    }
    let facts = report::ReportFacts {
        at: op.ended.unwrap_or(state.time),
        devices: None,
    };
    op.hub
        .and_then(|hub| state.hub(hub))
        .map_or(Value::Null, |hub| report::report(op, hub, &facts))
}

fn measured(legs: &[Value; 2], samples: &[Sample]) -> Value {
    let [there, back] = legs;
    let lost: Vec<u64> = legs
        .iter()
        .filter_map(|leg| leg["lost"]["records"].as_u64())
        .collect();
    let longest = legs.iter().filter_map(|leg| leg["recoveryMs"].as_i64());
    json!({
        "recoveryMs": longest.max(),
        "lostRecords": (!lost.is_empty()).then(|| lost.iter().sum::<u64>()),
        "pauseThereMs": there["pauseMs"],
        "pauseBackMs": back["pauseMs"],
        "silentMs": samples::silent_ms(samples),
        "acknowledgedPerSMax": samples.iter().map(|s| samples::tenths(s.acknowledged_per_s)).reduce(f64::max),
        "lagMsMax": samples.iter().map(|s| s.lag_ms).max(),
        "connectedBefore": samples.first().map(|s| s.connected),
        "connectedMin": samples.iter().map(|s| s.connected).min(),
        "connectedAfter": samples.last().map(|s| s.connected),
    })
}

/// What must have held, with the evidence. `holds` is null for what it did not come to.
fn invariants(
    state: &State,
    drill: &Drill,
    legs: [Option<&Operation>; 2],
    reports: &[Value; 2],
) -> Vec<Value> {
    let mut found = Vec::new();
    for (way, (op, report)) in ["there", "back"].iter().zip(legs.iter().zip(reports)) {
        found.push(nothing_lost(way, report));
        found.push(next_epoch(way, *op, report));
    }
    let home = state.hub(drill.hub).map(|hub| hub.primary == drill.from);
    found.push(invariant(
        "the hub is where it was",
        home,
        state
            .hub(drill.hub)
            .map_or("the hub is gone".into(), |hub| {
                format!("its primary is {}", hub.primary)
            }),
    ));
    found
}

fn nothing_lost(way: &str, report: &Value) -> Value {
    let partitions = report["partitions"].as_array().filter(|p| !p.is_empty());
    let equal = partitions.map(|all| all.iter().filter(|p| p["equal"] == json!(true)).count());
    let detail = match (equal, partitions) {
        (Some(equal), Some(all)) => format!(
            "{equal} of {} partitions had the same end and digest in both regions",
            all.len()
        ),
        _ => "no handover was recorded".into(),
    };
    let holds = equal.zip(partitions).map(|(equal, all)| equal == all.len());
    invariant(&format!("nothing is lost on the way {way}"), holds, detail)
}

fn next_epoch(way: &str, op: Option<&Operation>, report: &Value) -> Value {
    let done = op.filter(|op| op.status == OperationStatus::Succeeded);
    let epochs = report["epochBefore"]
        .as_u64()
        .zip(report["epochAfter"].as_u64());
    let holds = done
        .and(epochs)
        .map(|(before, after)| after == before.saturating_add(1));
    let detail = match epochs {
        Some((before, after)) => format!("epoch {before} → {after}"),
        None => "it did not come to that".into(),
    };
    invariant(
        &format!("one new epoch with one primary on the way {way}"),
        holds,
        detail,
    )
}

fn invariant(name: &str, holds: Option<bool>, detail: String) -> Value {
    json!({ "name": name, "holds": holds, "detail": detail })
}
