//! MQTT 3.1.1 for devices: a pure session and the tokio edge around it (data-plane notes section 3).
//!
//! * [`session`]: packets, answers and time in; bytes and actions out. No socket, no clock.
//! * [`auth`]: hub, token and identity of a CONNECT.
//! * [`serve`]: listener, one task per connection, performs what the session wants.
//! * [`mailbox`]: how the region reaches a connection.

mod auth;
mod check;
mod connection;
pub mod end;
mod in_flight;
pub mod mailbox;
mod metrics;
mod open;
mod server;
pub mod session;
mod subscriptions;

#[cfg(test)]
mod tests;

pub use metrics::Metrics;
pub use server::serve;
