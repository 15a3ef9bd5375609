//! Rules for names, tags and SKUs, and the text forms of etags and resource paths.
//!
//! Source: control-plane notes sections 7 and 8.

use crate::model::Hub;
use crate::refusal::{Refusal, RefusalCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use types::{HubName, limits};

/// The consumer group that every hub has.
pub const DEFAULT_CONSUMER_GROUP: &str = "$Default";

/// An etag as clients see it: the revision's eight bytes, big-endian, in base64 (`AAAADH84Jzw=`).
pub fn etag_text(revision: u64) -> String {
    STANDARD.encode(revision.to_be_bytes())
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// True if an `If-Match` value lets a change of a resource with etag `revision` pass. Quotes around it are allowed.
pub fn etag_matches(if_match: &str, revision: u64) -> bool {
    let wanted = if_match.trim().trim_matches('"');
    wanted == "*" || wanted == etag_text(revision)
}

/// The form in which names of groups, subscriptions and consumer groups are compared.
pub fn key(name: &str) -> String {
    name.to_lowercase()
}

/// At most `chars` characters of a text, for messages and logs that must stay short.
pub fn clip(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

/// A name out of a request, short enough to stand in a message.
pub(crate) fn shown(text: &str) -> String {
    clip(text, 100)
}

/// Reads a hub's name.
///
/// # Errors
/// [`RefusalCode::HubNameInvalid`] with the broken rule.
pub fn hub_name(text: &str) -> Result<HubName, Refusal> {
    HubName::parse(text).map_err(|why| {
        Refusal::new(
            RefusalCode::HubNameInvalid,
            format!("'{}': {why}", shown(text)),
        )
    })
}

/// Checks a resource group's name: 1–90 letters, digits and `-_.()`, not ending in a period.
///
/// # Errors
/// [`RefusalCode::InvalidResourceGroupName`] with the broken rule.
pub fn group_name(text: &str) -> Result<(), Refusal> {
    let why = if !(1..=limits::RESOURCE_GROUP_NAME_CHARS_MAX).contains(&text.chars().count()) {
        "it must have 1 to 90 characters"
    } else if !text
        .chars()
        .all(|c| c.is_alphanumeric() || "-_.()".contains(c))
    {
        "only letters, digits and - _ . ( ) are allowed"
    } else if text.ends_with('.') {
        "it must not end with a period"
    } else {
        return Ok(());
    };
    let message = format!("resource group name '{}': {why}", shown(text));
    Err(Refusal::new(RefusalCode::InvalidResourceGroupName, message))
}

/// Checks a consumer group's name: 1–50 letters, digits and `-_.`, or `$Default`.
///
/// # Errors
/// [`RefusalCode::ConsumerGroupInvalid`] with the broken rule.
pub fn consumer_group_name(text: &str) -> Result<(), Refusal> {
    if text.eq_ignore_ascii_case(DEFAULT_CONSUMER_GROUP) {
        return Ok(());
    }
    let why = if !(1..=limits::CONSUMER_GROUP_NAME_CHARS_MAX).contains(&text.chars().count()) {
        "it must have 1 to 50 characters"
    } else if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    {
        "only letters, digits and - _ . are allowed"
    } else {
        return Ok(());
    };
    let message = format!("consumer group name '{}': {why}", shown(text));
    Err(Refusal::new(RefusalCode::ConsumerGroupInvalid, message))
}

/// Every mistake of a set of tags.
pub fn tag_mistakes(tags: &BTreeMap<String, String>) -> Vec<String> {
    let mut mistakes = Vec::new();
    if tags.len() > limits::TAGS_MAX {
        mistakes.push(format!(
            "tags: at most {} are allowed, found {}",
            limits::TAGS_MAX,
            tags.len()
        ));
    }
    for (name, value) in tags.iter().take(limits::TAGS_MAX) {
        if !(1..=limits::TAG_NAME_CHARS_MAX).contains(&name.chars().count()) {
            mistakes.push(format!(
                "tags: the name '{}' must have 1 to 512 characters",
                shown(name)
            ));
        }
        if value.chars().count() > limits::TAG_VALUE_CHARS_MAX {
            mistakes.push(format!(
                "tags: the value of '{}' must not exceed 256 characters",
                shown(name)
            ));
        }
    }
    mistakes
}

/// What a SKU allows. Source: control-plane notes section 7, "SKUs".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkuRange {
    pub name: &'static str,
    pub tier: &'static str,
    pub capacity_max: u32,
}

/// All SKUs; the smallest capacity is one unit.
pub const SKUS: [SkuRange; 7] = [
    SkuRange {
        name: "F1",
        tier: "Free",
        capacity_max: 1,
    },
    SkuRange {
        name: "B1",
        tier: "Basic",
        capacity_max: 200,
    },
    SkuRange {
        name: "B2",
        tier: "Basic",
        capacity_max: 200,
    },
    SkuRange {
        name: "B3",
        tier: "Basic",
        capacity_max: 10,
    },
    SkuRange {
        name: "S1",
        tier: "Standard",
        capacity_max: 200,
    },
    SkuRange {
        name: "S2",
        tier: "Standard",
        capacity_max: 200,
    },
    SkuRange {
        name: "S3",
        tier: "Standard",
        capacity_max: 10,
    },
];

/// Looks up a SKU by its name, in any case.
pub fn sku(name: &str) -> Option<SkuRange> {
    SKUS.into_iter()
        .find(|sku| sku.name.eq_ignore_ascii_case(name))
}

/// A group's resource path.
pub fn group_path(subscription: &str, group: &str) -> String {
    format!("/subscriptions/{subscription}/resourceGroups/{group}")
}

/// A hub's resource path.
pub fn hub_path(subscription: &str, group: &str, hub: &str) -> String {
    format!(
        "{}/providers/Microsoft.Devices/IotHubs/{hub}",
        group_path(subscription, group)
    )
}

impl Hub {
    /// Its resource path.
    pub fn path(&self) -> String {
        hub_path(&self.subscription, &self.resource_group, self.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_the_base64_of_eight_bytes() {
        assert_eq!(etag_text(0), "AAAAAAAAAAA=");
        assert_eq!(etag_text(0x0C_7F38_273C), "AAAADH84Jzw=");
        assert!(etag_matches("*", 7) && etag_matches("\"AAAADH84Jzw=\"", 0x0C_7F38_273C));
        assert!(!etag_matches("AAAADH84Jzw=", 7) && !etag_matches("", 0));
    }

    #[test]
    fn group_names_follow_the_documented_rule() {
        for good in [
            "a",
            "ManlFailRG",
            "my-group_1.(x)",
            "größe",
            &"g".repeat(90),
        ] {
            assert!(group_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "ends.", &"g".repeat(91)] {
            assert_eq!(
                group_name(bad).unwrap_err().code,
                RefusalCode::InvalidResourceGroupName,
                "{bad}"
            );
        }
    }

    #[test]
    fn consumer_group_names_follow_the_documented_rule() {
        for good in ["c", "$Default", "$default", "cg-1_a.b", &"c".repeat(50)] {
            assert!(consumer_group_name(good).is_ok(), "{good}");
        }
        for bad in ["", "$x", "a b", &"c".repeat(51)] {
            assert_eq!(
                consumer_group_name(bad).unwrap_err().code,
                RefusalCode::ConsumerGroupInvalid,
                "{bad}"
            );
        }
    }

    #[test]
    fn a_bad_hub_name_is_refused_with_the_rule_it_breaks() {
        assert!(hub_name("my-hub-1").is_ok());
        for bad in ["ab", "123", "-abc", "abc-", "a_b"] {
            let refusal = hub_name(bad).unwrap_err();
            assert_eq!(refusal.code, RefusalCode::HubNameInvalid);
            assert!(
                refusal.message.contains(bad) && refusal.message.contains("must")
                    || refusal.message.contains("only")
            );
        }
    }

    #[test]
    fn all_mistakes_of_tags_are_named() {
        let mut tags: BTreeMap<String, String> =
            (0..50).map(|n| (format!("t{n}"), String::new())).collect();
        assert!(tag_mistakes(&tags).is_empty());
        tags.insert(String::new(), "v".repeat(257));
        assert_eq!(tag_mistakes(&tags).len(), 3);
    }

    #[test]
    fn skus_are_found_in_any_case_and_unknown_ones_are_not() {
        assert_eq!(sku("s3").unwrap().capacity_max, 10);
        assert_eq!(sku("S4"), None);
    }
}
