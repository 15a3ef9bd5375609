//! Where tokens come from: openid configuration, keys, and the token endpoint (control-plane notes section 4).

use crate::answer::{self, Outcome};
use crate::call::{self, Call};
use crate::failure::{Failure, shown};
use crate::ids;
use crate::tokens::{Grant, SecretError, is_own_audience, issuer};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::json;
use types::limits;

/// Path words that stand for the one tenant there is.
const ANY_TENANT: [&str; 3] = ["adfs", "organizations", "common"];

/// An OAuth error: status, `error`, the number of its AADSTS code, and what went wrong.
struct OauthError(StatusCode, &'static str, u32, String);

/// The openid configuration of the tenant, also under `adfs`, `organizations` and `common`.
pub fn configuration(call: &Call) -> Outcome {
    if let Err(error) = tenant_is_known(call) {
        return refused(call, error);
    }
    let base = format!("https://{}", call.host);
    let tenant = call.param("tenant").to_ascii_lowercase();
    let (token, authorize, keys) = match tenant.as_str() {
        "adfs" => ("oauth2/token", "oauth2/authorize", "discovery/keys"),
        _ => (
            "oauth2/v2.0/token",
            "oauth2/v2.0/authorize",
            "discovery/v2.0/keys",
        ),
    };
    answer::ok(&json!({
        "issuer": issuer(&call.host, &call.state.deployment.tenant),
        "authorization_endpoint": format!("{base}/{tenant}/{authorize}"),
        "token_endpoint": format!("{base}/{tenant}/{token}"),
        "jwks_uri": format!("{base}/{tenant}/{keys}"),
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": ["token"],
        "response_modes_supported": ["form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "scopes_supported": ["openid"],
        "tenant_region_scope": null,
    }))
}

/// The public half of the signing key.
pub fn keys(call: &Call) -> Outcome {
    match tenant_is_known(call) {
        Ok(()) => answer::ok(&call.api.tokens.key_set()),
        Err(error) => refused(call, error),
    }
}

/// Gives a token for a client id and its secret.
pub fn token(call: &Call) -> Outcome {
    match grant(call) {
        Ok(token) => {
            let body = json!({
                "token_type": "Bearer",
                "expires_in": limits::MANAGEMENT_TOKEN_S - 1,
                "ext_expires_in": limits::MANAGEMENT_TOKEN_S - 1,
                "access_token": token,
            });
            Ok(uncached(answer::json(StatusCode::OK, &body)))
        }
        Err(error) => refused(call, error),
    }
}

fn grant(call: &Call) -> Result<String, OauthError> {
    tenant_is_known(call)?;
    let text = std::str::from_utf8(&call.body)
        .map_err(|_| invalid(9_000_411, "The request body is not UTF-8."))?;
    let form = Form::read(text)?;
    let grant_type = form.need("grant_type")?;
    if grant_type != "client_credentials" {
        let message = format!(
            "The app requested an unsupported grant type '{}'; only client_credentials is served.",
            shown(grant_type)
        );
        return Err(OauthError(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            70_003,
            message,
        ));
    }
    let (client, secret) = (form.need("client_id")?, form.need("client_secret")?);
    let deployment = &call.state.deployment;
    let principal = deployment
        .principals
        .iter()
        .find(|principal| principal.client_id.eq_ignore_ascii_case(client))
        .ok_or_else(|| {
            let message = format!(
                "Application with identifier '{}' was not found in the directory '{}'.",
                shown(client),
                deployment.tenant
            );
            OauthError(
                StatusCode::BAD_REQUEST,
                "unauthorized_client",
                700_016,
                message,
            )
        })?;
    call.api
        .tokens
        .check_secret(principal, secret, call.now)
        .map_err(wrong_secret)?;
    let grant = Grant {
        authority: &call.host,
        audience: form.audience(call)?,
        tenant: &deployment.tenant,
        principal,
    };
    call.api.tokens.issue(&grant, call.now).map_err(|why| {
        OauthError(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            90_033,
            format!("No token could be signed: {why}."),
        )
    })
}

fn wrong_secret(error: SecretError) -> OauthError {
    let (number, message) = match error {
        SecretError::Wrong => (7_000_215, "Invalid client secret provided.".to_owned()),
        SecretError::TooManyAttempts => (
            50_053,
            format!(
                "There were too many attempts with a wrong secret for this client id. Try again in {} seconds.",
                limits::MANAGEMENT_WRONG_SECRETS_MS / 1000
            ),
        ),
    };
    OauthError(StatusCode::UNAUTHORIZED, "invalid_client", number, message)
}

fn invalid(number: u32, message: impl Into<String>) -> OauthError {
    OauthError(
        StatusCode::BAD_REQUEST,
        "invalid_request",
        number,
        message.into(),
    )
}

fn tenant_is_known(call: &Call) -> Result<(), OauthError> {
    let (given, own) = (call.param("tenant"), &call.state.deployment.tenant);
    if own.is_empty() {
        let message = "This region does not know its deployment yet. Try again in a moment.";
        return Err(OauthError(
            StatusCode::SERVICE_UNAVAILABLE,
            "temporarily_unavailable",
            90_033,
            message.into(),
        ));
    }
    let any = ANY_TENANT
        .iter()
        .any(|word| word.eq_ignore_ascii_case(given));
    if any || given.eq_ignore_ascii_case(own) {
        return Ok(());
    }
    Err(OauthError(
        StatusCode::BAD_REQUEST,
        "invalid_tenant",
        90_002,
        format!(
            "Tenant '{}' not found. This deployment's tenant is '{own}'.",
            shown(given)
        ),
    ))
}

/// The fields of a token request; a field that stands twice is refused.
struct Form(Vec<(String, String)>);

impl Form {
    fn read(text: &str) -> Result<Form, OauthError> {
        let fields = call::query(text);
        for (at, (name, _)) in fields.iter().enumerate() {
            if fields[..at].iter().any(|(other, _)| other == name) {
                return Err(invalid(
                    9_000_411,
                    format!("The parameter '{}' is duplicated.", shown(name)),
                ));
            }
        }
        Ok(Form(fields))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    fn need(&self, name: &str) -> Result<&str, OauthError> {
        self.get(name).ok_or_else(|| {
            invalid(
                900_144,
                format!("The request body must contain the following parameter: '{name}'."),
            )
        })
    }

    /// From `scope` (audience + `/.default`, the audience's own slash kept) or the older `resource`.
    fn audience(&self, call: &Call) -> Result<&str, OauthError> {
        let scope = self.get("scope").and_then(|scope| {
            scope
                .split(' ')
                .find_map(|word| word.strip_suffix("/.default"))
        });
        let Some(audience) = scope.or_else(|| self.get("resource")) else {
            let message = "The provided value for the input parameter 'scope' is not valid: it must be an audience with '/.default' after it.";
            return Err(OauthError(
                StatusCode::BAD_REQUEST,
                "invalid_scope",
                70_011,
                message.into(),
            ));
        };
        if is_own_audience(audience, &call.host, &call.state.deployment.domain) {
            return Ok(audience);
        }
        let message = format!(
            "The resource principal named '{}' was not found in this tenant.",
            shown(audience)
        );
        Err(OauthError(
            StatusCode::BAD_REQUEST,
            "invalid_resource",
            500_011,
            message,
        ))
    }
}

fn refused(call: &Call, error: OauthError) -> Result<Response, Failure> {
    let OauthError(status, kind, number, message) = error;
    let correlation = match ids::given(&call.headers, "client-request-id") {
        Some(given) => given,
        None => ids::guid()?,
    };
    let at = control::iso::iso8601(call.now);
    let timestamp = format!("{} {}Z", &at[..10], &at[11..19]);
    let trace = ids::guid()?;
    let body = json!({
        "error": kind,
        "error_description": format!(
            "AADSTS{number}: {message} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}"
        ),
        "error_codes": [number],
        "timestamp": timestamp,
        "trace_id": trace,
        "correlation_id": correlation,
    });
    Ok(uncached(answer::json(status, &body)))
}

fn uncached(mut response: Response) -> Response {
    let value = HeaderValue::from_static("no-store, no-cache");
    response.headers_mut().insert(header::CACHE_CONTROL, value);
    response
}
