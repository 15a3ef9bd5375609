//! The commands of a failover: they keep its steps in their legal order, whoever sends them and however often.

use crate::apply::Call;
use crate::command::Answer;
use crate::details::handover_agrees;
use crate::forced::parted;
use crate::model::{
    Hub, HubState, Operation, OperationKind, OperationStatus, State, Step, StepName,
};
use crate::operations::Begin;
use crate::policy;
use crate::refusal::{Refusal, RefusalCode};
use types::{HubId, RegionName, limits};

/// Steps whose start need not be recorded on its own: they begin where the step before ended, which saves a round of the
/// consensus inside the pause. A fence is not among them: that it may have happened must be known before it happens.
const STARTED_BY_THE_FORMER: [StepName; 3] = [StepName::CatchUp, StepName::Open, StepName::Reverse];

/// A failover as it is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub hub: HubId,
    pub to: &'a RegionName,
    pub operation: &'a str,
    pub reason: &'a str,
}

impl State {
    /// Starts a planned failover, or refuses it; a repeated operation id gives the same operation back.
    pub(crate) fn start_failover(
        &mut self,
        call: Call<'_>,
        asked: Asked<'_>,
        excluded: bool,
        drill: Option<&str>,
    ) -> Result<Answer, Refusal> {
        if let Some(known) = self.known_failover(asked, false) {
            return Ok(known);
        }
        let hub = self.hub_or_refuse(asked.hub)?.clone();
        match drill {
            Some(drill) => self.leg_allowed(&hub, asked.to, drill, excluded)?,
            None => policy::failover_allowed(self, &hub, asked.to, excluded, call.at)?,
        }
        self.fresh_operation(asked.operation)?;
        short_reason(asked.reason)?;
        let kind = OperationKind::Failover {
            from: hub.primary.clone(),
            to: asked.to.clone(),
            epoch: hub.epoch,
            back: *asked.to == hub.home,
            drill: drill.map(str::to_owned),
        };
        match drill {
            Some(drill) => self.record_leg(drill, asked),
            None => self.approved(call, asked, false)?,
        }
        Ok(self.begin_failover(call, &hub, asked, kind))
    }

    /// The same request again: the operation of this id, if it is this failover.
    pub(crate) fn known_failover(&self, asked: Asked<'_>, forced: bool) -> Option<Answer> {
        let known = self.operations.get(asked.operation)?;
        let switch = known.switch()?;
        let same = known.hub == Some(asked.hub) && switch.to == asked.to && switch.forced == forced;
        same.then(|| Answer::Operation(Box::new(known.clone())))
    }

    /// Begins a failover that was found allowed.
    pub(crate) fn begin_failover(
        &mut self,
        call: Call<'_>,
        hub: &Hub,
        asked: Asked<'_>,
        kind: OperationKind,
    ) -> Answer {
        let target = hub.name.key();
        self.edit_hub(&target, |hub| {
            hub.state = HubState::FailingOver;
            hub.operation = Some(asked.operation.into());
        });
        let begin = Begin {
            id: asked.operation,
            kind,
            target,
            hub: Some(hub.id),
            subscription: &hub.subscription,
            reason: asked.reason,
        };
        Answer::Operation(Box::new(self.begin(call, begin)))
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
        let parted = parted(op, step, detail, call.at);
        let target = op.target.clone();
        let answer = self.edit_operation(id, |op| put_step(op, done));
        if let Some(parted) = parted {
            self.record_divergence(&target, parted);
        }
        Ok(answer)
    }

    /// Records the catch-up step ahead of the commit that comes with it.
    ///
    /// # Errors
    /// As [`State::step_ended`]; and when the two sides disagree, which stays recorded: the coordinator goes back then.
    pub(crate) fn caught_up(
        &mut self,
        call: Call<'_>,
        id: &str,
        reached: &serde_json::Value,
    ) -> Result<(), Refusal> {
        let op = self.failover_or_refuse(id)?;
        if op.is_committed() || !op.is_running() {
            return Ok(());
        }
        self.step_ended(call, id, StepName::CatchUp, reached)?;
        let op = self.failover_or_refuse(id)?;
        let partitions = op
            .hub
            .and_then(|hub| self.hub(hub))
            .map_or(0, |hub| hub.partition_count);
        handover_agrees(op, partitions).map_err(|why| out_of_order(op, &why))
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
            return match (error, op.next_step()) {
                (None, None) => Ok(OperationStatus::Succeeded),
                (None, Some(step)) => {
                    let why = format!("step {} has not ended yet", step.name());
                    Err(out_of_order(op, &why))
                }
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
        } else if op.may_have_fenced() {
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

    pub(crate) fn failover_or_refuse(&self, id: &str) -> Result<&Operation, Refusal> {
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

    pub(crate) fn edit_operation(&mut self, id: &str, edit: impl FnOnce(&mut Operation)) -> Answer {
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

/// Refuses a reason that is too long to keep.
pub(crate) fn short_reason(reason: &str) -> Result<(), Refusal> {
    if reason.chars().count() <= limits::FAILOVER_REASON_CHARS_MAX {
        return Ok(());
    }
    let message = format!(
        "The reason must not exceed {} characters.",
        limits::FAILOVER_REASON_CHARS_MAX
    );
    Err(Refusal::new(RefusalCode::InvalidProperties, message))
}

fn former_end(op: &Operation, step: StepName) -> Option<types::UnixMillis> {
    let at = op.plan().iter().position(|name| *name == step)?;
    op.step(*op.plan().get(at.checked_sub(1)?)?)?.ended
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
