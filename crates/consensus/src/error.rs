//! Why a member cannot start, and why a write has no answer.

use crate::NodeId;
use std::fmt;

/// A member cannot start or go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsensusError {
    /// The settings contradict themselves.
    Settings(String),
    /// The folder cannot be opened, read or written.
    Storage(String),
    /// The stored bytes are wrong: the folder must not be used. A voter whose folder is removed rejoins from the others.
    Corrupt(String),
    /// The folder was written by a version this code does not know.
    Format { found: String },
    /// The folder is sealed with another storage key than the one given, or with one while none was given. Nothing was changed.
    Key(String),
    /// The machine refused its own snapshot.
    Machine(String),
    /// The library stopped or refused.
    Raft(String),
}

impl fmt::Display for ConsensusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConsensusError::Settings(why) => write!(f, "consensus settings: {why}"),
            ConsensusError::Storage(why) => write!(f, "consensus storage: {why}"),
            ConsensusError::Corrupt(why) => write!(f, "consensus data is damaged: {why}"),
            ConsensusError::Format { found } => {
                write!(f, "consensus data has the unknown format {found}")
            }
            ConsensusError::Key(why) => write!(
                f,
                "the control plane's folder cannot be read: {why} (pki/storage.key or CASTLING_STORAGE_KEY)"
            ),
            ConsensusError::Machine(why) => {
                write!(f, "restoring the control plane from its snapshot: {why}")
            }
            ConsensusError::Raft(why) => write!(f, "consensus: {why}"),
        }
    }
}

impl std::error::Error for ConsensusError {}

/// Why a write or barrier has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// This member is not the leader; nothing was done. `leader` is its best guess.
    NotLeader { leader: Option<NodeId> },
    /// The command is larger than may be replicated; nothing was done.
    TooLarge { bytes: usize, bytes_max: usize },
    /// No answer in time, or the member stopped: a write may have happened or happen later.
    Unavailable(String),
    /// The members cannot be changed like this; says why.
    Members(String),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::NotLeader {
                leader: Some(leader),
            } => write!(f, "not the leader; node {leader} seems to be"),
            WriteError::NotLeader { leader: None } => {
                f.write_str("not the leader, and none is known")
            }
            WriteError::TooLarge { bytes, bytes_max } => write!(
                f,
                "the command has {bytes} bytes, at most {bytes_max} can be replicated"
            ),
            WriteError::Unavailable(why) => write!(f, "no answer from a majority: {why}"),
            WriteError::Members(why) => write!(f, "changing the voters: {why}"),
        }
    }
}

impl std::error::Error for WriteError {}
