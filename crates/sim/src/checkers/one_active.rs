//! I1: two regions never acknowledge the hub in overlapping time, and no acknowledgement carries an epoch older than one already
//! given.
//!
//! What counts is the turn in which an answer was decided. On a `sync` hub it may leave later, when the partner has confirmed it;
//! then its write is in the partner's log already.

use crate::history::{Entry, History, OpId, RegionId};
use std::collections::BTreeMap;
use types::Epoch;

pub fn check(history: &History) -> Vec<String> {
    let mut answers: Vec<(u64, OpId, RegionId, Epoch)> = history
        .entries
        .iter()
        .filter_map(|(_, entry)| match entry {
            Entry::Answered {
                op,
                region,
                epoch,
                turn,
                ..
            } => Some((*turn, *op, *region, *epoch)),
            _ => None,
        })
        .collect();
    answers.sort();
    let mut newest = Epoch(0);
    let mut owners: BTreeMap<Epoch, RegionId> = BTreeMap::new();
    let mut found = Vec::new();
    for (turn, op, region, epoch) in answers {
        if epoch < newest {
            found.push(format!("region {region} acknowledged question {op} at epoch {epoch} in turn {turn}, after one at epoch {newest}"));
        }
        newest = newest.max(epoch);
        let owner = *owners.entry(epoch).or_insert(region);
        if owner != region {
            found.push(format!(
                "regions {owner} and {region} both acknowledged at epoch {epoch} (question {op})"
            ));
        }
    }
    found
}
