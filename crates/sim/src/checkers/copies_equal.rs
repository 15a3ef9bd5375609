//! I7: once everything is put right, the two regions hold the same, and what they hold is what their heads say.

use crate::history::{FinalPartition, History};
use std::collections::BTreeMap;
use types::PartitionKey;

pub fn check(history: &History) -> Vec<String> {
    let mut found = Vec::new();
    let mut pairs: BTreeMap<PartitionKey, Vec<&FinalPartition>> = BTreeMap::new();
    for partition in &history.finals.partitions {
        let (at, region) = (partition.at, partition.region);
        pairs.entry(at).or_default().push(partition);
        if partition.stored_state != partition.state {
            found.push(format!(
                "region {region} at {at}: the head's digest is {:032x}, of what is stored {:032x}",
                partition.state, partition.stored_state
            ));
        }
        if let Some(why) = &partition.broken {
            found.push(format!("region {region} at {at} cannot be read: {why}"));
        }
    }
    if pairs.is_empty() {
        found.push("no region holds the hub at the end".into());
    }
    for (at, pair) in pairs {
        let [one, two] = pair[..] else {
            found.push(format!("{at} is held by one region only"));
            continue;
        };
        let of = |p: &FinalPartition| (p.lsn, p.next_sequence, p.epoch, p.crc, p.chain, p.state);
        if of(one) != of(two) {
            found.push(format!(
                "{at} ends as {:?} in region {} and as {:?} in region {}",
                of(one),
                one.region,
                of(two),
                two.region
            ));
        }
    }
    found
}
