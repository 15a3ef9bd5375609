//! The commands of a failover: they keep its steps in their legal order, whoever sends them and however often.

use crate::apply::Call;
use crate::command::Answer;
use crate::model::{HubState, Operation, OperationKind, OperationStatus, State, Step, StepName};
use crate::operations::Begin;
use crate::policy;
use crate::refusal::{Refusal, RefusalCode};
use types::{HubId, RegionName, limits};

/// Steps whose start need not be recorded on its own: they begin where the step before ended, which saves a round of the
/// consensus inside the pause. A fence is not among them: that it may have happened must be known before it happens.
const STARTED_BY_THE_FORMER: [StepName; 3] = [StepName::CatchUp, StepName::Open, StepName::Reverse];

impl State {
    /// Starts a planned failover, or refuses it; a repeated operation id gives the same operation back.
    pub(crate) fn start_failover(
        &mut self,
        call: Call<'_>,
        hub: HubId,
        to: &RegionName,
        operation: &str,
        reason: &str,
        excluded: bool,
    ) -> Result<Answer, Refusal> {
        if let Some(known) = self.operations.get(operation)
            && known.hub == Some(hub)
            && known.switch().is_some_and(|switch| switch.to == to)
        {
            return Ok(Answer::Operation(Box::new(known.clone())));
        }
        let hub = self.hub_or_refuse(hub)?.clone();
        policy::failover_allowed(self, &hub, to, excluded, call.at)?;
        self.fresh_operation(operation)?;
        if reason.chars().count() > limits::FAILOVER_REASON_CHARS_MAX {
            let message = format!(
                "The reason must not exceed {} characters.",
                limits::FAILOVER_REASON_CHARS_MAX
            );
            return Err(Refusal::new(RefusalCode::InvalidProperties, message));
        }
        let kind = OperationKind::Failover {
            from: hub.primary.clone(),
            to: to.clone(),
            epoch: hub.epoch,
            back: *to == hub.home,
        };
        let target = hub.name.key();
        self.edit_hub(&target, |hub| {
            hub.state = HubState::FailingOver;
            hub.operation = Some(operation.into());
        });
        let begin = Begin {
            id: operation,
            kind,
            target,
            hub: Some(hub.id),
            subscription: &hub.subscription,
            reason,
        };
        Ok(Answer::Operation(Box::new(self.begin(call, begin))))
    }

    /// Asks for a roll-back; asking twice, or while it goes back already, changes nothing more.
    pub(crate) fn cancel_failover(&mut self, call: Call<'_>, id: &str) -> Result<Answer, Refusal> {
        let op = self.failover_or_refuse(id)?;
        if op.is_committed() {
            return Err(past_no_return(op, "cancelled"));
        }
        match op.status {
            OperationStatus::Running if op.cancel.is_none() && !op.is_rolling_back() => {
                let by = call.by.to_owned();
                Ok(self.edit_operation(id, |op| op.cancel = Some(by)))
            }
            OperationStatus::Running | OperationStatus::Cancelled => {
                Ok(Answer::Operation(Box::new(op.clone())))
            }
            _ => Err(ended(op)),
        }
    }

    /// Records that the next step begins. A step that began already and goes on is given back as it is.
    pub(crate) fn step_started(
        &mut self,
        call: Call<'_>,
        id: &str,
        step: StepName,
    ) -> Result<Answer, Refusal> {
        let op = self.running_failover(id)?;
        if op.has_started(step) && !op.has_ended(step) {
            return Ok(Answer::Operation(Box::new(op.clone())));
        }
        may_begin(op, step)?;
        let begun = Step {
            name: step,
            started: call.at,
            ended: None,
            detail: serde_json::Value::Null,
        };
        Ok(self.edit_operation(id, |op| op.steps.push(begun)))
    }

    /// Records what a step came to. A step that ended already keeps what was recorded first.
    pub(crate) fn step_ended(
        &mut self,
        call: Call<'_>,
        id: &str,
        step: StepName,
        detail: &serde_json::Value,
    ) -> Result<Answer, Refusal> {
        let op = self.running_failover(id)?;
        if op.has_ended(step) {
            return Ok(Answer::Operation(Box::new(op.clone())));
        }
        if step == StepName::Commit {
            return Err(out_of_order(op, "the commit step ends with CommitFailover"));
        }
        if op.is_rolling_back() && step != StepName::RollBack {
            return Err(out_of_order(op, "it is rolling back"));
        }
        let started = match op.step(step) {
            Some(known) => known.started,
            None if STARTED_BY_THE_FORMER.contains(&step) => {
                may_begin(op, step)?;
                former_end(op, step).unwrap_or(call.at)
            }
            None => {
                return Err(out_of_order(
                    op,
                    &format!("step {} has not begun", step.name()),
                ));
            }
        };
        let done = Step {
            name: step,
            started,
            ended: Some(call.at),
            detail: detail.clone(),
        };
        Ok(self.edit_operation(id, |op| put_step(op, done)))
    }

    /// The point of no return: the hub's next epoch begins, with the other region as primary.
    pub(crate) fn commit_failover(
        &mut self,
        call: Call<'_>,
        id: &str,
        detail: &serde_json::Value,
    ) -> Result<Answer, Refusal> {
        let op = self.failover_or_refuse(id)?;
        let switch = op
            .switch()
            .expect("failover_or_refuse gives failovers only");
        let (epoch, to) = (switch.epoch.next(), switch.to.clone());
        if op.is_committed() {
            return Ok(Answer::Epoch(epoch));
        }
        if !op.is_running() {
            return Err(ended(op));
        }
        if !op.has_started(StepName::Commit) {
            may_begin(op, StepName::Commit)?;
        } else {
            may_go_on(op)?;
        }
        let started = op.step(StepName::Commit).map(|step| step.started);
        let started = started
            .or(former_end(op, StepName::Commit))
            .unwrap_or(call.at);
        let done = Step {
            name: StepName::Commit,
            started,
            ended: Some(call.at),
            detail: detail.clone(),
        };
        let target = op.target.clone();
        self.edit_operation(id, |op| put_step(op, done));
        self.edit_hub(&target, |hub| {
            hub.epoch = epoch;
            hub.primary = to;
        });
        Ok(Answer::Epoch(epoch))
    }

