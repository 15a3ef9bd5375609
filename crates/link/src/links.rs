//! The links of one region with all its peers.
//!
//! Of two regions the one with the smaller name dials; so a pair has one connection, and both ends know who makes it anew.

mod accept;
mod batch;
mod connection;
mod dial;
mod frame;
mod handshake;
mod hello;
mod outbox;
mod peer;

use crate::pki::{Identity, PkiError, region_of};
use crate::tls::{self, TlsError};
use crate::{Class, Handler, LinkError};
use bytes::Bytes;
use outbox::not_sent;
use parking_lot::{Mutex, RwLock};
use peer::Peer;
use rustls::RootCertStore;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use types::{RegionName, limits};

/// Who a region is, whom it knows, and what proves it.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    pub me: RegionName,
    /// Where the listener is bound; port 0 stands for any.
    pub listen: SocketAddr,
    /// The other regions, without `me`, and where they listen: `HOST:PORT`, looked up at each attempt.
    pub peers: BTreeMap<RegionName, String>,
    /// The region certificate, as [`crate::pki::Authority::ensure_region`] gives it.
    pub identity: Identity,
    /// The regions' authority.
    pub roots: Arc<RootCertStore>,
    /// Two deployments never mix: 1 to 255 bytes, equal on both sides.
    pub deployment: String,
    pub speaks: Speaks,
}

/// What travels over the links, told to each peer when a link is made (docs/formats/link.md, "Hello").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaks {
    /// Lowest and highest version of the payloads that this program understands.
    pub payloads: (u8, u8),
    /// Version of the program, for people: at most 255 bytes.
    pub software: String,
}

/// Why links cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The settings contradict each other.
    Config(String),
    Tls(TlsError),
    Listener(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(why) => write!(f, "cannot start the region links: {why}"),
            StartError::Tls(why) => why.fmt(f),
            StartError::Listener(_) => f.write_str("cannot use the listener of the region links"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Config(_) => None,
            StartError::Tls(why) => why.source(),
            StartError::Listener(why) => Some(why),
        }
    }
}

impl From<TlsError> for StartError {
    fn from(why: TlsError) -> Self {
        StartError::Tls(why)
    }
}

impl From<PkiError> for StartError {
    fn from(why: PkiError) -> Self {
        StartError::Tls(TlsError::Pki(why))
    }
}

/// How the link to one peer is.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStatus {
    pub name: RegionName,
    pub up: bool,
    /// Of the last ping, with what it waited behind; none before the first.
    pub rtt_ms: Option<f64>,
    /// Before encryption, since the start.
    pub bytes_out: u64,
    pub bytes_in: u64,
    /// Bytes waiting or being written, with what their frames cost in memory.
    pub queued: usize,
    /// The reason, while the link is down.
    pub why_down: Option<String>,
    /// Version of the peer's program, as of the last link; none before the first, or if it does not tell.
    pub software: Option<String>,
}

/// A connection that did not become a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub address: SocketAddr,
    pub why: String,
}

/// A region's links; clones share them. When the last clone is dropped they end.
#[derive(Clone)]
pub struct Links {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// The region's calls to itself.
    own_calls: Arc<Semaphore>,
}

struct Shared {
    me: RegionName,
    peers: BTreeMap<RegionName, Arc<Peer>>,
    handler: Arc<dyn Handler>,
    /// As of now; links that are up keep what they were made with.
    tls: RwLock<Arc<LinkTls>>,
    refusals: Mutex<VecDeque<Refusal>>,
}

struct LinkTls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    deployment: String,
    speaks: Speaks,
}

impl Links {
    /// Starts dialling and accepting; returns before any link is up.
    ///
    /// # Errors
    /// If the settings contradict each other, the certificate is not of this region, or TLS refuses it.
    pub async fn start(
        config: LinkConfig,
        listener: TcpListener,
        handler: Arc<dyn Handler>,
    ) -> Result<Links, StartError> {
        check(&config, &listener)?;
        let tls = LinkTls::new(
            &config.identity,
            config.roots,
            config.deployment,
            config.speaks,
        )?;
        let peer = |(name, address): (RegionName, String)| {
            (name.clone(), Arc::new(Peer::new(name, address)))
        };
        let peers = config.peers.into_iter().map(peer).collect();
        let refusals = Mutex::new(VecDeque::new());
        let shared = Arc::new(Shared {
            me: config.me,
            peers,
            handler,
            tls: RwLock::new(Arc::new(tls)),
            refusals,
        });
        let stop = watch::Sender::new(false);
        let tasks = Mutex::new(spawn(&shared, listener, &stop));
        let own_calls = Arc::new(Semaphore::new(limits::LINK_CALLS_IN_FLIGHT_MAX));
        Ok(Links {
            inner: Arc::new(Inner {
                shared,
                stop,
                tasks,
                own_calls,
            }),
        })
    }

