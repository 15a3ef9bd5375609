//! Signing in with an external OpenID Connect provider: discovery, code with PKCE, the ID token, a user of our own.
//!
//! Nothing of a sign-in under way is kept here: it travels in a sealed cookie that lives as long as a form of the sign-in
//! pages (docs/formats/directory-api.md, "External providers").

mod id_token;
mod sealed;
mod users;
mod web;

pub use web::check_ca;

use crate::answer::{self, Outcome};
use crate::backend::BoxFuture;
use crate::call::Call;
use crate::failure::Failure;
use crate::identity::OauthError;
use crate::ids;
use crate::signin::{self, Pending, pages};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::directory::IdentityProvider;
use ring::digest;
use serde::{Deserialize, Serialize};
use types::{UnixMillis, limits};

const COOKIE: &str = "castling_external";

/// A sign-in that is at the provider now.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct UnderWay {
    provider: String,
    issuer: String,
    state: String,
    nonce: String,
    verifier: String,
    redirect_uri: String,
    /// What it is for, as the sign-in page sealed it.
    form: String,
    expires: UnixMillis,
}

/// What a provider's discovery document says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoints {
    authorize: String,
    token: String,
    keys: String,
}

/// The address that is registered at a provider.
pub fn redirect_uri(call: &Call) -> String {
    let tenant = &call.state.deployment.tenant;
    format!("https://{}/{tenant}/oauth2/external/callback", call.host)
}

/// Sends the browser to the provider.
pub fn start(call: Call) -> BoxFuture<'static, Outcome> {
    Box::pin(async move { Ok(leave(&call).await.unwrap_or_else(page)) })
}

/// The browser comes back: the code becomes an ID token, the token a user, and the sign-in goes on.
pub fn callback(call: Call) -> BoxFuture<'static, Outcome> {
    Box::pin(async move { Ok(arrive(&call).await.unwrap_or_else(page)) })
}

/// People read it.
fn page(failure: Failure) -> Response {
    let error = OauthError::new(failure.status, "external_sign_in", 50_000, failure.message);
    let mut response = pages::failed(&error);
    forget(&mut response);
    response
}

async fn leave(call: &Call) -> Outcome {
    let provider = enabled(call, call.param("provider"))?.clone();
    let form = call.query("request").unwrap_or_default().to_owned();
    pending(call, &form)?;
    let endpoints = discover(&provider)
        .await
        .map_err(|why| unreached(&provider, &why))?;
    let under_way = UnderWay {
        provider: provider.name.clone(),
        issuer: provider.issuer.clone(),
        state: random()?,
        nonce: random()?,
        verifier: random()?,
        redirect_uri: redirect_uri(call),
        form,
        expires: call.now.plus(limits::SIGN_IN_FORM_MS),
    };
    let sealed = sealed::seal(&under_way).map_err(Failure::internal)?;
    let address = authorize_address(&provider, &endpoints, &under_way);
    Ok(redirect(
        &address,
        &cookie(&sealed, limits::SIGN_IN_FORM_MS / 1000),
    ))
}

