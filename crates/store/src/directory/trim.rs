//! Which segments may go, and what is readable without them.

use super::{Directory, Position, Segment, SegmentId};
use std::collections::BTreeMap;
use types::{PartitionKey, UnixMillis};

impl<H: Clone> Directory<H> {
    /// Segments without a record that is readable and not older than its retention.
    pub(crate) fn expired(&self, now: UnixMillis) -> Vec<SegmentId> {
        let gone = |(id, segment): &(&SegmentId, &Segment<H>)| match segment.newest() {
            Some(newest) => {
                now.0.saturating_sub(newest) > id.retention_ms() || !self.is_live(segment)
            }
            None => self.current(id.days) != Some(**id),
        };
        self.segments
            .iter()
            .filter(gone)
            .map(|(id, _)| *id)
            .collect()
    }

    fn is_live(&self, segment: &Segment<H>) -> bool {
        segment.runs.iter().any(|((key, generation), run)| {
            self.partitions.get(key).is_some_and(|p| {
                p.damaged.is_some()
                    || (p.position.generation == *generation
                        && run.last_lsn >= p.position.first_lsn)
            })
        })
    }

    /// Positions as they are once `dropped` segments are gone: the readable log is what is still contiguous up to its end.
    pub(crate) fn without(&self, dropped: &[SegmentId]) -> BTreeMap<PartitionKey, Position> {
        let mut changed = BTreeMap::new();
        for (key, partition) in self
            .partitions
            .iter()
            .filter(|(_, partition)| partition.damaged.is_none())
        {
            let Some(last_gone) = partition
                .segments
                .iter()
                .rposition(|id| dropped.contains(id))
            else {
                continue;
            };
            let first_lsn = match partition.segments.get(last_gone + 1) {
                Some(id) => self
                    .run(*id, *key, partition.position.generation)
                    .map(|run| run.first_lsn),
                None => None,
            };
            let mut position = partition.position.clone();
            position.first_lsn = first_lsn.unwrap_or(position.last_lsn + 1);
            changed.insert(*key, position);
        }
        changed
    }

    /// Takes over that segments were dropped and gives back their handles.
    pub(crate) fn publish_dropped(
        &mut self,
        dropped: &[SegmentId],
        changed: BTreeMap<PartitionKey, Position>,
    ) -> Vec<H> {
        for (key, position) in changed {
            let Some(partition) = self.partitions.get_mut(&key) else {
                continue;
            };
            let last_gone = partition
                .segments
                .iter()
                .rposition(|id| dropped.contains(id));
            partition.segments.drain(..last_gone.map_or(0, |at| at + 1));
            partition.position = position;
        }
        dropped
            .iter()
            .filter_map(|id| self.segments.remove(id))
            .map(|segment| segment.handle)
            .collect()
    }
}
