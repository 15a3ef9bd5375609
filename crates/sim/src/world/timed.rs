//! A region's disk in time: a commit takes as long as the world says, on the monotonic clock that the engine reads.
//!
//! An engine's turn takes no true time by itself; what it decides before its commit and what it gives out after it are as far
//! apart as the commit takes, also when the process is paused in the middle of it.

use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard};
use store::{
    InjectedFault, LogBounds, LogRecord, MemoryStore, PartitionCommit, Salvage, Snapshot, Space,
    Store, StoreError,
};
use types::{Epoch, Lsn, PartitionKey, Sequence, UnixMillis};

/// The clock of the turn that is under way.
#[derive(Clone, Default)]
pub struct TurnTime(Arc<Mutex<Turn>>);

#[derive(Default)]
struct Turn {
    now: u64,
    spent: u64,
    commit_ms: u64,
    /// The process is paused in the n-th commit from now, for so long.
    pause: Option<(u64, u64)>,
    paused: bool,
    /// The n-th commit from now fails so.
    failure: Option<(u64, InjectedFault)>,
}

impl TurnTime {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.0.lock().expect("nobody panics while holding it")
    }

    /// A turn begins at `now`; each of its commits takes `commit_ms`.
    pub fn begin(&self, now: u64, commit_ms: i64) {
        let mut turn = self.turn();
        turn.now = now;
        turn.spent = 0;
        turn.commit_ms = commit_ms.max(0) as u64;
        turn.paused = false;
    }

    pub fn now(&self) -> u64 {
        self.turn().now
    }

    /// How long the turn's commits took, and whether the process was paused in one.
    pub fn spent(&self) -> (i64, bool) {
        let turn = self.turn();
        (turn.spent as i64, turn.paused)
    }

    pub fn pause_at(&self, nth: u64, ms: i64) {
        self.turn().pause = Some((nth.max(1), ms.max(0) as u64));
    }

    /// A pause that has not come yet does not come any more.
    pub fn forget_pause(&self) {
        self.turn().pause = None;
    }

    /// Lets the n-th commit from now fail.
    pub fn fail_at(&self, nth: u64, how: InjectedFault) {
        self.turn().failure = Some((nth.max(1), how));
    }

    /// A failure that has not come yet does not come any more.
    pub fn forget_failure(&self) {
        self.turn().failure = None;
    }

    /// How the commit that is about to be made fails, if it does.
    fn failure(&self) -> Option<InjectedFault> {
        let mut turn = self.turn();
        match turn.failure.take() {
            Some((1, how)) => Some(how),
            Some((nth, how)) => {
                turn.failure = Some((nth - 1, how));
                None
            }
            None => None,
        }
    }

    fn commit(&self) {
        let mut turn = self.turn();
        let mut takes = turn.commit_ms;
        match turn.pause.take() {
            Some((1, ms)) => {
                takes += ms;
                turn.paused = true;
            }
            Some((nth, ms)) => turn.pause = Some((nth - 1, ms)),
            None => {}
        }
        turn.now += takes;
        turn.spent += takes;
    }
}

/// A [`MemoryStore`] whose commits take time.
pub struct TimedStore {
    pub disk: MemoryStore,
    pub time: TurnTime,
}

impl Store for TimedStore {
    fn commit(&self, commits: Vec<(PartitionKey, PartitionCommit)>) -> Result<(), StoreError> {
        if let Some(how) = self.time.failure() {
            self.disk.inject(1, how);
        }
        let done = self.disk.commit(commits);
        self.time.commit();
        done
    }

    fn recover(&self) -> Result<(), StoreError> {
        self.disk.recover()
    }

    fn partitions(&self) -> Result<Vec<PartitionKey>, StoreError> {
        self.disk.partitions()
    }

    fn head(&self, partition: PartitionKey) -> Result<Option<Bytes>, StoreError> {
        self.disk.head(partition)
    }

    fn get(&self, partition: PartitionKey, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.disk.get(partition, key)
    }

    fn scan(
        &self,
        partition: PartitionKey,
        from: &[u8],
        until: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.disk.scan(partition, from, until, limit)
    }

    fn log_bounds(&self, partition: PartitionKey) -> Result<Option<LogBounds>, StoreError> {
        self.disk.log_bounds(partition)
    }

    fn read_log(
        &self,
        partition: PartitionKey,
        from: Lsn,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError> {
        self.disk.read_log(partition, from, bytes_max)
    }

    fn find_sequence(
        &self,
        partition: PartitionKey,
        sequence: Sequence,
    ) -> Result<Option<Lsn>, StoreError> {
        self.disk.find_sequence(partition, sequence)
    }

    fn find_time(
        &self,
        partition: PartitionKey,
        time: UnixMillis,
    ) -> Result<Option<Lsn>, StoreError> {
        self.disk.find_time(partition, time)
    }

    fn set_retention(&self, partition: PartitionKey, days: u8) {
        self.disk.set_retention(partition, days);
    }

    fn trim(&self, now: UnixMillis) -> Result<usize, StoreError> {
        self.disk.trim(now)
    }

    fn snapshot(&self, partition: PartitionKey) -> Result<Box<dyn Snapshot>, StoreError> {
        self.disk.snapshot(partition)
    }

    fn clear(&self, partition: PartitionKey) -> Result<(), StoreError> {
        self.disk.clear(partition)
    }

    fn clear_to(&self, partition: PartitionKey, head: Bytes) -> Result<(), StoreError> {
        self.disk.clear_to(partition, head)
    }

    fn set_aside(
        &self,
        partition: PartitionKey,
        after: Lsn,
        epoch: Epoch,
        made: UnixMillis,
    ) -> Result<Option<Salvage>, StoreError> {
        self.disk.set_aside(partition, after, epoch, made)
    }

    fn salvages(&self) -> Result<Vec<Salvage>, StoreError> {
        self.disk.salvages()
    }

    fn read_salvage(
        &self,
        id: &str,
        from: Lsn,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError> {
        self.disk.read_salvage(id, from, bytes_max)
    }

    fn discard_salvage(&self, id: &str) -> Result<bool, StoreError> {
        self.disk.discard_salvage(id)
    }

    fn space(&self) -> Result<Space, StoreError> {
        self.disk.space()
    }
}
