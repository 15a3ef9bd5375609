//! Finding things in the state, and what an operation's steps say.

use crate::model::*;
use crate::naming::key;
use crate::refusal::{Refusal, RefusalCode};
use types::{Epoch, HubId, RegionName};

impl State {
    /// The subscription of this id, in any case.
    pub fn subscription(&self, id: &str) -> Option<&Subscription> {
        self.subscriptions.get(&key(id))
    }

    /// The resource group of this name, in any case.
    pub fn group(&self, subscription: &str, name: &str) -> Option<&ResourceGroup> {
        self.groups.get(&key(subscription))?.get(&key(name))
    }

    /// The hub of this name, in any case.
    pub fn hub_named(&self, name: &str) -> Option<&Hub> {
        self.hubs.get(&name.to_ascii_lowercase())
    }

    /// The hub of this number.
    pub fn hub(&self, id: HubId) -> Option<&Hub> {
        self.hubs.values().find(|hub| hub.id == id)
    }

    /// The hubs of a group, in name order.
    pub fn hubs_of_group(&self, subscription: &str, group: &str) -> impl Iterator<Item = &Hub> {
        let (subscription, group) = (key(subscription), key(group));
        self.hubs.values().filter(move |h| {
            key(&h.subscription) == subscription && key(&h.resource_group) == group
        })
    }

    /// The hubs of a subscription, in name order.
    pub fn hubs_of_subscription(&self, subscription: &str) -> impl Iterator<Item = &Hub> {
        let subscription = key(subscription);
        self.hubs
            .values()
            .filter(move |h| key(&h.subscription) == subscription)
    }

    /// Operations that have not ended, in id order: what a coordinator that starts has to go on with.
    pub fn running_operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations.values().filter(|op| op.is_running())
    }

    /// A hub's operations, the latest first.
    pub fn operations_of(&self, hub: HubId) -> Vec<&Operation> {
        let mut found: Vec<_> = self
            .operations
            .values()
            .filter(|op| op.hub == Some(hub))
            .collect();
        found.sort_by(|a, b| (b.started, &b.id).cmp(&(a.started, &a.id)));
        found
    }

    pub(crate) fn subscription_or_refuse(&self, id: &str) -> Result<&Subscription, Refusal> {
        self.subscription(id).ok_or_else(|| {
            let message = format!(
                "The subscription '{}' could not be found.",
                crate::naming::shown(id)
            );
            Refusal::new(RefusalCode::SubscriptionNotFound, message)
        })
    }

    pub(crate) fn group_or_refuse(
        &self,
        subscription: &str,
        name: &str,
    ) -> Result<&ResourceGroup, Refusal> {
        self.group(subscription, name).ok_or_else(|| {
            let message = format!(
                "Resource group '{}' could not be found.",
                crate::naming::shown(name)
            );
            Refusal::new(RefusalCode::ResourceGroupNotFound, message)
        })
    }

    pub(crate) fn hub_or_refuse(&self, id: HubId) -> Result<&Hub, Refusal> {
        self.hub(id).ok_or_else(|| {
            Refusal::new(
                RefusalCode::ResourceNotFound,
                format!("The IotHub {id} was not found."),
            )
        })
    }

    pub(crate) fn operation_or_refuse(&self, id: &str) -> Result<&Operation, Refusal> {
        self.operations.get(id).ok_or_else(|| {
            let message = format!(
                "The operation '{}' was not found.",
                crate::naming::shown(id)
            );
            Refusal::new(RefusalCode::OperationNotFound, message)
        })
    }

    /// Counts a change; the result is the etag of what changed.
    pub(crate) fn changed(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }
}

/// Refuses unless the hub is Active and nothing runs on it.
///
/// Source: control-plane notes section 9, provider code 409002.
pub(crate) fn active(hub: &Hub) -> Result<(), Refusal> {
    if hub.state == HubState::Active && hub.operation.is_none() {
        return Ok(());
    }
    let message = format!(
        "IotHub '{}' is not currently in Active state. Try the request again after it is in Active state. \
         (errorCode 409002; its state is {:?}{})",
        hub.name,
        hub.state,
        hub.operation
            .as_ref()
            .map_or_else(String::new, |id| format!(", operation '{id}' runs on it"))
    );
    Err(Refusal::new(RefusalCode::HubNotActive, message))
}

/// What a failover is about: `epoch` is the one it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch<'a> {
    pub from: &'a RegionName,
    pub to: &'a RegionName,
    pub epoch: Epoch,
    pub back: bool,
    pub forced: bool,
    /// The drill it is a leg of.
    pub drill: Option<&'a str>,
}

