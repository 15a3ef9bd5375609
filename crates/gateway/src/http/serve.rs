//! Accepts connections and runs HTTP/1.1 over them, with every bound that keeps a slow or hostile client from holding the
//! server: connections, header size, header time, request time, time without progress when writing.
//!
//! Used for the data plane and for the management API.

use super::header_names::{HeaderNames, NameWatch};
use super::pledge::{Pledge, PledgeGuard};
use super::stall::StallGuard;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use types::limits;

/// Time to hand out after accepting failed (no file handles left, say), so that the loop does not spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The leaf certificate (DER) that the client showed in the TLS handshake; an extension of its requests.
#[derive(Clone)]
pub struct ClientCertificate(pub Bytes);

/// Address of a request's client; an extension of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// What a connection's requests carry of it.
#[derive(Clone, Default)]
struct Client {
    address: Option<ClientAddress>,
    certificate: Option<ClientCertificate>,
}

/// Serves `router` over TLS until `shutdown` holds `true` or its sender is gone, then lets requests in progress finish for
/// at most [`limits::HTTP_DRAIN_MS`].
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    shutdown: watch::Receiver<bool>,
) {
    accept_all(listener, Some(TlsAcceptor::from(tls)), router, shutdown).await;
}

/// Like [`serve`], without TLS.
pub async fn serve_plain(listener: TcpListener, router: Router, shutdown: watch::Receiver<bool>) {
    accept_all(listener, None, router, shutdown).await;
}

async fn accept_all(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    mut shutdown: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(limits::HTTP_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        // Waiting for a slot before accepting leaves newcomers in the kernel's bounded queue.
        let next = async {
            let slot = slots
                .clone()
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            next = next => next,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, from)) => {
                let client = Client {
                    // One address has one form, whatever the listener is bound to.
                    address: Some(ClientAddress(from.ip().to_canonical())),
                    certificate: None,
                };
                let (tls, router, shutdown) = (tls.clone(), router.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection(stream, client, tls, router, shutdown).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting an http connection failed");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(limits::HTTP_DRAIN_MS), drained)
        .await
        .is_err()
    {
        tracing::warn!(
            "http connections were cut at shutdown because their requests did not finish"
        );
    }
    connections.shutdown().await;
}

/// Returns once the server shall stop.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: nobody could tell us to stop any more.
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("the owner of an http server is gone");
    }
}

async fn connection(
    stream: TcpStream,
    mut client: Client,
    tls: Option<TlsAcceptor>,
    router: Router,
    shutdown: watch::Receiver<bool>,
) {
    // Without it a reply of two small writes waits 40 ms for the peer's delayed ACK.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "http connection lost before it began");
        return;
    }
    let stream = StallGuard::new(stream, Duration::from_millis(limits::HTTP_WRITE_STALL_MS));
    let pledge = Pledge::default();
    let stream = PledgeGuard::new(stream, pledge.clone());
    let Some(tls) = tls else {
        return talk(stream, client, pledge, router, shutdown).await;
    };
    let handshake = tls.accept(stream);
    match tokio::time::timeout(
        Duration::from_millis(limits::HTTP_HEADER_READ_MS),
        handshake,
    )
    .await
    {
        Ok(Ok(stream)) => {
            let leaf = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|chain| chain.first());
            client.certificate = leaf.map(|leaf| ClientCertificate(Bytes::copy_from_slice(leaf)));
            talk(stream, client, pledge, router, shutdown).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "tls handshake failed"),
        Err(_) => tracing::debug!("tls handshake took too long"),
    }
}

async fn talk<S>(
    stream: S,
    client: Client,
    pledge: Pledge,
    router: Router,
    mut shutdown: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let names = HeaderNames::default();
    let stream = NameWatch::new(stream, names.clone());
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(names.clone());
        request.extensions_mut().insert(pledge.clone());
        if let Some(address) = client.address {
            request.extensions_mut().insert(address);
        }
        if let Some(certificate) = &client.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        let answer = router.call(request);
        async move {
            match tokio::time::timeout(
                Duration::from_millis(limits::HTTP_REQUEST_TIMEOUT_MS),
                answer,
            )
            .await
            {
                Ok(answer) => answer,
                Err(_) => Ok::<_, Infallible>(timed_out()),
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits::HTTP_HEADER_READ_MS))
        .max_buf_size(limits::HTTP_HEADER_BYTES_MAX)
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "http connection ended");
    }
}

/// The answer of last resort; a router with a shorter time-out of its own answers in its own form.
fn timed_out() -> Response<Body> {
    let body = r#"{"error":{"code":"GatewayTimeout","message":"The request took too long. It may have been carried out."}}"#;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    let json = header::HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    /// A connection in memory, so that time can be virtual.
    fn connect(router: Router) -> (DuplexStream, watch::Sender<bool>) {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(talk(
            server,
            Client::default(),
            Pledge::default(),
            router,
            stopped,
        ));
        (client, stop)
    }

    async fn exchange(client: &mut DuplexStream, request: &str) -> String {
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_too_long_is_answered() {
        let slow = get(|| async { tokio::time::sleep(Duration::from_secs(3600)).await });
        let (mut client, _stop) = connect(Router::new().route("/slow", slow));
        let answer = exchange(
            &mut client,
            "GET /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(
            answer.starts_with("HTTP/1.1 504") && answer.contains("GatewayTimeout"),
            "{answer}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_finish_its_head_or_asks_nothing_is_cut_off() {
        for begun in ["", "GET / HTTP/1.1\r\nHost:"] {
            let (mut client, _stop) = connect(Router::new());
            let before = tokio::time::Instant::now();
            let answer = exchange(&mut client, begun).await;
            assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
            assert_eq!(
                before.elapsed().as_secs(),
                limits::HTTP_HEADER_READ_MS / 1000
            );
        }
    }
}
