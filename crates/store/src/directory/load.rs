//! Puts together what was found on disk, and finds what is missing.

use super::{Directory, Position, Run, SegmentId};
use crate::StoreError;
use std::collections::BTreeMap;
use types::{Lsn, PartitionKey};

impl<H: Clone> Directory<H> {
    /// Links every partition to its readable runs after segments and positions were loaded; a partition whose runs do not
    /// reach from its low watermark to its end without a gap is marked damaged.
    pub(crate) fn link(&mut self) {
        let mut found: BTreeMap<PartitionKey, Vec<(SegmentId, Run)>> = BTreeMap::new();
        for (id, segment) in &self.segments {
            for ((key, generation), run) in &segment.runs {
                let position = self.partitions.get(key).map(|p| &p.position);
                if position
                    .is_none_or(|p| p.generation == *generation && run.last_lsn >= p.first_lsn)
                {
                    found.entry(*key).or_default().push((*id, *run));
                }
            }
        }
        for (key, generation) in self
            .segments
            .values()
            .flat_map(|segment| segment.runs.keys())
        {
            let known = self
                .partitions
                .get(key)
                .is_some_and(|partition| partition.damaged.is_none());
            let partition = self.partitions.entry(*key).or_default();
            if !known {
                // The position is lost: clearing must not come back to a generation that still has entries.
                partition.position.generation = partition.position.generation.max(*generation);
                partition.damaged.get_or_insert_with(|| no_position(*key));
            }
        }
        for (key, partition) in &mut self.partitions {
            let mut runs = found.remove(key).unwrap_or_default();
            runs.sort_by_key(|(_, run)| run.first_lsn);
            if partition.damaged.is_none() {
                partition.damaged = gap(*key, &partition.position, &runs);
            }
            partition.segments = runs.into_iter().map(|(id, _)| id).collect();
        }
    }
}

fn no_position(key: PartitionKey) -> StoreError {
    StoreError::Corrupt {
        partition: key,
        at: Lsn(0),
        why: "its log is there, its head is not".into(),
    }
}

/// Where the runs found on disk do not fit what the position says is there.
fn gap(key: PartitionKey, position: &Position, runs: &[(SegmentId, Run)]) -> Option<StoreError> {
    let corrupt = |at: u64, why: String| {
        Some(StoreError::Corrupt {
            partition: key,
            at: Lsn(at),
            why,
        })
    };
    let mut next = if position.last_lsn == 0 {
        1
    } else {
        position.first_lsn
    };
    for (id, run) in runs {
        if run.first_lsn != next {
            return corrupt(
                next,
                format!("segment {} begins at lsn {}", id.name(), run.first_lsn),
            );
        }
        next = run.last_lsn.saturating_add(1);
    }
    if next != position.last_lsn + 1 {
        return corrupt(
            next,
            format!("its log should end at lsn {}", position.last_lsn),
        );
    }
    None
}
