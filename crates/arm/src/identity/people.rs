//! Tokens for people: by authorization code, by device code, and renewed.

use super::clients::client;
use super::form::{Form, audience};
use super::grants::{not_signed, unknown_client};
use super::oauth::{OauthError, submit};
use super::print;
use crate::call::Call;
use crate::ids;
use crate::tokens::{Grant, Subject, hex, issuer, same};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::directory::{AuthorizationCode, DeviceCodeStanding, Secret, Session, User};
use control::{Answer, DirectoryAnswer, DirectoryCommand, Refusal, RefusalCode};
use ring::digest;
use serde_json::{Map, Value, json};
use types::limits;

/// Redeems an authorization code: once, by the program it was given to, with the verifier of its challenge.
pub(super) async fn by_code(call: &Call, form: &Form) -> Result<Value, OauthError> {
    let client_id = public_client(call, form)?;
    let (code, redirect) = (form.need("code")?, form.need("redirect_uri")?);
    let verifier = form.need("code_verifier")?;
    let hash = print(code);
    let taken = submit(call, client_id, "", DirectoryCommand::TakeCode { hash }).await?;
    let code: AuthorizationCode = match taken {
        Ok(Answer::Directory(DirectoryAnswer::Code(code))) => *code,
        Ok(_) => return Err(strange()),
        Err(refusal) => {
            return Err(grant_refused(
                &refusal,
                70_008,
                "The provided authorization code is not known, was redeemed already, or has expired.",
            ));
        }
    };
    if !code.client_id.eq_ignore_ascii_case(client_id) {
        return Err(OauthError::grant(
            700_005,
            "The provided authorization code was given to another client.",
        ));
    }
    if code.redirect_uri != redirect {
        return Err(OauthError::grant(
            500_112,
            "The redirect_uri does not match the one of the authorization request.",
        ));
    }
    let challenge = digest::digest(&digest::SHA256, verifier.as_bytes());
    let challenge = URL_SAFE_NO_PAD.encode(challenge);
    if !same(
        challenge.as_bytes(),
        code.challenge.as_deref().unwrap_or_default().as_bytes(),
    ) {
        return Err(OauthError::grant(
            501_481,
            "The code_verifier does not match the code_challenge of the authorization request.",
        ));
    }
    let start = Start {
        user: &code.user,
        client_id: &code.client_id,
        groups: code.groups.clone(),
        scope: form.get("scope").unwrap_or(&code.scope).to_owned(),
        nonce: code.nonce.as_deref(),
        address: code.address.clone(),
    };
    begin(call, form, start).await
}

/// Redeems a device code once somebody approved it.
pub(super) async fn by_device_code(call: &Call, form: &Form) -> Result<Value, OauthError> {
    let client_id = public_client(call, form)?;
    let code = match form.get("device_code") {
        Some(code) => code,
        None => form.need("code")?,
    };
    // The code says itself when it ends: those that have ended are kept no longer.
    let ends = code
        .split_once('.')
        .and_then(|(ends, _)| i64::from_str_radix(ends, 16).ok())
        .ok_or_else(|| OauthError::grant(70_018, "The device code is malformed."))?;
    if call.now.0 >= ends {
        return Err(OauthError::bad(
            "expired_token",
            70_020,
            "The provided value for the input parameter 'device_code' has expired.",
        ));
    }
    let hash = print(code);
    if call.api.tokens.forms.polls_too_fast(&hash, call.now) {
        return Err(OauthError::bad(
            "slow_down",
            70_017,
            format!(
                "The device code is asked for too often: once in {} seconds is enough.",
                limits::DEVICE_CODE_INTERVAL_S
            ),
        ));
    }
    let known = call.state.directory.device_codes.get(&hash);
    let pending = || {
        OauthError::bad(
            "authorization_pending",
            70_016,
            "The person has not finished signing in yet.",
        )
    };
    if let Some(known) = known {
        if !known.client_id.eq_ignore_ascii_case(client_id) {
            let message = "The device code was given to another client.";
            return Err(OauthError::grant(700_005, message));
        }
        // Many ask while one person types: they do not disturb the leader.
        if known.standing == DeviceCodeStanding::Pending {
            return Err(pending());
        }
    }
    let taken = submit(
        call,
        client_id,
        "",
        DirectoryCommand::TakeDeviceCode { hash },
    )
    .await?;
    let code = match taken {
        Ok(Answer::Directory(DirectoryAnswer::DeviceCode(code))) => *code,
        Ok(_) => return Err(strange()),
        Err(refusal) => {
            let message = "The device code is not known, or was redeemed already.";
            return Err(grant_refused(&refusal, 70_018, message));
        }
    };
    if !code.client_id.eq_ignore_ascii_case(client_id) {
        let message = "The device code was given to another client.";
        return Err(OauthError::grant(700_005, message));
    }
    let (user, groups) = match code.standing {
        DeviceCodeStanding::Pending => return Err(pending()),
        DeviceCodeStanding::Denied => {
            let message = "The person declined to sign in on the other device.";
            return Err(OauthError::bad("access_denied", 70_019, message));
        }
        DeviceCodeStanding::Approved { user, groups } => (user, groups),
    };
    let start = Start {
        user: &user,
        client_id: &code.client_id,
        groups,
        scope: form.get("scope").unwrap_or(&code.scope).to_owned(),
        nonce: None,
        address: call.address.map(|address| address.to_string()),
    };
    begin(call, form, start).await
}

