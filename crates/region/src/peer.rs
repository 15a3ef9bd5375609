//! What regions say to each other over a link, besides the engines' own messages (docs/formats/link.md, "payloads").
//!
//! A payload is one letter and a postcard body; consensus messages are passed on as they are.

use crate::engine::{self, Handover, HubRole, Message, PartitionFacts, Refusal, SourceWord};
use crate::salvage::{Page, Segment};
use bytes::Bytes;
use hub::{Command, Effect};
use serde::{Deserialize, Serialize};
use types::{
    ConnectionId, DeviceId, Epoch, HubId, Lsn, PartitionId, PartitionKey, RegionName, Sequence,
    UnixMillis,
};

/// Raised when a payload's meaning changes; both sides must have the same.
pub const VERSION: u8 = 2;

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
    /// A renewal of a region's lease, to the leader; what it alone has comes along. → [`Return::Barrier`]
    Renew {
        region: RegionName,
        words: Vec<(PartitionKey, SourceWord)>,
    },
    /// What the leader heard of a hub with renewals. → [`Return::Words`]
    Words { hub: HubId },
    /// → [`Return::Facts`]
    Facts { hub: HubId },
    /// For a step of `operation`, which must still stand. → [`Return::Engine`]
    Fence {
        hub: HubId,
        epoch: Epoch,
        operation: String,
    },
    /// For the roll-back of `operation`, which must be under way. → [`Return::Engine`]
    Unfence {
        hub: HubId,
        epoch: Epoch,
        operation: String,
    },
    /// → [`Return::Engine`]
    CatchUp {
        hub: HubId,
        handovers: Vec<Handover>,
    },
    /// → [`Return::Engine`]
    /// `forced`: the epoch begins by force.
    Open { role: HubRole, forced: bool },
    /// What this region set aside of a hub. → [`Return::Salvages`]
    Salvages { hub: HubId },
    /// → [`Return::SalvagePage`]
    SalvagePage { id: String, from: Lsn },
    /// → [`Return::SalvageEvents`]
    SalvageEvents { id: String, from: Lsn },
    /// → [`Return::SalvageDiscarded`]
    SalvageDiscard { id: String },
    /// Present values of state entries, to be shown beside lost ones. → [`Return::Values`]
    Values { at: PartitionKey, keys: Vec<Bytes> },
    /// Hand device connections over at this rate per second; `None`: keep them again. → [`Return::Done`]
    Drain { rate: Option<u32> },
    /// What a node is found with, asked before the control plane is founded. → [`Return::Standing`]
    Standing,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Return {
    Engine(Result<engine::Answer, Refusal>),
    Events(Result<EventsPage, ReadRefusal>),
    Submitted(Submitted),
    /// The index up to which a reader must have applied.
    Barrier(Result<u64, String>),
    Facts(Box<Facts>),
    /// Each with its age in milliseconds.
    Words(Vec<(PartitionId, SourceWord, i64)>),
    Done(Result<(), String>),
    Salvages(Result<Vec<Segment>, String>),
    SalvagePage(Result<Page, String>),
    /// The events, and where the next page begins.
    SalvageEvents(Result<(Vec<hub::command::LateEvent>, Option<Lsn>), String>),
    /// False: there was none.
    SalvageDiscarded(Result<bool, String>),
    Values(Result<Vec<Option<Bytes>>, String>),
    /// The call was not understood.
    Malformed(String),
    Standing(Standing),
}

/// What a node's folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// It has a log of the control plane.
    pub member: bool,
    /// It has data of hubs.
    pub data: bool,
}

/// A region's own word on itself and one hub.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub region: String,
    pub version: String,
    pub now: UnixMillis,
    pub uptime_ms: u64,
    /// When its folder was made, as far as that was noted; 0: it was not.
    pub began: UnixMillis,
    /// Its roles were read from the control plane after start.
    pub roles_trusted: bool,
    /// How long it may still acknowledge; 0: it may not.
    pub lease_left_ms: u64,
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
        /// The epoch began by force: answers of the one before it are worth nothing any more.
        forced: bool,
    },
    /// What only the sender has, as its engine said last.
    Words {
        words: Vec<(PartitionKey, SourceWord)>,
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
