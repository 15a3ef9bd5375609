//! The coordinator's brain: what to do next, derived from the recorded steps alone.
//!
//! So whoever leads the control plane can go on after a crash at any point, and every action may be repeated. The coordinator
//! asks, performs, records, asks again:
//!
//! | action | it performs | it records |
//! |---|---|---|
//! | `GatherFacts` | asks both regions, evaluates [`crate::checks::evaluate`] or [`crate::checks::evaluate_forced`] | `StepEnded check` with the [`crate::checks::CheckReport`] |
//! | `Warm` | waits until [`warm_enough`] | `StepEnded warm` with [`crate::details::WarmDetail`] |
//! | `Fence` | has the old primary stop, flush and write its handover records | `StepEnded fence` with [`crate::details::HandoverDetail`] |
//! | `CatchUp` | waits until the new primary has applied and synced them | `StepEnded catchup`, the same shape |
//! | `AwaitLease` | waits [`lease_wait_ms`] until the old primary can hold no lease | `StepEnded lease` with [`crate::details::LeaseDetail`] |
//! | `Commit` | nothing | `CommitFailover` with [`crate::details::CommitDetail`] |
//! | `Open` | has the new primary acknowledge | `StepEnded open` with [`crate::details::OpenDetail`] |
//! | `Reverse` | has the old primary follow | `StepEnded reverse` with [`crate::details::ReverseDetail`] |
//! | `RollBack` | nothing | `RollBack` |
//! | `Unfence` | has the old primary serve again at its epoch | `StepEnded rollback` with [`crate::details::UnfenceDetail`] |
//! | `Finish` | builds [`crate::report::report`] | `Finish` with it |
//!
//! A planned failover takes [`StepName::PLANNED`], a forced one [`StepName::FORCED`]: it neither warms nor fences, it waits until
//! the old primary's lease has lapsed, and it ends when the new primary is open. Going back needs no `Unfence` then: the old
//! primary is suspended by the record itself ([`suspended`]), and no more so once the record says that it goes back. Only one that
//! took over a planned failover may have its fence to release.
//!
//! Before it performs an action for which [`Action::needs_start`] is true it records `StepStarted`.

use crate::checks::CheckReport;
use crate::details::{LeaseDetail, check_outcome, handover_agrees, read};
use crate::model::{Hub, Operation, State, StepName};
use crate::refusal::RefusalCode;
use types::{Epoch, HubId, UnixMillis, limits};

/// What the coordinator does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    GatherFacts,
    Warm,
    Fence,
    CatchUp,
    AwaitLease,
    Commit,
    Open,
    Reverse,
    Unfence,
    /// `error` goes into the `Finish` command as it is.
    Finish {
        error: Option<(String, String)>,
    },
    RollBack {
        code: String,
        why: String,
    },
    /// Nothing to do for this operation.
    Wait {
        why: String,
    },
}

/// How long the steps before the point of no return may take, in milliseconds. After it there is no limit: it only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    pub check_ms_max: i64,
    pub warm_ms_max: i64,
    /// From the start of the fence step; then it is rolled back unless it is committed.
    pub pause_ceiling_ms: i64,
}

impl Default for Timings {
    fn default() -> Self {
        Timings {
            check_ms_max: limits::FAILOVER_CHECK_MS_MAX,
            warm_ms_max: limits::FAILOVER_WARM_MS_MAX,
            pause_ceiling_ms: limits::FAILOVER_PAUSE_CEILING_MS,
        }
    }
}

impl Action {
    /// The step this action belongs to.
    pub fn step(&self) -> Option<StepName> {
        match self {
            Action::GatherFacts => Some(StepName::Check),
            Action::Warm => Some(StepName::Warm),
            Action::Fence => Some(StepName::Fence),
            Action::CatchUp => Some(StepName::CatchUp),
            Action::AwaitLease => Some(StepName::Lease),
            Action::Commit => Some(StepName::Commit),
            Action::Open => Some(StepName::Open),
            Action::Reverse => Some(StepName::Reverse),
            Action::Unfence => Some(StepName::RollBack),
            Action::Finish { .. } | Action::RollBack { .. } | Action::Wait { .. } => None,
        }
    }

