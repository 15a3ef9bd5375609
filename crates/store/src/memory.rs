//! A disk that is honest and in memory, for tests and simulation. Deterministic: no clock, no randomness, no hashing.
//!
//! A [`MemoryStore`] is a handle: clones share the disk, so a simulated region is restarted by [`MemoryStore::reopen`]. With
//! [`MemoryOptions::record_steps`] it gives back the disk as a power cut would have left it at any write or sync.

mod disk;

use crate::directory::Cut;
use crate::salvage;
use crate::{LogBounds, LogRecord, PartitionCommit, Salvage, Snapshot, Space, Store, StoreError};
use bytes::Bytes;
use disk::{Change, Image, SetAside};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{Epoch, Lsn, PartitionKey, Sequence, UnixMillis};

#[derive(Clone, Copy, Debug)]
pub struct MemoryOptions {
    /// Bytes the disk holds.
    pub capacity: u64,
    pub segment_bytes_max: u64,
    pub segment_age_divisor: u32,
    /// Keeps every change since the start, for [`MemoryStore::crash_images`]. Grows without bound: for short runs.
    pub record_steps: bool,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions {
            capacity: u64::MAX,
            segment_bytes_max: 1 << 30,
            segment_age_divisor: 16,
            record_steps: false,
        }
    }
}

/// What a commit answers instead of doing its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedFault {
    /// Refused, nothing changed.
    DiskFull,
    /// Answers [`StoreError::Failed`]; after [`Store::recover`] the commit is there.
    FailedApplied,
    /// Answers [`StoreError::Failed`]; after [`Store::recover`] the commit is not there.
    FailedLost,
}

/// A moment at which the power may be cut: so many steps were done. Each change is two steps, a write and a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrashPoint {
    pub steps_done: usize,
    /// Whether a write that was not synced happens to be on the disk.
    pub unsynced_kept: bool,
}

#[derive(Clone)]
pub struct MemoryStore {
    disk: Arc<Mutex<Disk>>,
}

struct Disk {
    image: Image,
    options: MemoryOptions,
    /// What was written when the store failed; comes to light by recovery.
    after_recovery: Option<Change>,
    failed: bool,
    commits: u64,
    faults: BTreeMap<u64, InjectedFault>,
    changes: Vec<Change>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore::new(MemoryOptions::default())
    }
}

impl MemoryStore {
    pub fn new(options: MemoryOptions) -> MemoryStore {
        MemoryStore::holding(Image::default(), options)
    }

