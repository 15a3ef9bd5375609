//! What `up` or `init` lays down, and what a later start may change of it.

use crate::apply::Call;
use crate::command::Answer;
use crate::model::{Deployment, State, Subscription};
use crate::naming::key;
use crate::refusal::{Refusal, RefusalCode};
use std::collections::BTreeSet;

impl State {
    /// Lays the deployment down, or updates regions, domain and policy and adds missing principals and subscriptions.
    /// Tenant, principals and subscriptions that are there stay as they are. New principals become applications, and the
    /// administrator the first user: Owners of `/`.
    pub(crate) fn deploy(
        &mut self,
        call: Call<'_>,
        wanted: &Deployment,
        subscriptions: &[Subscription],
    ) -> Result<Answer, Refusal> {
        let mistakes = self.deployment_mistakes(wanted, subscriptions);
        if !mistakes.is_empty() {
            return Err(Refusal::new(
                RefusalCode::InvalidProperties,
                mistakes.join("; "),
            ));
        }
        let mut next = self.deployment.clone();
        if next.tenant.is_empty() {
            next.tenant.clone_from(&wanted.tenant);
        }
        next.domain.clone_from(&wanted.domain);
        next.regions.clone_from(&wanted.regions);
        next.policy = wanted.policy;
        next.limits = wanted.limits;
        for principal in &wanted.principals {
            if !next
                .principals
                .iter()
                .any(|known| known.client_id == principal.client_id)
            {
                next.principals.push(principal.clone());
            }
        }
        let missing: Vec<_> = subscriptions
            .iter()
            .filter(|s| self.subscription(&s.id).is_none())
            .collect();
        let principals = self.first_principals(call, wanted);
        if next == self.deployment && missing.is_empty() && !principals {
            return Ok(Answer::Done);
        }
        for subscription in missing {
            self.subscriptions
                .insert(key(&subscription.id), subscription.clone());
        }
        self.deployment = next;
        self.changed();
        Ok(Answer::Done)
    }

    fn deployment_mistakes(
        &self,
        wanted: &Deployment,
        subscriptions: &[Subscription],
    ) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut wrong = |when: bool, what: &str| {
            if when {
                mistakes.push(what.to_owned());
            }
        };
        let distinct: BTreeSet<_> = wanted.regions.iter().collect();
        wrong(wanted.tenant.is_empty(), "the tenant is empty");
        wrong(wanted.domain.is_empty(), "the domain is empty");
        wrong(wanted.regions.is_empty(), "no region is named");
        wrong(
            distinct.len() != wanted.regions.len(),
            "a region is named twice",
        );
        wrong(
            wanted.policy.cooldown_ms < 0,
            "the time between failovers is negative",
        );
        wrong(
            subscriptions.iter().any(|s| s.id.is_empty()),
            "a subscription has no id",
        );
        wrong(
            wanted.principals.iter().any(|p| p.client_id.is_empty()),
            "a principal has no client id",
        );
        if let Some(administrator) = &wanted.administrator {
            let whole = !administrator.object_id.is_empty()
                && !administrator.name.is_empty()
                && administrator.password.0.starts_with("$argon2id$");
            wrong(
                !whole,
                "the administrator needs an object id, a name and a hash of argon2id",
            );
        }
        for hub in self.hubs.values() {
            for region in [Some(&hub.home), hub.partner.as_ref()]
                .into_iter()
                .flatten()
            {
                if !distinct.contains(region) {
                    mistakes.push(format!(
                        "region '{region}' cannot leave: hub '{}' lives there",
                        hub.name
                    ));
                }
            }
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Principal, State, Subscription};
    use crate::refusal::RefusalCode;
    use crate::testing::*;
    use crate::{Answer, Command};

    fn change(
        state: &mut State,
        id: &str,
        with: impl FnOnce(&mut crate::model::Deployment, &mut Vec<Subscription>),
    ) -> Answer {
        let Command::Deploy {
            mut deployment,
            mut subscriptions,
        } = deploy()
        else {
            unreachable!()
        };
        with(&mut deployment, &mut subscriptions);
        state.apply(&request(
            id,
            2_000,
            Command::Deploy {
                deployment,
                subscriptions,
            },
        ))
    }

    #[test]
    fn deploying_again_changes_nothing() {
        let mut state = deployed();
        let before = (
            state.deployment.clone(),
            state.subscriptions.clone(),
            state.revision,
        );
        assert_eq!(change(&mut state, "again", |_, _| ()), Answer::Done);
        assert_eq!(
            (state.deployment, state.subscriptions, state.revision),
            before
        );
    }

    #[test]
    fn a_later_start_updates_settings_and_adds_what_is_missing_only() {
        let mut state = deployed();
        change(&mut state, "later", |deployment, subscriptions| {
            deployment.tenant = "other".into();
            deployment.domain = "new.example".into();
            deployment.policy.per_day = 7;
            deployment.regions.push(region("south"));
            deployment.principals[0].secret_sha256 = "changed".into();
            let mut second: Principal = deployment.principals[0].clone();
            second.client_id = "second".into();
            deployment.principals.push(second);
            subscriptions[0].display_name = "renamed".into();
            subscriptions.push(Subscription {
                id: "Sub-2".into(),
                display_name: "two".into(),
            });
        });
        let d = &state.deployment;
        assert_eq!(
            (d.tenant.as_str(), d.domain.as_str(), d.policy.per_day),
            ("tenant", "new.example", 7)
        );
        assert_eq!(d.regions.last(), Some(&region("south")));
        assert_eq!(d.principals.len(), 2);
        assert_eq!(d.principals[0].secret_sha256, "hash");
        assert_eq!(state.subscription(SUB).unwrap().display_name, "one");
        assert!(state.subscription("sub-2").is_some());
    }

    #[test]
    fn a_region_with_hubs_cannot_leave() {
        let mut state = active_hub();
        let answer = change(&mut state, "less", |deployment, _| {
            deployment.regions.retain(|r| r.as_str() != "east")
        });
        check_refused(&answer, RefusalCode::InvalidProperties, "Hub-One");
    }

    #[test]
    fn all_mistakes_of_a_deployment_are_named() {
        let mut state = State::default();
        let answer = change(&mut state, "bad", |deployment, subscriptions| {
            *deployment = crate::model::Deployment::default();
            deployment.policy.cooldown_ms = -1;
            subscriptions[0].id.clear();
        });
        for what in ["tenant", "domain", "no region", "negative", "no id"] {
            check_refused(&answer, RefusalCode::InvalidProperties, what);
        }
    }
}
