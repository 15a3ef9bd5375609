//! Role assignments: who has which role where.

use super::filter::{self, Condition};
use super::{definitions, listed, prefix, scope};
use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::failure::{Failure, shown};
use crate::fields::Mistakes;
use axum::http::StatusCode;
use control::access::{AccessAnswer, AccessCommand, PrincipalType, RoleAssignment, is_guid};
use control::iso::iso8601;
use control::{Answer, Command};
use serde_json::{Value, json};

const TYPE: &str = "Microsoft.Authorization/roleAssignments";

/// Assignments at a scope, above it and below it; `atScope()` leaves out those below.
pub fn list(call: &Call) -> Outcome {
    let scope = scope(call)?;
    let mut below = true;
    let mut of: Vec<String> = Vec::new();
    for condition in filter::read(call)? {
        match &condition {
            Condition::Bare(word) if word == "atscope" => below = false,
            Condition::Of(word, value) if word == "principalid" || word == "assignedto" => {
                of.push(value.clone());
            }
            other => return Err(filter::unsupported(other)),
        }
    }
    let wanted = |known: &&RoleAssignment| {
        listed(&known.scope, &scope, below)
            && of.iter().all(|id| known.principal.eq_ignore_ascii_case(id))
    };
    let all = call.state.access.assignments.values().filter(wanted);
    answer::list(all.map(|known| body(call, known)).collect())
}

pub fn get(call: &Call) -> Outcome {
    let scope = scope(call)?;
    let name = call.param("assignment");
    let known = find(call, &scope, name).ok_or_else(|| {
        Failure::not_found(
            "RoleAssignmentNotFound",
            format!("The role assignment '{}' is not found.", shown(name)),
        )
    })?;
    answer::ok(&body(call, known))
}

/// Gives a role: 201; the same again: 200.
pub async fn put(call: Call) -> Outcome {
    let wanted = read(&call, scope(&call)?)?;
    let command = AccessCommand::Assign(Box::new(wanted));
    match call.submit(Command::Access(command)).await? {
        Answer::Access(AccessAnswer::Assignment {
            assignment,
            created,
        }) => {
            let status = if created {
                StatusCode::CREATED
            } else {
                StatusCode::OK
            };
            Ok(answer::json(status, &body(&call, &assignment)))
        }
        other => Err(unexpected(&other)),
    }
}

/// Takes a role away: 200 with what it was; 204 if there is none of this name at this very scope.
pub async fn delete(call: Call) -> Outcome {
    let scope = scope(&call)?;
    let Some(known) = find(&call, &scope, call.param("assignment")) else {
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    };
    let command = AccessCommand::Unassign {
        name: known.name.clone(),
    };
    match call.submit(Command::Access(command)).await? {
        Answer::Done => answer::ok(&body(&call, known)),
        Answer::Absent => Ok(answer::empty(StatusCode::NO_CONTENT)),
        other => Err(unexpected(&other)),
    }
}

/// Only what is given at the very scope: who may manage a hub's assignments may not reach those above it.
fn find<'a>(call: &'a Call, scope: &str, name: &str) -> Option<&'a RoleAssignment> {
    let all = &call.state.access.assignments;
    let known = all.get(&name.to_ascii_lowercase())?;
    known.scope.eq_ignore_ascii_case(scope).then_some(known)
}

fn read(call: &Call, scope: String) -> Result<RoleAssignment, Failure> {
    let body = call.json()?;
    let fields = &body["properties"];
    let mut mistakes = Mistakes::default();
    let text = |name: &str| {
        fields[name]
            .as_str()
            .map(str::trim)
            .filter(|text| !text.is_empty())
    };
    let role = text("roleDefinitionId").and_then(definitions::id_of);
    if role.is_none() {
        mistakes.add(
            "properties.roleDefinitionId",
            "the id of a role definition is expected",
        );
    }
    let principal = text("principalId").map(|id| principal(call, id));
    if principal.is_none() {
        mistakes.add("properties.principalId", "an object id is expected");
    }
    for name in ["condition", "delegatedManagedIdentityResourceId"] {
        if text(name).is_some() {
            mistakes.add(&format!("properties.{name}"), "it is not supported");
        }
    }
    let principal = principal.unwrap_or_default();
    let kind = match text("principalType") {
        None => Some(kind_of(call, &principal)),
        Some(name) => TYPES
            .iter()
            .find(|(_, known)| known.eq_ignore_ascii_case(name))
            .map(|(kind, _)| *kind),
    };
    if kind.is_none() {
        mistakes.add(
            "properties.principalType",
            "User, ServicePrincipal or Group is expected",
        );
    }
    if !is_guid(call.param("assignment")) {
        mistakes.add("name", "a GUID is expected");
    }
    let (Some(role), Some(principal_type), true) = (role, kind, mistakes.0.is_empty()) else {
        return Err(
            Failure::bad("InvalidRoleAssignment", mistakes.0.join("; ")).details(&mistakes.0)
        );
    };
    Ok(RoleAssignment {
        name: call.param("assignment").to_ascii_lowercase(),
        scope,
        role,
        principal,
        principal_type,
        description: text("description").map(str::to_owned),
        created: call.now,
        by: call.by.clone(),
    })
}

const TYPES: [(PrincipalType, &str); 3] = [
    (PrincipalType::User, "User"),
    (PrincipalType::ServicePrincipal, "ServicePrincipal"),
    (PrincipalType::Group, "Group"),
];

/// The object id meant: a client that cannot ask a directory sends an application's client id instead.
fn principal(call: &Call, id: &str) -> String {
    let applications = &call.state.directory.applications;
    let by_client = applications.get(&id.to_ascii_lowercase());
    by_client.map_or_else(|| id.to_owned(), |known| known.object_id.clone())
}

fn kind_of(call: &Call, principal: &str) -> PrincipalType {
    let mut users = call.state.directory.users.keys();
    match () {
        () if principal.contains(':') => PrincipalType::Group,
        () if users.any(|id| id.eq_ignore_ascii_case(principal)) => PrincipalType::User,
        () => PrincipalType::ServicePrincipal,
    }
}

fn body(call: &Call, known: &RoleAssignment) -> Value {
    let kind = TYPES.iter().find(|(kind, _)| *kind == known.principal_type);
    let mut body = json!({
        "id": format!("{}/providers/{TYPE}/{}", prefix(&known.scope), known.name),
        "name": known.name,
        "type": TYPE,
        "properties": {
            "roleDefinitionId": definitions::id(call, &known.role),
            "principalId": known.principal,
            "principalType": kind.map(|(_, name)| *name),
            "scope": known.scope,
            "condition": null,
            "conditionVersion": null,
            "createdOn": iso8601(known.created),
            "updatedOn": iso8601(known.created),
            "createdBy": known.by,
            "updatedBy": known.by,
        },
    });
    if let Some(text) = &known.description {
        body["properties"]["description"] = text.as_str().into();
    }
    body
}
