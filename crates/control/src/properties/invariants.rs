//! What must hold after every request.

use crate::drill::DrillStatus;
use crate::failover::{Action, Timings, next_action, suspended};
use crate::model::*;
use std::collections::BTreeSet;
use types::limits;

pub(super) fn check_hub(state: &State, key: &str, hub: &Hub) {
    assert_eq!(*key, hub.name.key());
    assert!(hub.primary == hub.home || Some(&hub.primary) == hub.partner.as_ref());
    assert!(
        state
            .group(&hub.subscription, &hub.resource_group)
            .is_some(),
        "a hub without a group"
    );
    let running: Vec<_> = state
        .running_operations()
        .filter(|op| op.hub == Some(hub.id))
        .collect();
    assert!(
        running.len() <= 1,
        "two operations run on one hub: {running:?}"
    );
    assert_eq!(hub.operation.as_ref(), running.first().map(|op| &op.id));
    let expected = match running.first().map(|op| &op.kind) {
        Some(OperationKind::CreateHub) => HubState::Activating,
        Some(OperationKind::DeleteHub) => HubState::Deleting,
        Some(OperationKind::Failover { .. } | OperationKind::Forced { .. }) => {
            HubState::FailingOver
        }
        Some(other) => panic!("{other:?} runs on a hub"),
        None if hub.state == HubState::Deleting => HubState::Deleting,
        None => HubState::Active,
    };
    assert_eq!(hub.state, expected);
    check_divergences(hub);
    let forced = running.first().filter(|op| op.is_forced());
    assert!(!suspended(state, hub) || forced.is_some());
}

fn check_divergences(hub: &Hub) {
    assert!(hub.divergences.len() <= limits::DIVERGENCES_KEPT_MAX);
    for pair in hub.divergences.windows(2) {
        assert!(pair[0].epoch < pair[1].epoch, "{:?}", hub.divergences);
        assert_ne!(pair[0].operation, pair[1].operation);
    }
    for parted in &hub.divergences {
        assert!(parted.epoch <= hub.epoch && parted.from != parted.to);
    }
    if let Some(away) = hub.away() {
        assert_ne!(away.from, hub.primary, "the region that is away leads");
    }
}

pub(super) fn check_operation(state: &State, op: &Operation) {
    assert_eq!(op.is_running(), op.ended.is_none());
    assert!(!op.legal_next().is_empty());
    assert_eq!(op.legal_next().starts_with("none"), !op.is_running());
    let names: BTreeSet<_> = op.steps.iter().map(|step| step.name).collect();
    assert_eq!(names.len(), op.steps.len(), "a step stands twice");
    assert!(
        !(op.is_committed() && op.is_rolling_back()),
        "committed and rolled back"
    );
    if op.is_committed() && op.is_forced() {
        assert!(op.has_ended(StepName::Lease), "committed under a lease");
    }
    let taken: Vec<_> = op
        .steps
        .iter()
        .map(|s| s.name)
        .filter(|name| *name != StepName::RollBack)
        .collect();
    assert_eq!(taken, op.plan()[..taken.len()], "steps are out of order");
    for pair in op.steps.windows(2) {
        let skipped = pair[1].name == StepName::RollBack;
        assert!(
            skipped || pair[0].ended.is_some_and(|ended| ended <= pair[1].started),
            "{pair:?}"
        );
    }
    match op.status {
        OperationStatus::Succeeded if op.switch().is_some() => {
            assert_eq!(op.next_step(), None)
        }
        OperationStatus::Failed if op.switch().is_some() => {
            // Taken over by a forced failover after its commit.
            assert!(op.is_committed() && op.error.is_some() && !op.is_forced())
        }
        OperationStatus::RolledBack | OperationStatus::Cancelled => {
            assert!(!op.is_committed() && op.error.is_some())
        }
        OperationStatus::Running if op.switch().is_some() => {
            let hub = state
                .hub(op.hub.unwrap())
                .expect("a hub that fails over is there");
            let action = next_action(op, hub, state.time, &Timings::default());
            assert!(
                !matches!(action, Action::Wait { .. }),
                "a running failover has nothing to do: {op:?}"
            );
        }
        _ => {}
    }
}

pub(super) fn check_drills(state: &State) {
    let running: Vec<_> = state.running_drills().map(|drill| drill.hub).collect();
    let hubs: BTreeSet<_> = running.iter().collect();
    assert_eq!(hubs.len(), running.len(), "two drills run on one hub");
    for drill in state.drills.values() {
        assert_eq!(drill.is_running(), drill.ended.is_none());
        assert!(drill.legs[0].is_some() || drill.legs[1].is_none());
        for op in drill.legs.iter().flatten() {
            let Some(op) = state.operations.get(op) else {
                continue;
            };
            let switch = op.switch().expect("a leg is a failover");
            assert_eq!(switch.drill, Some(drill.id.as_str()));
            assert!(
                drill.is_running() || !op.is_running(),
                "a leg outlives its drill"
            );
        }
        if drill.status == DrillStatus::Succeeded {
            assert!(drill.legs.iter().all(Option::is_some) && drill.error.is_none());
        }
    }
}
