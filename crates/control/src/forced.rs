//! The commands of a forced failover that differ from a planned one's: its start, and the old primary's return.

use crate::apply::Call;
use crate::command::Answer;
use crate::details::OpenDetail;
use crate::divergence::{Divergence, LostRange, Return};
use crate::failovers::{Asked, short_reason};
use crate::loss::{AcceptedLoss, LossEstimate};
use crate::model::{Hub, Operation, OperationKind, OperationStatus, State, StepName};
use crate::operations::End;
use crate::policy;
use crate::refusal::{Refusal, RefusalCode};
use crate::report::{ReportFacts, report};
use serde::Deserialize;
use serde_json::Value;
use types::{HubId, RegionName, UnixMillis, limits};

impl State {
    /// Starts a forced failover, or refuses it; a repeated operation id gives the same operation back.
    pub(crate) fn start_forced(
        &mut self,
        call: Call<'_>,
        asked: Asked<'_>,
        accept: AcceptedLoss,
        shown: &LossEstimate,
    ) -> Result<Answer, Refusal> {
        if let Some(known) = self.known_failover(asked, true) {
            return Ok(known);
        }
        let hub = self.hub_or_refuse(asked.hub)?.clone();
        let stuck = forced_allowed(self, &hub, asked.to, &accept)?.cloned();
        covered(&accept, shown)?;
        self.fresh_operation(asked.operation)?;
        short_reason(asked.reason)?;
        self.approved(call, asked, true)?;
        let fenced = stuck
            .as_ref()
            .is_some_and(|op| op.may_have_fenced() && !op.is_committed());
        if let Some(op) = &stuck {
            self.take_over(call, &hub, op, asked.operation);
        }
        let kind = OperationKind::Forced {
            from: hub.primary.clone(),
            to: asked.to.clone(),
            epoch: hub.epoch,
            back: *asked.to == hub.home,
            accept,
            shown: shown.clone(),
            took_over: stuck.map(|op| op.id),
            fenced,
        };
        Ok(self.begin_failover(call, &hub, asked, kind))
    }

    /// Ends a failover that cannot go on without the lost primary, for the forced one that begins in the same entry.
    fn take_over(&mut self, call: Call<'_>, hub: &Hub, stuck: &Operation, by: &str) {
        let mut ended = stuck.clone();
        let why = format!("forced failover '{by}' took over");
        let error = ended
            .error
            .get_or_insert_with(|| ("TakenOver".into(), why))
            .clone();
        let facts = ReportFacts {
            at: call.at,
            devices: None,
        };
        let status = match (stuck.is_committed(), &stuck.cancel) {
            (true, _) => OperationStatus::Failed,
            (false, Some(_)) => OperationStatus::Cancelled,
            (false, None) => OperationStatus::RolledBack,
        };
        let end = End {
            status,
            report: &Some(report(&ended, hub, &facts)),
            error: &Some(error),
        };
        self.end(call.at, &stuck.id, end);
    }

    /// Records where the histories part; the oldest divergence gives way.
    pub(crate) fn record_divergence(&mut self, hub: &str, mut parted: Divergence) {
        self.edit_hub(hub, |hub| {
            let before = hub
                .divergences
                .iter()
                .rev()
                .find(|before| before.from == parted.to)
                .filter(|before| before.returned.is_none());
            if let Some(before) = before {
                common_end(&mut parted, before);
            }
            hub.divergences.push(parted);
            let surplus = hub
                .divergences
                .len()
                .saturating_sub(limits::DIVERGENCES_KEPT_MAX);
            hub.divergences.drain(..surplus);
        });
    }

    /// Records what the old primary alone had, in the hub and in the operation's report. Seen again, it changes nothing.
    pub(crate) fn returned(
        &mut self,
        call: Call<'_>,
        hub: HubId,
        operation: &str,
        region: &RegionName,
        partitions: &[LostRange],
    ) -> Result<Answer, Refusal> {
        let hub = self.hub_or_refuse(hub)?;
        let found = hub.divergences.iter().find(|d| d.operation == operation);
        let Some(divergence) = found else {
            let message = format!(
                "IotHub '{}' knows no divergence of operation '{}'.",
                hub.name,
                crate::naming::shown(operation)
            );
            return Err(Refusal::new(RefusalCode::OperationNotFound, message));
        };
        if divergence.returned.is_some() {
            return Ok(Answer::Done);
        }
        if divergence.from != *region {
            let message = format!(
                "Operation '{}' waits for the return of '{}', not of '{region}'.",
                divergence.operation, divergence.from
            );
            return Err(Refusal::new(RefusalCode::FailoverRegionMismatch, message));
        }
        let back = Return {
            at: call.at,
            region: region.clone(),
            partitions: sorted(partitions, hub.partition_count),
        };
        let target = hub.name.key();
        self.add_to_report(operation, &back);
        self.edit_hub(&target, |hub| {
            if let Some(parted) = hub
                .divergences
                .iter_mut()
                .find(|d| d.operation == operation)
            {
                parted.returned = Some(back);
            }
        });
        Ok(Answer::Done)
    }

