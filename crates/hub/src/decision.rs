//! What a decision gives back: changes, a reply, and effects to perform once the changes are durable.

use crate::command::{Reply, TelemetryEvent};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::{ConnectionId, DeviceId, RegionName, UnixMillis};

/// Changes of one command, applied as one: state entries (`None` removes) and telemetry to append, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteSet {
    pub state: Vec<(Bytes, Option<Bytes>)>,
    pub events: Vec<TelemetryEvent>,
}

impl WriteSet {
    pub fn is_empty(&self) -> bool {
        self.state.is_empty() && self.events.is_empty()
    }

    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.state.push((key.into(), Some(value.into())));
    }

    pub fn remove(&mut self, key: impl Into<Bytes>) {
        self.state.push((key.into(), None));
    }
}

/// The outcome of one command.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub writes: WriteSet,
    pub reply: Reply,
    /// Performed after the writes are durable, by the primary only.
    pub effects: Vec<Effect>,
    /// Changes of the region's volatile view of who is connected, made at once.
    pub presence: Vec<PresenceChange>,
    /// By how much the number of registered devices changes.
    pub devices_delta: i64,
}

impl Decision {
    /// A decision that only answers.
    pub fn reply(reply: Reply) -> Self {
        Decision {
            writes: WriteSet::default(),
            reply,
            effects: Vec::new(),
            presence: Vec::new(),
            devices_delta: 0,
        }
    }
}

/// A change of the volatile connection directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresenceChange {
    Connected {
        device: DeviceId,
        connection: ConnectionId,
        gateway: RegionName,
        since: UnixMillis,
    },
    /// Removes the device's entry if it is still this connection.
    Disconnected {
        device: DeviceId,
        connection: ConnectionId,
    },
    /// Removes the device's entry whatever its connection (device deleted or disabled).
    Dropped {
        device: DeviceId,
    },
    Activity {
        device: DeviceId,
        at: UnixMillis,
    },
}

/// Something to tell a gateway about one of its connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Messages wait in the device's queue: the session should lock some.
    C2dWaiting { device: DeviceId },
    /// Desired properties changed; `body` is the patch as JSON text with `$version` set.
    DesiredChanged {
        device: DeviceId,
        version: u64,
        body: Bytes,
    },
    /// The connection must close: taken over, or the identity is gone, disabled or has new keys.
    Close {
        device: DeviceId,
        connection: ConnectionId,
        why: CloseReason,
    },
}

/// Why the hub closes a device's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseReason {
    /// 400027: a newer connection of the same device was accepted.
    TakenOver,
    Deleted,
    Disabled,
    KeysChanged,
}