    /// Records the decision to go back: from here on it cannot be committed. The old primary is un-fenced, then it is finished.
    pub(crate) fn roll_back(
        &mut self,
        call: Call<'_>,
        id: &str,
        code: &str,
        why: &str,
    ) -> Result<Answer, Refusal> {
        let op = self.failover_or_refuse(id)?;
        if op.is_committed() {
            return Err(past_no_return(op, "rolled back"));
        }
        if op.is_rolling_back() {
            return Ok(Answer::Operation(Box::new(op.clone())));
        }
        if !op.is_running() {
            return Err(ended(op));
        }
        let begun = Step {
            name: StepName::RollBack,
            started: call.at,
            ended: None,
            detail: serde_json::Value::Null,
        };
        Ok(self.edit_operation(id, |op| {
            op.error = Some((code.into(), why.into()));
            op.steps.push(begun);
        }))
    }

    /// Checks that a failover may end now, and gives the status with which it does.
    pub(crate) fn finish_failover(
        &mut self,
        call: Call<'_>,
        op: &Operation,
        error: &Option<(String, String)>,
    ) -> Result<OperationStatus, Refusal> {
        if op.is_committed() {
            return match (error, op.has_ended(StepName::Reverse)) {
                (None, true) => Ok(OperationStatus::Succeeded),
                (None, false) => Err(out_of_order(op, "the old primary does not follow yet")),
                (Some(_), _) => Err(past_no_return(op, "ended with an error")),
            };
        }
        if op.is_rolling_back() {
            self.edit_operation(&op.id, |op| {
                if let Some(step) = op
                    .steps
                    .iter_mut()
                    .find(|step| step.name == StepName::RollBack)
                {
                    step.ended.get_or_insert(call.at);
                }
            });
        } else if error.is_none() {
            return Err(out_of_order(op, "its steps are not done"));
        } else if op.has_started(StepName::Fence) {
            return Err(out_of_order(
                op,
                "the old primary may be fenced: roll back first",
            ));
        }
        Ok(if op.cancel.is_some() {
            OperationStatus::Cancelled
        } else {
            OperationStatus::RolledBack
        })
    }

    fn failover_or_refuse(&self, id: &str) -> Result<&Operation, Refusal> {
        let op = self.operation_or_refuse(id)?;
        match op.switch() {
            Some(_) => Ok(op),
            None => Err(out_of_order(op, "it is not a failover")),
        }
    }

    fn running_failover(&self, id: &str) -> Result<&Operation, Refusal> {
        let op = self.failover_or_refuse(id)?;
        if op.is_running() {
            Ok(op)
        } else {
            Err(ended(op))
        }
    }

    fn edit_operation(&mut self, id: &str, edit: impl FnOnce(&mut Operation)) -> Answer {
        self.changed();
        let op = self
            .operations
            .get_mut(id)
            .expect("the caller has just read it");
        edit(op);
        Answer::Operation(Box::new(op.clone()))
    }
}

/// Refuses a step that is not the next one, or that may not begin because the way is back.
fn may_begin(op: &Operation, step: StepName) -> Result<(), Refusal> {
    if step == StepName::RollBack {
        return Err(out_of_order(op, "a roll-back begins with RollBack"));
    }
    may_go_on(op)?;
    match op.next_step() {
        Some(next) if next == step => Ok(()),
        Some(next) => Err(out_of_order(
            op,
            &format!("the next step is {}, not {}", next.name(), step.name()),
        )),
        None => Err(out_of_order(op, "all its steps are done")),
    }
}

fn may_go_on(op: &Operation) -> Result<(), Refusal> {
    if op.is_rolling_back() {
        return Err(out_of_order(op, "it is rolling back"));
    }
    if op.cancel.is_some() && !op.is_committed() {
        return Err(out_of_order(op, "a roll-back was asked for"));
    }
    Ok(())
}

fn former_end(op: &Operation, step: StepName) -> Option<types::UnixMillis> {
    let at = StepName::PLANNED.iter().position(|name| *name == step)?;
    op.step(*StepName::PLANNED.get(at.checked_sub(1)?)?)?.ended
}

fn put_step(op: &mut Operation, step: Step) {
    match op.steps.iter_mut().find(|known| known.name == step.name) {
        Some(known) => *known = step,
        None => op.steps.push(step),
    }
}

fn out_of_order(op: &Operation, why: &str) -> Refusal {
    Refusal::new(
        RefusalCode::StepOutOfOrder,
        format!("Operation '{}': {why}. Next: {}.", op.id, op.legal_next()),
    )
}

fn past_no_return(op: &Operation, what: &str) -> Refusal {
    let message = format!(
        "Operation '{}' is past its point of no return and cannot be {what}. Next: {}.",
        op.id,
        op.legal_next()
    );
    Refusal::new(RefusalCode::PastPointOfNoReturn, message)
}

fn ended(op: &Operation) -> Refusal {
    Refusal::new(
        RefusalCode::OperationEnded,
        format!("Operation '{}' has ended: {:?}.", op.id, op.status),
    )
}

#[cfg(test)]
#[path = "failovers_tests.rs"]
mod tests;
