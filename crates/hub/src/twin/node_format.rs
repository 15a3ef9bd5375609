//! The stored form of a section: a leaf is `[value, milliseconds, version]`, a branch an object with its stamp under `$`.
//! Described in docs/formats/state.md.

use super::node::{Branch, Node, Stamp};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// The name under which a stored branch keeps its own stamp; no member can be named so.
const OWN_STAMP: &str = "$";

impl Serialize for Branch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len() + 1))?;
        map.serialize_entry(OWN_STAMP, &self.stamp)?;
        for (name, node) in &self.members {
            map.serialize_entry(name, node)?;
        }
        map.end()
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Node::Branch(branch) => branch.serialize(serializer),
            Node::Leaf(value, stamp) => {
                let mut leaf = serializer.serialize_tuple(3)?;
                leaf.serialize_element(value)?;
                leaf.serialize_element(&stamp.0)?;
                leaf.serialize_element(&stamp.1)?;
                leaf.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Branch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Node::deserialize(deserializer)? {
            Node::Branch(branch) => Ok(branch),
            Node::Leaf(..) => Err(D::Error::custom("a section is an object")),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stored leaf or branch of a twin")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let value = items
            .next_element()?
            .ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let at = items
            .next_element()?
            .ok_or_else(|| A::Error::invalid_length(1, &self))?;
        let version = items
            .next_element()?
            .ok_or_else(|| A::Error::invalid_length(2, &self))?;
        Ok(Node::Leaf(value, Stamp(at, version)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut stamp = None;
        let mut members = BTreeMap::new();
        while let Some(name) = entries.next_key::<String>()? {
            if name == OWN_STAMP {
                stamp = Some(entries.next_value()?);
            } else {
                members.insert(name, entries.next_value()?);
            }
        }
        let stamp = stamp.ok_or_else(|| A::Error::missing_field(OWN_STAMP))?;
        Ok(Node::Branch(Branch { stamp, members }))
    }
}
