//! Reads what a client sends without guessing: JSON in which no name stands twice, of bounded depth; a query in which no
//! parameter stands twice.

use crate::failure::{Failure, shown};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;
use types::limits;

/// Reads a JSON document.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn json(text: &[u8]) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict { depth: 0 }
        .deserialize(&mut reader)
        .map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// The header or the claims of a token that others signed; `None`: it is no such part.
pub fn token_part(text: &str) -> Option<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    json(&bytes).ok().filter(Value::is_object)
}

/// # Errors
/// 400 if a parameter stands twice, or there are too many.
pub fn query(parameters: &[(String, String)]) -> Result<(), Failure> {
    let wrong = |why: String| Err(Failure::bad("InvalidQueryParameter", why));
    if parameters.len() > limits::MANAGEMENT_QUERY_MAX {
        return wrong(format!(
            "There are more than {} query parameters.",
            limits::MANAGEMENT_QUERY_MAX
        ));
    }
    for (at, (name, _)) in parameters.iter().enumerate() {
        let before = parameters.iter().take(at);
        if before
            .map(|(known, _)| known)
            .any(|known| known.eq_ignore_ascii_case(name))
        {
            return wrong(format!(
                "The query parameter '{}' is given twice.",
                shown(name)
            ));
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Strict, E> {
        let depth = self.depth + 1;
        match depth > limits::MANAGEMENT_JSON_DEPTH_MAX {
            true => Err(E::custom(format_args!(
                "it is nested more than {} levels deep",
                limits::MANAGEMENT_JSON_DEPTH_MAX
            ))),
            false => Ok(Strict { depth }),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number is out of range"));
        number.map(Value::Number)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inside = self.deeper()?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(inside)? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let inside = self.deeper()?;
        let mut all = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if all.contains_key(&name) {
                let message = format_args!("the name '{}' stands twice in an object", shown(&name))
                    .to_string();
                return Err(A::Error::custom(message));
            }
            all.insert(name, fields.next_value_seed(inside)?);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_json_is_read_as_it_is() {
        let text = r#"{"a":[1,-2,2.5,"x",true,null,{"b":{}}],"é":"\u00e9"}"#;
        let plain: Value = serde_json::from_str(text).unwrap();
        assert_eq!(json(text.as_bytes()).unwrap(), plain);
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":{},"b":1,"a":2}]}"#] {
            let why = json(text.as_bytes()).unwrap_err();
            assert!(why.contains("'a' stands twice"), "{why}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(json(nested(limits::MANAGEMENT_JSON_DEPTH_MAX).as_bytes()).is_ok());
        for depth in [limits::MANAGEMENT_JSON_DEPTH_MAX + 1, 100_000] {
            let why = json(nested(depth).as_bytes()).unwrap_err();
            assert!(why.contains("levels deep"), "{why}");
        }
    }

    #[test]
    fn broken_json_is_refused() {
        for text in [
            "",
            "{",
            "{}x",
            "{'a':1}",
            "[1,]",
            "nul",
            "1e999",
            "\"\u{0}\"",
        ] {
            assert!(json(text.as_bytes()).is_err(), "{text}");
        }
        assert!(json(b"\"\xff\"").is_err());
    }

    #[test]
    fn query_parameters_stand_once() {
        let pair = |name: &str| (name.to_owned(), "x".to_owned());
        assert!(query(&[pair("api-version"), pair("$filter")]).is_ok());
        let twice = query(&[pair("api-version"), pair("API-Version")]).unwrap_err();
        assert!(twice.message.contains("given twice"), "{}", twice.message);
        let many: Vec<_> = (0..=limits::MANAGEMENT_QUERY_MAX)
            .map(|at| pair(&at.to_string()))
            .collect();
        assert!(query(&many).is_err());
    }
}
