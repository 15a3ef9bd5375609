//! The member's folder: three keyspaces of one fjall database, every change on disk before it is answered
//! (docs/formats/consensus.md).

use crate::command::{Entry, LogId, SnapshotMeta, StorageError, StoredMembership, Vote};
use crate::error::ConsensusError;
use crate::seal::{self, Kind, StorageKey};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use openraft::{AnyError, StorageIOError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Raised when stored bytes change their meaning.
const FORMAT: &str = "1";
const MEMTABLE_BYTES: u64 = 4 << 20;
const CACHE_BYTES: u64 = 8 << 20;
const JOURNAL_BYTES: u64 = 64 << 20;

const KEY_FORMAT: &str = "format";
const KEY_VOTE: &str = "vote";
const KEY_COMMITTED: &str = "committed";
const KEY_PURGED: &str = "purged";
const KEY_CAUGHT_UP: &str = "caught_up";
const KEY_SEAL: &str = "seal";
const KEY_SNAPSHOT_META: &str = "meta";
const KEY_SNAPSHOT_DATA: &str = "data";

/// The open folder; clones share it, and it closes with the last of them.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Inner>);

// Fields drop in order: the database first, then the sender that tells it is closed.
struct Inner {
    database: Database,
    log: Keyspace,
    meta: Keyspace,
    snapshot: Keyspace,
    /// Seals entries and snapshots.
    key: Option<StorageKey>,
    _closed: oneshot::Sender<()>,
}

/// A stored snapshot of the machine.
pub(crate) struct StoredSnapshot {
    pub meta: SnapshotMeta,
    pub data: Vec<u8>,
}

fn storage(error: impl std::fmt::Display) -> ConsensusError {
    ConsensusError::Storage(error.to_string())
}

/// What the library is told: a failure of storage stops the member.
pub(crate) fn fatal(error: ConsensusError) -> StorageError {
    StorageIOError::write(AnyError::new(&error)).into()
}

/// Runs disk work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ConsensusError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(fatal),
        Err(stopped) => Err(fatal(storage(stopped))),
    }
}

