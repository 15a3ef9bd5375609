//! How a section is shown: plain content, or with `$metadata` and `$version`.

use super::node::{Branch, Node, Stamp};
use crate::time_text::iso;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// Serializes as the plain content.
pub(super) struct Content<'a>(pub &'a Branch);

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.members.len()))?;
        put_content(&mut map, self.0)?;
        map.end()
    }
}

fn put_content<M: SerializeMap>(map: &mut M, branch: &Branch) -> Result<(), M::Error> {
    for (name, node) in &branch.members {
        match node {
            Node::Leaf(value, _) => map.serialize_entry(name, value)?,
            Node::Branch(branch) => map.serialize_entry(name, &Content(branch))?,
        }
    }
    Ok(())
}

/// Serializes as the content with `$metadata` (if asked for) and `$version`.
pub(super) struct Section<'a> {
    pub root: &'a Branch,
    pub version: u64,
    pub metadata: Option<Versions>,
}

/// Whether `$metadata` names the version of each change: desired properties do, reported ones do not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    Shown,
    Hidden,
}

impl Serialize for Section<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_content(&mut map, self.root)?;
        if let Some(versions) = self.metadata {
            map.serialize_entry(
                "$metadata",
                &Metadata {
                    branch: self.root,
                    versions,
                },
            )?;
        }
        map.serialize_entry("$version", &self.version)?;
        map.end()
    }
}

/// Serializes as `$metadata`: the shape of the content with a stamp at each place.
pub(super) struct Metadata<'a> {
    pub branch: &'a Branch,
    pub versions: Versions,
}

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_stamp(&mut map, self.branch.stamp, self.versions)?;
        for (name, node) in &self.branch.members {
            match node {
                Node::Leaf(_, stamp) => map.serialize_entry(
                    name,
                    &Shown {
                        stamp: *stamp,
                        versions: self.versions,
                    },
                )?,
                Node::Branch(branch) => map.serialize_entry(
                    name,
                    &Metadata {
                        branch,
                        versions: self.versions,
                    },
                )?,
            }
        }
        map.end()
    }
}

struct Shown {
    stamp: Stamp,
    versions: Versions,
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        put_stamp(&mut map, self.stamp, self.versions)?;
        map.end()
    }
}

fn put_stamp<M: SerializeMap>(
    map: &mut M,
    stamp: Stamp,
    versions: Versions,
) -> Result<(), M::Error> {
    map.serialize_entry("$lastUpdated", &iso(stamp.0))?;
    if versions == Versions::Shown {
        map.serialize_entry("$lastUpdatedVersion", &stamp.1)?;
    }
    Ok(())
}
