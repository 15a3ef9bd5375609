//! The report of a failover, written when it ends (docs/formats/report.md).

mod forced;

pub use forced::add_return;

use crate::checks::CheckReport;
use crate::details::{CommitDetail, HandoverDetail, OpenDetail, WarmDetail, read};
use crate::iso::iso8601;
use crate::model::{Hub, Operation, StepName};
use serde_json::{Value, json};
use types::UnixMillis;

/// The shape of the report; raised when a reader of the former one would go wrong.
pub const FORMAT: u32 = 1;

/// What the report says beyond the recorded steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportFacts {
    /// When the report is written.
    pub at: UnixMillis,
    /// Devices registered in the hub; `None`: not known.
    pub devices: Option<u64>,
}

/// Builds the report of a failover that is about to end. What was not recorded is `null`.
pub fn report(operation: &Operation, hub: &Hub, extra: &ReportFacts) -> Value {
    let switch = operation.switch();
    let committed = operation.is_committed();
    let before = switch.map(|s| s.epoch);
    let warm = read::<WarmDetail>(operation, StepName::Warm);
    let open = read::<OpenDetail>(operation, StepName::Open).unwrap_or_default();
    let commit = read::<CommitDetail>(operation, StepName::Commit);
    let mut report = json!({
        "format": FORMAT,
        "operation": operation.id,
        "hub": hub.name,
        "kind": if switch.is_some_and(|s| s.back) { "failback" } else { "failover" },
        "planned": !operation.is_forced(),
        "outcome": outcome(operation),
        "from": switch.map(|s| s.from),
        "to": switch.map(|s| s.to),
        "epochBefore": before,
        "epochAfter": if committed { commit.map(|c| c.epoch).or(before.map(|e| e.next())) } else { before },
        "by": operation.by,
        "reason": operation.reason,
        "cancelledBy": operation.cancel,
        "error": operation.error.as_ref().map(|(code, message)| json!({ "code": code, "message": message })),
        "started": iso8601(operation.started),
        "ended": iso8601(extra.at),
        "durationMs": extra.at.since(operation.started),
        "pauseMs": pause_ms(operation, extra.at),
        "recoveryMs": recovery_ms(operation),
        "lagBefore": warm.map(|w| json!({ "records": w.lag_records, "ms": w.lag_ms })),
        "devices": extra.devices,
        "socketsBefore": open.sockets_before,
        "socketsKept": open.sockets_kept,
        "requestsParked": committed.then_some(open.requests_parked),
        "steps": steps(operation),
        "partitions": partitions(operation),
        "checks": checks(operation),
    });
    if let Some(fields) = report.as_object_mut() {
        forced::add(fields, operation, hub);
    }
    report
}

/// The recovery time: from the operator's word to the opening in the other region. A planned failover keeps serving until the
/// fence, so its pause counts.
fn recovery_ms(operation: &Operation) -> Option<i64> {
    if !operation.is_forced() {
        return operation.is_committed().then(|| operation.pause_ms())?;
    }
    let opened = operation.step(StepName::Open)?.ended?;
    Some(opened.since(operation.started))
}

/// The pause; when a roll-back ends without a recorded end of its own, until the report.
fn pause_ms(operation: &Operation, at: UnixMillis) -> Option<i64> {
    let begun = operation.step(operation.pausing_step())?;
    Some(
        operation
            .pause_ms()
            .unwrap_or_else(|| at.since(begun.started)),
    )
}

fn outcome(operation: &Operation) -> &'static str {
    match (operation.is_committed(), &operation.cancel) {
        // Another failover took it over on its way.
        (true, _) if operation.error.is_some() => "Failed",
        (true, _) => "Succeeded",
        (false, Some(_)) => "Cancelled",
        (false, None) => "RolledBack",
    }
}

