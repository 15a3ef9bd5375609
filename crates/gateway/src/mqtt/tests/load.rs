//! Figures, not claims: run with `cargo test --release -p castling-gateway --lib load -- --ignored --nocapture --test-threads 1`.
//!
//! Client and server share the machine. The backend answers in groups, as a group commit does, without a disk.

use super::client::*;
use super::fake::{Fake, device};
use crate::backend::{Backend, BoxFuture, CallError, EventPage, From, HubView, SessionHandle};
use crate::mqtt::metrics::Metrics;
use crate::mqtt::server::serve;
use base64::Engine;
use hub::command::TelemetryCommand;
use hub::{Command, Reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use types::{ConnectionId, DeviceId, HubId, PartitionId, RegionName, UnixMillis};

/// Answers telemetry from another task, all that waits at once; leaves the rest to the fake.
struct Grouped {
    fake: Arc<Fake>,
    queue: mpsc::Sender<(Command, oneshot::Sender<Reply>)>,
}

impl Grouped {
    fn new(messages: Arc<AtomicU64>) -> Arc<Self> {
        let (queue, mut commands) = mpsc::channel::<(Command, oneshot::Sender<Reply>)>(16_384);
        tokio::spawn(async move {
            let mut group = Vec::new();
            while commands.recv_many(&mut group, 4096).await > 0 {
                for (command, answer) in group.drain(..) {
                    if let Command::Telemetry(TelemetryCommand::Send { messages: sent, .. }) =
                        command
                    {
                        messages.fetch_add(sent.len() as u64, Relaxed);
                    }
                    // The connection may be gone.
                    let _ = answer.send(Reply::Done);
                }
            }
        });
        Arc::new(Grouped {
            fake: Fake::new(),
            queue,
        })
    }
}

impl Backend for Grouped {
    fn region(&self) -> &RegionName {
        self.fake.region()
    }
    fn now(&self) -> UnixMillis {
        self.fake.now()
    }
    fn connection_id(&self) -> ConnectionId {
        self.fake.connection_id()
    }
    fn hub(&self, name: &str) -> Option<Arc<HubView>> {
        self.fake.hub(name)
    }
    fn hub_by_id(&self, id: HubId) -> Option<Arc<HubView>> {
        self.fake.hub_by_id(id)
    }
    fn only_hub(&self) -> Option<Arc<HubView>> {
        self.fake.only_hub()
    }
    fn call(
        &self,
        hub: HubId,
        partition: PartitionId,
        command: Command,
    ) -> BoxFuture<'_, Result<Reply, CallError>> {
        if !matches!(command, Command::Telemetry(_)) {
            return self.fake.call(hub, partition, command);
        }
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.queue
                .send((command, answer))
                .await
                .expect("the group task lives as long as the test");
            Ok(answered.await.expect("every command is answered"))
        })
    }
    fn read_events(
        &self,
        _: HubId,
        _: PartitionId,
        _: From,
        _: usize,
        _: u64,
    ) -> BoxFuture<'_, Result<EventPage, CallError>> {
        Box::pin(async { Ok(EventPage::default()) })
    }
    // Only what one handle costs; looking sessions up is the region's.
    fn session_opened(&self, _: SessionHandle) {}
    fn session_closed(&self, _: HubId, _: &DeviceId, _: ConnectionId) {}
}

fn name(n: usize) -> String {
    format!("device-{n}")
}

async fn load(connections: usize, window: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (messages, metrics, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(Metrics::default()),
        watch::Sender::new(false),
    );
    let backend = Grouped::new(messages.clone());
    for n in 0..connections {
        backend
            .fake
            .state
            .lock()
            .devices
            .insert(device(&name(n)), Default::default());
    }
    let server = tokio::spawn(serve(
        listener,
        None,
        backend,
        metrics.clone(),
        stop.subscribe(),
    ));
    let until = Instant::now() + Duration::from_secs(6);
    let clients: Vec<_> = (0..connections)
        .map(|n| tokio::spawn(one_client(address, name(n), window, until)))
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, batches, cpu, begin) = (
        messages.load(Relaxed),
        metrics.telemetry_batches.load(Relaxed),
        cpu_ms(),
        Instant::now(),
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (count, took) = (
        messages.load(Relaxed) - before,
        begin.elapsed().as_secs_f64(),
    );
    println!(
        "{connections} x {window}: {:.0} acknowledged/s, {:.1} per batch, {:.2} us CPU each (client included)",
        count as f64 / took,
        count as f64 / (metrics.telemetry_batches.load(Relaxed) - batches) as f64,
        (cpu_ms() - cpu) as f64 * 1000.0 / count as f64,
    );
    for client in clients {
        client.await.unwrap();
    }
    stop.send_replace(true);
    server.await.unwrap();
}

