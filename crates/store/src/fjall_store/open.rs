//! Opening a folder: lock, format, the engine's recovery with our checks around it, and the directory built from a few seeks.
//!
//! ```text
//! lock      held while the store is open            engine/    the fjall database
//! format    "castling-store 1\n"                    acked      highest acknowledged lsn per partition
//! salvage/  bytes cut from a torn journal           suspect    there while damage is being recorded
//! io-failed there after a failed write, until the journal was written anew
//! ```

use super::acked::{Acked, Slot};
use super::journal;
use super::read::{corrupt, failed};
use super::{Engine, Options};
use crate::StoreError;
use crate::directory::{Directory, Partition, Position, Run, Segment, SegmentId};
use crate::format::{self, LogKey, RECORD_TAG, SEQUENCE_TAG};
use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use types::PartitionKey;

const FORMAT: &str = "castling-store 1\n";
const FORMAT_FILE: &str = "format";
const ENGINE_FOLDER: &str = "engine";
/// A segment is complete before this many tables; more only appear where many small flushes were forced.
const SEGMENT_TABLES_MERGED_AT: u8 = 18;

pub(super) fn io_failed(doing: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Failed(format!("{doing} ({}): {error}", path.display()))
}

/// Creates the folder and takes its lock.
pub(super) fn lock_folder(path: &Path) -> Result<File, StoreError> {
    fs::create_dir_all(path).map_err(|e| io_failed("creating the folder", path, &e))?;
    let doing = "locking the folder";
    let open = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join("lock"));
    let lock = open.map_err(|e| io_failed(doing, path, &e))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::Failed(format!(
            "another castling is using this folder: {}",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(io_failed(doing, path, &error)),
    }
}

/// Opens the database of a locked folder and builds the directory.
pub(super) fn open_engine(
    path: &Path,
    options: &Options,
    opened: u64,
) -> Result<Engine, StoreError> {
    create_once(path, options)?;
    let engine_path = path.join(ENGINE_FOLDER);
    if path.join(IO_FAILED_FILE).exists() {
        journal::write_anew(&engine_path)?;
        remove_synced(path, IO_FAILED_FILE)?;
    }
    journal::check(&engine_path, path)?;
    let database = open_database(&engine_path, options)?;
    let heads = keyspace(&database, "heads", small(options))?;
    let state = keyspace(&database, "state", small(options))?;
    let mut directory = Directory::default();
    load_heads(&heads, &mut directory)?;
    load_segments(&database, &heads, &mut directory)?;
    directory.link();
    let mut acked = Acked::open(&path.join("acked"))?;
    record_suspicion(path, &directory, &mut acked)?;
    compare_with_acked(&mut directory, &acked);
    for partition in directory.partitions.values() {
        if let Some(why) = &partition.damaged {
            tracing::error!(%why, path = %path.display(), "a partition must not be served from this store");
        }
    }
    Ok(Engine {
        database,
        state,
        heads,
        directory: RwLock::new(directory),
        acked: Mutex::new(acked),
        opened,
    })
}

const IO_FAILED_FILE: &str = "io-failed";

/// Leaves a note for the next opening that the kernel may hold bytes it could not write (after a failed fsync the page cache
/// shows them as written).
pub(super) fn note_io_failed(path: &Path) {
    let noted = File::create(path.join(IO_FAILED_FILE)).and_then(|file| file.sync_all());
    if let Err(error) = noted {
        tracing::warn!(%error, path = %path.display(), "could not note that a write failed");
    }
}

/// Makes an empty database under another name first, so that a crash never leaves half of one.
fn create_once(path: &Path, options: &Options) -> Result<(), StoreError> {
    let engine_path = path.join(ENGINE_FOLDER);
    if engine_path.exists() {
        return check_format(path);
    }
    let doing = "creating the store";
    let fresh = path.join("engine.new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(|e| io_failed(doing, &fresh, &e))?;
    }
    drop(open_database(&fresh, options)?);
    write_synced(path, FORMAT_FILE, FORMAT.as_bytes())?;
    fs::rename(&fresh, &engine_path)
        .and_then(|()| sync_folder(path))
        .map_err(|e| io_failed(doing, path, &e))
}

fn check_format(path: &Path) -> Result<(), StoreError> {
    let file = path.join(FORMAT_FILE);
    let found = fs::read_to_string(&file)
        .map_err(|e| io_failed("reading the store's format", &file, &e))?;
    if found == FORMAT {
        return Ok(());
    }
    let (found, known) = (found.trim_end(), FORMAT.trim_end());
    Err(StoreError::Failed(format!(
        "{} is of format {found:?}; this build knows {known:?}",
        path.display()
    )))
}

