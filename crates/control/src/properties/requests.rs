//! What operators, replaced leaders and returning regions ask for.

use super::Asked;
use crate::Command;
use crate::details::record;
use crate::divergence::Divergence;
use crate::drill::Drill;
use crate::model::*;
use crate::testing::*;
use serde_json::json;
use types::HubId;

pub(super) fn asked(state: &State, command: Asked, hub: u8, id: u8) -> Command {
    let name = ["Hub-One", "hub-two", "HUB-ONE"][usize::from(hub)];
    let operation = format!("op-{id}");
    let number = state.hub_named(name).map_or(HubId(99), |hub| hub.id);
    match command {
        Asked::PutHub => {
            let mut spec = spec(name);
            spec.tags = [("n".to_owned(), id.to_string())].into();
            spec.partner = (id != 3).then(|| region("east"));
            Command::PutHub {
                operation,
                spec: Box::new(spec),
            }
        }
        Asked::DeleteHub => {
            let (subscription, group) = (SUB.into(), "group".into());
            Command::DeleteHub {
                subscription,
                group,
                name: name.into(),
                operation,
            }
        }
        Asked::PutGroup => put_group("Group"),
        Asked::DeleteGroup => Command::DeleteGroup {
            subscription: SUB.into(),
            name: "group".into(),
            operation,
        },
        Asked::PutConsumerGroup => Command::PutConsumerGroup {
            hub: number,
            name: format!("cg{id}"),
        },
        Asked::FailOver => start_failover(
            number.0,
            if id.is_multiple_of(2) { "east" } else { "west" },
            &operation,
        ),
        Asked::Force => {
            let to = if id.is_multiple_of(2) { "east" } else { "west" };
            start_forced(number.0, to, &operation, ALL)
        }
        Asked::Return => {
            let hub = state.hub(number);
            let away = hub.and_then(|hub| hub.away());
            away.map_or_else(
                || returned(&operation, "west", vec![lost_range(0, 3)]),
                |parted| back(number, parted),
            )
        }
        Asked::Drill => Command::StartDrill {
            hub: number,
            drill: format!("drill-{id}"),
            reason: String::new(),
            hold_ms: 10 * i64::from(id),
        },
        Asked::Cancel => {
            let running = state.running_operations().find(|op| op.switch().is_some());
            Command::CancelFailover {
                operation: running.map_or(operation, |op| op.id.clone()),
            }
        }
    }
}

pub(super) fn stray(id: &str, step: u8, kind: u8) -> Command {
    let operation = id.to_owned();
    let steps = [
        StepName::PLANNED.as_slice(),
        &[StepName::RollBack, StepName::Lease],
    ]
    .concat();
    let step = steps[usize::from(step) % steps.len()];
    match kind {
        0 => Command::StepStarted { operation, step },
        1 => Command::StepEnded {
            operation,
            step,
            detail: record(&json!({ "stray": true })),
        },
        2 => Command::CommitFailover {
            operation,
            detail: json!(null),
            caught_up: None,
        },
        3 => roll_back(id),
        4 => finish(id),
        _ => fail(id),
    }
}

/// The old primary is back.
pub(super) fn back(hub: HubId, parted: &Divergence) -> Command {
    Command::Returned {
        hub,
        operation: parted.operation.clone(),
        region: parted.from.clone(),
        partitions: vec![lost_range(0, 3)],
    }
}

pub(super) fn leg(drill: &Drill, number: usize) -> Command {
    Command::StartFailover {
        hub: drill.hub,
        to: [&drill.to, &drill.from][number].clone(),
        operation: drill.leg_id(number),
        reason: String::new(),
        excluded: false,
        drill: Some(drill.id.clone()),
    }
}
