//! Everything that only reads. A record is checked whenever it is read; what is not as it was written is never given out.

use super::{Engine, Shared};
use crate::directory::Run;
use crate::format::{self, LogKey, PARTITION_BYTES, RECORD_TAG, SEQUENCE_TAG};
use crate::{LogRecord, Snapshot, StoreError};
use bytes::Bytes;
use fjall::{Guard, Keyspace, LsmError, Readable, Slice};
use std::fmt::Display;
use std::ops::Bound;
use std::sync::Weak;
use types::{Lsn, PartitionKey, Sequence, UnixMillis};

type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

pub(super) fn failed(doing: &str, error: &dyn Display) -> StoreError {
    StoreError::Failed(format!("{doing}: {error}"))
}

pub(super) fn corrupt(partition: PartitionKey, at: u64, why: &str) -> StoreError {
    StoreError::Corrupt {
        partition,
        at: Lsn(at),
        why: why.to_owned(),
    }
}

/// Tells bytes that are wrong from a disk that fails.
pub(super) fn unreadable(partition: PartitionKey, at: u64, error: &fjall::Error) -> StoreError {
    match error {
        fjall::Error::Storage(LsmError::Io(_)) | fjall::Error::Io(_) => {
            failed(&format!("reading partition {partition}"), error)
        }
        fjall::Error::Storage(_) => corrupt(
            partition,
            at,
            &format!("the engine cannot read its tables: {error}"),
        ),
        _ => failed(&format!("reading partition {partition}"), error),
    }
}

/// All state keys of a partition.
pub(super) fn state_range(partition: PartitionKey) -> Range {
    let prefix = format::partition_prefix(partition);
    let number = (u64::from(partition.hub.0) << 16 | u64::from(partition.partition.0)) + 1;
    let end = match number >> 48 {
        0 => Bound::Excluded(number.to_be_bytes()[8 - PARTITION_BYTES..].to_vec()),
        _ => Bound::Unbounded,
    };
    (Bound::Included(prefix.to_vec()), end)
}

/// The bytes of an entry, without copying them.
fn shared(value: Slice) -> Bytes {
    Bytes::from_owner(value)
}

/// An entry of the state keyspace, its key without the partition's prefix.
fn state_entry(partition: PartitionKey, guard: Guard) -> Result<(Bytes, Bytes), StoreError> {
    let (key, value) = guard
        .into_inner()
        .map_err(|e| unreadable(partition, 0, &e))?;
    Ok((shared(key).slice(PARTITION_BYTES..), shared(value)))
}

impl Engine {
    pub(super) fn partitions(&self) -> Vec<PartitionKey> {
        let directory = self.directory.read();
        let there = directory
            .partitions
            .iter()
            .filter(|(_, p)| p.position.head.is_some() || p.damaged.is_some());
        there.map(|(key, _)| *key).collect()
    }

    pub(super) fn head(&self, partition: PartitionKey) -> Result<Option<Bytes>, StoreError> {
        Ok(self
            .directory
            .read()
            .partition(partition)?
            .and_then(|p| p.position.head.clone()))
    }

    /// Whether a partition has state that may be read.
    fn has_state(&self, partition: PartitionKey) -> Result<bool, StoreError> {
        Ok(self
            .directory
            .read()
            .partition(partition)?
            .is_some_and(|p| !p.position.clearing))
    }

    pub(super) fn get(
        &self,
        partition: PartitionKey,
        key: &[u8],
    ) -> Result<Option<Bytes>, StoreError> {
        if !self.has_state(partition)? {
            return Ok(None);
        }
        let value = self
            .state
            .get(format::state_key(partition, key))
            .map_err(|e| unreadable(partition, 0, &e))?;
        Ok(value.map(shared))
    }

    pub(super) fn scan(
        &self,
        partition: PartitionKey,
        from: &[u8],
        until: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        if from >= until || !self.has_state(partition)? {
            return Ok(Vec::new());
        }
        let range: Range = (
            Bound::Included(format::state_key(partition, from)),
            Bound::Excluded(format::state_key(partition, until)),
        );
        // A snapshot, so that a commit is seen whole or not at all.
        let entries = self.database.snapshot().range(&self.state, range);
        entries
            .take(limit)
            .map(|guard| state_entry(partition, guard))
            .collect()
    }

