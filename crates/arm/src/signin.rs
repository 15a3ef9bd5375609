//! Signing in with a browser: a page asks who it is, and leads back to the program with a code, or approves another device.
//!
//! Nothing of a sign-in is kept here between two pages: it stands sealed in the form, bound to the browser by a cookie, which
//! also keeps other sites from sending the forms.

mod device;
pub(crate) mod pages;
mod passwords;
mod pending;
mod request;

pub use device::{device_page, enter_user_code};
pub(crate) use pending::{Forms, Pending, Purpose, Stage};
use pending::{SignedIn, password_print};

use crate::answer::{self, Outcome};
use crate::backend::BoxFuture;
use crate::call::Call;
use crate::identity::{Form, OauthError, print, submit, tenant_is_known};
use crate::ids;
use axum::http::{StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::directory::AuthorizationCode;
use control::{DirectoryCommand, RefusalCode};
use types::limits;
use wire::percent;

const COOKIE: &str = "castling_signin";

/// `GET …/authorize`: the page that asks who it is.
pub fn authorize(call: &Call) -> Outcome {
    let read = tenant_is_known(call).and_then(|()| request::read(call));
    Ok(match read {
        Ok(request::Asked::Page(purpose)) => show(call, purpose, Stage::SignIn),
        // The program knows what to do with it; its address was found good.
        Ok(request::Asked::Refused(purpose, error)) => back_with_error(&purpose, &error),
        Err(error) => pages::failed(&error),
    })
}

/// `POST …/authorize`: a form of these pages.
pub fn submitted(call: Call) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        let done = advance(&call).await;
        Ok(done.unwrap_or_else(|error| pages::failed(&error)))
    })
}

async fn advance(call: &Call) -> Result<Response, OauthError> {
    tenant_is_known(call)?;
    let form = Form::of_body(call)?;
    let pending = opened(call, form.get("request").unwrap_or_default())?;
    if form.get("action") == Some("cancel") {
        return cancel(call, pending).await;
    }
    match pending.stage.clone() {
        Stage::SignIn => passwords::sign_in(call, &form, pending).await,
        Stage::NewPassword(signed_in) => passwords::replace(call, &form, pending, &signed_in).await,
        Stage::Confirm { signed_in, groups } => {
            device::approve(call, pending, signed_in, groups).await
        }
    }
}

/// The sign-in that a form or a link of these pages brings back.
///
/// # Errors
/// That it is too old, or comes from elsewhere: the person starts again.
pub(crate) fn opened(call: &Call, sealed: &str) -> Result<Pending, OauthError> {
    let browser = cookie(call).unwrap_or_default();
    let pending = call.api.tokens.forms.open(sealed, &browser, call.now);
    pending.filter(|_| !browser.is_empty()).ok_or_else(|| {
        OauthError::request(
            90_014,
            "This page is too old, or does not belong to this browser. Start signing in again in the program that sent you here; \
             cookies must be allowed.",
        )
    })
}

/// A user has signed in, with a password or at an external provider: the code goes back to the program, or the other device
/// is to be approved.
pub(crate) async fn succeeded(
    call: &Call,
    user_object_id: &str,
    groups: Vec<String>,
    pending: Pending,
) -> Outcome {
    let state = call.api.backend.state();
    let user = state.directory.users.get(user_object_id);
    let signed_in = SignedIn {
        user: user_object_id.to_owned(),
        print: password_print(user.and_then(|user| user.password.as_ref())),
    };
    let done = accept(call, signed_in, groups, pending).await;
    Ok(done.unwrap_or_else(|error| pages::failed(&error)))
}

async fn accept(
    call: &Call,
    signed_in: SignedIn,
    groups: Vec<String>,
    pending: Pending,
) -> Result<Response, OauthError> {
    let state = call.api.backend.state();
    let user = state.directory.users.get(&signed_in.user);
    let user = user.filter(|user| user.enabled).ok_or_else(|| {
        OauthError::grant(50_057, "This account is disabled. Ask an administrator.")
    })?;
    let object_id = user.object_id.clone();
    let noted = DirectoryCommand::SignedIn { object_id };
    submit(call, &user.name, &user.object_id, noted)
        .await?
        .map_err(|refusal| OauthError::grant(50_126, refusal.message))?;
    match &pending.purpose {
        Purpose::Device { .. } => {
            let stage = Stage::Confirm { signed_in, groups };
            Ok(show_again(call, pending, stage, None))
        }
        Purpose::Code {
            client_id,
            redirect_uri,
            challenge,
            scope,
            nonce,
            ..
        } => {
            let code = URL_SAFE_NO_PAD.encode(ids::random::<32>()?);
            let record = AuthorizationCode {
                user: user.object_id.clone(),
                client_id: client_id.clone(),
                redirect_uri: redirect_uri.clone(),
                challenge: Some(challenge.clone()),
                scope: scope.clone(),
                nonce: nonce.clone(),
                groups,
                expires: call.now.plus(limits::AUTHORIZATION_CODE_MS),
                address: call.address.map(|address| address.to_string()),
            };
            let hash = print(&code);
            let command = DirectoryCommand::PutCode { hash, code: record };
            let put = submit(call, &user.name, &user.object_id, command).await?;
            put.map_err(|refusal| match refusal.code {
                RefusalCode::QuotaExceeded => OauthError::unavailable(refusal.message),
                _ => OauthError::server(refusal.message),
            })?;
            let tenant = &call.state.deployment.tenant;
            let info = serde_json::json!({ "uid": user.object_id, "utid": tenant }).to_string();
            let info = URL_SAFE_NO_PAD.encode(info);
            let fields = [("code", code.as_str()), ("client_info", info.as_str())];
            Ok(without_cookie(back(&pending.purpose, &fields)))
        }
    }
}

