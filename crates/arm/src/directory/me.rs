//! Who asks: for everybody who is signed in, without any right.

use super::{Fields, ROOT, busy, changed, done, hashed, not_found, sessions};
use crate::answer::{self, Outcome};
use crate::call::{Call, CallerKind};
use crate::failure::Failure;
use crate::passwords;
use axum::http::StatusCode;
use control::DirectoryCommand;
use control::access::roles;
use control::directory::User;
use serde_json::{Value, json};

/// Name, groups, roles and own sessions.
pub fn get(call: &Call) -> Outcome {
    let caller = &call.caller;
    let kind = match caller.kind {
        CallerKind::User => "User",
        CallerKind::Application => "ServicePrincipal",
        CallerKind::Nobody => return Err(Failure::internal("Nobody asks.")),
    };
    let directory = &call.state.directory;
    let user = directory.users.get(&caller.object_id);
    let own = directory.sessions.values().filter(|session| {
        user.is_some_and(|user| session.user == user.object_id) && session.expires > call.now
    });
    let assigned: Vec<Value> = call
        .state
        .assignments_of(caller.asker())
        .map(|one| {
            json!({
                "role": roles::role(&one.role).map(|role| role.name),
                "roleDefinition": one.role,
                "scope": one.scope,
            })
        })
        .collect();
    answer::ok(&json!({
        "id": format!("{ROOT}/me"),
        "name": caller.name,
        "type": "Castling.Identity/me",
        "properties": {
            "kind": kind,
            "objectId": caller.object_id,
            "name": caller.name,
            "displayName": caller.display_name,
            "groups": caller.groups,
            "hasPassword": user.is_some_and(|user| user.password.is_some()),
            "roles": assigned,
            "session": caller.session,
            "sessions": own.map(|session| sessions::body(call, session)).collect::<Vec<_>>(),
        },
    }))
}

/// A user changes their own password; their other sessions end.
pub async fn set_password(call: Call) -> Outcome {
    let user = own(&call)?.clone();
    let mut fields = Fields::of_action(&call, &["currentPassword", "newPassword"])?;
    let (current, next) = (
        fields.needed("currentPassword"),
        fields.needed("newPassword"),
    );
    if let Err(why) = passwords::check_strength(&next) {
        fields.wrong("newPassword", why);
    }
    if current == next {
        fields.wrong("newPassword", "it is the one there is");
    }
    fields.done()?;
    if user.locked(call.now).is_some() {
        return Err(Failure::new(
            StatusCode::FORBIDDEN,
            "UserLocked",
            "There were too many wrong passwords. Wait, or have an administrator unlock the user.",
        ));
    }
    let object_id = user.object_id;
    let gate = &call.api.tokens.passwords;
    let right = gate
        .verify(current, user.password)
        .await
        .map_err(|_| busy())?;
    if !right {
        changed(&call, DirectoryCommand::SignInFailed { object_id }).await?;
        return Err(Failure::new(
            StatusCode::FORBIDDEN,
            "WrongPassword",
            "The current password is wrong.",
        ));
    }
    let command = DirectoryCommand::SetPassword {
        object_id,
        password: hashed(&call, next).await?,
        expired: false,
        keep: call.caller.session.clone(),
    };
    done(&call, command).await
}

/// Ends one of the caller's own sessions.
pub async fn end_session(call: Call) -> Outcome {
    let id = call.param("session").to_owned();
    let found = call.state.directory.sessions.get(&id);
    match found.filter(|session| session.user == call.caller.object_id) {
        Some(_) => done(&call, DirectoryCommand::EndSession { id }).await,
        None => Err(not_found("session", &id)),
    }
}

/// Ends all of the caller's sessions, this one too.
pub async fn end_sessions(call: Call) -> Outcome {
    let user = own(&call)?.object_id.clone();
    done(&call, DirectoryCommand::EndSessions { user }).await
}

fn own(call: &Call) -> Result<&User, Failure> {
    let found = call.state.directory.users.get(&call.caller.object_id);
    found.ok_or_else(|| {
        Failure::bad(
            "NotAUser",
            "Only a user has a password and sessions; this token is of an application.",
        )
    })
}