    fn holding(image: Image, options: MemoryOptions) -> MemoryStore {
        let disk = Disk {
            image,
            options,
            after_recovery: None,
            failed: false,
            commits: 0,
            faults: BTreeMap::new(),
            changes: Vec::new(),
        };
        MemoryStore {
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    /// The same disk as a process that starts anew finds it: failures are over, retentions that were set are forgotten.
    pub fn reopen(&self) -> MemoryStore {
        let mut disk = self.disk.lock();
        disk.recover();
        disk.change(Change::Restart);
        drop(disk);
        self.clone()
    }

    /// Lets the `nth` commit from now (1 is the next one) that the contract allows go wrong.
    pub fn inject(&self, nth: u64, fault: InjectedFault) {
        let mut disk = self.disk.lock();
        let at = disk.commits + nth;
        disk.faults.insert(at, fault);
    }

    pub fn set_capacity(&self, capacity: u64) {
        self.disk.lock().options.capacity = capacity;
    }

    /// The disk as a power cut leaves it, for every moment since the start: before a write, after a write that was not synced
    /// (with and without it), after the sync. In order of time.
    pub fn crash_images(&self) -> Vec<(CrashPoint, MemoryStore)> {
        let disk = self.disk.lock();
        let options = disk.options;
        let mut image = Image::default();
        let mut images = Vec::new();
        let mut add = |steps_done, unsynced_kept, image: &Image| {
            let mut image = image.clone();
            image.directory.forget_retentions();
            let point = CrashPoint {
                steps_done,
                unsynced_kept,
            };
            images.push((
                point,
                MemoryStore::holding(
                    image,
                    MemoryOptions {
                        record_steps: false,
                        ..options
                    },
                ),
            ));
        };
        add(0, false, &image);
        let mut steps_done = 0;
        for change in &disk.changes {
            let before = image.clone();
            image.apply(change, cut(&options));
            if matches!(change, Change::Retention(..) | Change::Restart) {
                continue;
            }
            add(steps_done + 1, false, &before);
            add(steps_done + 1, true, &image);
            add(steps_done + 2, false, &image);
            steps_done += 2;
        }
        images
    }
}

fn cut(options: &MemoryOptions) -> Cut {
    Cut {
        bytes_max: options.segment_bytes_max,
        age_divisor: options.segment_age_divisor,
    }
}

impl Disk {
    fn change(&mut self, change: Change) -> usize {
        let done = self.image.apply(&change, cut(&self.options));
        if self.options.record_steps {
            self.changes.push(change);
        }
        done
    }

    fn recover(&mut self) {
        self.failed = false;
        if let Some(change) = self.after_recovery.take() {
            self.change(change);
        }
    }

    fn require_health(&self) -> Result<(), StoreError> {
        if self.failed {
            Err(StoreError::Failed(
                "an injected failure; the store must be recovered".into(),
            ))
        } else {
            Ok(())
        }
    }

    fn require_space(&self, need: u64) -> Result<(), StoreError> {
        let free = self.options.capacity.saturating_sub(self.image.used);
        if free < need {
            Err(StoreError::DiskFull { free, need })
        } else {
            Ok(())
        }
    }

    fn commit(&mut self, commits: Vec<(PartitionKey, PartitionCommit)>) -> Result<(), StoreError> {
        self.require_health()?;
        let plan = self.image.plan(&commits, cut(&self.options))?;
        self.commits += 1;
        let change = Change::Commit(commits);
        match self.faults.remove(&self.commits) {
            None => {
                self.require_space(plan.bytes)?;
                self.change(change);
                Ok(())
            }
            Some(InjectedFault::DiskFull) => Err(StoreError::DiskFull {
                free: 0,
                need: plan.bytes,
            }),
            Some(fault) => {
                self.failed = true;
                self.after_recovery = (fault == InjectedFault::FailedApplied).then_some(change);
                Err(StoreError::Failed("an injected failure".into()))
            }
        }
    }
}

impl Store for MemoryStore {
    fn commit(&self, commits: Vec<(PartitionKey, PartitionCommit)>) -> Result<(), StoreError> {
        self.disk.lock().commit(commits)
    }

    fn recover(&self) -> Result<(), StoreError> {
        self.disk.lock().recover();
        Ok(())
    }

    fn partitions(&self) -> Result<Vec<PartitionKey>, StoreError> {
        Ok(self.disk.lock().image.partitions())
    }

    fn head(&self, partition: PartitionKey) -> Result<Option<Bytes>, StoreError> {
        Ok(self.disk.lock().image.head(partition))
    }

    fn get(&self, partition: PartitionKey, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.disk.lock().image.state(partition).get(key).cloned())
    }

    fn scan(
        &self,
        partition: PartitionKey,
        from: &[u8],
        until: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        Ok(self.disk.lock().image.scan(partition, from, until, limit))
    }

    fn log_bounds(&self, partition: PartitionKey) -> Result<Option<LogBounds>, StoreError> {
        self.disk.lock().image.directory.bounds(partition)
    }

    fn read_log(
        &self,
        partition: PartitionKey,
        from: Lsn,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError> {
        self.disk.lock().image.read_log(partition, from, bytes_max)
    }

    fn find_sequence(
        &self,
        partition: PartitionKey,
        sequence: Sequence,
    ) -> Result<Option<Lsn>, StoreError> {
        self.disk.lock().image.find_sequence(partition, sequence)
    }

    fn find_time(
        &self,
        partition: PartitionKey,
        time: UnixMillis,
    ) -> Result<Option<Lsn>, StoreError> {
        Ok(self.disk.lock().image.find_time(partition, time))
    }

    fn set_retention(&self, partition: PartitionKey, days: u8) {
        self.disk.lock().change(Change::Retention(partition, days));
    }

    fn trim(&self, now: UnixMillis) -> Result<usize, StoreError> {
        let mut disk = self.disk.lock();
        disk.require_health()?;
        Ok(disk.change(Change::Trim(now)))
    }

    fn snapshot(&self, partition: PartitionKey) -> Result<Box<dyn Snapshot>, StoreError> {
        let disk = self.disk.lock();
        let head = disk.image.head(partition);
        Ok(Box::new(MemorySnapshot {
            head,
            state: disk.image.state(partition),
        }))
    }

    fn clear(&self, partition: PartitionKey) -> Result<(), StoreError> {
        let mut disk = self.disk.lock();
        disk.require_health()?;
        disk.change(Change::Clear(partition, None));
        Ok(())
    }

    fn clear_to(&self, partition: PartitionKey, head: Bytes) -> Result<(), StoreError> {
        let mut disk = self.disk.lock();
        disk.require_health()?;
        disk.change(Change::Clear(partition, Some(head)));
        Ok(())
    }

    fn set_aside(
        &self,
        partition: PartitionKey,
        after: Lsn,
        epoch: Epoch,
        made: UnixMillis,
    ) -> Result<Option<Salvage>, StoreError> {
        let mut disk = self.disk.lock();
        disk.require_health()?;
        let (salvage, records) = match disk.image.to_set_aside(partition, after, epoch, made)? {
            None => return Ok(None),
            Some(SetAside::Known(known)) => return Ok(Some(known)),
            Some(SetAside::New(salvage, records)) => (salvage, records),
        };
        disk.require_space(salvage.bytes)?;
        disk.change(Change::SetAside(salvage.clone(), Arc::new(records)));
        Ok(Some(salvage))
    }

    fn salvages(&self) -> Result<Vec<Salvage>, StoreError> {
        let disk = self.disk.lock();
        let all = disk.image.salvages.values().map(|(s, _)| s.clone());
        Ok(salvage::sorted(all.collect()))
    }

    fn read_salvage(
        &self,
        id: &str,
        from: Lsn,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError> {
        let disk = self.disk.lock();
        let kept = disk.image.salvages.get(id);
        let (_, records) = kept.ok_or_else(|| salvage::unknown(id))?;
        let rest = records.iter().filter(|record| record.lsn >= from);
        Ok(disk::page(rest, bytes_max))
    }

    fn discard_salvage(&self, id: &str) -> Result<bool, StoreError> {
        let mut disk = self.disk.lock();
        disk.require_health()?;
        let there = disk.image.salvages.contains_key(id);
        if there {
            disk.change(Change::Discard(id.to_owned()));
        }
        Ok(there)
    }

    fn space(&self) -> Result<Space, StoreError> {
        let disk = self.disk.lock();
        Ok(Space {
            free: disk.options.capacity.saturating_sub(disk.image.used),
            used: disk.image.used,
        })
    }
}

struct MemorySnapshot {
    head: Option<Bytes>,
    state: Arc<BTreeMap<Bytes, Bytes>>,
}

impl Snapshot for MemorySnapshot {
    fn head(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.head.clone())
    }

    fn state_page(
        &self,
        after: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let mut bytes = 0;
        let mut page = Vec::new();
        for (key, value) in disk::entries_after(&self.state, after) {
            bytes += key.len() + value.len();
            if !page.is_empty() && bytes > bytes_max {
                break;
            }
            page.push((key.clone(), value.clone()));
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{commit_of, partition, record};

    fn store(record_steps: bool) -> MemoryStore {
        MemoryStore::new(MemoryOptions {
            record_steps,
            ..MemoryOptions::default()
        })
    }

    fn write(store: &MemoryStore, lsn: u64) -> Result<(), StoreError> {
        store.commit(vec![(
            partition(1),
            commit_of(vec![record(lsn, lsn - 1, 1, 0)]),
        )])
    }

    fn last(store: &MemoryStore) -> u64 {
        store
            .log_bounds(partition(1))
            .unwrap()
            .map_or(0, |bounds| bounds.last_lsn.0)
    }

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_perhaps_the_write_that_was_not() {
        let store = store(true);
        store.set_retention(partition(1), 2);
        for lsn in 1..=3 {
            write(&store, lsn).unwrap();
        }
        store.clear(partition(1)).unwrap();
        let seen: Vec<_> = store
            .crash_images()
            .into_iter()
            .map(|(point, image)| (point.steps_done, point.unsynced_kept, last(&image)))
            .collect();
        let expected = [
            (0, false, 0),
            (1, false, 0),
            (1, true, 1),
            (2, false, 1),
            (3, false, 1),
            (3, true, 2),
            (4, false, 2),
            (5, false, 2),
            (5, true, 3),
            (6, false, 3),
            (7, false, 3),
            (7, true, 0),
            (8, false, 0),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_crash_image_goes_on_from_where_it_was_cut() {
        let store = store(true);
        write(&store, 1).unwrap();
        write(&store, 2).unwrap();
        for (_, image) in store.crash_images() {
            let next = last(&image) + 1;
            write(&image, next).unwrap();
            assert_eq!(last(&image), next);
        }
        assert_eq!(last(&store), 2, "images are disks of their own");
    }

    #[test]
    fn injected_failures_have_the_outcome_that_was_asked_for() {
        for (fault, after) in [
            (InjectedFault::FailedApplied, 2),
            (InjectedFault::FailedLost, 1),
        ] {
            let store = store(false);
            store.inject(2, fault);
            write(&store, 1).unwrap();
            assert!(
                matches!(write(&store, 2), Err(StoreError::Failed(_))),
                "{fault:?}"
            );
            assert!(
                matches!(write(&store, 3), Err(StoreError::Failed(_))),
                "failed until recovered"
            );
            assert!(matches!(
                store.trim(UnixMillis(0)),
                Err(StoreError::Failed(_))
            ));
            assert!(matches!(
                store.clear(partition(1)),
                Err(StoreError::Failed(_))
            ));
            store.recover().unwrap();
            assert_eq!(last(&store), after, "{fault:?}");
            write(&store, after + 1).unwrap();
        }
    }

    #[test]
    fn an_injected_full_disk_refuses_one_commit_and_changes_nothing() {
        let store = store(false);
        store.inject(1, InjectedFault::DiskFull);
        assert!(matches!(write(&store, 1), Err(StoreError::DiskFull { .. })));
        assert_eq!(last(&store), 0);
        write(&store, 1).unwrap();
    }

    #[test]
    fn a_full_disk_heals_when_space_returns() {
        let store = MemoryStore::new(MemoryOptions {
            capacity: 2000,
            ..MemoryOptions::default()
        });
        let full_at = (1..100).find(|lsn| write(&store, *lsn).is_err()).unwrap();
        assert!(full_at > 1);
        assert!(
            matches!(write(&store, full_at), Err(StoreError::DiskFull { need, free }) if need > free)
        );
        store.set_capacity(4000);
        write(&store, full_at).unwrap();
    }

    #[test]
    fn a_restart_shows_what_a_failed_commit_did_and_forgets_what_was_only_set() {
        let store = store(false);
        store.set_retention(partition(1), 9);
        assert!(matches!(write(&store, 1), Err(StoreError::Invalid(_))));
        let store = store.reopen();
        store.inject(1, InjectedFault::FailedApplied);
        assert!(write(&store, 1).is_err());
        let store = store.reopen();
        assert_eq!(last(&store), 1);
        write(&store, 2).unwrap();
    }
}
