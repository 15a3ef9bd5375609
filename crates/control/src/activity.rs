//! The activity log: one entry for each accepted or refused request of an operator, and for each end of an operation.
//!
//! Entries carry names and codes only; keys and secrets never come here.

use crate::apply::Call;
use crate::command::{Answer, Command, Noted};
use crate::model::{Activity, State};
use crate::naming::{clip, group_path, hub_path};
use std::borrow::Cow;
use types::{HubId, limits};

/// What a command does to what, in the management API's words. `None`: not an operator's request.
pub(crate) struct Subject {
    action: Cow<'static, str>,
    resource: String,
    /// Written only when something changed: the system repeats it by itself.
    only_changes: bool,
}

const HUB: &str = "Microsoft.Devices/IotHubs";

pub(crate) fn subject(state: &State, command: &Command) -> Option<Subject> {
    let (action, resource) = match command {
        Command::Deploy { .. } => ("Castling/deployment/write", "/".to_owned()),
        Command::Recovered { node, term } => (
            "Castling/deployment/recover/action",
            format!("/nodes/{node}/terms/{term}"),
        ),
        Command::PutGroup {
            subscription, name, ..
        } => (
            "Microsoft.Resources/subscriptions/resourceGroups/write",
            group_path(subscription, name),
        ),
        Command::DeleteGroup {
            subscription, name, ..
        } => (
            "Microsoft.Resources/subscriptions/resourceGroups/delete",
            group_path(subscription, name),
        ),
        Command::PutHub { spec, .. } => (
            "Microsoft.Devices/IotHubs/write",
            hub_path(&spec.subscription, &spec.group, spec.name.as_str()),
        ),
        Command::DeleteHub {
            subscription,
            group,
            name,
            ..
        } => (
            "Microsoft.Devices/IotHubs/delete",
            hub_path(subscription, group, name),
        ),
        Command::PutConsumerGroup { hub, name } => (
            "Microsoft.Devices/IotHubs/eventHubEndpoints/consumerGroups/write",
            consumer_group_path(state, *hub, name),
        ),
        Command::DeleteConsumerGroup { hub, name } => (
            "Microsoft.Devices/IotHubs/eventHubEndpoints/consumerGroups/delete",
            consumer_group_path(state, *hub, name),
        ),
        Command::StartFailover { hub, .. } => (
            "Microsoft.Devices/IotHubs/failover/action",
            path(state, *hub),
        ),
        Command::StartForcedFailover { hub, .. } => (
            "Microsoft.Devices/IotHubs/failover/forced/action",
            path(state, *hub),
        ),
        Command::Returned { hub, .. } => ("Castling/region/returned", path(state, *hub)),
        Command::StartDrill { hub, .. } => ("Castling/drill/start", path(state, *hub)),
        Command::EndDrill { drill, .. } => ("Castling/drill/end", drill_path(state, drill)),
        Command::Note { hub, what, id } => (
            match what {
                Noted::SalvageReplay => "Castling/salvage/replay/action",
                Noted::SalvageDiscard => "Castling/salvage/delete",
            },
            format!("{}/salvage/{id}", path(state, *hub)),
        ),
        Command::NoteAction {
            action, resource, ..
        } => return Some(Subject::noted(action, resource)),
        Command::Plan(command) => plan(state, command)?,
        Command::Directory(_) => ("Castling.Identity/directory/write", "/".to_owned()),
        Command::Access(_) => ("Microsoft.Authorization/write", "/".to_owned()),
        Command::CancelFailover { operation } => (
            "Microsoft.Devices/IotHubs/failover/cancel/action",
            operation_path(state, operation),
        ),
        Command::Finish { operation, .. } => {
            ("Castling/operation/end", operation_path(state, operation))
        }
        Command::StepStarted { .. }
        | Command::StepEnded { .. }
        | Command::CommitFailover { .. }
        | Command::RollBack { .. } => return None,
    };
    let only_changes = matches!(
        command,
        Command::Finish { .. }
            | Command::Deploy { .. }
            | Command::Returned { .. }
            | Command::EndDrill { .. }
    );
    Some(Subject {
        action: action.into(),
        resource,
        only_changes,
    })
}

impl Subject {
    fn noted(action: &str, resource: &str) -> Subject {
        Subject {
            action: action.to_owned().into(),
            resource: resource.to_owned(),
            only_changes: false,
        }
    }
}

/// Writes the entry; the oldest gives way when the log is full. `revision`: what it was before the command.
pub(crate) fn note(
    state: &mut State,
    call: Call<'_>,
    subject: Option<Subject>,
    answer: &Answer,
    revision: u64,
) {
    let Some(subject) = subject else { return };
    if subject.only_changes && state.revision == revision {
        return;
    }
    let field = |text: &str| clip(text, limits::ACTIVITY_FIELD_CHARS_MAX);
    state.activity.push(Activity {
        at: call.at,
        by: field(call.by),
        action: field(&subject.action),
        resource: field(&subject.resource),
        result: field(&result(answer)),
        origin: call.origin.clone(),
        ..Activity::default()
    });
    let surplus = state
        .activity
        .len()
        .saturating_sub(limits::ACTIVITY_LOG_ENTRIES_MAX);
    state.activity.drain(..surplus);
}

