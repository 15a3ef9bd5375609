//! The tokens of the management API: who gets one, and whether one that comes is good.
//!
//! A token is a JWT signed with ES256 by the deployment's own key. Nothing here reads a clock: the time is passed in.

mod attempts;
mod claims;
mod key_file;

pub(crate) use claims::issuer;
pub use claims::{Claims, TokenError};

use attempts::Attempts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::model::Principal;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use types::{UnixMillis, limits};

/// Signs tokens, checks them, and counts wrong secrets.
pub struct TokenAuthority {
    key: EcdsaKeyPair,
    /// Names the key: the start of the SHA-256 of its public half.
    kid: String,
    random: SystemRandom,
    attempts: Mutex<Attempts>,
}

/// What a token is made for.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// Host and port under which the asker reached this deployment.
    pub authority: &'a str,
    pub audience: &'a str,
    pub tenant: &'a str,
    pub principal: &'a Principal,
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
    /// Too many wrong ones within a minute; even the right one has to wait.
    TooManyAttempts,
}

impl TokenAuthority {
    /// Loads the signing key, or makes one on first start (docs/formats/tokens.md).
    ///
    /// # Errors
    /// With a sentence for the operator: unreadable, damaged, or readable by others than its owner.
    pub fn load_or_make(path: &Path) -> Result<Arc<Self>, String> {
        let random = SystemRandom::new();
        let pkcs8 = key_file::load_or_make(path, &random)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &random)
            .map_err(|why| format!("{}: not a P-256 key: {why}", path.display()))?;
        let print = digest::digest(&digest::SHA256, key.public_key().as_ref());
        Ok(Arc::new(TokenAuthority {
            kid: hex(&print.as_ref()[..16]),
            key,
            random,
            attempts: Mutex::default(),
        }))
    }

    /// Makes a token that is good for an hour from `now`.
    ///
    /// # Errors
    /// When the system gives no randomness to sign with.
    pub fn issue(&self, grant: &Grant<'_>, now: UnixMillis) -> Result<String, String> {
        let header = json!({ "typ": "JWT", "alg": "ES256", "kid": self.kid });
        let claims = Claims::new(grant, now);
        let claims = serde_json::to_vec(&claims).map_err(|error| error.to_string())?;
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(claims));
        let signature = self
            .key
            .sign(&self.random, token.as_bytes())
            .map_err(|_| "the system gives no randomness".to_owned())?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature.as_ref()));
        Ok(token)
    }

    /// Checks a token: form, algorithm, key, signature, times, issuer, tenant, audience.
    ///
    /// # Errors
    /// The first thing that is wrong, in that order.
    pub fn verify(
        &self,
        token: &str,
        expected: &Expected<'_>,
        now: UnixMillis,
    ) -> Result<Claims, TokenError> {
        if token.len() > limits::MANAGEMENT_TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Value = part(header)?;
        // The algorithm is ours, never the token's choice.
        if header["alg"] != "ES256" {
            return Err(TokenError::Algorithm);
        }
        if header["kid"] != self.kid.as_str() {
            return Err(TokenError::Signature);
        }
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| TokenError::Malformed)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key())
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| TokenError::Signature)?;
        let claims: Claims = part(payload)?;
        claims.check(expected, now)?;
        Ok(claims)
    }

    /// Compares a secret with a principal's salted hash, in constant time, and counts the wrong ones.
    ///
    /// # Errors
    /// [`SecretError::TooManyAttempts`] after ten wrong ones within a minute, also for the right one.
    pub fn check_secret(
        &self,
        principal: &Principal,
        secret: &str,
        now: UnixMillis,
    ) -> Result<(), SecretError> {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if attempts.exhausted(&principal.client_id, now) {
            return Err(SecretError::TooManyAttempts);
        }
        let salted = format!("{}{secret}", principal.salt);
        let found = hex(digest::digest(&digest::SHA256, salted.as_bytes()).as_ref());
        if same(found.as_bytes(), principal.secret_sha256.as_bytes()) {
            return Ok(());
        }
        attempts.note(&principal.client_id, now);
        Err(SecretError::Wrong)
    }

    /// The public half of the key as a JSON web key set.
    pub fn key_set(&self) -> Value {
        // Uncompressed point: 4, x, y.
        let point = self.key.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
        json!({ "keys": [{
            "kty": "EC", "use": "sig", "alg": "ES256", "crv": "P-256", "kid": self.kid,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }] })
    }
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
fn same(one: &[u8], two: &[u8]) -> bool {
    let differ = one.iter().zip(two).fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == two.len() && std::hint::black_box(differ) == 0
}

#[cfg(test)]
#[path = "tokens/tests.rs"]
mod tests;
