//! What lies on the memory disk, and the changes that happen to it.

use crate::directory::{Cut, CutAt, Directory, Plan, Position, Segment};
use crate::{LogRecord, PartitionCommit, Salvage, StoreError, salvage};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use types::{Epoch, Lsn, PartitionKey, Sequence, UnixMillis};

/// One change, atomic on the disk.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Commit(Vec<(PartitionKey, PartitionCommit)>),
    /// The head that stays, if any.
    Clear(PartitionKey, Option<Bytes>),
    SetAside(Salvage, Arc<Vec<LogRecord>>),
    Discard(String),
    Trim(UnixMillis),
    /// Not on the disk, but it decides where later records go.
    Retention(PartitionKey, u8),
    /// The process started anew.
    Restart,
}

type State = BTreeMap<Bytes, Bytes>;
type LogPosition = (PartitionKey, u32, u64);

/// Everything on the disk. Cheap to copy: bytes and states are shared.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub directory: Directory<()>,
    states: BTreeMap<PartitionKey, Arc<State>>,
    log: BTreeMap<LogPosition, LogRecord>,
    pub salvages: BTreeMap<String, (Salvage, Arc<Vec<LogRecord>>)>,
    pub used: u64,
}

/// What setting aside finds.
pub(super) enum SetAside {
    Known(Salvage),
    New(Salvage, Vec<LogRecord>),
}

/// What an entry costs besides its bytes.
const ENTRY_BYTES: u64 = 64;

impl Image {
    /// Makes a change that was checked; gives the number of segments dropped.
    pub(super) fn apply(&mut self, change: &Change, cut: Cut) -> usize {
        match change {
            Change::Commit(commits) => self.commit(commits, cut),
            Change::Clear(key, head) => self.clear(*key, head.clone()),
            Change::SetAside(salvage, records) => {
                self.used += salvage.bytes;
                let kept = (salvage.clone(), records.clone());
                self.salvages.insert(salvage.id.clone(), kept);
            }
            Change::Discard(id) => {
                let gone = self.salvages.remove(id);
                self.used -= gone.map_or(0, |(salvage, _)| salvage.bytes);
            }
            Change::Trim(now) => return self.trim(*now),
            Change::Restart => self.directory.forget_retentions(),
            Change::Retention(key, days) => self.directory.set_retention(*key, *days),
        }
        0
    }

    fn commit(&mut self, commits: &[(PartitionKey, PartitionCommit)], cut: Cut) {
        let plan = self
            .plan(commits, cut)
            .expect("a commit is planned before it becomes a change");
        for days in &plan.roll {
            self.directory
                .add_segment(self.directory.next_segment(*days), Segment::new(()));
        }
        for (key, commit) in commits {
            let generation = plan
                .positions
                .get(key)
                .map_or(0, |position| position.generation);
            for record in &commit.records {
                self.used += record.bytes.len() as u64 + ENTRY_BYTES;
                self.log
                    .insert((*key, generation, record.lsn.0), record.clone());
            }
            let state = Arc::make_mut(self.states.entry(*key).or_default());
            for (name, value) in &commit.state {
                let old = match value {
                    Some(value) => {
                        self.used += (name.len() + value.len()) as u64 + ENTRY_BYTES;
                        state.insert(name.clone(), value.clone())
                    }
                    None => state.remove(name),
                };
                self.used -= old.map_or(0, |old| (name.len() + old.len()) as u64 + ENTRY_BYTES);
            }
        }
        self.directory.publish(commits, plan.positions);
        for (key, at) in &plan.cuts {
            self.cut(*key, at);
        }
    }

    /// Checks a commit.
    pub(super) fn plan(
        &self,
        commits: &[(PartitionKey, PartitionCommit)],
        cut: Cut,
    ) -> Result<Plan, StoreError> {
        let mut cuts = BTreeMap::new();
        for (key, commit) in commits {
            let Some(after) = commit.truncate_after else {
                continue;
            };
            if self.directory.may_cut(*key, after)? {
                cuts.insert(*key, self.cut_at(*key, after));
            }
        }
        self.directory.plan(commits, &cuts, cut)
    }

    fn cut_at(&self, key: PartitionKey, after: Lsn) -> CutAt {
        let position = self.directory.partitions.get(&key).map(|p| &p.position);
        let generation = position.map_or(0, |p| p.generation);
        let at = |lsn: Lsn| self.log.get(&(key, generation, lsn.0));
        let kept = position.is_some_and(|p| p.first_lsn <= after.0);
        let last = at(after).filter(|_| kept);
        CutAt {
            lsn: after.0,
            next_sequence: at(after.next()).map_or(0, |record| record.first_sequence.0),
            time: last.map(|record| record.time.0),
            event_time: last.map(|record| record.time.0),
        }
    }

    fn cut(&mut self, key: PartitionKey, at: &CutAt) {
        self.directory.publish_cut(key, at);
        self.directory.publish_cut_done(key);
        let generation = self
            .directory
            .partitions
            .get(&key)
            .map_or(0, |p| p.position.generation);
        let gone: Vec<LogPosition> = self
            .log
            .range((key, generation, at.lsn + 1)..=(key, generation, u64::MAX))
            .map(|(position, _)| *position)
            .collect();
        for position in gone {
            let gone = self.log.remove(&position);
            self.used -= gone.map_or(0, |record| record.bytes.len() as u64 + ENTRY_BYTES);
        }
    }

