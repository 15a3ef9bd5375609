//! The management API against the real state machine, in one process.

mod auth;
mod failover;
mod failovers;
mod groups;
mod hub_put;
mod hubs;
mod operations;
mod others;
mod world;
