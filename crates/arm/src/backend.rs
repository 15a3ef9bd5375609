//! What the management API asks of the region it stands in. The binary wires this to the region; tests use a fake.

use bytes::Bytes;
use control::checks::CheckReport;
use control::{AcceptedLoss, Answer, Command, Origin, State};
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use types::regions::Catalogue;
use types::{DeviceId, Epoch, HubId, Lsn, PartitionId, RegionName, Sequence, UnixMillis};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The control plane has no leader that answers in time. `may_have_happened`: the command was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlUnavailable {
    pub why: String,
    pub may_have_happened: bool,
}

/// A device with its identity and its twin, as they are exported.
pub type ExportedDevice = (DeviceId, Value, Value);

/// Who has the control plane do something, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// As it stands in records: a user's name or a client id.
    pub name: String,
    pub origin: Origin,
}

/// Where a region is reached by clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionAddress {
    pub name: RegionName,
    /// An address or a name.
    pub address: String,
    pub https_port: u16,
    pub mqtt_port: u16,
    pub plain_mqtt_port: Option<u16>,
    pub management_port: u16,
}

pub trait Backend: Send + Sync + 'static {
    fn region(&self) -> &RegionName;
    /// Where the deployment's regions are reached, as far as it is known here.
    fn reached(&self) -> Vec<RegionAddress> {
        Vec::new()
    }
    fn now(&self) -> UnixMillis;
    fn catalogue(&self) -> &Catalogue;
    /// This region's copy of the control plane's state. Served always, also during a failover.
    fn state(&self) -> Arc<State>;
    /// Proposes a command through the leader, waits until this region's copy has it too, gives the answer.
    fn submit(&self, by: By, command: Command)
    -> BoxFuture<'_, Result<Answer, ControlUnavailable>>;
    /// The dry run: the same checks as a failover's first step. Changes nothing.
    fn check(&self, hub: HubId) -> BoxFuture<'_, Result<CheckReport, ControlUnavailable>>;
    /// The dry run of a forced failover to the hub's secondary, with the loss it would mean; `accept`: what its operator
    /// accepts. Changes nothing.
    fn check_forced(
        &self,
        hub: HubId,
        accept: Option<AcceptedLoss>,
    ) -> BoxFuture<'_, Result<CheckReport, ControlUnavailable>>;
    /// Live figures of a hub from its primary; `None`: it did not answer.
    fn figures(&self, hub: HubId) -> BoxFuture<'_, Option<HubFigures>>;

    /// What the hub's regions keep aside since a forced failover.
    fn salvages(&self, hub: HubId) -> BoxFuture<'_, Salvages>;
    /// One segment and a page of what is in it; `from`: the `next` of the page before.
    fn salvage(
        &self,
        hub: HubId,
        id: String,
        from: Option<String>,
    ) -> BoxFuture<'_, Result<SalvagePage, SalvageError>>;
    /// Appends a segment's events to the hub as late ones. Twice is the same as once.
    fn replay(&self, hub: HubId, id: String) -> BoxFuture<'_, Result<Replayed, SalvageError>>;
    /// Deletes a segment for good.
    fn discard(&self, hub: HubId, id: String) -> BoxFuture<'_, Result<(), SalvageError>>;

    /// The next devices of a partition after `after`, each with its identity and its twin; empty: these were all.
    fn devices(
        &self,
        hub: HubId,
        partition: PartitionId,
        after: Option<DeviceId>,
    ) -> BoxFuture<'_, Result<Vec<ExportedDevice>, String>>;
    /// Carries out a bulk of at most [`types::limits::BULK_DEVICES_MAX`] changes; what could not be done. An error: the
    /// outcome of all is unknown.
    fn import_devices(
        &self,
        hub: HubId,
        entries: Vec<DeviceEntry>,
    ) -> BoxFuture<'_, Result<Vec<DeviceError>, String>>;
}

