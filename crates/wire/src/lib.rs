//! Bytes and text to meaning and back, for the protocols of the data plane: SAS tokens, connection strings, MQTT identities
//! and topics, property bags, error bodies, etags and times.
//!
//! Nothing here performs IO, reads a clock or draws a random number. Everything that comes from outside is parsed into a
//! value or refused with an error; nothing panics on it.

pub mod c2d;
pub mod condition;
pub mod connection_string;
pub mod d2c_http;
pub mod error_body;
pub mod host;
pub mod if_match;
pub mod mqtt_identity;
pub mod percent;
pub mod property_bag;
pub mod routing;
pub mod sas;
pub mod scope;
pub mod timestamp;
pub mod topic;

pub use if_match::IfMatch;
pub use mqtt_identity::MqttIdentity;
pub use sas::{SasError, Token};
pub use scope::Scope;
