//! The server itself, over loopback sockets.

use super::*;
use crate::http::{serve, serve_plain, with_extra};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use types::limits;
use wire::property_bag::Properties;

struct Server {
    address: std::net::SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

async fn start(router: Router) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    Server {
        address,
        stop,
        task: tokio::spawn(serve_plain(listener, router, stopped)),
    }
}

/// Reads one response: its head, and as much of a body as it announces.
async fn response(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut got = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&got).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")
                    .map(str::to_owned)
            });
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        let mut piece = [0; 1024];
        let count = stream.read(&mut piece).await.unwrap();
        if count == 0 {
            return text;
        }
        got.extend_from_slice(&piece[..count]);
    }
}

fn telemetry(client: &Client, more: &str) -> String {
    let token = client.token("myhub/devices/d1", KEY, None);
    format!(
        "POST /devices/d1/messages/events HTTP/1.1\r\nHost: myhub.x\r\nAuthorization: {token}\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn property_names_keep_their_case_and_connections_stay_open() {
    let client = Client::new();
    client.register("d1").await;
    let server = start(client.router.clone()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for name in ["TempAlert", "tempAlert"] {
        let request = telemetry(
            &client,
            &format!("iothub-app-{name}: yes\r\nContent-Length: 2\r\n"),
        ) + "hi";
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(response(&mut stream).await.starts_with("HTTP/1.1 204"));
    }
    let chunked =
        telemetry(&client, "Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    stream.write_all(chunked.as_bytes()).await.unwrap();
    assert!(response(&mut stream).await.starts_with("HTTP/1.1 204"));
    let events = client.world.events();
    let names: Vec<_> = events[..2]
        .iter()
        .map(|event| {
            Properties::parse(std::str::from_utf8(&event.bag).unwrap())
                .unwrap()
                .application
                .into_keys()
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(names, ["TempAlert", "tempAlert"]);
    assert_eq!(&events[2].body[..], b"abcde");
    assert_eq!(client.metrics.answered(), 4);
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let client = Client::new();
    let server = start(client.router.clone()).await;
    for (length, expected) in [
        (limits::HTTP_BODY_BYTES_MAX, "HTTP/1.1 401"),
        (4 * limits::HTTP_BODY_BYTES_MAX, ""),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = format!(
            "PUT /devices/d1 HTTP/1.1\r\nHost: myhub.x\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // Beyond the bound the server may close first.
        let sent = stream.write_all(&vec![b'x'; length]).await;
        if !expected.is_empty() {
            sent.unwrap();
            assert!(response(&mut stream).await.starts_with(expected));
        }
    }
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "PUT /devices/d1 HTTP/1.1\r\nHost: myhub.x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(
        response(&mut stream).await.starts_with("HTTP/1.1 401"),
        "no invitation to send what is refused"
    );
}

#[tokio::test]
async fn heads_are_bounded_and_nonsense_is_refused() {
    let client = Client::new();
    let server = start(client.router.clone()).await;
    let send = |bytes: Vec<u8>| async move {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // The server may refuse and close before it has read everything.
        let _ = stream.write_all(&bytes).await;
        response(&mut stream).await
    };
    let mut long = b"GET / HTTP/1.1\r\nHost: h\r\nx: ".to_vec();
    // Not a byte more than the server reads: bytes left unread would make it reset the connection.
    long.resize(limits::HTTP_HEADER_BYTES_MAX, b'y');
    let refused = send(long).await;
    assert!(refused.starts_with("HTTP/1.1 431"), "{refused}");
    assert!(
        send(b"\x16\x03\x01\x00\x01 nonsense\r\n\r\n".to_vec())
            .await
            .starts_with("HTTP/1.1 400")
    );
    let unknown = send(b"GET /devices HTTP/1.1\r\nHost: nobody.x\r\n\r\n".to_vec()).await;
    assert!(
        unknown.starts_with("HTTP/1.1 404") && unknown.contains("iothub-errorcode: IotHubNotFound"),
        "{unknown}"
    );
}

#[tokio::test]
async fn requests_in_progress_finish_at_shutdown_and_idle_connections_close() {
    let (entered, mut inside) = tokio::sync::mpsc::channel::<()>(1);
    let (release, released) = watch::channel(false);
    let slow = axum::routing::get(move || {
        let (entered, mut released) = (entered.clone(), released.clone());
        async move {
            entered.send(()).await.unwrap();
            released.wait_for(|go| *go).await.unwrap();
            "done"
        }
    });
    let server = start(Router::new().route("/slow", slow)).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /none HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .unwrap();
    assert!(response(&mut idle).await.starts_with("HTTP/1.1 404"));
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .unwrap();
    inside.recv().await.unwrap();

    server.stop.send(true).unwrap();
    assert_eq!(
        idle.read(&mut [0; 1]).await.unwrap(),
        0,
        "an idle connection closes"
    );
    release.send(true).unwrap();
    assert!(response(&mut busy).await.ends_with("done"));
    server.task.await.unwrap();
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn extra_routes_come_before_the_api() {
    let client = Client::new();
    let extra = Router::new().route("/healthz", axum::routing::get(|| async { "ok" }));
    let router = with_extra(client.router.clone(), extra);
    let client = Client { router, ..client };
    assert_eq!(client.call("GET", "/healthz").send().await.text(), "ok");
    client
        .call("GET", "/devices")
        .refused(ErrorCode::IotHubUnauthorized)
        .await;
}

#[tokio::test]
async fn over_tls_a_client_certificate_reaches_the_router() {
    let make = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (certificate.der().clone(), key)
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (server_certificate, server_key) = make("myhub.castling.test");
    let (device_certificate, device_key) = make("x1");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(device_certificate.clone()).unwrap();
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let config =
        config.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap());
    let config = config
        .with_single_cert(vec![server_certificate.clone()], server_key)
        .unwrap();

    let echo = axum::routing::get(
        |certificate: axum::Extension<crate::http::ClientCertificate>| async move { certificate.0.0 },
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(serve(
        listener,
        Arc::new(config),
        Router::new().route("/echo", echo),
        stopped,
    ));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(server_certificate).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![device_certificate.clone()], device_key)
        .unwrap();
    let name = rustls::pki_types::ServerName::try_from("myhub.castling.test").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    stream
        .write_all(b"GET /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(&device_certificate),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    stop.send(true).unwrap();
    task.await.unwrap();
}
