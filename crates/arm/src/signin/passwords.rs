//! The steps with a password: signing in, and choosing another one.

use super::pending::{Pending, SignedIn, Stage, password_print};
use super::{accept, show_again};
use crate::call::Call;
use crate::identity::{Form, OauthError, submit};
use crate::passwords::{Busy, check_strength};
use axum::response::Response;
use control::directory::{Secret, User};
use control::{DirectoryCommand, State};
use types::{UnixMillis, limits};

const WRONG: &str = "Name or password is wrong.";

fn busy(_: Busy) -> OauthError {
    OauthError::unavailable("Too many people are signing in right now. Try again in a moment.")
}

pub(super) fn locked(user: &User, now: UnixMillis) -> Option<String> {
    let until = user.locked_until.filter(|until| now < *until)?;
    let minutes = until.since(now) / 60_000 + 1;
    Some(format!(
        "This account is locked because of too many wrong passwords. Try again in {minutes} minutes, or ask an administrator."
    ))
}

/// Name and password.
pub(super) async fn sign_in(
    call: &Call,
    form: &Form,
    pending: Pending,
) -> Result<Response, OauthError> {
    let again =
        |pending, mistake: &str| Ok(show_again(call, pending, Stage::SignIn, Some(mistake)));
    let (Some(name), Some(password)) = (form.get("username"), form.get("password")) else {
        return again(pending, "Type your name and your password.");
    };
    let name = name.trim();
    if password.len() > limits::PASSWORD_BYTES_MAX || name.len() > limits::PASSWORD_BYTES_MAX {
        return again(pending, WRONG);
    }
    let user = call.state.directory.user_named(name);
    if let Some(why) = user.and_then(|user| locked(user, call.now)) {
        return again(pending, &why);
    }
    let known = user.filter(|user| user.enabled);
    let hash = known.and_then(|user| user.password.clone());
    let passwords = &call.api.tokens.passwords;
    let right = passwords
        .verify(password.to_owned(), hash.clone())
        .await
        .map_err(busy)?;
    let Some(user) = user else {
        return again(pending, WRONG);
    };
    // Others may have guessed meanwhile: many at once must not be more guesses than one after the other.
    let state = call.api.backend.state();
    let user = state.directory.users.get(&user.object_id).unwrap_or(user);
    if let Some(why) = locked(user, call.now) {
        return again(pending, &why);
    }
    if !right {
        let object_id = user.object_id.clone();
        let noted = DirectoryCommand::SignInFailed { object_id };
        // Unless it is noted, there is no answer: guesses must count. That the user is locked by it shows below.
        let _ = submit(call, &user.name, &user.object_id, noted).await?;
        let state = call.api.backend.state();
        let after = state.directory.users.get(&user.object_id);
        let why = after.and_then(|user| locked(user, call.now));
        return again(pending, why.as_deref().unwrap_or(WRONG));
    }
    if user.password != hash {
        // It was replaced while it was compared.
        return again(pending, WRONG);
    }
    let signed_in = SignedIn {
        user: user.object_id.clone(),
        print: password_print(hash.as_ref()),
    };
    if user.password_expired {
        let stage = Stage::NewPassword(signed_in);
        return Ok(show_again(call, pending, stage, None));
    }
    accept(call, signed_in, Vec::new(), pending).await
}

/// The user, if the password is still the one that they signed in with and must replace.
fn to_replace<'a>(state: &'a State, signed_in: &SignedIn) -> Option<&'a User> {
    let user = state.directory.users.get(&signed_in.user);
    user.filter(|user| user.enabled && user.password_expired)
        .filter(|user| password_print(user.password.as_ref()) == signed_in.print)
}

/// The password that replaces one which an administrator gave.
pub(super) async fn replace(
    call: &Call,
    form: &Form,
    pending: Pending,
    signed_in: &SignedIn,
) -> Result<Response, OauthError> {
    let again = |pending: Pending, mistake: &str| {
        let stage = pending.stage.clone();
        Ok(show_again(call, pending, stage, Some(mistake)))
    };
    let from_start =
        |pending, mistake: &str| Ok(show_again(call, pending, Stage::SignIn, Some(mistake)));
    // It was replaced meanwhile, perhaps by this very form.
    const CHANGED: &str = "The password was changed already. Sign in with it.";
    let Some(user) = to_replace(&call.state, signed_in) else {
        return from_start(pending, CHANGED);
    };
    if let Some(why) = locked(user, call.now) {
        return from_start(pending, &why);
    }
    let (Some(new), Some(repeated)) = (form.get("new_password"), form.get("repeated")) else {
        return again(pending, "Type the new password twice.");
    };
    if new != repeated {
        return again(pending, "The two passwords differ.");
    }
    if let Err(why) = check_strength(new) {
        return again(pending, &why);
    }
    let passwords = &call.api.tokens.passwords;
    let same = passwords
        .verify(new.to_owned(), user.password.clone())
        .await
        .map_err(busy)?;
    if same {
        return again(pending, "The new password must be another one.");
    }
    let hash: Secret = passwords
        .hash(new.to_owned())
        .await
        .map_err(busy)?
        .map_err(OauthError::server)?;
    // Hashing takes its time.
    if to_replace(&call.api.backend.state(), signed_in).is_none() {
        return from_start(pending, CHANGED);
    }
    let object_id = &signed_in.user;
    let next = SignedIn {
        user: object_id.clone(),
        print: password_print(Some(&hash)),
    };
    let command = DirectoryCommand::SetPassword {
        object_id: object_id.clone(),
        password: hash,
        expired: false,
        keep: None,
    };
    match submit(call, &user.name, object_id, command).await? {
        Ok(_) => accept(call, next, Vec::new(), pending).await,
        Err(refusal) => again(pending, &refusal.message),
    }
}
