//! A drill: a planned failover, a while in the other region, a planned failback. The coordinator drives it; what is to be done
//! next follows from the record alone, so a coordinator that takes over goes on with it.

mod report;
mod samples;

pub use report::report;
pub use samples::attach;

use crate::model::{Operation, OperationStatus, State};
use serde::{Deserialize, Serialize};
use types::{HubId, RegionName, UnixMillis};

/// One drill, with the operations that are its legs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    pub id: String,
    pub hub: HubId,
    /// Lower-case hub name.
    pub target: String,
    pub from: RegionName,
    pub to: RegionName,
    pub started: UnixMillis,
    pub ended: Option<UnixMillis>,
    pub by: String,
    pub reason: String,
    /// How long it stays in the other region, in milliseconds.
    pub hold_ms: i64,
    /// Operations there and back.
    pub legs: [Option<String>; 2],
    pub status: DrillStatus,
    /// Why it did not succeed: (code, text).
    pub error: Option<(String, String)>,
    pub report: Option<serde_json::Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrillStatus {
    Running,
    Succeeded,
    Failed,
}

/// What the coordinator does next for a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrillAction {
    /// Submit `StartFailover` to [`Drill::to`] with operation [`Drill::leg_id`] 0. If it is refused, end the drill with that.
    StartForward,
    /// Nothing yet.
    Wait,
    /// Submit `StartFailover` to [`Drill::from`] with operation [`Drill::leg_id`] 1. If it is refused, end the drill with that.
    StartBack,
    /// Submit `EndDrill` with the report; `error` goes into it as it is.
    End { error: Option<(String, String)> },
}

impl Drill {
    pub fn is_running(&self) -> bool {
        self.status == DrillStatus::Running
    }

    /// The operation id of a leg, 0 there and 1 back: the same whoever drives the drill, so it is started once.
    pub fn leg_id(&self, leg: usize) -> String {
        let way = if leg == 0 { "there" } else { "back" };
        format!("{}-{way}", self.id)
    }
}

/// Derives what is next from the record. `now` is the caller's clock, or [`State::time`] if that is later.
pub fn drill_next(state: &State, drill: &Drill, now: UnixMillis) -> DrillAction {
    if !drill.is_running() {
        return DrillAction::Wait;
    }
    let Some(hub) = state.hub(drill.hub) else {
        return end("ResourceNotFound", "the hub was deleted during the drill");
    };
    let [forward, back] = &drill.legs;
    let Some(forward) = forward else {
        return DrillAction::StartForward;
    };
    let there = match leg(state, forward) {
        Leg::Runs => return DrillAction::Wait,
        Leg::Failed(code, why) => {
            return end(&code, format!("the failover did not succeed: {why}"));
        }
        Leg::Done(at) => at,
    };
    if let Some(back) = back {
        return match leg(state, back) {
            Leg::Runs => DrillAction::Wait,
            Leg::Failed(code, why) => end(
                &code,
                format!(
                    "the failback did not succeed: {why}; the hub stays in {}",
                    drill.to
                ),
            ),
            Leg::Done(_) => DrillAction::End { error: None },
        };
    }
    if hub.primary != drill.to {
        return end(
            "DrillInterrupted",
            format!(
                "another operation has moved the hub to {} meanwhile",
                hub.primary
            ),
        );
    }
    let held = now.since(there) >= drill.hold_ms;
    if held && hub.operation.is_none() {
        DrillAction::StartBack
    } else {
        DrillAction::Wait
    }
}

enum Leg {
    Runs,
    Done(UnixMillis),
    Failed(String, String),
}

fn leg(state: &State, id: &str) -> Leg {
    let Some(op) = state.operations.get(id) else {
        return Leg::Failed(
            "OperationNotFound".into(),
            format!("operation '{id}' is not in the history any more"),
        );
    };
    match (op.status, op.ended) {
        (OperationStatus::Running, _) => Leg::Runs,
        (OperationStatus::Succeeded, Some(at)) => Leg::Done(at),
        _ => {
            let (code, why) = failure(op);
            Leg::Failed(code, why)
        }
    }
}

fn failure(op: &Operation) -> (String, String) {
    op.error
        .clone()
        .unwrap_or_else(|| (format!("{:?}", op.status), "no reason was recorded".into()))
}

fn end(code: &str, why: impl Into<String>) -> DrillAction {
    DrillAction::End {
        error: Some((code.into(), why.into())),
    }
}

/// What was seen at one instant of a drill, or of any failover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub at: UnixMillis,
    /// Telemetry acknowledged to devices, events per second.
    pub acknowledged_per_s: f64,
    pub lag_records: u64,
    pub lag_ms: i64,
    /// Devices connected in both regions.
    pub connected: u64,
}
