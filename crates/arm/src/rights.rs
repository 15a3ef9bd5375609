//! Whether a caller may do what a request asks: the permission of its route, at the scope its path names.

use crate::call::{Call, Caller};
use crate::failure::{Failure, shown};
use crate::routes::{Params, Route};
use axum::http::StatusCode;
use control::State;
use control::access::rights::covers;
use control::access::{Asker, roles};
use control::naming::{group_path, hub_path};

/// The scope that a request is about: its hub, its group, its subscription, or `/`.
///
/// # Errors
/// 400 if a name in the path holds a slash: it would name a scope that the path does not.
pub fn scope_of(params: &Params) -> Result<String, Failure> {
    let param = |name: &str| {
        let found = params.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    };
    let names = ["subscription", "group", "hub"].map(param);
    if names.iter().flatten().any(|name| name.contains('/')) {
        return Err(Failure::bad(
            "InvalidRequestUri",
            "The path is malformed: the name of a subscription, a resource group or a hub holds no slash.",
        ));
    }
    Ok(match names {
        [Some(subscription), Some(group), Some(hub)] => hub_path(subscription, group, hub),
        [Some(subscription), Some(group), None] => group_path(subscription, group),
        [Some(subscription), ..] => format!("/subscriptions/{subscription}"),
        [None, ..] => "/".to_owned(),
    })
}

/// Whether a caller may use a route at a scope.
pub fn allows(state: &State, caller: &Caller, route: &Route, scope: &str) -> bool {
    match (route.permission, route.filtered) {
        ("", _) => true,
        (action, true) => Reach::of(state, caller.asker(), action).touches(scope),
        (action, false) => state.may(caller.asker(), action, scope),
    }
}

/// 403, in the words of the public service.
pub fn forbidden(caller: &Caller, action: &str, scope: &str) -> Failure {
    Failure::new(
        StatusCode::FORBIDDEN,
        "AuthorizationFailed",
        format!(
            "The client '{}' with object id '{}' does not have authorization to perform action '{action}' over scope '{}' or the scope is invalid.",
            caller.name,
            caller.object_id,
            shown(scope)
        ),
    )
}

/// Where a caller may do one thing: the scopes at which a role of theirs allows it. Made once for a list.
pub struct Reach {
    everywhere: bool,
    scopes: Vec<String>,
}

impl Reach {
    pub fn of(state: &State, asker: Asker<'_>, action: &str) -> Reach {
        let allows = |role: &str| roles::role(role).is_some_and(|role| role.allows(action));
        let scopes: Vec<String> = state
            .assignments_of(asker)
            .filter(|assignment| allows(&assignment.role))
            .map(|assignment| assignment.scope.clone())
            .collect();
        Reach {
            everywhere: scopes.iter().any(|scope| scope == "/"),
            scopes,
        }
    }

    /// Allowed at a scope: by a role there or above.
    pub fn covers(&self, scope: &str) -> bool {
        self.everywhere || self.scopes.iter().any(|known| covers(known, scope))
    }

    /// Allowed at a scope, or at something in it: who may read a hub may see the group it is in.
    pub fn touches(&self, scope: &str) -> bool {
        self.covers(scope) || self.scopes.iter().any(|known| covers(scope, known))
    }
}

impl Call {
    /// Whether the caller may do something at a scope.
    pub fn may(&self, action: &str, scope: &str) -> bool {
        self.state.may(self.caller.asker(), action, scope)
    }

    /// # Errors
    /// 403 if the caller may not do something at a scope.
    pub fn require(&self, action: &str, scope: &str) -> Result<(), Failure> {
        match self.may(action, scope) {
            true => Ok(()),
            false => Err(forbidden(&self.caller, action, scope)),
        }
    }

    /// Where the caller may do something.
    pub fn reach(&self, action: &str) -> Reach {
        Reach::of(&self.state, self.caller.asker(), action)
    }

    /// The scope that the path names.
    pub fn scope(&self) -> String {
        scope_of(&self.params).unwrap_or_else(|_| "/".to_owned())
    }
}
