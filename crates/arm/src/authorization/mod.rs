//! `Microsoft.Authorization`: role assignments, role definitions, what the caller may do, and locks, at a scope.

pub mod assignments;
pub mod definitions;
mod filter;
pub mod locks;

use crate::call::Call;
use crate::failure::{Failure, shown};
use control::access::rights::covers;

/// The path of the scope that a request is about, as its owner wrote it.
///
/// # Errors
/// 404 if it names nothing that is there.
fn scope(call: &Call) -> Result<String, Failure> {
    let asked = call.scope();
    if let Some(path) = call.state.scope_path(&asked) {
        return Ok(path);
    }
    if !call.param("hub").is_empty() {
        call.hub()?;
    }
    if !call.param("group").is_empty() {
        call.group()?;
    }
    call.subscription()?;
    Err(Failure::not_found(
        "ResourceNotFound",
        format!("The scope '{}' was not found.", shown(&asked)),
    ))
}

/// A scope as the beginning of an id: nothing for `/`.
fn prefix(scope: &str) -> &str {
    match scope {
        "/" => "",
        scope => scope,
    }
}

/// What a list at a scope holds: what is at it, above it and, unless only what holds for the scope itself is wanted, below it.
fn listed(at: &str, scope: &str, below: bool) -> bool {
    covers(at, scope) || (below && covers(scope, at))
}
