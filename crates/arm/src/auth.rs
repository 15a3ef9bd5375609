//! Whose token a request carries.

use crate::Api;
use crate::call::{Caller, CallerKind};
use crate::failure::Failure;
use crate::tokens::{Claims, Expected, TokenAuthority, TokenError, UserClaims};
use axum::http::{HeaderMap, StatusCode, header};
use control::State;
use types::UnixMillis;

/// Why a request's token says nothing: an error code, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unidentified {
    pub code: &'static str,
    pub message: String,
}

impl Unidentified {
    fn new(code: &'static str, message: impl Into<String>) -> Unidentified {
        Unidentified {
            code,
            message: message.into(),
        }
    }
}

/// Who asks.
///
/// # Errors
/// 401 with a challenge: no token, a token that is not good here and now, or one of somebody who may not sign in any more.
pub fn caller(
    api: &Api,
    state: &State,
    headers: &HeaderMap,
    host: &str,
    now: UnixMillis,
) -> Result<Caller, Failure> {
    identify(&api.tokens, state, headers, host, now).map_err(|refused| {
        let Unidentified { code, message } = refused;
        let tenant = &state.deployment.tenant;
        let challenge = format!(
            "Bearer authorization_uri=\"https://{host}/{tenant}\", error=\"invalid_token\", error_description=\"{message}\""
        );
        Failure::new(StatusCode::UNAUTHORIZED, code, message).challenge(challenge)
    })
}

/// Who asks, by the bearer token in a request's headers: an application or a user that is there and enabled, a user with the
/// session that the token belongs to.
///
/// # Errors
/// With the first thing that is missing.
pub fn identify(
    tokens: &TokenAuthority,
    state: &State,
    headers: &HeaderMap,
    host: &str,
    now: UnixMillis,
) -> Result<Caller, Unidentified> {
    let Some(token) = bearer(headers) else {
        let message =
            "Authentication failed. The 'Authorization' header is missing or has no bearer token.";
        return Err(Unidentified::new("AuthenticationFailed", message));
    };
    let expected = Expected {
        authority: host,
        domain: &state.deployment.domain,
        tenant: &state.deployment.tenant,
    };
    let claims = tokens
        .verify(state, token, &expected, now)
        .map_err(|error| {
            Unidentified::new(code(error), format!("Authentication failed: {error}."))
        })?;
    if is_a_hubs(state, &claims.aud) {
        let error = TokenError::Audience;
        let why = format!("Authentication failed: {error}.");
        return Err(Unidentified::new(code(error), why));
    }
    of_claims(state, claims, now)
}

/// Whether an audience is the host name of one of the hubs: such a token is for its data only.
fn is_a_hubs(state: &State, audience: &str) -> bool {
    let host = wire::host::bare(audience.strip_prefix("https://").unwrap_or(audience));
    let host = host.trim_end_matches('/').to_ascii_lowercase();
    let suffix = format!(".{}", state.deployment.domain.to_ascii_lowercase());
    host.strip_suffix(&suffix)
        .is_some_and(|name| state.hub_named(name).is_some())
}

/// Who a token with these claims stands for.
///
/// # Errors
/// When they are not there any more, or may not sign in.
pub(crate) fn of_claims(
    state: &State,
    mut claims: Claims,
    now: UnixMillis,
) -> Result<Caller, Unidentified> {
    match claims.user.take() {
        None => application(state, &claims),
        Some(user) => person(state, &claims, user, now),
    }
}

fn application(state: &State, claims: &Claims) -> Result<Caller, Unidentified> {
    let known = state
        .directory
        .applications
        .get(&claims.appid.to_ascii_lowercase())
        .filter(|known| claims.idtyp == "app" && known.object_id == claims.oid)
        .ok_or_else(|| gone("the application of the access token is not known"))?;
    if !known.enabled {
        return Err(gone("the application of the access token is disabled"));
    }
    Ok(Caller {
        kind: CallerKind::Application,
        object_id: known.object_id.clone(),
        name: known.client_id.clone(),
        display_name: known.display_name.clone(),
        groups: Vec::new(),
        session: None,
    })
}

fn person(
    state: &State,
    claims: &Claims,
    user: UserClaims,
    now: UnixMillis,
) -> Result<Caller, Unidentified> {
    let directory = &state.directory;
    let known = directory
        .users
        .get(&claims.oid)
        .filter(|_| claims.idtyp == "user")
        .ok_or_else(|| gone("the user of the access token is not known"))?;
    if !known.enabled {
        return Err(gone("the user of the access token is disabled"));
    }
    let session = directory
        .sessions
        .get(&user.sid)
        .filter(|session| session.user == known.object_id && now < session.expires);
    if session.is_none() {
        return Err(gone("the session of the access token was ended"));
    }
    Ok(Caller {
        kind: CallerKind::User,
        object_id: known.object_id.clone(),
        name: known.name.clone(),
        display_name: known.display_name.clone(),
        groups: user.groups,
        session: Some(user.sid),
    })
}

fn gone(why: &str) -> Unidentified {
    Unidentified::new(
        "InvalidAuthenticationToken",
        format!("Authentication failed: {why}."),
    )
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
