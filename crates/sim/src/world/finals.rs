//! How everything stands when the run is over.

use super::World;
use super::trouble::first_kept;
use crate::history::{Entry, FinalOperation, FinalPartition, Finals, Millis};
use replication::StateDigest;
use store::{Store, StoreError};
use types::{Lsn, PartitionKey};

impl World {
    pub(super) fn finals(&self) -> Finals {
        let mut partitions = Vec::new();
        for region in 0..2 {
            partitions.extend(
                self.partitions
                    .iter()
                    .filter_map(|at| self.final_partition(region, *at)),
            );
        }
        Finals {
            partitions,
            salvages: self.final_salvages(),
            sync: self.sync,
            operations: self.final_operations(),
            healed: self.healed,
            over: self.now,
            unanswered: self
                .ops
                .iter()
                .filter(|(_, open)| !open.given_up)
                .map(|(op, _)| *op)
                .collect(),
            clock_error_ms: self.clock_error_ms,
            epoch_ms: super::clock::EPOCH_MS,
        }
    }

    fn final_partition(&self, region: usize, at: PartitionKey) -> Option<FinalPartition> {
        let process = self.regions[region].process.as_ref()?;
        let store = &self.regions[region].store;
        let head = process.engine.head(at)?;
        let mut broken = None;
        let mut events = Vec::new();
        match super::reading::all_records(store, at, Lsn(1)) {
            Ok(records) => {
                for record in records {
                    match super::reading::events_of(&record) {
                        Ok((epoch, found)) => events.extend(
                            found
                                .into_iter()
                                .map(|(sequence, event)| (sequence, epoch, event)),
                        ),
                        Err(why) => broken = Some(why),
                    }
                }
            }
            Err(error) => broken = Some(error.to_string()),
        }
        let stored_state = stored_digest(store, at);
        if let Err(error) = &stored_state {
            broken = Some(error.to_string());
        }
        Some(FinalPartition {
            region,
            at,
            lsn: head.lsn,
            next_sequence: head.next_sequence,
            crc: head.crc,
            chain: head.chain,
            state: head.state,
            epoch: head.epoch,
            stored_state: stored_state.unwrap_or_default(),
            first_sequence: first_kept(store.log_bounds(at).ok().flatten(), head.next_sequence),
            events,
            broken,
        })
    }

    fn final_operations(&self) -> Vec<FinalOperation> {
        let when = |wanted: &dyn Fn(&Entry) -> bool| -> Option<Millis> {
            self.history
                .entries
                .iter()
                .find(|(_, entry)| wanted(entry))
                .map(|(at, _)| *at)
        };
        let operations = self.plane.state.operations.values();
        operations
            .map(|op| FinalOperation {
                id: op.id.clone(),
                running: op.is_running(),
                failover: op.switch().is_some(),
                legal_next: op.legal_next(),
                status: op.status,
                pause_ms: op.pause_ms(),
                asked: when(
                    &|entry| matches!(entry, Entry::Asked { operation } if *operation == op.id),
                ),
                ended: when(
                    &|entry| matches!(entry, Entry::Ended { operation, .. } if *operation == op.id),
                ),
            })
            .collect()
    }

    /// Both regions hold the same, and are told so.
    pub(super) fn in_step(&self) -> bool {
        self.partitions.iter().all(|at| {
            let head = |region: usize| {
                self.regions[region]
                    .process
                    .as_ref()
                    .and_then(|process| process.engine.head(*at))
            };
            let (Some(one), Some(two)) = (head(0), head(1)) else {
                return false;
            };
            (one.lsn, one.crc, one.chain, one.state) == (two.lsn, two.crc, two.chain, two.state)
        })
    }
}

/// The state digest of what is stored, computed anew.
fn stored_digest(store: &dyn Store, at: PartitionKey) -> Result<u128, StoreError> {
    let snapshot = store.snapshot(at)?;
    let mut sum = StateDigest::default();
    let mut after = None;
    loop {
        let page = snapshot.state_page(after.as_deref(), 1 << 20)?;
        let Some((last, _)) = page.last() else {
            return Ok(sum.0);
        };
        after = Some(last.clone());
        for (key, value) in &page {
            sum.change(key, None, Some(value));
        }
    }
}
