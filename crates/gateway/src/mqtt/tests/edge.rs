//! The edge: TLS, deadlines, shutdown, size.

use super::client::*;
use super::fake::Fake;
use crate::mqtt::end::End;
use crate::mqtt::metrics::Metrics;
use crate::mqtt::server::Endpoint;
use rmqtt_codec::v3::{Connect, Packet};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use types::limits;

/// A connection over a pipe in memory, so that time can be paused; gives the shared figures, too.
fn pipe(backend: Arc<Fake>) -> (Client<DuplexStream>, Arc<Metrics>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let metrics = Arc::new(Metrics::default());
    tokio::spawn(Endpoint::new(backend, metrics.clone()).attach(far, Default::default()));
    (Client::new(near), metrics)
}

/// How long the connection lasts from now on; it must end like this.
async fn until_closed(metrics: &Metrics, end: End) -> Duration {
    let begin = tokio::time::Instant::now();
    while metrics.closed(end) == 0 {
        tokio::time::sleep(Duration::from_millis(90)).await;
        assert!(
            begin.elapsed() < Duration::from_secs(10_000),
            "it never ended"
        );
    }
    begin.elapsed()
}

fn about(expected_s: u64, took: Duration) {
    let expected = Duration::from_secs(expected_s);
    assert!(
        took >= expected && took < expected + Duration::from_millis(100),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn silence_closes_the_connection_after_one_and_a_half_keep_alives() {
    let (mut client, metrics) = pipe(Fake::new());
    assert_eq!(
        client
            .connect(Connect {
                keep_alive: 10,
                ..connect("d1")
            })
            .await
            .0,
        0
    );
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(14)).await;
        client.ping().await;
    }
    about(15, until_closed(&metrics, End::KeepAlive).await);
}

