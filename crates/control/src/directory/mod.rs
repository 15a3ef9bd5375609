//! Who may sign in: users, applications (service principals), their sessions, and the keys that sign tokens.
//!
//! Secrets come here as hashes made at the edge; only signing keys are kept as they are, and everything the control plane
//! writes to disk is sealed. Random values, times and hashes come in with the command.

mod applications;
mod apply;
mod command;
mod first;
mod grants;
mod model;
mod providers;
mod sessions;
#[cfg(test)]
mod tests;
mod users;

pub(crate) use apply::Mistakes;

pub use command::{DirectoryAnswer, DirectoryCommand};
pub use model::*;
pub(crate) use users::failure_text;
