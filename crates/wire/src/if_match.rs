//! The `If-Match` header (data-plane notes section 5.2).

/// What a request expects of the entity it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMatch<'a> {
    /// No header, or an empty one.
    Absent,
    /// `*` or `"*"`: any existing entity.
    Any,
    /// The etag without its quotes.
    Etag(&'a str),
}

impl<'a> IfMatch<'a> {
    /// Reads the header's text: one pair of quotes is taken off, then `*` means any.
    pub fn parse(header: Option<&'a str>) -> IfMatch<'a> {
        let text = header.unwrap_or_default().trim();
        let text = text.strip_prefix("W/").unwrap_or(text);
        let text = text
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(text);
        match text {
            "" => IfMatch::Absent,
            "*" => IfMatch::Any,
            etag => IfMatch::Etag(etag),
        }
    }
}

/// The value of an `ETag` header for `etag`.
pub fn etag_header(etag: &str) -> String {
    format!("\"{etag}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pair_of_quotes_is_taken_off_before_the_star_is_seen() {
        let check = |header, expected| assert_eq!(IfMatch::parse(header), expected, "{header:?}");
        check(None, IfMatch::Absent);
        check(Some(" "), IfMatch::Absent);
        check(Some("*"), IfMatch::Any);
        check(Some("\"*\""), IfMatch::Any);
        check(Some(" \"AAAAAAAAAAE=\" "), IfMatch::Etag("AAAAAAAAAAE="));
        check(Some("W/\"abc\""), IfMatch::Etag("abc"));
        check(Some("bare"), IfMatch::Etag("bare"));
        check(Some("\"\"twice\"\""), IfMatch::Etag("\"twice\""));
        check(Some("\""), IfMatch::Etag("\""));
        assert_eq!(etag_header("x"), "\"x\"");
    }
}
