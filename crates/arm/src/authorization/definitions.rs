//! Role definitions, which are all built in, and what the caller's roles allow.

use super::filter::{self, Condition};
use super::scope;
use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::failure::{Failure, shown};
use control::access::is_guid;
use control::access::rights::covers;
use control::access::roles::{ROLES, RoleDefinition, role};
use serde_json::{Value, json};

const TYPE: &str = "Microsoft.Authorization/roleDefinitions";

/// All roles, or those that a filter names.
pub fn list(call: &Call) -> Outcome {
    scope(call)?;
    let conditions = filter::read(call)?;
    for condition in &conditions {
        let known = match condition {
            Condition::Bare(word) => word == "atscope" || word == "atscopeandbelow",
            Condition::Of(word, _) => word == "rolename" || word == "type",
        };
        if !known {
            return Err(filter::unsupported(condition));
        }
    }
    let passes = |role: &&RoleDefinition| {
        conditions.iter().all(|condition| match condition {
            Condition::Of(word, value) if word == "rolename" => {
                role.name.eq_ignore_ascii_case(value)
            }
            Condition::Of(_, value) => value.eq_ignore_ascii_case("BuiltInRole"),
            Condition::Bare(_) => true,
        })
    };
    answer::list(
        ROLES
            .iter()
            .filter(passes)
            .map(|role| body(call, role))
            .collect(),
    )
}

pub fn get(call: &Call) -> Outcome {
    scope(call)?;
    let id = call.param("role");
    let known = role(id).ok_or_else(|| {
        Failure::not_found(
            "RoleDefinitionDoesNotExist",
            format!(
                "The specified role definition with ID '{}' does not exist.",
                shown(id)
            ),
        )
    })?;
    answer::ok(&body(call, known))
}

/// What the caller's roles at a scope allow there.
pub fn permissions(call: &Call) -> Outcome {
    let scope = call.scope();
    let mut roles: Vec<&RoleDefinition> = call
        .state
        .assignments_of(call.caller.asker())
        .filter(|assignment| covers(&assignment.scope, &scope))
        .filter_map(|assignment| role(&assignment.role))
        .collect();
    roles.sort_by_key(|role| role.id);
    roles.dedup_by_key(|role| role.id);
    answer::list(roles.into_iter().map(permission).collect())
}

/// The id of a role as this request's paths write it: below the subscription it asks about, as clients compare it.
pub fn id(call: &Call, role: &str) -> String {
    match call.subscription() {
        Ok(subscription) => format!("/subscriptions/{}/providers/{TYPE}/{role}", subscription.id),
        Err(_) => format!("/providers/{TYPE}/{role}"),
    }
}

/// The role that an id names; a GUID alone counts as well.
pub fn id_of(text: &str) -> Option<String> {
    let name = match text.rsplit_once('/') {
        None => text,
        Some((before, name)) => {
            let at = before.len().checked_sub(TYPE.len())?;
            let named = before.get(at..)?.eq_ignore_ascii_case(TYPE);
            named.then_some(name)?
        }
    };
    is_guid(name).then(|| name.to_ascii_lowercase())
}

fn permission(role: &RoleDefinition) -> Value {
    json!({
        "actions": role.actions,
        "notActions": role.not_actions,
        "dataActions": role.data_actions,
        "notDataActions": [],
    })
}

fn body(call: &Call, role: &RoleDefinition) -> Value {
    json!({
        "id": id(call, role.id),
        "name": role.id,
        "type": TYPE,
        "properties": {
            "roleName": role.name,
            "type": "BuiltInRole",
            "description": role.description,
            "assignableScopes": ["/"],
            "permissions": [permission(role)],
        },
    })
}
