//! Cutting the end off a log: one commit makes it unreadable and marks the partition, further ones remove its entries, the
//! last one takes the mark away. An interrupted cut is finished when the store is opened.

use super::acked::Slot;
use super::open::io_failed;
use super::read::failed;
use super::write::insert_head;
use super::{Engine, FaultPoint, FjallStore};
use crate::directory::{CutAt, Directory, Plan, Position};
use crate::format::{self, LogKey, RECORD_TAG, SEQUENCE_TAG};
use crate::{PartitionCommit, StoreError};
use fjall::{Database, Keyspace, PersistMode};
use std::collections::BTreeMap;
use types::{Lsn, PartitionKey};

/// Entries removed per batch.
const PAGE: usize = 4096;

impl Engine {
    /// Looks up where the logs are cut that a commit cuts.
    pub(super) fn cuts(
        &self,
        commits: &[(PartitionKey, PartitionCommit)],
    ) -> Result<BTreeMap<PartitionKey, CutAt>, StoreError> {
        let mut cuts = BTreeMap::new();
        for (key, commit) in commits {
            let Some(after) = commit.truncate_after else {
                continue;
            };
            if self.directory.read().may_cut(*key, after)? {
                cuts.insert(*key, self.cut_at(*key, after)?);
            }
        }
        Ok(cuts)
    }

    fn cut_at(&self, key: PartitionKey, after: Lsn) -> Result<CutAt, StoreError> {
        let one = |lsn: Lsn| Ok(self.read_log(key, lsn, 1)?.into_iter().next());
        let gone = |lsn| super::read::corrupt(key, lsn, "the record is missing");
        let next = one(after.next())?.ok_or_else(|| gone(after.0 + 1))?;
        let last = match one(after) {
            Ok(last) if after.0 > 0 => last,
            Ok(_) | Err(StoreError::Trimmed { .. }) => None,
            Err(error) => return Err(error),
        };
        let event_time = match &last {
            Some(_) => self.newest_event(key, after, next.first_sequence.0)?,
            None => None,
        };
        Ok(CutAt {
            lsn: after.0,
            next_sequence: next.first_sequence.0,
            time: last.map(|record| record.time.0),
            event_time,
        })
    }

    /// Time of the newest event before `next_sequence` in the segment that holds a record.
    fn newest_event(
        &self,
        key: PartitionKey,
        lsn: Lsn,
        next_sequence: u64,
    ) -> Result<Option<i64>, StoreError> {
        let Some((log, run, generation)) = self.run_at(key, lsn.0) else {
            return Ok(None);
        };
        let index = |position| index_key(key, generation, position);
        let mut range = log.range(index(run.first_sequence)..index(next_sequence));
        match range.next_back() {
            Some(guard) => {
                let (_, entry) = super::read::index_entry(key, lsn.0, guard)?;
                Ok(Some(entry.time.0))
            }
            None => Ok(None),
        }
    }
}

impl FjallStore {
    /// What is noted as acknowledged must not be ahead of a log that is cut.
    pub(super) fn lower_acked(&self, engine: &Engine, plan: &Plan) -> Result<(), StoreError> {
        let mut acked = engine.acked.lock();
        for (key, at) in &plan.cuts {
            let generation = plan.positions.get(key).map_or(0, |p| p.generation);
            let slot = Slot {
                generation,
                lsn: at.lsn,
            };
            acked
                .lower(*key, slot)
                .map_err(|e| io_failed("cutting a log", &self.shared.path, &e))?;
        }
        Ok(())
    }

    /// Removes what is behind a cut that is durable.
    pub(super) fn finish_cut(
        &self,
        engine: &Engine,
        key: PartitionKey,
        at: &CutAt,
    ) -> Result<(), StoreError> {
        let (position, logs) = {
            let mut directory = engine.directory.write();
            directory.publish_cut(key, at);
            let position = directory.partitions.get(&key).map(|p| p.position.clone());
            let logs = directory.segments.values().map(|s| s.handle.clone());
            (position, logs.collect::<Vec<_>>())
        };
        let Some(position) = position else {
            return Ok(());
        };
        for log in logs {
            loop {
                self.options.fault(FaultPoint::Cutting)?;
                self.wait_for_background(engine, &log)?;
                if !remove_page(&engine.database, &log, key, &position)? {
                    break;
                }
            }
        }
        let mut batch = engine
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        let done = Position {
            cutting: false,
            ..position
        };
        insert_head(&mut batch, engine, key, &done);
        self.apply(engine, batch)?;
        engine.directory.write().publish_cut_done(key);
        Ok(())
    }
}

fn index_key(partition: PartitionKey, generation: u32, position: u64) -> impl AsRef<[u8]> {
    LogKey {
        tag: SEQUENCE_TAG,
        partition,
        generation,
        position,
    }
    .encode()
}

/// Removes some entries behind the end of a log from one segment; false when there are none left.
fn remove_page(
    database: &Database,
    log: &Keyspace,
    partition: PartitionKey,
    position: &Position,
) -> Result<bool, StoreError> {
    let of = |tag, from: u64| {
        let key = |position_in_log| {
            LogKey {
                tag,
                partition,
                generation: position.generation,
                position: position_in_log,
            }
            .encode()
        };
        log.range(key(from)..=key(u64::MAX))
    };
    let records = of(RECORD_TAG, position.last_lsn.saturating_add(1));
    let entries = records.chain(of(SEQUENCE_TAG, position.next_sequence));
    let mut batch = database.batch().durability(Some(PersistMode::SyncData));
    let mut some = false;
    for guard in entries.take(PAGE) {
        let key = guard.key().map_err(|e| failed("cutting a log", &e))?;
        batch.remove(log, key);
        some = true;
    }
    if some {
        batch.commit().map_err(|e| failed("cutting a log", &e))?;
    }
    Ok(some)
}

/// Goes on with cuts that a crash interrupted, before segments are listed.
pub(super) fn finish_cuts(
    database: &Database,
    heads: &Keyspace,
    logs: &[Keyspace],
    directory: &mut Directory<Keyspace>,
) -> Result<(), StoreError> {
    for (key, partition) in &mut directory.partitions {
        if !partition.position.cutting {
            continue;
        }
        for log in logs {
            while remove_page(database, log, *key, &partition.position)? {}
        }
        partition.position.cutting = false;
        let name = format::partition_prefix(*key);
        let mut batch = database.batch().durability(Some(PersistMode::SyncData));
        batch.insert(heads, name, format::encode_head(&name, &partition.position));
        batch.commit().map_err(|e| failed("cutting a log", &e))?;
    }
    Ok(())
}
