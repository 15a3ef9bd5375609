//! The token endpoint: which grant is asked for, and applications, which sign in with a secret or a certificate.

use super::form::{Form, audience};
use super::oauth::{OauthError, refused, tenant_is_known, uncached};
use super::people;
use crate::answer::{self, Outcome};
use crate::backend::BoxFuture;
use crate::call::Call;
use crate::failure::shown;
use crate::tokens::{Grant, SecretError, Subject};
use axum::http::StatusCode;
use control::directory::Application;
use serde_json::{Value, json};
use types::limits;

/// The only form of a client assertion: a JWT that a certificate's key signed (RFC 7523).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Gives a token for a secret, a code, a device code or a refresh token.
pub fn token(call: Call) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        match grant(&call).await {
            Ok(body) => Ok(uncached(answer::json(StatusCode::OK, &body))),
            Err(error) => refused(&call, error),
        }
    })
}

async fn grant(call: &Call) -> Result<Value, OauthError> {
    tenant_is_known(call)?;
    let form = Form::of_body(call)?;
    match form.need("grant_type")? {
        "client_credentials" => application(call, &form),
        "authorization_code" => people::by_code(call, &form).await,
        "refresh_token" => people::by_refresh_token(call, &form).await,
        "urn:ietf:params:oauth:grant-type:device_code" | "device_code" => {
            people::by_device_code(call, &form).await
        }
        other => Err(OauthError::bad(
            "unsupported_grant_type",
            70_003,
            format!(
                "The app requested an unsupported grant type '{}'; served are client_credentials, authorization_code, \
                 refresh_token and device_code.",
                shown(other)
            ),
        )),
    }
}

fn application(call: &Call, form: &Form) -> Result<Value, OauthError> {
    let application = match form.get("client_assertion") {
        Some(assertion) => by_assertion(call, form, assertion)?,
        None => by_secret(call, form)?,
    };
    if !application.enabled {
        return Err(OauthError::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized_client",
            7_000_112,
            format!("The application '{}' is disabled.", application.client_id),
        ));
    }
    let Some(audience) = audience(call, form.get("scope"), form.get("resource"))? else {
        return Err(OauthError::bad(
            "invalid_scope",
            70_011,
            "The provided value for the input parameter 'scope' is not valid: it must be an audience with '/.default' after it.",
        ));
    };
    let grant = Grant {
        authority: &call.host,
        audience: &audience,
        tenant: &call.state.deployment.tenant,
        subject: Subject::Application(&application),
    };
    let issued = call.api.tokens.issue(&call.state, &grant, call.now);
    let token = issued.map_err(not_signed)?;
    Ok(json!({
        "token_type": "Bearer",
        "expires_in": limits::MANAGEMENT_TOKEN_S - 1,
        "ext_expires_in": limits::MANAGEMENT_TOKEN_S - 1,
        "access_token": token,
    }))
}

pub(super) fn not_signed(why: String) -> OauthError {
    OauthError::unavailable(format!("No token could be signed: {why}."))
}

fn by_secret(call: &Call, form: &Form) -> Result<Application, OauthError> {
    let (client, secret) = (form.need("client_id")?, form.need("client_secret")?);
    let known = call
        .state
        .directory
        .applications
        .get(&client.to_ascii_lowercase());
    let application = known.ok_or_else(|| unknown_client(call, client))?;
    call.api
        .tokens
        .check_secret(application, secret, call.now)
        .map_err(wrong_secret)?;
    Ok(application.clone())
}

fn by_assertion(call: &Call, form: &Form, assertion: &str) -> Result<Application, OauthError> {
    if form.need("client_assertion_type")? != ASSERTION {
        let message = format!("The client_assertion_type must be '{ASSERTION}'.");
        return Err(OauthError::request(50_027, message));
    }
    let application = crate::assertion::verify(call, assertion).map_err(|why| {
        OauthError::new(
            StatusCode::UNAUTHORIZED,
            "invalid_client",
            700_027,
            format!("The client assertion is not good: {why}"),
        )
    })?;
    match form.get("client_id") {
        Some(client) if !client.eq_ignore_ascii_case(&application.client_id) => {
            Err(OauthError::new(
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                700_023,
                "The client assertion is of another application than 'client_id' names.",
            ))
        }
        _ => Ok(application),
    }
}

pub(super) fn unknown_client(call: &Call, client: &str) -> OauthError {
    OauthError::bad(
        "unauthorized_client",
        700_016,
        format!(
            "Application with identifier '{}' was not found in the directory '{}'.",
            shown(client),
            call.state.deployment.tenant
        ),
    )
}

fn wrong_secret(error: SecretError) -> OauthError {
    let (number, message) = match error {
        SecretError::Wrong => (7_000_215, "Invalid client secret provided.".to_owned()),
        SecretError::Expired => (
            7_000_222,
            "The provided client secret has expired: add a new one to the application.".to_owned(),
        ),
        SecretError::TooManyAttempts => (
            50_053,
            format!(
                "There were too many attempts with a wrong secret for this client id. Try again in {} seconds.",
                limits::MANAGEMENT_WRONG_SECRETS_MS / 1000
            ),
        ),
    };
    OauthError::new(StatusCode::UNAUTHORIZED, "invalid_client", number, message)
}
