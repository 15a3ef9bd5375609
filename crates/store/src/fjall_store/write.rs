//! Everything that changes the disk. One call at a time: the engine thread commits, housekeeping trims and clears.

use super::acked::Slot;
use super::read::{failed, state_range};
use super::{Engine, FaultPoint, FjallStore, Writer, open};
use crate::directory::{Plan, Position, Segment, SegmentId};
use crate::format::{self, LogKey, RECORD_HEADER_BYTES, RECORD_TAG, SEQUENCE_TAG};
use crate::{LogRecord, PartitionCommit, StoreError};
use bytes::Bytes;
use fjall::{AbstractTree, Keyspace, OwnedWriteBatch, PersistMode, Slice};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::{Duration, Instant};
use types::{PartitionKey, UnixMillis};

/// State entries removed per batch while a partition is cleared, so that commits of others get in between.
const CLEAR_PAGE: usize = 4096;
/// The engine stops the writer for ever at 4 waiting memtables or 30 table runs if its background work has died; we wait
/// before it does, and look whether it is alive.
const WAITING_MEMTABLES_MAX: usize = 3;
const TABLE_RUNS_MAX: usize = 20;
const STALL_POLL: Duration = Duration::from_millis(2);

impl FjallStore {
    /// Runs one change and remembers a failure, so that nothing is written on top of an unknown outcome.
    pub(super) fn write<T>(
        &self,
        change: impl FnOnce(&FjallStore, &Engine, &mut Writer) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut writer = self.writer.lock();
        if let Some(why) = &writer.failed {
            return Err(StoreError::Failed(why.clone()));
        }
        let outcome = self.with_engine(|engine| change(self, engine, &mut writer));
        if let Err(StoreError::Failed(why)) = &outcome {
            tracing::error!(why, path = %self.shared.path.display(), "the store failed");
            open::note_io_failed(&self.shared.path);
            writer.failed = Some(why.clone());
        }
        outcome
    }

    pub(super) fn commit_on(
        &self,
        engine: &Engine,
        writer: &mut Writer,
        commits: &[(PartitionKey, PartitionCommit)],
    ) -> Result<(), StoreError> {
        let cuts = engine.cuts(commits)?;
        let plan = engine
            .directory
            .read()
            .plan(commits, &cuts, self.options.cut())?;
        if plan.positions.is_empty() {
            return Ok(());
        }
        self.require_space(engine, writer, &plan)?;
        self.roll_segments(engine, &plan.roll)?;
        let mut batch = engine
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        self.fill(engine, &mut batch, &plan, commits)?;
        self.lower_acked(engine, &plan)?;
        self.apply(engine, batch)?;
        writer.free_space.wrote(plan.bytes);
        self.note_acked(engine, &plan, commits);
        engine.directory.write().publish(commits, plan.positions);
        plan.cuts
            .iter()
            .try_for_each(|(key, at)| self.finish_cut(engine, *key, at))
    }

    /// Room is needed for the batch in the journal, and for what memory still has to write to table files.
    fn require_space(
        &self,
        engine: &Engine,
        writer: &mut Writer,
        plan: &Plan,
    ) -> Result<(), StoreError> {
        self.options.fault(FaultPoint::FreeSpace)?;
        let unwritten = engine.database.write_buffer_size();
        writer.free_space.require(
            self.options
                .disk_reserve
                .saturating_add(plan.bytes)
                .saturating_add(unwritten),
        )
    }

    /// Creates the segments a batch needs before it is written: a crash in between leaves an empty segment.
    fn roll_segments(&self, engine: &Engine, classes: &BTreeSet<u8>) -> Result<(), StoreError> {
        for days in classes {
            self.options.fault(FaultPoint::SegmentCreate)?;
            let id = engine.directory.read().next_segment(*days);
            let log = open::create_segment(&engine.database, id, &self.options)?;
            engine.directory.write().add_segment(id, Segment::new(log));
        }
        Ok(())
    }

