//! The key that seals the control plane's folder: from the environment, or a file that the first start makes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use consensus::{STORAGE_KEY_BYTES, StorageKey};
use link::pki::ensure_secret;
use std::path::Path;

/// The key as base64; it goes before the file.
pub const VARIABLE: &str = "CASTLING_STORAGE_KEY";

/// The key of the environment, else of the file, which is made (mode 0600) when it is missing.
///
/// # Errors
/// When the variable is no key, or the file cannot be read or made.
pub fn load_or_make(file: &Path) -> Result<StorageKey, String> {
    match std::env::var(VARIABLE) {
        Ok(text) => parse(&text),
        Err(std::env::VarError::NotPresent) => {
            let bytes =
                ensure_secret(file).map_err(|error| format!("{}: {error}", file.display()))?;
            Ok(StorageKey::new(&bytes))
        }
        Err(error) => Err(format!("{VARIABLE}: {error}")),
    }
}

/// Never says the text itself.
fn parse(text: &str) -> Result<StorageKey, String> {
    let bytes = STANDARD.decode(text.trim()).ok();
    let key: Option<[u8; STORAGE_KEY_BYTES]> = bytes.and_then(|bytes| bytes.try_into().ok());
    let key = key.ok_or_else(|| {
        format!(
            "{VARIABLE} is not {STORAGE_KEY_BYTES} bytes in base64, as `openssl rand -base64 {STORAGE_KEY_BYTES}` makes them"
        )
    })?;
    Ok(StorageKey::new(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_holds_32_bytes_in_base64() {
        assert!(parse(&STANDARD.encode([1; 32])).is_ok());
        assert!(parse(&format!("{}\n", STANDARD.encode([1; 32]))).is_ok());
        for bad in ["", "secret!", &STANDARD.encode([1; 31])] {
            let why = parse(bad).unwrap_err();
            assert!(
                why.contains(VARIABLE) && (bad.is_empty() || !why.contains(bad)),
                "{why}"
            );
        }
    }
}
