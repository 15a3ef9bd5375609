//! What a gateway asks of the region it stands in. The binary wires this to the region's router; tests use a fake.

use bytes::Bytes;
use hub::command::StoredOffset;
use hub::{Command, Effect, Reply};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use types::{
    ConnectionId, DeviceId, Epoch, HubId, HubSettings, PartitionId, RegionName, Reject, Sequence,
    UnixMillis, limits,
};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a command has no answer from the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The hub changed its primary for longer than requests may be parked. Nothing was done. 404012 with `retry_after_ms`.
    FailingOver { retry_after_ms: u64 },
    /// Too many requests wait, or the primary's disk is full. Nothing was done. 503.
    Unavailable { why: String, retry_after_ms: u64 },
    /// The connection to the primary broke while the answer was awaited: it may have been done. The client must find out by
    /// itself (MQTT: the connection is closed without acknowledging).
    OutcomeUnknown { why: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    Reject(Reject),
    Send(SendError),
}

impl std::convert::From<Reject> for CallError {
    fn from(reject: Reject) -> Self {
        CallError::Reject(reject)
    }
}

/// A hub as the control plane's copy in this region knows it.
#[derive(Debug)]
pub struct HubView {
    pub settings: HubSettings,
    pub primary: RegionName,
    pub epoch: Epoch,
    /// Where forced failovers cut the hub's history, oldest first.
    pub divergences: Arc<[Divergence]>,
    /// `divergences` names every one up to this epoch; of later ones this region has not heard yet.
    pub divergences_until: Epoch,
}

/// A forced failover's cut through a hub's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The epoch that began with it.
    pub epoch: Epoch,
    /// The first sequence number of each partition that the new epoch gave out; what earlier epochs put there is lost.
    pub partitions: Vec<(PartitionId, Sequence)>,
}

/// Whether a region serves devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Serving,
    /// It has had no lease for so long.
    NoLease {
        since_ms: u64,
    },
    /// It hands its devices over to other regions, so many a second.
    Draining {
        rate_per_s: u32,
    },
}

impl Standing {
    /// Without a lease for longer than a hiccup: devices are better off elsewhere.
    pub fn is_isolated(self) -> bool {
        matches!(self, Standing::NoLease { since_ms } if since_ms >= limits::LEASE_GRACE_MS)
    }

    /// Devices may connect here.
    pub fn admits_devices(self) -> bool {
        !self.is_isolated() && !matches!(self, Standing::Draining { .. })
    }

    /// One word for load balancers and people.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Draining { .. } => "draining",
            _ if self.is_isolated() => "isolated",
            _ => "ready",
        }
    }
}

/// Under what an answer was given: taken before the hub is asked, looked at before the answer's bytes leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    pub hub: HubId,
    /// The hub's epoch, and whether this region led it then.
    pub epoch: Epoch,
    pub here: bool,
    /// The unbroken time of the region's lease in which an answer counts, as a number.
    pub term: u64,
}

/// Where to begin reading events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Sequence(Sequence),
    /// The first event enqueued at or after this time.
    Time(UnixMillis),
    /// The oldest that is kept.
    Earliest,
    /// Only what comes after now.
    Latest,
}

/// A page of stored events of one partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventPage {
    pub events: Vec<hub::telemetry::StoredEvent>,
    /// Where to go on.
    pub next: Sequence,
    /// The hub's epoch when this was read; offsets carry it.
    pub epoch: Epoch,
}

/// Why a service's bearer token does not let it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BearerError {
    /// Who it is could not be proven, and why; never carries the token.
    Unproven(String),
    /// Proven, but no role allows the action.
    NotAllowed(String),
}

/// A region as its gateways see it.
pub trait Backend: Send + Sync + 'static {
    /// This gateway's region.
    fn region(&self) -> &RegionName;
    fn now(&self) -> UnixMillis;
    /// A fresh number for a connection; never 0.
    fn connection_id(&self) -> ConnectionId;
    /// Finds a hub by name (case-insensitive).
    fn hub(&self, name: &str) -> Option<Arc<HubView>>;
    fn hub_by_id(&self, id: HubId) -> Option<Arc<HubView>>;
    /// The only hub, when there is exactly one: for clients that name none (IP literals).
    fn only_hub(&self) -> Option<Arc<HubView>>;

    /// Whether a service that came with a token of the deployment may do `action` with the hub's data.
    ///
    /// # Errors
    /// Who it is could not be proven, or it may not.
    fn bearer(&self, token: &str, hub: HubId, action: &'static str) -> Result<(), BearerError>;

    /// Whether this region serves devices now.
    fn standing(&self) -> Standing;
    /// What is handed to [`Backend::may_answer`] later; taken before the hub is asked.
    fn permit(&self, hub: HubId) -> Permit;
    /// False when this region led the hub since `permit` was taken and did not hold its lease all the time: another region may
    /// have taken over without what is about to be acknowledged. A process that was stopped for longer than its lease finds out
    /// here. Asked right before bytes are written.
    fn may_answer(&self, permit: Permit) -> bool;

    /// Sends a command to the hub's primary, wherever it is, and gives the durable answer. Parks and re-sends during a
    /// failover. One caller's commands must be sent one after the other if their order matters.
    fn call(
        &self,
        hub: HubId,
        partition: PartitionId,
        command: Command,
    ) -> BoxFuture<'_, Result<Reply, CallError>>;

    /// Answers a service's read from what is stored in this region, which may be behind; for isolated regions.
    fn stale_call(
        &self,
        hub: HubId,
        partition: PartitionId,
        command: Command,
    ) -> BoxFuture<'_, Result<Reply, CallError>>;

    /// Reads events, waiting up to `wait_ms` for the first one.
    fn read_events(
        &self,
        hub: HubId,
        partition: PartitionId,
        from: From,
        max: usize,
        wait_ms: u64,
    ) -> BoxFuture<'_, Result<EventPage, CallError>>;

    /// Tells the region of an open session, so that effects find it and it is stated again to a new primary.
    fn session_opened(&self, session: SessionHandle);
    fn session_closed(&self, hub: HubId, device: &DeviceId, connection: ConnectionId);
}

/// A session as the region sees it.
#[derive(Clone)]
pub struct SessionHandle {
    pub hub: HubId,
    pub partition: PartitionId,
    pub device: DeviceId,
    pub connection: ConnectionId,
    pub since: UnixMillis,
    pub session: Arc<dyn Session>,
}

/// The region's way into a session.
pub trait Session: Send + Sync + 'static {
    /// Hands an effect over; must not block. A session that cannot keep up closes itself.
    fn deliver(&self, effect: Effect);
    /// Is it subscribed to cloud-to-device messages, and the desired version it saw last (`None`: not subscribed to desired).
    fn interests(&self) -> (bool, Option<u64>);
}

/// A consumer group's position, as the REST surface shows it.
pub type Offset = Option<StoredOffset>;

/// JSON text of a reply.
pub type Json = Bytes;
