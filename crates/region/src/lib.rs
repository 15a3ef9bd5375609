//! A region: performs what the pure crates decide.
//!
//! Entry points: [`Region::start`] puts one together; [`engine::Engine`] is its heart, without IO of its own beyond the store;
//! [`Router::call`] is the way of a client's command; [`coordinator`] drives a failover's steps.

pub mod clock;
pub mod coordinator;
pub mod engine;
pub mod events;
pub mod facts;
mod handler;
pub mod peer;
pub mod plane;
mod region;
pub mod router;
mod routes;
pub mod runtime;
pub mod sessions;

pub use plane::{Plane, PlaneUnavailable};
pub use region::{Pauses, Region, RegionConfig, StartError};
pub use router::{CallError, Router};
pub use routes::Route;
pub use sessions::{Session, SessionPort};

/// Fills `buffer` from the operating system's random source.
///
/// # Panics
/// When the operating system has none: nothing safe can be done without.
pub fn fill_random(buffer: &mut [u8]) {
    getrandom::fill(buffer).expect("the operating system gives random bytes");
}

/// `bytes` random bytes as lower-case hex.
pub fn random_text(bytes: usize) -> String {
    let mut buffer = vec![0; bytes];
    fill_random(&mut buffer);
    buffer.iter().map(|byte| format!("{byte:02x}")).collect()
}
