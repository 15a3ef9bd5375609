//! A section of a twin: content and the stamps of its `$metadata` in one tree, so that they cannot disagree.

use super::shown::Content;
use crate::json::{Json, Members};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::UnixMillis;

/// When a value was last written, and the section's `$version` after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp(pub UnixMillis, pub u64);

/// An object of a section; the section itself is one. Never holds nulls outside of arrays.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Branch {
    pub stamp: Stamp,
    pub members: BTreeMap<String, Node>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Leaf(Json, Stamp),
    Branch(Branch),
}

impl Branch {
    pub fn empty(stamp: Stamp) -> Self {
        Branch {
            stamp,
            members: BTreeMap::new(),
        }
    }

    /// A branch that holds `content` and nothing else, stamped throughout.
    pub fn new(content: Members, stamp: Stamp) -> Self {
        let mut branch = Branch::empty(stamp);
        branch.merge(content, stamp);
        branch
    }

    /// Merges `patch`: null removes, objects merge, anything else replaces. Everything the patch names is stamped, and so
    /// are the containers on the way there.
    pub fn merge(&mut self, patch: Members, stamp: Stamp) {
        self.stamp = stamp;
        for (name, value) in patch {
            match value {
                Json::Null => {
                    self.members.remove(&name);
                }
                Json::Object(patch) => match self.members.get_mut(&name) {
                    Some(Node::Branch(branch)) => branch.merge(patch, stamp),
                    _ => {
                        self.members
                            .insert(name, Node::Branch(Branch::new(patch, stamp)));
                    }
                },
                value => {
                    self.members.insert(name, Node::Leaf(value, stamp));
                }
            }
        }
    }

    /// Size by the documented rule: names, characters of strings, 8 bytes a number, 4 a Boolean.
    ///
    /// Source: data-plane notes section 12.1.
    pub fn size(&self) -> usize {
        self.members
            .iter()
            .map(|(name, node)| characters(name) + node.size())
            .sum()
    }

    /// Bytes of the content as JSON text.
    pub fn text_size(&self) -> usize {
        let mut counter = Counter(0);
        serde_json::to_writer(&mut counter, &Content(self))
            .expect("counting cannot fail and names are strings");
        counter.0
    }
}

impl Node {
    fn size(&self) -> usize {
        match self {
            Node::Leaf(value, _) => value_size(value),
            Node::Branch(branch) => branch.size(),
        }
    }
}

fn value_size(value: &Json) -> usize {
    match value {
        Json::Null => 0,
        Json::Bool(_) => 4,
        Json::Number(_) => 8,
        Json::Text(text) => characters(text),
        Json::Array(items) => items.iter().map(value_size).sum(),
        Json::Object(members) => members
            .iter()
            .map(|(name, value)| characters(name) + value_size(value))
            .sum(),
    }
}

/// UTF-8 bytes without control characters.
fn characters(text: &str) -> usize {
    text.chars()
        .filter(|c| !c.is_control())
        .map(char::len_utf8)
        .sum()
}

struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::shown::{Metadata, Section, Versions};
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn members(value: Value) -> Members {
        serde_json::from_value(value).unwrap()
    }

    fn stamp(n: u64) -> Stamp {
        Stamp(UnixMillis(n as i64), n)
    }

    fn content(branch: &Branch) -> Value {
        serde_json::to_value(Content(branch)).unwrap()
    }

    fn metadata(branch: &Branch) -> Value {
        serde_json::to_value(Metadata {
            branch,
            versions: Versions::Shown,
        })
        .unwrap()
    }

    fn check_merge(before: Value, patch: Value, after: Value) {
        let mut branch = Branch::new(members(before), stamp(1));
        branch.merge(members(patch), stamp(2));
        assert_eq!(content(&branch), after);
    }

    #[test]
    fn merging_follows_json_merge_patch() {
        check_merge(
            json!({"a": 1}),
            json!({"a": 2, "b": true}),
            json!({"a": 2, "b": true}),
        );
        check_merge(json!({"a": 1, "b": 2}), json!({"a": null}), json!({"b": 2}));
        check_merge(
            json!({"a": {"b": 1, "c": 2}}),
            json!({"a": {"b": null, "d": 3}}),
            json!({"a": {"c": 2, "d": 3}}),
        );
        check_merge(
            json!({"a": [1, 2]}),
            json!({"a": [{"b": null}]}),
            json!({"a": [{"b": null}]}),
        );
        check_merge(json!({"a": {"b": 1}}), json!({"a": [1]}), json!({"a": [1]}));
        check_merge(
            json!({"a": 1}),
            json!({"a": {"b": null, "c": {"d": null}}}),
            json!({"a": {"c": {}}}),
        );
        check_merge(json!({}), json!({"gone": null}), json!({}));
    }

    #[test]
    fn containers_are_stamped_with_their_descendants_and_keep_that_after_deletions() {
        let mut branch = Branch::new(
            members(json!({"a": {"x": 1, "y": 2}, "b": {"z": 3}})),
            stamp(1),
        );
        branch.merge(members(json!({"a": {"x": null}})), stamp(2));
        let shown = metadata(&branch);
        for (pointer, version) in [("", 2), ("/a", 2), ("/a/y", 1), ("/b", 1), ("/b/z", 1)] {
            assert_eq!(
                shown.pointer(&format!("{pointer}/$lastUpdatedVersion")),
                Some(&json!(version)),
                "{pointer}"
            );
        }
        assert_eq!(shown.pointer("/a/x"), None);
        assert_eq!(shown["$lastUpdated"], "1970-01-01T00:00:00.002Z");
    }

    #[test]
    fn reported_metadata_shows_no_versions() {
        let root = Branch::new(members(json!({"a": {"b": 1}})), stamp(1));
        let section = Section {
            root: &root,
            version: 7,
            metadata: Some(Versions::Hidden),
        };
        let text = serde_json::to_string(&section).unwrap();
        assert!(!text.contains("$lastUpdatedVersion"), "{text}");
        assert!(text.ends_with(r#","$version":7}"#), "{text}");
    }

    #[test]
    fn size_counts_names_and_values_by_the_documented_rule() {
        for (value, size) in [
            (json!({}), 0),
            (json!({"abc": 1.5}), 3 + 8),
            (json!({"abc": true}), 3 + 4),
            (json!({"abc": "hello"}), 3 + 5),
            (json!({"a": {"b": {"c": 1}}}), 3 + 8),
            (json!({"a": [1, "xy", {"k": false}]}), 1 + 8 + 2 + 1 + 4),
            (json!({"a": "x\u{1}\u{85}y"}), 1 + 2),
            (json!({"ü": "ü"}), 4),
        ] {
            assert_eq!(
                Branch::new(members(value.clone()), stamp(1)).size(),
                size,
                "{value}"
            );
        }
    }

    /// The shape of `$metadata` must be the shape of the content, with a stamp at each place.
    fn assert_mirrors(content: &Value, metadata: &Value, newest: u64) {
        let version = metadata["$lastUpdatedVersion"].as_u64().unwrap();
        assert!(version <= newest);
        assert!(metadata["$lastUpdated"].is_string());
        let empty = serde_json::Map::new();
        let inside = content.as_object().unwrap_or(&empty);
        assert_eq!(metadata.as_object().unwrap().len(), inside.len() + 2);
        for (name, value) in inside {
            assert!(
                metadata[name]["$lastUpdatedVersion"].as_u64().unwrap() <= version,
                "{name} is newer than its container"
            );
            assert_mirrors(value, &metadata[name], newest);
        }
    }

    fn has_null(value: &Value) -> bool {
        value.is_null()
            || value
                .as_object()
                .is_some_and(|members| members.values().any(has_null))
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z]{0,3}".prop_map(Value::from),
            Just(json!([null, {"x": null}])),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            proptest::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| json!(map))
        })
    }

    fn any_patch() -> impl Strategy<Value = Value> {
        proptest::collection::btree_map("[a-c]", any_value(), 0..4).prop_map(|map| json!(map))
    }

    /// RFC 7396, as its text gives it.
    fn rfc_merge(target: &mut Value, patch: &Value) {
        let Some(patch) = patch.as_object() else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (name, value) in patch {
            if value.is_null() {
                target.as_object_mut().unwrap().remove(name);
            } else {
                rfc_merge(&mut target[name], value);
            }
        }
    }

    proptest! {
        #[test]
        fn any_sequence_of_patches_keeps_the_invariants(patches in proptest::collection::vec(any_patch(), 1..8)) {
            let mut branch = Branch::empty(stamp(0));
            let mut model = json!({});
            for (number, patch) in (1..).zip(patches) {
                branch.merge(members(patch.clone()), stamp(number));
                rfc_merge(&mut model, &patch);
                prop_assert_eq!(content(&branch), model.clone());
                prop_assert!(!has_null(&content(&branch)));
                prop_assert_eq!(branch.stamp, stamp(number));
                assert_mirrors(&content(&branch), &metadata(&branch), number);
                let stored = serde_json::to_string(&branch).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Branch>(&stored).unwrap(), &branch);
                prop_assert_eq!(branch.text_size(), serde_json::to_string(&Content(&branch)).unwrap().len());
            }
        }
    }
}
