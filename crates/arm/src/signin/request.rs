//! The request that a program sends a browser here with (RFC 6749 section 4.1.1, RFC 7636).

use super::Purpose;
use crate::call::Call;
use crate::failure::shown;
use crate::identity::{Form, OauthError, audience, client, is_redirect, shorten};

/// What is asked for.
pub(super) enum Asked {
    Page(Purpose),
    /// The program is to be told.
    Refused(Purpose, OauthError),
}

/// Reads the query.
///
/// # Errors
/// What must not be sent on, since nobody knows whose address it is: an unknown client, a redirect that is not allowed.
pub(super) fn read(call: &Call) -> Result<Asked, OauthError> {
    let form = Form::of_query(call)?;
    let id = form.need("client_id")?;
    let client = client(id).ok_or_else(|| {
        let message = format!(
            "Application with identifier '{}' was not found in the directory.",
            shown(id)
        );
        OauthError::bad("unauthorized_client", 700_016, message)
    })?;
    let redirect_uri = form.need("redirect_uri")?;
    if !is_redirect(redirect_uri, &call.host) {
        return Err(OauthError::request(
            50_011,
            format!(
                "The redirect URI '{}' is not allowed: it must be http://localhost or http://127.0.0.1, with any port and path, or \
                 this deployment's portal.",
                shown(redirect_uri)
            ),
        ));
    }
    let mode = form.get("response_mode").unwrap_or("query");
    let mut purpose = Purpose::Code {
        client_id: client.id.to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        challenge: String::new(),
        scope: String::new(),
        state: shorten("state", form.get("state"))?,
        nonce: shorten("nonce", form.get("nonce"))?,
        form_post: mode == "form_post",
        login_hint: shorten("login_hint", form.get("login_hint"))?,
    };
    let rest = rest(call, &form, mode);
    let (found_challenge, found_scope) = match rest {
        Ok(found) => found,
        Err(error) => return Ok(Asked::Refused(purpose, error)),
    };
    if let Purpose::Code {
        challenge, scope, ..
    } = &mut purpose
    {
        *challenge = found_challenge;
        *scope = found_scope;
    }
    Ok(Asked::Page(purpose))
}

/// Challenge and scope.
fn rest(call: &Call, form: &Form, mode: &str) -> Result<(String, String), OauthError> {
    if !["query", "form_post"].contains(&mode) {
        let message = "The response_mode must be 'query' or 'form_post'.";
        return Err(OauthError::request(70_002, message));
    }
    if form.get("response_type") != Some("code") {
        let message = "The response_type must be 'code'.";
        return Err(OauthError::bad(
            "unsupported_response_type",
            700_054,
            message,
        ));
    }
    if form.get("prompt") == Some("none") {
        let message = "The person has to sign in, and prompt=none forbids to ask.";
        return Err(OauthError::bad("login_required", 50_058, message));
    }
    let challenge = form.get("code_challenge").unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let is_hash = challenge.len() == 43 && challenge.bytes().all(plain);
    if !is_hash || form.get("code_challenge_method") != Some("S256") {
        let message = "Proof Key for Code Exchange is required: a code_challenge with code_challenge_method=S256.";
        return Err(OauthError::request(9_002_325, message));
    }
    let scope = shorten("scope", form.get("scope"))?.unwrap_or_default();
    let asked = audience(call, Some(&scope), form.get("resource"))?;
    let scope = match asked {
        Some(audience) if scope.is_empty() => format!("{audience}/.default"),
        _ => scope,
    };
    Ok((challenge.to_owned(), scope))
}
