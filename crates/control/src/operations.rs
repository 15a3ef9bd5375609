//! Operations in general: begun, ended, kept for a while.

use crate::apply::Call;
use crate::command::Answer;
use crate::model::{HubState, Operation, OperationKind, OperationStatus, State};
use crate::naming::{key, shown};
use crate::policy;
use crate::refusal::{Refusal, RefusalCode};
use types::{HubId, UnixMillis, limits};

/// What an operation that begins is about.
pub(crate) struct Begin<'a> {
    pub id: &'a str,
    pub kind: OperationKind,
    pub target: String,
    pub hub: Option<HubId>,
    pub subscription: &'a str,
    pub reason: &'a str,
}

/// How an operation ends.
pub(crate) struct End<'a> {
    pub status: OperationStatus,
    pub report: &'a Option<serde_json::Value>,
    pub error: &'a Option<(String, String)>,
}

impl State {
    /// Refuses an operation id that is empty, too long, or names another operation.
    pub(crate) fn fresh_operation(&self, id: &str) -> Result<(), Refusal> {
        let why = if !(1..=limits::OPERATION_ID_CHARS_MAX).contains(&id.chars().count()) {
            "must have 1 to 128 characters"
        } else if self.operations.contains_key(id) {
            "is in use"
        } else {
            return Ok(());
        };
        Err(Refusal::new(
            RefusalCode::InvalidProperties,
            format!("The operation id '{}' {why}.", shown(id)),
        ))
    }

    /// Records an operation that begins. Its id was checked by [`State::fresh_operation`].
    pub(crate) fn begin(&mut self, call: Call<'_>, what: Begin<'_>) -> Operation {
        let operation = Operation {
            id: what.id.into(),
            kind: what.kind,
            status: OperationStatus::Running,
            target: what.target,
            hub: what.hub,
            subscription: what.subscription.into(),
            started: call.at,
            ended: None,
            by: call.by.into(),
            reason: what.reason.into(),
            steps: Vec::new(),
            cancel: None,
            error: None,
            report: None,
        };
        self.operations.insert(what.id.into(), operation.clone());
        self.trim_operations(what.hub);
        operation
    }

    /// Ends any operation. One that has ended already is given back as it is.
    pub(crate) fn finish(
        &mut self,
        call: Call<'_>,
        id: &str,
        report: &Option<serde_json::Value>,
        error: &Option<(String, String)>,
    ) -> Result<Answer, Refusal> {
        let op = self.operation_or_refuse(id)?.clone();
        if !op.is_running() {
            return Ok(Answer::Operation(Box::new(op)));
        }
        let error = &match op.kind {
            OperationKind::DeleteGroup => self.group_delete_error(&op, error)?,
            _ => error.clone(),
        };
        let status = match (&op.kind, error) {
            (OperationKind::Failover { .. } | OperationKind::Forced { .. }, _) => {
                self.finish_failover(call, &op, error)?
            }
            (_, Some(_)) => OperationStatus::Failed,
            (_, None) => OperationStatus::Succeeded,
        };
        match op.kind {
            OperationKind::Failover { .. }
            | OperationKind::Forced { .. }
            | OperationKind::UpdateHub => self.release(&op.target, HubState::Active),
            OperationKind::CreateHub if error.is_none() => {
                self.release(&op.target, HubState::Active)
            }
            // A creation that failed leaves nothing behind: the name is free again.
            OperationKind::CreateHub => self.forget_hub(&op.target),
            OperationKind::DeleteHub if error.is_none() => self.forget_hub(&op.target),
            // Half of it may be gone: it can only be deleted again.
            OperationKind::DeleteHub => self.release(&op.target, HubState::Deleting),
            OperationKind::DeleteGroup => self.end_group_delete(&op, error.is_none()),
        }
        self.changed();
        Ok(Answer::Operation(Box::new(self.end(
            call.at,
            id,
            End {
                status,
                report,
                error,
            },
        ))))
    }

    /// A group goes only after its hubs. It waits for those whose delete runs; one whose delete failed fails the group's.
    fn group_delete_error(
        &self,
        op: &Operation,
        error: &Option<(String, String)>,
    ) -> Result<Option<(String, String)>, Refusal> {
        let left: Vec<_> = self.hubs_of_group(&op.subscription, &op.target).collect();
        let waits = left
            .iter()
            .find(|hub| hub.operation.is_some())
            .or(left.first());
        match waits {
            Some(hub) if error.is_none() && hub.operation.is_some() => {
                let message = format!(
                    "The resource group '{}' still holds IotHub '{}'.",
                    op.target, hub.name
                );
                Err(Refusal::new(RefusalCode::StepOutOfOrder, message))
            }
            Some(hub) if error.is_none() => Ok(Some((
                "HubDeleteFailed".into(),
                format!("IotHub '{}' could not be deleted", hub.name),
            ))),
            _ => Ok(error.clone()),
        }
    }

    fn forget_hub(&mut self, target: &str) {
        if let Some(hub) = self.hubs.remove(target) {
            self.access.forget_scope(&hub.path());
        }
    }

