//! One peer region: its current connection, if any, and how it goes up and down.

use super::PeerStatus;
use super::connection::Connection;
use super::handshake::Established;
use super::outbox::not_sent;
use crate::{Handler, LinkError};
use parking_lot::{Mutex, RwLock};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use types::RegionName;

/// Bytes before TLS, over all connections with a peer.
#[derive(Default)]
pub(crate) struct Counters {
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
}

pub(crate) struct Peer {
    pub name: RegionName,
    /// `HOST:PORT`: a name is looked up at each attempt, its address may change.
    pub address: String,
    counters: Arc<Counters>,
    current: RwLock<Option<Arc<Connection>>>,
    up: watch::Sender<bool>,
    why_down: Mutex<String>,
    software: Mutex<Option<String>>,
}

impl Peer {
    pub fn new(name: RegionName, address: String) -> Peer {
        Peer {
            name,
            address,
            counters: Arc::default(),
            current: RwLock::new(None),
            up: watch::Sender::new(false),
            why_down: Mutex::new("no connection yet".to_owned()),
            software: Mutex::new(None),
        }
    }

    pub fn connection(&self) -> Result<Arc<Connection>, LinkError> {
        match &*self.current.read() {
            Some(connection) => Ok(connection.clone()),
            None => Err(not_sent(format!(
                "no link to {}: {}",
                self.name,
                *self.why_down.lock()
            ))),
        }
    }

    pub fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    pub fn watch_up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    pub fn status(&self) -> PeerStatus {
        let current = self.current.read().clone();
        PeerStatus {
            name: self.name.clone(),
            up: current.is_some(),
            rtt_ms: current
                .as_ref()
                .and_then(|connection| connection.round_trip_ms()),
            bytes_out: self.counters.bytes_out.load(Ordering::Relaxed),
            bytes_in: self.counters.bytes_in.load(Ordering::Relaxed),
            queued: current
                .as_ref()
                .map_or(0, |connection| connection.outbox.queued()),
            why_down: current.is_none().then(|| self.why_down.lock().clone()),
            software: self.software.lock().clone(),
        }
    }

    /// Notes why there is no link; logs a reason once, not at every attempt.
    pub fn stays_down(&self, why: String) {
        let mut known = self.why_down.lock();
        if *known == why {
            tracing::debug!(peer = %self.name, why, "no link");
        } else {
            tracing::warn!(peer = %self.name, why, "no link");
            *known = why;
        }
    }

    /// Serves one connection from up to down. The handler hears of "up" before the first frame and of "down" after the last.
    pub async fn serve(
        &self,
        established: Established,
        handler: &Arc<dyn Handler>,
        stop: impl Future<Output = String>,
    ) {
        let connection = Arc::new(Connection::new(self.name.clone(), self.counters.clone()));
        self.software.lock().clone_from(&established.software);
        *self.current.write() = Some(connection.clone());
        tracing::info!(peer = %self.name, "link up");
        handler.changed(self.name.clone(), true);
        self.up.send_replace(true);
        let why = connection.run(established, handler.clone(), stop).await;
        tracing::warn!(peer = %self.name, why, "link down");
        *self.why_down.lock() = why;
        *self.current.write() = None;
        handler.changed(self.name.clone(), false);
        self.up.send_replace(false);
    }
}
