//! The machine as openraft wants it: in memory, restored from the stored snapshot and brought forward from the log.

use crate::Machine;
use crate::command::{Answer, Entry, LogId, SnapshotMeta, StorageError, StoredMembership, Types};
use crate::disk::{Disk, StoredSnapshot, blocking};
use crate::error::ConsensusError;
use openraft::storage::RaftStateMachine;
use openraft::{EmptyNode, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot};
use parking_lot::{Mutex, RwLock};
use std::io::Cursor;
use std::sync::Arc;

/// The machine and how far it is.
pub(crate) struct State {
    pub machine: Box<dyn Machine>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

/// Applies entries and makes and installs snapshots; clones share the machine.
#[derive(Clone)]
pub(crate) struct MachineStore {
    disk: Disk,
    state: Arc<RwLock<State>>,
    /// Held while the stored snapshot is replaced, so that an older one never replaces a newer.
    saving: Arc<Mutex<()>>,
}

impl MachineStore {
    /// Restores `machine` from the stored snapshot, if there is one.
    pub fn load(disk: Disk, mut machine: Box<dyn Machine>) -> Result<Self, ConsensusError> {
        let (mut applied, mut membership) = (None, StoredMembership::default());
        if let Some(stored) = disk.snapshot()? {
            machine
                .restore(&stored.data)
                .map_err(ConsensusError::Machine)?;
            (applied, membership) = (stored.meta.last_log_id, stored.meta.last_membership);
        }
        let state = Arc::new(RwLock::new(State {
            machine,
            applied,
            membership,
        }));
        Ok(MachineStore {
            disk,
            state,
            saving: Arc::default(),
        })
    }

    pub fn state(&self) -> Arc<RwLock<State>> {
        self.state.clone()
    }

    fn build(&self) -> Result<StoredSnapshot, ConsensusError> {
        let stored = {
            let state = self.state.read();
            StoredSnapshot {
                meta: meta_of(&state),
                data: state.machine.snapshot(),
            }
        };
        self.save(&stored)?;
        Ok(stored)
    }

    fn save(&self, stored: &StoredSnapshot) -> Result<(), ConsensusError> {
        let _saving = self.saving.lock();
        match self.disk.snapshot()? {
            Some(newer) if newer.meta.last_log_id > stored.meta.last_log_id => Ok(()),
            _ => self.disk.save_snapshot(&stored.meta, &stored.data),
        }
    }

    fn install(&self, stored: &StoredSnapshot) -> Result<(), ConsensusError> {
        // The machine first: bytes it does not understand must not replace a good snapshot.
        let mut state = self.state.write();
        state
            .machine
            .restore(&stored.data)
            .map_err(ConsensusError::Machine)?;
        state.applied = stored.meta.last_log_id;
        state.membership = stored.meta.last_membership.clone();
        self.save(stored)
    }
}

fn meta_of(state: &State) -> SnapshotMeta {
    let snapshot_id = state.applied.map_or_else(
        || "empty".to_owned(),
        |id| format!("{}-{}", id.leader_id, id.index),
    );
    SnapshotMeta {
        last_log_id: state.applied,
        last_membership: state.membership.clone(),
        snapshot_id,
    }
}

fn to_library(stored: StoredSnapshot) -> Snapshot<Types> {
    Snapshot {
        meta: stored.meta,
        snapshot: Box::new(Cursor::new(stored.data)),
    }
}

impl RaftSnapshotBuilder<Types> for MachineStore {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let store = self.clone();
        blocking(move || store.build()).await.map(to_library)
    }
}

impl RaftStateMachine<Types> for MachineStore {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let state = self.state.read();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answer>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut state = self.state.write();
        let apply = |entry: Entry| {
            let answer = match entry.payload {
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Normal(command) => state.machine.apply(&command.0),
                EntryPayload::Membership(membership) => {
                    state.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Vec::new()
                }
            };
            state.applied = Some(entry.log_id);
            Answer(answer)
        };
        Ok(entries.into_iter().map(apply).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &openraft::SnapshotMeta<u64, EmptyNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let stored = StoredSnapshot {
            meta: meta.clone(),
            data: snapshot.into_inner(),
        };
        let store = self.clone();
        blocking(move || store.install(&stored)).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let disk = self.disk.clone();
        Ok(blocking(move || disk.snapshot()).await?.map(to_library))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Remembers every command; its snapshot is the commands joined by newlines.
    #[derive(Default)]
    pub(crate) struct Journal(Vec<Vec<u8>>);

    impl Machine for Journal {
        fn apply(&mut self, command: &[u8]) -> Vec<u8> {
            self.0.push(command.to_vec());
            self.0.len().to_string().into_bytes()
        }

        fn snapshot(&self) -> Vec<u8> {
            self.0.join(&b'\n')
        }

        fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
            if snapshot.starts_with(b"bad") {
                return Err("not a snapshot".into());
            }
            self.0 = snapshot
                .split(|b| *b == b'\n')
                .map(<[u8]>::to_vec)
                .collect();
            Ok(())
        }
    }

    fn stored(index: u64, data: &[u8]) -> StoredSnapshot {
        let last_log_id = Some(LogId::new(openraft::CommittedLeaderId::new(1, 1), index));
        StoredSnapshot {
            meta: SnapshotMeta {
                last_log_id,
                ..Default::default()
            },
            data: data.to_vec(),
        }
    }

    #[test]
    fn an_older_snapshot_never_replaces_a_newer() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, _) = Disk::open(folder.path(), None).unwrap();
        let store = MachineStore::load(disk.clone(), Box::<Journal>::default()).unwrap();
        store.save(&stored(5, b"new")).unwrap();
        store.save(&stored(4, b"old")).unwrap();
        assert_eq!(disk.snapshot().unwrap().unwrap().data, b"new");
    }

    #[test]
    fn a_snapshot_the_machine_refuses_is_neither_kept_nor_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, _) = Disk::open(folder.path(), None).unwrap();
        let store = MachineStore::load(disk.clone(), Box::<Journal>::default()).unwrap();
        assert!(matches!(
            store.install(&stored(5, b"bad")),
            Err(ConsensusError::Machine(_))
        ));
        assert!(disk.snapshot().unwrap().is_none());
        store.save(&stored(5, b"bad")).unwrap();
        assert!(matches!(
            MachineStore::load(disk, Box::<Journal>::default()),
            Err(ConsensusError::Machine(_))
        ));
    }
}
