//! What the engines of two regions say to each other about a partition (docs/formats/link.md, "engine messages").
//!
//! Following is pull-based and cursor-based: a lost message is asked for again, never assumed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{Epoch, Lsn, PartitionKey, Sequence, UnixMillis};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// "I have everything up to `lsn`, whose checksum is `crc`: send me what comes after."
    Follow {
        at: PartitionKey,
        epoch: Epoch,
        lsn: Lsn,
        crc: u32,
    },
    /// Encoded records in order.
    Records {
        at: PartitionKey,
        records: Vec<Bytes>,
    },
    /// "I have everything up to `lsn` on disk."
    Acked { at: PartitionKey, lsn: Lsn },
    /// The source cannot serve this follower; `why` is for people.
    Refused { at: PartitionKey, why: String },
    /// The follower is new, or what it needs is trimmed: it must take a copy as of `head` first.
    Bootstrap {
        at: PartitionKey,
        id: u64,
        head: Bytes,
    },
    /// The follower asks for the state after `after`.
    StateNext {
        at: PartitionKey,
        id: u64,
        after: Option<Bytes>,
    },
    /// Entries in key order; an empty page ends the state.
    StatePage {
        at: PartitionKey,
        id: u64,
        entries: Vec<(Bytes, Bytes)>,
    },
    /// The follower asks for kept log records from `from` on (`Lsn(0)`: the oldest).
    LogNext {
        at: PartitionKey,
        id: u64,
        from: Lsn,
    },
    /// Encoded records in order; an empty page ends the log.
    LogPage {
        at: PartitionKey,
        id: u64,
        records: Vec<Bytes>,
    },
    /// A primary that starts asks its secondary where it stands.
    PositionAsked { at: PartitionKey },
    /// The secondary's own end.
    Position {
        at: PartitionKey,
        epoch: Epoch,
        lsn: Lsn,
        crc: u32,
    },
    /// "I lead and lack what comes after `lsn`, whose checksum is `crc`": the secondary gives back one page of records.
    Refill {
        at: PartitionKey,
        lsn: Lsn,
        crc: u32,
    },
    /// What this primary has beyond its follower's confirmations, for the estimate of a forced failover's loss. Sent while
    /// it changes, at most once a tick.
    Word { at: PartitionKey, word: SourceWord },
    /// The follower's records end in an epoch that ended before them in the source's history: it must find the last common one.
    Diverged {
        at: PartitionKey,
        /// The source's encoded head.
        head: Bytes,
        /// The lowest record whose checksum the source knows.
        kept: Lsn,
    },
    /// The returning follower asks for the checksum of one record.
    CrcAsked { at: PartitionKey, lsn: Lsn },
    /// `None`: not kept here.
    Crc {
        at: PartitionKey,
        lsn: Lsn,
        crc: Option<u32>,
    },
    /// The returning follower asks for the present values of entries that its diverged records changed.
    DifferenceAsked {
        at: PartitionKey,
        id: u64,
        keys: Vec<Bytes>,
    },
    /// Values of the first of these keys, as many as fit; none is newer than the source's encoded `head`.
    Difference {
        at: PartitionKey,
        id: u64,
        head: Bytes,
        entries: Vec<(Bytes, Option<Bytes>)>,
    },
}

/// How far a primary is ahead of what its follower confirmed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceWord {
    pub epoch: Epoch,
    /// The primary's last durable record.
    pub lsn: Lsn,
    pub next_sequence: Sequence,
    /// Its enqueued time.
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

impl Message {
    pub fn partition(&self) -> PartitionKey {
        match self {
            Message::Follow { at, .. }
            | Message::Records { at, .. }
            | Message::Acked { at, .. }
            | Message::Refused { at, .. }
            | Message::Bootstrap { at, .. }
            | Message::StateNext { at, .. }
            | Message::StatePage { at, .. }
            | Message::LogNext { at, .. }
            | Message::LogPage { at, .. }
            | Message::Word { at, .. }
            | Message::Diverged { at, .. }
            | Message::CrcAsked { at, .. }
            | Message::Crc { at, .. }
            | Message::DifferenceAsked { at, .. }
            | Message::Difference { at, .. }
            | Message::PositionAsked { at }
            | Message::Position { at, .. }
            | Message::Refill { at, .. } => *at,
        }
    }

    /// Pages of data give way to everything else on a busy link.
    pub fn is_bulk(&self) -> bool {
        matches!(
            self,
            Message::Records { .. }
                | Message::StatePage { .. }
                | Message::LogPage { .. }
                | Message::Difference { .. }
        )
    }
}
