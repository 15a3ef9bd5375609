//! I1: two regions never acknowledge the hub in overlapping time, and no acknowledgement carries an epoch older than one already
//! given. Once a new epoch has begun anywhere, nothing is acknowledged in an older one, by true time.
//!
//! In a planned failover what counts is the turn in which an answer was decided: on a `sync` hub it may leave later, when the
//! partner has confirmed it; then its write is in the partner's log already. In a forced one it may not.

use super::losses::Losses;
use crate::history::{Entry, History, Millis, OpId, RegionId};
use std::collections::BTreeMap;
use types::{Epoch, PartitionKey};

pub fn check(history: &History, losses: &Losses) -> Vec<String> {
    let mut found = in_order(history);
    found.extend(in_time(history, losses));
    found
}

fn in_order(history: &History) -> Vec<String> {
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

/// An answer's moment is when it leaves; an epoch begins in a partition when a region first serves it.
fn in_time(history: &History, losses: &Losses) -> Vec<String> {
    let forced = losses.epochs();
    let mut begun: BTreeMap<PartitionKey, (Epoch, Millis)> = BTreeMap::new();
    let mut found = Vec::new();
    for (when, entry) in &history.entries {
        match entry {
            Entry::Serves { at, epoch, .. } => {
                let known = begun.entry(*at).or_insert((*epoch, *when));
                if known.0 < *epoch {
                    *known = (*epoch, *when);
                }
            }
            Entry::Answered {
                op,
                region,
                at,
                epoch,
                ..
            } => {
                let Some((newer, since)) = begun.get(at).filter(|(newer, _)| newer > epoch) else {
                    continue;
                };
                let counts =
                    !history.finals.sync || forced.range(epoch.next()..=*newer).next().is_some();
                if counts && when > since {
                    found.push(format!("at {when} ms region {region} acknowledged question {op} at epoch {epoch}, {} ms after epoch {newer} began at {at}", when - since));
                }
            }
            _ => {}
        }
    }
    found
}
