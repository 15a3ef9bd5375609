//! The JSON that `az` sends for templates: with comments, names without quotes, line breaks in texts, commas at the end.

use serde_json::Value;

/// Reads such a text.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &[u8]) -> Result<Value, String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    crate::strict::json(strict(text).as_bytes())
}

/// As strict JSON; what is not understood is left for the parser to refuse.
fn strict(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // A comma is written when it is known that something follows it.
    let mut comma = false;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("//") {
            rest = after.find('\n').map_or("", |at| &after[at..]);
            continue;
        }
        if let Some(after) = rest.strip_prefix("/*") {
            rest = after.find("*/").map_or("", |at| &after[at + 2..]);
            continue;
        }
        if first.is_whitespace() || first == ',' {
            if first == ',' && comma {
                out.push(',');
            }
            comma |= first == ',';
            rest = &rest[first.len_utf8()..];
            continue;
        }
        if comma && first != '}' && first != ']' {
            out.push(',');
        }
        comma = false;
        rest = match first {
            '"' | '\'' => string(&rest[1..], first, &mut out),
            c if c.is_ascii_alphabetic() || c == '_' || c == '$' => word(rest, &mut out),
            c => {
                out.push(c);
                // Keeps `1 2` apart, which is no number.
                let after = &rest[c.len_utf8()..];
                if after.starts_with(char::is_whitespace) {
                    out.push(' ');
                }
                after
            }
        };
    }
    out
}

/// A text after its opening quote; gives what comes after the closing one.
fn string<'a>(text: &'a str, quote: char, out: &mut String) -> &'a str {
    out.push('"');
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, '\'')) => out.push('\''),
                Some((_, escaped)) => {
                    out.push('\\');
                    out.push(escaped);
                }
                None => break,
            },
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' if quote == '\'' => out.push_str("\\\""),
            c if c == quote => {
                out.push('"');
                return &text[at + 1..];
            }
            c => out.push(c),
        }
    }
    // Without its end it is left open, which the parser refuses.
    ""
}

/// A bare word: a name if a colon follows, else a literal or part of a number.
fn word<'a>(text: &'a str, out: &mut String) -> &'a str {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$'))
        .unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if rest.trim_start().starts_with(':') {
        out.push('"');
        out.push_str(word);
        out.push('"');
    } else {
        out.push_str(word);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_cli_splices_together_is_read() {
        let text = "{\"properties\": {\"parameters\": {}, \"mode\": \"Incremental\", template:{\r\n // a comment\n \"a\": \"x // y\", /* more */ \"b\": [1.5e3, true, null,],\n}}}";
        assert_eq!(
            parse(text.as_bytes()).unwrap(),
            json!({"properties": {"parameters": {}, "mode": "Incremental", "template": {"a": "x // y", "b": [1.5e3, true, null]}}})
        );
    }

    #[test]
    fn texts_over_lines_and_in_single_quotes_are_read() {
        let read = parse(b"{'a': \"one\ntwo\", 'b': 'say \"it\\'s\"'}").unwrap();
        assert_eq!(read, json!({"a": "one\ntwo", "b": "say \"it's\""}));
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_however_it_is_written() {
        for text in [
            "{\"a\": 1, \"a\": 2}",
            "{x: [{a: 1, // one\n 'a': 2}]}",
            "{a: 1, \"\\u0061\": 2}",
        ] {
            let why = parse(text.as_bytes()).unwrap_err();
            assert!(why.contains("'a' stands twice"), "{text}: {why}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "{",
            "{\"a\" 1}",
            "[1,,2]",
            "{\"a\": \"open}",
            "[1 2]",
            "\"\\",
            "{a}",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
