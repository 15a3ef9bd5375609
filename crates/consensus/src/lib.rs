//! Raft for the control plane: openraft on fjall, kept behind functions without generics so that only this crate pays for
//! them.
//!
//! [`Consensus`] is one member: it writes commands, reads its [`Machine`] and answers its peers' messages. How messages
//! travel is the caller's [`Transport`]. Stored keys and messages: docs/formats/consensus.md.
//!
//! openraft logs much at `info`: the binary sets its tracing target `openraft` to `warn` or `error`.

use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;

mod command;
mod disk;
mod error;
mod log_store;
mod machine_store;
mod message;
mod network;
mod node;
mod rebuild;
mod seal;
mod settings;
mod standing;
mod status;

pub use error::{ConsensusError, WriteError};
pub use node::{Consensus, Written};
pub use rebuild::rebuild_from_survivor;
pub use seal::{STORAGE_KEY_BYTES, StorageKey};
pub use settings::{Settings, Times};
pub use status::Status;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Number of a voter; the deployment maps region names to numbers (1, 2, …) for good.
pub type NodeId = u64;

/// How messages reach other voters. `Err`: not delivered or no answer.
pub trait Transport: Send + Sync + 'static {
    fn call(&self, to: NodeId, body: Bytes) -> BoxFuture<'_, Result<Bytes, String>>;

    /// Whether it can be called now; asked before it is given a vote.
    fn reachable(&self, to: NodeId) -> bool {
        let _ = to;
        true
    }
}

/// The replicated state machine: bytes in, bytes out, deterministic.
pub trait Machine: Send + Sync + 'static {
    /// Applies one committed command, gives its answer.
    fn apply(&mut self, command: &[u8]) -> Vec<u8>;
    fn snapshot(&self) -> Vec<u8>;
    /// # Errors
    /// When the bytes are not a snapshot of a version this code knows.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String>;
}
