//! A region: performs what the pure crates decide.
//!
//! Entry points: [`Region::start`] puts one together; [`engine::Engine`] is its heart, without IO of its own beyond the store;
//! [`Router::call`] is the way of a client's command; [`coordinator`] drives a failover's steps.

pub mod clock;
pub mod coordinator;
mod drills;
pub mod engine;
pub mod events;
pub mod facts;
mod handler;
mod joined;
pub mod lease;
mod membership;
pub mod peer;
pub mod plane;
mod plans;
mod region;
pub mod relay;
mod returns;
pub mod router;
mod routes;
pub mod runtime;
pub mod salvage;
pub mod sessions;
mod witness;
pub mod words;

pub use plane::{Plane, PlaneUnavailable};
pub use region::{Pauses, Region, RegionConfig, StartError};
pub use router::{CallError, Router};
pub use routes::Route;
pub use sessions::{Session, SessionPort};
pub use witness::{Witness, WitnessConfig};

/// What this program's regions and witnesses say over their links.
pub fn speaks() -> link::Speaks {
    link::Speaks {
        payloads: (peer::VERSION, peer::VERSION),
        software: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

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
