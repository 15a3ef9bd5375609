//! Property bags: `k=v&k&k=`, percent-encoded, as they stand in MQTT topics and are stored with telemetry (data-plane notes
//! section 3.5).
//!
//! System properties are named `$.mid`, `$.ct` and so on; their short names here leave out the `$.`.

use crate::percent::{self, PercentError};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use types::{ErrorCode, Reject, limits};

const SYSTEM: &str = "$.";

/// Why a bag is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BagError {
    Percent(PercentError),
    /// A value without a name, as in `=v`.
    EmptyName,
    /// The message id is longer than 128 characters.
    MessageIdTooLong,
    /// The correlation id is longer than 128 characters.
    CorrelationIdTooLong,
}

impl fmt::Display for BagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("message properties: ")?;
        match self {
            BagError::Percent(why) => why.fmt(f),
            BagError::EmptyName => f.write_str("a value has no name"),
            BagError::MessageIdTooLong => {
                f.write_str("the message id is longer than 128 characters")
            }
            BagError::CorrelationIdTooLong => {
                f.write_str("the correlation id is longer than 128 characters")
            }
        }
    }
}

impl std::error::Error for BagError {}

impl From<BagError> for Reject {
    fn from(error: BagError) -> Reject {
        Reject::new(ErrorCode::ArgumentInvalid, error.to_string())
    }
}

/// One property: decoded name, and decoded value (`None` when there is no `=`, which means null).
pub type Entry<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

/// Decodes a bag's properties in order. Empty pieces (`a&&b`), a leading `?` and one trailing `/` are skipped.
pub fn entries(bag: &str) -> impl Iterator<Item = Result<Entry<'_>, BagError>> {
    let bag = bag.strip_prefix('?').unwrap_or(bag);
    let bag = bag.strip_suffix('/').unwrap_or(bag);
    bag.split('&')
        .filter(|piece| !piece.is_empty())
        .map(|piece| {
            let (name, value) = match piece.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (piece, None),
            };
            if name.is_empty() {
                return Err(BagError::EmptyName);
            }
            let name = percent::decode(name).map_err(BagError::Percent)?;
            Ok((
                name,
                value
                    .map(percent::decode)
                    .transpose()
                    .map_err(BagError::Percent)?,
            ))
        })
}

/// Checks a bag without keeping anything; allocates only for pieces that are percent-encoded.
///
/// # Errors
/// [`BagError`] for bad percent-encoding, bad UTF-8, a missing name, or a message or correlation id that is too long.
pub fn validate(bag: &str) -> Result<(), BagError> {
    entries(bag).try_for_each(|entry| {
        let (name, value) = entry?;
        check_system(&name, value.as_deref())
    })
}

fn check_system(name: &str, value: Option<&str>) -> Result<(), BagError> {
    let too_long = match name {
        "$.mid" => BagError::MessageIdTooLong,
        "$.cid" => BagError::CorrelationIdTooLong,
        _ => return Ok(()),
    };
    // Characters are counted only when there are more bytes than may be.
    match value {
        Some(id)
            if id.len() > limits::MESSAGE_ID_CHARS_MAX
                && id.chars().count() > limits::MESSAGE_ID_CHARS_MAX =>
        {
            Err(too_long)
        }
        _ => Ok(()),
    }
}

/// A bag's properties, decoded and told apart; of two with one name the later stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// By short name (`mid`, `ct`, …), unknown ones too.
    pub system: BTreeMap<String, Option<String>>,
    pub application: BTreeMap<String, Option<String>>,
}

impl Properties {
    /// # Errors
    /// As [`validate`].
    pub fn parse(bag: &str) -> Result<Properties, BagError> {
        let mut properties = Properties::default();
        for entry in entries(bag) {
            let (name, value) = entry?;
            check_system(&name, value.as_deref())?;
            let value = value.map(Cow::into_owned);
            match name.strip_prefix(SYSTEM) {
                Some(short) => properties.system.insert(short.to_owned(), value),
                None => properties.application.insert(name.into_owned(), value),
            };
        }
        Ok(properties)
    }

    /// The value of a system property by short name, if it is there and not null.
    pub fn system(&self, short: &str) -> Option<&str> {
        self.system.get(short)?.as_deref()
    }
}

/// The name under which event readers see a system property: `mid` is `message-id`. `None` for unknown short names.
pub fn long_name(short: &str) -> Option<&'static str> {
    Some(match short {
        "mid" => "message-id",
        "cid" => "correlation-id",
        "uid" => "user-id",
        "to" => "to",
        "ct" => "content-type",
        "ce" => "content-encoding",
        "exp" => "absolute-expiry-time",
        "on" => "iothub-outputname",
        "sub" => "dt-subject",
        "ifid" => "iothub-interface-id",
        "ctime" => "iothub-creation-time-utc",
        "cdid" => "iothub-connection-device-id",
        "cmid" => "iothub-connection-module-id",
        "schema" => "iothub-message-schema",
        "diagid" => "Diagnostic-Id",
        "diagctx" => "Correlation-Context",
        _ => return None,
    })
}

/// Builds a bag property by property.
#[derive(Clone, Debug, Default)]
pub struct Builder(String);

