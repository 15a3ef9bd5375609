//! What regions and the control plane tell of themselves before a failover.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{Epoch, Lsn, PartitionId, RegionName, Sequence, UnixMillis};

/// What one region tells of itself and of the hub. A region that did not answer has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionFacts {
    pub region: RegionName,
    /// Version of the running program.
    pub version: String,
    /// Version of the log's format that it writes and reads.
    pub log_format: u32,
    pub uptime_ms: i64,
    /// It has read its roles from the control plane since it started.
    #[serde(default)]
    pub roles_known: bool,
    /// True while it may acknowledge: it holds its lease.
    pub lease_held: bool,
    /// How long its lease still lasts, in milliseconds; 0: it holds none.
    #[serde(default)]
    pub lease_left_ms: u64,
    /// Its copy of the control plane has this many entries.
    pub control_applied: u64,
    pub store_healthy: bool,
    /// Why the store is not healthy; empty if it is.
    pub store_detail: String,
    pub disk_free_bytes: u64,
    /// How long its last group commits took to be durable.
    pub fsync_ms: u32,
    /// Commands waiting for its engine.
    pub engine_queue: usize,
    /// Its gateway accepts connections.
    pub gateway_listening: bool,
    /// Device and service connections open at its gateway.
    pub sessions: u64,
    /// Its link to the hub's other region.
    pub link_up: bool,
    /// Round trip on that link, in microseconds; `None`: not measured yet.
    pub link_rtt_us: Option<u64>,
    /// Days until the first of its certificates expires; negative: expired.
    pub certificate_days: i64,
    /// Its clock minus the asker's, in milliseconds.
    pub clock_offset_ms: i64,
    pub partitions: Vec<PartitionFacts>,
}

/// What a region tells of one partition of the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionFacts {
    pub partition: PartitionId,
    pub role: Role,
    pub epoch: Epoch,
    /// Position of the last durable record.
    pub lsn: Lsn,
    /// Hex of the digest of the state at `lsn`; `None`: not known.
    pub digest: Option<String>,
    /// Primary only: what the follower has confirmed; `None`: it has not been heard.
    pub follower_lsn: Option<Lsn>,
    /// Primary only: records the follower has not confirmed, and the age of the oldest.
    pub lag_records: u64,
    pub lag_ms: i64,
    pub fenced: bool,
    /// Why the partition has stopped; `None`: it has not.
    pub corrupt: Option<String>,
    /// Enqueued time of the last durable record.
    #[serde(default)]
    pub time: UnixMillis,
    /// Secondary only: the primary's last word, and how long ago it came, in milliseconds.
    #[serde(default)]
    pub word: Option<(Word, i64)>,
    /// Primary only: what only this region has.
    #[serde(default)]
    pub tail: Option<Tail>,
    /// Secondary only: it lacks part of the history it follows (it rewinds, or takes a copy), and what it is doing about it. It
    /// cannot lead meanwhile.
    #[serde(default)]
    pub returning: Option<String>,
}

/// How far a primary was ahead of what its follower had confirmed, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    pub epoch: Epoch,
    /// The primary's last durable record, and its enqueued time.
    pub lsn: Lsn,
    pub next_sequence: Sequence,
    pub time: UnixMillis,
    /// What comes after the follower's last confirmation.
    pub tail: Tail,
}

/// Records that only the primary has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// The last record the follower has confirmed.
    pub after: Lsn,
    pub records: u64,
    pub bytes: u64,
    /// Enqueued time of the oldest of them; `None`: there are none.
    pub oldest: Option<UnixMillis>,
    /// Devices they touch; at least so many if `devices_cut`.
    pub devices: u64,
    pub devices_cut: bool,
    /// Changes by kind: telemetry events, and entries by the first letter of their key (docs/formats/state.md).
    pub kinds: BTreeMap<String, u64>,
}

/// What a region does for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Primary,
    Secondary,
    /// The region has not opened it.
    None,
}

/// What the control plane tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlFacts {
    /// `None`: nobody leads.
    pub leader: Option<String>,
    pub voters: u32,
    pub voters_up: u32,
    /// Entries the leader has applied.
    pub applied: u64,
    /// The failover whose first step asks; `None` in a dry run.
    #[serde(default)]
    pub operation: Option<String>,
}