    /// Asks a region and waits for its answer. A call to the own region goes to the own handler without a socket.
    ///
    /// Calls run concurrently and may overtake each other.
    ///
    /// # Errors
    /// * [`LinkError::NotSent`] if the link is down, too many calls wait, the queue had no room in time, the body is
    ///   larger than a frame, or the peer has not begun the call.
    /// * [`LinkError::OutcomeUnknown`] if there is no answer in time, or the link broke first.
    pub async fn call(
        &self,
        to: &RegionName,
        class: Class,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, LinkError> {
        if *to == self.inner.shared.me {
            return self.call_self(class, body, timeout).await;
        }
        let connection = self.peer(to)?.connection()?;
        connection.outbox.call(class, body, timeout).await
    }

    /// Sends a one-way message, in order with others of its class; to the own region it is handled before this returns.
    ///
    /// A link that breaks loses what was queued.
    ///
    /// # Errors
    /// [`LinkError::NotSent`] if the link is down or the queue of the class is full.
    pub fn cast(&self, to: &RegionName, class: Class, body: Bytes) -> Result<(), LinkError> {
        if *to == self.inner.shared.me {
            self.cast_self(class, body);
            return Ok(());
        }
        self.peer(to)?.connection()?.outbox.cast(class, body)
    }

    /// Like [`Links::cast`], after waiting for room in the queue.
    ///
    /// # Errors
    /// [`LinkError::NotSent`] if the link is down or goes down while waiting.
    pub async fn cast_wait(
        &self,
        to: &RegionName,
        class: Class,
        body: Bytes,
    ) -> Result<(), LinkError> {
        if *to == self.inner.shared.me {
            self.cast_self(class, body);
            return Ok(());
        }
        let connection = self.peer(to)?.connection()?;
        connection.outbox.cast_wait(class, body).await
    }

    /// Whether a region can be called now; the own region always can.
    pub fn up(&self, to: &RegionName) -> bool {
        let shared = &self.inner.shared;
        *to == shared.me || shared.peers.get(to).is_some_and(|peer| peer.is_up())
    }

    /// Waits until a region can be called; false if it is no peer. Bound it with a timeout.
    pub async fn wait_up(&self, to: &RegionName) -> bool {
        if *to == self.inner.shared.me {
            return true;
        }
        let Some(peer) = self.inner.shared.peers.get(to) else {
            return false;
        };
        peer.watch_up().wait_for(|up| *up).await.is_ok()
    }

    /// How the links are, by name.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.inner
            .shared
            .peers
            .values()
            .map(|peer| peer.status())
            .collect()
    }

    /// The last connections that did not become links, newest last.
    pub fn refusals(&self) -> Vec<Refusal> {
        self.inner.shared.refusals.lock().iter().cloned().collect()
    }

    /// Takes a new certificate and new authorities, for links made from now on.
    ///
    /// # Errors
    /// If the certificate is not of this region, or TLS refuses it; the former one stays.
    pub fn renew(&self, identity: &Identity, roots: Arc<RootCertStore>) -> Result<(), StartError> {
        let shared = &self.inner.shared;
        certificate_of(&shared.me, identity)?;
        let former = shared.tls();
        let (deployment, speaks) = (former.deployment.clone(), former.speaks.clone());
        *shared.tls.write() = Arc::new(LinkTls::new(identity, roots, deployment, speaks)?);
        Ok(())
    }

    pub fn me(&self) -> &RegionName {
        &self.inner.shared.me
    }

