//! Access tokens for the management API: with a secret, a certificate, or the session of a person.

use super::contexts::{Contexts, Credential};
use super::failure::Failure;
use super::http::{Answer, Door, Network, Request};
use super::json::{at, text};
use super::service::unix_now_s;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use ureq::http::Method;
use ureq::tls::{PemItem, parse_pem};
use wire::percent;

/// How long a region that answers 503 is given to get ready.
const STARTS_FOR: Duration = Duration::from_secs(20);
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// An audience that every region takes: the first one may be the region that is lost.
pub const SCOPE: &str = "https://management.azure.com/.default";
/// The command line as a client that people sign in with.
pub const CLIENT: &str = "castling-cli";
const ASSERTION_S: i64 = 300;
const MARGIN_S: i64 = 60;
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A token and how long it is good. `refused`: one that is not taken any more.
pub fn token(network: &Network, refused: Option<&str>) -> Result<(String, Duration), Failure> {
    network.prefer_live();
    match network.credential() {
        Credential::Secret { client_id, secret } => with_secret(network, &client_id, &secret),
        Credential::Certificate { client_id, file } => with_certificate(network, &client_id, &file),
        Credential::User { .. } => of_user(network, refused),
    }
}

pub fn with_secret(
    network: &Network,
    client_id: &str,
    secret: &str,
) -> Result<(String, Duration), Failure> {
    let document = granted(
        network,
        &[
            ("client_id", client_id),
            ("client_secret", secret),
            ("grant_type", "client_credentials"),
            ("scope", SCOPE),
        ],
    )?;
    Ok(access(&document))
}

pub fn with_certificate(
    network: &Network,
    client_id: &str,
    file: &Path,
) -> Result<(String, Duration), Failure> {
    let audience = format!("{}{}", network.base(), token_path(&network.up().tenant));
    let assertion = assertion(client_id, &audience, file)?;
    let document = granted(
        network,
        &[
            ("client_id", client_id),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", &assertion),
            ("grant_type", "client_credentials"),
            ("scope", SCOPE),
        ],
    )?;
    Ok(access(&document))
}

/// A person's token: the kept one, else a new one for the kept refresh token, which is replaced. One command at a time does
/// this: a refresh token that is used twice ends the session.
fn of_user(network: &Network, refused: Option<&str>) -> Result<(String, Duration), Failure> {
    let name = network.context().unwrap_or_default().to_owned();
    Contexts::change(|contexts| {
        contexts.get(&name)?;
        let stored = contexts
            .contexts
            .get_mut(&name)
            .map(|stored| &mut stored.credential);
        let Some(Credential::User {
            refresh_token,
            access_token,
            until,
            ..
        }) = stored
        else {
            return Err(Failure::Failed("the context has changed; try again".into()));
        };
        let left = *until - unix_now_s();
        if left > MARGIN_S && refused != Some(access_token.as_str()) {
            return Ok((
                access_token.clone(),
                Duration::from_secs(left.unsigned_abs()),
            ));
        }
        let form = [
            ("client_id", CLIENT),
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.as_str()),
            ("scope", SCOPE),
        ];
        let document = granted(network, &form).map_err(|failure| match failure {
            Failure::Failed(why) => Failure::Failed(format!(
                "{why}; sign in again with `castling login --name {name}`"
            )),
            other => other,
        })?;
        let (token, life) = access(&document);
        access_token.clone_from(&token);
        *until = unix_now_s() + life.as_secs().cast_signed();
        let next = text(&document, "refresh_token");
        if !next.is_empty() {
            *refresh_token = next;
        }
        Ok((token, life))
    })
}

/// What the token endpoint grants.
///
/// # Errors
/// With what it says.
pub fn granted(network: &Network, form: &[(&str, &str)]) -> Result<Value, Failure> {
    let path = token_path(&network.up().tenant);
    let mut answer = post(network, &path, form)?;
    // A deployment that has just started may have no signing key yet, and says so.
    let until = Instant::now() + STARTS_FOR;
    while answer.status == 503 && Instant::now() < until {
        std::thread::sleep(ASK_AGAIN);
        answer = post(network, &path, form)?;
    }
    let document = answer.json()?;
    if answer.is_success() && !text(&document, "access_token").is_empty() {
        return Ok(document);
    }
    Err(Failure::Failed(format!(
        "signing in failed: {} {}",
        answer.status,
        text(&document, "error_description")
    )))
}

