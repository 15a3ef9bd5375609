//! Client assertions: JWTs that an application signs with the key of one of its certificates (RFC 7523).
//!
//! Nothing about the certificate is believed from the assertion: its header only says which of the application's own
//! certificates is meant.

use crate::call::Call;
use crate::strict;
use crate::tokens::{hex, issuer};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use control::directory::{Application, ApplicationCertificate};
use parking_lot::Mutex;
use ring::digest;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, UnparsedPublicKey,
};
use serde_json::Value;
use std::collections::BTreeMap;
use types::{UnixMillis, limits};
use x509_parser::parse_x509_certificate;

/// Path words that stand for the one tenant there is.
const ANY_TENANT: [&str; 3] = ["adfs", "organizations", "common"];

/// Assertions that were used and would still be good: each is taken once. Bounded.
#[derive(Default)]
pub(crate) struct Used(Mutex<BTreeMap<String, i64>>);

impl Used {
    /// Notes one that is good until `until` (seconds since 1970).
    ///
    /// # Errors
    /// That it was used before, or that there is no room to remember it: then it is not taken.
    fn note(&self, print: String, until: i64, second: i64) -> Result<(), String> {
        let mut used = self.0.lock();
        if used.get(&print).is_some_and(|until| *until >= second) {
            return Err("it was used before; make a new one for every request".into());
        }
        if used.len() >= limits::ASSERTIONS_REMEMBERED_MAX {
            used.retain(|_, until| *until >= second);
        }
        if used.len() >= limits::ASSERTIONS_REMEMBERED_MAX {
            return Err("too many are in use at the moment; try again in a minute".into());
        }
        used.insert(print, until);
        Ok(())
    }
}

/// The application that signed an assertion. Whether it is enabled is for the caller to say.
///
/// # Errors
/// What is wrong with it, as text for the one who sent it.
pub fn verify(call: &Call, assertion: &str) -> Result<Application, String> {
    if assertion.len() > limits::MANAGEMENT_TOKEN_BYTES_MAX {
        return Err("it is too long".into());
    }
    let (signed, signature) = assertion.rsplit_once('.').ok_or_else(malformed)?;
    let (header, payload) = signed.split_once('.').ok_or_else(malformed)?;
    let (header, claims) = (part(header)?, part(payload)?);
    let client = claims["sub"].as_str().unwrap_or_default();
    if client.is_empty() || claims["iss"] != claims["sub"] {
        return Err("'iss' and 'sub' must both be the client id".into());
    }
    // One answer for an unknown client and for a certificate that is not its own: neither can be probed for.
    let unknown = "the certificate that 'x5t' or 'x5t#S256' names is not one of this application";
    let application = call.state.directory.application(client).ok_or(unknown)?;
    let certificate = certificate_of(application, &header)?.ok_or(unknown)?;
    check_signature(certificate, &header, signed, signature)?;
    if certificate.expires <= call.now {
        return Err("its certificate has expired".into());
    }
    let second = call.now.0.div_euclid(1000);
    let until = check_times(&claims, second)?;
    check_audience(call, &claims["aud"])?;
    let id = claims["jti"].as_str().unwrap_or_default();
    if id.is_empty() {
        return Err("'jti' is missing".into());
    }
    let print = digest::digest(
        &digest::SHA256,
        format!("{}\n{id}", application.client_id).as_bytes(),
    );
    let used = &call.api.tokens.assertions;
    used.note(hex(print.as_ref()), until, second)?;
    Ok(application.clone())
}

fn malformed() -> String {
    "it is malformed".into()
}

fn part(text: &str) -> Result<Value, String> {
    strict::token_part(text).ok_or_else(malformed)
}

fn certificate_of<'a>(
    application: &'a Application,
    header: &Value,
) -> Result<Option<&'a ApplicationCertificate>, String> {
    let print = |name: &str| -> Result<Option<String>, String> {
        match &header[name] {
            Value::Null => Ok(None),
            Value::String(text) => {
                let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
                let wrong = |_| format!("'{name}' is not base64url");
                Ok(Some(hex(&bytes.map_err(wrong)?)))
            }
            _ => Err(format!("'{name}' is not a text")),
        }
    };
    let (short, long) = (print("x5t")?, print("x5t#S256")?);
    if short.is_none() && long.is_none() {
        return Err("its header names no certificate: 'x5t' or 'x5t#S256' is missing".into());
    }
    let fits = |known: &&ApplicationCertificate| {
        short.as_ref().is_none_or(|print| *print == known.sha1)
            && long.as_ref().is_none_or(|print| *print == known.sha256)
    };
    Ok(application.certificates.iter().find(fits))
}