    /// An operation that runs still gets its report later, from the hub; one that left the history has none.
    fn add_to_report(&mut self, operation: &str, back: &Return) {
        if let Some(report) = self
            .operations
            .get_mut(operation)
            .and_then(|op| op.report.as_mut())
        {
            crate::report::add_return(report, back);
        }
    }
}

/// Whether a forced failover of this hub to `to` may begin, as far as the record tells, and which stuck one it would take over.
///
/// # Errors
/// No pair, not the secondary, a hub that is being created or deleted, another operation on it, or a secondary that was itself
/// lost in a forced failover and has not returned: taking it gives up all that was written since, which only accepting
/// everything covers.
pub(crate) fn forced_allowed<'a>(
    state: &'a State,
    hub: &Hub,
    to: &RegionName,
    accept: &AcceptedLoss,
) -> Result<Option<&'a Operation>, Refusal> {
    policy::has_pair(hub)?;
    policy::is_secondary(hub, to)?;
    let stuck = operable(state, hub)?;
    match hub.away().filter(|_| !accept.all) {
        None => Ok(stuck),
        Some(away) => {
            let message = format!(
                "'{}' was lost in forced failover '{}' and has not returned: it lacks all that was written to IotHub '{}' since. Only accepting the loss of everything lets it take over.",
                away.from, away.operation, hub.name
            );
            Err(Refusal::new(RefusalCode::SecondaryNotReady, message))
        }
    }
}

/// The failover on this hub that a forced one would take over; `None`: the hub is Active.
///
/// # Errors
/// [`RefusalCode::HubNotActive`], naming the operation that runs on the hub and what is to be done about it.
pub(crate) fn operable<'a>(state: &'a State, hub: &Hub) -> Result<Option<&'a Operation>, Refusal> {
    let running = hub
        .operation
        .as_ref()
        .and_then(|id| state.operations.get(id));
    match running.filter(|op| op.switch().is_some()) {
        Some(op) if may_be_stuck(op) => Ok(Some(op)),
        Some(op) => Err(occupied(hub, op)),
        None => crate::lookup::active(hub).map(|()| None),
    }
}

/// A failover that may wait for a lost primary for ever: to release its fence on the way back, or to open after a planned
/// commit. A forced one that is committed is not taken over: its new primary may have acknowledged what no record tells.
fn may_be_stuck(op: &Operation) -> bool {
    if op.is_committed() {
        !op.is_forced()
    } else {
        op.cancel.is_some() || op.is_rolling_back()
    }
}

fn occupied(hub: &Hub, op: &Operation) -> Refusal {
    let advice = if op.can_cancel() {
        "cancel it first"
    } else {
        "it is past its point of no return and only goes forward"
    };
    let message = format!(
        "Operation '{}' runs on IotHub '{}': {advice}. Next: {}.",
        op.id,
        hub.name,
        op.legal_next()
    );
    Refusal::new(RefusalCode::HubNotActive, message)
}

/// # Errors
/// [`RefusalCode::LossExceedsAccepted`], saying what exceeds the bound.
pub(crate) fn covered(accept: &AcceptedLoss, shown: &LossEstimate) -> Result<(), Refusal> {
    accept
        .covers(shown)
        .map_err(|why| Refusal::new(RefusalCode::LossExceedsAccepted, capitalised(&why)))
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        None => String::new(),
    }
}

/// What the end of the open step of a forced failover says about where the histories part.
pub(crate) fn parted(
    op: &Operation,
    step: StepName,
    detail: &Value,
    at: UnixMillis,
) -> Option<Divergence> {
    let switch = op
        .switch()
        .filter(|switch| switch.forced && step == StepName::Open)?;
    // A detail that cannot be read still means that the new primary opened: the divergence is recorded without positions.
    let opened = OpenDetail::deserialize(detail)
        .map(|detail| detail.opened)
        .unwrap_or_default();
    Some(Divergence {
        epoch: switch.epoch.next(),
        from: switch.from.clone(),
        to: switch.to.clone(),
        at,
        operation: op.id.clone(),
        partitions: opened,
        returned: None,
    })
}

/// A region that had not returned leads again: what it has beyond the common end was never in the history that ends now, so
/// the two histories part where they parted before.
fn common_end(parted: &mut Divergence, before: &Divergence) {
    for position in &mut parted.partitions {
        let known = before
            .partitions
            .iter()
            .find(|known| known.partition == position.partition);
        if let Some(known) = known.filter(|known| known.lsn < position.lsn) {
            (position.lsn, position.next_sequence) = (known.lsn, known.next_sequence);
        }
    }
}

/// In partition order, each of the hub's partitions at most once.
fn sorted(partitions: &[LostRange], count: u16) -> Vec<LostRange> {
    let mut ranges: Vec<_> = partitions
        .iter()
        .filter(|range| range.partition.0 < count)
        .copied()
        .collect();
    ranges.sort_by_key(|range| range.partition);
    ranges.dedup_by_key(|range| range.partition);
    ranges
}

#[cfg(test)]
#[path = "forced_tests.rs"]
mod tests;
