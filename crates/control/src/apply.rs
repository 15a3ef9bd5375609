//! One command in, one answer out. Dispatches only: each command family has its file.

use crate::activity;
use crate::command::{Answer, Command, Origin, Request};
use crate::failovers::Asked;
use crate::model::State;
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use types::{UnixMillis, limits};

/// Who asks, and when it is: the machine's own time.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub at: UnixMillis,
    pub by: &'a str,
    pub origin: &'a Origin,
}

impl State {
    /// Applies a request and gives its answer. Deterministic: the same requests in the same order give the same state.
    ///
    /// A request whose id was seen among the recent ones gets the former answer and changes nothing; an empty id names
    /// nothing and is not remembered. A refusal changes nothing but the activity log, with two exceptions: a failover that needs
    /// a second person's word is kept as asked for, and a refresh token that was used before ends its session.
    pub fn apply(&mut self, request: &Request) -> Answer {
        if let Some(answer) = self.remembered.find(&request.id) {
            return answer;
        }
        self.time = self.time.max(request.now);
        let call = Call {
            at: self.time,
            by: &request.by,
            origin: &request.origin,
        };
        // Described before it is done: afterwards a deleted thing has no path any more.
        let subject = activity::subject(self, &request.command);
        let revision = self.revision;
        let answer = match &subject {
            Some(subject) => subject.not_locked(self),
            None => Ok(()),
        }
        .and_then(|()| self.dispatch(call, &request.command))
        .unwrap_or_else(Answer::Refused);
        activity::note(self, call, request, subject, &answer, revision);
        self.remembered.keep(&request.id, &answer);
        answer
    }

    fn dispatch(&mut self, call: Call<'_>, command: &Command) -> Result<Answer, Refusal> {
        match command {
            Command::Deploy {
                deployment,
                subscriptions,
            } => self.deploy(call, deployment, subscriptions),
            Command::PutGroup {
                subscription,
                name,
                location,
                tags,
            } => self.put_group(subscription, name, location, tags),
            Command::DeleteGroup {
                subscription,
                name,
                operation,
            } => self.delete_group(call, subscription, name, operation),
            Command::PutHub { operation, spec } => self.put_hub(call, operation, spec),
            Command::DeleteHub {
                subscription,
                group,
                name,
                operation,
            } => self.delete_hub(call, subscription, group, name, operation),
            Command::PutConsumerGroup { hub, name } => self.put_consumer_group(call, *hub, name),
            Command::DeleteConsumerGroup { hub, name } => self.delete_consumer_group(*hub, name),
            Command::StartFailover { .. }
            | Command::StartForcedFailover { .. }
            | Command::Returned { .. }
            | Command::StartDrill { .. }
            | Command::EndDrill { .. } => self.dispatch_start(call, command),
            Command::Recovered { .. } => {
                self.changed();
                Ok(Answer::Done)
            }
            Command::Note { hub, .. } => {
                self.hub_or_refuse(*hub)?;
                self.changed();
                Ok(Answer::Done)
            }
            Command::NoteAction { .. } => {
                self.changed();
                Ok(Answer::Done)
            }
            Command::Plan(command) => self.plan_command(call, command),
            Command::Certificate(command) => self.certificate_command(call, command),
            Command::Directory(command) => self.directory_command(call, command),
            Command::Access(command) => self.access_command(call, command),
            Command::Template(command) => self.template_command(call, command),
            Command::Job(command) => self.job_command(call, command),
            Command::CancelFailover { operation } => self.cancel_failover(call, operation),
            Command::StepStarted { operation, step } => self.step_started(call, operation, *step),
            Command::StepEnded {
                operation,
                step,
                detail,
            } => self.step_ended(call, operation, *step, detail),
            Command::CommitFailover {
                operation,
                detail,
                caught_up,
            } => {
                if let Some(reached) = caught_up {
                    self.caught_up(call, operation, reached)?;
                }
                self.commit_failover(call, operation, detail)
            }
            Command::RollBack {
                operation,
                code,
                why,
            } => self.roll_back(call, operation, code, why),
            Command::Finish {
                operation,
                report,
                error,
            } => self.finish(call, operation, report, error),
        }
    }

    /// What begins and ends around failovers; their steps are above.
    fn dispatch_start(&mut self, call: Call<'_>, command: &Command) -> Result<Answer, Refusal> {
        match command {
            Command::StartFailover {
                hub,
                to,
                operation,
                reason,
                excluded,
                drill,
            } => {
                let asked = Asked {
                    hub: *hub,
                    to,
                    operation,
                    reason,
                };
                self.start_failover(call, asked, *excluded, drill.as_deref())
            }
            Command::StartForcedFailover {
                hub,
                to,
                operation,
                reason,
                // A disaster does not wait for what the catalogue offers.
                excluded: _,
                accept,
                shown,
            } => {
                let asked = Asked {
                    hub: *hub,
                    to,
                    operation,
                    reason,
                };
                self.start_forced(call, asked, *accept, shown)
            }
            Command::Returned {
                hub,
                operation,
                region,
                partitions,
            } => self.returned(call, *hub, operation, region, partitions),
            Command::StartDrill {
                hub,
                drill,
                reason,
                hold_ms,
            } => self.start_drill(call, *hub, drill, reason, *hold_ms),
            Command::EndDrill {
                drill,
                report,
                error,
            } => self.end_drill(call, drill, report, error),
            other => unreachable!("dispatch names what comes here, not {other:?}"),
        }
    }
}