async fn cancel(call: &Call, pending: Pending) -> Result<Response, OauthError> {
    match &pending.purpose {
        Purpose::Device { user_code, .. } => device::deny(call, user_code).await,
        purpose @ Purpose::Code { .. } => {
            let error = OauthError::bad("access_denied", 65_004, "The person did not sign in.");
            Ok(without_cookie(back_with_error(purpose, &error)))
        }
    }
}

fn back_with_error(purpose: &Purpose, error: &OauthError) -> Response {
    let description = format!("AADSTS{}: {}", error.number, error.message);
    let fields = [
        ("error", error.kind),
        ("error_description", description.as_str()),
    ];
    back(purpose, &fields)
}

/// Sends the browser back to the program, with its state.
fn back(purpose: &Purpose, fields: &[(&str, &str)]) -> Response {
    let Purpose::Code {
        redirect_uri,
        state,
        form_post,
        ..
    } = purpose
    else {
        return pages::failed(&OauthError::server("A device code leads nowhere."));
    };
    let mut fields = fields.to_vec();
    if let Some(state) = state {
        fields.push(("state", state));
    }
    if *form_post {
        return pages::post_back(redirect_uri, &fields);
    }
    let mut response = pages::leaving();
    *response.status_mut() = StatusCode::FOUND;
    let to = with_query(redirect_uri, &fields);
    answer::set(&mut response, header::LOCATION, &to);
    response
}

/// An address with more parameters in its query.
pub(crate) fn with_query(address: &str, fields: &[(&str, &str)]) -> String {
    let mut text = address.to_owned();
    let mut sign = if address.contains('?') { '&' } else { '?' };
    for (name, value) in fields {
        text.push(sign);
        text.push_str(name);
        text.push('=');
        percent::encode_into(value, &mut text);
        sign = '&';
    }
    text
}

/// The first page of a sign-in, and the browser's cookie.
fn show(call: &Call, purpose: Purpose, stage: Stage) -> Response {
    let browser = match cookie(call) {
        Some(known) => known,
        None => match ids::random::<32>() {
            Ok(bytes) => URL_SAFE_NO_PAD.encode(bytes),
            Err(failure) => return pages::failed(&failure.into()),
        },
    };
    let pending = Pending {
        purpose,
        stage: stage.clone(),
        tenant: call.param("tenant").to_ascii_lowercase(),
        browser: browser.clone(),
        expires: call.now.plus(limits::SIGN_IN_FORM_MS),
    };
    let mut response = show_again(call, pending, stage, None);
    let cookie = format!("{COOKIE}={browser}; Path=/; HttpOnly; Secure; SameSite=Lax");
    answer::set(&mut response, header::SET_COOKIE, &cookie);
    response
}

/// The page of a stage, with what went wrong before it.
fn show_again(call: &Call, mut pending: Pending, stage: Stage, mistake: Option<&str>) -> Response {
    pending.stage = stage;
    match call.api.tokens.forms.seal(&pending) {
        Ok(sealed) => pages::stage(call, &pending, &sealed, mistake),
        Err(why) => pages::failed(&OauthError::server(format!("{why}."))),
    }
}

/// The browser's value, if it looks like one of ours.
fn cookie(call: &Call) -> Option<String> {
    let all = call.headers.get_all(header::COOKIE).iter();
    let mut pairs = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let found = pairs.find(|(name, _)| *name == COOKIE)?.1;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (found.len() == 43 && found.bytes().all(plain)).then(|| found.to_owned())
}

/// Makes the browser forget its value.
pub(crate) fn without_cookie(mut response: Response) -> Response {
    let gone = format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax");
    answer::set(&mut response, header::SET_COOKIE, &gone);
    response
}