    fn fill(
        &self,
        engine: &Engine,
        batch: &mut OwnedWriteBatch,
        plan: &Plan,
        commits: &[(PartitionKey, PartitionCommit)],
    ) -> Result<(), StoreError> {
        let mut logs: BTreeMap<u8, Keyspace> = BTreeMap::new();
        for (key, commit) in commits {
            let position = plan.positions.get(key).cloned().unwrap_or_default();
            if !commit.records.is_empty() {
                let log = current_log(engine, &mut logs, position.retention_days)?;
                for record in &commit.records {
                    insert_record(batch, &log, *key, position.generation, record)?;
                }
            }
            for (name, value) in &commit.state {
                let name = format::state_key(*key, name);
                match value {
                    Some(value) => batch.insert(&engine.state, name, &value[..]),
                    None => batch.remove(&engine.state, name),
                }
            }
        }
        for (key, position) in &plan.positions {
            insert_head(batch, engine, *key, position);
        }
        for keyspace in logs.values().chain([&engine.state, &engine.heads]) {
            self.wait_for_background(engine, keyspace)?;
        }
        Ok(())
    }

    /// Writes a batch durably, or fails in the way a test asked for.
    pub(super) fn apply(&self, engine: &Engine, batch: OwnedWriteBatch) -> Result<(), StoreError> {
        debug_assert!(engine.opened > 0, "an engine is numbered from 1");
        self.options.fault(FaultPoint::BeforeWrite)?;
        batch.commit().map_err(|e| failed("writing a batch", &e))?;
        self.options
            .fault(FaultPoint::AfterWrite)
            .map_err(|error| StoreError::Failed(error.to_string()))
    }

    /// Waits until the engine's background work has caught up enough not to stop the writer.
    pub(super) fn wait_for_background(
        &self,
        engine: &Engine,
        keyspace: &Keyspace,
    ) -> Result<(), StoreError> {
        let busy = || {
            keyspace.sealed_memtable_count() >= WAITING_MEMTABLES_MAX
                || keyspace.tree.l0_run_count() >= TABLE_RUNS_MAX
        };
        if !busy() {
            return Ok(());
        }
        let begun = Instant::now();
        while busy() {
            // The one call that tells whether the background work has failed.
            engine
                .database
                .persist(PersistMode::Buffer)
                .map_err(|e| failed("waiting for background writes", &e))?;
            if begun.elapsed() > self.options.stall_max {
                let name = keyspace.name();
                return Err(StoreError::Failed(format!(
                    "background writes of {name} made no progress for {:?}",
                    begun.elapsed()
                )));
            }
            std::thread::sleep(STALL_POLL);
        }
        Ok(())
    }

    fn note_acked(
        &self,
        engine: &Engine,
        plan: &Plan,
        commits: &[(PartitionKey, PartitionCommit)],
    ) {
        let mut acked = engine.acked.lock();
        for (key, _) in commits
            .iter()
            .filter(|(_, commit)| !commit.records.is_empty())
        {
            if let Some(position) = plan.positions.get(key) {
                acked.note(
                    *key,
                    Slot {
                        generation: position.generation,
                        lsn: position.last_lsn,
                    },
                );
            }
        }
    }

    /// Low watermarks become durable first, then segments go: a crash in between only leaves segments for the next time.
    pub(super) fn trim_on(&self, engine: &Engine, now: UnixMillis) -> Result<usize, StoreError> {
        let (expired, changed) = {
            let directory = engine.directory.read();
            let expired = directory.expired(now);
            let changed = directory.without(&expired);
            (expired, changed)
        };
        if expired.is_empty() {
            return Ok(0);
        }
        let mut batch = engine
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        for (key, position) in &changed {
            insert_head(&mut batch, engine, *key, position);
        }
        self.apply(engine, batch)?;
        let logs = engine.directory.write().publish_dropped(&expired, changed);
        for log in logs {
            engine
                .database
                .delete_keyspace(log)
                .map_err(|e| failed("dropping a log segment", &e))?;
        }
        Ok(expired.len())
    }

    /// Makes head, log and state of a partition unreadable in one commit. False if there was nothing.
    pub(super) fn begin_clearing(
        &self,
        engine: &Engine,
        key: PartitionKey,
        head: Option<Bytes>,
    ) -> Result<bool, StoreError> {
        let Some(position) = engine
            .directory
            .read()
            .partitions
            .get(&key)
            .map(|p| p.position.cleared())
        else {
            return Ok(false);
        };
        self.write_position(engine, key, Position { head, ..position })?;
        Ok(true)
    }

