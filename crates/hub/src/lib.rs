//! One partition's truth, pure: `decide(view, context, command) → (write-set, reply, effects)`.
//!
//! Nothing here performs IO, reads a clock or draws a random number: `now` and random bytes come in with the [`Context`],
//! state comes through the [`View`], and what changes goes out as a [`Decision`]. A follower never runs this code, it only
//! applies write-sets.

pub mod c2d;
pub mod command;
pub mod consumer;
pub mod decision;
pub mod feedback;
mod json;
pub mod keys;
pub mod registry;
pub mod salvage;
pub mod session;
mod stored;
pub mod telemetry;
#[cfg(test)]
mod testing;
mod time_text;
pub mod twin;
pub mod view;

pub use command::{Command, Reply};
pub use decision::{Decision, Effect, WriteSet};
pub use view::{Context, MemoryView, Overlay, Presence, View, ViewError};

use types::Reject;

/// Why [`decide`] gave no decision.
#[derive(Debug)]
pub enum Refused {
    /// A definite answer; nothing changes.
    Reject(Reject),
    /// The state could not be read: no answer, the partition's store is in trouble.
    View(ViewError),
}

impl From<Reject> for Refused {
    fn from(reject: Reject) -> Self {
        Refused::Reject(reject)
    }
}

impl From<ViewError> for Refused {
    fn from(error: ViewError) -> Self {
        Refused::View(error)
    }
}

/// Decides one command against the state in `view`; changes nothing itself.
///
/// # Errors
/// [`Refused::Reject`] with the documented code, or [`Refused::View`] when state could not be read.
pub fn decide(
    view: &dyn View,
    context: &Context<'_>,
    command: &Command,
) -> Result<Decision, Refused> {
    match command {
        Command::Registry(command) => registry::decide(view, context, command),
        Command::Session(command) => session::decide(view, context, command),
        Command::Telemetry(command) => telemetry::decide(view, context, command),
        Command::Twin(command) => twin::decide(view, context, command),
        Command::C2d(command) => c2d::decide(view, context, command),
        Command::Feedback(command) => feedback::decide(view, context, command),
        Command::Consumer(command) => consumer::decide(view, context, command),
    }
}
