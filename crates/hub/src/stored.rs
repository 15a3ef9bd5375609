//! How small state values are written: one version byte, then JSON. Described in docs/formats/state.md.

use crate::ViewError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// First byte of every value written today.
pub(crate) const VERSION: u8 = 1;

/// Encodes `value` as a version byte and JSON.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = vec![VERSION];
    serde_json::to_writer(&mut out, value)
        .expect("stored structs have string keys and write to memory");
    out
}

/// Decodes what [`encode`] wrote; `what` names the entry in the error.
///
/// # Errors
/// When the version is unknown or the JSON does not fit: the store holds bytes this code cannot understand.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ViewError> {
    match bytes.split_first() {
        Some((&VERSION, json)) => {
            serde_json::from_slice(json).map_err(|error| ViewError(format!("{what}: {error}")))
        }
        Some((version, _)) => Err(ViewError(format!(
            "{what}: format version {version} is unknown"
        ))),
        None => Err(ViewError(format!("{what}: the value is empty"))),
    }
}