/// Changes a refresh token for the next one and an access token.
pub(super) async fn by_refresh_token(call: &Call, form: &Form) -> Result<Value, OauthError> {
    let client_id = public_client(call, form)?;
    let given = form.need("refresh_token")?;
    let ended = "The refresh token is not good any more: its session has ended, or it was used before. Sign in again.";
    let id = given.split('.').next().unwrap_or_default();
    let known = call.state.directory.sessions.get(id);
    if known.is_some_and(|known| !known.client_id.eq_ignore_ascii_case(client_id)) {
        let message = "The refresh token was given to another client.";
        return Err(OauthError::grant(700_005, message));
    }
    if known.is_some_and(|known| call.now >= known.expires) {
        let message = "The refresh token has expired due to inactivity. Sign in again.";
        return Err(OauthError::grant(700_082, message));
    }
    let wanted = audience(call, form.get("scope"), form.get("resource"))?;
    let next = refresh_token(id)?;
    let command = DirectoryCommand::RenewSession {
        given: Secret(print(given)),
        next: Secret(print(&next)),
        until: call.now.plus(limits::SESSION_MS),
    };
    let session = match submit(call, client_id, "", command).await? {
        Ok(Answer::Directory(DirectoryAnswer::Session(session))) => *session,
        Ok(_) => return Err(strange()),
        Err(refusal) => return Err(grant_refused(&refusal, 50_173, ended)),
    };
    let state = call.api.backend.state();
    let user = state.directory.users.get(&session.user);
    let user = user.filter(|user| user.enabled);
    let user = user.ok_or_else(|| OauthError::grant(50_057, "The user account is disabled."))?;
    answer(call, form, user, &session, wanted, next, None)
}

/// A sign-in that becomes a session.
struct Start<'a> {
    user: &'a str,
    client_id: &'a str,
    groups: Vec<String>,
    scope: String,
    nonce: Option<&'a str>,
    address: Option<String>,
}

async fn begin(call: &Call, form: &Form, start: Start<'_>) -> Result<Value, OauthError> {
    let wanted = audience(call, Some(&start.scope), form.get("resource"))?;
    let state = call.api.backend.state();
    let user = state.directory.users.get(start.user);
    let user = user.filter(|user| user.enabled);
    let user = user.ok_or_else(|| OauthError::grant(50_057, "The user account is disabled."))?;
    let id = hex(&ids::random::<16>()?);
    let refresh = refresh_token(&id)?;
    let session = Session {
        id,
        user: user.object_id.clone(),
        client_id: start.client_id.to_owned(),
        groups: start.groups,
        created: call.now,
        last_used: call.now,
        expires: call.now.plus(limits::SESSION_MS),
        address: start.address,
        refresh: Secret(print(&refresh)),
        refresh_before: None,
    };
    let command = DirectoryCommand::PutSession(Box::new(session));
    let session = match submit(call, &user.name, &user.object_id, command).await? {
        Ok(Answer::Directory(DirectoryAnswer::Session(session))) => *session,
        Ok(_) => return Err(strange()),
        Err(refusal) => return Err(OauthError::grant(50_057, refusal.message)),
    };
    answer(call, form, user, &session, wanted, refresh, start.nonce)
}

