//! Everything a client can ask of one partition, and the answers.
//!
//! Commands and replies travel between regions (postcard), so JSON inside them is carried as text.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use types::{ConnectionId, DeviceId, Epoch, RegionName, Sequence, UnixMillis};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    Registry(RegistryCommand),
    Session(SessionCommand),
    Telemetry(TelemetryCommand),
    Twin(TwinCommand),
    C2d(C2dCommand),
    Feedback(FeedbackCommand),
    Consumer(ConsumerCommand),
}

/// An `If-Match` header after its quotes were taken off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IfMatch {
    /// No header. For a device PUT this means "create".
    Absent,
    /// `*`
    Any,
    Etag(String),
}

/// The identity registry. JSON shapes: data-plane notes sections 5.2–5.4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RegistryCommand {
    /// → [`Reply::Json`]
    Get { device: DeviceId },
    /// Create or replace; `body` is the device's JSON. → [`Reply::Json`]
    Put {
        device: DeviceId,
        body: Bytes,
        if_match: IfMatch,
    },
    /// → [`Reply::Done`]
    Delete { device: DeviceId, if_match: IfMatch },
    /// In device id order, after `after`. → [`Reply::JsonList`]
    List { after: Option<DeviceId>, top: usize },
    /// Entries of this partition out of a bulk of at most 100 (JSON each). → [`Reply::Bulk`]
    Bulk { entries: Vec<BulkEntry> },
    /// → [`Reply::Statistics`]
    Statistics,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BulkEntry {
    pub device: DeviceId,
    pub body: Bytes,
}

/// Connections of devices, and what a persistent MQTT session keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SessionCommand {
    /// What a gateway needs to authenticate a device. → [`Reply::Identity`]
    Identity { device: DeviceId },
    /// An authenticated connection begins; `clean` wipes kept subscriptions. Refused (DeviceNotFound, DeviceDisabled,
    /// IotHubUnauthorized) if the identity changed since `generation` was read. → [`Reply::SessionOpened`]
    Open {
        device: DeviceId,
        generation: String,
        connection: ConnectionId,
        gateway: RegionName,
        since: UnixMillis,
        clean: bool,
    },
    /// → [`Reply::Done`]
    Close {
        device: DeviceId,
        connection: ConnectionId,
    },
    /// (topic filter, QoS) pairs; replaces equal filters. → [`Reply::Subscribed`]
    Subscribe {
        device: DeviceId,
        filters: Vec<(String, u8)>,
    },
    /// → [`Reply::Done`]
    Unsubscribe {
        device: DeviceId,
        filters: Vec<String>,
    },
    /// A gateway tells again of a connection it holds (new primary, link back). Newest `since` wins. `desired_seen` is the
    /// desired version the session last saw, if it is subscribed. → [`Reply::Done`]
    Restate {
        device: DeviceId,
        connection: ConnectionId,
        gateway: RegionName,
        since: UnixMillis,
        c2d: bool,
        desired_seen: Option<u64>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TelemetryCommand {
    /// Messages of one device, in order, all or nothing. `connection` is the session that sent them, if any. → [`Reply::Done`]
    Send {
        device: DeviceId,
        connection: Option<ConnectionId>,
        origin: Arc<EventOrigin>,
        messages: Vec<Message>,
    },
    /// Events that a forced failover had lost, from segment `segment`, in order, at most [`limits::LATE_EVENTS_MAX`]. What is
    /// at or before the last one of this segment that was appended is skipped. → [`Reply::Replayed`]
    Late {
        segment: String,
        events: Vec<LateEvent>,
    },
}

/// A lost event as it comes late. It need not have a device any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateEvent {
    /// The epoch and the position it had.
    pub epoch: Epoch,
    pub sequence: Sequence,
    pub enqueued: UnixMillis,
    pub device: DeviceId,
    pub origin: EventOrigin,
    pub message: Message,
}

impl LateEvent {
    pub fn of(epoch: Epoch, event: crate::telemetry::StoredEvent) -> LateEvent {
        LateEvent {
            epoch,
            sequence: event.sequence,
            enqueued: event.enqueued,
            device: event.device,
            origin: EventOrigin {
                generation: event.generation,
                auth_method: event.auth_method,
            },
            message: Message {
                bag: event.bag,
                body: event.body,
            },
        }
    }
}

/// What the hub says about the sender of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventOrigin {
    pub generation: String,
    pub auth_method: AuthMethod,
}

/// `iothub-connection-auth-method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthMethod {
    /// SAS with a key of the device.
    DeviceSas,
    /// SAS with a policy of the hub.
    HubSas,
    Certificate,
}

/// One telemetry message as the device sent it. `bag` is the percent-encoded property bag of MQTT (data-plane notes 3.5),
/// already checked; other protocols' properties are put into that form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub bag: Bytes,
    pub body: Bytes,
}

/// An event to append to the partition's telemetry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryEvent {
    pub device: DeviceId,
    pub origin: Arc<EventOrigin>,
    pub bag: Bytes,
    pub body: Bytes,
}