impl Switch<'_> {
    /// Its steps, in their order.
    pub fn plan(&self) -> &'static [StepName] {
        if self.forced {
            &StepName::FORCED
        } else {
            &StepName::PLANNED
        }
    }
}

impl Operation {
    pub fn is_running(&self) -> bool {
        self.status == OperationStatus::Running
    }

    /// The regions and the epoch of a failover; `None` for other kinds.
    pub fn switch(&self) -> Option<Switch<'_>> {
        match &self.kind {
            OperationKind::Failover {
                from,
                to,
                epoch,
                back,
                drill,
            } => Some(Switch {
                from,
                to,
                epoch: *epoch,
                back: *back,
                forced: false,
                drill: drill.as_deref(),
            }),
            OperationKind::Forced {
                from,
                to,
                epoch,
                back,
                ..
            } => Some(Switch {
                from,
                to,
                epoch: *epoch,
                back: *back,
                forced: true,
                drill: None,
            }),
            OperationKind::CreateHub
            | OperationKind::UpdateHub
            | OperationKind::DeleteHub
            | OperationKind::DeleteGroup => None,
        }
    }

    pub fn step(&self, name: StepName) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }

    pub fn has_started(&self, name: StepName) -> bool {
        self.step(name).is_some()
    }

    pub fn has_ended(&self, name: StepName) -> bool {
        self.step(name).is_some_and(|step| step.ended.is_some())
    }

    /// True once the new epoch is recorded: the point of no return.
    pub fn is_committed(&self) -> bool {
        self.has_ended(StepName::Commit)
    }

    /// True once the decision to go back is recorded: it can not be committed any more.
    pub fn is_rolling_back(&self) -> bool {
        self.has_started(StepName::RollBack)
    }

    /// The steps of a failover, in their order; none of other kinds.
    pub fn plan(&self) -> &'static [StepName] {
        self.switch().map_or(&[], |switch| switch.plan())
    }

    pub fn is_forced(&self) -> bool {
        self.switch().is_some_and(|switch| switch.forced)
    }

    /// True if a fence may stand at the old primary: its own from the moment the step began, whether or not it ended, or that
    /// of the failover it took over.
    pub fn may_have_fenced(&self) -> bool {
        let inherited = matches!(self.kind, OperationKind::Forced { fenced: true, .. });
        inherited || self.has_started(StepName::Fence)
    }

    /// The step from which on the old primary may acknowledge nothing.
    pub fn pausing_step(&self) -> StepName {
        if self.is_forced() {
            StepName::Lease
        } else {
            StepName::Fence
        }
    }

    /// The first step of a failover that has not ended.
    pub fn next_step(&self) -> Option<StepName> {
        self.plan()
            .iter()
            .copied()
            .find(|name| !self.has_ended(*name))
    }

    /// True while a cancel is accepted: a failover before its point of no return.
    pub fn can_cancel(&self) -> bool {
        self.is_running() && self.switch().is_some() && !self.is_committed()
    }

    /// How long the hub acknowledged nothing because of this operation, in milliseconds: from the fence (forced: from the wait
    /// for the lease) to the opening, or to the end of the roll-back. `None` when it came to no pause, or it still lasts.
    pub fn pause_ms(&self) -> Option<i64> {
        let from = self.step(self.pausing_step())?.started;
        let open = self.step(StepName::Open).and_then(|step| step.ended);
        let back = self.step(StepName::RollBack).and_then(|step| step.ended);
        Some(open.or(back)?.since(from).max(0))
    }

    /// What may come next, for a person: there always is something, or the operation has ended.
    pub fn legal_next(&self) -> String {
        if !self.is_running() {
            return "none: the operation has ended".into();
        }
        let Some(switch) = self.switch() else {
            return "wait: the coordinator finishes it".into();
        };
        if self.is_rolling_back() {
            let fenced = self.may_have_fenced() && !self.has_ended(StepName::RollBack);
            return match fenced {
                true => format!("wait: {} releases its fence and serves again", switch.from),
                false => "wait: the coordinator records the end of the roll-back".into(),
            };
        }
        let next = self.next_step().map_or("the report", StepName::name);
        if self.is_committed() {
            let place = match self.next_step() {
                Some(StepName::Open) => format!(" in {}", switch.to),
                Some(StepName::Reverse) => format!(" in {}", switch.from),
                _ => String::new(),
            };
            return format!(
                "wait for {next}{place}: past the point of no return it only goes forward"
            );
        }
        match &self.cancel {
            Some(_) => "wait: the roll-back that was asked for begins".into(),
            None => format!("cancel, or wait for {next}"),
        }
    }
}
