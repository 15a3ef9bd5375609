//! The engine: one fjall database per region process, one fsync per commit for all partitions in it.
//!
//! Layout, formats and what a reader may rely on: docs/formats/store.md. The parts: `open` (folder, lock, recovery), `journal`
//! (what the engine's own recovery would cut silently), `acked` (the highest lsn per partition that was acknowledged), `write`,
//! `read`, `space`.

mod acked;
mod aside;
mod cut;
mod journal;
mod open;
mod read;
mod space;
mod write;

use crate::directory::{Cut, Directory};
use crate::{LogBounds, LogRecord, PartitionCommit, Salvage, Snapshot, Space, Store, StoreError};
use acked::Acked;
use aside::Aside;
use bytes::Bytes;
use fjall::{Database, Keyspace};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use types::{Epoch, Lsn, PartitionKey, Sequence, UnixMillis, limits};

/// Where a test may make the engine fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPoint {
    /// Before the free space of the disk is compared with what a commit needs.
    FreeSpace,
    /// Before a log segment is created.
    SegmentCreate,
    /// Before a batch is written: nothing of it will be there.
    BeforeWrite,
    /// After a batch is durable: all of it will be there.
    AfterWrite,
    /// Before the engine is reopened by [`Store::recover`].
    Reopen,
    /// Before records that were set aside become a salvage.
    BeforeSetAside,
    /// After they did.
    AfterSetAside,
    /// Before a page of what is behind a cut is removed.
    Cutting,
}

/// Decides whether the engine fails at a point: `DiskFull` and `Invalid` are refusals (not at `AfterWrite`), anything else a failure.
pub type Faults = Arc<dyn Fn(FaultPoint) -> Option<StoreError> + Send + Sync>;

#[derive(Clone)]
pub struct Options {
    /// Bytes kept free on the disk: commits are refused below, clearing and trimming go on.
    pub disk_reserve: u64,
    /// Blocks kept in memory for reads.
    pub cache_bytes: u64,
    /// A log segment takes no further commit once it holds this many bytes.
    pub segment_bytes_max: u64,
    /// A log segment takes no further commit once it is older than its retention divided by this.
    pub segment_age_divisor: u32,
    /// Writes held in memory per keyspace before they become a table file.
    pub memtable_bytes: u64,
    /// Journal bytes on disk before slow keyspaces are flushed to free them. At least 64 MiB.
    pub journal_bytes_max: u64,
    /// Longest wait for the engine's background work before a commit fails.
    pub stall_max: Duration,
    /// Makes the engine fail where a test wants it to.
    pub faults: Option<Faults>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            disk_reserve: limits::DISK_RESERVE_BYTES,
            cache_bytes: 64 << 20,
            // 15 memtables: a segment is complete before its tables would have to be merged.
            segment_bytes_max: 15 * (64 << 20),
            segment_age_divisor: 16,
            memtable_bytes: 64 << 20,
            // All of it is read when the store opens.
            journal_bytes_max: 128 << 20,
            stall_max: Duration::from_secs(30),
            faults: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("disk_reserve", &self.disk_reserve)
            .field("cache_bytes", &self.cache_bytes)
            .field("segment_bytes_max", &self.segment_bytes_max)
            .field("segment_age_divisor", &self.segment_age_divisor)
            .field("memtable_bytes", &self.memtable_bytes)
            .field("journal_bytes_max", &self.journal_bytes_max)
            .field("stall_max", &self.stall_max)
            .finish_non_exhaustive()
    }
}

impl Options {
    fn cut(&self) -> Cut {
        Cut {
            bytes_max: self.segment_bytes_max,
            age_divisor: self.segment_age_divisor,
        }
    }

