//! Tests of the session core and of the edge around it.

mod client;
mod connect;
mod edge;
mod fake;
mod golden;
mod lease;
mod legality;
mod messages;
mod twin;
