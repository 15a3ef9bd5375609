//! Hubs: made, changed and deleted.

use crate::apply::Call;
use crate::command::{Answer, HubSpec};
use crate::groups::not_deleting;
use crate::lookup::active;
use crate::model::{ConsumerGroup, Hub, HubState, OperationKind, State};
use crate::naming::{DEFAULT_CONSUMER_GROUP, etag_matches, key};
use crate::operations::Begin;
use crate::refusal::{Refusal, RefusalCode};
use crate::spec::{FREE, Settled};
use types::{Epoch, HubId, limits};

impl State {
    /// Creates a hub, or updates the one that is there.
    pub(crate) fn put_hub(
        &mut self,
        call: Call<'_>,
        operation: &str,
        spec: &HubSpec,
    ) -> Result<Answer, Refusal> {
        let subscription = self.subscription_or_refuse(&spec.subscription)?.id.clone();
        let group = self.group_or_refuse(&subscription, &spec.group)?;
        match self.hubs.get(&spec.name.key()) {
            Some(hub) if !lives_in(hub, &subscription, &spec.group) => {
                let message = format!("IotHub name '{}' is not available.", spec.name);
                Err(Refusal::new(RefusalCode::HubNameUnavailable, message))
            }
            Some(hub) => self.update_hub(hub.clone(), operation, spec),
            None => {
                not_deleting(group)?;
                let resource_group = group.name.clone();
                self.create_hub(call, operation, spec, subscription, resource_group)
            }
        }
    }

    fn create_hub(
        &mut self,
        call: Call<'_>,
        operation: &str,
        spec: &HubSpec,
        subscription: String,
        resource_group: String,
    ) -> Result<Answer, Refusal> {
        if spec.if_match.is_some() {
            let message = format!(
                "IotHub '{}' does not exist, so If-Match cannot be met.",
                spec.name
            );
            return Err(Refusal::new(RefusalCode::PreconditionFailed, message));
        }
        let settled = self.settle(spec, None)?;
        self.quota(&subscription, &settled.sku.name)?;
        self.fresh_operation(operation)?;
        self.next_hub += 1;
        let id = HubId(self.next_hub);
        let default_group = ConsumerGroup {
            name: DEFAULT_CONSUMER_GROUP.into(),
            created: call.at,
        };
        let Settled {
            sku,
            partner,
            partition_count,
            retention_days,
            replication,
            partner_away,
            lag_max_ms,
            cloud_to_device,
            policies,
            stored_properties,
        } = settled;
        let hub = Hub {
            id,
            name: spec.name.clone(),
            subscription,
            resource_group,
            home: spec.location.clone(),
            partner,
            primary: spec.location.clone(),
            epoch: Epoch(1),
            state: HubState::Activating,
            sku,
            tags: spec.tags.clone(),
            policies,
            partition_count,
            retention_days,
            replication,
            partner_away,
            lag_max_ms,
            cloud_to_device,
            consumer_groups: vec![default_group],
            stored_properties,
            etag: self.changed(),
            created: call.at,
            operation: Some(operation.into()),
            divergences: Vec::new(),
            certificates: Vec::new(),
        };
        let begun = self.begin(
            call,
            Begin {
                id: operation,
                kind: OperationKind::CreateHub,
                target: hub.name.key(),
                hub: Some(id),
                subscription: &hub.subscription,
                reason: "",
            },
        );
        self.hubs.insert(hub.name.key(), hub.clone());
        Ok(Answer::Hub {
            hub: Box::new(hub),
            operation: Some(Box::new(begun)),
            created: true,
        })
    }

    fn update_hub(
        &mut self,
        mut hub: Hub,
        operation: &str,
        spec: &HubSpec,
    ) -> Result<Answer, Refusal> {
        // The same creation under another request id: its proposer lost the answer.
        if let Some(running) = self.operations.get(operation)
            && running.kind == OperationKind::CreateHub
            && running.hub == Some(hub.id)
            && running.is_running()
        {
            let operation = Some(Box::new(running.clone()));
            return Ok(Answer::Hub {
                hub: Box::new(hub),
                operation,
                created: true,
            });
        }
        active(&hub)?;
        if let Some(wanted) = &spec.if_match
            && !etag_matches(wanted, hub.etag)
        {
            let message = format!(
                "IotHub '{}' was changed since it was read: its etag is another one.",
                hub.name
            );
            return Err(Refusal::new(RefusalCode::PreconditionFailed, message));
        }
        let settled = self.settle(spec, Some(&hub))?;
        let before = hub.clone();
        hub.sku = settled.sku;
        hub.retention_days = settled.retention_days;
        hub.replication = settled.replication;
        hub.partner_away = settled.partner_away;
        hub.lag_max_ms = settled.lag_max_ms;
        hub.cloud_to_device = settled.cloud_to_device;
        hub.policies = settled.policies;
        hub.tags.clone_from(&spec.tags);
        hub.stored_properties = settled.stored_properties;
        if hub != before {
            hub.etag = self.changed();
            self.hubs.insert(hub.name.key(), hub.clone());
        }
        Ok(Answer::Hub {
            hub: Box::new(hub),
            operation: None,
            created: false,
        })
    }

