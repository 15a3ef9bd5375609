//! What regions say to each other over a link, besides the engines' own messages (docs/formats/link.md, "payloads").
//!
//! A payload is one letter and a postcard body; consensus messages are passed on as they are.

use crate::engine::{self, Handover, HubRole, Message, PartitionFacts, Refusal};
use bytes::Bytes;
use hub::{Command, Effect};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use types::{ConnectionId, DeviceId, Epoch, HubId, PartitionKey, RegionName, Sequence, UnixMillis};

/// Raised when a payload's meaning changes; both sides must have the same.
pub const VERSION: u8 = 1;

/// A call: it has an answer.
#[derive(Debug, Serialize, Deserialize)]
pub enum Call {
    /// → [`Return::Engine`]
    Command { at: PartitionKey, command: Command },
    /// → [`Return::Events`]
    ReadEvents {
        at: PartitionKey,
        from: ReadFrom,
        max: usize,
        wait_ms: u64,
    },
    /// A control-plane request (JSON) for the leader. → [`Return::Submitted`]
    Submit { request: Bytes },
    /// The leader's read barrier. → [`Return::Barrier`]
    Barrier,
    /// → [`Return::Facts`]
    Facts { hub: HubId },
    /// For a step of `operation`, which must still stand. → [`Return::Engine`]
    Fence {
        hub: HubId,
        epoch: Epoch,
        operation: String,
    },
    /// → [`Return::Engine`]
    Unfence { hub: HubId, epoch: Epoch },
    /// → [`Return::Engine`]
    CatchUp {
        hub: HubId,
        handovers: Vec<Handover>,
    },
    /// → [`Return::Engine`]
    Open { role: HubRole },
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Return {
    Engine(Result<engine::Answer, Refusal>),
    Events(Result<EventsPage, ReadRefusal>),
    Submitted(Submitted),
    /// The index up to which a reader must have applied.
    Barrier(Result<u64, String>),
    Facts(Box<Facts>),
    /// The call was not understood.
    Malformed(String),
}

/// A region's own word on itself and one hub.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub region: String,
    pub version: String,
    pub now: UnixMillis,
    pub uptime_ms: u64,
    /// Its roles were read from the control plane after start.
    pub roles_trusted: bool,
    pub store_trouble: Option<String>,
    pub disk_free: u64,
    pub disk_used: u64,
    pub queue_depth: u64,
    pub turn_micros_max: u64,
    pub certificate_days: i64,
    pub sessions: u64,
    pub sessions_of_hub: u64,
    pub sessions_closed: u64,
    /// Requests parked since start.
    pub parked: u64,
    pub gateway_listening: bool,
    pub links: Vec<(String, bool, Option<f64>)>,
    pub control_leader: Option<String>,
    pub control_applied: u64,
    pub partitions: Vec<PartitionFacts>,
}

/// Where to begin reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadFrom {
    Sequence(Sequence),
    Time(UnixMillis),
    Earliest,
    Latest,
}

/// Encoded events as they are stored: (first sequence, count, bytes) per record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsPage {
    pub runs: Vec<EventRun>,
    pub next: Sequence,
    pub epoch: Epoch,
}

/// Events of one record, from its `skip`-th on, at most `take` of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRun {
    pub first: Sequence,
    pub count: u32,
    pub skip: u32,
    pub take: u32,
    pub bytes: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadRefusal {
    NotPrimary,
    Failed(String),
}

/// What became of a control-plane request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Submitted {
    /// Applied at this index, with the answer (JSON).
    Done {
        index: u64,
        answer: Bytes,
    },
    NotLeader {
        leader: Option<u64>,
    },
    Unavailable {
        why: String,
        may_have_happened: bool,
    },
}

/// A one-way message.
#[derive(Debug, Serialize, Deserialize)]
pub enum Cast {
    Engine(Message),
    Effect {
        hub: HubId,
        connection: ConnectionId,
        effect: Effect,
    },
    /// A hub opened (or went on) at this epoch: parked requests may go there.
    Route {
        hub: HubId,
        epoch: Epoch,
        primary: RegionName,
    },
    /// A gateway's session, told to the hub's secondary so that it knows where devices are when it takes over.
    Connected {
        at: PartitionKey,
        device: DeviceId,
        connection: ConnectionId,
        since: UnixMillis,
    },
    Disconnected {
        at: PartitionKey,
        device: DeviceId,
        connection: ConnectionId,
    },
}

pub const RAFT: u8 = b'r';
pub const CALL: u8 = b'c';
pub const CAST: u8 = b'o';

/// Puts the letter before a postcard body.
pub fn encode<M: Serialize>(letter: u8, message: &M) -> Bytes {
    let mut out = vec![letter, VERSION];
    out.extend(
        postcard::to_allocvec(message).expect("messages have no shape postcard cannot write"),
    );
    out.into()
}

/// # Errors
/// When the version is another one or the bytes are not such a message.
pub fn decode<'a, M: Deserialize<'a>>(body: &'a [u8]) -> Result<M, String> {
    match body {
        [_, VERSION, rest @ ..] => {
            postcard::from_bytes(rest).map_err(|error| format!("malformed message: {error}"))
        }
        [_, version, ..] => Err(format!(
            "message version {version}, this region speaks {VERSION}"
        )),
        _ => Err("message is too short".into()),
    }
}

/// An answer without a letter.
pub fn encode_return(value: &Return) -> Bytes {
    encode(b'a', value)
}

/// One role as sent with an open.
pub fn role(
    settings: Arc<types::HubSettings>,
    role: engine::Role,
    epoch: Epoch,
    peer: Option<RegionName>,
) -> HubRole {
    HubRole {
        settings,
        role,
        epoch,
        peer,
    }
}