    /// Ends all links and the listener, and waits for it. Peers' calls that run here run on, their answers go nowhere.
    pub async fn shutdown(&self) {
        self.inner.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.inner.tasks.lock());
        for task in tasks {
            if let Err(failed) = task.await {
                tracing::error!(%failed, "a task of the region links failed");
            }
        }
    }

    fn peer(&self, to: &RegionName) -> Result<&Arc<Peer>, LinkError> {
        let shared = &self.inner.shared;
        shared
            .peers
            .get(to)
            .ok_or_else(|| not_sent(format!("{} knows no region {to}", shared.me)))
    }

    fn cast_self(&self, class: Class, body: Bytes) {
        let shared = &self.inner.shared;
        shared.handler.cast(shared.me.clone(), class, body);
    }

    async fn call_self(
        &self,
        class: Class,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, LinkError> {
        let Ok(permit) = self.inner.own_calls.clone().try_acquire_owned() else {
            return Err(not_sent("too many calls are running"));
        };
        let shared = self.inner.shared.clone();
        // A task of its own, as at a peer: a caller that stops waiting does not cut the work short.
        let work = tokio::spawn(async move {
            let answer = shared.handler.call(shared.me.clone(), class, body).await;
            drop(permit);
            answer
        });
        match timeout(limit, work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(LinkError::OutcomeUnknown("the handler failed".to_owned())),
            Err(_) => Err(LinkError::OutcomeUnknown(format!(
                "no answer within {limit:?}"
            ))),
        }
    }
}

impl LinkTls {
    fn new(
        identity: &Identity,
        roots: Arc<RootCertStore>,
        deployment: String,
        speaks: Speaks,
    ) -> Result<LinkTls, StartError> {
        let acceptor = tls::link_server_config(identity, roots.clone())?;
        let connector = tls::link_client_config(identity, roots)?;
        Ok(LinkTls {
            acceptor: TlsAcceptor::from(acceptor),
            connector: TlsConnector::from(connector),
            deployment,
            speaks,
        })
    }
}

impl Shared {
    fn tls(&self) -> Arc<LinkTls> {
        self.tls.read().clone()
    }

    fn note_refusal(&self, refusal: Refusal) {
        let mut refusals = self.refusals.lock();
        if refusals.len() >= limits::LINK_REFUSALS_KEPT {
            refusals.pop_front();
        }
        refusals.push_back(refusal);
    }
}

fn check(config: &LinkConfig, listener: &TcpListener) -> Result<(), StartError> {
    let wrong = |why: String| Err(StartError::Config(why));
    if config.peers.contains_key(&config.me) {
        return wrong(format!("{} is among its own peers", config.me));
    }
    if !(1..=255).contains(&config.deployment.len()) {
        return wrong("the deployment's id must have 1 to 255 bytes".to_owned());
    }
    let bound = listener.local_addr().map_err(StartError::Listener)?;
    if config.listen.port() != 0 && config.listen.port() != bound.port() {
        return wrong(format!(
            "the listener is bound to {bound}, not to {}",
            config.listen
        ));
    }
    if config.speaks.software.len() > 255 {
        return wrong("the program's version must have at most 255 bytes".to_owned());
    }
    certificate_of(&config.me, &config.identity)
}

fn certificate_of(me: &RegionName, identity: &Identity) -> Result<(), StartError> {
    let named = region_of(identity.leaf()?)?;
    if named == *me {
        return Ok(());
    }
    Err(StartError::Config(format!(
        "the certificate is of {named}, not of {me}"
    )))
}

fn spawn(
    shared: &Arc<Shared>,
    listener: TcpListener,
    stop: &watch::Sender<bool>,
) -> Vec<JoinHandle<()>> {
    let mut inbound = accept::Inbound::new();
    let mut tasks = Vec::new();
    for peer in shared.peers.values() {
        let (shared, peer, stop) = (shared.clone(), peer.clone(), stop.subscribe());
        tasks.push(if shared.me < peer.name {
            tokio::spawn(dial::keep(shared, peer, stop))
        } else {
            let (sender, receiver) = mpsc::channel(1);
            inbound.insert(peer.name.clone(), sender);
            tokio::spawn(accept::keep(shared, peer, receiver, stop))
        });
    }
    tasks.push(tokio::spawn(accept::listen(
        shared.clone(),
        listener,
        inbound,
        stop.subscribe(),
    )));
    tasks
}

/// Completes, with the reason, once the links are to end: at a shutdown or when the last [`Links`] is gone.
async fn stopped(mut stop: watch::Receiver<bool>) -> String {
    let _last_clone_dropped = stop.wait_for(|stop| *stop).await.is_err();
    "this region closes its links".to_owned()
}

#[cfg(test)]
mod tests;
