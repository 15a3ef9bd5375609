//! The management API against the real state machine, in one process.

mod auth;
mod drills;
mod failover;
mod failovers;
mod forced;
mod groups;
mod hub_put;
mod hubs;
mod operations;
mod others;
mod salvage;
mod world;
