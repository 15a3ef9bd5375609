//! What happened in a run, as the checkers read it. Recorded by the simulator, judged elsewhere.

use control::model::OperationStatus;
use std::hash::{Hash, Hasher};
use types::{Epoch, ErrorCode, Lsn, PartitionKey, Sequence, UnixMillis};

/// Milliseconds of true time since the run began; no region's clock shows it.
pub type Millis = i64;
/// A client's question, in the order in which they were asked.
pub type OpId = u64;
/// A region by its number in the run.
pub type RegionId = usize;

/// One telemetry event as its device made it; another `attempt` marks a resend of the same `counter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    pub device: u32,
    pub counter: u32,
    pub attempt: u32,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    Identify {
        device: u32,
    },
    Telemetry(EventId),
    SetReported {
        device: u32,
        value: u64,
    },
    SetDesired {
        device: u32,
        value: u64,
    },
    GetTwin {
        device: u32,
    },
    Register {
        device: u32,
        value: u64,
        create: bool,
    },
    Unregister {
        device: u32,
    },
    GetIdentity {
        device: u32,
    },
    SendMessage {
        device: u32,
        message: u64,
        expiry: UnixMillis,
    },
    LockMessages {
        device: u32,
    },
    CompleteMessage {
        device: u32,
        message: u64,
    },
    AbandonMessage {
        device: u32,
        message: u64,
    },
    CommitOffset {
        consumer: u32,
        at: PartitionKey,
        next: Stand,
    },
    GetOffset {
        consumer: u32,
        at: PartitionKey,
    },
    /// `from`: the epoch in which the consumer read last, and the first sequence number that it has not read.
    ReadEvents {
        consumer: u32,
        at: PartitionKey,
        from: Option<Stand>,
    },
}

/// Where a consumer stands: the epoch in which it read, and the first sequence number that it has not read.
pub type Stand = (Epoch, u64);

/// A twin as a service sees it; `None`: the property was never set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TwinSeen {
    pub reported: Option<u64>,
    pub reported_version: u64,
    pub desired: Option<u64>,
    pub desired_version: u64,
    pub version: u64,
    pub etag: String,
}

/// A cloud-to-device message handed out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Delivered {
    pub message: u64,
    pub expiry: UnixMillis,
    pub lock_token: String,
}

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Got {
    Done,
    Generation(String),
    Version(u64),
    Twin(TwinSeen),
    /// The value last written to an identity, and its etag.
    Identity {
        value: u64,
        etag: String,
    },
    Messages(Vec<Delivered>),
    Offset(Option<Stand>),
    /// Events with the epochs of their records. `rewound`: the consumer was put back, from where to where.
    Events {
        events: Vec<(Sequence, Epoch, EventId)>,
        next: Sequence,
        epoch: Epoch,
        rewound: Option<(Sequence, Sequence)>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Acked(Got),
    Rejected(ErrorCode),
    /// The hub says that nothing was done.
    NotDone,
    Unknown,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    Invoked {
        op: OpId,
        client: usize,
        asked: Asked,
    },
    Completed {
        op: OpId,
        outcome: Outcome,
    },
    /// A region gave out an answer. It was decided in `turn` (turns of all engines are in one order), when the
    /// region's clock showed `clock`; on a `sync` hub it may leave later. What it wrote stands after record `after`, up to
    /// record `upto`.
    Answered {
        op: OpId,
        region: RegionId,
        at: PartitionKey,
        epoch: Epoch,
        turn: u64,
        clock: UnixMillis,
        after: Lsn,
        upto: Lsn,
    },
    /// A region lets a partition be read, and acknowledges, at this epoch from now on.
    Serves {
        region: RegionId,
        at: PartitionKey,
        epoch: Epoch,
    },
    /// A record of a region's log is durable.
    Record {
        region: RegionId,
        at: PartitionKey,
        lsn: Lsn,
        epoch: Epoch,
        crc: u32,
        time: UnixMillis,
    },
    /// It holds this event.
    Logged {
        region: RegionId,
        at: PartitionKey,
        lsn: Lsn,
        sequence: Sequence,
        epoch: Epoch,
        event: EventId,
    },
    /// A partition's copy in a region begins anew.
    Reset {
        region: RegionId,
        at: PartitionKey,
    },
    /// A region has given up its records after `to`.
    Rewound {
        region: RegionId,
        at: PartitionKey,
        to: Lsn,
    },
    /// A region's disk is lost.
    Wiped {
        region: RegionId,
    },
    /// Retention took everything before `first`, and every record before `kept`.
    Trimmed {
        region: RegionId,
        at: PartitionKey,
        first: Sequence,
        kept: Lsn,
    },
    /// A consumer goes on at `next`; `None`: at the oldest event.
    Positioned {
        consumer: u32,
        at: PartitionKey,
        next: Option<Stand>,
    },
    Asked {
        operation: String,
    },
    /// A forced failover begins, with the estimate that its operator saw.
    Forced {
        operation: String,
        from: RegionId,
        epoch: Epoch,
        shown: Shown,
        /// Within which the loss of the check step's own estimate had to be; `None`: whatever it is.
        accepted: Option<(Option<i64>, Option<u64>)>,
    },
    /// Where the new primary of a forced failover began.
    Diverged {
        operation: String,
        from: RegionId,
        epoch: Epoch,
        positions: Vec<(PartitionKey, Lsn, Sequence)>,
    },
    /// What the old primary said that it alone had; nothing at all: its disk was lost.
    Returned {
        operation: String,
        ranges: Vec<LostRange>,
    },
    Step {
        operation: String,
        step: &'static str,
        ended: bool,
    },
    Committed {
        operation: String,
        epoch: Epoch,
    },
    Ended {
        operation: String,
        status: &'static str,
    },
    /// A dry run and the real checks that came after it; `changed`: something happened between them.
    DryRun {
        operation: String,
        ready: bool,
        real: bool,
        changed: bool,
        why: String,
    },
    /// Something was broken or healed.
    Trouble(String),
    Alarm {
        region: RegionId,
        at: Option<PartitionKey>,
        text: String,
    },
    /// From here on nothing is broken any more.
    Healed,
    /// From here on only the last questions are asked.
    Audit,
}

/// A partition, the first and the last lost record, how many they are, and how many events are in them.
pub type LostRange = (PartitionKey, Lsn, Lsn, u64, u64);

/// A forced failover's estimate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shown {
    pub records: u64,
    pub span_ms: i64,
    pub age_ms: i64,
    pub worst_ms: i64,
    /// How long ago it was made when the failover began.
    pub old_ms: i64,
    /// Partitions of which nothing was known.
    pub unknown: usize,
}

