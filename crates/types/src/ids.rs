//! Newtypes for every id, position and unit. Parsing is the only constructor of the textual ones.

use crate::limits;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Why a text is not a valid id. `Display` says what was wrong in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidId {
    pub what: &'static str,
    pub why: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {}: {}", self.what, self.why)
    }
}

impl std::error::Error for InvalidId {}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A hub's number in the control plane; never used twice, so a hub made anew under an old name shares no data with it.
    HubId, u32
);
number!(
    /// A partition's number within its hub, from 0.
    PartitionId, u16
);
number!(
    /// Position of a record in a partition's log, contiguous, from 1; 0 is "before the first record".
    Lsn, u64
);
number!(
    /// Position of a telemetry event in its partition, contiguous, from 0.
    Sequence, u64
);
number!(
    /// How often a hub's primary changed, from 1 at creation.
    Epoch, u64
);
number!(
    /// Milliseconds since 1970-01-01T00:00:00Z, as read by the edge and handed down.
    UnixMillis, i64
);
number!(
    /// One client connection at one gateway; unique among all gateways of a deployment.
    ConnectionId, u64
);

impl Lsn {
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

impl Epoch {
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl UnixMillis {
    /// The instant `millis` later; saturates at the ends of time.
    pub fn plus(self, millis: i64) -> UnixMillis {
        UnixMillis(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to `self`; negative when `earlier` is later.
    pub fn since(self, earlier: UnixMillis) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One partition of one hub: the unit of order, of the log and of parallelism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionKey {
    pub hub: HubId,
    pub partition: PartitionId,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.hub, self.partition)
    }
}

/// The partition that owns a device: `xxh3_64(device id) % partition count` (DESIGN: partition).
///
/// # Panics
/// If `partition_count` is zero: a hub has at least one partition.
pub fn partition_of(device: &DeviceId, partition_count: u16) -> PartitionId {
    assert!(partition_count > 0, "a hub has at least one partition");
    let hash = xxhash_rust::xxh3::xxh3_64(device.as_str().as_bytes());
    PartitionId((hash % u64::from(partition_count)) as u16)
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }
    };
}

text!(
    /// A device's id: 1–128 characters of `A-Za-z0-9-:.+%_#*?!(),=@$';`, case-sensitive.
    ///
    /// Source: data-plane notes section 12.1.
    DeviceId
);
text!(
    /// A hub's name as its owner wrote it: 3–50 characters of `a-zA-Z0-9-`, no hyphen at an end, not all digits.
    ///
    /// Names are compared without case: use [`HubName::key`].
    HubName
);
text!(
    /// A region's name as in the catalogue: lower-case letters and digits (`westus2`).
    RegionName
);

impl DeviceId {
    /// # Errors
    /// If the text is empty, too long, or has a character outside the documented set.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let bad = |why| {
            Err(InvalidId {
                what: "device id",
                why,
            })
        };
        if text.is_empty() {
            return bad("it is empty");
        }
        if text.len() > limits::DEVICE_ID_CHARS_MAX {
            return bad("it is longer than 128 characters");
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-:.+%_#*?!(),=@$';".contains(&b);
        if !text.bytes().all(allowed) {
            return bad("only A-Z a-z 0-9 and - : . + % _ # * ? ! ( ) , = @ $ ' ; are allowed");
        }
        Ok(DeviceId(text.into()))
    }
}

impl HubName {
    /// # Errors
    /// If the text breaks the naming rule of IoT hubs.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let bad = |why| {
            Err(InvalidId {
                what: "hub name",
                why,
            })
        };
        if !(limits::HUB_NAME_CHARS_MIN..=limits::HUB_NAME_CHARS_MAX).contains(&text.len()) {
            return bad("it must have 3 to 50 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return bad("only letters, digits and hyphens are allowed");
        }
        if text.starts_with('-') || text.ends_with('-') {
            return bad("it must not start or end with a hyphen");
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return bad("it must not consist of digits only");
        }
        Ok(HubName(text.into()))
    }

    /// The form in which names are compared and made unique: lower case.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl RegionName {
    /// Accepts `westus2` as well as `West US 2`: names compare lower-cased and without blanks.
    ///
    /// # Errors
    /// If nothing or anything but letters and digits is left.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let name: String = text
            .chars()
            .filter(|c| !c.is_whitespace())
            .map(|c| c.to_ascii_lowercase())
            .collect();
        if name.is_empty() || name.len() > limits::REGION_NAME_CHARS_MAX {
            return Err(InvalidId {
                what: "region name",
                why: "it must have 1 to 64 characters",
            });
        }
        if !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        {
            return Err(InvalidId {
                what: "region name",
                why: "only letters and digits are allowed",
            });
        }
        Ok(RegionName(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_ids_follow_the_documented_character_set() {
        for good in ["d1", "a:b.c+d%e_f#g*h?i!j(k),=@$';", &"x".repeat(128)] {
            assert!(DeviceId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "ü", "a\u{0}", &"x".repeat(129)] {
            assert!(DeviceId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hub_names_follow_the_documented_rule() {
        for good in ["abc", "my-hub-1", "1a2", &"h".repeat(50)] {
            assert!(HubName::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ab",
            "123",
            "-abc",
            "abc-",
            "a_b_c",
            "a.b.c",
            &"h".repeat(51),
        ] {
            assert!(HubName::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(HubName::parse("My-Hub").unwrap().key(), "my-hub");
    }

    #[test]
    fn region_names_compare_without_blanks_and_case() {
        assert_eq!(RegionName::parse("West US 2").unwrap().as_str(), "westus2");
        assert!(RegionName::parse("west_us").is_err());
        assert!(RegionName::parse("  ").is_err());
    }

    #[test]
    fn a_device_always_falls_into_the_same_partition() {
        let device = DeviceId::parse("device-1").unwrap();
        assert_eq!(partition_of(&device, 4), partition_of(&device, 4));
        let used: std::collections::BTreeSet<_> = (0..1000)
            .map(|n| partition_of(&DeviceId::parse(&format!("d{n}")).unwrap(), 4))
            .collect();
        assert_eq!(used.len(), 4);
    }

    #[test]
    fn ids_survive_json_and_refuse_bad_text_there_too() {
        let id: DeviceId = serde_json::from_str("\"d1\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"d1\"");
        assert!(serde_json::from_str::<DeviceId>("\"a b\"").is_err());
    }
}
