//! Whose token a request carries.

use crate::Api;
use crate::call::{Caller, CallerKind};
use crate::failure::Failure;
use crate::tokens::{Expected, TokenError};
use axum::http::{HeaderMap, StatusCode, header};
use control::State;
use types::UnixMillis;

/// Who asks.
///
/// # Errors
/// 401 with a challenge: no token, a token that is not good here and now, or a principal that is not known any more.
pub fn caller(
    api: &Api,
    state: &State,
    headers: &HeaderMap,
    host: &str,
    now: UnixMillis,
) -> Result<Caller, Failure> {
    let tenant = &state.deployment.tenant;
    let refuse = |code: &'static str, message: String| {
        let challenge = format!(
            "Bearer authorization_uri=\"https://{host}/{tenant}\", error=\"invalid_token\", error_description=\"{message}\""
        );
        Failure::new(StatusCode::UNAUTHORIZED, code, message).challenge(challenge)
    };
    let Some(token) = bearer(headers) else {
        let message =
            "Authentication failed. The 'Authorization' header is missing or has no bearer token.";
        return Err(refuse("AuthenticationFailed", message.into()));
    };
    let expected = Expected {
        authority: host,
        domain: &state.deployment.domain,
        tenant,
    };
    let claims = api
        .tokens
        .verify(token, &expected, now)
        .map_err(|error| refuse(code(error), format!("Authentication failed: {error}.")))?;
    let known = state
        .deployment
        .principals
        .iter()
        .find(|principal| principal.client_id == claims.appid);
    let Some(known) = known else {
        let message = "Authentication failed: the application of the access token is not known.";
        return Err(refuse("InvalidAuthenticationToken", message.into()));
    };
    Ok(Caller {
        kind: CallerKind::Application,
        object_id: known.object_id.clone(),
        name: claims.appid.clone(),
        display_name: claims.appid,
        groups: Vec::new(),
        session: None,
    })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn code(error: TokenError) -> &'static str {
    match error {
        TokenError::Expired => "ExpiredAuthenticationToken",
        TokenError::Tenant | TokenError::Issuer => "InvalidAuthenticationTokenTenant",
        TokenError::Audience => "InvalidAuthenticationTokenAudience",
        TokenError::Malformed
        | TokenError::Algorithm
        | TokenError::Signature
        | TokenError::NotYetValid => "InvalidAuthenticationToken",
    }
}