fn check_signature(
    certificate: &ApplicationCertificate,
    header: &Value,
    signed: &str,
    signature: &str,
) -> Result<(), String> {
    let algorithm: &RsaParameters = match header["alg"].as_str() {
        Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
        Some("PS256") => &RSA_PSS_2048_8192_SHA256,
        _ => return Err("its algorithm must be RS256 or PS256".into()),
    };
    let unreadable = "the certificate kept here cannot be read";
    let der = STANDARD
        .decode(&certificate.der)
        .map_err(|_| unreadable.to_owned())?;
    let (_, parsed) = parse_x509_certificate(&der).map_err(|_| unreadable.to_owned())?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed())?;
    UnparsedPublicKey::new(algorithm, &parsed.public_key().subject_public_key.data)
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| "its signature is wrong".into())
}

/// The second until which it is good.
fn check_times(claims: &Value, second: i64) -> Result<i64, String> {
    let skew = limits::MANAGEMENT_TOKEN_SKEW_S;
    let until = seconds(&claims["exp"]).ok_or("'exp' is missing")?;
    if until.saturating_add(skew) <= second {
        return Err("it has expired; is the clock right?".into());
    }
    if until.saturating_sub(second) > limits::ASSERTION_S_MAX + skew {
        let most = limits::ASSERTION_S_MAX;
        return Err(format!("it is good for more than {most} seconds"));
    }
    let since = match &claims["nbf"] {
        Value::Null => second,
        value => seconds(value).ok_or("'nbf' is not a number")?,
    };
    match since.saturating_sub(skew) > second {
        true => Err("it is not good yet; is the clock right?".into()),
        false => Ok(until.saturating_add(skew)),
    }
}

/// A time in seconds; clients write it with a fraction too (MSAL for Python does).
fn seconds(value: &Value) -> Option<i64> {
    let whole = || value.as_f64().map(|at| at as i64);
    value.as_i64().or_else(whole)
}

/// The audience is the issuer or a token endpoint, under the name by which the asker reached us.
fn check_audience(call: &Call, audience: &Value) -> Result<(), String> {
    let given: Vec<&str> = match audience {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let tenant = &call.state.deployment.tenant;
    let own = issuer(&call.host, tenant);
    match given
        .iter()
        .any(|one| *one == own || is_token_endpoint(one, &call.host, tenant))
    {
        true => Ok(()),
        false => Err(format!(
            "'aud' must be this token endpoint, such as https://{}/{tenant}/oauth2/v2.0/token",
            call.host
        )),
    }
}

fn is_token_endpoint(address: &str, host: &str, tenant: &str) -> bool {
    let Some((authority, path)) = address
        .strip_prefix("https://")
        .and_then(|rest| rest.split_once('/'))
    else {
        return false;
    };
    let words: Vec<String> = path
        .split('/')
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let own = |word: &str| ANY_TENANT.contains(&word) || word.eq_ignore_ascii_case(tenant);
    authority.eq_ignore_ascii_case(host)
        && match words.as_slice() {
            ["adfs", word, "oauth2", "token"] | ["adfs", word, "oauth2", "v2.0", "token"] => {
                own(word)
            }
            [word, "oauth2", "token"] | [word, "oauth2", "v2.0", "token"] => own(word),
            _ => false,
        }
}

/// Reads a certificate for [`verify`]: PEM (the first one in it) or base64 of DER.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_certificate(
    text: &str,
    id: String,
    now: UnixMillis,
) -> Result<ApplicationCertificate, String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let body = match text.split_once(BEGIN) {
        Some((_, rest)) => rest.split_once("-----END").map_or("", |(body, _)| body),
        None => text,
    };
    let compact: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    if compact.len() > limits::APPLICATION_CERTIFICATE_CHARS_MAX {
        return Err("it is too long".into());
    }
    let wrong = "a certificate in PEM, or base64 of its DER, is expected";
    let der = STANDARD.decode(&compact).map_err(|_| wrong.to_owned())?;
    let (rest, parsed) = parse_x509_certificate(&der).map_err(|_| wrong.to_owned())?;
    if !rest.is_empty() {
        return Err(wrong.into());
    }
    let bits = match parsed.public_key().parsed() {
        Ok(x509_parser::public_key::PublicKey::RSA(key)) => key.key_size(),
        _ => return Err("its key is not an RSA key".into()),
    };
    if !(2048..=8192).contains(&bits) {
        return Err(format!(
            "its RSA key has {bits} bits; 2048 to 8192 are allowed"
        ));
    }
    let expires = UnixMillis(parsed.validity().not_after.timestamp().saturating_mul(1000));
    if expires <= now {
        return Err("it has expired".into());
    }
    let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &der);
    let sha256 = digest::digest(&digest::SHA256, &der);
    Ok(ApplicationCertificate {
        id,
        subject: control::naming::clip(&parsed.subject().to_string(), 512),
        sha1: hex(sha1.as_ref()),
        sha256: hex(sha256.as_ref()),
        der: compact,
        created: now,
        expires,
    })
}

#[cfg(test)]
#[path = "assertion/tests.rs"]
mod tests;