    pub(super) fn read_log(
        &self,
        partition: PartitionKey,
        from: Lsn,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError> {
        let Some(last) = self.directory.read().readable(partition, from)? else {
            return Ok(Vec::new());
        };
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut next = from.0.max(1);
        while next <= last && (records.is_empty() || bytes < bytes_max) {
            let Some((log, run, generation)) = self.run_at(partition, next) else {
                return self.run_went(partition, next, records);
            };
            let until = run.last_lsn.min(last);
            let key = |position| {
                LogKey {
                    tag: RECORD_TAG,
                    partition,
                    generation,
                    position,
                }
                .encode()
            };
            for guard in log.range(key(next)..=key(until)) {
                let record = match checked_record(partition, next, guard) {
                    Ok(record) => record,
                    Err(why) => return self.unless_cut(partition, next, records, why),
                };
                if !records.is_empty() && bytes + record.bytes.len() > bytes_max {
                    return Ok(records);
                }
                bytes += record.bytes.len();
                next += 1;
                records.push(record);
            }
            if next <= until && (records.is_empty() || bytes < bytes_max) {
                let why = corrupt(partition, next, "the record is missing");
                return self.unless_cut(partition, next, records, why);
            }
        }
        Ok(records)
    }

    pub(super) fn run_at(&self, partition: PartitionKey, lsn: u64) -> Option<(Keyspace, Run, u32)> {
        let directory = self.directory.read();
        let generation = directory.partitions.get(&partition)?.position.generation;
        directory
            .run_at(partition, lsn)
            .map(|(log, run)| (log, run, generation))
    }

    /// Between two looks at the directory the end of a log may have been cut off; otherwise it is as it looks.
    fn unless_cut(
        &self,
        partition: PartitionKey,
        lsn: u64,
        read: Vec<LogRecord>,
        why: StoreError,
    ) -> Result<Vec<LogRecord>, StoreError> {
        match self.directory.read().partition(partition)? {
            Some(found) if found.position.last_lsn < lsn => Ok(read),
            _ => Err(why),
        }
    }

    /// Between two looks at the directory a run may have been trimmed or cleared; otherwise it is a gap.
    fn run_went(
        &self,
        partition: PartitionKey,
        lsn: u64,
        read: Vec<LogRecord>,
    ) -> Result<Vec<LogRecord>, StoreError> {
        match self.directory.read().readable(partition, Lsn(lsn)) {
            _ if !read.is_empty() => Ok(read),
            Ok(None) => Ok(read),
            Ok(Some(_)) => Err(corrupt(partition, lsn, "no segment holds the record")),
            Err(why) => Err(why),
        }
    }

    pub(super) fn find_sequence(
        &self,
        partition: PartitionKey,
        sequence: Sequence,
    ) -> Result<Option<Lsn>, StoreError> {
        let directory = self.directory.read();
        if !directory.has_sequence(partition, sequence)? {
            return Ok(None);
        }
        let generation = directory
            .partition(partition)?
            .map_or(0, |p| p.position.generation);
        let found = directory.run_with_sequence(partition, sequence.0);
        drop(directory);
        let Some((log, run)) = found else {
            return Err(corrupt(partition, 0, "no segment holds the event"));
        };
        let key = |position| {
            LogKey {
                tag: SEQUENCE_TAG,
                partition,
                generation,
                position,
            }
            .encode()
        };
        let Some(guard) = log
            .range(key(run.first_sequence)..=key(sequence.0))
            .next_back()
        else {
            return Err(corrupt(
                partition,
                run.first_lsn,
                "the sequence index has no entry for the event",
            ));
        };
        let (first, entry) = index_entry(partition, run.first_lsn, guard)?;
        if sequence.0 - first < u64::from(entry.count) {
            Ok(Some(entry.lsn))
        } else {
            Err(corrupt(
                partition,
                entry.lsn.0,
                "the sequence index has a gap after this record",
            ))
        }
    }

    pub(super) fn find_time(
        &self,
        partition: PartitionKey,
        time: UnixMillis,
    ) -> Result<Option<Lsn>, StoreError> {
        let directory = self.directory.read();
        let generation = directory
            .partition(partition)?
            .map_or(0, |p| p.position.generation);
        let found = directory.run_with_time(partition, time.0);
        drop(directory);
        let Some((log, run)) = found else {
            return Ok(None);
        };
        let key = |position| {
            LogKey {
                tag: SEQUENCE_TAG,
                partition,
                generation,
                position,
            }
            .encode()
        };
        // Halves the sequence numbers, not the entries: each probe is one seek.
        let (mut low, mut high) = (run.first_sequence, run.next_sequence);
        let mut best = None;
        while low < high {
            let middle = low + (high - low) / 2;
            match log.range(key(middle)..key(high)).next() {
                None => high = middle,
                Some(guard) => {
                    let (first, entry) = index_entry(partition, run.first_lsn, guard)?;
                    if entry.time.0 >= time.0 {
                        best = Some(entry.lsn);
                        high = middle;
                    } else {
                        low = first + 1;
                    }
                }
            }
        }
        Ok(best)
    }
}

fn checked_record(
    partition: PartitionKey,
    lsn: u64,
    guard: Guard,
) -> Result<LogRecord, StoreError> {
    let (key, value) = guard
        .into_inner()
        .map_err(|e| unreadable(partition, lsn, &e))?;
    let record =
        format::decode_record(&key, shared(value)).map_err(|why| corrupt(partition, lsn, why))?;
    if record.lsn.0 == lsn {
        Ok(record)
    } else {
        Err(corrupt(partition, lsn, "the record is missing"))
    }
}

/// First sequence number and content of an index entry.
pub(super) fn index_entry(
    partition: PartitionKey,
    lsn: u64,
    guard: Guard,
) -> Result<(u64, format::IndexEntry), StoreError> {
    let (key, value) = guard
        .into_inner()
        .map_err(|e| unreadable(partition, lsn, &e))?;
    let entry = format::decode_index(&key, &value).map_err(|why| corrupt(partition, lsn, why))?;
    let key = LogKey::decode(&key).map_err(|why| corrupt(partition, lsn, why))?;
    Ok((key.position, entry))
}

/// One instant of one partition. Becomes unusable when the store is recovered or dropped; holds no file open itself.
pub(super) struct EngineSnapshot {
    shared: Weak<Shared>,
    opened: u64,
    partition: PartitionKey,
    instant: fjall::Snapshot,
}

impl EngineSnapshot {
    pub(super) fn take(
        engine: &Engine,
        shared: Weak<Shared>,
        partition: PartitionKey,
    ) -> Result<Box<dyn Snapshot>, StoreError> {
        engine.directory.read().partition(partition)?;
        let instant = engine.database.snapshot();
        Ok(Box::new(EngineSnapshot {
            shared,
            opened: engine.opened,
            partition,
            instant,
        }))
    }