/// Records that a region set aside, as they can be read at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalSalvage {
    pub region: RegionId,
    pub id: String,
    pub at: PartitionKey,
    pub first: Lsn,
    pub last: Lsn,
    /// As its description says.
    pub count: u64,
    pub events: u64,
    pub records: Vec<(Lsn, u32)>,
    pub broken: Option<String>,
}

/// A partition as one region holds it at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalPartition {
    pub region: RegionId,
    pub at: PartitionKey,
    pub lsn: Lsn,
    pub next_sequence: Sequence,
    pub crc: u32,
    pub chain: u64,
    pub state: u128,
    pub epoch: Epoch,
    /// Computed from what is stored.
    pub stored_state: u128,
    /// First sequence number that is kept.
    pub first_sequence: Sequence,
    pub events: Vec<(Sequence, Epoch, EventId)>,
    pub broken: Option<String>,
}

/// One failover as the control plane has it at the end.
#[derive(Clone, Debug)]
pub struct FinalOperation {
    pub id: String,
    pub running: bool,
    pub failover: bool,
    pub legal_next: String,
    pub status: OperationStatus,
    /// In the control plane's time.
    pub pause_ms: Option<i64>,
    /// True time, as far as known.
    pub asked: Option<Millis>,
    pub ended: Option<Millis>,
}

/// How everything stood when the run was over.
#[derive(Clone, Debug, Default)]
pub struct Finals {
    pub partitions: Vec<FinalPartition>,
    pub salvages: Vec<FinalSalvage>,
    pub operations: Vec<FinalOperation>,
    /// True time when the last troubles were healed, and at the end.
    pub healed: Millis,
    pub over: Millis,
    /// Questions that never had an answer.
    pub unanswered: Vec<OpId>,
    /// Largest difference between any region's clock and true time.
    pub clock_error_ms: i64,
    /// Answers wait for the partner.
    pub sync: bool,
    /// Wall clock of true time 0.
    pub epoch_ms: i64,
}

/// A whole run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub entries: Vec<(Millis, Entry)>,
    pub finals: Finals,
}

/// FNV-1a: small, and the same for ever.
#[derive(Clone, Debug)]
pub struct TraceHash(u64);

impl Default for TraceHash {
    fn default() -> Self {
        TraceHash(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for TraceHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

impl TraceHash {
    pub fn add(&mut self, what: impl Hash) {
        what.hash(self);
    }
}