fn open_database(path: &Path, options: &Options) -> Result<Database, StoreError> {
    let open = || {
        Database::builder(path)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.journal_bytes_max.max(64 << 20))
            // Records are opaque batches; what compresses them belongs above, where links profit as well.
            .journal_compression(CompressionType::None)
            .open()
    };
    // Some of the engine's checks on what it finds are assertions.
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(fjall::Error::Locked)) => Err(StoreError::Failed(format!(
            "another castling is using this folder: {}",
            path.display()
        ))),
        Ok(Err(error)) => Err(failed(
            &format!("opening the engine in {}", path.display()),
            &error,
        )),
        Err(_) => Err(StoreError::Failed(format!(
            "the engine cannot read its files in {}; keep them and refill",
            path.display()
        ))),
    }
}

fn keyspace(
    database: &Database,
    name: &str,
    options: KeyspaceCreateOptions,
) -> Result<Keyspace, StoreError> {
    database
        .keyspace(name, || options)
        .map_err(|e| failed(&format!("opening {name}"), &e))
}

fn small(options: &Options) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes.min(32 << 20))
}

pub(super) fn create_segment(
    database: &Database,
    id: SegmentId,
    options: &Options,
) -> Result<Keyspace, StoreError> {
    let log = KeyspaceCreateOptions::default()
        .max_memtable_size(options.memtable_bytes)
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
        .compaction_strategy(Arc::new(
            Leveled::default().with_l0_threshold(SEGMENT_TABLES_MERGED_AT),
        ));
    keyspace(database, &id.name(), log)
}

fn load_segments(
    database: &Database,
    heads: &Keyspace,
    directory: &mut Directory<Keyspace>,
) -> Result<(), StoreError> {
    let mut logs = Vec::new();
    for name in database.list_keyspace_names() {
        let name: &str = &name;
        if name == "heads" || name == "state" {
            continue;
        }
        let Some(id) = SegmentId::parse(name) else {
            return Err(StoreError::Failed(format!(
                "the store holds {name:?}, which this build does not know"
            )));
        };
        let log = keyspace(database, name, KeyspaceCreateOptions::default())?;
        logs.push((id, log));
    }
    let handles: Vec<_> = logs.iter().map(|(_, log)| log.clone()).collect();
    super::cut::finish_cuts(database, heads, &handles, directory)?;
    for (id, log) in logs {
        let segment = load_segment(log, directory)?;
        directory.add_segment(id, segment);
    }
    Ok(())
}

/// Finds the runs in a segment by seeking from partition to partition.
fn load_segment(
    log: Keyspace,
    directory: &mut Directory<Keyspace>,
) -> Result<Segment<Keyspace>, StoreError> {
    let mut segment = Segment::new(log.clone());
    segment.bytes = log.disk_space();
    let end = [RECORD_TAG + 1];
    let mut from = vec![RECORD_TAG];
    while let Some(guard) = log.range(&from[..]..&end[..]).next() {
        let key = guard
            .key()
            .map_err(|e| failed("listing a log segment", &e))?;
        let key = LogKey::decode(&key)
            .map_err(|why| StoreError::Failed(format!("listing {}: {why}", log.name())))?;
        let last = LogKey {
            position: u64::MAX,
            ..key
        };
        match load_run(&log, key) {
            Ok((run, begun)) => {
                segment.runs.insert((key.partition, key.generation), run);
                segment.begun = Some(segment.begun.map_or(begun, |known: i64| known.min(begun)));
            }
            Err(why @ StoreError::Corrupt { .. }) => mark_damaged(directory, key, why),
            Err(other) => return Err(other),
        }
        from = last.encode().to_vec();
        from.push(0);
    }
    Ok(segment)
}

