//! What openraft is told of our types.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use openraft::EmptyNode;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::io::Cursor;

openraft::declare_raft_types!(
    /// The types of the control plane's Raft.
    pub(crate) Types: D = Command, R = Answer, NodeId = u64, Node = EmptyNode
);

pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, EmptyNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, EmptyNode>;
pub(crate) type RaftNode = openraft::Raft<Types>;

/// A command of the machine, opaque here. In JSON it is base64 text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command(pub Bytes);

/// The machine's answer; empty for entries that are not commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer(pub Vec<u8>);

impl std::fmt::Debug for Command {
    // Commands may carry keys: only the size is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD
            .decode(text)
            .map(|bytes| Command(bytes.into()))
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_base64_in_json_and_hidden_in_debug() {
        let command = Command(Bytes::from_static(b"\x00secret"));
        let json = serde_json::to_string(&command).unwrap();
        assert_eq!(json, "\"AHNlY3JldA==\"");
        assert_eq!(serde_json::from_str::<Command>(&json).unwrap(), command);
        assert!(serde_json::from_str::<Command>("\"!\"").is_err());
        assert_eq!(format!("{command:?}"), "Command(7 bytes)");
    }
}