#[tokio::test(start_paused = true)]
async fn keep_alive_is_capped_and_zero_means_the_cap() {
    for keep_alive in [0, u16::MAX] {
        let (mut client, metrics) = pipe(Fake::new());
        assert_eq!(
            client
                .connect(Connect {
                    keep_alive,
                    ..connect("d1")
                })
                .await
                .0,
            0
        );
        let took = until_closed(&metrics, End::KeepAlive).await;
        assert_eq!(
            took.as_secs(),
            u64::from(limits::MQTT_KEEP_ALIVE_S_MAX) * 3 / 2,
            "{took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_lapsed_token_closes_the_connection_however_lively() {
    let (mut client, metrics) = pipe(Fake::new());
    assert_eq!(client.connect(connect("d1")).await.0, 0);
    let pings = async {
        loop {
            tokio::time::sleep(Duration::from_secs(30)).await;
            client.send(Packet::PingRequest).await;
        }
    };
    tokio::select! {
        () = pings => {}
        took = until_closed(&metrics, End::TokenLapsed) => about(3600, took),
    }
}

#[tokio::test(start_paused = true)]
async fn connect_must_come_in_time() {
    let (_client, metrics) = pipe(Fake::new());
    about(
        limits::CONNECT_TIMEOUT_MS / 1000,
        until_closed(&metrics, End::ConnectTimeout).await,
    );
}

#[tokio::test(start_paused = true)]
async fn a_parked_request_is_no_silence_of_the_client() {
    let backend = Fake::new();
    let (mut client, metrics) = pipe(backend.clone());
    assert_eq!(
        client
            .connect(Connect {
                keep_alive: 2,
                ..connect("d1")
            })
            .await
            .0,
        0
    );
    backend.open.send_replace(false);
    client.send(telemetry(1, "parked")).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    backend.open.send_replace(true);
    client.expect(Packet::PublishAck { packet_id: id(1) }).await;
    about(3, until_closed(&metrics, End::KeepAlive).await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_closed() {
    let backend = Fake::new();
    let (mut client, metrics) = pipe(backend.clone());
    assert_eq!(
        client
            .connect(Connect {
                keep_alive: 0,
                ..connect("d1")
            })
            .await
            .0,
        0
    );
    let pings: Vec<u8> = [0xc0, 0].repeat(60_000);
    let flood = async {
        // Fails once the connection is closed.
        while tokio::io::AsyncWriteExt::write_all(&mut client.io, &pings)
            .await
            .is_ok()
        {}
        std::future::pending::<()>().await
    };
    tokio::select! {
        () = flood => {}
        took = until_closed(&metrics, End::SlowReader) => about(limits::MQTT_WRITE_TIMEOUT_MS / 1000, took),
    }
}

#[tokio::test]
async fn shutdown_closes_every_socket_and_tells_the_hub() {
    let server = server().await;
    let mut clients = vec![
        server.client(connect("d1")).await,
        server.client(connect("d2")).await,
        server.dial().await,
    ];
    while server.metrics.connections.load(Relaxed) < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.stop.send_replace(true);
    for client in &mut clients {
        client.closed().await;
    }
    tokio::time::timeout(Duration::from_secs(10), server.task)
        .await
        .expect("it stops")
        .unwrap();
    assert_eq!(server.backend.state.lock().closed.len(), 2);
    assert_eq!(server.metrics.connections.load(Relaxed), 0);
    assert_eq!(server.metrics.sessions.load(Relaxed), 0);
    assert!(TcpStream::connect(server.address).await.is_err());
}

/// A server with a certificate of its own, and that certificate.
pub(super) fn server_config() -> (Arc<rustls::ServerConfig>, CertificateDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["myhub.example".into()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![cert.der().clone()], private)
    .unwrap();
    (Arc::new(config), cert.der().clone())
}

pub(super) fn server_name() -> ServerName<'static> {
    ServerName::try_from("myhub.example").unwrap()
}

/// A client that trusts this certificate alone.
pub(super) fn connector(
    certificate: CertificateDer<'static>,
    version: &'static rustls::SupportedProtocolVersion,
) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_protocol_versions(&[version])
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn everything_works_over_tls_and_sni_names_the_hub() {
    let (config, certificate) = server_config();
    let server = server_with(Some(config)).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let stream = connector(certificate.clone(), version)
            .connect(server_name(), stream)
            .await
            .unwrap();
        let mut client = Client::new(stream);
        let by_address = wire::sas::make(
            "127.0.0.1/devices/d1",
            super::fake::KEY,
            None,
            super::fake::NOW_S + 60,
        );
        let connect = Connect {
            username: Some("custom.name/d1/?api-version=2021-04-12".into()),
            password: Some(by_address.into()),
            ..connect("d1")
        };
        assert_eq!(client.connect(connect).await.0, 0);
        let body = "z".repeat(100_000);
        client
            .send_all([telemetry(1, &body), telemetry(2, "small")])
            .await;
        client.expect(Packet::PublishAck { packet_id: id(1) }).await;
        client.expect(Packet::PublishAck { packet_id: id(2) }).await;
        client.send(Packet::Disconnect).await;
        client.closed().await;
    }
    assert_eq!(server.backend.bodies().len(), 4);

    // Plain bytes on a TLS port end the connection, not the server.
    let mut plain = server.dial().await;
    plain.send(connect("d1").into()).await;
    while plain.io.try_read(&mut [0; 64]).map_or(true, |n| n > 0) && plain_open(&mut plain).await {}
    assert_eq!(server.metrics.handshake_errors.load(Relaxed), 1);
}

/// Reads what a TLS server says before it hangs up (an alert).
async fn plain_open(client: &mut Client<TcpStream>) -> bool {
    tokio::io::AsyncReadExt::read(&mut client.io, &mut [0; 64])
        .await
        .unwrap_or(0)
        > 0
}

#[tokio::test]
async fn an_idle_task_is_small() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let task = Endpoint::new(Fake::new(), Arc::default()).attach(stream, Default::default());
    let bytes = std::mem::size_of_val(&task);
    println!("idle task: {bytes} bytes");
    assert!(
        bytes <= 1536,
        "the future of an idle connection has {bytes} bytes"
    );
}