/// Number, times and details of each step; those of the check step stand under `checks`.
fn steps(operation: &Operation) -> Vec<Value> {
    let number = |name: StepName| {
        operation
            .plan()
            .iter()
            .position(|step| *step == name)
            .map(|at| at + 1)
    };
    let step = |step: &crate::model::Step| {
        json!({
            "number": number(step.name),
            "name": step.name.name(),
            "started": iso8601(step.started),
            "ended": step.ended.map(iso8601),
            "ms": step.ended.map(|ended| ended.since(step.started)),
            "detail": if step.name == StepName::Check { &Value::Null } else { &step.detail },
        })
    };
    operation.steps.iter().map(step).collect()
}

fn partitions(operation: &Operation) -> Vec<Value> {
    let fenced = read::<HandoverDetail>(operation, StepName::Fence).unwrap_or_default();
    let reached = read::<HandoverDetail>(operation, StepName::CatchUp).unwrap_or_default();
    fenced
        .partitions
        .iter()
        .map(|old| {
            let new = reached
                .partitions
                .iter()
                .find(|h| h.partition == old.partition);
            json!({
                "partition": old.partition,
                "end": old.end,
                "digestBefore": old.digest,
                "digestAfter": new.map(|h| &h.digest),
                "equal": new.map(|h| h == old),
            })
        })
        .collect()
}

fn checks(operation: &Operation) -> Value {
    match read::<CheckReport>(operation, StepName::Check) {
        Some(found) => json!({
            "ready": found.ready,
            "expectedPauseMs": found.expected_pause_ms,
            "results": found.results,
        }),
        None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn the_report_of_a_success_says_who_what_how_long_and_that_nothing_was_lost() {
        let mut state = active_hub();
        switch(&mut state, "op", "east", 10_000);
        let op = &state.operations["op"];
        let report = op.report.as_ref().unwrap();
        for (field, value) in [
            ("format", json!(1)),
            ("operation", json!("op")),
            ("kind", json!("failover")),
            ("outcome", json!("Succeeded")),
            ("from", json!("west")),
            ("to", json!("east")),
            ("epochBefore", json!(1)),
            ("epochAfter", json!(2)),
            ("by", json!("tester")),
            ("error", Value::Null),
            ("started", json!("1970-01-01T00:00:10.000Z")),
            ("devices", json!(12)),
            ("lost", json!({"records": 0, "exact": true})),
            ("planned", json!(true)),
            ("lagBefore", json!({"records": 3, "ms": 20})),
            ("socketsKept", json!(5)),
        ] {
            assert_eq!(report[field], value, "{field}");
        }
        assert_eq!(report["pauseMs"], json!(op.pause_ms().unwrap()));
        assert_eq!(report["steps"].as_array().unwrap().len(), 7);
        assert_eq!(report["steps"][2]["name"], "fence");
        assert_eq!(report["steps"][2]["number"], 3);
        let partitions = report["partitions"].as_array().unwrap();
        assert_eq!(partitions.len(), 4);
        assert!(partitions.iter().all(|p| p["equal"] == json!(true)));
        assert_eq!(report["checks"]["ready"], json!(true));
    }

    #[test]
    fn the_report_of_a_roll_back_names_the_reason_and_keeps_the_epoch() {
        let mut state = active_hub();
        state.apply(&request("", 10_000, start_failover(1, "east", "op")));
        advance(&mut state, "op", 10_001, crate::StepName::Fence);
        state.apply(&request("", 10_500, roll_back("op")));
        let fenced = state.operations["op"]
            .step(StepName::Fence)
            .unwrap()
            .started;
        let facts = ReportFacts {
            at: fenced.plus(1_000),
            devices: None,
        };
        let report = report(
            &state.operations["op"],
            state.hub_named("hub-one").unwrap(),
            &facts,
        );
        assert_eq!(report["outcome"], "RolledBack");
        assert_eq!(report["epochAfter"], report["epochBefore"]);
        assert_eq!(report["error"]["code"], "Test");
        assert_eq!(report["pauseMs"], json!(1_000));
        assert_eq!(report["requestsParked"], Value::Null);
        assert_eq!(report["partitions"][0]["equal"], Value::Null);
    }
}