/// Access token, id token and refresh token, and what MSAL reads beside them.
fn answer(
    call: &Call,
    form: &Form,
    user: &User,
    session: &Session,
    wanted: Option<String>,
    refresh_token: String,
    nonce: Option<&str>,
) -> Result<Value, OauthError> {
    let state = call.api.backend.state();
    let tenant = &state.deployment.tenant;
    let audience = wanted.unwrap_or_else(|| format!("https://{}/", call.host));
    let grant = Grant {
        authority: &call.host,
        audience: &audience,
        tenant,
        subject: Subject::User {
            user,
            client_id: &session.client_id,
            session: &session.id,
            groups: &session.groups,
        },
    };
    let tokens = &call.api.tokens;
    let access = tokens.issue(&state, &grant, call.now).map_err(not_signed)?;
    let claims = id_claims(call, tenant, user, session, nonce);
    let id_token = tokens.sign(&state, &claims, call.now).map_err(not_signed)?;
    let scope = form.get("scope").map_or_else(
        || format!("{audience}/user_impersonation openid profile offline_access"),
        str::to_owned,
    );
    let info = json!({ "uid": user.object_id, "utid": tenant }).to_string();
    Ok(json!({
        "token_type": "Bearer",
        "scope": scope,
        "resource": audience,
        "expires_in": limits::MANAGEMENT_TOKEN_S - 1,
        "ext_expires_in": limits::MANAGEMENT_TOKEN_S - 1,
        "access_token": access,
        "refresh_token": refresh_token,
        "id_token": id_token,
        "client_info": URL_SAFE_NO_PAD.encode(info),
    }))
}

/// The id token's claims: whom the program has before it. It opens nothing, its audience is the program.
fn id_claims(
    call: &Call,
    tenant: &str,
    user: &User,
    session: &Session,
    nonce: Option<&str>,
) -> Value {
    let second = call.now.0.div_euclid(1000);
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| drop(claims.insert(name.into(), value));
    put("aud", json!(session.client_id));
    put("iss", json!(issuer(&call.host, tenant)));
    put("iat", json!(second));
    put("nbf", json!(second));
    put(
        "exp",
        json!(second.saturating_add(limits::MANAGEMENT_TOKEN_S)),
    );
    put("tid", json!(tenant));
    put("oid", json!(user.object_id));
    put("sub", json!(user.object_id));
    put("sid", json!(session.id));
    put("name", json!(user.display_name));
    put("preferred_username", json!(user.name));
    put("upn", json!(user.name));
    put("unique_name", json!(user.name));
    put("ver", json!("2.0"));
    if let Some(nonce) = nonce {
        put("nonce", json!(nonce));
    }
    Value::Object(claims)
}

/// `SESSION.RANDOM`: the first part finds the session, the second one proves it.
fn refresh_token(session: &str) -> Result<String, OauthError> {
    let random = URL_SAFE_NO_PAD.encode(ids::random::<32>()?);
    Ok(format!("{session}.{random}"))
}

fn public_client<'a>(call: &Call, form: &'a Form) -> Result<&'a str, OauthError> {
    let id = form.need("client_id")?;
    match client(id) {
        Some(_) => Ok(id),
        None => Err(unknown_client(call, id)),
    }
}

fn grant_refused(refusal: &Refusal, number: u32, message: &str) -> OauthError {
    match refusal.code {
        RefusalCode::GrantInvalid => OauthError::grant(number, message),
        _ => OauthError::grant(number, refusal.message.clone()),
    }
}

fn strange() -> OauthError {
    OauthError::server("The control plane gave an answer that does not fit the request.")
}
