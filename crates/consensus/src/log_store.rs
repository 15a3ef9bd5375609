//! The log as openraft wants it.

use crate::command::{Entry, LogId, StorageError, Types, Vote};
use crate::disk::{Disk, blocking};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use std::fmt::Debug;
use std::ops::RangeBounds;

/// Reads and writes the log and the vote; clones read the same log.
#[derive(Clone)]
pub(crate) struct LogStore(pub Disk);

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        let disk = self.0.clone();
        blocking(move || disk.entries(range)).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let disk = self.0.clone();
        blocking(move || {
            Ok(LogState {
                last_purged_log_id: disk.purged()?,
                last_log_id: disk.last_log_id()?,
            })
        })
        .await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let (disk, vote) = (self.0.clone(), *vote);
        blocking(move || disk.save_vote(&vote)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let disk = self.0.clone();
        blocking(move || disk.vote()).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let disk = self.0.clone();
        blocking(move || disk.save_committed(committed)).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let disk = self.0.clone();
        blocking(move || disk.committed()).await
    }

    async fn append<I>(
        &mut self,
        entries: I,
        flushed: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (disk, entries) = (self.0.clone(), entries.into_iter().collect());
        blocking(move || disk.append(entries)).await?;
        flushed.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        let disk = self.0.clone();
        blocking(move || disk.truncate(from.index)).await
    }

    async fn purge(&mut self, until: LogId) -> Result<(), StorageError> {
        let disk = self.0.clone();
        blocking(move || disk.purge(until)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine_store::{MachineStore, tests::Journal};
    use openraft::testing::{StoreBuilder, Suite};

    struct Builder;

    impl StoreBuilder<Types, LogStore, MachineStore, tempfile::TempDir> for Builder {
        async fn build(&self) -> Result<(tempfile::TempDir, LogStore, MachineStore), StorageError> {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let path = folder.path().to_owned();
            let (disk, _) = blocking(move || Disk::open(&path, None)).await?;
            let machine = MachineStore::load(disk.clone(), Box::<Journal>::default())
                .map_err(crate::disk::fatal)?;
            Ok((folder, LogStore(disk), machine))
        }
    }

    #[test]
    fn the_library_s_own_storage_suite_passes() {
        Suite::test_all(Builder).unwrap();
    }
}