/// Posts a form to an open path.
pub fn post(network: &Network, path: &str, form: &[(&str, &str)]) -> Result<Answer, Failure> {
    Ok(network.send(&Request {
        method: Method::POST,
        door: Door::Management,
        host: None,
        path_and_query: path.to_owned(),
        headers: vec![(
            "content-type".into(),
            "application/x-www-form-urlencoded".into(),
        )],
        body: Some(query(form).into_bytes()),
    })?)
}

/// `a=b&c=d`, encoded.
pub fn query(form: &[(&str, &str)]) -> String {
    let fields: Vec<String> = form
        .iter()
        .map(|(name, value)| format!("{name}={}", percent::encode(value)))
        .collect();
    fields.join("&")
}

pub fn access(document: &Value) -> (String, Duration) {
    let life = at(document, "expires_in")
        .and_then(|life| life.as_u64().or_else(|| life.as_str()?.parse().ok()));
    (
        text(document, "access_token"),
        Duration::from_secs(life.unwrap_or(300)),
    )
}

fn token_path(tenant: &str) -> String {
    format!("/{tenant}/oauth2/v2.0/token")
}

/// A claim of a token, unchecked: for people to read.
pub fn claim(token: &str, name: &str) -> String {
    let payload = token.split('.').nth(1).unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    serde_json::from_slice(&bytes).map_or(String::new(), |claims: Value| text(&claims, name))
}

/// A client assertion (RFC 7523) signed by the key beside a certificate.
fn assertion(client_id: &str, audience: &str, file: &Path) -> Result<String, Failure> {
    let name = file.display();
    let bytes = std::fs::read(file).map_err(|error| Failure::Failed(format!("{name}: {error}")))?;
    let (mut certificate, mut key) = (None, None);
    for item in parse_pem(&bytes) {
        match item.map_err(|error| Failure::Failed(format!("{name}: {error}")))? {
            PemItem::Certificate(found) if certificate.is_none() => {
                certificate = Some(found.der().to_vec());
            }
            PemItem::PrivateKey(found) => key = Some(found.der().to_vec()),
            _ => {}
        }
    }
    let missing = |what: &str| Failure::Usage(format!("{name} has no {what}"));
    let certificate = certificate.ok_or_else(|| missing("certificate"))?;
    let key = key.ok_or_else(|| missing("private key"))?;
    let pair = RsaKeyPair::from_pkcs8(&key)
        .or_else(|_| RsaKeyPair::from_der(&key))
        .map_err(|error| Failure::Usage(format!("{name}: the key is no RSA key: {error}")))?;
    let print = |algorithm| URL_SAFE_NO_PAD.encode(digest::digest(algorithm, &certificate));
    let now = unix_now_s();
    let header = json!({
        "alg": "RS256", "typ": "JWT",
        "x5t": print(&digest::SHA1_FOR_LEGACY_USE_ONLY), "x5t#S256": print(&digest::SHA256),
    });
    let claims = json!({
        "aud": audience, "iss": client_id, "sub": client_id, "jti": region::random_text(16),
        "iat": now, "nbf": now, "exp": now + ASSERTION_S,
    });
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .map_err(|_| Failure::Failed("the system gives no randomness".into()))?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_from_tokens_and_nothing_from_other_texts() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"upn":"a@b"}"#);
        assert_eq!(claim(&format!("x.{payload}.y"), "upn"), "a@b");
        for other in ["", "x", "x.y.z", "..."] {
            assert_eq!(claim(other, "upn"), "");
        }
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(query(&[("a", "x y"), ("b", "&")]), "a=x%20y&b=%26");
    }

    #[test]
    fn a_file_without_a_key_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.pem");
        std::fs::write(&file, "nothing").unwrap();
        let refused = assertion("id", "aud", &file).unwrap_err();
        assert!(refused.lines().concat().contains("c.pem"), "{refused:?}");
    }
}
