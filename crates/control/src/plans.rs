//! Plans: planned failovers of many hubs, so many at a time. The coordinator drives them; what is to be done next follows from
//! the record alone.

use crate::apply::Call;
use crate::command::Answer;
use crate::failovers::short_reason;
use crate::model::{Operation, State};
use crate::refusal::{Refusal, RefusalCode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use types::{HubId, RegionName, UnixMillis, limits};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub id: String,
    pub subscription: String,
    pub items: Vec<PlanItem>,
    /// Failovers that run at the same time.
    pub parallel: u16,
    pub reason: String,
    pub by: String,
    pub started: UnixMillis,
    pub ended: Option<UnixMillis>,
    /// No further failover begins; those that run go on.
    pub cancelled: bool,
}

/// One hub of a plan. Its failover is the operation [`Plan::operation_of`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanItem {
    pub hub: HubId,
    /// As it was named when the plan was made.
    pub name: String,
    pub from: RegionName,
    pub to: RegionName,
    /// Why its failover could not begin: (code, text).
    pub refused: Option<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PlanCommand {
    /// → [`Answer::Plan`]; a repeated id gives the same plan back.
    Start {
        id: String,
        subscription: String,
        hubs: Vec<HubId>,
        parallel: u16,
        reason: String,
    },
    /// A hub's failover was refused; the plan goes on with the others.
    Refused {
        id: String,
        hub: HubId,
        code: String,
        why: String,
    },
    Cancel {
        id: String,
    },
    /// Every hub's failover has ended, was refused or will not begin.
    End {
        id: String,
    },
}

/// What the coordinator does next for a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanAction {
    /// Start these failovers: hub and target.
    Start(Vec<(HubId, RegionName)>),
    Wait,
    End,
}

impl Plan {
    pub fn is_running(&self) -> bool {
        self.ended.is_none()
    }

    /// Id of the failover of a hub of this plan.
    pub fn operation_of(&self, hub: HubId) -> String {
        format!("{}-{}", self.id, hub.0)
    }

    /// What is to be done next.
    pub fn next(&self, state: &State) -> PlanAction {
        let mut running = 0;
        let mut waiting = Vec::new();
        for item in &self.items {
            match state.operations.get(&self.operation_of(item.hub)) {
                Some(op) if op.is_running() => running += 1,
                Some(_) => {}
                None if item.refused.is_some() || self.cancelled => {}
                None => waiting.push((item.hub, item.to.clone())),
            }
        }
        let free = usize::from(self.parallel).saturating_sub(running);
        waiting.truncate(free);
        match (running, waiting.is_empty()) {
            (_, false) => PlanAction::Start(waiting),
            (0, true) => PlanAction::End,
            _ => PlanAction::Wait,
        }
    }

    /// The failover of one of its hubs, if it began and is still remembered.
    pub fn failover<'a>(&self, state: &'a State, item: &PlanItem) -> Option<&'a Operation> {
        state.operations.get(&self.operation_of(item.hub))
    }
}

impl State {
    /// Plans that have not ended, in id order.
    pub fn running_plans(&self) -> impl Iterator<Item = &Plan> {
        self.plans.values().filter(|plan| plan.is_running())
    }

    pub(crate) fn plan_command(
        &mut self,
        call: Call<'_>,
        command: &PlanCommand,
    ) -> Result<Answer, Refusal> {
        match command {
            PlanCommand::Start {
                id,
                subscription,
                hubs,
                parallel,
                reason,
            } => self.start_plan(call, id, subscription, hubs, *parallel, reason),
            PlanCommand::Refused { id, hub, code, why } => {
                let plan = self.plan_mut(id)?;
                let item = plan.items.iter_mut().find(|item| item.hub == *hub);
                let item = item.ok_or_else(|| invalid(format!("Plan '{id}' has no hub {hub}.")))?;
                if item.refused.is_some() {
                    return Ok(Answer::Plan(Box::new(plan.clone())));
                }
                item.refused = Some((code.clone(), why.clone()));
                let answer = Answer::Plan(Box::new(plan.clone()));
                self.changed();
                Ok(answer)
            }
            PlanCommand::Cancel { id } => {
                let plan = self.plan_mut(id)?;
                if !plan.is_running() {
                    let message = format!("Plan '{id}' has ended.");
                    return Err(Refusal::new(RefusalCode::OperationEnded, message));
                }
                plan.cancelled = true;
                let answer = Answer::Plan(Box::new(plan.clone()));
                self.changed();
                Ok(answer)
            }
            PlanCommand::End { id } => self.end_plan(call, id),
        }
    }

    fn start_plan(
        &mut self,
        call: Call<'_>,
        id: &str,
        subscription: &str,
        hubs: &[HubId],
        parallel: u16,
        reason: &str,
    ) -> Result<Answer, Refusal> {
        if let Some(known) = self.plans.get(id) {
            return Ok(Answer::Plan(Box::new(known.clone())));
        }
        if id.is_empty() || id.len() > limits::PLAN_ID_CHARS_MAX {
            return Err(invalid("The id of a plan has 1 to 100 characters.".into()));
        }
        if !(1..=limits::PLAN_HUBS_MAX).contains(&hubs.len()) {
            let most = limits::PLAN_HUBS_MAX;
            return Err(invalid(format!("A plan has from 1 to {most} hubs.")));
        }
        if !(1..=limits::PLAN_PARALLEL_MAX).contains(&parallel) {
            let most = limits::PLAN_PARALLEL_MAX;
            return Err(invalid(format!(
                "parallel: {parallel} is not from 1 to {most}."
            )));
        }
        short_reason(reason)?;
        let mut seen = BTreeSet::new();
        let mut items = Vec::new();
        for hub in hubs {
            let hub = self.hub_or_refuse(*hub)?;
            if !seen.insert(hub.id) {
                return Err(invalid(format!("IotHub '{}' stands twice.", hub.name)));
            }
            crate::policy::has_pair(hub)?;
            items.push(PlanItem {
                hub: hub.id,
                name: hub.name.to_string(),
                from: hub.primary.clone(),
                to: hub.secondary().unwrap_or(&hub.primary).clone(),
                refused: None,
            });
        }
        if let Some(busy) = self
            .running_plans()
            .find(|plan| plan.items.iter().any(|item| seen.contains(&item.hub)))
        {
            return Err(invalid(format!(
                "Plan '{}' runs on one of these hubs: one at a time.",
                busy.id
            )));
        }
        let plan = Plan {
            id: id.into(),
            subscription: subscription.into(),
            items,
            parallel,
            reason: reason.into(),
            by: call.by.into(),
            started: call.at,
            ended: None,
            cancelled: false,
        };
        self.plans.insert(id.into(), plan.clone());
        self.trim_plans();
        self.changed();
        Ok(Answer::Plan(Box::new(plan)))
    }

