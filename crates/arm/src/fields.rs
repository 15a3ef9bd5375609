//! Fields of a request's body: read, or noted as a mistake with their path.

use crate::durations;
use crate::failure::shown;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Mistakes so far, each with the path of its field.
#[derive(Default)]
pub struct Mistakes(pub Vec<String>);

impl Mistakes {
    /// Notes one.
    pub fn add(&mut self, path: &str, why: impl std::fmt::Display) {
        self.0.push(format!("{path}: {why}"));
    }
}

/// An object at a path; absent and null are empty.
pub fn object<'a>(
    parent: &'a Value,
    name: &str,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<&'a Map<String, Value>> {
    match parent.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::Object(fields)) => Some(fields),
        Some(_) => {
            mistakes.add(path, "an object is expected");
            None
        }
    }
}

pub fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

pub fn whole<N: TryFrom<u64>>(
    fields: &Map<String, Value>,
    name: &str,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<N> {
    let value = field(fields, name)?;
    let number = value.as_u64().and_then(|number| N::try_from(number).ok());
    if number.is_none() {
        mistakes.add(
            &format!("{path}.{name}"),
            format!(
                "{} is not a whole number in range",
                shown(&value.to_string())
            ),
        );
    }
    number
}

pub fn duration(
    fields: &Map<String, Value>,
    name: &str,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<i64> {
    let value = field(fields, name)?;
    let millis = value.as_str().and_then(durations::parse);
    if millis.is_none() {
        let what = format!(
            "{} is not an ISO 8601 duration such as PT1H",
            shown(&value.to_string())
        );
        mistakes.add(&format!("{path}.{name}"), what);
    }
    millis
}

/// Tags of a hub or a group.
pub fn tags(body: &Value, mistakes: &mut Mistakes) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    for (name, value) in object(body, "tags", "tags", mistakes).into_iter().flatten() {
        match value {
            Value::String(text) => drop(tags.insert(name.clone(), text.clone())),
            Value::Null => drop(tags.insert(name.clone(), String::new())),
            _ => mistakes.add(
                "tags",
                format!("the value of '{}' must be a text", shown(name)),
            ),
        }
    }
    tags
}

/// Why something is done, as its operator says; empty where nothing is said.
pub fn reason(body: &Value, mistakes: &mut Mistakes) -> String {
    match &body["reason"] {
        Value::Null => String::new(),
        Value::String(reason) => reason.clone(),
        _ => {
            mistakes.add("reason", "a text is expected");
            String::new()
        }
    }
}
