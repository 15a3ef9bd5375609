//! What a running operation waits for, in a sentence for its operator.

use control::drill::{DrillAction, drill_next};
use control::failover::lease_wait_ms;
use control::iso::{iso8601, span};
use control::{Drill, Operation, State, StepName};
use types::{UnixMillis, limits};

/// What a failover waits for; `None`: it has ended.
pub fn of_failover(op: &Operation) -> Option<String> {
    let switch = op.switch().filter(|_| op.is_running())?;
    let (from, to) = (switch.from, switch.to);
    if op.is_rolling_back() {
        return Some(format!("{from} to serve again"));
    }
    if op.cancel.is_some() && !op.is_committed() {
        return Some("the roll-back that was asked for".into());
    }
    Some(match op.next_step() {
        Some(StepName::Check) if switch.forced => format!("what {to} knows"),
        Some(StepName::Check) => format!("what {from} and {to} know"),
        Some(StepName::Warm) => format!(
            "{to} to come within {} of {from}",
            span(limits::FAILOVER_WARM_LAG_MS)
        ),
        Some(StepName::Fence) => format!("{from} to stop acknowledging and name where it ended"),
        Some(StepName::CatchUp) => format!("{to} to have everything up to there"),
        Some(StepName::Lease) => format!(
            "the lease of {from} to lapse, {} at most, counted anew if the coordinator changes",
            span(lease_wait_ms())
        ),
        Some(StepName::Commit) => "a majority of the voters to record the new epoch".into(),
        Some(StepName::Open) => format!("{to} to acknowledge at the new epoch"),
        Some(StepName::Reverse) => format!("{from} to follow {to}"),
        Some(StepName::RollBack) | None => "its report".into(),
    })
}

/// What a drill waits for; `None`: it has ended.
pub fn of_drill(state: &State, drill: &Drill, now: UnixMillis) -> Option<String> {
    if !drill.is_running() {
        return None;
    }
    Some(match drill_next(state, drill, now) {
        DrillAction::StartForward => format!("the failover to {} to begin", drill.to),
        DrillAction::StartBack => format!("the failback to {} to begin", drill.from),
        DrillAction::End { .. } => "its report".into(),
        DrillAction::Wait => waiting(state, drill),
    })
}

fn waiting(state: &State, drill: &Drill) -> String {
    let legs = drill.legs.iter().flatten();
    let running = legs
        .filter_map(|id| state.operations.get(id))
        .find(|op| op.is_running());
    if let Some(op) = running {
        let step = op.next_step().map_or("report", StepName::name);
        let what = of_failover(op).unwrap_or_default();
        return format!("failover {} (step {step}): {what}", op.id);
    }
    let there = drill.legs[0]
        .as_ref()
        .and_then(|id| state.operations.get(id)?.ended);
    match there {
        Some(at) => format!("the hold to end at {}", iso8601(at.plus(drill.hold_ms))),
        None => "the coordinator".into(),
    }
}
