//! Shared access signature tokens: `SharedAccessSignature sr=…&sig=…&se=…[&skn=…]` (data-plane notes section 2.1).

use crate::percent;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::hmac;
use std::fmt;
use types::{UnixMillis, limits};

const PREFIX: &str = "SharedAccessSignature ";

/// Accepts base64 with and without padding, as clients send both.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SasError {
    /// The text is not a token; says what is wrong with it.
    Malformed(&'static str),
    /// Its time is over, clock skew considered.
    Expired,
    /// None of the keys made its signature.
    BadSignature,
}

impl fmt::Display for SasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SasError::Malformed(why) => write!(f, "the SAS token is malformed: {why}"),
            SasError::Expired => f.write_str("the SAS token is expired"),
            SasError::BadSignature => {
                f.write_str("the SAS token's signature fits none of the keys")
            }
        }
    }
}

impl std::error::Error for SasError {}

/// A parsed token; nothing of it is proven before [`verify`].
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// `sr` exactly as it stands in the token: this text is signed.
    pub raw_resource: String,
    /// `sr` percent-decoded, for [`Scope`](crate::Scope).
    pub resource: String,
    pub signature: Vec<u8>,
    /// `se`, seconds since 1970.
    pub expiry_unix_s: i64,
    /// `skn`: the policy whose key signed; `None`: a key of the identity itself.
    pub policy: Option<String>,
    raw_expiry: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("resource", &self.resource)
            .field("expiry_unix_s", &self.expiry_unix_s)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// Reads a token; its fields may stand in any order and unknown ones are ignored.
    ///
    /// # Errors
    /// [`SasError::Malformed`] names the first mistake.
    pub fn parse(text: &str) -> Result<Token, SasError> {
        use SasError::Malformed;
        if text.len() > limits::SAS_TOKEN_BYTES_MAX {
            return Err(Malformed("it is longer than 4096 bytes"));
        }
        let fields = match text.get(..PREFIX.len()) {
            Some(start) if start.eq_ignore_ascii_case(PREFIX) => text[PREFIX.len()..].trim(),
            _ => return Err(Malformed("it does not start with `SharedAccessSignature `")),
        };
        let (mut sr, mut sig, mut se, mut skn) = (None, None, None, None);
        for field in fields.split('&') {
            let Some((name, value)) = field.split_once('=') else {
                return Err(Malformed("a field has no `=`"));
            };
            let slot = match name {
                "sr" => &mut sr,
                "sig" => &mut sig,
                "se" => &mut se,
                "skn" => &mut skn,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(Malformed("a field stands twice"));
            }
        }
        let raw_resource = sr
            .filter(|v| !v.is_empty())
            .ok_or(Malformed("`sr` is missing"))?;
        let signature = sig
            .filter(|v| !v.is_empty())
            .ok_or(Malformed("`sig` is missing"))?;
        let raw_expiry = se.ok_or(Malformed("`se` is missing"))?;
        let policy = match skn.filter(|v| !v.is_empty()) {
            None => None,
            Some(name) => Some(
                percent::decode(name)
                    .map_err(|_| Malformed("`skn` is badly encoded"))?
                    .into_owned(),
            ),
        };
        Ok(Token {
            resource: percent::decode(raw_resource)
                .map_err(|_| Malformed("`sr` is badly encoded"))?
                .into_owned(),
            raw_resource: raw_resource.to_owned(),
            signature: BASE64
                .decode(percent::decode_leniently(signature).as_bytes())
                .map_err(|_| Malformed("`sig` is not base64"))?,
            expiry_unix_s: parse_expiry(raw_expiry)?,
            policy,
            raw_expiry: raw_expiry.to_owned(),
        })
    }

    /// The instant after which the token is refused; connections opened with it are closed then.
    pub fn valid_until(&self) -> UnixMillis {
        UnixMillis(
            self.expiry_unix_s
                .saturating_add(limits::SAS_CLOCK_SKEW_S)
                .saturating_mul(1000),
        )
    }
}

fn parse_expiry(text: &str) -> Result<i64, SasError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(SasError::Malformed("`se` is not a number of seconds"));
    }
    text.parse()
        .map_err(|_| SasError::Malformed("`se` is too large"))
}

