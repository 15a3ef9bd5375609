//! Who may sign in: users, applications (service principals), their sessions, and the keys that sign tokens.
//!
//! Secrets come here as hashes made at the edge; only signing keys are kept as they are, and everything the control plane
//! writes to disk is sealed. Random values, times and hashes come in with the command.

mod apply;
mod command;
mod model;

pub use command::{DirectoryAnswer, DirectoryCommand};
pub use model::*;
