//! Sessions: sign-ins of users, listed and ended.

use super::{done, not_found, page, resource};
use crate::answer::{self, Outcome};
use crate::call::Call;
use control::DirectoryCommand;
use control::directory::Session;
use control::iso::iso8601;
use serde_json::{Value, json};

/// All of them, or those of one `user` (object id or name).
pub fn list(call: &Call) -> Outcome {
    let directory = &call.state.directory;
    let wanted = call.query("user").map(|key| {
        let named = directory.user_named(key);
        named.map_or(key, |user| user.object_id.as_str())
    });
    let alive = directory.sessions.iter().filter(|(_, session)| {
        session.expires > call.now && wanted.is_none_or(|user| session.user == user)
    });
    page(call, "sessions", alive, |session| body(call, session))
}

pub fn get(call: &Call) -> Outcome {
    let id = call.param("session");
    let found = call.state.directory.session(id, call.now);
    answer::ok(&body(call, found.ok_or_else(|| not_found("session", id))?))
}

/// Ends one: its refresh token and its access tokens are good no more.
pub async fn end(call: Call) -> Outcome {
    let id = call.param("session").to_owned();
    done(&call, DirectoryCommand::EndSession { id }).await
}

pub(super) fn body(call: &Call, session: &Session) -> Value {
    let user = call.state.directory.users.get(&session.user);
    resource(
        "sessions",
        &session.id,
        json!({
            "user": session.user,
            "userName": user.map(|user| &user.name),
            "clientId": session.client_id,
            "groups": session.groups,
            "address": session.address,
            "created": iso8601(session.created),
            "lastUsed": iso8601(session.last_used),
            "expires": iso8601(session.expires),
        }),
    )
}
