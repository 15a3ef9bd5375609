//! Consumer groups of a hub's event endpoint.

use crate::apply::Call;
use crate::command::Answer;
use crate::lookup::active;
use crate::model::{ConsumerGroup, Hub, State};
use crate::naming::{DEFAULT_CONSUMER_GROUP, consumer_group_name};
use crate::refusal::{Refusal, RefusalCode};
use types::{HubId, limits};

impl State {
    /// Makes a consumer group; one that is there stays as it is.
    pub(crate) fn put_consumer_group(
        &mut self,
        call: Call<'_>,
        hub: HubId,
        name: &str,
    ) -> Result<Answer, Refusal> {
        let hub = self.hub_or_refuse(hub)?;
        active(hub)?;
        consumer_group_name(name)?;
        if position(hub, name).is_some() {
            return Ok(Answer::Done);
        }
        if hub.consumer_groups.len() >= limits::CONSUMER_GROUPS_MAX {
            let message = format!(
                "IotHub '{}' has {} consumer groups, $Default among them; that is the most it can have.",
                hub.name,
                limits::CONSUMER_GROUPS_MAX
            );
            return Err(Refusal::new(RefusalCode::QuotaExceeded, message));
        }
        let group = ConsumerGroup {
            name: name.into(),
            created: call.at,
        };
        self.edit_hub(&hub.name.key(), |hub| hub.consumer_groups.push(group));
        Ok(Answer::Done)
    }

    pub(crate) fn delete_consumer_group(
        &mut self,
        hub: HubId,
        name: &str,
    ) -> Result<Answer, Refusal> {
        let hub = self.hub_or_refuse(hub)?;
        active(hub)?;
        if name.eq_ignore_ascii_case(DEFAULT_CONSUMER_GROUP) {
            let message =
                format!("The consumer group '{DEFAULT_CONSUMER_GROUP}' cannot be deleted.");
            return Err(Refusal::new(RefusalCode::ConsumerGroupInvalid, message));
        }
        let Some(at) = position(hub, name) else {
            return Ok(Answer::Absent);
        };
        self.edit_hub(&hub.name.key(), |hub| drop(hub.consumer_groups.remove(at)));
        Ok(Answer::Done)
    }
}

fn position(hub: &Hub, name: &str) -> Option<usize> {
    hub.consumer_groups
        .iter()
        .position(|group| group.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use crate::refusal::RefusalCode;
    use crate::testing::*;
    use crate::{Answer, Command, State};
    use types::HubId;

    fn put(state: &mut State, name: &str) -> Answer {
        let command = Command::PutConsumerGroup {
            hub: HubId(1),
            name: name.into(),
        };
        state.apply(&request("", 9_000, command))
    }

    fn delete(state: &mut State, name: &str) -> Answer {
        let command = Command::DeleteConsumerGroup {
            hub: HubId(1),
            name: name.into(),
        };
        state.apply(&request("", 9_000, command))
    }

    fn names(state: &State) -> Vec<&str> {
        state
            .hub_named("hub-one")
            .unwrap()
            .consumer_groups
            .iter()
            .map(|g| g.name.as_str())
            .collect()
    }

    #[test]
    fn groups_come_and_go_and_default_stays_first() {
        let mut state = active_hub();
        assert_eq!(put(&mut state, "cg1"), Answer::Done);
        assert_eq!(put(&mut state, "CG1"), Answer::Done);
        assert_eq!(names(&state), ["$Default", "cg1"]);
        assert_eq!(delete(&mut state, "Cg1"), Answer::Done);
        assert_eq!(delete(&mut state, "cg1"), Answer::Absent);
        assert_eq!(names(&state), ["$Default"]);
    }

    #[test]
    fn default_cannot_be_deleted() {
        let mut state = active_hub();
        check_refused(
            &delete(&mut state, "$default"),
            RefusalCode::ConsumerGroupInvalid,
            "$Default",
        );
    }

    #[test]
    fn there_are_at_most_twenty() {
        let mut state = active_hub();
        for n in 1..20 {
            assert_eq!(put(&mut state, &format!("c{n}")), Answer::Done);
        }
        check_refused(&put(&mut state, "c20"), RefusalCode::QuotaExceeded, "20");
        assert_eq!(put(&mut state, "c19"), Answer::Done);
    }

    #[test]
    fn bad_names_and_unknown_hubs_are_refused() {
        let mut state = active_hub();
        check_refused(
            &put(&mut state, ""),
            RefusalCode::ConsumerGroupInvalid,
            "1 to 50",
        );
        let command = Command::PutConsumerGroup {
            hub: HubId(7),
            name: "c".into(),
        };
        check_refused(
            &state.apply(&request("", 1, command)),
            RefusalCode::ResourceNotFound,
            "7",
        );
    }

    #[test]
    fn a_hub_that_fails_over_answers_at_once() {
        let mut state = active_hub();
        state.apply(&request("s", 8_000, start_failover(1, "east", "op")));
        check_refused(
            &put(&mut state, "c"),
            RefusalCode::HubNotActive,
            "is not currently in Active state",
        );
        check_refused(
            &delete(&mut state, "c"),
            RefusalCode::HubNotActive,
            "FailingOver",
        );
    }
}