fn authorize_address(
    provider: &IdentityProvider,
    endpoints: &Endpoints,
    under_way: &UnderWay,
) -> String {
    let challenge = digest::digest(&digest::SHA256, under_way.verifier.as_bytes());
    let scopes = provider.scopes.join(" ");
    let challenge = URL_SAFE_NO_PAD.encode(challenge);
    let fields = [
        ("response_type", "code"),
        ("client_id", &provider.client_id),
        ("redirect_uri", &under_way.redirect_uri),
        ("scope", &scopes),
        ("state", &under_way.state),
        ("nonce", &under_way.nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let joint = match endpoints.authorize.contains('?') {
        true => '&',
        false => '?',
    };
    format!("{}{joint}{}", endpoints.authorize, web::form(&fields))
}

async fn arrive(call: &Call) -> Outcome {
    let Some(under_way) = under_way(call) else {
        return Err(Failure::bad(
            "SignInNotFound",
            "This sign-in has expired, or it was begun in another browser. Begin again.",
        ));
    };
    let pending = pending(call, &under_way.form)?;
    let provider = enabled(call, &under_way.provider)?.clone();
    let of_provider = call
        .query("iss")
        .is_none_or(|issuer| issuer == provider.issuer);
    if provider.issuer != under_way.issuer || !of_provider {
        return Err(Failure::bad(
            "SignInInvalid",
            "The answer is not from the provider that was asked.",
        ));
    }
    if let Some(error) = call.query("error") {
        return Err(Failure::new(
            StatusCode::FORBIDDEN,
            "SignInRefused",
            format!(
                "{} refused the sign-in: {}.",
                provider.display_name,
                crate::failure::shown(error)
            ),
        ));
    }
    let code = call.query("code").unwrap_or_default();
    if code.is_empty() || code.len() > limits::MANAGEMENT_TOKEN_BYTES_MAX {
        return Err(Failure::bad(
            "SignInInvalid",
            "The provider's code is missing or too long.",
        ));
    }
    let person = redeem(&provider, code, &under_way, call.now)
        .await
        .map_err(|why| unreached(&provider, &why))?;
    let (user, groups) = users::sign_in(call, &provider, &person).await?;
    let mut response = signin::succeeded(call, &user, groups, pending).await?;
    forget(&mut response);
    Ok(response)
}

/// The cookie is good once.
fn forget(response: &mut Response) {
    if let Ok(value) = HeaderValue::from_str(&cookie("", 0)) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

async fn redeem(
    provider: &IdentityProvider,
    code: &str,
    under_way: &UnderWay,
    now: UnixMillis,
) -> Result<id_token::Person, String> {
    let endpoints = discover(provider).await?;
    let mut fields = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &under_way.redirect_uri),
        ("code_verifier", &under_way.verifier),
        ("client_id", &provider.client_id),
    ];
    if let Some(secret) = &provider.client_secret {
        fields.push(("client_secret", &secret.0));
    }
    let form = web::form(&fields);
    let answer = web::exchange(provider, &endpoints.token, Some(form)).await?;
    let token = answer["id_token"]
        .as_str()
        .ok_or("its answer to the code holds no ID token")?;
    let keys = web::exchange(provider, &endpoints.keys, None).await?;
    id_token::check(provider, token, &keys, &under_way.nonce, now)
}

async fn discover(provider: &IdentityProvider) -> Result<Endpoints, String> {
    let root = provider.issuer.trim_end_matches('/');
    let address = format!("{root}/.well-known/openid-configuration");
    let found = web::exchange(provider, &address, None).await?;
    if found["issuer"].as_str() != Some(provider.issuer.as_str()) {
        return Err("its configuration names another issuer".into());
    }
    let endpoint = |name: &str| -> Result<String, String> {
        let address = found[name]
            .as_str()
            .ok_or_else(|| format!("its configuration has no {name}"))?;
        web::allowed(&provider.issuer, address)?;
        Ok(address.to_owned())
    };
    Ok(Endpoints {
        authorize: endpoint("authorization_endpoint")?,
        token: endpoint("token_endpoint")?,
        keys: endpoint("jwks_uri")?,
    })
}

fn enabled<'a>(call: &'a Call, name: &str) -> Result<&'a IdentityProvider, Failure> {
    let found = call
        .state
        .directory
        .providers
        .get(&name.to_ascii_lowercase());
    found.filter(|one| one.enabled).ok_or_else(|| {
        Failure::not_found(
            "IdentityProviderNotFound",
            format!(
                "There is no identity provider '{}'.",
                crate::failure::shown(name)
            ),
        )
    })
}

fn pending(call: &Call, form: &str) -> Result<Pending, Failure> {
    signin::opened(call, form)
        .map_err(|error| Failure::new(error.status, error.kind, error.message))
}

fn under_way(call: &Call) -> Option<UnderWay> {
    let sealed = cookie_value(call, COOKIE)?;
    let found: UnderWay = sealed::open(sealed)?;
    let given = call.query("state").unwrap_or_default();
    let same = crate::tokens::same(given.as_bytes(), found.state.as_bytes());
    (same && call.now < found.expires).then_some(found)
}

fn cookie_value<'a>(call: &'a Call, name: &str) -> Option<&'a str> {
    call.headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

fn cookie(value: &str, seconds: i64) -> String {
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Lax")
}

fn redirect(address: &str, cookie: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    answer::set(&mut response, header::LOCATION, address);
    answer::set(&mut response, header::SET_COOKIE, cookie);
    answer::set(&mut response, header::CACHE_CONTROL, "no-store");
    response
}

fn random() -> Result<String, Failure> {
    Ok(URL_SAFE_NO_PAD.encode(ids::random::<32>()?))
}

fn unreached(provider: &IdentityProvider, why: &str) -> Failure {
    tracing::warn!(provider = %provider.name, why, "an external sign-in failed");
    Failure::new(
        StatusCode::BAD_GATEWAY,
        "IdentityProviderFailed",
        format!("The sign-in with {} failed: {why}.", provider.display_name),
    )
}

#[cfg(test)]
mod tests;