    fn fault(&self, point: FaultPoint) -> Result<(), StoreError> {
        match self.faults.as_ref().and_then(|faults| faults(point)) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Partitions in a folder of a local disk.
pub struct FjallStore {
    shared: Arc<Shared>,
    options: Options,
    writer: Mutex<Writer>,
    /// What was set since the store was opened; outlives a failed engine.
    retention: RwLock<BTreeMap<PartitionKey, u8>>,
    aside: Mutex<Aside>,
}

/// What snapshots reach, too. The engine is dropped before the lock on the folder.
struct Shared {
    engine: RwLock<Option<Engine>>,
    path: PathBuf,
    _lock: File,
}

/// The opened database and what is known of its content.
struct Engine {
    database: Database,
    state: Keyspace,
    heads: Keyspace,
    directory: RwLock<Directory<Keyspace>>,
    acked: Mutex<Acked>,
    /// Counts openings: a snapshot belongs to one.
    opened: u64,
}

/// What only one writing call at a time may touch.
struct Writer {
    free_space: space::FreeSpace,
    /// Why the engine failed; set until it was recovered.
    failed: Option<String>,
    opened: u64,
}

impl FjallStore {
    /// Opens the store in a folder, creating it if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when another process uses the folder, when its format is not known, or when the disk or the
    /// engine fails. Damage that touches partitions only shows when those are used ([`StoreError::Corrupt`]).
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<FjallStore, StoreError> {
        let path = path.as_ref().to_path_buf();
        let lock = open::lock_folder(&path)?;
        let engine = open::open_engine(&path, &options, 1)?;
        let shared = Shared {
            engine: RwLock::new(Some(engine)),
            path: path.clone(),
            _lock: lock,
        };
        let writer = Writer {
            free_space: space::FreeSpace::new(path),
            failed: None,
            opened: 1,
        };
        let store = FjallStore {
            aside: Mutex::new(Aside::open(&shared.path)?),
            shared: Arc::new(shared),
            options,
            writer: Mutex::new(writer),
            retention: RwLock::default(),
        };
        store.finish_clearing()?;
        Ok(store)
    }

    /// Runs a read on the opened engine.
    fn with_engine<T>(
        &self,
        read: impl FnOnce(&Engine) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.shared.engine.read().as_ref() {
            Some(engine) => read(engine),
            None => Err(StoreError::Failed(
                "the engine is closed after a failure; it must be recovered".into(),
            )),
        }
    }
}

impl Store for FjallStore {
    fn commit(&self, commits: Vec<(PartitionKey, PartitionCommit)>) -> Result<(), StoreError> {
        self.write(|store, engine, writer| store.commit_on(engine, writer, &commits))
    }

    fn recover(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        if writer.failed.is_none() {
            return Ok(());
        }
        {
            let mut engine = self.shared.engine.write();
            // Closed first: two openings would exclude each other.
            *engine = None;
            self.options.fault(FaultPoint::Reopen)?;
            writer.opened += 1;
            let opened = open::open_engine(&self.shared.path, &self.options, writer.opened)?;
            for (partition, days) in self.retention.read().iter() {
                opened.directory.write().set_retention(*partition, *days);
            }
            *engine = Some(opened);
        }
        tracing::info!(path = %self.shared.path.display(), "the store was reopened after a failure");
        writer.failed = None;
        drop(writer);
        self.finish_clearing()
    }

    fn partitions(&self) -> Result<Vec<PartitionKey>, StoreError> {
        self.with_engine(|engine| Ok(engine.partitions()))
    }

    fn head(&self, partition: PartitionKey) -> Result<Option<Bytes>, StoreError> {
        self.with_engine(|engine| engine.head(partition))
    }

    fn get(&self, partition: PartitionKey, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.with_engine(|engine| engine.get(partition, key))
    }

    fn scan(
        &self,
        partition: PartitionKey,
        from: &[u8],
        until: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.with_engine(|engine| engine.scan(partition, from, until, limit))
    }

    fn log_bounds(&self, partition: PartitionKey) -> Result<Option<LogBounds>, StoreError> {
        self.with_engine(|engine| engine.directory.read().bounds(partition))
    }

    fn read_log(
        &self,
        partition: PartitionKey,
        from: Lsn,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError> {
        self.with_engine(|engine| engine.read_log(partition, from, bytes_max))
    }

    fn find_sequence(
        &self,
        partition: PartitionKey,
        sequence: Sequence,
    ) -> Result<Option<Lsn>, StoreError> {
        self.with_engine(|engine| engine.find_sequence(partition, sequence))
    }

    fn find_time(
        &self,
        partition: PartitionKey,
        time: UnixMillis,
    ) -> Result<Option<Lsn>, StoreError> {
        self.with_engine(|engine| engine.find_time(partition, time))
    }

    fn set_retention(&self, partition: PartitionKey, days: u8) {
        self.retention.write().insert(partition, days);
        if let Some(engine) = self.shared.engine.read().as_ref() {
            engine.directory.write().set_retention(partition, days);
        }
    }

    fn trim(&self, now: UnixMillis) -> Result<usize, StoreError> {
        self.write(|store, engine, _| store.trim_on(engine, now))
    }

    fn snapshot(&self, partition: PartitionKey) -> Result<Box<dyn Snapshot>, StoreError> {
        let shared = Arc::downgrade(&self.shared);
        self.with_engine(|engine| read::EngineSnapshot::take(engine, shared, partition))
    }

    fn clear(&self, partition: PartitionKey) -> Result<(), StoreError> {
        if self.write(|store, engine, _| store.begin_clearing(engine, partition, None))? {
            self.remove_state(partition)?;
        }
        Ok(())
    }

    fn clear_to(&self, partition: PartitionKey, head: Bytes) -> Result<(), StoreError> {
        let kept = Some(head.clone());
        if self.write(|store, engine, _| store.begin_clearing(engine, partition, kept))? {
            return self.remove_state(partition);
        }
        let commit = PartitionCommit {
            head: Some(head),
            ..PartitionCommit::default()
        };
        self.commit(vec![(partition, commit)])
    }

    fn set_aside(
        &self,
        partition: PartitionKey,
        after: Lsn,
        epoch: Epoch,
        made: UnixMillis,
    ) -> Result<Option<Salvage>, StoreError> {
        self.write(|store, engine, writer| {
            store.set_aside_on(engine, writer, (partition, after), epoch, made)
        })
    }

    fn salvages(&self) -> Result<Vec<Salvage>, StoreError> {
        Ok(self.aside.lock().list())
    }

    fn read_salvage(
        &self,
        id: &str,
        from: Lsn,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError> {
        self.aside.lock().read(id, from, bytes_max)
    }

    fn discard_salvage(&self, id: &str) -> Result<bool, StoreError> {
        self.aside.lock().discard(id)
    }

    fn space(&self) -> Result<Space, StoreError> {
        let free = space::free_bytes(&self.shared.path)?;
        self.with_engine(|engine| {
            let used = engine
                .database
                .disk_space()
                .map_err(|e| read::failed("measuring the space used", &e))?;
            let used = used + self.aside.lock().bytes();
            Ok(Space { free, used })
        })
    }
}
