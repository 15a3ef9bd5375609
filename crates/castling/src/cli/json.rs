//! Small questions to JSON documents of the service.

use serde_json::Value;

/// The text at a dotted path; empty when there is none. Numbers and truth values are written out.
pub fn text(value: &Value, path: &str) -> String {
    match at(value, path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

pub fn number(value: &Value, path: &str) -> Option<i64> {
    at(value, path).and_then(Value::as_i64)
}

/// The members of the array at a path; none when there is no array.
pub fn items<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    at(value, path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .filter(|part| !part.is_empty())
        .try_fold(value, |value, part| value.get(part))
}

/// The document without key material, at any depth.
pub fn without_secrets(value: Value) -> Value {
    const SECRET: [&str; 4] = [
        "symmetricKey",
        "primaryKey",
        "secondaryKey",
        "sharedAccessKey",
    ];
    match value {
        Value::Object(fields) => {
            let kept = fields
                .into_iter()
                .filter(|(name, _)| !SECRET.contains(&name.as_str()));
            Value::Object(
                kept.map(|(name, value)| (name, without_secrets(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_secrets).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_reach_into_documents() {
        let value = json!({"a": {"b": 7, "c": "x", "d": [1, 2]}});
        assert_eq!(
            (
                text(&value, "a.b"),
                text(&value, "a.c"),
                text(&value, "a.z")
            ),
            ("7".into(), "x".into(), String::new())
        );
        assert_eq!(
            (number(&value, "a.b"), number(&value, "a.c")),
            (Some(7), None)
        );
        assert_eq!(
            (items(&value, "a.d").len(), items(&value, "a.b").len()),
            (2, 0)
        );
    }

    #[test]
    fn keys_are_left_out_at_any_depth() {
        let shown = without_secrets(
            json!([{"authentication": {"type": "sas", "symmetricKey": {"primaryKey": "k"}}}]),
        );
        assert_eq!(shown, json!([{"authentication": {"type": "sas"}}]));
    }
}
