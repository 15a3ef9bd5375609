//! Resource groups: made, tagged, and deleted with everything in them.

use crate::apply::Call;
use crate::command::Answer;
use crate::lookup::active;
use crate::model::{HubState, OperationKind, ResourceGroup, State};
use crate::naming::{group_name, key, shown, tag_mistakes};
use crate::operations::Begin;
use crate::refusal::{Refusal, RefusalCode};
use std::collections::BTreeMap;
use types::RegionName;

impl State {
    pub(crate) fn put_group(
        &mut self,
        subscription: &str,
        name: &str,
        location: &RegionName,
        tags: &BTreeMap<String, String>,
    ) -> Result<Answer, Refusal> {
        let subscription = self.subscription_or_refuse(subscription)?.id.clone();
        group_name(name)?;
        let mistakes = tag_mistakes(tags);
        if !mistakes.is_empty() {
            return Err(Refusal::new(
                RefusalCode::InvalidProperties,
                mistakes.join("; "),
            ));
        }
        match self.group(&subscription, name).cloned() {
            Some(group) => self.update_group(group, location, tags),
            None => self.create_group(subscription, name, location, tags),
        }
    }

    fn create_group(
        &mut self,
        subscription: String,
        name: &str,
        location: &RegionName,
        tags: &BTreeMap<String, String>,
    ) -> Result<Answer, Refusal> {
        self.location_runs(location)?;
        let group = ResourceGroup {
            name: name.into(),
            subscription,
            location: location.clone(),
            tags: tags.clone(),
            deleting: None,
            etag: self.changed(),
        };
        self.keep_group(group.clone());
        Ok(Answer::Group {
            group,
            created: true,
        })
    }

    fn update_group(
        &mut self,
        mut group: ResourceGroup,
        location: &RegionName,
        tags: &BTreeMap<String, String>,
    ) -> Result<Answer, Refusal> {
        not_deleting(&group)?;
        if group.location != *location {
            let message = format!(
                "Invalid resource group location '{location}'. The resource group '{}' already exists in location '{}'.",
                group.name, group.location
            );
            return Err(Refusal::new(
                RefusalCode::InvalidResourceGroupLocation,
                message,
            ));
        }
        if group.tags != *tags {
            group.tags.clone_from(tags);
            group.etag = self.changed();
            self.keep_group(group.clone());
        }
        Ok(Answer::Group {
            group,
            created: false,
        })
    }

    /// Starts the delete of a group; each hub in it gets a delete operation `OPERATION-HUBID` of its own.
    pub(crate) fn delete_group(
        &mut self,
        call: Call<'_>,
        subscription: &str,
        name: &str,
        operation: &str,
    ) -> Result<Answer, Refusal> {
        self.subscription_or_refuse(subscription)?;
        let Some(mut group) = self.group(subscription, name).cloned() else {
            return Ok(Answer::Absent);
        };
        if let Some(running) = group
            .deleting
            .as_ref()
            .and_then(|id| self.operations.get(id))
        {
            return Ok(Answer::Operation(Box::new(running.clone())));
        }
        let hubs: Vec<_> = self.hubs_of_group(subscription, name).cloned().collect();
        self.fresh_operation(operation)?;
        for hub in &hubs {
            if hub.state != HubState::Deleting {
                active(hub)?;
            }
            self.fresh_operation(&part(operation, hub.id.0))?;
        }
        group.deleting = Some(operation.into());
        group.etag = self.changed();
        let begun = self.begin(
            call,
            Begin {
                id: operation,
                kind: OperationKind::DeleteGroup,
                target: key(&group.name),
                hub: None,
                subscription: &group.subscription,
                reason: "",
            },
        );
        self.keep_group(group);
        for hub in hubs.iter().filter(|hub| hub.operation.is_none()) {
            self.begin_hub_delete(
                call,
                hub,
                &part(operation, hub.id.0),
                &format!("operation {operation} deletes its group"),
            );
        }
        Ok(Answer::Operation(Box::new(begun)))
    }

    pub(crate) fn keep_group(&mut self, group: ResourceGroup) {
        self.groups
            .entry(key(&group.subscription))
            .or_default()
            .insert(key(&group.name), group);
    }

    /// Refuses a location in which nothing runs here.
    pub(crate) fn location_runs(&self, location: &RegionName) -> Result<(), Refusal> {
        if self.deployment.regions.contains(location) {
            return Ok(());
        }
        let running: Vec<_> = self
            .deployment
            .regions
            .iter()
            .map(RegionName::as_str)
            .collect();
        let message = format!(
            "The location '{}' is not available here. The regions of this deployment are: {}.",
            shown(location.as_str()),
            running.join(", ")
        );
        Err(Refusal::new(RefusalCode::LocationNotAvailable, message))
    }
}

/// Refuses what would change a group that goes away.
pub(crate) fn not_deleting(group: &ResourceGroup) -> Result<(), Refusal> {
    match &group.deleting {
        None => Ok(()),
        Some(_) => {
            let message = format!("The resource group '{}' is being deleted.", group.name);
            Err(Refusal::new(RefusalCode::ResourceGroupDeleting, message))
        }
    }
}

/// The id of the part of a group's delete that deletes one hub.
fn part(operation: &str, hub: u32) -> String {
    format!("{operation}-{hub}")
}

#[cfg(test)]
mod tests {
    use crate::refusal::RefusalCode;
    use crate::testing::*;
    use crate::{Answer, Command, HubState, OperationStatus};

