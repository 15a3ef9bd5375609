//! What the state changes of lost records were about, for a person who must decide what to do about them.

use crate::keys;
use bytes::Bytes;
use serde_json::Value;

/// A state change in words. Keys of devices are not shown.
#[derive(Clone, Debug, PartialEq)]
pub struct SalvagedChange {
    /// `registry`, `twin`, `session`, `c2d`, `feedback`, `offset`, `replay`, `statistics` or `unknown`.
    pub kind: &'static str,
    pub device: Option<String>,
    pub what: String,
    /// `None`: deleted, or not to be shown as JSON.
    pub value: Option<Value>,
}

/// Describes state changes one by one, in their order.
pub fn describe(changes: &[(Bytes, Option<Bytes>)]) -> Vec<SalvagedChange> {
    changes
        .iter()
        .map(|(key, value)| of_change(key, value.as_ref()))
        .collect()
}

fn of_change(key: &[u8], value: Option<&Bytes>) -> SalvagedChange {
    let letter = key.first().copied().unwrap_or(0);
    let (kind, what) = match letter {
        b'd' => ("registry", "identity of a device"),
        b't' => ("twin", "twin of a device"),
        b'm' => ("session", "kept subscriptions of a device"),
        b'q' => ("c2d", "queue of a device"),
        b'c' => ("c2d", "message to a device"),
        b'x' => ("c2d", "expiry or lock time of a message"),
        b'f' => ("feedback", "feedback record"),
        b'F' => ("feedback", "feedback queue"),
        b'o' => ("offset", "position of a consumer group"),
        b'l' => ("replay", "how far a segment was replayed"),
        b's' => ("statistics", "counts of the registry"),
        _ => ("unknown", "an entry that this version does not know"),
    };
    let device = keys::device_part(key).map(|id| String::from_utf8_lossy(id).into_owned());
    let done = if value.is_some() {
        "written"
    } else {
        "deleted"
    };
    let what = match (letter, key.get(1..)) {
        (b'o' | b'l', Some(name)) => format!("{what} ({}), {done}", String::from_utf8_lossy(name)),
        _ => format!("{what}, {done}"),
    };
    SalvagedChange {
        kind,
        device,
        what,
        value: value.and_then(|value| shown(letter, value)),
    }
}

/// The JSON in a stored value: one byte of version before it; a message has its header's length there as well.
fn shown(letter: u8, value: &[u8]) -> Option<Value> {
    let (_, rest) = value.split_first()?;
    let json = match letter {
        b'c' => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            rest.get(..u32::from_le_bytes(*length) as usize)?
        }
        _ => rest,
    };
    let mut parsed = serde_json::from_slice(json).ok()?;
    if letter == b'd' {
        hide_keys(&mut parsed);
    }
    Some(parsed)
}

const SECRET: [&str; 4] = ["primary", "secondary", "primaryKey", "secondaryKey"];

fn hide_keys(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if SECRET.contains(&name.as_str()) => *text = "…".into(),
                    other => hide_keys(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_keys),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::DeviceId;

    fn described(key: Vec<u8>, value: Option<&'static [u8]>) -> SalvagedChange {
        describe(&[(key.into(), value.map(Bytes::from_static))]).remove(0)
    }

    #[test]
    fn a_twin_is_shown_with_its_device_and_value() {
        let device = DeviceId::parse("dev-1").unwrap();
        let change = described(keys::twin(&device), Some(b"\x01{\"version\":3}"));
        assert_eq!(
            (change.kind, change.device.as_deref()),
            ("twin", Some("dev-1"))
        );
        assert_eq!(change.value, Some(serde_json::json!({ "version": 3 })));
        let gone = described(keys::device(&device), None);
        assert!(
            gone.what.ends_with("deleted") && gone.value.is_none(),
            "{gone:?}"
        );
    }

    #[test]
    fn keys_of_devices_are_not_shown() {
        let device = DeviceId::parse("dev-1").unwrap();
        let value =
            b"\x01{\"keys\":{\"Sas\":{\"primary\":\"c2VjcmV0\",\"secondary\":\"c2VjcmV0\"}}}";
        let change = described(keys::device(&device), Some(value));
        assert!(!change.value.unwrap().to_string().contains("c2VjcmV0"));
    }

    #[test]
    fn bytes_that_are_no_json_are_named_and_not_shown() {
        for (key, value) in [
            (b"z?".to_vec(), b"\x01{" as &[u8]),
            (Vec::new(), b""),
            (b"t".to_vec(), b"\x01\xff"),
        ] {
            assert_eq!(described(key, Some(value)).value, None);
        }
    }
}
