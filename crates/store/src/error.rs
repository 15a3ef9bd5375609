//! What can go wrong in a store, told apart by what it means for the caller.

use std::fmt;
use types::{Lsn, PartitionKey};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Not enough room: nothing was changed; it works again when space returns.
    DiskFull { free: u64, need: u64 },
    /// The caller broke the contract (lsn not contiguous, unknown retention): nothing was changed.
    Invalid(String),
    /// The disk or the engine failed; the last commit's outcome is unknown. Call `recover`.
    Failed(String),
    /// Asked for something older than retention keeps.
    Trimmed { partition: PartitionKey, first: Lsn },
    /// Bytes on disk are not what was written: this partition must not be served from here.
    Corrupt {
        partition: PartitionKey,
        at: Lsn,
        why: String,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::DiskFull { free, need } => {
                write!(
                    f,
                    "disk full: {free} bytes free, {need} needed; writes are refused until space returns"
                )
            }
            StoreError::Invalid(why) => write!(f, "invalid use of the store: {why}"),
            StoreError::Failed(why) => write!(f, "the store failed: {why}"),
            StoreError::Trimmed { partition, first } => {
                write!(
                    f,
                    "partition {partition} keeps its log from lsn {first} on; what was asked for is older"
                )
            }
            StoreError::Corrupt { partition, at, why } => {
                write!(f, "partition {partition} is corrupt at lsn {at}: {why}")
            }
        }
    }
}

impl std::error::Error for StoreError {}