    /// True if `StepStarted` must be recorded before this is performed. Steps inside the pause begin where the former ended,
    /// which saves a round of the consensus each.
    pub fn needs_start(&self, operation: &Operation) -> bool {
        let early = matches!(
            self,
            Action::GatherFacts | Action::Warm | Action::Fence | Action::AwaitLease
        );
        early && self.step().is_some_and(|step| !operation.has_started(step))
    }
}

/// Derives the next action of a failover from its recorded steps.
///
/// `now` is the caller's clock, or [`State::time`] if that is later. Given the same record it answers the same, so a step that
/// began and did not end is performed again.
pub fn next_action(
    operation: &Operation,
    hub: &Hub,
    now: UnixMillis,
    settings: &Timings,
) -> Action {
    if !operation.is_running() || operation.switch().is_none() {
        return Action::Wait {
            why: operation.legal_next(),
        };
    }
    if hub.operation.as_ref() != Some(&operation.id) {
        return Action::Wait {
            why: format!("IotHub '{}' is not in this operation", hub.name),
        };
    }
    if operation.is_rolling_back() {
        return way_back(operation);
    }
    if operation.is_committed() {
        return way_forward(operation);
    }
    if let Some((code, why)) = reason_to_go_back(operation, hub, now, settings) {
        return Action::RollBack {
            code: code.into(),
            why,
        };
    }
    match operation.next_step() {
        Some(StepName::Check) => Action::GatherFacts,
        Some(StepName::Warm) => Action::Warm,
        Some(StepName::Fence) => Action::Fence,
        Some(StepName::CatchUp) => Action::CatchUp,
        Some(StepName::Lease) => Action::AwaitLease,
        Some(StepName::Commit) => Action::Commit,
        // Not reached: these come after the commit. Going on is what is right there.
        Some(StepName::Open | StepName::Reverse | StepName::RollBack) | None => {
            way_forward(operation)
        }
    }
}

fn way_back(operation: &Operation) -> Action {
    if operation.may_have_fenced() && !operation.has_ended(StepName::RollBack) {
        return Action::Unfence;
    }
    Action::Finish {
        error: operation.error.clone(),
    }
}

fn way_forward(operation: &Operation) -> Action {
    match operation.next_step() {
        Some(StepName::Reverse) => Action::Reverse,
        Some(_) => Action::Open,
        None => Action::Finish { error: None },
    }
}

fn reason_to_go_back(
    operation: &Operation,
    hub: &Hub,
    now: UnixMillis,
    settings: &Timings,
) -> Option<(&'static str, String)> {
    if let Some(by) = &operation.cancel {
        return Some(("Cancelled", format!("cancelled by {by}")));
    }
    let begun = |step: StepName| operation.step(step).map(|step| step.started);
    if let Some(fence) = begun(StepName::Fence)
        && now.since(fence) >= settings.pause_ceiling_ms
    {
        let why = format!(
            "the hub was paused for {} ms without being ready to open in the other region; the ceiling is {} ms",
            now.since(fence),
            settings.pause_ceiling_ms
        );
        return Some(("PauseCeilingReached", why));
    }
    let late = |step: StepName, allowed: i64| {
        let since = begun(step).unwrap_or(operation.started);
        !operation.has_ended(step) && now.since(since) >= allowed
    };
    if late(StepName::Check, settings.check_ms_max) {
        return Some((
            "ChecksTimedOut",
            format!("the checks did not end within {} ms", settings.check_ms_max),
        ));
    }
    if operation.has_ended(StepName::Check) {
        if let Err(why) = check_outcome(operation) {
            return Some((check_code(operation), why));
        }
        if begun(StepName::Warm).is_some() && late(StepName::Warm, settings.warm_ms_max) {
            let why = format!(
                "the secondary did not come close enough within {} ms",
                settings.warm_ms_max
            );
            return Some(("WarmTimedOut", why));
        }
    }
    if operation.has_ended(StepName::Lease)
        && read::<LeaseDetail>(operation, StepName::Lease).is_none()
    {
        let why = "the lease step recorded no readable wait".to_owned();
        return Some(("LeaseNotAwaited", why));
    }
    if operation.has_ended(StepName::CatchUp)
        && let Err(why) = handover_agrees(operation, hub.partition_count)
    {
        return Some(("HandoverMismatch", why));
    }
    None
}

