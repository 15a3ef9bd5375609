//! Users: listed, made, changed, deleted; their passwords, locks and sessions.

use super::{Fields, changed, done, hashed, not_found, page, put_status, resource};
use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::failure::Failure;
use crate::{ids, passwords};
use control::directory::User;
use control::iso::iso8601;
use control::{DirectoryAnswer, DirectoryCommand};
use serde_json::{Value, json};
use std::time::Duration;
use types::UnixMillis;

const KNOWN: [&str; 6] = [
    "displayName",
    "enabled",
    "name",
    "password",
    "passwordExpired",
    "external",
];
const RETRIES: u32 = 3;
const RETRY_AFTER: Duration = Duration::from_millis(50);
const SHOWN: [&str; 7] = [
    "objectId",
    "hasPassword",
    "created",
    "failures",
    "lockedUntil",
    "lastSignIn",
    "sessions",
];

pub fn list(call: &Call) -> Outcome {
    page(call, "users", call.state.directory.users.iter(), |user| {
        body(call, user)
    })
}

pub fn get(call: &Call) -> Outcome {
    answer::ok(&body(call, find(call)?))
}

/// Makes one (201) or changes it (200). Without a password and an external identity, a password is made and told once.
pub async fn put(call: Call) -> Outcome {
    retried(call, put_once).await
}

async fn put_once(call: Call) -> Outcome {
    let known = find_any(&call).cloned();
    write(call, known, true).await
}

/// Changes what is given.
pub async fn patch(call: Call) -> Outcome {
    retried(call, patch_once).await
}

async fn patch_once(call: Call) -> Outcome {
    let known = find(&call)?.clone();
    write(call, Some(known), false).await
}

/// Does a request again on what is there now, when that changed between reading and writing.
pub(super) async fn retried<F>(mut call: Call, once: impl Fn(Call) -> F) -> Outcome
where
    F: Future<Output = Outcome>,
{
    for n in 1..=RETRIES {
        match once(call.clone()).await {
            Err(failure) if failure.code == "PreconditionFailed" => {
                // This region's copy may have to catch up first.
                tokio::time::sleep(RETRY_AFTER * n).await;
                call.state = call.api.backend.state();
            }
            outcome => return outcome,
        }
    }
    once(call).await
}

async fn write(call: Call, known: Option<User>, whole: bool) -> Outcome {
    let mut fields = Fields::of_resource(&call, &KNOWN, &SHOWN)?;
    let mut user = match &known {
        Some(user) => user.clone(),
        None => fresh(&call, &mut fields)?,
    };
    if let Some(name) = fields.text("name")
        && !name.eq_ignore_ascii_case(&user.name)
    {
        fields.wrong("name", "the name of a user is never changed");
    }
    match fields.text("displayName") {
        Some(text) => user.display_name = text,
        None if whole && known.is_some() => user.display_name = user.name.clone(),
        None => {}
    }
    match fields.truth("enabled") {
        Some(enabled) => user.enabled = enabled,
        None if whole => user.enabled = true,
        None => {}
    }
    external(&mut fields, &mut user);
    let mut password = fields.text("password");
    let mut made = None;
    if known.is_none() && password.is_none() && user.external.is_none() {
        made = Some(random_password()?);
        password = made.clone();
    }
    if let Some(Err(why)) = password.as_deref().map(passwords::check_strength) {
        fields.wrong("password", why);
    }
    match fields.truth("passwordExpired") {
        Some(expired) => user.password_expired = expired,
        None if password.is_some() => user.password_expired = true,
        None => {}
    }
    fields.done()?;
    // Without a new one, whichever it has by then stays.
    user.password = match password {
        Some(password) => Some(hashed(&call, password).await?),
        None => None,
    };
    let new = known.is_none();
    let command = DirectoryCommand::PutUser {
        user: Box::new(user),
        expected: known.map(Box::new),
    };
    let user = changed_user(&call, command).await?;
    let mut body = body(&call, &user);
    if let Some(password) = made {
        body["properties"]["password"] = json!(password);
    }
    Ok(answer::json(put_status(new), &body))
}

/// A user that is not there yet: the path has its name, or its object id and then the body has the name.
fn fresh(call: &Call, fields: &mut Fields) -> Result<User, Failure> {
    let key = call.param("user");
    let (object_id, name) = match is_guid(key) {
        true => (key.to_ascii_lowercase(), fields.needed("name")),
        false => (ids::guid()?, key.to_owned()),
    };
    Ok(User {
        object_id,
        display_name: name.clone(),
        name,
        password: None,
        password_expired: false,
        enabled: true,
        created: call.now,
        external: None,
        failures: 0,
        locked_until: None,
        last_sign_in: None,
    })
}

