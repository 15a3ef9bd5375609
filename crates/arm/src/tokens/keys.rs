//! The RSA keys that sign tokens: made at the edge, kept in the control plane's state (docs/formats/tokens.md).

use super::hex;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use control::State;
use control::directory::{Secret, SigningKey};
use ring::digest;
use rsa::pkcs8::EncodePrivateKey;
use rsa::traits::PublicKeyParts;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use types::{UnixMillis, limits};

const BITS: usize = 2048;

/// Makes a 2048-bit key that signs tokens. Takes up to a second: call it where blocking is allowed.
///
/// # Errors
/// When the system gives no randomness, or the key cannot be written down.
pub fn new_key() -> Result<SigningKey, String> {
    // The generator of the `rsa` crate panics without randomness; so it is asked for first.
    getrandom::fill(&mut [0; 32])
        .map_err(|error| format!("the system gives no randomness: {error}"))?;
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, BITS)
        .map_err(|error| format!("making a key: {error}"))?;
    let pkcs8 = key
        .to_pkcs8_der()
        .map_err(|error| format!("writing a key: {error}"))?;
    let n = key.n().to_bytes_be();
    let print = digest::digest(&digest::SHA256, &n);
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    Ok(SigningKey {
        kid: hex(&print.as_ref()[..16]),
        pkcs8: Secret(STANDARD.encode(pkcs8.as_bytes())),
        n: URL_SAFE_NO_PAD.encode(n),
        e: URL_SAFE_NO_PAD.encode(key.e().to_bytes_be()),
        made: UnixMillis(i64::try_from(millis).unwrap_or(i64::MAX)),
    })
}

/// Whether it is time for another key: there is none, or the newest is as old as a key may become before the next.
pub fn key_is_due(state: &State, now: UnixMillis) -> bool {
    let newest = state.directory.keys.iter().map(|key| key.made).max();
    newest.is_none_or(|made| now.since(made) >= limits::SIGNING_KEY_ROTATE_MS)
}

/// The key that signs now: the newest that every region and every client can have seen, else the oldest.
pub(super) fn signing_key(state: &State, now: UnixMillis) -> Option<&SigningKey> {
    let keys = &state.directory.keys;
    let settled = keys
        .iter()
        .filter(|key| now.since(key.made) >= limits::SIGNING_KEY_SETTLE_MS);
    settled
        .max_by_key(|key| key.made)
        .or_else(|| keys.iter().min_by_key(|key| key.made))
}

/// The public halves of all keys as a JSON web key set.
pub(crate) fn key_set(state: &State) -> Value {
    let keys: Vec<Value> = state
        .directory
        .keys
        .iter()
        .map(|key| {
            json!({
                "kty": "RSA", "use": "sig", "alg": "RS256", "kid": key.kid, "n": key.n, "e": key.e,
            })
        })
        .collect();
    json!({ "keys": keys })
}
