//! What a twin accepts: names, values, nesting, sizes. Source: data-plane notes section 12.1.

use super::node::Branch;
use crate::json::{Json, Members};
use types::{ErrorCode, Reject, limits};

/// Which part of a twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Tags,
    Desired,
    Reported,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Tags => "tags",
            Part::Desired => "desired properties",
            Part::Reported => "reported properties",
        }
    }

    fn bytes_max(self) -> usize {
        match self {
            Part::Tags => limits::TWIN_TAGS_BYTES_MAX,
            Part::Desired => limits::TWIN_DESIRED_BYTES_MAX,
            Part::Reported => limits::TWIN_REPORTED_BYTES_MAX,
        }
    }
}

/// Takes what a client sent for one part and checks it; the read-only members of the part itself are dropped.
///
/// # Errors
/// [`ErrorCode::ArgumentInvalid`] if it is not an object or breaks a rule for names, values or nesting.
pub(super) fn accept(part: Part, value: Json) -> Result<Members, Reject> {
    let Json::Object(mut members) = value else {
        return Err(invalid(part, "must be a JSON object"));
    };
    for read_only in ["$version", "$metadata"] {
        members.remove(read_only);
    }
    check_members(part, &members, limits::TWIN_DEPTH_MAX)?;
    Ok(members)
}

/// # Errors
/// [`ErrorCode::MessageTooLarge`] if the part as it would be stored exceeds its size.
pub(super) fn check_size(part: Part, root: &Branch) -> Result<(), Reject> {
    let (size, max) = (root.size(), part.bytes_max());
    if size > max {
        let text = format!(
            "the {} would have {size} bytes; the limit is {max}",
            part.name()
        );
        return Err(Reject::new(ErrorCode::MessageTooLarge, text));
    }
    let (size, max) = (root.text_size(), max * limits::TWIN_TEXT_FACTOR_MAX);
    if size > max {
        let text = format!(
            "the {} would have {size} bytes as JSON text; the limit is {max}",
            part.name()
        );
        return Err(Reject::new(ErrorCode::MessageTooLarge, text));
    }
    Ok(())
}

fn invalid(part: Part, why: impl std::fmt::Display) -> Reject {
    Reject::new(
        ErrorCode::ArgumentInvalid,
        format!("the {} {why}", part.name()),
    )
}

fn check_members(part: Part, members: &Members, levels_left: usize) -> Result<(), Reject> {
    for (name, value) in members {
        check_name(part, name)?;
        check_value(part, value, levels_left)?;
    }
    Ok(())
}

fn check_name(part: Part, name: &str) -> Result<(), Reject> {
    if name.is_empty() {
        return Err(invalid(part, "have a member without a name"));
    }
    if name.len() > limits::TWIN_KEY_BYTES_MAX {
        return Err(invalid(
            part,
            format_args!(
                "have a name longer than {} bytes",
                limits::TWIN_KEY_BYTES_MAX
            ),
        ));
    }
    if name
        .chars()
        .any(|c| c.is_control() || matches!(c, '.' | '$' | ' '))
    {
        return Err(invalid(
            part,
            "have a name with a control character, '.', '$' or a space",
        ));
    }
    Ok(())
}

fn check_value(part: Part, value: &Json, levels_left: usize) -> Result<(), Reject> {
    let inside = || {
        let too_deep = || {
            invalid(
                part,
                format_args!("nest deeper than {} levels", limits::TWIN_DEPTH_MAX),
            )
        };
        levels_left.checked_sub(1).ok_or_else(too_deep)
    };
    match value {
        Json::Null | Json::Bool(_) => Ok(()),
        Json::Number(number) => {
            let allowed = limits::TWIN_INTEGER_MIN..=limits::TWIN_INTEGER_MAX;
            let fits = number.is_f64()
                || number
                    .as_i64()
                    .is_some_and(|integer| allowed.contains(&integer));
            if fits {
                Ok(())
            } else {
                Err(integer_out_of_range(part))
            }
        }
        Json::Text(text) if text.len() > limits::TWIN_STRING_BYTES_MAX => Err(invalid(
            part,
            format_args!(
                "have a string longer than {} bytes",
                limits::TWIN_STRING_BYTES_MAX
            ),
        )),
        Json::Text(_) => Ok(()),
        Json::Array(items) => {
            let levels_left = inside()?;
            items
                .iter()
                .try_for_each(|item| check_value(part, item, levels_left))
        }
        Json::Object(members) => check_members(part, members, inside()?),
    }
}

fn integer_out_of_range(part: Part) -> Reject {
    let (min, max) = (limits::TWIN_INTEGER_MIN, limits::TWIN_INTEGER_MAX);
    invalid(part, format_args!("have an integer outside {min} to {max}"))
}

