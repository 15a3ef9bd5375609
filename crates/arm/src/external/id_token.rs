//! ID tokens of external providers, checked as OpenID Connect Core 1.0 section 3.1.3.7 says.

use crate::strict;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::directory::IdentityProvider;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::Value;
use types::{UnixMillis, limits};

/// Keys of a provider that are looked at.
const KEYS_MAX: usize = 100;

/// Who signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub subject: String,
    pub name: String,
    pub display_name: String,
    /// As the provider names them.
    pub groups: Vec<String>,
}

/// The person of an ID token.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn check(
    provider: &IdentityProvider,
    token: &str,
    keys: &Value,
    nonce: &str,
    now: UnixMillis,
) -> Result<Person, String> {
    if token.len() > limits::PROVIDER_ID_TOKEN_BYTES_MAX {
        return Err("its ID token is too long".into());
    }
    let (signed, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
    let (header, payload) = signed.split_once('.').ok_or_else(malformed)?;
    let (header, claims) = (part(header)?, part(payload)?);
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed())?;
    check_signature(&header, keys, signed.as_bytes(), &signature)?;
    if claims["iss"].as_str() != Some(provider.issuer.as_str()) {
        return Err("its ID token is from another issuer".into());
    }
    check_audience(&claims, &provider.client_id)?;
    check_times(&claims, now.0.div_euclid(1000))?;
    let given = claims["nonce"].as_str().unwrap_or_default();
    if !crate::tokens::same(given.as_bytes(), nonce.as_bytes()) {
        return Err("its ID token belongs to another sign-in".into());
    }
    person(provider, &claims)
}

fn malformed() -> String {
    "its ID token is malformed".into()
}

fn part(text: &str) -> Result<Value, String> {
    strict::token_part(text).ok_or_else(malformed)
}

fn check_signature(
    header: &Value,
    keys: &Value,
    signed: &[u8],
    signature: &[u8],
) -> Result<(), String> {
    let algorithm = header["alg"].as_str().unwrap_or_default();
    if !["RS256", "PS256", "ES256", "ES384"].contains(&algorithm) {
        return Err("its ID token is signed with an algorithm that is not taken".into());
    }
    let known = keys["keys"].as_array().ok_or("its keys cannot be read")?;
    let fits = |key: &&Value| {
        (header["kid"].is_null() || key["kid"] == header["kid"])
            && (key["use"].is_null() || key["use"] == "sig")
            && (key["alg"].is_null() || key["alg"] == algorithm)
    };
    let mut candidates = known.iter().take(KEYS_MAX).filter(fits);
    match candidates.any(|key| is_signed_by(key, algorithm, signed, signature)) {
        true => Ok(()),
        false => Err("its ID token is not signed with one of its keys".into()),
    }
}

fn is_signed_by(key: &Value, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
    let number = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str()?).ok();
    let kind = key["kty"].as_str().unwrap_or_default();
    let curve = key["crv"].as_str().unwrap_or_default();
    let rsa = |parameters: &RsaParameters| match (number("n"), number("e")) {
        (Some(n), Some(e)) => RsaPublicKeyComponents { n, e }
            .verify(parameters, signed, signature)
            .is_ok(),
        _ => false,
    };
    let point = || Some([vec![4], number("x")?, number("y")?].concat());
    match (algorithm, kind, curve) {
        ("RS256", "RSA", _) => rsa(&RSA_PKCS1_2048_8192_SHA256),
        ("PS256", "RSA", _) => rsa(&RSA_PSS_2048_8192_SHA256),
        ("ES256", "EC", "P-256") => point().is_some_and(|point| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(signed, signature)
                .is_ok()
        }),
        ("ES384", "EC", "P-384") => point().is_some_and(|point| {
            UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
                .verify(signed, signature)
                .is_ok()
        }),
        _ => false,
    }
}

fn check_audience(claims: &Value, client: &str) -> Result<(), String> {
    let other = "its ID token is for another client";
    let good = match &claims["aud"] {
        Value::String(one) => one == client,
        Value::Array(all) => {
            let own = all.iter().any(|one| one == client);
            own && (all.len() == 1 || claims["azp"] == client)
        }
        _ => false,
    };
    let presenter = claims["azp"].is_null() || claims["azp"] == client;
    match good && presenter {
        true => Ok(()),
        false => Err(other.into()),
    }
}

fn check_times(claims: &Value, second: i64) -> Result<(), String> {
    // Some write whole numbers with a fraction.
    let time = |name: &str| {
        let value = &claims[name];
        value
            .as_i64()
            .or_else(|| value.as_f64().map(|at| at as i64))
    };
    let skew = limits::MANAGEMENT_TOKEN_SKEW_S;
    let until = time("exp").ok_or("its ID token has no 'exp'")?;
    if until.saturating_add(skew) <= second {
        return Err("its ID token has expired".into());
    }
    let since = time("nbf")
        .or(time("iat"))
        .ok_or("its ID token has no 'iat'")?;
    match since.saturating_sub(skew) > second {
        true => Err("its ID token is not good yet; is the clock right?".into()),
        false => Ok(()),
    }
}

fn person(provider: &IdentityProvider, claims: &Value) -> Result<Person, String> {
    let text = |name: &str| claims[name].as_str().filter(|text| !text.is_empty());
    let subject = text("sub").ok_or("its ID token has no 'sub'")?;
    if subject.chars().count() > limits::DIRECTORY_TEXT_CHARS_MAX
        || subject.chars().any(char::is_control)
    {
        return Err("its 'sub' is too long or holds control characters".into());
    }
    let name = text(&provider.name_claim)
        .ok_or_else(|| format!("its ID token has no '{}'", provider.name_claim))?;
    let groups = match provider.groups_claim.as_deref().map(|claim| &claims[claim]) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => all
            .iter()
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect(),
        Some(_) => return Err("its groups are neither a list nor a text".into()),
    };
    Ok(Person {
        subject: subject.to_owned(),
        name: name.to_owned(),
        display_name: text("name").unwrap_or(name).to_owned(),
        groups,
    })
}
