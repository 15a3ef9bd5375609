//! Links between regions: one mutually authenticated TLS connection per pair of regions, carrying calls, casts and acks as
//! length-prefixed frames (docs/formats/link.md). Also the private PKI that links and gateways stand on.
//!
//! Entry points: [`Links::start`], [`pki::Authority`], [`tls::server_config`], [`tickets::SharedTickets`].

mod links;
pub mod pki;
pub mod tickets;
pub mod tls;

pub use links::{LinkConfig, Links, PeerStatus, Refusal, Speaks, StartError};

use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use types::RegionName;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which frames go first when the link is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Consensus, failover steps, acknowledgements.
    Control,
    /// Requests of clients, effects for gateways.
    Client,
    /// Replication pages and snapshots.
    Bulk,
}

/// What a region does with what its peers send.
pub trait Handler: Send + Sync + 'static {
    /// A peer's call; the answer goes back. Calls run concurrently.
    fn call(&self, from: RegionName, class: Class, body: Bytes) -> BoxFuture<'_, Bytes>;
    /// A peer's one-way message, in the order sent per class. Must not block.
    fn cast(&self, from: RegionName, class: Class, body: Bytes);
    /// A link came up or went down.
    fn changed(&self, peer: RegionName, up: bool);
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// Nothing was sent: asking again is safe.
    NotSent(String),
    /// It was sent, or may have been: the peer may have done it.
    OutcomeUnknown(String),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::NotSent(why) => write!(f, "not sent: {why}"),
            LinkError::OutcomeUnknown(why) => write!(f, "outcome unknown: {why}"),
        }
    }
}

impl std::error::Error for LinkError {}
