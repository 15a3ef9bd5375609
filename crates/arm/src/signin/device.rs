//! The page where a person types the code that another device shows.

use super::passwords::locked;
use super::pending::{Pending, Purpose, SignedIn, Stage, password_print};
use super::{pages, show, without_cookie};
use crate::answer::Outcome;
use crate::call::Call;
use crate::identity::{Form, OauthError, submit, tenant_is_known};
use axum::response::Response;
use control::DirectoryCommand;
use control::directory::{DeviceCode, DeviceCodeStanding};
use types::UnixMillis;

/// `GET …/deviceauth`.
pub fn device_page(call: &Call) -> Outcome {
    if let Err(error) = tenant_is_known(call) {
        return Ok(pages::failed(&error));
    }
    let typed = call.query("user_code").or_else(|| call.query("otc"));
    Ok(pages::user_code(call, typed.unwrap_or_default(), None))
}

/// `POST …/deviceauth`: leads to signing in.
pub fn enter_user_code(call: &Call) -> Outcome {
    let form = match tenant_is_known(call).and_then(|()| Form::of_body(call)) {
        Ok(form) => form,
        Err(error) => return Ok(pages::failed(&error)),
    };
    let typed = form.get("user_code").unwrap_or_default();
    let Some(code) = find(call, typed) else {
        let mistake =
            "This code is not known, or has expired. Look at it again on the other device.";
        return Ok(pages::user_code(call, typed, Some(mistake)));
    };
    let purpose = Purpose::Device {
        user_code: code.user_code.clone(),
        client_id: code.client_id.clone(),
    };
    Ok(show(call, purpose, Stage::SignIn))
}

/// A code that waits, as people type it: in any case, with or without its hyphen.
fn find<'a>(call: &'a Call, typed: &str) -> Option<&'a DeviceCode> {
    let plain = |text: &str| -> String {
        let letters = text.chars().filter(char::is_ascii_alphanumeric);
        letters.map(|c| c.to_ascii_uppercase()).collect()
    };
    let typed = plain(typed);
    let mut codes = call.state.directory.device_codes.values();
    codes.find(|code| plain(&code.user_code) == typed && waits(code, call.now))
}

fn waits(code: &DeviceCode, now: UnixMillis) -> bool {
    now < code.expires && code.standing == DeviceCodeStanding::Pending
}

/// The person who signed in says yes.
pub(super) async fn approve(
    call: &Call,
    pending: Pending,
    signed_in: SignedIn,
    groups: Vec<String>,
) -> Result<Response, OauthError> {
    let Purpose::Device { user_code, .. } = pending.purpose else {
        return Err(OauthError::request(90_014, "There is nothing to approve."));
    };
    let user = signed_in.user;
    let state = call.api.backend.state();
    let known = state.directory.users.get(&user);
    let known = known
        .filter(|user| user.enabled && password_print(user.password.as_ref()) == signed_in.print)
        .ok_or_else(|| {
            OauthError::grant(
                50_133,
                "The account was changed meanwhile. Start again on the other device.",
            )
        })?;
    if let Some(why) = locked(known, call.now) {
        return Err(OauthError::grant(50_053, why));
    }
    let standing = DeviceCodeStanding::Approved {
        user: user.clone(),
        groups,
    };
    decide(call, &user, &user_code, standing).await?;
    Ok(without_cookie(pages::device_done(true)))
}

/// The person says no, signed in or not: whoever knows the code may refuse it.
pub(super) async fn deny(call: &Call, user_code: &str) -> Result<Response, OauthError> {
    decide(call, "", user_code, DeviceCodeStanding::Denied).await?;
    Ok(without_cookie(pages::device_done(false)))
}

async fn decide(
    call: &Call,
    user: &str,
    user_code: &str,
    standing: DeviceCodeStanding,
) -> Result<(), OauthError> {
    let over = || {
        OauthError::grant(
            70_020,
            "The code has expired or was decided already. Start again on the other device.",
        )
    };
    let state = call.api.backend.state();
    let mut codes = state.directory.device_codes.values();
    // Anybody may send this, as often as they like: what can have no effect is not submitted.
    if !codes.any(|code| code.user_code == user_code && waits(code, call.now)) {
        return Err(over());
    }
    let known = state.directory.users.get(user);
    let name = known.map_or("", |user| user.name.as_str());
    let command = DirectoryCommand::DecideDeviceCode {
        user_code: user_code.to_owned(),
        standing,
    };
    let decided = submit(call, name, user, command).await?;
    decided.map(|_| ()).map_err(|_| over())
}
