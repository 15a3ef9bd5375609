//! MQTT 3.1.1 for devices: a pure session and the tokio edge around it (data-plane notes section 3).
//!
//! * `session`, `open`, `c2d`, `telemetry`, `connect`, `check`: packets, answers and time in; bytes and actions (`work`, `ask`)
//!   out. No socket, no clock.
//! * `auth`: hub, token and identity of a CONNECT.
//! * `server`, `connection`, `io`: the listener and one small task per connection, which performs what the session wants.
//! * `admission`, `handover`: how fast connections come and, when the region does not serve devices, go.
//! * `mailbox`: how the region reaches a connection.

mod admission;
mod ask;
mod auth;
mod c2d;
mod check;
mod connect;
mod connection;
mod end;
mod handover;
mod in_flight;
mod io;
mod mailbox;
mod metrics;
mod open;
mod server;
mod session;
mod subscriptions;
mod telemetry;
mod work;

#[cfg(test)]
mod tests;

pub use admission::Admission;
pub use auth::Peer;
pub use metrics::Metrics;
pub use server::{Endpoint, serve, serve_with};