    /// Hubs that are being made or deleted count too.
    fn quota(&self, subscription: &str, sku: &str) -> Result<(), Refusal> {
        let refuse = |message: String| Err(Refusal::new(RefusalCode::QuotaExceeded, message));
        let most = self.deployment.limits.hubs_per_subscription;
        if self.hubs_of_subscription(subscription).count() >= most as usize {
            return refuse(format!(
                "The subscription '{subscription}' has {most} IotHubs, the most it can have."
            ));
        }
        let free = self
            .hubs_of_subscription(subscription)
            .filter(|hub| hub.sku.name == FREE)
            .count();
        if sku == FREE && free >= limits::FREE_HUBS_PER_SUBSCRIPTION_MAX {
            return refuse(format!(
                "The subscription '{subscription}' has its one free IotHub already."
            ));
        }
        Ok(())
    }

    /// Starts the delete of a hub; one that runs already is given back.
    pub(crate) fn delete_hub(
        &mut self,
        call: Call<'_>,
        subscription: &str,
        group: &str,
        name: &str,
        operation: &str,
    ) -> Result<Answer, Refusal> {
        self.subscription_or_refuse(subscription)?;
        self.group_or_refuse(subscription, group)?;
        let Some(hub) = self
            .hub_named(name)
            .filter(|hub| lives_in(hub, subscription, group))
            .cloned()
        else {
            return Ok(Answer::Absent);
        };
        if hub.state == HubState::Deleting {
            if let Some(running) = hub
                .operation
                .as_ref()
                .and_then(|id| self.operations.get(id))
            {
                return Ok(Answer::Operation(Box::new(running.clone())));
            }
        } else {
            active(&hub)?;
        }
        self.fresh_operation(operation)?;
        Ok(Answer::Operation(Box::new(
            self.begin_hub_delete(call, &hub, operation, ""),
        )))
    }

    pub(crate) fn begin_hub_delete(
        &mut self,
        call: Call<'_>,
        hub: &Hub,
        operation: &str,
        reason: &str,
    ) -> crate::model::Operation {
        let begun = self.begin(
            call,
            Begin {
                id: operation,
                kind: OperationKind::DeleteHub,
                target: hub.name.key(),
                hub: Some(hub.id),
                subscription: &hub.subscription,
                reason,
            },
        );
        self.edit_hub(&hub.name.key(), |hub| {
            hub.state = HubState::Deleting;
            hub.operation = Some(operation.into());
        });
        begun
    }

    /// Changes a hub that is there and gives it a new etag.
    pub(crate) fn edit_hub(&mut self, key: &str, edit: impl FnOnce(&mut Hub)) {
        let etag = self.changed();
        if let Some(hub) = self.hubs.get_mut(key) {
            edit(hub);
            hub.etag = etag;
        }
    }
}

