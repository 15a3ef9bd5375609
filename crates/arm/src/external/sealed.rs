//! The cookie of a sign-in under way, sealed with a key that lives as long as this process.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::OnceLock;

const CONTEXT: &[u8] = b"castling external sign-in 1";
const NO_RANDOM: &str = "The system gives no randomness.";

fn key() -> Option<&'static LessSafeKey> {
    static KEY: OnceLock<Option<LessSafeKey>> = OnceLock::new();
    let made = KEY.get_or_init(|| {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).ok()?;
        UnboundKey::new(&AES_256_GCM, &bytes)
            .ok()
            .map(LessSafeKey::new)
    });
    made.as_ref()
}

/// # Errors
/// When the system gives no randomness.
pub(super) fn seal(value: &impl Serialize) -> Result<String, String> {
    let key = key().ok_or(NO_RANDOM)?;
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(|_| NO_RANDOM)?;
    let mut text = serde_json::to_vec(value).map_err(|error| error.to_string())?;
    let unique = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(unique, Aad::from(CONTEXT), &mut text)
        .map_err(|_| "The sign-in cannot be sealed.")?;
    Ok(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &text].concat()))
}

/// What this process sealed.
pub(super) fn open<T: DeserializeOwned>(text: &str) -> Option<T> {
    let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let nonce = bytes.get(..NONCE_LEN)?.try_into().ok()?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    let sealed = bytes.get_mut(NONCE_LEN..)?;
    let opened = key()?
        .open_in_place(nonce, Aad::from(CONTEXT), sealed)
        .ok()?;
    serde_json::from_slice(opened).ok()
}
