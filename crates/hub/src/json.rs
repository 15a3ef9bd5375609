//! Reading JSON that clients sent: objects only where objects are meant, bounded nesting, no secrets in error texts.

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Number;
use serde_json::error::Category;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use types::{ErrorCode, Reject, limits};

/// Members of a JSON object; of equal names the last one counts.
pub(crate) type Members = BTreeMap<String, Json>;

/// Any JSON value, nested at most [`limits::JSON_DEPTH_MAX`] levels.
///
/// `serde_json::Value` is not used for outside input: it gives one member name a meaning of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    Array(Vec<Json>),
    Object(Members),
}

/// Reads `bytes` as a JSON object with the members of `T`; unknown members are skipped.
///
/// # Errors
/// [`ErrorCode::ArgumentInvalid`] with the place of the mistake; the text quotes nothing of the input.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Reject> {
    serde_json::from_slice::<Object<T>>(bytes)
        .map(|object| object.0)
        .map_err(|error| {
            let what = match error.classify() {
                Category::Syntax | Category::Eof => "is not valid JSON",
                Category::Data | Category::Io => "is not of the expected shape",
            };
            let (line, column) = (error.line(), error.column());
            Reject::new(
                ErrorCode::ArgumentInvalid,
                format!("the body {what} at line {line} column {column}"),
            )
        })
}

/// True if the text of a JSON document holds an integer of more digits than an `i64` always has room for.
///
/// Such literals would silently become floating-point numbers.
pub(crate) fn has_huge_integer(text: &[u8]) -> bool {
    const DIGITS_MAX: usize = 18;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at),
            b'0'..=b'9' => {
                let is_part = |b: &&u8| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                let length = text[at..].iter().take_while(is_part).count();
                let literal = &text[at..at + length];
                if length > DIGITS_MAX && literal.iter().all(u8::is_ascii_digit) {
                    return true;
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    false
}

/// The position after the string that starts at `start`, or the end of an unfinished one.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// A `T` read from a JSON object only; derived structs alone would take an array as well.
pub(crate) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(ObjectVisitor(PhantomData))
            .map(Object)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Nested {
            levels_left: limits::JSON_DEPTH_MAX,
        }
        .deserialize(deserializer)
    }
}

/// Reads a value that may nest `levels_left` more arrays or objects.
#[derive(Clone, Copy)]
struct Nested {
    levels_left: usize,
}

impl Nested {
    fn inner<E: Error>(self) -> Result<Nested, E> {
        match self.levels_left.checked_sub(1) {
            Some(levels_left) => Ok(Nested { levels_left }),
            None => Err(E::custom("nested too deeply")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Number::from_f64(value)
            .map(Json::Number)
            .ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let inner = self.inner()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let inner = self.inner()?;
        let mut members = Members::new();
        while let Some(name) = entries.next_key::<String>()? {
            members.insert(name, entries.next_value_seed(inner)?);
        }
        Ok(Json::Object(members))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Null => serializer.serialize_unit(),
            Json::Bool(value) => serializer.serialize_bool(*value),
            Json::Number(value) => value.serialize(serializer),
            Json::Text(value) => serializer.serialize_str(value),
            Json::Array(items) => serializer.collect_seq(items),
            Json::Object(members) => serializer.collect_map(members),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Deserialize)]
    struct Probe {
        #[serde(default)]
        value: Option<Json>,
        #[serde(default)]
        name: Option<String>,
    }

    fn check_refused(body: &[u8]) -> String {
        match parse::<Probe>(body) {
            Err(reject) => {
                assert_eq!(reject.code, ErrorCode::ArgumentInvalid);
                reject.message
            }
            Ok(_) => panic!("{} was accepted", String::from_utf8_lossy(body)),
        }
    }

    fn value_of(body: &str) -> Option<Json> {
        parse::<Probe>(body.as_bytes()).unwrap().value
    }

    #[test]
    fn only_objects_are_taken_for_objects() {
        for bad in ["[]", "null", "1", "\"x\"", "", "{", "{}x", "{\"name\":[]}"] {
            check_refused(bad.as_bytes());
        }
        check_refused(b"{\"name\":\"\xff\"}");
        assert!(
            parse::<Probe>(br#"{"unknown":[[[]]]}"#)
                .unwrap()
                .name
                .is_none()
        );
    }

    #[test]
    fn error_texts_quote_nothing_of_the_input() {
        for bad in [
            r#"{"name":{"secret":1}}"#,
            r#"{"name":"secret"#,
            r#"{"name":"secret" secret}"#,
        ] {
            assert!(!check_refused(bad.as_bytes()).contains("secret"));
        }
    }

    #[test]
    fn thousands_of_levels_are_refused() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for depth in [65, 130, 100_000] {
                let body = format!(
                    "{{\"value\":{}1{}}}",
                    open.repeat(depth),
                    close.repeat(depth)
                );
                check_refused(body.as_bytes());
                check_refused(format!("{{\"value\":{}", open.repeat(depth)).as_bytes());
            }
        }
    }

    #[test]
    fn names_that_mean_something_to_the_parser_stay_ordinary_names() {
        let value = value_of(r#"{"value":{"$serde_json::private::RawValue":"[1]"}}"#).unwrap();
        let Json::Object(members) = value else {
            panic!("{value:?}")
        };
        assert_eq!(members.values().next(), Some(&Json::Text("[1]".into())));
    }

    #[test]
    fn integers_too_long_for_an_i64_are_found_outside_of_strings() {
        for text in [
            "9999999999999999999",
            "{\"a\":-18446744073709551616}",
            "[1,123456789012345678901]",
        ] {
            assert!(has_huge_integer(text.as_bytes()), "{text}");
        }
        for text in [
            "1e300",
            "123456789012345678",
            "\"9999999999999999999\"",
            "\"\\\"9999999999999999999\"",
            "\"",
        ] {
            assert!(!has_huge_integer(text.as_bytes()), "{text}");
        }
        assert!(!has_huge_integer(b"0.12345678901234567890123"));
    }

    #[test]
    fn floating_point_numbers_come_back_as_they_were_sent() {
        for text in [
            "0.1",
            "9007199254740993.0",
            "1.7976931348623157e308",
            "122.416294033786585",
            "-5e-324",
        ] {
            let sent: f64 = text.parse().unwrap();
            let Some(Json::Number(got)) = value_of(&format!("{{\"value\":{text}}}")) else {
                panic!("{text}")
            };
            assert_eq!(got.as_f64().unwrap().to_bits(), sent.to_bits(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<Probe>(&bytes);
            has_huge_integer(&bytes);
        }

        #[test]
        fn json_like_text_never_panics(text in "[\\[\\]{}:,\"\\\\a$0-9.eE+-]{0,60}") {
            let _ = parse::<Probe>(text.as_bytes());
            has_huge_integer(text.as_bytes());
        }
    }
}