/// Recent requests with their answers, the oldest first; bounded in number and in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    entries: VecDeque<RememberedAnswer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RememberedAnswer {
    id: String,
    /// Length of the answer as JSON.
    bytes: usize,
    answer: Arc<Answer>,
}

impl Remembered {
    fn find(&self, id: &str) -> Option<Answer> {
        let entry = self.entries.iter().rev().find(|entry| entry.id == id)?;
        Some(Answer::clone(&entry.answer))
    }

    fn keep(&mut self, id: &str, answer: &Answer) {
        if id.is_empty() {
            return;
        }
        let bytes = serde_json::to_vec(answer)
            .expect("answers are plain data")
            .len();
        self.entries.push_back(RememberedAnswer {
            id: id.into(),
            bytes,
            answer: Arc::new(answer.clone()),
        });
        let mut total: usize = self.entries.iter().map(|entry| entry.bytes).sum();
        while self.entries.len() > limits::REMEMBERED_REQUESTS_MAX
            || (total > limits::REMEMBERED_BYTES_MAX && self.entries.len() > 1)
        {
            total -= self.entries.pop_front().map_or(0, |entry| entry.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn a_request_that_comes_twice_is_answered_but_not_applied_again() {
        let mut state = deployed();
        let request = request("r1", 1_000, put_hub("hub-one"));
        let first = state.apply(&request);
        let after = state.clone();
        assert!(matches!(first, Answer::Hub { created: true, .. }));
        assert_eq!(state.apply(&request), first);
        assert_eq!(state, after);
    }

    #[test]
    fn a_refusal_is_remembered_too() {
        let mut state = deployed();
        let request = request("r1", 1_000, start_failover(9, "east", "op"));
        let first = state.apply(&request);
        assert!(matches!(first, Answer::Refused(_)));
        assert_eq!(state.apply(&request), first);
        assert_eq!(state.activity.len(), deployed().activity.len() + 1);
    }

    #[test]
    fn requests_without_an_id_are_never_taken_for_the_same() {
        let mut state = deployed();
        let mut named = |name: &str| state.apply(&request("", 1, put_hub(name)));
        assert!(matches!(named("hub-one"), Answer::Hub { .. }));
        assert!(
            matches!(named("hub-two"), Answer::Hub { hub, .. } if hub.name.as_str() == "hub-two")
        );
    }

    #[test]
    fn memory_of_requests_is_bounded_in_number() {
        let mut remembered = Remembered::default();
        for n in 0..limits::REMEMBERED_REQUESTS_MAX + 10 {
            remembered.keep(&n.to_string(), &Answer::Done);
        }
        assert_eq!(remembered.entries.len(), limits::REMEMBERED_REQUESTS_MAX);
        assert_eq!(remembered.find("9"), None);
        assert_eq!(remembered.find("10"), Some(Answer::Done));
    }

    #[test]
    fn memory_of_requests_is_bounded_in_bytes_but_keeps_the_last() {
        let big = |code: &str| {
            Answer::Refused(Refusal::new(
                crate::RefusalCode::InvalidProperties,
                code.repeat(limits::REMEMBERED_BYTES_MAX),
            ))
        };
        let mut remembered = Remembered::default();
        remembered.keep("a", &big("a"));
        assert!(remembered.find("a").is_some());
        remembered.keep("b", &big("b"));
        assert!(remembered.find("a").is_none() && remembered.find("b").is_some());
    }

    #[test]
    fn time_never_runs_backwards() {
        let mut state = deployed();
        state.apply(&request("a", 5_000_000, put_hub("hub-one")));
        state.apply(&request("b", 10, put_hub("hub-two")));
        assert_eq!(
            state.hub_named("hub-two").unwrap().created,
            UnixMillis(5_000_000)
        );
    }

    #[test]
    fn a_refused_request_changes_no_resource_and_no_revision() {
        let mut state = deployed();
        let before = state.clone();
        state.apply(&request("a", 1, start_failover(1, "east", "op")));
        assert_eq!(state.revision, before.revision);
        assert_eq!(
            (state.hubs, state.operations, state.groups),
            (before.hubs, before.operations, before.groups)
        );
    }

    #[test]
    fn the_same_requests_give_the_same_state() {
        let run = || {
            let mut state = active_hub();
            state.apply(&request("f", 9_000, start_failover(1, "east", "op")));
            state
        };
        assert_eq!(run(), run());
    }
}
