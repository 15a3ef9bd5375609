//! Where the histories of two regions part in a forced failover, and what is known of the lost end once the old region is back.

use crate::model::Hub;
use serde::{Deserialize, Serialize};
use types::{Epoch, Lsn, PartitionId, RegionName, Sequence, UnixMillis};

/// One forced failover, as consumers and the returning region need to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// The epoch that began.
    pub epoch: Epoch,
    /// The old primary.
    pub from: RegionName,
    pub to: RegionName,
    /// When the new primary opened.
    pub at: UnixMillis,
    pub operation: String,
    /// Where the common history ends.
    pub partitions: Vec<Position>,
    /// `None`: the old primary has not returned.
    #[serde(default)]
    pub returned: Option<Return>,
}

/// Where one partition stood when the new epoch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub partition: PartitionId,
    pub lsn: Lsn,
    pub next_sequence: Sequence,
}

/// The old primary came back, and this is what it alone had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    pub at: UnixMillis,
    pub region: RegionName,
    pub partitions: Vec<LostRange>,
}

/// Records of one partition that only the old primary had, `from` and `to` included; `records` 0: it had none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRange {
    pub partition: PartitionId,
    pub from: Lsn,
    pub to: Lsn,
    pub records: u64,
    /// Telemetry events among them.
    pub events: u64,
    pub bytes: u64,
    /// Enqueued times of the first and of the last.
    pub first_time: Option<UnixMillis>,
    pub last_time: Option<UnixMillis>,
}

impl Hub {
    /// The forced failover whose old primary, the present secondary, has not returned; `None`: nobody is away. A region that
    /// was made to lead again meanwhile is not away.
    pub fn away(&self) -> Option<&Divergence> {
        let secondary = self.secondary()?;
        self.divergences
            .iter()
            .rev()
            .find(|divergence| [&divergence.from, &divergence.to].contains(&secondary))
            .filter(|divergence| divergence.from == *secondary && divergence.returned.is_none())
    }
}

impl Return {
    pub fn records(&self) -> u64 {
        self.sum(|range| range.records)
    }

    pub fn events(&self) -> u64 {
        self.sum(|range| range.events)
    }

    pub fn bytes(&self) -> u64 {
        self.sum(|range| range.bytes)
    }

    /// From the first to the last lost record of a partition, in milliseconds: the longest over all partitions.
    pub fn span_ms(&self) -> i64 {
        let span = |range: &LostRange| Some(range.last_time?.since(range.first_time?).max(0));
        self.partitions.iter().filter_map(span).max().unwrap_or(0)
    }

    fn sum(&self, of: impl Fn(&LostRange) -> u64) -> u64 {
        self.partitions
            .iter()
            .fold(0, |sum, range| sum.saturating_add(of(range)))
    }
}