fn external(fields: &mut Fields, user: &mut User) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match fields.given.get("external").cloned() {
        None => {}
        Some(Value::Null) => user.external = None,
        Some(one) => match (text(&one["provider"]), text(&one["subject"])) {
            (Some(provider), Some(subject)) => {
                user.external = Some((provider.to_lowercase(), subject));
            }
            _ => fields.wrong(
                "external",
                "an object with provider and subject is expected",
            ),
        },
    }
}

pub async fn delete(call: Call) -> Outcome {
    let object_id = match find_any(&call) {
        Some(user) => user.object_id.clone(),
        None => call.param("user").to_owned(),
    };
    done(&call, DirectoryCommand::DeleteUser { object_id }).await
}

/// Sets a password, or makes one and tells it once; ends the user's sessions.
pub async fn set_password(call: Call) -> Outcome {
    let object_id = find(&call)?.object_id.clone();
    let mut fields = Fields::of_action(&call, &["password", "expired"])?;
    let given = fields.text("password");
    if let Some(Err(why)) = given.as_deref().map(passwords::check_strength) {
        fields.wrong("password", why);
    }
    let expired = fields.truth("expired").unwrap_or(true);
    fields.done()?;
    let made = match &given {
        Some(_) => None,
        None => Some(random_password()?),
    };
    let Some(password) = given.or_else(|| made.clone()) else {
        return Err(Failure::internal("No password was made."));
    };
    let command = DirectoryCommand::SetPassword {
        object_id,
        password: hashed(&call, password).await?,
        expired,
        keep: None,
    };
    let user = changed_user(&call, command).await?;
    let mut body = body(&call, &user);
    if let Some(password) = made {
        body["properties"]["password"] = json!(password);
    }
    answer::ok(&body)
}

pub async fn unlock(call: Call) -> Outcome {
    let object_id = find(&call)?.object_id.clone();
    let user = changed_user(&call, DirectoryCommand::UnlockUser { object_id }).await?;
    answer::ok(&body(&call, &user))
}

pub async fn end_sessions(call: Call) -> Outcome {
    let user = find(&call)?.object_id.clone();
    done(&call, DirectoryCommand::EndSessions { user }).await
}

async fn changed_user(call: &Call, command: DirectoryCommand) -> Result<User, Failure> {
    match changed(call, command).await? {
        DirectoryAnswer::User(user) => Ok(*user),
        _ => Err(Failure::internal(
            "The directory answered with something else.",
        )),
    }
}

fn find(call: &Call) -> Result<&User, Failure> {
    find_any(call).ok_or_else(|| not_found("user", call.param("user")))
}

/// By object id or by name.
fn find_any(call: &Call) -> Option<&User> {
    let key = call.param("user");
    let directory = &call.state.directory;
    let by_id = directory.users.get(key);
    by_id
        .or_else(|| directory.users.get(&key.to_ascii_lowercase()))
        .or_else(|| directory.user_named(key))
}

pub(super) fn body(call: &Call, user: &User) -> Value {
    let at = |at: Option<UnixMillis>| at.map(iso8601);
    let external = user.external.as_ref();
    let sessions = call.state.directory.sessions.values();
    resource(
        "users",
        &user.object_id,
        json!({
            "objectId": user.object_id,
            "name": user.name,
            "displayName": user.display_name,
            "enabled": user.enabled,
            "hasPassword": user.password.is_some(),
            "passwordExpired": user.password_expired,
            "external": external.map(|(provider, subject)| json!({ "provider": provider, "subject": subject })),
            "created": iso8601(user.created),
            "failures": user.failures,
            "lockedUntil": at(user.locked(call.now)),
            "lastSignIn": at(user.last_sign_in),
            "sessions": sessions.filter(|one| one.user == user.object_id && one.expires > call.now).count(),
        }),
    )
}

/// 128 random bits.
fn random_password() -> Result<String, Failure> {
    use base64::Engine;
    let bytes = ids::random::<16>()?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

fn is_guid(text: &str) -> bool {
    let form = |(at, b): (usize, u8)| match at {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.bytes().enumerate().all(form)
}
