//! The control plane, pure: a deterministic state machine over commands that a consensus log orders.
//!
//! It keeps what must survive the loss of any region: subscriptions, resource groups, hubs with pair, epoch and role, keys,
//! the failover operation with its numbered steps, history and the activity log. Times and random ids come in with the
//! command, so every voter computes the same state. No telemetry and no device passes through here.

pub mod access;
pub mod activity;
pub mod apply;
pub mod certificates;
pub mod checks;
pub mod command;
mod consumer_groups;
mod deploy;
pub mod details;
pub mod directory;
pub mod divergence;
pub mod drill;
mod drills;
pub mod facts;
pub mod failover;
mod failovers;
mod forced;
mod groups;
mod hub_properties;
mod hubs;
pub mod iso;
pub mod jobs;
mod lookup;
pub mod loss;
pub mod model;
pub mod naming;
mod operations;
pub mod page;
pub mod plans;
pub mod policy;
pub mod refusal;
pub mod report;
pub mod routing;
pub mod snapshot;
mod spec;
pub mod templates;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;

pub use access::{AccessAnswer, AccessCommand};
pub use certificates::{CertificateCommand, CertificateFacts, HubCertificate};
pub use command::{Answer, Command, HubSpec, Origin, Request};
pub use directory::{DirectoryAnswer, DirectoryCommand};
pub use divergence::{Divergence, LostRange, Position, Return};
pub use drill::{Drill, DrillStatus};
pub use lookup::Switch;
pub use loss::{AcceptedLoss, LossEstimate};
pub use model::{
    Hub, HubState, Operation, OperationKind, OperationStatus, ResourceGroup, State, Step, StepName,
};
pub use naming::etag_text;
pub use refusal::{Refusal, RefusalCode};
