//! Who may do what: roles, their assignments, locks, and a second person's approval of failovers.

mod apply;
mod command;
mod model;
pub mod rights;
pub mod roles;

pub use command::{AccessAnswer, AccessCommand};
pub use model::*;
pub use rights::Asker;
pub use roles::RoleDefinition;
