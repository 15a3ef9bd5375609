//! Locks: a scope that must not be changed or deleted.

use super::filter::{self, Condition};
use super::{listed, prefix, scope};
use crate::answer::{self, Outcome};
use crate::call::{Call, unexpected};
use crate::failure::{Failure, shown};
use crate::fields::Mistakes;
use axum::http::StatusCode;
use control::access::{AccessAnswer, AccessCommand, Lock, LockLevel};
use control::{Answer, Command};
use serde_json::{Value, json};

const TYPE: &str = "Microsoft.Authorization/locks";
const LEVELS: [(LockLevel, &str); 2] = [
    (LockLevel::CanNotDelete, "CanNotDelete"),
    (LockLevel::ReadOnly, "ReadOnly"),
];

/// Locks at a scope, above it and below it; `atScope()` leaves out those below.
pub fn list(call: &Call) -> Outcome {
    let scope = scope(call)?;
    let mut below = true;
    for condition in filter::read(call)? {
        match &condition {
            Condition::Bare(word) if word == "atscope" => below = false,
            other => return Err(filter::unsupported(other)),
        }
    }
    let locks = call.state.locks();
    let wanted = locks.filter(|lock| listed(&lock.scope, &scope, below));
    answer::list(wanted.map(body).collect())
}

pub fn get(call: &Call) -> Outcome {
    let scope = scope(call)?;
    let name = call.param("lock");
    let known = find(call, &scope, name).ok_or_else(|| {
        Failure::not_found(
            "LockNotFound",
            format!("The lock '{}' could not be found.", shown(name)),
        )
    })?;
    answer::ok(&body(known))
}

/// Puts or changes a lock: 201 or 200.
pub async fn put(call: Call) -> Outcome {
    let lock = read(&call, scope(&call)?)?;
    let command = AccessCommand::PutLock(Box::new(lock));
    match call.submit(Command::Access(command)).await? {
        Answer::Access(AccessAnswer::Lock { lock, created }) => {
            let status = if created {
                StatusCode::CREATED
            } else {
                StatusCode::OK
            };
            Ok(answer::json(status, &body(&lock)))
        }
        other => Err(unexpected(&other)),
    }
}

/// 200; 204 if there was none.
pub async fn delete(call: Call) -> Outcome {
    let command = AccessCommand::DeleteLock {
        scope: scope(&call)?,
        name: call.param("lock").into(),
    };
    match call.submit(Command::Access(command)).await? {
        Answer::Done => Ok(answer::empty(StatusCode::OK)),
        Answer::Absent => Ok(answer::empty(StatusCode::NO_CONTENT)),
        other => Err(unexpected(&other)),
    }
}

fn find<'a>(call: &'a Call, scope: &str, name: &str) -> Option<&'a Lock> {
    let of = call.state.access.locks.get(&scope.to_lowercase())?;
    of.get(&name.to_lowercase())
}

fn read(call: &Call, scope: String) -> Result<Lock, Failure> {
    let body = call.json()?;
    let fields = &body["properties"];
    let mut mistakes = Mistakes::default();
    let named = fields["level"].as_str().unwrap_or_default();
    let level = LEVELS
        .iter()
        .find(|(_, name)| name.eq_ignore_ascii_case(named));
    if level.is_none() {
        mistakes.add("properties.level", "CanNotDelete or ReadOnly is expected");
    }
    let notes = match &fields["notes"] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        _ => {
            mistakes.add("properties.notes", "a text is expected");
            None
        }
    };
    let (Some((level, _)), true) = (level, mistakes.0.is_empty()) else {
        return Err(Failure::bad("InvalidProperties", mistakes.0.join("; ")).details(&mistakes.0));
    };
    Ok(Lock {
        name: call.param("lock").into(),
        scope,
        level: *level,
        notes,
        created: call.now,
        by: call.by.clone(),
    })
}

fn body(lock: &Lock) -> Value {
    let level = LEVELS.iter().find(|(level, _)| *level == lock.level);
    let mut body = json!({
        "id": format!("{}/providers/{TYPE}/{}", prefix(&lock.scope), lock.name),
        "name": lock.name,
        "type": TYPE,
        "properties": { "level": level.map(|(_, name)| *name) },
    });
    if let Some(notes) = &lock.notes {
        body["properties"]["notes"] = notes.as_str().into();
    }
    body
}