    fn delete(id: &str) -> Command {
        Command::DeleteGroup {
            subscription: SUB.into(),
            name: "GROUP".into(),
            operation: id.into(),
        }
    }

    #[test]
    fn a_group_is_made_once_and_its_tags_replaced_afterwards() {
        let mut state = deployed();
        let put = |location: &str, tag: &str| Command::PutGroup {
            subscription: SUB.to_uppercase(),
            name: "Other".into(),
            location: region(location),
            tags: [("k".to_owned(), tag.to_owned())].into(),
        };
        let Answer::Group {
            group,
            created: true,
        } = state.apply(&request("a", 1, put("west", "1")))
        else {
            panic!()
        };
        let Answer::Group {
            group: next,
            created: false,
        } = state.apply(&request("b", 1, put("west", "2")))
        else {
            panic!()
        };
        assert!(next.etag > group.etag);
        assert_eq!(next.tags["k"], "2");
        let moved = state.apply(&request("c", 1, put("east", "2")));
        check_refused(
            &moved,
            RefusalCode::InvalidResourceGroupLocation,
            "already exists in location 'west'",
        );
    }

    #[test]
    fn bad_groups_are_refused() {
        let mut state = deployed();
        let mut check = |id: &str, change: fn(&mut Command), code, text: &str| {
            let mut command = put_group("fine");
            change(&mut command);
            check_refused(&state.apply(&request(id, 1, command)), code, text);
        };
        let unknown: fn(&mut Command) = |c| {
            let Command::PutGroup { subscription, .. } = c else {
                return;
            };
            *subscription = "nobody".into();
        };
        check("a", unknown, RefusalCode::SubscriptionNotFound, "nobody");
        let named: fn(&mut Command) = |c| {
            let Command::PutGroup { name, .. } = c else {
                return;
            };
            *name = "ends.".into();
        };
        check("b", named, RefusalCode::InvalidResourceGroupName, "period");
        let placed: fn(&mut Command) = |c| {
            let Command::PutGroup { location, .. } = c else {
                return;
            };
            *location = region("mars");
        };
        check("c", placed, RefusalCode::LocationNotAvailable, "west, east");
        let tagged: fn(&mut Command) = |c| {
            let Command::PutGroup { tags, .. } = c else {
                return;
            };
            tags.insert(String::new(), String::new());
        };
        check("d", tagged, RefusalCode::InvalidProperties, "tags");
    }

    #[test]
    fn deleting_a_group_deletes_its_hubs_first() {
        let mut state = active_hub();
        let Answer::Operation(op) = state.apply(&request("d", 9_000, delete("del"))) else {
            panic!()
        };
        assert_eq!(op.target, "group");
        let hub = state.hub_named("hub-one").unwrap();
        assert_eq!(
            (hub.state, hub.operation.as_deref()),
            (HubState::Deleting, Some("del-1"))
        );
        let early = state.apply(&request("e", 9_001, finish("del")));
        check_refused(&early, RefusalCode::StepOutOfOrder, "Hub-One");
        state.apply(&request("f", 9_002, finish("del-1")));
        assert!(state.hub_named("hub-one").is_none() && state.group(SUB, "group").is_some());
        let Answer::Operation(op) = state.apply(&request("g", 9_003, finish("del"))) else {
            panic!()
        };
        assert_eq!(op.status, OperationStatus::Succeeded);
        assert!(state.group(SUB, "group").is_none());
        assert_eq!(
            state.apply(&request("h", 9_004, delete("again"))),
            Answer::Absent
        );
    }

    #[test]
    fn a_group_that_is_being_deleted_takes_nothing_new_and_a_second_delete_joins_the_first() {
        let mut state = active_hub();
        state.apply(&request("d", 9_000, delete("del")));
        let hub = state.apply(&request("e", 9_001, put_hub("Hub-Two")));
        check_refused(&hub, RefusalCode::ResourceGroupDeleting, "Group");
        let group = state.apply(&request("f", 9_001, put_group("group")));
        check_refused(&group, RefusalCode::ResourceGroupDeleting, "Group");
        let Answer::Operation(op) = state.apply(&request("g", 9_002, delete("second"))) else {
            panic!()
        };
        assert_eq!(op.id, "del");
    }

    #[test]
    fn a_group_is_not_deleted_under_a_failover() {
        let mut state = active_hub();
        state.apply(&request("s", 8_000, start_failover(1, "east", "op")));
        let before = state.groups.clone();
        check_refused(
            &state.apply(&request("d", 9_000, delete("del"))),
            RefusalCode::HubNotActive,
            "409002",
        );
        assert_eq!(state.groups, before);
    }

    #[test]
    fn a_failed_delete_can_be_asked_for_again() {
        let mut state = active_hub();
        state.apply(&request("d", 9_000, delete("del")));
        state.apply(&request("e", 9_001, fail("del-1")));
        let Answer::Operation(op) = state.apply(&request("f", 9_002, finish("del"))) else {
            panic!()
        };
        assert_eq!(
            (op.status, op.error.unwrap().0.as_str()),
            (OperationStatus::Failed, "HubDeleteFailed")
        );
        assert!(state.group(SUB, "group").unwrap().deleting.is_none());
        let Answer::Operation(_) = state.apply(&request("g", 9_003, delete("retry"))) else {
            panic!()
        };
        assert_eq!(
            state.hub_named("hub-one").unwrap().operation.as_deref(),
            Some("retry-1")
        );
    }
}