fn lives_in(hub: &Hub, subscription: &str, group: &str) -> bool {
    key(&hub.subscription) == key(subscription) && key(&hub.resource_group) == key(group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{Command, OperationStatus, etag_text};

    fn delete(id: &str) -> Command {
        Command::DeleteHub {
            subscription: SUB.into(),
            group: "group".into(),
            name: "HUB-ONE".into(),
            operation: id.into(),
        }
    }

    #[test]
    fn a_new_hub_activates_at_home_with_epoch_one() {
        let mut state = deployed();
        let Answer::Hub {
            hub,
            operation: Some(op),
            created: true,
        } = state.apply(&request("a", 7, put_hub("Hub-One")))
        else {
            panic!()
        };
        assert_eq!(
            (hub.id, hub.epoch, hub.state),
            (HubId(1), Epoch(1), HubState::Activating)
        );
        assert_eq!((hub.home.as_str(), hub.primary.as_str()), ("west", "west"));
        assert_eq!(hub.secondary(), Some(&region("east")));
        assert_eq!(hub.consumer_groups[0].name, "$Default");
        assert_eq!(
            (op.kind, op.status),
            (OperationKind::CreateHub, OperationStatus::Running)
        );
        state.apply(&request("b", 8, finish("create-Hub-One")));
        let active = state.hub_named("HUB-ONE").unwrap();
        assert_eq!((active.state, &active.operation), (HubState::Active, &None));
        assert!(active.etag > hub.etag);
    }

    #[test]
    fn a_creation_that_fails_frees_the_name() {
        let mut state = deployed();
        state.apply(&request("a", 7, put_hub("Hub-One")));
        state.apply(&request("b", 8, fail("create-Hub-One")));
        assert!(state.hub_named("hub-one").is_none());
        assert_eq!(
            state.operations["create-Hub-One"].status,
            OperationStatus::Failed
        );
        let mut again = spec("Hub-One");
        again.tags.clear();
        let again = Command::PutHub {
            operation: "second".into(),
            spec: Box::new(again),
        };
        let Answer::Hub { hub, .. } = state.apply(&request("c", 9, again)) else {
            panic!()
        };
        assert_eq!(hub.id, HubId(2), "a number is never used twice");
    }

    #[test]
    fn a_creation_repeated_under_another_request_id_is_the_same_creation() {
        let mut state = deployed();
        let first = state.apply(&request("a", 7, put_hub("Hub-One")));
        assert_eq!(state.apply(&request("b", 8, put_hub("Hub-One"))), first);
        assert_eq!(state.hubs.len(), 1);
    }

    #[test]
    fn names_are_unique_in_the_deployment_also_while_a_hub_is_deleted() {
        let mut state = active_hub();
        state.apply(&request("g", 8_000, put_group("Other")));
        let mut elsewhere = spec("HUB-one");
        elsewhere.group = "Other".into();
        let taken = |state: &mut State, id: &str| {
            let answer = state.apply(&request(id, 8_001, put(elsewhere.clone())));
            check_refused(
                &answer,
                RefusalCode::HubNameUnavailable,
                "IotHub name 'HUB-one' is not available",
            );
        };
        taken(&mut state, "a");
        state.apply(&request("d", 8_002, delete("del")));
        taken(&mut state, "b");
        state.apply(&request("e", 8_003, finish("del")));
        assert!(matches!(
            state.apply(&request("f", 8_004, put(elsewhere.clone()))),
            Answer::Hub { created: true, .. }
        ));
    }

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let mut state = active_hub();
        let before = state.hub_named("hub-one").unwrap().clone();
        let mut wanted = spec("Hub-One");
        wanted.policies = None;
        wanted.default_policies.clear();
        wanted.partition_count = None;
        wanted.tags = [("a".to_owned(), "b".to_owned())].into();
        wanted.retention_days = Some(7);
        let Answer::Hub {
            hub,
            operation: None,
            created: false,
        } = state.apply(&request("u", 8_000, put(wanted)))
        else {
            panic!()
        };
        assert_eq!((hub.retention_days, hub.tags["a"].as_str()), (7, "b"));
        assert_eq!(
            (&hub.policies, hub.partition_count),
            (&before.policies, before.partition_count)
        );
        assert!(hub.etag > before.etag);
    }

    #[test]
    fn what_is_fixed_at_creation_cannot_be_changed() {
        let mut state = active_hub();
        let mut wanted = spec("Hub-One");
        wanted.location = region("east");
        wanted.partition_count = Some(8);
        wanted.sku_name = "F1".into();
        let answer = state.apply(&request("u", 8_000, put(wanted)));
        for text in [
            "location: it cannot be changed",
            "fixed at creation",
            "free tier",
        ] {
            check_refused(&answer, RefusalCode::InvalidProperties, text);
        }
    }

    #[test]
    fn if_match_guards_updates() {
        let mut state = active_hub();
        let etag = etag_text(state.hub_named("hub-one").unwrap().etag);
        let mut with = |id: &str, etag: &str| {
            let mut wanted = spec("Hub-One");
            wanted.if_match = Some(etag.into());
            wanted.tags = [("n".to_owned(), id.to_owned())].into();
            state.apply(&request(id, 8_000, put(wanted)))
        };
        check_refused(
            &with("a", "AAAAAAAAAAA="),
            RefusalCode::PreconditionFailed,
            "etag",
        );
        assert!(matches!(with("b", &etag), Answer::Hub { .. }));
        check_refused(&with("c", &etag), RefusalCode::PreconditionFailed, "etag");
        assert!(matches!(with("d", "*"), Answer::Hub { .. }));
        let mut absent = spec("Hub-Two");
        absent.if_match = Some("*".into());
        check_refused(
            &state.apply(&request("e", 8_001, put(absent))),
            RefusalCode::PreconditionFailed,
            "does not exist",
        );
    }

    #[test]
    fn a_hub_in_transition_refuses_changes_with_409002() {
        let mut state = deployed();
        state.apply(&request("a", 7, put_hub("Hub-One")));
        let text =
            "is not currently in Active state. Try the request again after it is in Active state";
        let mut change = spec("Hub-One");
        change.tags.clear();
        let change = Command::PutHub {
            operation: "u".into(),
            spec: Box::new(change),
        };
        check_refused(
            &state.apply(&request("b", 8, change)),
            RefusalCode::HubNotActive,
            text,
        );
        check_refused(
            &state.apply(&request("c", 8, delete("del"))),
            RefusalCode::HubNotActive,
            "409002",
        );
        check_refused(
            &state.apply(&request("d", 8, start_failover(1, "east", "op"))),
            RefusalCode::HubNotActive,
            text,
        );
    }

    #[test]
    fn parents_must_exist() {
        let mut state = deployed();
        let mut lost = spec("Hub-One");
        lost.subscription = "nobody".into();
        check_refused(
            &state.apply(&request("a", 1, put(lost))),
            RefusalCode::SubscriptionNotFound,
            "nobody",
        );
        let mut lost = spec("Hub-One");
        lost.group = "nowhere".into();
        check_refused(
            &state.apply(&request("b", 1, put(lost))),
            RefusalCode::ResourceGroupNotFound,
            "nowhere",
        );
    }

    #[test]
    fn quotas_are_kept_per_subscription() {
        let mut state = deployed();
        let mut free = spec("Free-One");
        (free.sku_name, free.partition_count) = ("F1".into(), None);
        let second = HubSpec {
            name: "Free-Two".parse().unwrap(),
            ..free.clone()
        };
        assert!(matches!(
            state.apply(&request("a", 1, put(free))),
            Answer::Hub { .. }
        ));
        check_refused(
            &state.apply(&request("b", 1, put(second))),
            RefusalCode::QuotaExceeded,
            "free",
        );
        for n in 1..limits::HUBS_PER_SUBSCRIPTION_MAX {
            assert!(matches!(
                state.apply(&request("", 1, put_hub(&format!("hub-{n}x")))),
                Answer::Hub { .. }
            ));
        }
        check_refused(
            &state.apply(&request("c", 1, put_hub("one-more"))),
            RefusalCode::QuotaExceeded,
            "50",
        );
    }

    #[test]
    fn deleting_is_an_operation_that_a_second_delete_joins() {
        let mut state = active_hub();
        let Answer::Operation(op) = state.apply(&request("d", 8_000, delete("del"))) else {
            panic!()
        };
        let Answer::Operation(joined) = state.apply(&request("e", 8_001, delete("other"))) else {
            panic!()
        };
        assert_eq!(joined.id, op.id);
        state.apply(&request("f", 8_002, finish("del")));
        assert_eq!(
            state.apply(&request("g", 8_003, delete("later"))),
            Answer::Absent
        );
        assert_eq!(state.operations["del"].status, OperationStatus::Succeeded);
    }

    #[test]
    fn a_delete_that_failed_leaves_a_hub_that_can_be_deleted_again() {
        let mut state = active_hub();
        state.apply(&request("d", 8_000, delete("del")));
        state.apply(&request("e", 8_001, fail("del")));
        let hub = state.hub_named("hub-one").unwrap();
        assert_eq!((hub.state, &hub.operation), (HubState::Deleting, &None));
        let Answer::Operation(op) = state.apply(&request("f", 8_002, delete("retry"))) else {
            panic!()
        };
        assert_eq!(op.id, "retry");
    }

    #[test]
    fn an_operation_id_in_use_is_refused() {
        let mut state = active_hub();
        let again = Command::PutHub {
            operation: "create-Hub-One".into(),
            spec: Box::new(spec("Hub-Two")),
        };
        check_refused(
            &state.apply(&request("a", 8_000, again)),
            RefusalCode::InvalidProperties,
            "in use",
        );
        check_refused(
            &state.apply(&request("b", 8_000, delete(""))),
            RefusalCode::InvalidProperties,
            "operation",
        );
    }
}
