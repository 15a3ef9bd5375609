//! Access tokens of the management API: signed with RS256 by keys that the control plane keeps (docs/formats/tokens.md).
//!
//! Nothing here but [`new_key`] reads a clock: the time is passed in.

mod attempts;
mod claims;
mod keys;

pub(crate) use claims::issuer;
pub use claims::{Claims, TokenError, UserClaims};
pub(crate) use keys::key_set;
pub use keys::{key_is_due, new_key};

use crate::passwords::Gate;
use crate::signin::Forms;
use attempts::Attempts;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use control::State;
use control::directory::{Application, SigningKey, User};
use parking_lot::Mutex;
use ring::digest;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, PublicKeyComponents};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use types::{UnixMillis, limits};

/// Signs tokens with the control plane's keys, checks them, and counts wrong secrets.
pub struct TokenAuthority {
    random: SystemRandom,
    /// The key that signed last, ready for use.
    ready: Mutex<Option<(String, Arc<RsaKeyPair>)>>,
    attempts: Mutex<Attempts>,
    /// Client assertions that were used.
    pub(crate) assertions: crate::assertion::Used,
    /// Where passwords are hashed.
    pub(crate) passwords: Gate,
    /// Seals the state of sign-ins in a browser.
    pub(crate) forms: Forms,
}

/// What an access token is made for.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// Host and port under which the asker reached this deployment.
    pub authority: &'a str,
    pub audience: &'a str,
    pub tenant: &'a str,
    pub subject: Subject<'a>,
}

/// Whom a token stands for.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    Application(&'a Application),
    User {
        user: &'a User,
        /// The program they signed in with.
        client_id: &'a str,
        session: &'a str,
        groups: &'a [String],
    },
}

/// What a token must be good for.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Host and port under which the asker reached this deployment.
    pub authority: &'a str,
    pub domain: &'a str,
    pub tenant: &'a str,
}

/// Why a secret gets no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretError {
    Wrong,
    /// It was the right one until its expiry.
    Expired,
    /// Too many wrong ones within a minute; even the right one has to wait.
    TooManyAttempts,
}

impl TokenAuthority {
    pub fn new() -> Arc<Self> {
        Arc::new(TokenAuthority {
            random: SystemRandom::new(),
            ready: Mutex::default(),
            attempts: Mutex::default(),
            assertions: Default::default(),
            passwords: Gate::default(),
            forms: Forms::new(),
        })
    }

    /// Makes an access token that is good for an hour from `now`.
    ///
    /// # Errors
    /// When there is no key yet, or the system gives no randomness to sign with.
    pub fn issue(
        &self,
        state: &State,
        grant: &Grant<'_>,
        now: UnixMillis,
    ) -> Result<String, String> {
        self.sign(state, &Claims::new(grant, now), now)
    }

    /// A JWT of these claims.
    ///
    /// # Errors
    /// As [`TokenAuthority::issue`].
    pub(crate) fn sign(
        &self,
        state: &State,
        claims: &impl Serialize,
        now: UnixMillis,
    ) -> Result<String, String> {
        let key = keys::signing_key(state, now).ok_or("this deployment has no signing key yet")?;
        let pair = self.ready(key)?;
        let header = json!({ "typ": "JWT", "alg": "RS256", "kid": key.kid });
        let claims = serde_json::to_vec(claims).map_err(|error| error.to_string())?;
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(claims));
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(
            &RSA_PKCS1_SHA256,
            &self.random,
            token.as_bytes(),
            &mut signature,
        )
        .map_err(|_| "the system gives no randomness".to_owned())?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }

    /// Reading a key takes longer than signing with it.
    fn ready(&self, key: &SigningKey) -> Result<Arc<RsaKeyPair>, String> {
        let mut ready = self.ready.lock();
        if let Some((_, pair)) = ready.as_ref().filter(|(kid, _)| *kid == key.kid) {
            return Ok(pair.clone());
        }
        let unusable = |why: String| format!("the signing key {} cannot be used: {why}", key.kid);
        let pkcs8 = STANDARD
            .decode(&key.pkcs8.0)
            .map_err(|error| unusable(error.to_string()))?;
        let pair = RsaKeyPair::from_pkcs8(&pkcs8).map_err(|error| unusable(error.to_string()))?;
        let pair = Arc::new(pair);
        *ready = Some((key.kid.clone(), pair.clone()));
        Ok(pair)
    }

    /// Checks a token: form, algorithm, key, signature, times, issuer, tenant, audience. Whether the one it stands for is still
    /// there is for [`crate::identify`] to say.
    ///
    /// # Errors
    /// The first thing that is wrong, in that order.
    pub fn verify(
        &self,
        state: &State,
        token: &str,
        expected: &Expected<'_>,
        now: UnixMillis,
    ) -> Result<Claims, TokenError> {
        let claims: Claims = verified(state, token)?;
        claims.check(expected, now)?;
        Ok(claims)
    }

    /// The claims of a token of ours, however old it is.
    pub(crate) fn hinted(&self, state: &State, token: &str) -> Option<Value> {
        verified(state, token).ok()
    }

    /// Compares a secret with those of an application, in constant time, and counts the wrong ones.
    ///
    /// # Errors
    /// [`SecretError::TooManyAttempts`] after ten wrong ones within a minute, also for the right one.
    pub fn check_secret(
        &self,
        application: &Application,
        secret: &str,
        now: UnixMillis,
    ) -> Result<(), SecretError> {
        let mut attempts = self.attempts.lock();
        if attempts.exhausted(&application.client_id, now) {
            return Err(SecretError::TooManyAttempts);
        }
        let mut outcome = Err(SecretError::Wrong);
        for known in &application.secrets {
            let salted = format!("{}{secret}", known.salt);
            let found = hex(digest::digest(&digest::SHA256, salted.as_bytes()).as_ref());
            if same(found.as_bytes(), known.sha256.0.as_bytes()) {
                match known.expires {
                    Some(at) if now >= at => {
                        if outcome.is_err() {
                            outcome = Err(SecretError::Expired);
                        }
                    }
                    _ => outcome = Ok(()),
                }
            }
        }
        if outcome == Err(SecretError::Wrong) {
            attempts.note(&application.client_id, now);
        }
        outcome
    }
}

