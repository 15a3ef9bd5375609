//! Where tokens come from: openid configuration, keys, and the endpoints that give, renew and end them.
//!
//! Shapes: control-plane notes section 4, RFC 6749, 7009, 7636, 8628, and what MSAL reads of them.

mod clients;
mod devices;
mod ending;
mod form;
mod grants;
mod oauth;
mod people;

pub use devices::device_code;
pub use ending::{revoke, sign_out};
pub use grants::token;

pub(crate) use clients::{client, is_redirect, origin};
pub(crate) use form::{Form, audience, shorten};
pub(crate) use oauth::{OauthError, submit, tenant_is_known};

use crate::answer::{self, Outcome};
use crate::call::Call;
use crate::tokens::{hex, issuer, key_set};
use oauth::refused;
use ring::digest;
use serde_json::json;

/// The openid configuration of the tenant, also under `adfs`, `organizations` and `common`.
pub fn configuration(call: &Call) -> Outcome {
    if let Err(error) = tenant_is_known(call) {
        return refused(call, error);
    }
    let tenant = call.param("tenant").to_ascii_lowercase();
    let (root, keys) = match tenant.as_str() {
        "adfs" => ("oauth2", "discovery/keys"),
        _ => ("oauth2/v2.0", "discovery/v2.0/keys"),
    };
    let at = |path: &str| format!("https://{}/{tenant}/{path}", call.host);
    answer::ok(&json!({
        "issuer": issuer(&call.host, &call.state.deployment.tenant),
        "authorization_endpoint": at(&format!("{root}/authorize")),
        "token_endpoint": at(&format!("{root}/token")),
        "device_authorization_endpoint": at(&format!("{root}/devicecode")),
        "end_session_endpoint": at(&format!("{root}/logout")),
        "revocation_endpoint": at(&format!("{root}/revoke")),
        "jwks_uri": at(keys),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "none"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS256", "PS256"],
        "grant_types_supported": [
            "authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:device_code",
        ],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "offline_access"],
        "claims_supported": [
            "sub", "iss", "aud", "exp", "iat", "nbf", "nonce", "oid", "tid", "sid", "name", "preferred_username", "upn",
        ],
        "request_uri_parameter_supported": false,
        "tenant_region_scope": null,
    }))
}

/// The public halves of the signing keys.
pub fn keys(call: &Call) -> Outcome {
    match tenant_is_known(call) {
        Ok(()) => answer::ok(&key_set(&call.state)),
        Err(error) => refused(call, error),
    }
}

/// How codes and refresh tokens are kept: hex of their SHA-256.
pub(crate) fn print(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}