    /// What would be set aside, under which name.
    pub(super) fn to_set_aside(
        &self,
        at: PartitionKey,
        after: Lsn,
        epoch: Epoch,
        made: UnixMillis,
    ) -> Result<Option<SetAside>, StoreError> {
        let Some(last) = self.directory.readable(at, after.next())? else {
            return Ok(None);
        };
        let kept = self.salvages.values().map(|(salvage, _)| salvage);
        if let Some(known) = salvage::known(kept, at, epoch, after.next(), Lsn(last)) {
            return Ok(Some(SetAside::Known(known)));
        }
        let records: Vec<_> = self.records(at, after.0 + 1).cloned().collect();
        let Some(first) = records.first() else {
            return Ok(None);
        };
        let mut salvage = Salvage::of(at, epoch, made, first);
        for record in &records {
            salvage.add(record);
        }
        salvage.id = salvage.free_id(|id| self.salvages.contains_key(id))?;
        Ok(Some(SetAside::New(salvage, records)))
    }

    fn clear(&mut self, key: PartitionKey, head: Option<Bytes>) {
        let known = self.directory.partitions.get(&key);
        let position = match (known.map(|p| p.position.cleared()), &head) {
            (Some(position), _) => position,
            (None, Some(_)) => Position::default(),
            (None, None) => return,
        };
        if let Some(state) = self.states.remove(&key) {
            self.used -= state
                .iter()
                .map(|(name, value)| (name.len() + value.len()) as u64 + ENTRY_BYTES)
                .sum::<u64>();
        }
        self.directory.publish_cleared(
            key,
            Position {
                clearing: false,
                head,
                ..position
            },
        );
    }

    fn trim(&mut self, now: UnixMillis) -> usize {
        let expired = self.directory.expired(now);
        for segment in expired
            .iter()
            .filter_map(|id| self.directory.segments.get(id))
        {
            for ((key, generation), run) in &segment.runs {
                for lsn in run.first_lsn..=run.last_lsn {
                    let gone = self.log.remove(&(*key, *generation, lsn));
                    self.used -= gone.map_or(0, |record| record.bytes.len() as u64 + ENTRY_BYTES);
                }
            }
        }
        let changed = self.directory.without(&expired);
        self.directory.publish_dropped(&expired, changed);
        expired.len()
    }

    pub(super) fn partitions(&self) -> Vec<PartitionKey> {
        let there = self
            .directory
            .partitions
            .iter()
            .filter(|(_, p)| p.position.head.is_some());
        there.map(|(key, _)| *key).collect()
    }

    pub(super) fn head(&self, key: PartitionKey) -> Option<Bytes> {
        self.directory.partitions.get(&key)?.position.head.clone()
    }

    pub(super) fn state(&self, key: PartitionKey) -> Arc<State> {
        self.states.get(&key).cloned().unwrap_or_default()
    }

    pub(super) fn scan(
        &self,
        key: PartitionKey,
        from: &[u8],
        until: &[u8],
        limit: usize,
    ) -> Vec<(Bytes, Bytes)> {
        let Some(state) = self.states.get(&key).filter(|_| from < until) else {
            return Vec::new();
        };
        let range = state.range::<[u8], _>((Bound::Included(from), Bound::Excluded(until)));
        range
            .take(limit)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// The readable records of a partition from `from` on.
    fn records(&self, key: PartitionKey, from: u64) -> impl Iterator<Item = &LogRecord> {
        let position = self.directory.partitions.get(&key).map(|p| &p.position);
        let range = position.filter(|p| p.last_lsn > 0).map(|p| {
            let from = from.max(p.first_lsn).min(p.last_lsn.saturating_add(1));
            self.log
                .range((key, p.generation, from)..(key, p.generation, p.last_lsn.saturating_add(1)))
        });
        range.into_iter().flatten().map(|(_, record)| record)
    }

    pub(super) fn read_log(
        &self,
        key: PartitionKey,
        from: Lsn,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError> {
        if self.directory.readable(key, from)?.is_none() {
            return Ok(Vec::new());
        }
        Ok(page(self.records(key, from.0), bytes_max))
    }

    pub(super) fn find_sequence(
        &self,
        key: PartitionKey,
        sequence: Sequence,
    ) -> Result<Option<Lsn>, StoreError> {
        if !self.directory.has_sequence(key, sequence)? {
            return Ok(None);
        }
        let holds = |record: &&LogRecord| {
            let first = record.first_sequence.0;
            first <= sequence.0 && sequence.0 - first < u64::from(record.event_count)
        };
        Ok(self.records(key, 0).find(holds).map(|record| record.lsn))
    }

    pub(super) fn find_time(&self, key: PartitionKey, time: UnixMillis) -> Option<Lsn> {
        self.records(key, 0)
            .find(|record| record.event_count > 0 && record.time >= time)
            .map(|record| record.lsn)
    }
}

/// As many records as fit, at least one.
pub(super) fn page<'a>(
    records: impl Iterator<Item = &'a LogRecord>,
    bytes_max: usize,
) -> Vec<LogRecord> {
    let mut bytes = 0;
    let mut page = Vec::new();
    for record in records {
        bytes += record.bytes.len();
        if !page.is_empty() && bytes > bytes_max {
            break;
        }
        page.push(record.clone());
    }
    page
}

/// Entries with keys behind `after`, in key order.
pub(super) fn entries_after<'a>(
    state: &'a State,
    after: Option<&[u8]>,
) -> impl Iterator<Item = (&'a Bytes, &'a Bytes)> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    state.range::<[u8], _>((from, Bound::Unbounded))
}