impl Builder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on after the properties of `bag`, which must be valid.
    pub fn after(bag: &str) -> Self {
        Builder(bag.strip_suffix('/').unwrap_or(bag).to_owned())
    }

    /// Adds a system property by short name.
    pub fn system(mut self, short: &str, value: &str) -> Self {
        self.name(SYSTEM, short);
        self.value(value);
        self
    }

    /// Adds a system property if there is a value.
    pub fn system_if(self, short: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.system(short, value),
            None => self,
        }
    }

    /// Adds an application property; `None` is null. An empty name is left out: it cannot be written.
    pub fn application(mut self, name: &str, value: Option<&str>) -> Self {
        if name.is_empty() {
            return self;
        }
        self.name("", name);
        if let Some(value) = value {
            self.value(value);
        }
        self
    }

    pub fn finish(self) -> String {
        self.0
    }

    fn name(&mut self, prefix: &str, name: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        percent::encode_into(prefix, &mut self.0);
        percent::encode_into(name, &mut self.0);
    }

    fn value(&mut self, value: &str) {
        self.0.push('=');
        percent::encode_into(value, &mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PYTHON: &str = "%24.mid=002e&%24.cid=corr%201%2F%C3%A9&%24.ct=application%2Fjson&%24.ce=utf-8&alert=true&odd%20key%26%3D=v%3D1%262%20%2B%2F%25";

    #[test]
    fn a_bag_of_the_python_client_is_read() {
        let properties = Properties::parse(PYTHON).unwrap();
        assert_eq!(properties.system("mid"), Some("002e"));
        assert_eq!(properties.system("cid"), Some("corr 1/é"));
        assert_eq!(properties.system("ct"), Some("application/json"));
        assert_eq!(properties.application["alert"].as_deref(), Some("true"));
        assert_eq!(
            properties.application["odd key&="].as_deref(),
            Some("v=1&2 +/%")
        );
        assert_eq!(properties.application.len(), 2);
        assert_eq!(validate(PYTHON), Ok(()));
    }

    #[test]
    fn both_spellings_of_system_names_null_empty_and_plus_are_understood() {
        let properties =
            Properties::parse("?$.mid=a+b&%24.zzz=1&null&empty=&a=b=c&&twice=1&twice=2/").unwrap();
        assert_eq!(properties.system("mid"), Some("a+b"));
        assert_eq!(properties.system("zzz"), Some("1"));
        assert_eq!(properties.application["null"], None);
        assert_eq!(properties.application["empty"].as_deref(), Some(""));
        assert_eq!(properties.application["a"].as_deref(), Some("b=c"));
        assert_eq!(properties.application["twice"].as_deref(), Some("2"));
        assert!(!properties.application.contains_key("zzz"));
        for empty in ["", "/", "?", "&&"] {
            assert_eq!(
                Properties::parse(empty),
                Ok(Properties::default()),
                "{empty}"
            );
        }
    }

    #[test]
    fn mistakes_are_refused_with_argument_invalid() {
        let check = |bag: &str, error| {
            assert_eq!(validate(bag), Err(error), "{bag}");
            assert_eq!(Properties::parse(bag), Err(error), "{bag}");
        };
        check("a=%zz", BagError::Percent(PercentError::Digits));
        check("%f=1", BagError::Percent(PercentError::Digits));
        check("a=%ff", BagError::Percent(PercentError::Utf8));
        check("=v", BagError::EmptyName);
        check(
            &format!("%24.mid={}", "x".repeat(129)),
            BagError::MessageIdTooLong,
        );
        check(
            &format!("$.cid={}", "x".repeat(129)),
            BagError::CorrelationIdTooLong,
        );
        assert_eq!(validate(&format!("$.mid={}", "x".repeat(128))), Ok(()));
        assert_eq!(validate(&format!("$.cid={}", "%C3%A9".repeat(128))), Ok(()));
        assert_eq!(
            Reject::from(BagError::EmptyName).code,
            ErrorCode::ArgumentInvalid
        );
    }

    #[test]
    fn plain_entries_are_borrowed() {
        for entry in entries("$.mid=1&a=b&null") {
            let (name, value) = entry.unwrap();
            assert!(matches!(name, Cow::Borrowed(_)));
            assert!(!matches!(value, Some(Cow::Owned(_))));
        }
    }

    #[test]
    fn bags_are_built_and_continued() {
        let bag = Builder::new()
            .system("mid", "a/b")
            .system_if("cid", None)
            .application("k", None)
            .finish();
        assert_eq!(bag, "%24.mid=a%2Fb&k");
        let bag = Builder::after("a=1/")
            .application("mqtt-retain", Some("true"))
            .application("", Some("x"))
            .finish();
        assert_eq!(bag, "a=1&mqtt-retain=true");
        assert_eq!(Builder::after("").application("a", Some("")).finish(), "a=");
    }

    #[test]
    fn every_documented_system_property_has_a_long_name() {
        for short in [
            "mid", "cid", "uid", "to", "ct", "ce", "exp", "on", "sub", "ifid", "ctime",
        ] {
            assert!(long_name(short).is_some(), "{short}");
        }
        assert_eq!(long_name("zzz"), None);
    }

    proptest! {
        #[test]
        fn built_bags_are_read_back(application in proptest::collection::btree_map("[^$]\\PC{0,8}", proptest::option::of("\\PC{0,8}"), 0..5),
                                    system in proptest::collection::btree_map("[a-z]{1,5}", "\\PC{0,8}", 0..4)) {
            let mut builder = Builder::new();
            for (name, value) in &system {
                builder = builder.system(name, value);
            }
            for (name, value) in &application {
                builder = builder.application(name, value.as_deref());
            }
            let bag = builder.finish();
            prop_assert_eq!(validate(&bag), Ok(()));
            let read = Properties::parse(&bag).unwrap();
            prop_assert_eq!(read.application, application);
            prop_assert_eq!(read.system, system.into_iter().map(|(k, v)| (k, Some(v))).collect::<BTreeMap<_, _>>());
        }

        #[test]
        fn reading_never_panics_and_agrees_with_validate(text in "\\PC*", close in "[a$.%&=?/0-9+é]{0,40}") {
            for text in [text, close] {
                prop_assert_eq!(validate(&text).is_ok(), Properties::parse(&text).is_ok());
            }
        }
    }
}