impl Disk {
    /// Opens or makes the folder and checks that the log has no hole. The receiver ends when the folder is closed.
    pub fn open(
        folder: &Path,
        key: Option<StorageKey>,
    ) -> Result<(Disk, oneshot::Receiver<()>), ConsensusError> {
        std::fs::create_dir_all(folder).map_err(storage)?;
        let database = Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .open()
            .map_err(storage)?;
        let keyspace = |name: &str| {
            database
                .keyspace(name, || {
                    KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)
                })
                .map_err(storage)
        };
        let (log, meta, snapshot) = (keyspace("log")?, keyspace("meta")?, keyspace("snapshot")?);
        let (closing, closed) = oneshot::channel();
        let disk = Disk(Arc::new(Inner {
            database,
            log,
            meta,
            snapshot,
            key,
            _closed: closing,
        }));
        disk.check_format()?;
        disk.check_key()?;
        disk.check_log()?;
        Ok((disk, closed))
    }

    fn check_format(&self) -> Result<(), ConsensusError> {
        match self.0.meta.get(KEY_FORMAT).map_err(storage)? {
            Some(found) if &*found == FORMAT.as_bytes() => Ok(()),
            Some(found) => Err(ConsensusError::Format {
                found: String::from_utf8_lossy(&found).into_owned(),
            }),
            None if self.first_index()?.is_some() => Err(ConsensusError::Corrupt(
                "there is a log but no format".into(),
            )),
            None => self.commit(|batch| batch.insert(&self.0.meta, KEY_FORMAT, FORMAT)),
        }
    }

    /// Once a key was given, only that key will do: the first start with one leaves a mark that opens with no other.
    fn check_key(&self) -> Result<(), ConsensusError> {
        let key = self.0.key.as_ref();
        let mark = self.0.meta.get(KEY_SEAL).map_err(storage)?;
        match (mark, key) {
            (None, None) => Ok(()),
            (Some(_), None) => Err(ConsensusError::Key(
                "it is sealed, and no storage key was given".into(),
            )),
            (Some(mark), Some(_)) => match seal::open(key, Kind::Check, &mark) {
                Ok(_) => Ok(()),
                Err(_) => Err(ConsensusError::Key(
                    "it is sealed with another storage key than the one given".into(),
                )),
            },
            (None, Some(key)) => {
                let mark = key.seal(Kind::Check, b"castling")?;
                self.commit(|batch| batch.insert(&self.0.meta, KEY_SEAL, mark))
            }
        }
    }

    fn entry(&self, guard: fjall::Guard) -> Result<Entry, ConsensusError> {
        let (index, bytes) = guard.into_inner().map_err(storage)?;
        let kind = Kind::Entry(read_index(&index)?);
        let bytes = seal::open(self.0.key.as_ref(), kind, &bytes)?;
        from_json("log entry", &bytes)
    }

    /// An entry as it is stored: its key, and its sealed bytes.
    fn stored(&self, entry: &Entry) -> Result<([u8; 8], Vec<u8>), ConsensusError> {
        let index = entry.log_id.index;
        let bytes = seal::seal(self.0.key.as_ref(), Kind::Entry(index), to_json(entry))?;
        Ok((index.to_be_bytes(), bytes))
    }

    /// The engine cuts off a damaged journal without a word, so the log is walked once: it must go without a hole from what
    /// was purged to what was known to be committed.
    fn check_log(&self) -> Result<(), ConsensusError> {
        let corrupt = |why: String| Err(ConsensusError::Corrupt(why));
        let purged = self.purged()?.map(|id| id.index);
        let mut expected = purged.map_or(0, |index| index + 1);
        for guard in self.0.log.iter() {
            let index = read_index(&guard.key().map_err(storage)?)?;
            if index != expected {
                return corrupt(format!(
                    "log entry {expected} is missing, the next one is {index}"
                ));
            }
            expected += 1;
        }
        let snapshot = self
            .snapshot()?
            .and_then(|s| s.meta.last_log_id)
            .map_or(0, |id| id.index + 1);
        let committed = self.committed()?.map_or(0, |id| id.index + 1);
        if committed > expected.max(snapshot) {
            return corrupt(format!(
                "the log ends before entry {}, which was committed",
                committed - 1
            ));
        }
        if purged.is_some_and(|index| index >= snapshot) {
            return corrupt(
                "the log was cut at its start but the snapshot that replaces it is missing".into(),
            );
        }
        Ok(())
    }

    fn commit(&self, change: impl FnOnce(&mut OwnedWriteBatch)) -> Result<(), ConsensusError> {
        let mut batch = self
            .0
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        change(&mut batch);
        batch.commit().map_err(storage)
    }

    fn get<V: DeserializeOwned>(&self, key: &str) -> Result<Option<V>, ConsensusError> {
        self.0
            .meta
            .get(key)
            .map_err(storage)?
            .map(|bytes| from_json(key, &bytes))
            .transpose()
    }

    pub fn vote(&self) -> Result<Option<Vote>, ConsensusError> {
        self.get(KEY_VOTE)
    }

    pub fn save_vote(&self, vote: &Vote) -> Result<(), ConsensusError> {
        let bytes = to_json(vote);
        self.commit(|batch| batch.insert(&self.0.meta, KEY_VOTE, bytes))
    }

    pub fn committed(&self) -> Result<Option<LogId>, ConsensusError> {
        Ok(self.get::<Option<LogId>>(KEY_COMMITTED)?.flatten())
    }

    /// A hint that lets a restart apply more at once; it need not be on disk.
    pub fn save_committed(&self, committed: Option<LogId>) -> Result<(), ConsensusError> {
        self.0
            .meta
            .insert(KEY_COMMITTED, to_json(&committed))
            .map_err(storage)
    }

    pub fn purged(&self) -> Result<Option<LogId>, ConsensusError> {
        self.get(KEY_PURGED)
    }

    /// False until this folder's log has once held everything its cluster had committed.
    pub fn is_caught_up(&self) -> Result<bool, ConsensusError> {
        Ok(self.get(KEY_CAUGHT_UP)?.unwrap_or(false))
    }

    pub fn save_caught_up(&self) -> Result<(), ConsensusError> {
        let bytes = to_json(&true);
        self.commit(|batch| batch.insert(&self.0.meta, KEY_CAUGHT_UP, bytes))
    }

    fn first_index(&self) -> Result<Option<u64>, ConsensusError> {
        self.0
            .log
            .first_key_value()
            .map(|guard| read_index(&guard.key().map_err(storage)?))
            .transpose()
    }

    pub fn last_entry(&self) -> Result<Option<Entry>, ConsensusError> {
        let last = self.0.log.last_key_value();
        last.map(|guard| self.entry(guard)).transpose()
    }

    pub fn last_log_id(&self) -> Result<Option<LogId>, ConsensusError> {
        Ok(self
            .last_entry()?
            .map(|entry| entry.log_id)
            .or(self.purged()?))
    }

    pub fn entries(&self, range: impl RangeBounds<u64>) -> Result<Vec<Entry>, ConsensusError> {
        let key = |bound: Bound<&u64>| bound.map(|index| index.to_be_bytes());
        self.0
            .log
            .range((key(range.start_bound()), key(range.end_bound())))
            .map(|guard| self.entry(guard))
            .collect()
    }

    pub fn append(&self, entries: Vec<Entry>) -> Result<(), ConsensusError> {
        let stored: Vec<_> = entries
            .iter()
            .map(|entry| self.stored(entry))
            .collect::<Result<_, _>>()?;
        self.commit(|batch| {
            for (index, bytes) in stored {
                batch.insert(&self.0.log, index, bytes);
            }
        })
    }

    /// Removes the entries from `index` on.
    pub fn truncate(&self, index: u64) -> Result<(), ConsensusError> {
        let keys = self.keys(index..)?;
        self.commit(|batch| {
            keys.into_iter()
                .for_each(|key| batch.remove(&self.0.log, key))
        })
    }

    /// Removes the entries up to and with `until`, and notes it.
    pub fn purge(&self, until: LogId) -> Result<(), ConsensusError> {
        let keys = self.keys(..=until.index)?;
        let bytes = to_json(&until);
        self.commit(|batch| {
            batch.insert(&self.0.meta, KEY_PURGED, bytes);
            keys.into_iter()
                .for_each(|key| batch.remove(&self.0.log, key));
        })
    }

    fn keys(&self, range: impl RangeBounds<u64>) -> Result<Vec<[u8; 8]>, ConsensusError> {
        let key = |bound: Bound<&u64>| bound.map(|index| index.to_be_bytes());
        self.0
            .log
            .range((key(range.start_bound()), key(range.end_bound())))
            .map(|guard| read_index(&guard.key().map_err(storage)?).map(u64::to_be_bytes))
            .collect()
    }

    pub fn snapshot(&self) -> Result<Option<StoredSnapshot>, ConsensusError> {
        let Some(meta) = self.0.snapshot.get(KEY_SNAPSHOT_META).map_err(storage)? else {
            return Ok(None);
        };
        let data = self.0.snapshot.get(KEY_SNAPSHOT_DATA).map_err(storage)?;
        let data =
            data.ok_or_else(|| ConsensusError::Corrupt("the snapshot's data is missing".into()))?;
        Ok(Some(StoredSnapshot {
            meta: from_json("snapshot", &meta)?,
            data: seal::open(self.0.key.as_ref(), Kind::Snapshot, &data)?,
        }))
    }

    pub fn save_snapshot(&self, meta: &SnapshotMeta, data: &[u8]) -> Result<(), ConsensusError> {
        let meta = to_json(meta);
        let data = seal::seal(self.0.key.as_ref(), Kind::Snapshot, data.to_vec())?;
        self.commit(|batch| {
            batch.insert(&self.0.snapshot, KEY_SNAPSHOT_META, meta);
            batch.insert(&self.0.snapshot, KEY_SNAPSHOT_DATA, data);
        })
    }

    /// Replaces who votes by what `entry` (a membership) says: for a cluster that lost its majority for good.
    pub fn rewrite(&self, entry: &Entry, vote: &Vote) -> Result<(), ConsensusError> {
        let (index, bytes) = self.stored(entry)?;
        self.commit(|batch| {
            batch.insert(&self.0.log, index, bytes);
            batch.insert(&self.0.meta, KEY_VOTE, to_json(vote));
            batch.insert(&self.0.meta, KEY_CAUGHT_UP, to_json(&true));
        })
    }

    /// The membership that counts: the newest in the log, else the snapshot's.
    pub fn membership(&self) -> Result<StoredMembership, ConsensusError> {
        for entry in self.entries(..)?.into_iter().rev() {
            if let openraft::EntryPayload::Membership(membership) = entry.payload {
                return Ok(StoredMembership::new(Some(entry.log_id), membership));
            }
        }
        Ok(self
            .snapshot()?
            .map(|s| s.meta.last_membership)
            .unwrap_or_default())
    }
}

