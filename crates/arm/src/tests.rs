//! The management API against the real state machine, in one process.

mod activity;
mod auth;
mod certificates;
mod drills;
mod failover;
mod failovers;
mod forced;
mod groups;
mod hub_put;
mod hub_tokens;
mod hubs;
mod matrix;
mod operations;
mod others;
mod rights;
mod salvage;
mod signin;
pub(crate) mod world;