async fn one_client(address: std::net::SocketAddr, device: String, window: usize, until: Instant) {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut client = Client::new(stream);
    assert_eq!(client.connect(connect(&device)).await.0, 0);
    let body = "x".repeat(256);
    let batch: Vec<u8> = (1..=window)
        .flat_map(|n| {
            bytes(publish(
                &format!("devices/{device}/messages/events/"),
                n as u16,
                &body,
            ))
        })
        .collect();
    let mut acks = vec![0; 4 * window];
    while Instant::now() < until {
        client.io.write_all(&batch).await.unwrap();
        client.io.read_exact(&mut acks).await.unwrap();
    }
}

fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10
}

fn rss_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 4096
}

#[test]
#[ignore = "a measurement; takes all cores for half a minute"]
fn load_acknowledged_publishes_per_second() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for (connections, window) in [(100, 16), (1000, 16), (100, 1), (1000, 1)] {
            load(connections, window).await;
        }
    });
}

const CLIENT_OF: &str = "CASTLING_LOAD_CLIENT_OF";
/// The certificate to trust, in base64; absent for plain connections.
const TLS_CLIENT: &str = "CASTLING_LOAD_CLIENT_TLS";
const IDLE: usize = 5000;

/// The other process of the memory measurement: opens connections and holds them until it is killed.
#[test]
#[ignore = "started by load_memory_of_idle_connections"]
fn load_idle_client() {
    let Ok(address) = std::env::var(CLIENT_OF) else {
        return;
    };
    let address: std::net::SocketAddr = address.parse().unwrap();
    let tls = std::env::var(TLS_CLIENT).ok().map(|certificate| {
        let certificate = base64::prelude::BASE64_STANDARD
            .decode(certificate)
            .unwrap();
        super::edge::connector(certificate.into(), &rustls::version::TLS13)
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut held = Vec::new();
        for n in 0..IDLE {
            let stream = TcpStream::connect(address).await.unwrap();
            let stream: Box<dyn Stream> = match &tls {
                None => Box::new(stream),
                Some(connector) => Box::new(
                    connector
                        .connect(super::edge::server_name(), stream)
                        .await
                        .unwrap(),
                ),
            };
            let mut client = Client::new(stream);
            assert_eq!(client.connect(connect(&name(n))).await.0, 0);
            held.push(client);
        }
        std::future::pending::<()>().await;
    });
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Stream for T {}

#[test]
#[ignore = "a measurement"]
fn load_memory_of_idle_connections() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for tls in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (metrics, stop) = (Arc::new(Metrics::default()), watch::Sender::new(false));
            let backend = Grouped::new(Arc::default());
            for n in 0..IDLE {
                backend
                    .fake
                    .state
                    .lock()
                    .devices
                    .insert(device(&name(n)), Default::default());
            }
            let (config, certificate) = super::edge::server_config();
            let server = tokio::spawn(serve(
                listener,
                tls.then_some(config),
                backend,
                metrics.clone(),
                stop.subscribe(),
            ));
            let (before, begin) = (rss_bytes(), Instant::now());
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command
                .args([
                    "--ignored",
                    "--exact",
                    "mqtt::tests::load::load_idle_client",
                ])
                .env(CLIENT_OF, address.to_string());
            if tls {
                command.env(
                    TLS_CLIENT,
                    base64::prelude::BASE64_STANDARD.encode(certificate),
                );
            }
            let mut client = command.spawn().unwrap();
            while metrics.connects.load(Relaxed) < IDLE as u64
                && begin.elapsed() < Duration::from_secs(60)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let took = begin.elapsed().as_secs_f64();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let (held, rss) = (metrics.connections.load(Relaxed), rss_bytes());
            println!(
                "idle, tls {tls}: {held} connections, {} bytes each, opened {:.0}/s",
                (rss - before) / IDLE,
                IDLE as f64 / took
            );
            client.kill().unwrap();
            client.wait().unwrap();
            stop.send_replace(true);
            server.await.unwrap();
        }
    });
}
