//! I9: a dry run and the real checks after it agree, if nothing happened in between.

use crate::history::{Entry, History};

pub fn check(history: &History) -> Vec<String> {
    let differing = history.entries.iter().filter_map(|(at, entry)| match entry {
        Entry::DryRun { operation, ready, real, changed: false, why } if ready != real => {
            Some(format!("at {at} ms, failover {operation}: the dry run said {ready}, the real checks {real} ({why})"))
        }
        _ => None,
    });
    differing.collect()
}