    fn end_plan(&mut self, call: Call<'_>, id: &str) -> Result<Answer, Refusal> {
        let plan = self.plan_mut(id)?.clone();
        if !plan.is_running() {
            return Ok(Answer::Plan(Box::new(plan)));
        }
        if plan.next(self) != PlanAction::End {
            let message = format!("Plan '{id}' has failovers that run or wait.");
            return Err(Refusal::new(RefusalCode::StepOutOfOrder, message));
        }
        let plan = self.plan_mut(id)?;
        plan.ended = Some(call.at);
        let answer = Answer::Plan(Box::new(plan.clone()));
        self.changed();
        Ok(answer)
    }

    fn plan_mut(&mut self, id: &str) -> Result<&mut Plan, Refusal> {
        let missing = || {
            Refusal::new(
                RefusalCode::PlanNotFound,
                format!("There is no plan '{id}'."),
            )
        };
        self.plans.get_mut(id).ok_or_else(missing)
    }

    /// The oldest of those that ended give way.
    fn trim_plans(&mut self) {
        while self.plans.len() > limits::PLANS_KEPT_MAX {
            let ended = self.plans.values().filter(|plan| !plan.is_running());
            let Some(oldest) = ended
                .min_by_key(|plan| plan.started)
                .map(|plan| plan.id.clone())
            else {
                return;
            };
            self.plans.remove(&oldest);
        }
    }
}

fn invalid(message: String) -> Refusal {
    Refusal::new(RefusalCode::PlanInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;
    use crate::testing::*;

    fn start(hubs: &[u32], parallel: u16) -> Command {
        Command::Plan(PlanCommand::Start {
            id: "plan".into(),
            subscription: SUB.into(),
            hubs: hubs.iter().map(|hub| HubId(*hub)).collect(),
            parallel,
            reason: String::new(),
        })
    }

    fn two_hubs() -> State {
        let mut state = active_hub();
        state.apply(&request("b", 50_000, put_hub("Hub-Two")));
        state.apply(&request("c", 50_001, finish("create-Hub-Two")));
        state
    }

    fn ask(state: &mut State, command: PlanCommand) -> Answer {
        state.apply(&request("", 60_000, Command::Plan(command)))
    }

    #[test]
    fn no_more_than_so_many_run_at_once_and_it_ends_when_all_have() {
        let mut state = two_hubs();
        assert!(matches!(
            state.apply(&request("p", 60_000, start(&[1, 2], 1))),
            Answer::Plan(_)
        ));
        let next = |state: &State| state.plans["plan"].next(state);
        assert_eq!(
            next(&state),
            PlanAction::Start(vec![(HubId(1), region("east"))])
        );
        state.apply(&request("", 60_001, start_failover(1, "east", "plan-1")));
        assert_eq!(next(&state), PlanAction::Wait);
        assert!(matches!(
            ask(&mut state, PlanCommand::End { id: "plan".into() }),
            Answer::Refused(_)
        ));
        state.apply(&request(
            "",
            60_002,
            Command::RollBack {
                operation: "plan-1".into(),
                code: "c".into(),
                why: "w".into(),
            },
        ));
        state.apply(&request("", 60_003, finish("plan-1")));
        assert_eq!(
            next(&state),
            PlanAction::Start(vec![(HubId(2), region("east"))])
        );
        ask(
            &mut state,
            PlanCommand::Refused {
                id: "plan".into(),
                hub: HubId(2),
                code: "FailoverTooSoon".into(),
                why: "w".into(),
            },
        );
        assert_eq!(next(&state), PlanAction::End);
        ask(&mut state, PlanCommand::End { id: "plan".into() });
        assert!(!state.plans["plan"].is_running());
    }

    #[test]
    fn what_no_plan_can_be_is_refused_and_changes_nothing() {
        for (hubs, parallel) in [
            (&[][..], 1),
            (&[1, 1], 1),
            (&[9], 1),
            (&[1], 0),
            (&[1], 10_000),
        ] {
            let mut state = two_hubs();
            let answer = state.apply(&request("p", 60_000, start(hubs, parallel)));
            assert!(matches!(answer, Answer::Refused(_)), "{hubs:?} {parallel}");
            assert!(state.plans.is_empty());
        }
    }

    #[test]
    fn a_cancelled_plan_begins_nothing_more() {
        let mut state = two_hubs();
        state.apply(&request("p", 60_000, start(&[1, 2], 2)));
        ask(&mut state, PlanCommand::Cancel { id: "plan".into() });
        assert_eq!(state.plans["plan"].next(&state), PlanAction::End);
    }
}