/// The code under which a failover is rolled back whose checks failed.
fn check_code(operation: &Operation) -> &'static str {
    let report = read::<CheckReport>(operation, StepName::Check);
    match report.map(|report| report.code()) {
        Some(RefusalCode::PrimaryIsHealthy) => "PrimaryIsHealthy",
        Some(RefusalCode::LossExceedsAccepted) => "LossExceedsAccepted",
        Some(RefusalCode::SecondaryNotReady) => "SecondaryNotReady",
        _ => "FailoverChecksFailed",
    }
}

/// True when the secondary is close enough for the fence. A confirmation cannot be younger than a round trip, so that is
/// allowed on top of the bound.
pub fn warm_enough(lag_records: u64, lag_ms: i64, rtt_ms: i64) -> bool {
    lag_records == 0 || lag_ms < limits::FAILOVER_WARM_LAG_MS.saturating_add(rtt_ms.max(0))
}

/// Tells a region whether the fence it keeps of `hub` from operation `operation` at `epoch` still stands. It does not once the
/// operation was rolled back; a region asks before it obeys a fence that comes late, and again when it starts.
///
/// Safe on a copy of the state that is behind: a roll-back is final, and an operation that is unknown leaves the fence standing.
pub fn fence_stands(state: &State, hub: HubId, operation: &str, epoch: Epoch) -> bool {
    match state
        .operations
        .get(operation)
        .filter(|op| op.hub == Some(hub))
    {
        Some(op) if op.switch().is_some_and(|switch| switch.epoch == epoch) => {
            op.is_committed() || (op.is_running() && !op.is_rolling_back())
        }
        Some(_) | None => true,
    }
}

/// How long a coordinator waits before it commits a forced failover, in milliseconds of its own monotonic clock: from the moment
/// its own copy of the control plane has the start of the lease step. A lease granted before that has lapsed then, even if the
/// holder's clock is slower by the part that is allowed. A new coordinator waits the whole time again.
pub const fn lease_wait_ms() -> i64 {
    (limits::LEASE_MS + limits::LEASE_MS / limits::LEASE_CLOCK_RATE_PARTS) as i64
}

/// Whether the hub's primary leads by a forced failover whose opening is not recorded yet: the other region is lost.
pub fn opens_alone(state: &State, hub: &Hub) -> bool {
    running_forced(state, hub).is_some_and(Operation::is_committed)
}

/// The last epoch of the hub that began by force, also while its opening is not recorded yet; 0: none did.
pub fn last_forced(state: &State, hub: &Hub) -> Epoch {
    let recorded = hub
        .divergences
        .last()
        .map_or(Epoch(0), |parted| parted.epoch);
    match opens_alone(state, hub) {
        true => recorded.max(hub.epoch),
        false => recorded,
    }
}

fn running_forced<'a>(state: &'a State, hub: &Hub) -> Option<&'a Operation> {
    let id = hub.operation.as_ref()?;
    let op = state.operations.get(id)?;
    (op.is_running() && op.is_forced()).then_some(op)
}

/// Whether the primary of this hub must acknowledge nothing: a forced failover waits for its lease to lapse, so it may be
/// superseded at any moment. True from the start of the lease step on, until the operation is committed (the role changes
/// then) or goes back.
pub fn suspended(state: &State, hub: &Hub) -> bool {
    let running = hub
        .operation
        .as_ref()
        .and_then(|id| state.operations.get(id))
        .filter(|op| op.is_running() && op.is_forced());
    running.is_some_and(|op| {
        op.has_started(StepName::Lease)
            && !op.is_committed()
            && !op.is_rolling_back()
            && op.cancel.is_none()
    })
}

#[cfg(test)]
#[path = "failover_tests.rs"]
mod tests;