/// First and last entries of a run, and the time at which it begins.
fn load_run(log: &Keyspace, first: LogKey) -> Result<(Run, i64), StoreError> {
    let run = |tag| {
        let key = LogKey { tag, ..first };
        log.range(
            LogKey { position: 0, ..key }.encode()..=LogKey {
                position: u64::MAX,
                ..key
            }
            .encode(),
        )
    };
    let at = |key: LogKey| move |why: &str| corrupt(key.partition, key.position, why);
    let record = |guard: fjall::Guard| {
        let (key, value) = guard
            .into_inner()
            .map_err(|e| super::read::unreadable(first.partition, first.position, &e))?;
        format::decode_record(&key, Bytes::from_owner(value))
            .map_err(at(first))
            .map(|record| (Run::of(&record), record.time.0))
    };
    let index = |guard: fjall::Guard| {
        let (key, value) = guard
            .into_inner()
            .map_err(|e| super::read::unreadable(first.partition, first.position, &e))?;
        format::decode_index(&key, &value)
            .map_err(at(first))
            .map(|entry| entry.time.0)
    };
    let missing = || {
        corrupt(
            first.partition,
            first.position,
            "a record is listed and not there",
        )
    };
    let (head, mut begun) = record(run(RECORD_TAG).next().ok_or_else(missing)?)?;
    let (tail, _) = record(run(RECORD_TAG).next_back().ok_or_else(missing)?)?;
    let mut joined = head.join(tail);
    if let Some(guard) = run(SEQUENCE_TAG).next() {
        begun = begun.max(index(guard)?);
    }
    if let Some(guard) = run(SEQUENCE_TAG).next_back() {
        let newest_event = index(guard)?;
        joined.event_time = Some(newest_event);
        joined.newest = joined.newest.max(newest_event);
    }
    Ok((joined, begun))
}

fn load_heads(heads: &Keyspace, directory: &mut Directory<Keyspace>) -> Result<(), StoreError> {
    for guard in heads.iter() {
        let (key, value) = guard
            .into_inner()
            .map_err(|e| failed("reading the heads", &e))?;
        let key_of = format::decode_head_key(&key)
            .map_err(|why| StoreError::Failed(format!("reading the heads: {why}")))?;
        let partition = directory.partitions.entry(key_of).or_default();
        match format::decode_head(&key, &value) {
            Ok(position) => partition.position = position,
            Err(why) => partition.damaged = Some(corrupt(key_of, 0, &format!("its head: {why}"))),
        }
    }
    Ok(())
}

/// Damage among entries that were cleared since harms nobody.
fn mark_damaged(directory: &mut Directory<Keyspace>, key: LogKey, why: StoreError) {
    let partition = directory
        .partitions
        .entry(key.partition)
        .or_insert_with(|| Partition {
            position: Position {
                generation: key.generation,
                ..Position::default()
            },
            ..Partition::default()
        });
    if partition.position.generation == key.generation {
        partition.damaged.get_or_insert(why);
    }
}

/// A log that ends before what was acknowledged has lost records: the engine cut them.
fn compare_with_acked(directory: &mut Directory<Keyspace>, acked: &Acked) {
    for (key, Slot { generation, lsn }) in acked.slots() {
        let partition = directory.partitions.entry(key).or_default();
        let position = &mut partition.position;
        let lost = generation > position.generation
            || (generation == position.generation && lsn > position.last_lsn);
        if !lost {
            continue;
        }
        let at = if generation == position.generation {
            position.last_lsn + 1
        } else {
            1
        };
        position.generation = position.generation.max(generation);
        let why = if lsn == u64::MAX {
            "its journal was damaged; bytes that were cut off are in the salvage folder".to_owned()
        } else {
            format!("records up to lsn {lsn} were acknowledged and are not there")
        };
        partition
            .damaged
            .get_or_insert_with(|| corrupt(key, at, &why));
    }
}

/// After damage inside the journal any partition may have lost something: notes it for each one, durably.
fn record_suspicion(
    path: &Path,
    directory: &Directory<Keyspace>,
    acked: &mut Acked,
) -> Result<(), StoreError> {
    if !path.join(journal::SUSPECT_FILE).exists() {
        return Ok(());
    }
    let slots: Vec<_> = acked
        .slots()
        .map(|(key, slot)| (key, slot.generation))
        .collect();
    let known = directory
        .partitions
        .iter()
        .map(|(key, partition)| (*key, partition.position.generation));
    let mut generations: BTreeMap<PartitionKey, u32> = BTreeMap::new();
    for (key, generation) in slots.into_iter().chain(known) {
        let entry = generations.entry(key).or_default();
        *entry = generation.max(*entry);
    }
    for (key, generation) in generations {
        acked
            .condemn(key, generation)
            .map_err(|e| io_failed("recording damage", path, &e))?;
    }
    remove_synced(path, journal::SUSPECT_FILE)
}

/// Writes a small file so that after a crash it is either not there or complete.
pub(super) fn write_synced(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = folder.join(format!("{name}.new"));
    let write = || {
        let mut file = File::create(&temporary)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, folder.join(name))?;
        sync_folder(folder)
    };
    write().map_err(|e| io_failed("writing a file", &folder.join(name), &e))
}

fn remove_synced(folder: &Path, name: &str) -> Result<(), StoreError> {
    let path = folder.join(name);
    fs::remove_file(&path)
        .and_then(|()| sync_folder(folder))
        .map_err(|e| io_failed("removing a file", &path, &e))
}

pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