/// One change of a bulk, as `POST /devices` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEntry {
    pub device: DeviceId,
    pub body: Bytes,
}

/// A change that was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceError {
    pub device: DeviceId,
    pub code: String,
    pub message: String,
}

/// Live figures of a hub.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HubFigures {
    /// `None`: the primary does not answer for its devices now, as when it has no lease.
    pub devices: Option<DeviceFigures>,
    /// In the order of their numbers.
    pub partitions: Vec<PartitionLag>,
    pub partner_connected: bool,
    /// A `sync` hub that acknowledges like an `async` one because its partner is away.
    pub degraded: bool,
    pub lease: LeaseFigures,
}

impl HubFigures {
    /// Records the secondary has not confirmed, over all partitions.
    pub fn lag_records(&self) -> u64 {
        self.partitions
            .iter()
            .fold(0, |sum, lag| sum.saturating_add(lag.records))
    }

    /// Age of the oldest such record, in milliseconds.
    pub fn lag_ms(&self) -> i64 {
        self.partitions.iter().map(|lag| lag.ms).max().unwrap_or(0)
    }
}

/// Devices of a hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceFigures {
    pub total: u64,
    pub enabled: u64,
    pub disabled: u64,
    pub connected: u64,
}

/// How far the secondary is behind in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    pub partition: PartitionId,
    /// Records it has not confirmed.
    pub records: u64,
    /// Age of the oldest of them, in milliseconds.
    pub ms: i64,
}

/// The lease under which the primary acknowledges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseFigures {
    pub held: bool,
    /// Milliseconds until it lapses unless it is renewed.
    pub left_ms: u64,
}

/// Segments of a hub, as far as its regions answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Salvages {
    pub found: Vec<Salvage>,
    /// Regions that may keep more, but did not answer.
    pub silent: Vec<RegionName>,
}

/// Records that a returned region had and the other one had not, set aside: one segment per partition and return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvage {
    pub id: String,
    /// The region that keeps it.
    pub region: RegionName,
    pub partition: PartitionId,
    /// The epoch in which its records were written.
    pub epoch: Epoch,
    pub first: Lsn,
    pub last: Lsn,
    pub records: u64,
    pub events: u64,
    pub bytes: u64,
    pub first_time: UnixMillis,
    pub last_time: UnixMillis,
    /// When it was set aside.
    pub made: UnixMillis,
}

/// A segment with a page of its content.
#[derive(Clone, Debug, PartialEq)]
pub struct SalvagePage {
    pub salvage: Salvage,
    /// Changes of the registry, of twins, of C2D queues and the like, in the order in which they were made.
    pub changes: Vec<SalvagedChange>,
    pub events: Vec<SalvagedEvent>,
    /// Where the next page begins; `None`: this is the last.
    pub next: Option<String>,
}

/// A change that was lost, beside what is there now.
#[derive(Clone, Debug, PartialEq)]
pub struct SalvagedChange {
    /// `registry`, `twin`, `c2d`, or another kind of data.
    pub kind: String,
    pub device: Option<String>,
    /// What was done, for a person.
    pub what: String,
    /// The value it had in the lost records; `None`: it was deleted there.
    pub lost: Option<Value>,
    /// The value it has in the hub now; `None`: there is none.
    pub present: Option<Value>,
}

/// A telemetry event that was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalvagedEvent {
    pub sequence: Sequence,
    pub device: String,
    pub enqueued: UnixMillis,
    /// Bytes of its body.
    pub bytes: u64,
}

/// What a replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    pub appended: u64,
    /// Events that an earlier replay had appended.
    pub skipped: u64,
}

/// Why nothing can be said about a segment, or done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SalvageError {
    /// No region of the hub keeps such a segment.
    NotFound,
    /// Its region, or the hub's primary, does not answer; nothing was done.
    Unavailable(String),
    /// It may have been done, in part or as a whole.
    OutcomeUnknown(String),
    /// It cannot be done now, and why.
    Refused(String),
}
