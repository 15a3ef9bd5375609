//! The activity log: one entry for each accepted or refused request of an operator, and for each end of an operation.
//!
//! Entries carry names and codes only; keys and secrets never come here. Each carries the hash of the one before it, so that
//! none can be changed, left out or put in without being found (docs/formats/activity.md).

mod chain;
pub mod lines;
mod subjects;
mod works;

pub use chain::{entry_hash, verify, verify_after};
pub(crate) use subjects::{Subject, subject};

use crate::apply::Call;
use crate::command::{Answer, Command, Origin, Request};
use crate::directory;
use crate::model::{Activity, State};
use crate::naming::clip;
use subjects::When;
use types::limits;

impl State {
    /// Number of the latest entry of the activity log; 0: none has one.
    pub fn activity_number(&self) -> u64 {
        self.activity.last().map_or(0, |entry| entry.number)
    }
}

/// Writes the entry; the oldest gives way when the log is full. `revision`: what it was before the command.
pub(crate) fn note(
    state: &mut State,
    call: Call<'_>,
    request: &Request,
    subject: Option<Subject>,
    answer: &Answer,
    revision: u64,
) {
    let Some(subject) = subject else { return };
    let changed = state.revision != revision;
    let refused = matches!(answer, Answer::Refused(_));
    let wanted = match subject.when {
        When::Always => true,
        When::Changed => changed,
        When::RefusedAndChanged => refused && changed,
    };
    if !wanted {
        return;
    }
    let field = |text: &str| clip(text, limits::ACTIVITY_FIELD_CHARS_MAX);
    let mut entry = Activity {
        at: call.at,
        by: field(call.by),
        action: field(&subject.action),
        resource: field(&subject.resource),
        result: field(&result(&request.command, answer)),
        number: state.activity_number() + 1,
        origin: bounded(call.origin),
        hash: String::new(),
    };
    let before = state.activity.last().map_or("", |last| &last.hash);
    entry.hash = entry_hash(before, &entry);
    state.activity.push(entry);
    let surplus = state
        .activity
        .len()
        .saturating_sub(limits::ACTIVITY_LOG_ENTRIES_MAX);
    if let Some(dropped) = state.activity.drain(..surplus).next_back() {
        state.activity_before = dropped.hash;
    }
}

/// What a client says of itself is kept, but not without end.
fn bounded(origin: &Origin) -> Origin {
    let field = |text: &str| clip(text, limits::ACTIVITY_FIELD_CHARS_MAX);
    Origin {
        object_id: field(&origin.object_id),
        address: origin.address.as_deref().map(field),
        correlation: origin.correlation.as_deref().map(field),
        agent: origin.agent.as_deref().map(field),
    }
}

fn result(command: &Command, answer: &Answer) -> String {
    match (command, answer) {
        (Command::NoteAction { result, .. }, Answer::Done) => result.clone(),
        (Command::Directory(command), answer) => {
            directory::failure_text(command, answer).unwrap_or_else(|| of_answer(answer))
        }
        _ => of_answer(answer),
    }
}

fn of_answer(answer: &Answer) -> String {
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
        | Answer::Certificate(_)
        | Answer::Directory(_)
        | Answer::Access(_)
        | Answer::Template(_)
        | Answer::Job(_) => "accepted".into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::Command;
    use crate::activity::{verify, verify_after};
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
    fn an_action_that_is_only_noted_keeps_its_result_and_origin() {
        let mut state = deployed();
        let mut noted = request(
            "n",
            9,
            Command::NoteAction {
                action: "Microsoft.Devices/IotHubs/listkeys/action".into(),
                resource: "/subscriptions/sub-1".into(),
                result: "refused: AuthorizationFailed".into(),
            },
        );
        noted.origin.address = Some("10.0.0.9".into());
        noted.origin.agent = Some("a".repeat(5_000));
        state.apply(&noted);
        let entry = state.activity.last().unwrap();
        assert_eq!(entry.result, "refused: AuthorizationFailed");
        assert_eq!(entry.action, "Microsoft.Devices/IotHubs/listkeys/action");
        assert_eq!(entry.origin.address.as_deref(), Some("10.0.0.9"));
        assert!(entry.origin.agent.as_ref().unwrap().len() <= limits::ACTIVITY_FIELD_CHARS_MAX);
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
        let (entries, before) = (&state.activity, &state.activity_before);
        assert_eq!(verify(entries), Ok(()));
        assert_eq!(verify_after(before, entries), Ok(()));
        assert!(verify_after("other", entries).is_err());
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
