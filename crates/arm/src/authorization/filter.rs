//! `$filter` of these lists: `atScope()`, `assignedTo('x')`, `name eq 'x'`, joined by `and`.

use crate::call::Call;
use crate::failure::{Failure, shown};

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `word()`
    Bare(String),
    /// `word('value')` and `word eq 'value'`
    Of(String, String),
}

/// The conditions of a request, their words in lower case.
///
/// # Errors
/// 400 for what is none.
pub fn read(call: &Call) -> Result<Vec<Condition>, Failure> {
    parse(call.query("$filter").unwrap_or_default())
}

fn parse(text: &str) -> Result<Vec<Condition>, Failure> {
    let mut rest = text.trim();
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (condition, after) = condition(rest).ok_or_else(|| unknown(rest))?;
        all.push(condition);
        let after = after.trim_start();
        rest = match after.get(..4) {
            _ if after.is_empty() => after,
            Some(word) if word.eq_ignore_ascii_case("and ") => after[4..].trim_start(),
            _ => return Err(unknown(after)),
        };
        if rest.is_empty() && !after.is_empty() {
            return Err(unknown(after));
        }
    }
    Ok(all)
}

/// 400 for a condition that a list does not know.
pub fn unknown(text: &str) -> Failure {
    Failure::bad(
        "InvalidFilterInQueryString",
        format!("The filter '{}' is not understood.", shown(text)),
    )
}

/// 400 for a condition that a list does not know.
pub fn unsupported(condition: &Condition) -> Failure {
    match condition {
        Condition::Bare(word) => unknown(&format!("{word}()")),
        Condition::Of(word, value) => unknown(&format!("{word} '{value}'")),
    }
}

fn condition(text: &str) -> Option<(Condition, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric())?;
    let (word, rest) = text.split_at(end);
    if word.is_empty() {
        return None;
    }
    let word = word.to_ascii_lowercase();
    if let Some(rest) = rest.strip_prefix('(') {
        if let Some(rest) = rest.strip_prefix(')') {
            return Some((Condition::Bare(word), rest));
        }
        let (value, rest) = quoted(rest)?;
        return Some((Condition::Of(word, value), rest.strip_prefix(')')?));
    }
    let rest = rest.trim_start();
    let verb = rest.get(..3)?;
    if !verb.eq_ignore_ascii_case("eq ") {
        return None;
    }
    let (value, rest) = quoted(rest[3..].trim_start())?;
    Some((Condition::Of(word, value), rest))
}

/// A text in quotes, in which a doubled quote is one.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text.strip_prefix('\'')?;
    loop {
        let (part, after) = rest.split_once('\'')?;
        value.push_str(part);
        match after.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Some((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_read() {
        let of = |word: &str, value: &str| Condition::Of(word.into(), value.into());
        for (text, wanted) in [
            ("", vec![]),
            ("atScope()", vec![Condition::Bare("atscope".into())]),
            ("principalId eq 'a b'", vec![of("principalid", "a b")]),
            (
                "atScope() and assignedTo('x')",
                vec![Condition::Bare("atscope".into()), of("assignedto", "x")],
            ),
            (
                "roleName eq 'O''Neil and sons'",
                vec![of("rolename", "O'Neil and sons")],
            ),
        ] {
            assert_eq!(parse(text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "x",
            "x(",
            "x('",
            "x('a'",
            "x eq",
            "x eq a",
            "x ne 'a'",
            "x() and",
            "x() or y()",
            "()",
            "x eq 'a' b",
            "é()",
            "x eq 'é",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