fn result(answer: &Answer) -> String {
    match answer {
        Answer::Refused(refusal) => format!("refused: {refusal}"),
        Answer::Absent => "accepted: nothing to delete".into(),
        Answer::Operation(op) if !op.is_running() => match &op.error {
            Some((code, why)) => format!("{:?}: {code}: {why}", op.status),
            None => format!("{:?}", op.status),
        },
        Answer::Operation(op) => format!("accepted: operation {}", op.id),
        Answer::Drill(drill) => match &drill.error {
            Some((code, why)) => format!("{:?}: {code}: {why}", drill.status),
            None => format!("{:?}: drill {}", drill.status, drill.id),
        },
        Answer::Hub {
            operation: Some(op),
            ..
        } => format!("accepted: operation {}", op.id),
        Answer::Done
        | Answer::Group { .. }
        | Answer::Hub { .. }
        | Answer::Epoch(_)
        | Answer::Plan(_)
        | Answer::Directory(_)
        | Answer::Access(_) => "accepted".into(),
    }
}

/// Operators' commands only.
fn plan(state: &State, command: &crate::plans::PlanCommand) -> Option<(&'static str, String)> {
    use crate::plans::PlanCommand;
    let at = |subscription: &str, id: &str| {
        format!("/subscriptions/{subscription}/providers/Castling.Failover/plans/{id}")
    };
    match command {
        PlanCommand::Start {
            id, subscription, ..
        } => Some(("Castling.Failover/plans/write", at(subscription, id))),
        PlanCommand::Cancel { id } => {
            let subscription = state.plans.get(id).map_or("", |plan| &plan.subscription);
            Some((
                "Castling.Failover/plans/cancel/action",
                at(subscription, id),
            ))
        }
        PlanCommand::Refused { .. } | PlanCommand::End { .. } => None,
    }
}

fn path(state: &State, hub: HubId) -> String {
    state
        .hub(hub)
        .map_or_else(|| format!("{HUB}/{hub}"), |hub| hub.path())
}

fn consumer_group_path(state: &State, hub: HubId, name: &str) -> String {
    format!(
        "{}/eventHubEndpoints/events/consumerGroups/{name}",
        path(state, hub)
    )
}

fn drill_path(state: &State, id: &str) -> String {
    let of = state.drills.get(id).map(|drill| path(state, drill.hub));
    format!("{}/drills/{id}", of.unwrap_or_else(|| HUB.into()))
}

fn operation_path(state: &State, id: &str) -> String {
    let Some(op) = state.operations.get(id) else {
        return format!("operations/{id}");
    };
    let of = match op.hub {
        Some(hub) => path(state, hub),
        None => group_path(&op.subscription, &op.target),
    };
    format!("{of}/operations/{id}")
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use types::limits;

    #[test]
    fn accepted_and_refused_requests_are_both_logged_with_who_and_what() {
        let mut state = active_hub();
        state.activity.clear();
        state.apply(&request("a", 50_000, start_failover(1, "west", "op")));
        state.apply(&request("b", 50_001, start_failover(1, "east", "op")));
        let [refused, accepted] = &state.activity[..] else {
            panic!("{:?}", state.activity)
        };
        assert!(
            refused
                .result
                .starts_with("refused: FailoverRegionMismatch"),
            "{}",
            refused.result
        );
        assert_eq!(accepted.result, "accepted: operation op");
        assert_eq!(accepted.by, "tester");
        assert_eq!(accepted.action, "Microsoft.Devices/IotHubs/failover/action");
        assert!(
            accepted
                .resource
                .ends_with("/resourceGroups/Group/providers/Microsoft.Devices/IotHubs/Hub-One")
        );
    }

    #[test]
    fn no_key_ever_stands_in_the_log() {
        let mut state = active_hub();
        let mut bad = spec("Hub-One");
        bad.policies = Some(vec![
            policy("p", "c2VjcmV0LXNlY3JldA=="),
            policy("p", "not base64 SECRET"),
        ]);
        bad.sku_name = "X9".into();
        state.apply(&request("x", 60_000, put(bad)));
        let log = serde_json::to_string(&state.activity).unwrap();
        for secret in ["c2VjcmV0", "SECRET", KEY] {
            assert!(!log.contains(secret), "{secret}");
        }
        assert!(log.contains("refused: InvalidProperties"));
    }

    #[test]
    fn the_log_is_bounded_and_drops_the_oldest() {
        let mut state = deployed();
        for n in 0..limits::ACTIVITY_LOG_ENTRIES_MAX + 5 {
            state.apply(&request(
                "",
                1_000 + n as i64,
                start_failover(9, "east", "op"),
            ));
        }
        assert_eq!(state.activity.len(), limits::ACTIVITY_LOG_ENTRIES_MAX);
        assert_eq!(
            state.activity.last().unwrap().at.0,
            1_004 + limits::ACTIVITY_LOG_ENTRIES_MAX as i64
        );
    }

    #[test]
    fn the_system_repeating_itself_is_not_logged() {
        let mut state = deployed();
        let before = state.activity.len();
        state.apply(&request("again", 5, deploy()));
        assert_eq!(state.activity.len(), before);
    }

    #[test]
    fn fields_of_an_entry_are_bounded() {
        let mut state = deployed();
        let long = "x".repeat(10_000);
        state.apply(&request("a", 5, put_group(&long)));
        let entry = state.activity.last().unwrap();
        assert!(entry.resource.len() <= limits::ACTIVITY_FIELD_CHARS_MAX);
        assert!(entry.result.len() <= limits::ACTIVITY_FIELD_CHARS_MAX);
    }
}
