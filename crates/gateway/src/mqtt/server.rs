//! The listener: accepts, bounds, hands each socket to its own task, and winds down.

use super::admission::{Admission, Door, Verdict};
use super::auth::Peer;
use super::connection::{self, Shared};
use super::end::End;
use super::handover;
use super::mailbox::Mailbox;
use super::metrics::Metrics;
use crate::backend::Backend;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use types::limits;

const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Serves MQTT on one listener until `shutdown` becomes true; then closes every connection and waits for them, at most
/// [`limits::MQTT_SHUTDOWN_MS`].
///
/// With `tls` the sockets speak TLS. Several listeners may share `metrics`; [`limits::CONNECTIONS_MAX`] counts over all of them.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    backend: Arc<dyn Backend>,
    metrics: Arc<Metrics>,
    shutdown: watch::Receiver<bool>,
) {
    let admission = Admission::default();
    serve_with(listener, tls, backend, metrics, shutdown, admission).await;
}

/// Like [`serve`], with a rate of its own for new connections.
pub async fn serve_with(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    backend: Arc<dyn Backend>,
    metrics: Arc<Metrics>,
    mut shutdown: watch::Receiver<bool>,
    admission: Admission,
) {
    let endpoint = Endpoint::new(backend, metrics);
    let metrics = endpoint.shared.metrics.clone();
    let tls = tls.map(TlsAcceptor::from);
    let mut door = Door::new(admission, Instant::now());
    let mut pause = ACCEPT_PAUSE_MIN;
    let mut handover = pin!(handover::watch(
        endpoint.shared.clone(),
        endpoint.open.clone()
    ));
    loop {
        let accepted = tokio::select! {
            biased;
            // An error means that the sender is gone, which ends the service as well.
            _ = shutdown.wait_for(|stop| *stop) => break,
            () = handover.as_mut() => break,
            () = wake(door.wake()) => {
                while let Some(stream) = door.next(Instant::now()) {
                    metrics.admission_waiting.fetch_sub(1, Relaxed);
                    endpoint.admit(stream, tls.as_ref());
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                pause = ACCEPT_PAUSE_MIN;
                metrics.accepted.fetch_add(1, Relaxed);
                match door.arrive(stream, Instant::now()) {
                    Verdict::Admitted(stream) => endpoint.admit(stream, tls.as_ref()),
                    Verdict::Waits => {
                        metrics.admission_delayed.fetch_add(1, Relaxed);
                        metrics.admission_waiting.fetch_add(1, Relaxed);
                    }
                    Verdict::Refused => drop(metrics.admission_refused.fetch_add(1, Relaxed)),
                }
            }
            Err(error) => {
                metrics.accept_errors.fetch_add(1, Relaxed);
                if is_about_one_socket(&error) {
                    continue;
                }
                // Out of file descriptors or memory: others must close before the next can be accepted.
                tracing::warn!(%error, "accepting mqtt connections pauses");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
    drop(listener);
    let waiting = door.waiting() as u64;
    metrics.admission_waiting.fetch_sub(waiting, Relaxed);
    drop(door);
    endpoint.wind_down().await;
}

/// Sleeps until then; for ever without a time.
async fn wake(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The socket that failed was the client's; the next accept may succeed at once.
fn is_about_one_socket(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// Where connections are served, whatever carries their bytes.
#[derive(Clone)]
pub struct Endpoint {
    shared: Arc<Shared>,
    open: Arc<OpenConnections>,
}

impl Endpoint {
    pub fn new(backend: Arc<dyn Backend>, metrics: Arc<Metrics>) -> Self {
        let shared = Arc::new(Shared {
            backend,
            metrics,
            started: Instant::now(),
        });
        Endpoint {
            shared,
            open: Arc::default(),
        }
    }

    /// Serves one connection to its end; `io` may be any stream of MQTT bytes, such as a WebSocket's. Resolves at once when the connection cap is reached.
    pub fn attach<IO>(&self, io: IO, peer: Peer) -> impl Future<Output = ()> + Send + use<IO>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (shared, ticket) = (self.shared.clone(), self.enter());
        async move {
            if let Some(ticket) = ticket {
                connection::run(io, peer, shared, ticket.mailbox.clone()).await;
            }
        }
    }

    /// Closes every connection and waits for them, at most [`limits::MQTT_SHUTDOWN_MS`].
    pub async fn wind_down(&self) {
        let patience = Duration::from_millis(limits::MQTT_SHUTDOWN_MS);
        if tokio::time::timeout(patience, self.open.close_all(End::Shutdown))
            .await
            .is_err()
        {
            tracing::warn!("mqtt connections were still closing when the time for it was over");
        }
    }

    fn admit(&self, stream: TcpStream, tls: Option<&TlsAcceptor>) {
        self.shared.metrics.admitted.fetch_add(1, Relaxed);
        // Two small writes would otherwise wait 40 ms for each other (data-plane notes section 1.3).
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone before it began");
            return;
        }
        let peer = Peer {
            sni: None,
            // A socket that is gone already has none, and is served to its end like any other.
            address: (stream.peer_addr().ok()).map(|from| from.ip().to_canonical()),
        };
        match tls {
            None => drop(tokio::spawn(self.attach(stream, peer))),
            Some(acceptor) => {
                if let Some(ticket) = self.enter() {
                    drop(tokio::spawn(secured(
                        stream,
                        acceptor.clone(),
                        peer,
                        self.shared.clone(),
                        ticket,
                    )));
                }
            }
        }
    }

    /// `None` when the connection cap is reached.
    fn enter(&self) -> Option<Ticket> {
        let metrics = &self.shared.metrics;
        if metrics.connections.load(Relaxed) >= limits::CONNECTIONS_MAX as u64 {
            metrics.over_cap.fetch_add(1, Relaxed);
            return None;
        }
        Some(OpenConnections::enter(&self.open, metrics.clone()))
    }
}

async fn secured(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    mut peer: Peer,
    shared: Arc<Shared>,
    ticket: Ticket,
) {
    // Boxed: the handshake's future is large and short-lived.
    let Some(stream) = Box::pin(handshake(stream, acceptor, &ticket.mailbox)).await else {
        shared.metrics.handshake_errors.fetch_add(1, Relaxed);
        return;
    };
    let session = stream.get_ref().1;
    if session.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
        shared.metrics.handshakes_resumed.fetch_add(1, Relaxed);
    }
    peer.sni = session.server_name().map(Box::from);
    connection::run(stream, peer, shared, ticket.mailbox.clone()).await;
}

type TlsStream = Box<tokio_rustls::server::TlsStream<TcpStream>>;

async fn handshake(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    mailbox: &Mailbox,
) -> Option<TlsStream> {
    let patience = Duration::from_millis(limits::CONNECT_TIMEOUT_MS);
    let mut accept = pin!(tokio::time::timeout(patience, acceptor.accept(stream)));
    let closed_or_done = poll_fn(|cx| match accept.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => mailbox.poll_close(cx).map(|_| None),
    });
    match closed_or_done.await {
        Some(Ok(Ok(stream))) => Some(Box::new(stream)),
        Some(Ok(Err(error))) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Some(Err(_)) => {
            tracing::debug!("a TLS handshake took too long");
            None
        }
        None => None,
    }
}

/// The mailboxes of all connections of a listener, so that they can be told to close.
#[derive(Default)]
pub(super) struct OpenConnections {
    mailboxes: Mutex<HashMap<u64, Arc<Mailbox>>>,
    last: AtomicU64,
    left: Notify,
}

impl OpenConnections {
    pub(super) fn enter(self: &Arc<Self>, metrics: Arc<Metrics>) -> Ticket {
        let number = self.last.fetch_add(1, Relaxed);
        let mailbox = Arc::<Mailbox>::default();
        self.mailboxes.lock().insert(number, mailbox.clone());
        metrics.connections.fetch_add(1, Relaxed);
        Ticket {
            number,
            mailbox,
            open: self.clone(),
            metrics,
        }
    }

    /// Those that nobody has asked to close yet.
    pub(super) fn not_closing(&self) -> Vec<Weak<Mailbox>> {
        let mailboxes = self.mailboxes.lock();
        let open = mailboxes.values().filter(|mailbox| !mailbox.is_closing());
        open.map(Arc::downgrade).collect()
    }

    async fn close_all(&self, end: End) {
        let mailboxes: Vec<_> = self.mailboxes.lock().values().cloned().collect();
        for mailbox in mailboxes {
            mailbox.close(end);
        }
        loop {
            let left = self.left.notified();
            if self.mailboxes.lock().is_empty() {
                return;
            }
            left.await;
        }
    }
}

/// A connection's entry; leaving removes it.
pub(super) struct Ticket {
    number: u64,
    pub(super) mailbox: Arc<Mailbox>,
    open: Arc<OpenConnections>,
    metrics: Arc<Metrics>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut mailboxes = self.open.mailboxes.lock();
        mailboxes.remove(&self.number);
        self.metrics.connections.fetch_sub(1, Relaxed);
        if mailboxes.is_empty() {
            self.open.left.notify_one();
        }
    }
}