/// Device twins. JSON shapes: data-plane notes sections 3.4, 5.3, 10.3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TwinCommand {
    /// The whole twin as services see it. → [`Reply::Json`]
    Get { device: DeviceId },
    /// `{desired, reported}` as the device sees it. → [`Reply::Json`]
    DeviceGet { device: DeviceId },
    /// Merge into reported. `base` is an optional expected `$version`. → [`Reply::ReportedVersion`]
    PatchReported {
        device: DeviceId,
        body: Bytes,
        base: Option<u64>,
    },
    /// Merge tags and desired (service PATCH). → [`Reply::Json`]
    Patch {
        device: DeviceId,
        body: Bytes,
        if_match: IfMatch,
    },
    /// Replace the sections that are present (service PUT). → [`Reply::Json`]
    Replace {
        device: DeviceId,
        body: Bytes,
        if_match: IfMatch,
    },
}

/// What feedback the sender of a cloud-to-device message wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ack {
    #[default]
    None,
    Positive,
    Negative,
    Full,
}

/// A cloud-to-device message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct C2dMessage {
    /// Made by the hub when empty.
    pub message_id: String,
    pub correlation_id: Option<String>,
    pub user_id: Option<String>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    /// Absolute; the hub's default life applies when absent.
    pub expiry: Option<UnixMillis>,
    pub ack: Ack,
    /// Application properties, in order.
    pub properties: Vec<(String, String)>,
    pub body: Bytes,
}

/// Who holds the lock of a cloud-to-device message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockOwner {
    /// An MQTT session. A newer connection of the device may take the lock over at once (MQTT redelivers with DUP).
    Connection(ConnectionId),
    Http,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum C2dCommand {
    /// → [`Reply::C2dQueued`]
    Send {
        device: DeviceId,
        message: C2dMessage,
    },
    /// Locks up to `max` waiting messages for `lock_ms`. → [`Reply::C2dMessages`]
    Lock {
        device: DeviceId,
        max: usize,
        owner: LockOwner,
        lock_ms: i64,
    },
    /// → [`Reply::Done`] or DeviceMessageLockLost
    Complete {
        device: DeviceId,
        lock_token: String,
    },
    /// → [`Reply::Done`] or DeviceMessageLockLost
    Reject {
        device: DeviceId,
        lock_token: String,
    },
    /// → [`Reply::Done`] or DeviceMessageLockLost
    Abandon {
        device: DeviceId,
        lock_token: String,
    },
    /// → [`Reply::Purged`]
    Purge { device: DeviceId },
    /// The region's timer: expire what is due and unlock what timed out, at most `max` messages. → [`Reply::Done`]
    Sweep { max: usize },
}

/// A message handed to a device, with its lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedMessage {
    pub lock_token: String,
    pub sequence: u64,
    pub enqueued: UnixMillis,
    pub expiry: UnixMillis,
    pub delivery_count: u16,
    /// True when it may have been delivered before: MQTT sets DUP.
    pub redelivered: bool,
    pub message: C2dMessage,
}

/// Feedback about cloud-to-device messages, for services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FeedbackCommand {
    /// Locks the waiting records as one batch. → [`Reply::Feedback`]
    Lock,
    /// → [`Reply::Done`] or DeviceMessageLockLost
    Complete { lock_token: String },
    /// → [`Reply::Done`] or DeviceMessageLockLost
    Abandon { lock_token: String },
}

/// Where a consumer group stands in this partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConsumerCommand {
    /// → [`Reply::Offset`]
    Get { group: String },
    /// Stores "everything before `next` was read". → [`Reply::Done`]
    Commit { group: String, offset: StoredOffset },
    /// Forgets the group's position (group deleted). → [`Reply::Done`]
    Forget { group: String },
}

/// A consumer's stored position: the next sequence number to read, and the epoch in which it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOffset {
    pub next: Sequence,
    pub epoch: Epoch,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    /// A JSON text and the entity's etag (without quotes; empty when it has none).
    Json {
        body: Bytes,
        etag: String,
    },
    /// JSON texts in device id order, each with the id to go on after.
    JsonList(Vec<(DeviceId, Bytes)>),
    /// One entry per failed device; empty: all done. (device, code, text)
    Bulk {
        errors: Vec<BulkError>,
    },
    Statistics {
        total: u64,
        enabled: u64,
        disabled: u64,
        connected: u64,
    },
    Identity(Identity),
    /// `present`: kept state existed and was not wiped.
    SessionOpened {
        present: bool,
        subscriptions: Vec<(String, u8)>,
        desired_version: u64,
    },
    /// Granted QoS per filter, and the desired version at this moment.
    Subscribed {
        granted: Vec<u8>,
        desired_version: u64,
    },
    ReportedVersion(u64),
    C2dQueued {
        message_id: String,
        sequence: u64,
    },
    C2dMessages(Vec<LockedMessage>),
    Purged {
        count: usize,
    },
    /// `None`: nothing waits. `body` is the JSON array of records.
    Feedback(Option<FeedbackBatch>),
    Offset(Option<StoredOffset>),
    /// Late events appended, and skipped because they were appended before.
    Replayed {
        appended: u64,
        skipped: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkError {
    pub device: DeviceId,
    pub code: types::ErrorCode,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedbackBatch {
    pub lock_token: String,
    pub body: Bytes,
}

/// What authentication of a device needs. Keys are base64 text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub generation: String,
    pub enabled: bool,
    pub keys: DeviceKeys,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKeys {
    Sas {
        primary: String,
        secondary: String,
    },
    /// Thumbprints, upper-case hex.
    SelfSigned {
        primary: String,
        secondary: String,
    },
    CertificateAuthority,
    None,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("generation", &self.generation)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for DeviceKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceKeys(..)")
    }
}
