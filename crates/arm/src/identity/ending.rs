//! Signing out and ending sessions.

use super::clients::is_redirect;
use super::form::Form;
use super::oauth::{OauthError, refused, submit, tenant_is_known};
use super::print;
use crate::answer::{self, Outcome};
use crate::backend::BoxFuture;
use crate::call::Call;
use crate::signin::{pages, without_cookie};
use crate::tokens::{Expected, same};
use axum::http::{StatusCode, header};
use control::DirectoryCommand;
use control::directory::Session;
use serde_json::Value;

/// Ends the session of a refresh token, or of a user's access token (RFC 7009). A token that is not good is no error.
pub fn revoke(call: Call) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        match end(&call).await {
            Ok(()) => Ok(answer::empty(StatusCode::OK)),
            Err(error) => refused(&call, error),
        }
    })
}

async fn end(call: &Call) -> Result<(), OauthError> {
    tenant_is_known(call)?;
    let form = Form::of_body(call)?;
    let token = form.need("token")?;
    let session = by_refresh_token(call, token).or_else(|| by_access_token(call, token));
    match session {
        Some(session) => end_session(call, session).await,
        None => Ok(()),
    }
}

async fn end_session(call: &Call, session: &Session) -> Result<(), OauthError> {
    let user = call.state.directory.users.get(&session.user);
    let name = user.map_or("", |user| user.name.as_str());
    let command = DirectoryCommand::EndSession {
        id: session.id.clone(),
    };
    match submit(call, name, &session.user, command).await? {
        Ok(_) => Ok(()),
        Err(refusal) => Err(OauthError::server(refusal.message)),
    }
}

fn by_refresh_token<'a>(call: &'a Call, token: &str) -> Option<&'a Session> {
    let (id, _) = token.split_once('.')?;
    let session = call.state.directory.sessions.get(id)?;
    let hash = print(token);
    let is = |known: &str| same(known.as_bytes(), hash.as_bytes());
    let before = session.refresh_before.as_ref();
    (is(&session.refresh.0) || before.is_some_and(|known| is(&known.0))).then_some(session)
}

fn by_access_token<'a>(call: &'a Call, token: &str) -> Option<&'a Session> {
    let deployment = &call.state.deployment;
    let expected = Expected {
        authority: &call.host,
        domain: &deployment.domain,
        tenant: &deployment.tenant,
    };
    let tokens = &call.api.tokens;
    let claims = tokens
        .verify(&call.state, token, &expected, call.now)
        .ok()?;
    call.state.directory.sessions.get(&claims.user?.sid)
}

/// Signs out in the browser: ends the session that `id_token_hint` names, forgets the sign-in, and sends back if asked to.
pub fn sign_out(call: Call) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        match leave(&call).await {
            Ok(back) => {
                let mut response = pages::signed_out(back.as_deref());
                if let Some(back) = &back {
                    *response.status_mut() = StatusCode::FOUND;
                    answer::set(&mut response, header::LOCATION, back);
                }
                Ok(without_cookie(response))
            }
            Err(error) => Ok(pages::failed(&error)),
        }
    })
}

async fn leave(call: &Call) -> Result<Option<String>, OauthError> {
    tenant_is_known(call)?;
    let form = match call.body.is_empty() {
        true => Form::of_query(call)?,
        false => Form::of_body(call)?,
    };
    if let Some(hint) = form.get("id_token_hint") {
        // An old one will do: it is no key, it only says which session.
        let claims = call.api.tokens.hinted(&call.state, hint);
        let id = claims
            .as_ref()
            .and_then(|claims: &Value| claims["sid"].as_str());
        if let Some(session) = id.and_then(|id| call.state.directory.sessions.get(id)) {
            end_session(call, session).await?;
        }
    }
    let back = form.get("post_logout_redirect_uri");
    let back = back.filter(|back| is_redirect(back, &call.host));
    Ok(back.map(|back| match form.get("state") {
        Some(state) => crate::signin::with_query(back, &[("state", state)]),
        None => back.to_owned(),
    }))
}
