//! Where records and events are, and what to say when they are not.

use super::{Directory, Partition, Run, SegmentId};
use crate::{LogBounds, StoreError};
use types::{Lsn, PartitionKey, Sequence};

impl<H: Clone> Directory<H> {
    pub(super) fn run(&self, id: SegmentId, key: PartitionKey, generation: u32) -> Option<Run> {
        self.segments
            .get(&id)?
            .runs
            .get(&(key, generation))
            .copied()
    }

    /// The readable runs of a partition in lsn order.
    fn runs<'a>(
        &'a self,
        key: PartitionKey,
        partition: &'a Partition,
    ) -> impl DoubleEndedIterator<Item = (H, Run)> + 'a {
        let generation = partition.position.generation;
        partition.segments.iter().filter_map(move |id| {
            let segment = self.segments.get(id)?;
            Some((
                segment.handle.clone(),
                *segment.runs.get(&(key, generation))?,
            ))
        })
    }

    /// The run that holds a record.
    pub(crate) fn run_at(&self, key: PartitionKey, lsn: u64) -> Option<(H, Run)> {
        let partition = self.partitions.get(&key)?;
        self.runs(key, partition)
            .rev()
            .find(|(_, run)| run.first_lsn <= lsn && lsn <= run.last_lsn)
    }

    /// The first readable run whose last sequence number is `sequence` or later.
    pub(crate) fn run_with_sequence(&self, key: PartitionKey, sequence: u64) -> Option<(H, Run)> {
        let partition = self.partitions.get(&key)?;
        self.runs(key, partition)
            .find(|(_, run)| run.next_sequence > sequence)
    }

    /// The first readable run with an event at or after `time`.
    pub(crate) fn run_with_time(&self, key: PartitionKey, time: i64) -> Option<(H, Run)> {
        let partition = self.partitions.get(&key)?;
        self.runs(key, partition)
            .find(|(_, run)| run.event_time.is_some_and(|newest| newest >= time))
    }

    pub(crate) fn bounds(&self, key: PartitionKey) -> Result<Option<LogBounds>, StoreError> {
        let Some(partition) = self.partition(key)? else {
            return Ok(None);
        };
        let position = &partition.position;
        if !position.has_records() {
            return Ok(None);
        }
        let first_sequence = self
            .runs(key, partition)
            .next()
            .map_or(position.next_sequence, |(_, run)| run.first_sequence);
        Ok(Some(LogBounds {
            first_lsn: Lsn(position.first_lsn),
            first_sequence: Sequence(first_sequence),
            last_lsn: Lsn(position.last_lsn),
        }))
    }

    /// Checks a read position: `Ok(None)` when it lies at or beyond the end, otherwise the last lsn to read.
    pub(crate) fn readable(&self, key: PartitionKey, from: Lsn) -> Result<Option<u64>, StoreError> {
        let Some(partition) = self.partition(key)? else {
            return Ok(None);
        };
        let position = &partition.position;
        if from.0.max(1) < position.first_lsn {
            return Err(StoreError::Trimmed {
                partition: key,
                first: Lsn(position.first_lsn),
            });
        }
        Ok((from.0 <= position.last_lsn && position.last_lsn > 0).then_some(position.last_lsn))
    }

    /// Checks a sequence number: `Ok(false)` when it is not written yet.
    pub(crate) fn has_sequence(
        &self,
        key: PartitionKey,
        sequence: Sequence,
    ) -> Result<bool, StoreError> {
        let Some(partition) = self.partition(key)? else {
            return Ok(false);
        };
        let position = &partition.position;
        if position.last_lsn == 0 || sequence.0 >= position.next_sequence {
            return Ok(false);
        }
        let kept_from = self
            .runs(key, partition)
            .next()
            .map_or(position.next_sequence, |(_, run)| run.first_sequence);
        if sequence.0 < kept_from {
            return Err(StoreError::Trimmed {
                partition: key,
                first: Lsn(position.first_lsn),
            });
        }
        Ok(true)
    }
}