/// Checks that the token still holds at `now` and that one of `keys` (base64 text) made its signature, in constant time per key.
///
/// IoT hub clients sign with the decoded key, Event Hubs clients with the key's text: both are accepted. Empty keys sign nothing.
///
/// # Errors
/// [`SasError::Expired`], [`SasError::BadSignature`].
pub fn verify(token: &Token, keys: &[&str], now: UnixMillis) -> Result<(), SasError> {
    if now > token.valid_until() {
        return Err(SasError::Expired);
    }
    let signed = format!("{}\n{}", token.raw_resource, token.raw_expiry);
    let fits = |key: &[u8]| {
        // An empty key is no secret: anyone could sign with it.
        !key.is_empty()
            && hmac::verify(
                &hmac::Key::new(hmac::HMAC_SHA256, key),
                signed.as_bytes(),
                &token.signature,
            )
            .is_ok()
    };
    let found = keys
        .iter()
        .any(|key| BASE64.decode(key).is_ok_and(|decoded| fits(&decoded)) || fits(key.as_bytes()));
    if found {
        Ok(())
    } else {
        Err(SasError::BadSignature)
    }
}

/// Makes a token as clients do, for `resource` (`host/devices/d1`, not encoded). A key that is not base64 signs with its text.
pub fn make(resource: &str, key_base64: &str, policy: Option<&str>, expiry_unix_s: i64) -> String {
    let key = BASE64
        .decode(key_base64)
        .unwrap_or_else(|_| key_base64.as_bytes().to_vec());
    let sr = percent::encode(resource);
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &key),
        format!("{sr}\n{expiry_unix_s}").as_bytes(),
    );
    let sig = percent::encode(&BASE64.encode(tag.as_ref()));
    let mut token = format!("{PREFIX}sr={sr}&sig={sig}&se={expiry_unix_s}");
    if let Some(policy) = policy {
        token.push_str("&skn=");
        percent::encode_into(policy, &mut token);
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const OTHER: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
    const EXPIRY: i64 = 1_800_000_000;

    fn at(seconds: i64) -> UnixMillis {
        UnixMillis(seconds * 1000)
    }

    fn check(text: &str, keys: &[&str], now: UnixMillis) -> Result<(), SasError> {
        verify(&Token::parse(text)?, keys, now)
    }

    fn sign(key: &[u8], sr: &str, se: &str) -> String {
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, key),
            format!("{sr}\n{se}").as_bytes(),
        );
        BASE64.encode(tag.as_ref())
    }

    #[test]
    fn a_token_made_with_either_key_is_accepted_and_others_are_not() {
        let token = make("h.net/devices/d 1", KEY, None, EXPIRY);
        assert_eq!(Token::parse(&token).unwrap().resource, "h.net/devices/d 1");
        assert_eq!(check(&token, &[KEY, OTHER], at(EXPIRY)), Ok(()));
        assert_eq!(check(&token, &[OTHER, KEY], at(EXPIRY)), Ok(()));
        assert_eq!(
            check(&token, &[OTHER], at(EXPIRY)),
            Err(SasError::BadSignature)
        );
        assert_eq!(check(&token, &[], at(EXPIRY)), Err(SasError::BadSignature));
    }

    #[test]
    fn the_signature_is_the_known_answer_of_hmac_sha256() {
        // Computed with `openssl dgst -sha256 -hmac` over the same text and key.
        let token = Token::parse(&make("myhub.net/devices/d1", KEY, None, 1_500_000_000)).unwrap();
        assert_eq!(token.raw_resource, "myhub.net%2Fdevices%2Fd1");
        assert_eq!(
            BASE64.encode(&token.signature),
            "DT9iB/WIdrk1zEVxriIMlfCVHIUxYhahQP98n1PJlDU="
        );
    }

    #[test]
    fn the_raw_resource_text_is_signed_whatever_its_encoding() {
        for sr in [
            "h.net%2fdevices%2fd1",
            "h.net/devices/d1",
            "h.net%3A8883",
            "sb://ns/hub",
        ] {
            let sig = sign(b"0123456789abcdef0123456789abcdef", sr, "1800000000");
            // The Python service client leaves `/` and `+` of the signature as they are.
            for sig in [sig.clone(), percent::encode(&sig)] {
                let token =
                    format!("SharedAccessSignature sr={sr}&sig={sig}&skn=service&se=1800000000");
                assert_eq!(check(&token, &[KEY], at(EXPIRY)), Ok(()), "{token}");
                assert_eq!(
                    Token::parse(&token).unwrap().policy.as_deref(),
                    Some("service")
                );
            }
        }
    }

    #[test]
    fn a_plus_in_the_signature_is_not_a_space() {
        let (se, sig) = (0..)
            .map(|n| (EXPIRY + n).to_string())
            .map(|se| {
                (
                    se.clone(),
                    sign(b"0123456789abcdef0123456789abcdef", "h", &se),
                )
            })
            .find(|(_, sig)| sig.contains('+'))
            .unwrap();
        assert_eq!(
            check(
                &format!("SharedAccessSignature se={se}&sig={sig}&sr=h"),
                &[KEY],
                at(EXPIRY)
            ),
            Ok(())
        );
    }

    #[test]
    fn event_hubs_clients_sign_with_the_text_of_the_key() {
        let sig = percent::encode(&sign(KEY.as_bytes(), "sb%3A%2F%2Fns%2Fhub", "1800000000"));
        let token = format!(
            "SharedAccessSignature sr=sb%3A%2F%2Fns%2Fhub&sig={sig}&se=1800000000&skn=service"
        );
        assert_eq!(check(&token, &[KEY], at(EXPIRY)), Ok(()));
    }

    #[test]
    fn five_minutes_of_clock_skew_are_tolerated() {
        let token = make("h", KEY, None, EXPIRY);
        assert_eq!(check(&token, &[KEY], at(EXPIRY + 300)), Ok(()));
        assert_eq!(
            check(&token, &[KEY], UnixMillis((EXPIRY + 300) * 1000 + 1)),
            Err(SasError::Expired)
        );
    }

    #[test]
    fn an_empty_key_proves_nothing() {
        for key in ["", "="] {
            let sig = percent::encode(&sign(&[0; 0], "h", "1800000000"));
            let token = format!("SharedAccessSignature sr=h&sig={sig}&se=1800000000");
            assert_ne!(check(&token, &[key], at(EXPIRY)), Ok(()), "{key:?}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let malformed = |text: &str| match Token::parse(text) {
            Err(SasError::Malformed(why)) => why,
            other => panic!("{text}: {other:?}"),
        };
        assert!(malformed("").contains("start"));
        assert!(malformed("Bearer x").contains("start"));
        assert!(malformed("SharedAccessSignature x").contains("`=`"));
        assert!(malformed("SharedAccessSignature sig=AA&se=1").contains("`sr`"));
        assert!(malformed("SharedAccessSignature sr=h&se=1").contains("`sig`"));
        assert!(malformed("SharedAccessSignature sr=h&sig=AA").contains("`se`"));
        assert!(malformed("SharedAccessSignature sr=h&sr=i&sig=AA&se=1").contains("twice"));
        assert!(malformed("SharedAccessSignature sr=h&sig=!!&se=1").contains("base64"));
        assert!(malformed("SharedAccessSignature sr=%zz&sig=AA&se=1").contains("`sr`"));
        for se in ["", "-1", "1.5", "99999999999999999999"] {
            assert!(
                malformed(&format!("SharedAccessSignature sr=h&sig=AA&se={se}")).contains("`se`")
            );
        }
        assert!(
            malformed(&format!("SharedAccessSignature sr={}", "x".repeat(5000))).contains("4096")
        );
    }

    #[test]
    fn the_far_future_does_not_overflow() {
        let token = make("h", KEY, None, i64::MAX);
        assert_eq!(check(&token, &[KEY], UnixMillis(i64::MAX)), Ok(()));
    }

    #[test]
    fn debug_shows_no_signature() {
        let token = Token::parse(&make("h", KEY, None, EXPIRY)).unwrap();
        assert!(!format!("{token:?}").contains("signature"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC*", tail in "(sr|sig|se|skn|[&=%+/]|[a-f0-9]){0,40}") {
            let _ = Token::parse(&text);
            let _ = Token::parse(&format!("{PREFIX}{tail}"));
        }

        #[test]
        fn what_was_made_is_accepted(resource in "[ -~é]{1,60}", policy in proptest::option::of("[ -~]{1,20}"),
                                     key in proptest::collection::vec(any::<u8>(), 1..64), expiry in 0i64..4_000_000_000) {
            let key = BASE64.encode(key);
            let token = Token::parse(&make(&resource, &key, policy.as_deref(), expiry)).unwrap();
            prop_assert_eq!(&token.resource, &resource);
            prop_assert_eq!(&token.policy, &policy);
            prop_assert_eq!(verify(&token, &[&key], at(expiry)), Ok(()));
        }
    }
}
