//! What the engines of two regions say to each other about a partition (docs/formats/link.md, "engine messages").
//!
//! Following is pull-based and cursor-based: a lost message is asked for again, never assumed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::{Epoch, Lsn, PartitionKey};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// "I have everything up to `lsn`, whose checksum is `crc`: send me what comes after."
    Follow {
        at: PartitionKey,
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
            | Message::PositionAsked { at }
            | Message::Position { at, .. }
            | Message::Refill { at, .. } => *at,
        }
    }

    /// Pages of data give way to everything else on a busy link.
    pub fn is_bulk(&self) -> bool {
        matches!(
            self,
            Message::Records { .. } | Message::StatePage { .. } | Message::LogPage { .. }
        )
    }
}
