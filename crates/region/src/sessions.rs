//! Sessions this region's gateways hold: where effects find them, and what is told again to a new primary.

use hub::Effect;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use types::{ConnectionId, DeviceId, HubId, PartitionKey, UnixMillis};

const SHARDS: usize = 16;

/// The way into a gateway's session.
pub trait SessionPort: Send + Sync + 'static {
    /// Must not block.
    fn deliver(&self, effect: Effect);
    /// (wants cloud-to-device messages, desired version last seen if it wants desired changes)
    fn interests(&self) -> (bool, Option<u64>);
}

#[derive(Clone)]
pub struct Session {
    pub at: PartitionKey,
    pub device: DeviceId,
    pub connection: ConnectionId,
    pub since: UnixMillis,
    pub port: Arc<dyn SessionPort>,
}

/// All sessions of this region's gateways.
#[derive(Default)]
pub struct Sessions {
    shards: [RwLock<HashMap<ConnectionId, Session>>; SHARDS],
    open: AtomicU64,
    /// Sessions that ended, for any reason, since the region started.
    closed: AtomicU64,
}

impl Sessions {
    fn shard(&self, connection: ConnectionId) -> &RwLock<HashMap<ConnectionId, Session>> {
        &self.shards[(connection.0 as usize) % SHARDS]
    }

    pub fn add(&self, session: Session) {
        if self
            .shard(session.connection)
            .write()
            .insert(session.connection, session)
            .is_none()
        {
            self.open.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn remove(&self, connection: ConnectionId) {
        if self.shard(connection).write().remove(&connection).is_some() {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.closed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn deliver(&self, connection: ConnectionId, effect: Effect) {
        let port = self
            .shard(connection)
            .read()
            .get(&connection)
            .map(|session| session.port.clone());
        if let Some(port) = port {
            port.deliver(effect);
        }
    }

    pub fn of_hub(&self, hub: HubId) -> Vec<Session> {
        let mut found = Vec::new();
        for shard in &self.shards {
            found.extend(shard.read().values().filter(|s| s.at.hub == hub).cloned());
        }
        found
    }

    pub fn count_of_hub(&self, hub: HubId) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.read().values().filter(|s| s.at.hub == hub).count() as u64)
            .sum()
    }

    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    pub fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }
}