#[cfg(test)]
mod tests {
    use super::super::node::Stamp;
    use super::*;
    use serde_json::{Value, json};
    use types::UnixMillis;

    fn accepted(value: Value) -> Result<Members, Reject> {
        accept(Part::Desired, serde_json::from_value(value).unwrap())
    }

    fn check_invalid(value: Value) {
        let shown = value.to_string().chars().take(80).collect::<String>();
        let reject = accepted(value).expect_err(&shown);
        assert_eq!(reject.code, ErrorCode::ArgumentInvalid, "{shown}");
    }

    fn nested(levels: usize) -> Value {
        (0..levels).fold(
            json!({"property": "value"}),
            |inner, _| json!({ "level": inner }),
        )
    }

    #[test]
    fn ten_levels_under_a_section_are_accepted_and_eleven_refused() {
        assert!(accepted(nested(10)).is_ok());
        check_invalid(nested(11));
        check_invalid(json!({"a": [[[[[[[[[[[1]]]]]]]]]]]}));
    }

    #[test]
    fn names_exclude_dots_dollars_spaces_control_characters_and_nothing() {
        for bad in [
            "",
            "a.b",
            "$a",
            "a$b",
            "a b",
            "a\u{0}",
            "a\u{7f}",
            "a\u{85}",
            &"k".repeat(1025),
        ] {
            check_invalid(json!({ bad: 1 }));
            check_invalid(json!({"a": { bad: null }}));
            check_invalid(json!({"a": [{ bad: 1 }]}));
        }
        for good in ["ü", "a-b", "a/b", &"k".repeat(1024)] {
            assert!(accepted(json!({ good: 1 })).is_ok(), "{good}");
        }
    }

    #[test]
    fn read_only_members_are_dropped_at_the_top_and_refused_below() {
        let members =
            accepted(json!({"$version": "x", "$metadata": {"$lastUpdated": 1}, "a": 1})).unwrap();
        assert_eq!(members.into_keys().collect::<Vec<_>>(), ["a"]);
        check_invalid(json!({"a": {"$version": 1}}));
        check_invalid(json!({"$other": 1}));
    }

    #[test]
    fn integers_and_strings_have_their_documented_range() {
        for good in [limits::TWIN_INTEGER_MIN, 0, limits::TWIN_INTEGER_MAX] {
            assert!(accepted(json!({ "a": good })).is_ok(), "{good}");
        }
        check_invalid(json!({ "a": limits::TWIN_INTEGER_MIN - 1 }));
        check_invalid(json!({ "a": limits::TWIN_INTEGER_MAX + 1 }));
        check_invalid(json!({ "a": [u64::MAX] }));
        assert!(accepted(json!({ "a": 1e300 })).is_ok());
        assert!(accepted(json!({ "a": "s".repeat(4096) })).is_ok());
        check_invalid(json!({ "a": "s".repeat(4097) }));
    }

    #[test]
    fn a_part_that_is_no_object_is_refused() {
        for bad in [json!(1), json!("x"), json!([]), json!(null)] {
            check_invalid(bad);
        }
    }

    fn size_verdict(part: Part, value: Value) -> Option<ErrorCode> {
        let root = Branch::new(accepted(value).unwrap(), Stamp(UnixMillis(0), 1));
        check_size(part, &root).err().map(|reject| reject.code)
    }

    /// Counts exactly `bytes` by the documented rule.
    fn filled(bytes: usize) -> Value {
        let mut map = serde_json::Map::new();
        let mut left = bytes;
        while left > 0 {
            let name = format!("{:04}", map.len());
            let length = (left - 4).min(4000);
            map.insert(name, json!("x".repeat(length)));
            left -= 4 + length;
        }
        map.into()
    }

    #[test]
    fn each_part_is_limited_to_its_documented_size() {
        for (part, kib) in [(Part::Tags, 8), (Part::Desired, 32), (Part::Reported, 32)] {
            assert_eq!(size_verdict(part, filled(kib * 1024)), None, "{part:?}");
            assert_eq!(
                size_verdict(part, filled(kib * 1024 + 1)),
                Some(ErrorCode::MessageTooLarge),
                "{part:?}"
            );
        }
    }

    #[test]
    fn what_the_documented_rule_counts_as_nothing_is_limited_too() {
        let nothing = json!({"a": vec![Value::Null; 200_000]});
        assert_eq!(
            size_verdict(Part::Reported, nothing),
            Some(ErrorCode::MessageTooLarge)
        );
        let invisible = json!({"a": vec!["\u{1}".repeat(4096); 40]});
        assert_eq!(
            size_verdict(Part::Tags, invisible),
            Some(ErrorCode::MessageTooLarge)
        );
    }
}
