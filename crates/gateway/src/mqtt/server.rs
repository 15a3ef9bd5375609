//! The listener: accepts, bounds, hands each socket to its own task, and winds down.

use super::connection::{self, Shared};
use super::end::End;
use super::mailbox::Mailbox;
use super::metrics::Metrics;
use crate::backend::Backend;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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
    mut shutdown: watch::Receiver<bool>,
) {
    let endpoint = Endpoint::new(backend, metrics);
    let tls = tls.map(TlsAcceptor::from);
    let mut pause = ACCEPT_PAUSE_MIN;
    loop {
        let accepted = tokio::select! {
            biased;
            // An error means that the sender is gone, which ends the service as well.
            _ = shutdown.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                pause = ACCEPT_PAUSE_MIN;
                endpoint.accept(stream, tls.as_ref());
            }
            Err(error) => {
                endpoint.shared.metrics.accept_errors.fetch_add(1, Relaxed);
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
    endpoint.wind_down().await;
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

    /// Serves one connection to its end; `io` may be any stream of MQTT bytes, such as a WebSocket's. `sni` is the server name
    /// of its TLS handshake. Resolves at once when the connection cap is reached.
    pub fn attach<IO>(
        &self,
        io: IO,
        sni: Option<Box<str>>,
    ) -> impl Future<Output = ()> + Send + use<IO>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (shared, ticket) = (self.shared.clone(), self.enter());
        async move {
            if let Some(ticket) = ticket {
                connection::run(io, sni, shared, ticket.mailbox.clone()).await;
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

    fn accept(&self, stream: TcpStream, tls: Option<&TlsAcceptor>) {
        self.shared.metrics.accepted.fetch_add(1, Relaxed);
        // Two small writes would otherwise wait 40 ms for each other (data-plane notes section 1.3).
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone before it began");
            return;
        }
        match tls {
            None => drop(tokio::spawn(self.attach(stream, None))),
            Some(acceptor) => {
                if let Some(ticket) = self.enter() {
                    drop(tokio::spawn(secured(
                        stream,
                        acceptor.clone(),
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

async fn secured(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>, ticket: Ticket) {
    // Boxed: the handshake's future is large and short-lived.
    let Some(stream) = Box::pin(handshake(stream, acceptor, &ticket.mailbox)).await else {
        shared.metrics.handshake_errors.fetch_add(1, Relaxed);
        return;
    };
    let sni = stream.get_ref().1.server_name().map(Box::from);
    connection::run(stream, sni, shared, ticket.mailbox.clone()).await;
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
struct OpenConnections {
    mailboxes: Mutex<HashMap<u64, Arc<Mailbox>>>,
    last: AtomicU64,
    left: Notify,
}

impl OpenConnections {
    fn enter(self: &Arc<Self>, metrics: Arc<Metrics>) -> Ticket {
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

    async fn close_all(&self, end: End) {
        let mailboxes: Vec<_> = self.mailboxes.lock().values().cloned().collect();
        mailboxes.iter().for_each(|mailbox| mailbox.close(end));
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
struct Ticket {
    number: u64,
    mailbox: Arc<Mailbox>,
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
