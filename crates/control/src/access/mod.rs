//! Who may do what: roles, their assignments, locks, and a second person's approval of failovers.

mod apply;
mod approvals;
mod command;
mod locks;
mod model;
pub mod rights;
pub mod roles;
#[cfg(test)]
mod tests;

pub use apply::is_guid;
pub use approvals::approval_id;
pub use command::{AccessAnswer, AccessCommand};
pub use model::*;
pub use rights::Asker;
pub use roles::RoleDefinition;
