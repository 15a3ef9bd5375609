//! The highest lsn per partition that was acknowledged, in a small file beside the engine.
//!
//! The engine's recovery ends silently where its journal is damaged. A slot is written after each commit is durable, without a
//! sync of its own: on disk it may be behind the log, never ahead of it. So a log that ends before its slot has lost records.

use super::open::io_failed;
use crate::StoreError;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use types::{HubId, PartitionId, PartitionKey};

/// As long as a slot, so that no slot lies across two disk sectors.
const MAGIC: &[u8; SLOT_BYTES] = b"castling-acked 1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\n";
const SLOT_BYTES: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub generation: u32,
    /// `u64::MAX` marks a partition that must not be served before it is cleared.
    pub lsn: u64,
}

pub(super) struct Acked {
    file: File,
    slots: BTreeMap<PartitionKey, (u64, Slot)>,
    end: u64,
}

impl Acked {
    /// Opens or creates the file and reads all slots. A slot with a wrong checksum protects nothing and is passed over.
    pub(super) fn open(path: &Path) -> Result<Acked, StoreError> {
        let doing = "opening the file of acknowledged positions";
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|e| io_failed(doing, path, &e))?;
        let bytes = std::fs::read(path).map_err(|e| io_failed(doing, path, &e))?;
        if MAGIC.starts_with(&bytes) && bytes.len() < MAGIC.len() {
            file.write_all_at(MAGIC, 0)
                .and_then(|()| file.sync_all())
                .map_err(|e| io_failed(doing, path, &e))?;
        } else if !bytes.starts_with(MAGIC) {
            return Err(StoreError::Failed(format!(
                "{} is not of a known format",
                path.display()
            )));
        }
        let mut slots = BTreeMap::new();
        let mut end = MAGIC.len() as u64;
        for slot in bytes
            .get(MAGIC.len()..)
            .unwrap_or_default()
            .chunks(SLOT_BYTES)
        {
            match decode(slot) {
                Some((partition, value)) => {
                    slots.insert(partition, (end, value));
                }
                None => {
                    tracing::warn!(path = %path.display(), at = end, "an unreadable slot of acknowledged positions is ignored")
                }
            }
            end += SLOT_BYTES as u64;
        }
        Ok(Acked { file, slots, end })
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = (PartitionKey, Slot)> + '_ {
        self.slots
            .iter()
            .map(|(partition, (_, slot))| (*partition, *slot))
    }

    /// Notes what a durable commit reached. Without it the commit is as durable; only later damage would be noticed less well.
    pub(super) fn note(&mut self, partition: PartitionKey, slot: Slot) {
        if let Err(error) = self.set(partition, slot) {
            tracing::warn!(%partition, %error, "could not note the acknowledged position");
        }
    }

    /// Marks a partition as not to be served until it is cleared, durably.
    pub(super) fn condemn(
        &mut self,
        partition: PartitionKey,
        generation: u32,
    ) -> std::io::Result<()> {
        self.set(
            partition,
            Slot {
                generation,
                lsn: u64::MAX,
            },
        )?;
        self.file.sync_all()
    }

    /// Takes a position back, durably, before the log behind it is cut; a slot is never ahead of its log.
    pub(super) fn lower(&mut self, partition: PartitionKey, slot: Slot) -> std::io::Result<()> {
        let known = self.slots.get(&partition).map(|(_, known)| *known);
        if known.is_none_or(|known| known.generation != slot.generation || known.lsn <= slot.lsn) {
            return Ok(());
        }
        self.set(partition, slot)?;
        self.file.sync_all()
    }

    fn set(&mut self, partition: PartitionKey, slot: Slot) -> std::io::Result<()> {
        let known = self.slots.get(&partition).copied();
        if known.is_some_and(|(_, old)| old == slot) {
            return Ok(());
        }
        let at = known.map_or(self.end, |(at, _)| at);
        self.file.write_all_at(&encode(partition, slot), at)?;
        if known.is_none() {
            self.end += SLOT_BYTES as u64;
        }
        self.slots.insert(partition, (at, slot));
        Ok(())
    }
}

fn encode(partition: PartitionKey, slot: Slot) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[4..8].copy_from_slice(&partition.hub.0.to_be_bytes());
    bytes[8..10].copy_from_slice(&partition.partition.0.to_be_bytes());
    bytes[12..16].copy_from_slice(&slot.generation.to_be_bytes());
    bytes[16..24].copy_from_slice(&slot.lsn.to_be_bytes());
    let checksum = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(PartitionKey, Slot)> {
    let bytes: &[u8; SLOT_BYTES] = bytes.try_into().ok()?;
    let checksum = u32::from_be_bytes(bytes[..4].try_into().ok()?);
    if crc32c::crc32c(&bytes[4..]) != checksum {
        return None;
    }
    let hub = HubId(u32::from_be_bytes(bytes[4..8].try_into().ok()?));
    let partition = PartitionId(u16::from_be_bytes(bytes[8..10].try_into().ok()?));
    let generation = u32::from_be_bytes(bytes[12..16].try_into().ok()?);
    let lsn = u64::from_be_bytes(bytes[16..24].try_into().ok()?);
    Some((PartitionKey { hub, partition }, Slot { generation, lsn }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: u16) -> PartitionKey {
        PartitionKey {
            hub: HubId(9),
            partition: PartitionId(number),
        }
    }

    #[test]
    fn slots_are_read_back_and_a_flipped_one_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acked");
        let mut acked = Acked::open(&path).unwrap();
        for number in 0..3 {
            acked.note(
                partition(number),
                Slot {
                    generation: 1,
                    lsn: 10,
                },
            );
            acked.note(
                partition(number),
                Slot {
                    generation: 1,
                    lsn: 11 + u64::from(number),
                },
            );
        }
        drop(acked);
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), MAGIC.len() + 3 * SLOT_BYTES);
        bytes[MAGIC.len() + SLOT_BYTES + 20] ^= 1;
        std::fs::write(&path, bytes).unwrap();

        let found: Vec<_> = Acked::open(&path).unwrap().slots().collect();
        let slot = |lsn| Slot { generation: 1, lsn };
        assert_eq!(found, [(partition(0), slot(11)), (partition(2), slot(13))]);
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acked");
        std::fs::write(&path, b"castling-acked 2").unwrap();
        assert!(matches!(Acked::open(&path), Err(StoreError::Failed(_))));
    }
}
