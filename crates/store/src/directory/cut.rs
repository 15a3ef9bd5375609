//! Cutting the end off a log.

use super::{Directory, Position};
use crate::StoreError;
use types::{Lsn, PartitionKey};

/// The place where a log is cut, as read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutAt {
    /// The record that becomes the last one.
    pub lsn: u64,
    /// After that record.
    pub next_sequence: u64,
    /// Its time; `None` when it is no longer kept.
    pub time: Option<i64>,
    /// Time of the newest event that stays in its segment.
    pub event_time: Option<i64>,
}

impl Position {
    pub(super) fn cut(&mut self, at: &CutAt) {
        self.cutting = true;
        self.last_lsn = at.lsn;
        self.next_sequence = at.next_sequence;
        self.event_time = at.time.unwrap_or(i64::MIN);
        if at.lsn == 0 {
            self.first_lsn = 0;
        }
    }
}

impl<H: Clone> Directory<H> {
    /// Checks that a log may be cut after a record: `Ok(false)` when it ends there already.
    pub(crate) fn may_cut(&self, key: PartitionKey, after: Lsn) -> Result<bool, StoreError> {
        let position = self.partition(key)?.map(|p| &p.position);
        let (first, last) = position.map_or((0, 0), |p| (p.first_lsn, p.last_lsn));
        if after.0 == last {
            return Ok(false);
        }
        if after.0 > last || after.0 + 1 < first {
            return Err(StoreError::Invalid(format!(
                "partition {key} holds records {first} to {last}: it cannot be cut after {after}"
            )));
        }
        Ok(true)
    }

    /// Takes over that the end of a log is no longer readable.
    pub(crate) fn publish_cut(&mut self, key: PartitionKey, at: &CutAt) {
        let Some(partition) = self.partitions.get_mut(&key) else {
            return;
        };
        let run_key = (key, partition.position.generation);
        partition.segments.retain(|id| {
            let Some(segment) = self.segments.get_mut(id) else {
                return false;
            };
            let Some(run) = segment.runs.get_mut(&run_key) else {
                return false;
            };
            if run.first_lsn > at.lsn {
                segment.runs.remove(&run_key);
                return false;
            }
            if run.last_lsn > at.lsn {
                run.last_lsn = at.lsn;
                run.next_sequence = at.next_sequence;
                run.event_time = at.event_time;
                run.newest = at.time.unwrap_or(run.newest);
            }
            true
        });
    }

    /// Takes over that nothing is left behind the end of a log that was cut.
    pub(crate) fn publish_cut_done(&mut self, key: PartitionKey) {
        if let Some(partition) = self.partitions.get_mut(&key) {
            partition.position.cutting = false;
        }
    }
}