    fn write_position(
        &self,
        engine: &Engine,
        key: PartitionKey,
        position: Position,
    ) -> Result<(), StoreError> {
        let mut batch = engine
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        insert_head(&mut batch, engine, key, &position);
        self.apply(engine, batch)?;
        engine.acked.lock().note(
            key,
            Slot {
                generation: position.generation,
                lsn: 0,
            },
        );
        engine.directory.write().publish_cleared(key, position);
        Ok(())
    }

    /// Removes what state is left of a partition that is being cleared, a page at a time.
    pub(super) fn remove_state(&self, key: PartitionKey) -> Result<(), StoreError> {
        loop {
            let done = self.write(|store, engine, _| store.remove_state_page(engine, key))?;
            if done {
                return Ok(());
            }
        }
    }

    fn remove_state_page(&self, engine: &Engine, key: PartitionKey) -> Result<bool, StoreError> {
        let position = engine
            .directory
            .read()
            .partitions
            .get(&key)
            .map(|p| p.position.clone());
        let Some(position) = position.filter(|p| p.clearing) else {
            return Ok(true);
        };
        let mut page = Vec::new();
        for guard in engine.state.range(state_range(key)).take(CLEAR_PAGE) {
            page.push(
                guard
                    .key()
                    .map_err(|e| failed("clearing a partition", &e))?,
            );
        }
        if page.is_empty() {
            self.write_position(
                engine,
                key,
                Position {
                    clearing: false,
                    ..position
                },
            )?;
            return Ok(true);
        }
        let mut batch = engine
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        for name in page {
            batch.remove(&engine.state, name);
        }
        self.wait_for_background(engine, &engine.state)?;
        self.apply(engine, batch)?;
        Ok(false)
    }

    /// Goes on with clearing that a crash interrupted.
    pub(super) fn finish_clearing(&self) -> Result<(), StoreError> {
        let unfinished = self.with_engine(|engine| {
            let directory = engine.directory.read();
            Ok(directory
                .partitions
                .iter()
                .filter(|(_, p)| p.position.clearing)
                .map(|(key, _)| *key)
                .collect::<Vec<_>>())
        })?;
        unfinished
            .into_iter()
            .try_for_each(|key| self.remove_state(key))
    }
}

/// The segment that takes records of a class; planned and created before.
fn current_log(
    engine: &Engine,
    logs: &mut BTreeMap<u8, Keyspace>,
    days: u8,
) -> Result<Keyspace, StoreError> {
    if let Some(log) = logs.get(&days) {
        return Ok(log.clone());
    }
    let directory = engine.directory.read();
    let id: Option<SegmentId> = directory.current(days);
    let Some(segment) = id.and_then(|id| directory.segments.get(&id)) else {
        return Err(StoreError::Invalid(format!(
            "there is no log segment for a retention of {days} days"
        )));
    };
    logs.insert(days, segment.handle.clone());
    Ok(segment.handle.clone())
}

fn insert_record(
    batch: &mut OwnedWriteBatch,
    log: &Keyspace,
    partition: PartitionKey,
    generation: u32,
    record: &LogRecord,
) -> Result<(), StoreError> {
    let key = LogKey {
        tag: RECORD_TAG,
        partition,
        generation,
        position: record.lsn.0,
    }
    .encode();
    let header = format::record_header(&key, record);
    let mut value = header.chain(&record.bytes[..]);
    let value =
        Slice::from_reader(&mut value, RECORD_HEADER_BYTES + record.bytes.len()).map_err(|e| {
            StoreError::Invalid(format!("partition {partition}, lsn {}: {e}", record.lsn))
        })?;
    batch.insert(log, key, value);
    if record.event_count > 0 {
        let key = LogKey {
            tag: SEQUENCE_TAG,
            partition,
            generation,
            position: record.first_sequence.0,
        }
        .encode();
        let entry = format::IndexEntry {
            lsn: record.lsn,
            time: record.time,
            count: record.event_count,
        };
        batch.insert(log, key, format::encode_index(&key, &entry));
    }
    Ok(())
}

pub(super) fn insert_head(
    batch: &mut OwnedWriteBatch,
    engine: &Engine,
    partition: PartitionKey,
    position: &Position,
) {
    let key = format::partition_prefix(partition);
    batch.insert(&engine.heads, key, format::encode_head(&key, position));
}