    fn with_engine<T>(
        &self,
        read: impl FnOnce(&Engine) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let gone = || {
            StoreError::Failed(
                "the store was reopened or closed since the snapshot was taken".into(),
            )
        };
        let shared = self.shared.upgrade().ok_or_else(gone)?;
        let engine = shared.engine.read();
        read(
            engine
                .as_ref()
                .filter(|engine| engine.opened == self.opened)
                .ok_or_else(gone)?,
        )
    }

    fn position(&self, engine: &Engine) -> Result<Option<crate::directory::Position>, StoreError> {
        let key = format::partition_prefix(self.partition);
        let value = self
            .instant
            .get(&engine.heads, key)
            .map_err(|e| unreadable(self.partition, 0, &e))?;
        value
            .map(|value| {
                format::decode_head(&key, &value).map_err(|why| corrupt(self.partition, 0, why))
            })
            .transpose()
    }
}

impl Snapshot for EngineSnapshot {
    fn head(&self) -> Result<Option<Bytes>, StoreError> {
        self.with_engine(|engine| Ok(self.position(engine)?.and_then(|position| position.head)))
    }

    fn state_page(
        &self,
        after: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.with_engine(|engine| {
            if self
                .position(engine)?
                .is_none_or(|position| position.clearing)
            {
                return Ok(Vec::new());
            }
            let (mut from, until) = state_range(self.partition);
            if let Some(after) = after {
                from = Bound::Excluded(format::state_key(self.partition, after));
            }
            let mut page = Vec::new();
            let mut bytes = 0;
            for guard in self
                .instant
                .range::<Vec<u8>, Range>(&engine.state, (from, until))
            {
                let (key, value) = state_entry(self.partition, guard)?;
                bytes += key.len() + value.len();
                if !page.is_empty() && bytes > bytes_max {
                    break;
                }
                page.push((key, value));
            }
            Ok(page)
        })
    }
}