/// As [`TokenAuthority::verify`], for who stands behind other audiences than the management API's.
///
/// # Errors
/// As there.
pub(crate) fn verify_for(
    state: &State,
    token: &str,
    is_own: impl Fn(&str) -> bool,
    now: UnixMillis,
) -> Result<Claims, TokenError> {
    let claims: Claims = verified(state, token)?;
    claims.check_origin(&state.deployment.tenant, now)?;
    match is_own(&claims.aud) {
        true => Ok(claims),
        false => Err(TokenError::Audience),
    }
}

/// The claims of a JWT that one of the control plane's keys signed.
fn verified<T: for<'a> serde::Deserialize<'a>>(
    state: &State,
    token: &str,
) -> Result<T, TokenError> {
    if token.len() > limits::MANAGEMENT_TOKEN_BYTES_MAX {
        return Err(TokenError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    let header: Value = part(header)?;
    // The algorithm is ours, never the token's choice.
    if header["alg"] != "RS256" {
        return Err(TokenError::Algorithm);
    }
    let mut keys = state.directory.keys.iter();
    let key = keys
        .find(|key| header["kid"] == key.kid.as_str())
        .ok_or(TokenError::Signature)?;
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| TokenError::Malformed)?;
    let number = |text: &str| {
        URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| TokenError::Signature)
    };
    let public = PublicKeyComponents {
        n: number(&key.n)?,
        e: number(&key.e)?,
    };
    public
        .verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature)
        .map_err(|_| TokenError::Signature)?;
    part(payload)
}

/// The well-known audiences of clients that are left at their defaults.
const WELL_KNOWN: [&str; 2] = [
    "https://management.azure.com",
    "https://management.core.windows.net",
];

/// True if an audience names the management API of this deployment: a well-known one, the authority under which the asker
/// came, this machine, or a name of the deployment's domain; a slash at the end is allowed.
pub fn is_own_audience(audience: &str, authority: &str, domain: &str) -> bool {
    let audience = audience.strip_suffix('/').unwrap_or(audience);
    if WELL_KNOWN
        .iter()
        .any(|known| known.eq_ignore_ascii_case(audience))
    {
        return true;
    }
    let Some(named) = audience.strip_prefix("https://") else {
        return false;
    };
    if named.is_empty() || named.contains(['/', '?', '#', '@']) {
        return false;
    }
    let host = wire::host::bare(named).to_ascii_lowercase();
    let loopback = host
        .parse::<std::net::IpAddr>()
        .is_ok_and(|ip| ip.is_loopback());
    let domain = domain.to_ascii_lowercase();
    let in_domain = !domain.is_empty()
        && (host == domain
            || host
                .strip_suffix(&domain)
                .is_some_and(|rest| rest.ends_with('.')));
    named.eq_ignore_ascii_case(authority) || loopback || host == "localhost" || in_domain
}

fn part<T: for<'a> serde::Deserialize<'a>>(text: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares without telling by its duration where the difference is.
pub(crate) fn same(one: &[u8], two: &[u8]) -> bool {
    let differ = one.iter().zip(two).fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == two.len() && std::hint::black_box(differ) == 0
}

#[cfg(test)]
#[path = "tokens/tests.rs"]
pub(crate) mod tests;