    fn end_group_delete(&mut self, op: &Operation, gone: bool) {
        let etag = self.changed();
        let Some(groups) = self.groups.get_mut(&key(&op.subscription)) else {
            return;
        };
        if gone {
            groups.remove(&op.target);
            let path = crate::naming::group_path(&op.subscription, &op.target);
            self.access.forget_scope(&path);
        } else if let Some(group) = groups.get_mut(&op.target) {
            group.deleting = None;
            group.etag = etag;
        }
    }

    fn release(&mut self, hub: &str, state: HubState) {
        self.edit_hub(hub, |hub| {
            hub.state = state;
            hub.operation = None;
        });
    }

    pub(crate) fn end(&mut self, at: UnixMillis, id: &str, end: End<'_>) -> Operation {
        let op = self
            .operations
            .get_mut(id)
            .expect("the caller has just read it");
        op.status = end.status;
        op.ended = Some(at);
        op.report.clone_from(end.report);
        if op.error.is_none() {
            op.error.clone_from(end.error);
        }
        let ended = op.clone();
        self.trim_operations(ended.hub);
        ended
    }

    /// Drops the oldest ended operations beyond what is kept of a hub, or of all that is gone. Those that the failover policy
    /// still counts go last.
    fn trim_operations(&mut self, hub: Option<HubId>) {
        let alive = |id: &HubId| self.hubs.values().any(|hub| hub.id == *id);
        let same = match hub.filter(alive) {
            Some(id) => self
                .operations
                .values()
                .filter(|op| op.hub == Some(id))
                .collect::<Vec<_>>(),
            None => self
                .operations
                .values()
                .filter(|op| !op.hub.as_ref().is_some_and(alive))
                .collect(),
        };
        let kept = match hub.filter(alive) {
            Some(_) => limits::OPERATIONS_KEPT_PER_HUB_MAX,
            None => limits::OPERATIONS_KEPT_OF_DELETED_MAX,
        };
        let surplus = same.len().saturating_sub(kept);
        if surplus == 0 {
            return;
        }
        let mut ended: Vec<_> = same
            .into_iter()
            .filter_map(|op| {
                op.ended
                    .map(|at| (policy::still_counts(self, op, self.time), at, op.id.clone()))
            })
            .collect();
        ended.sort();
        for (_, _, id) in ended.into_iter().take(surplus) {
            self.operations.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::refusal::RefusalCode;
    use crate::testing::*;
    use crate::{Command, OperationStatus};
    use types::{HubId, limits};

    #[test]
    fn history_of_a_hub_is_bounded_and_keeps_what_the_policy_counts() {
        let mut state = active_hub();
        let counted = switch(&mut state, "counted", "east", 10_000);
        for n in 0..limits::OPERATIONS_KEPT_PER_HUB_MAX + 20 {
            let at = counted + state.deployment.policy.cooldown_ms + n as i64;
            let id = format!("try-{n:04}");
            state.apply(&request("", at, start_failover(1, "west", &id)));
            state.apply(&request(
                "",
                at,
                Command::CancelFailover {
                    operation: id.clone(),
                },
            ));
            state.apply(&request("", at, roll_back(&id)));
            state.apply(&request("", at, finish(&id)));
            assert_eq!(state.operations[&id].status, OperationStatus::Cancelled);
        }
        assert_eq!(
            state.operations_of(HubId(1)).len(),
            limits::OPERATIONS_KEPT_PER_HUB_MAX
        );
        assert!(state.operations.contains_key("counted"));
        assert!(
            !state.operations.contains_key("try-0000")
                && !state.operations.contains_key("create-Hub-One")
        );
    }

    #[test]
    fn a_running_operation_is_never_dropped() {
        let mut state = active_hub();
        state.apply(&request("", 10_000, start_failover(1, "east", "running")));
        for n in 0..limits::OPERATIONS_KEPT_OF_DELETED_MAX {
            let name = format!("gone-{n}");
            state.apply(&request("", 10_001, put_hub(&name)));
            state.apply(&request("", 10_002, fail(&format!("create-{name}"))));
        }
        assert!(state.operations["running"].is_running());
        assert!(
            state.operations.len()
                <= limits::OPERATIONS_KEPT_OF_DELETED_MAX + limits::OPERATIONS_KEPT_PER_HUB_MAX
        );
        assert!(state.operations.len() >= limits::OPERATIONS_KEPT_OF_DELETED_MAX);
    }

    #[test]
    fn finishing_twice_gives_the_same_operation_and_an_unknown_one_is_refused() {
        let mut state = active_hub();
        let again = state.apply(&request("a", 9_000, fail("create-Hub-One")));
        let crate::Answer::Operation(op) = again else {
            panic!()
        };
        assert_eq!(op.status, OperationStatus::Succeeded);
        assert!(state.hub_named("hub-one").is_some());
        check_refused(
            &state.apply(&request("b", 9_000, finish("none"))),
            RefusalCode::OperationNotFound,
            "none",
        );
    }
}
