//! Percent-encoding as clients of the data plane use it: RFC 3986, where a literal `+` is a plus and never a space.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;
use std::fmt;

/// Everything but RFC 3986 "unreserved" is encoded.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Why a text cannot be percent-decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PercentError {
    /// A `%` is not followed by two hexadecimal digits.
    Digits,
    /// The decoded bytes are not UTF-8.
    Utf8,
}

impl fmt::Display for PercentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PercentError::Digits => "a `%` is not followed by two hexadecimal digits",
            PercentError::Utf8 => "the decoded bytes are not UTF-8",
        })
    }
}

impl std::error::Error for PercentError {}

/// Encodes everything but letters, digits and `-._~`.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Encodes onto the end of `out`.
pub fn encode_into(text: &str, out: &mut String) {
    out.extend(utf8_percent_encode(text, RESERVED));
}

/// Decodes strictly; allocates only when something is encoded.
///
/// # Errors
/// [`PercentError`] names the first mistake.
pub fn decode(text: &str) -> Result<Cow<'_, str>, PercentError> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|b| *b == b'%') {
        at += found + 1;
        match bytes.get(at..at + 2) {
            Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => at += 2,
            _ => return Err(PercentError::Digits),
        }
    }
    if at == 0 {
        return Ok(Cow::Borrowed(text));
    }
    percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| PercentError::Utf8)
}

/// Decodes what can be decoded and leaves the rest as it stands.
pub fn decode_leniently(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_stays_plus_and_space_is_percent_20() {
        assert_eq!(encode("a b+c/é~"), "a%20b%2Bc%2F%C3%A9~");
        assert_eq!(decode("a%20b+c%2f%C3%A9").unwrap(), "a b+c/é");
    }

    #[test]
    fn bad_sequences_are_refused_strictly_and_kept_leniently() {
        for bad in ["%", "%4", "a%zz", "%4g", "%%41", "%+1"] {
            assert_eq!(decode(bad), Err(PercentError::Digits), "{bad}");
        }
        assert_eq!(decode("%ff"), Err(PercentError::Utf8));
        assert_eq!(decode_leniently("%zz%41"), "%zzA");
    }

    #[test]
    fn plain_text_is_borrowed() {
        assert!(matches!(decode("plain+text"), Ok(Cow::Borrowed(_))));
    }
}
