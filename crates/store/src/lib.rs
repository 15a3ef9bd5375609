//! Where partitions live on disk: log and state together in one engine, one fsync per group commit for all of them.
//!
//! [`Store`] is narrow on purpose: a replicated log service can stand behind it later. [`FjallStore`] is the engine,
//! [`MemoryStore`] keeps a disk's honest behaviour in memory (what is there after a power cut at any write or sync) for
//! tests and simulation. Every implementation passes [`conformance`].

pub mod conformance;
mod directory;
pub mod error;
pub mod fjall_store;
mod format;
pub mod memory;
mod salvage;

pub use error::StoreError;
pub use fjall_store::{FaultPoint, Faults, FjallStore, Options};
pub use memory::{CrashPoint, InjectedFault, MemoryOptions, MemoryStore};

use bytes::Bytes;
use types::{Epoch, Lsn, PartitionKey, Sequence, UnixMillis};

/// One record of a partition's log. The store knows its position and keeps `bytes` opaque (replication owns that format,
/// with its own checksum); what else stands here is what look-ups need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub lsn: Lsn,
    /// Sequence number of the record's first event, or of the next event to come when it has none.
    pub first_sequence: Sequence,
    pub event_count: u32,
    /// Enqueued time of the record's last event; never decreases within a partition.
    pub time: UnixMillis,
    pub bytes: Bytes,
}

/// What one group commit does to one partition. All parts of a [`Store::commit`] become durable together or not at all.
#[derive(Clone, Debug, Default)]
pub struct PartitionCommit {
    /// Appended to the log; its lsn is the last one + 1 (or anything, for the first of a partition and the first after [`Store::clear`]).
    pub records: Vec<LogRecord>,
    /// State entries; `None` removes.
    pub state: Vec<(Bytes, Option<Bytes>)>,
    /// The partition's head (opaque here): position, epoch, digest. Replaces the former one.
    pub head: Option<Bytes>,
    /// Cuts the log: what comes after this record goes, and the next record is the one after it. Not below the record before
    /// the oldest kept one. Nothing is appended in the same commit; other partitions of the commit are not affected.
    pub truncate_after: Option<Lsn>,
}

/// Records of one partition that were set aside before its log was cut: they outlive [`Store::clear`] until discarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvage {
    /// `h1-p0-e3-120`: hub, partition, epoch, first lsn. A second one with the same of all gets a number behind it.
    pub id: String,
    pub at: PartitionKey,
    /// As the caller said: the epoch in which the last of the records was written.
    pub epoch: Epoch,
    pub first: Lsn,
    pub last: Lsn,
    pub records: u64,
    pub events: u64,
    /// Of the records' own bytes.
    pub bytes: u64,
    pub first_time: UnixMillis,
    pub last_time: UnixMillis,
    pub made: UnixMillis,
}

/// First and next positions of a partition's kept log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// Oldest record still readable.
    pub first_lsn: Lsn,
    pub first_sequence: Sequence,
    /// Newest record.
    pub last_lsn: Lsn,
}

/// A consistent look at one partition, for copying it to a new or lagging partner.
pub trait Snapshot: Send {
    fn head(&self) -> Result<Option<Bytes>, StoreError>;
    /// State entries after `after` in key order, about `bytes_max` of them, at least one if any is left.
    fn state_page(
        &self,
        after: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError>;
}

/// Durable storage of partitions. Calls block; they are made from a thread that may.
pub trait Store: Send + Sync + 'static {
    /// Makes all changes durable at once: returns only after they are on disk.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] and [`StoreError::Invalid`]: nothing was changed. [`StoreError::Failed`]: the outcome is
    /// unknown until [`Store::recover`] has succeeded and heads were read again.
    fn commit(&self, commits: Vec<(PartitionKey, PartitionCommit)>) -> Result<(), StoreError>;

    /// Reopens the engine after [`StoreError::Failed`]; a no-op when it is healthy.
    fn recover(&self) -> Result<(), StoreError>;

    /// All partitions that have a head.
    fn partitions(&self) -> Result<Vec<PartitionKey>, StoreError>;
    fn head(&self, partition: PartitionKey) -> Result<Option<Bytes>, StoreError>;
    fn get(&self, partition: PartitionKey, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    /// At most `limit` entries with `from <= key < until`, in key order.
    fn scan(
        &self,
        partition: PartitionKey,
        from: &[u8],
        until: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError>;

    /// `None` while the log is empty.
    fn log_bounds(&self, partition: PartitionKey) -> Result<Option<LogBounds>, StoreError>;
    /// Records from `from` on, about `bytes_max` of them, at least one if any is there. Empty at the end of the log.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] when `from` is older than what is kept; [`StoreError::Corrupt`] on a gap or bad checksum.
    fn read_log(
        &self,
        partition: PartitionKey,
        from: Lsn,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError>;
    /// The record that holds the event `sequence`: `None` when it is not written yet, [`StoreError::Trimmed`] when gone.
    fn find_sequence(
        &self,
        partition: PartitionKey,
        sequence: Sequence,
    ) -> Result<Option<Lsn>, StoreError>;
    /// The first kept record with events whose `time` is at or after `time`; `None` when there is none yet.
    fn find_time(
        &self,
        partition: PartitionKey,
        time: UnixMillis,
    ) -> Result<Option<Lsn>, StoreError>;

    /// How long records of this partition are kept; applies to records written from now on. 1–7 days.
    fn set_retention(&self, partition: PartitionKey, days: u8);
    /// Drops log segments whose every record is older than its retention. Rewrites nothing. Gives the number of segments dropped.
    fn trim(&self, now: UnixMillis) -> Result<usize, StoreError>;

    fn snapshot(&self, partition: PartitionKey) -> Result<Box<dyn Snapshot>, StoreError>;
    /// Empties a partition: state, head and log. Used before a copy is installed by ordinary commits, and when a hub is deleted.
    fn clear(&self, partition: PartitionKey) -> Result<(), StoreError>;
    /// As [`Store::clear`], and a head is there from the same moment on.
    fn clear_to(&self, partition: PartitionKey, head: Bytes) -> Result<(), StoreError>;

    /// Copies all records after `after` out of the partition's log, durably; `None` if there are none. Once is the same as
    /// twice: what was set aside already is given again.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] when the record after `after` is no longer kept, [`StoreError::DiskFull`], and as [`Store::read_log`].
    fn set_aside(
        &self,
        partition: PartitionKey,
        after: Lsn,
        epoch: Epoch,
        made: UnixMillis,
    ) -> Result<Option<Salvage>, StoreError>;
    /// All that was set aside and not discarded, by partition and first record.
    fn salvages(&self) -> Result<Vec<Salvage>, StoreError>;
    /// Records of a salvage from `from` on, about `bytes_max` of them, at least one if any is there. Empty at its end.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when there is no such salvage, [`StoreError::Corrupt`] when its bytes changed.
    fn read_salvage(
        &self,
        id: &str,
        from: Lsn,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError>;
    /// Removes a salvage for ever; false if there was none of this name.
    fn discard_salvage(&self, id: &str) -> Result<bool, StoreError>;

    /// Bytes free for this store and bytes it uses.
    fn space(&self) -> Result<Space, StoreError>;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    pub free: u64,
    pub used: u64,
}
