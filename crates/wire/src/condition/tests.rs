use super::*;
use serde_json::json;

struct Sample(Value);

impl Message for Sample {
    fn application(&self, name: &str) -> Option<&str> {
        [("temperature", "31.5"), ("kind", "alarm"), ("a-b", "x")]
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn system(&self, name: &str) -> Option<&str> {
        name.eq_ignore_ascii_case("contentType")
            .then_some("application/json")
    }

    fn body(&self) -> Option<&Value> {
        Some(&self.0)
    }
}

#[track_caller]
fn gives(text: &str, expected: Option<bool>) {
    let condition = Condition::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let body = json!({ "w": { "t": 40, "list": [1, "two"], "none": null }, "on": true });
    assert_eq!(condition.holds(&Sample(body)), expected, "{text}");
}

#[test]
fn properties_and_bodies_are_compared() {
    for (text, expected) in [
        ("true", Some(true)),
        ("kind = 'alarm'", Some(true)),
        ("KIND = \"alarm\" AND temperature > 30", Some(true)),
        ("kind <> 'alarm' OR $body.w.t >= 40", Some(true)),
        ("NOT (kind != 'alarm')", Some(true)),
        ("$contentType = 'application/json'", Some(true)),
        ("$body.w.list[1] = 'two'", Some(true)),
        ("$body.w.t IN [1, 2, 40]", Some(true)),
        ("kind IN ['a', 'b']", Some(false)),
        ("$body.on", Some(true)),
        ("$body.w.none = null", Some(true)),
        ("$body.w.t * 2 - 0x10 = 64", Some(true)),
        ("-1 < 0", Some(true)),
        ("a-b = 'x'", Some(true)),
    ] {
        gives(text, expected);
    }
}

#[test]
fn what_is_missing_or_of_another_type_is_undefined() {
    for (text, expected) in [
        ("missing = 'x'", None),
        ("NOT missing = 'x'", None),
        ("$twin.tags.a = 'x'", None),
        ("$body.w.t = 'forty'", None),
        ("$body.on = 1", None),
        ("missing = 1 OR true", Some(true)),
        ("missing = 1 AND false", Some(false)),
        ("1 / 0 = 1", None),
        ("kind", None),
        ("is_defined(missing)", Some(false)),
        ("is_defined($body.w.none)", Some(true)),
    ] {
        gives(text, expected);
    }
}

#[test]
fn functions_give_what_is_documented() {
    for text in [
        "STARTS_WITH(kind, 'al')",
        "ENDS_WITH(kind, 'rm')",
        "CONTAINS(kind, 'lar')",
        "length(kind) = 5",
        "abs(-2) = 2",
        "upper(kind) = 'ALARM'",
        "substring(kind, 1, 2) = 'la'",
        "index_of(kind, 'r') = 3",
        "concat(kind, '!') = 'alarm!'",
        "as_number(temperature) = 31.5",
        "is_string(kind) AND is_number($body.w.t) AND is_object($body.w) AND is_array($body.w.list)",
        "floor(1.5) = 1 AND ceiling(1.5) = 2 AND sign(-3) = -1 AND power(2, 3) = 8",
    ] {
        gives(text, Some(true));
    }
}

#[test]
fn what_is_not_understood_is_named_with_its_place() {
    for (text, start, why) in [
        ("kind =", 6, "a value"),
        ("kind = 'x", 7, "no end"),
        ("wonder(kind)", 0, "'wonder'"),
        ("length()", 0, "arguments"),
        ("(kind = 'x'", 11, "')'"),
        ("kind 'x'", 5, "operator"),
        ("a = 1.2.3", 4, "number"),
        ("", 0, "a value"),
        ("a ~ b", 2, "'~'"),
        ("$ = 1", 0, "after '$'"),
    ] {
        let error = Condition::parse(text).unwrap_err();
        assert_eq!(error.start, start, "{text}: {error}");
        assert!(error.message.contains(why), "{text}: {error}");
    }
}

#[test]
fn deep_and_long_conditions_are_refused() {
    for text in [
        "(".repeat(10_000),
        "NOT ".repeat(10_000),
        "-".repeat(10_000),
        format!("true{}", " AND true".repeat(10_000)),
    ] {
        assert!(Condition::parse(&text).is_err());
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,60}") {
        if let Ok(condition) = Condition::parse(&text) {
            condition.holds(&Sample(json!({})));
        }
    }
}
