//! What a store keeps in memory about its logs: which segment holds which run of which partition, and each partition's position.
//!
//! The rules that every store shares live here (contiguity, rolling, retention); they perform no IO.

mod cut;
mod load;
mod look_up;
mod plan;
mod trim;

pub(crate) use cut::CutAt;
pub(crate) use plan::{Cut, Plan};

use crate::{LogRecord, PartitionCommit, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use types::PartitionKey;

pub(crate) const DAY_MS: i64 = 24 * 3_600_000;

/// What is known of one partition besides its entries. Persisted with every commit that touches the partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Counts [`crate::Store::clear`]: log entries of an older generation are unreachable.
    pub generation: u32,
    /// State entries are still being removed.
    pub clearing: bool,
    /// Entries behind the end of the log are still being removed.
    pub cutting: bool,
    /// Retention of the last record written; 0 before the first.
    pub retention_days: u8,
    /// Oldest readable record; `last_lsn + 1` when all are gone, 0 before the first.
    pub first_lsn: u64,
    pub last_lsn: u64,
    pub next_sequence: u64,
    /// Time of the newest event.
    pub event_time: i64,
    pub head: Option<Bytes>,
}

impl Position {
    fn has_records(&self) -> bool {
        self.last_lsn > 0 && self.first_lsn <= self.last_lsn
    }

    /// The position after everything of the partition was removed.
    pub(crate) fn cleared(&self) -> Position {
        Position {
            generation: self.generation.wrapping_add(1),
            clearing: true,
            ..Position::default()
        }
    }
}

/// Names a log segment: all partitions with the same retention share a class; numbers never repeat while the store is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentId {
    pub days: u8,
    pub number: u32,
}

impl SegmentId {
    pub(crate) fn name(self) -> String {
        format!("log-{}-{:08}", self.days, self.number)
    }

    pub(crate) fn parse(name: &str) -> Option<SegmentId> {
        let (days, number) = name.strip_prefix("log-")?.split_once('-')?;
        Some(SegmentId {
            days: days.parse().ok()?,
            number: number.parse().ok()?,
        })
    }

    fn retention_ms(self) -> i64 {
        i64::from(self.days) * DAY_MS
    }
}

/// The contiguous records of one partition and generation inside one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub first_lsn: u64,
    pub last_lsn: u64,
    pub first_sequence: u64,
    pub next_sequence: u64,
    /// Time of the newest event in the run, if there is any event.
    pub event_time: Option<i64>,
    pub newest: i64,
}

impl Run {
    pub(crate) fn of(record: &LogRecord) -> Run {
        let sequence = record.first_sequence.0;
        Run {
            first_lsn: record.lsn.0,
            last_lsn: record.lsn.0,
            first_sequence: sequence,
            next_sequence: sequence.saturating_add(u64::from(record.event_count)),
            event_time: (record.event_count > 0).then_some(record.time.0),
            newest: record.time.0,
        }
    }

    /// The run extended by what `later` holds.
    pub(crate) fn join(self, later: Run) -> Run {
        Run {
            first_lsn: self.first_lsn,
            first_sequence: self.first_sequence,
            last_lsn: later.last_lsn,
            next_sequence: later.next_sequence,
            event_time: later.event_time.or(self.event_time),
            newest: self.newest.max(later.newest),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Segment<H> {
    pub handle: H,
    pub bytes: u64,
    /// Time at which the segment's first commit came; ages are counted from it.
    pub begun: Option<i64>,
    pub runs: BTreeMap<(PartitionKey, u32), Run>,
}

impl<H> Segment<H> {
    pub(crate) fn new(handle: H) -> Segment<H> {
        Segment {
            handle,
            bytes: 0,
            begun: None,
            runs: BTreeMap::new(),
        }
    }

    fn newest(&self) -> Option<i64> {
        self.runs.values().map(|run| run.newest).max()
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    pub position: Position,
    /// Segments with the readable log, in lsn order.
    pub segments: Vec<SegmentId>,
    /// Why nothing of this partition may be served, until it is cleared.
    pub damaged: Option<StoreError>,
}

#[derive(Clone, Debug)]
pub(crate) struct Directory<H> {
    pub segments: BTreeMap<SegmentId, Segment<H>>,
    pub partitions: BTreeMap<PartitionKey, Partition>,
    retention: BTreeMap<PartitionKey, u8>,
    next_number: u32,
}

impl<H> Default for Directory<H> {
    fn default() -> Self {
        Directory {
            segments: BTreeMap::new(),
            partitions: BTreeMap::new(),
            retention: BTreeMap::new(),
            next_number: 1,
        }
    }
}

impl<H: Clone> Directory<H> {
    pub(crate) fn set_retention(&mut self, partition: PartitionKey, days: u8) {
        self.retention.insert(partition, days);
    }

    pub(crate) fn forget_retentions(&mut self) {
        self.retention.clear();
    }

    /// The partition, unless it is damaged; `None` while nothing was ever written to it.
    pub(crate) fn partition(
        &self,
        partition: PartitionKey,
    ) -> Result<Option<&Partition>, StoreError> {
        match self.partitions.get(&partition) {
            Some(Partition {
                damaged: Some(why), ..
            }) => Err(why.clone()),
            found => Ok(found),
        }
    }

    /// The segment into which records of a class go, if there is one.
    pub(crate) fn current(&self, days: u8) -> Option<SegmentId> {
        let class = SegmentId { days, number: 0 }..=SegmentId {
            days,
            number: u32::MAX,
        };
        self.segments.range(class).next_back().map(|(id, _)| *id)
    }

    pub(crate) fn add_segment(&mut self, id: SegmentId, segment: Segment<H>) {
        self.next_number = self.next_number.max(id.number.saturating_add(1));
        self.segments.insert(id, segment);
    }

    pub(crate) fn next_segment(&self, days: u8) -> SegmentId {
        SegmentId {
            days,
            number: self.next_number,
        }
    }

    /// Takes over what a commit made durable.
    pub(crate) fn publish(
        &mut self,
        commits: &[(PartitionKey, PartitionCommit)],
        positions: BTreeMap<PartitionKey, Position>,
    ) {
        for (key, position) in positions {
            self.partitions.entry(key).or_default().position = position;
        }
        for (key, commit) in commits {
            if commit.records.is_empty() {
                continue;
            }
            let partition = self.partitions.entry(*key).or_default();
            let (generation, days) = (
                partition.position.generation,
                partition.position.retention_days,
            );
            let time = newest(&commit.records).max(partition.position.event_time);
            let Some(id) = self.current(days) else {
                continue;
            };
            let partition = self.partitions.entry(*key).or_default();
            if partition.segments.last() != Some(&id) {
                partition.segments.push(id);
            }
            let Some(segment) = self.segments.get_mut(&id) else {
                continue;
            };
            segment.begun.get_or_insert(time);
            for record in &commit.records {
                segment.bytes += record.bytes.len() as u64 + 128;
                let run = Run::of(record);
                segment
                    .runs
                    .entry((*key, generation))
                    .and_modify(|old| *old = old.join(run))
                    .or_insert(run);
            }
        }
    }

    /// Takes over that a partition was emptied.
    pub(crate) fn publish_cleared(&mut self, key: PartitionKey, position: Position) {
        self.partitions.insert(
            key,
            Partition {
                position,
                segments: Vec::new(),
                damaged: None,
            },
        );
    }
}

fn newest(records: &[LogRecord]) -> i64 {
    records
        .iter()
        .map(|record| record.time.0)
        .max()
        .unwrap_or(i64::MIN)
}