fn read_index(key: &[u8]) -> Result<u64, ConsensusError> {
    let bytes = key
        .try_into()
        .map_err(|_| ConsensusError::Corrupt("a log key is not eight bytes".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

fn to_json<V: Serialize>(value: &V) -> Vec<u8> {
    serde_json::to_vec(value).expect("structs with texts, numbers and number keys always serialise")
}

fn from_json<V: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<V, ConsensusError> {
    serde_json::from_slice(bytes).map_err(|e| ConsensusError::Corrupt(format!("{what}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::{CommittedLeaderId, EntryPayload};

    fn id(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(1, 1), index)
    }

    fn entries(range: std::ops::Range<u64>) -> Vec<Entry> {
        range
            .map(|index| Entry {
                log_id: id(index),
                payload: EntryPayload::Blank,
            })
            .collect()
    }

    fn open(folder: &Path) -> Result<Disk, ConsensusError> {
        Disk::open(folder, None).map(|(disk, _)| disk)
    }

    fn open_with(folder: &Path, key: [u8; 32]) -> Result<Disk, ConsensusError> {
        Disk::open(folder, Some(StorageKey::new(&key))).map(|(disk, _)| disk)
    }

    fn command(index: u64, text: &str) -> Entry {
        Entry {
            log_id: id(index),
            payload: EntryPayload::Normal(crate::command::Command(text.to_owned().into())),
        }
    }

    /// Whether the bytes stand in any file under a folder.
    fn on_disk(folder: &Path, bytes: &[u8]) -> bool {
        std::fs::read_dir(folder).unwrap().any(|found| {
            let path = found.unwrap().path();
            match path.is_dir() {
                true => on_disk(&path, bytes),
                false => std::fs::read(&path)
                    .unwrap()
                    .windows(bytes.len())
                    .any(|part| part == bytes),
            }
        })
    }

    #[test]
    fn no_key_of_a_hub_stands_in_a_sealed_folder() {
        let hub_key = "c2VjcmV0LWh1Yi1rZXktb2YtYS1odWI=";
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, hub_key);
        let check = |key: Option<StorageKey>, expected: bool| {
            let folder = tempfile::tempdir().unwrap();
            let (disk, _) = Disk::open(folder.path(), key.clone()).unwrap();
            disk.append(vec![command(0, hub_key)]).unwrap();
            let meta = SnapshotMeta::default();
            disk.save_snapshot(&meta, hub_key.as_bytes()).unwrap();
            assert_eq!(disk.entries(..).unwrap(), [command(0, hub_key)]);
            drop(disk);
            let found =
                [hub_key, encoded.as_str()].map(|text| on_disk(folder.path(), text.as_bytes()));
            assert_eq!(found, [expected; 2]);
            let (disk, _) = Disk::open(folder.path(), key).unwrap();
            assert_eq!(disk.entries(..).unwrap(), [command(0, hub_key)]);
            assert_eq!(disk.snapshot().unwrap().unwrap().data, hub_key.as_bytes());
        };
        check(None, true);
        check(Some(StorageKey::new(&[1; 32])), false);
    }

    #[test]
    fn another_key_or_none_is_refused_and_nothing_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let disk = open_with(folder.path(), [1; 32]).unwrap();
        disk.append(entries(0..3)).unwrap();
        drop(disk);
        for refused in [open_with(folder.path(), [2; 32]), open(folder.path())] {
            let error = refused.err().unwrap();
            assert!(matches!(error, ConsensusError::Key(_)), "{error}");
        }
        let disk = open_with(folder.path(), [1; 32]).unwrap();
        assert_eq!(disk.entries(..).unwrap(), entries(0..3));
    }

    #[test]
    fn a_folder_from_before_sealing_is_read_and_sealed_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let disk = open(folder.path()).unwrap();
        disk.append(entries(0..3)).unwrap();
        drop(disk);
        let disk = open_with(folder.path(), [1; 32]).unwrap();
        disk.append(vec![command(3, "new")]).unwrap();
        assert_eq!(disk.entries(..3).unwrap(), entries(0..3));
        assert_eq!(disk.last_entry().unwrap(), Some(command(3, "new")));
        drop(disk);
        assert!(open(folder.path()).is_err());
    }

    #[test]
    fn everything_is_there_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let disk = open(folder.path()).unwrap();
        disk.save_vote(&Vote::new(3, 2)).unwrap();
        disk.append(entries(0..10)).unwrap();
        disk.truncate(8).unwrap();
        disk.save_snapshot(
            &SnapshotMeta {
                last_log_id: Some(id(4)),
                ..Default::default()
            },
            b"state",
        )
        .unwrap();
        disk.purge(id(4)).unwrap();
        disk.save_committed(Some(id(6))).unwrap();
        disk.save_caught_up().unwrap();
        drop(disk);
        let disk = open(folder.path()).unwrap();
        assert_eq!(disk.vote().unwrap(), Some(Vote::new(3, 2)));
        assert_eq!(disk.entries(..).unwrap(), entries(5..8));
        assert_eq!(disk.entries(6..7).unwrap(), entries(6..7));
        assert_eq!(disk.last_log_id().unwrap(), Some(id(7)));
        assert_eq!(
            (disk.purged().unwrap(), disk.committed().unwrap()),
            (Some(id(4)), Some(id(6)))
        );
        assert_eq!(disk.snapshot().unwrap().unwrap().data, b"state");
        assert!(disk.is_caught_up().unwrap());
    }

    /// What version 1 wrote must be read for ever.
    #[test]
    fn stored_values_of_format_1_are_read_and_written_alike() {
        fn check<V: Serialize + DeserializeOwned>(json: &str) -> V {
            let value: V = from_json("fixture", json.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(to_json(&value)).unwrap(), json);
            value
        }
        let vote: Vote = check(r#"{"leader_id":{"term":3,"node_id":2},"committed":true}"#);
        assert_eq!(vote, Vote::new_committed(3, 2));
        let blank: Entry =
            check(r#"{"log_id":{"leader_id":{"term":1,"node_id":1},"index":7},"payload":"Blank"}"#);
        assert_eq!(blank.log_id, id(7));
        let entry: Entry = check(
            r#"{"log_id":{"leader_id":{"term":1,"node_id":1},"index":7},"payload":{"Normal":"aGk="}}"#,
        );
        assert!(matches!(entry.payload, EntryPayload::Normal(command) if command.0 == "hi"));
        let entry: Entry = check(
            r#"{"log_id":{"leader_id":{"term":1,"node_id":1},"index":0},"payload":{"Membership":{"configs":[[1,2]],"nodes":{"1":{},"2":{},"6":{}}}}}"#,
        );
        assert!(
            matches!(entry.payload, EntryPayload::Membership(members) if members.learner_ids().eq([6]))
        );
        let meta: SnapshotMeta = check(
            r#"{"last_log_id":{"leader_id":{"term":1,"node_id":1},"index":7},"last_membership":{"log_id":null,"membership":{"configs":[[1]],"nodes":{"1":{}}}},"snapshot_id":"1-1-7"}"#,
        );
        assert_eq!(meta.last_log_id, Some(id(7)));
    }

    fn refused(break_it: impl FnOnce(&Disk)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let disk = open(folder.path()).unwrap();
        disk.append(entries(0..5)).unwrap();
        break_it(&disk);
        drop(disk);
        match open(folder.path()) {
            Err(error @ (ConsensusError::Corrupt(_) | ConsensusError::Format { .. })) => {
                error.to_string()
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("the folder was accepted"),
        }
    }

    #[test]
    fn a_damaged_folder_is_refused() {
        assert!(
            refused(|disk| disk.0.log.remove(2u64.to_be_bytes()).unwrap())
                .contains("entry 2 is missing")
        );
        assert!(refused(|disk| disk.save_committed(Some(id(5))).unwrap()).contains("entry 5"));
        assert!(refused(|disk| disk.purge(id(2)).unwrap()).contains("snapshot"));
        assert!(refused(|disk| disk.0.meta.insert(KEY_FORMAT, "9").unwrap()).contains("format 9"));
        assert!(refused(|disk| disk.0.meta.remove(KEY_FORMAT).unwrap()).contains("no format"));
        assert!(refused(|disk| disk.0.meta.insert(KEY_PURGED, "{").unwrap()).contains("purged"));
    }
}
