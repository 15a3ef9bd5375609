//! How much room the disk has, asked often enough to refuse a commit in time and seldom enough not to matter.

use crate::StoreError;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MEASURE_AGAIN_AFTER: Duration = Duration::from_millis(50);
const MEASURE_AGAIN_AFTER_BYTES: u64 = 16 << 20;

/// The last measurement and what was written since.
pub(super) struct FreeSpace {
    path: PathBuf,
    measured: Option<(Instant, u64)>,
    written_since: u64,
}

impl FreeSpace {
    pub(super) fn new(path: PathBuf) -> FreeSpace {
        FreeSpace {
            path,
            measured: None,
            written_since: 0,
        }
    }

    /// Counts bytes that a commit wrote.
    pub(super) fn wrote(&mut self, bytes: u64) {
        self.written_since = self.written_since.saturating_add(bytes);
    }

    /// Refuses when fewer than `need` bytes are free; never on an old measurement.
    pub(super) fn require(&mut self, need: u64) -> Result<(), StoreError> {
        if let Some((at, free)) = self.measured {
            let fresh = at.elapsed() <= MEASURE_AGAIN_AFTER
                && self.written_since < MEASURE_AGAIN_AFTER_BYTES;
            if fresh && free.saturating_sub(self.written_since) >= need {
                return Ok(());
            }
        }
        let free = free_bytes(&self.path)?;
        self.measured = Some((Instant::now(), free));
        self.written_since = 0;
        if free >= need {
            Ok(())
        } else {
            Err(StoreError::DiskFull { free, need })
        }
    }
}

/// Bytes an ordinary user may still write on the disk of `path`.
pub(super) fn free_bytes(path: &Path) -> Result<u64, StoreError> {
    match rustix::fs::statvfs(path) {
        Ok(stat) => Ok(stat.f_bavail.saturating_mul(stat.f_frsize)),
        Err(error) => Err(StoreError::Failed(format!(
            "measuring the free space of {}: {error}",
            path.display()
        ))),
    }
}
