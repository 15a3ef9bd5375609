//! The rules of data-plane notes section 10.1, one claim each.

mod end;
mod lock;
mod send;

use super::world::{World, device};
use crate::command::LockedMessage;

const MINUTE: i64 = 60_000;

fn waiting(world: &World) -> u32 {
    super::waiting(&world.view, &device("d1")).unwrap()
}

fn sequences(messages: &[LockedMessage]) -> Vec<u64> {
    messages.iter().map(|locked| locked.sequence).collect()
}

fn pairs(records: &[(&str, &str)]) -> Vec<(String, String)> {
    records
        .iter()
        .map(|(id, status)| (id.to_string(), status.to_string()))
        .collect()
}
