//! A client that speaks bytes, over any stream, and the server under test.

use super::fake::{Fake, KEY, NOW_S};
use crate::mqtt::Admission;
use crate::mqtt::metrics::Metrics;
use crate::mqtt::server::serve_with;
use bytes::BytesMut;
use rmqtt_codec::v3::{Codec, Connect, ConnectAckReason, LastWill, Packet, QoS};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::codec::{Decoder, Encoder};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn id(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

/// A token of `device` that is valid for an hour.
pub fn token(device: &str) -> String {
    wire::sas::make(
        &format!("myhub.example/devices/{device}"),
        KEY,
        None,
        NOW_S + 3600,
    )
}

/// CONNECT as the Python SDK writes it.
pub fn connect(device: &str) -> Connect {
    connect_with(device, &token(device))
}

pub fn connect_with(device: &str, token: &str) -> Connect {
    Connect {
        keep_alive: 60,
        client_id: device.to_owned().into(),
        username: Some(
            format!("myhub.example/{device}/?api-version=2019-10-01&DeviceClientType=py").into(),
        ),
        password: Some(token.to_owned().into()),
        ..Connect::default()
    }
}

pub fn with_will(mut connect: Connect, topic: &str, body: &'static str, retain: bool) -> Connect {
    connect.last_will = Some(LastWill {
        qos: QoS::AtLeastOnce,
        retain,
        topic: topic.to_owned().into(),
        message: body.into(),
    });
    connect
}

pub fn telemetry(packet_id: u16, body: &str) -> Packet {
    publish("devices/d1/messages/events/", packet_id, body)
}

/// QoS 1, or 0 for packet id 0.
pub fn publish(topic: &str, packet_id: u16, body: &str) -> Packet {
    crate::mqtt::work::publish(
        topic.to_owned(),
        body.to_owned().into(),
        NonZeroU16::new(packet_id),
        false,
    )
}

pub fn subscribe(packet_id: u16, filter: &str, qos: QoS) -> Packet {
    Packet::Subscribe {
        packet_id: id(packet_id),
        topic_filters: vec![(filter.to_owned().into(), qos)],
    }
}

pub fn bytes(packet: Packet) -> BytesMut {
    let mut out = BytesMut::new();
    Codec::new(0).encode(packet, &mut out).unwrap();
    out
}

pub struct Server {
    pub address: SocketAddr,
    pub backend: Arc<Fake>,
    pub metrics: Arc<Metrics>,
    pub stop: watch::Sender<bool>,
    pub task: JoinHandle<()>,
}

pub async fn server() -> Server {
    server_with(None).await
}

pub async fn server_with(tls: Option<Arc<rustls::ServerConfig>>) -> Server {
    server_that_admits(tls, Admission::default()).await
}

pub async fn server_that_admits(
    tls: Option<Arc<rustls::ServerConfig>>,
    admission: Admission,
) -> Server {
    server_of(Fake::new(), tls, admission).await
}

pub async fn server_of(
    backend: Arc<Fake>,
    tls: Option<Arc<rustls::ServerConfig>>,
    admission: Admission,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (metrics, stop) = (Arc::new(Metrics::default()), watch::Sender::new(false));
    let task = tokio::spawn(serve_with(
        listener,
        tls,
        backend.clone(),
        metrics.clone(),
        stop.subscribe(),
        admission,
    ));
    Server {
        address,
        backend,
        metrics,
        stop,
        task,
    }
}

impl Server {
    pub async fn dial(&self) -> Client<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client::new(stream)
    }

    /// A connected client.
    pub async fn client(&self, connect: Connect) -> Client<TcpStream> {
        let mut client = self.dial().await;
        assert_eq!(client.connect(connect).await, (0, false));
        client
    }

    /// Waits until `holds` of the figures.
    pub async fn counted(&self, holds: impl Fn(&Metrics) -> bool) {
        let wait = async {
            while !holds(&self.metrics) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("the figures never got there");
    }

    /// Waits until `holds` of the backend.
    pub async fn until(&self, holds: impl Fn(&super::fake::State) -> bool) {
        let wait = async {
            while !holds(&self.backend.state.lock()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("the backend never got there");
    }
}

pub struct Client<IO> {
    pub io: IO,
    codec: Codec,
    buffer: BytesMut,
}

impl<IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Client<IO> {
    pub fn new(io: IO) -> Self {
        Client {
            io,
            codec: Codec::new(0),
            buffer: BytesMut::new(),
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
        self.io.flush().await.unwrap();
    }

    pub async fn send(&mut self, packet: Packet) {
        self.write(&bytes(packet)).await;
    }

    /// Sends the packets in one write.
    pub async fn send_all(&mut self, packets: impl IntoIterator<Item = Packet>) {
        let all: Vec<u8> = packets.into_iter().flat_map(bytes).collect();
        self.write(&all).await;
    }

    /// The next packet; `None` when the server closed the connection.
    pub async fn next(&mut self) -> Option<Packet> {
        let read = async {
            loop {
                if let Some((packet, _)) = self.codec.decode(&mut self.buffer).unwrap() {
                    return Some(packet);
                }
                // A reset says the same as an orderly end.
                if self.io.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("nothing came")
    }

    pub async fn expect(&mut self, packet: Packet) {
        assert_eq!(self.next().await, Some(packet));
    }

    /// The next PUBLISH as topic, body, packet id (0 at QoS 0) and DUP.
    pub async fn published(&mut self) -> (String, String, u16, bool) {
        match self.next().await {
            Some(Packet::Publish(publish)) => (
                publish.topic.to_string(),
                String::from_utf8(publish.payload.to_vec()).unwrap(),
                publish.packet_id.map_or(0, NonZeroU16::get),
                publish.dup,
            ),
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    /// CONNACK's return code and session-present flag.
    pub async fn connect(&mut self, connect: Connect) -> (u8, bool) {
        self.send(connect.into()).await;
        match self.next().await {
            Some(Packet::ConnectAck(ack)) => {
                if ack.return_code != ConnectAckReason::ConnectionAccepted {
                    assert_eq!(self.next().await, None, "a refused connection closes");
                }
                (ack.return_code.into(), ack.session_present)
            }
            other => panic!("expected CONNACK, got {other:?}"),
        }
    }

    pub async fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.send(subscribe(9, filter, qos)).await;
        let granted = if qos == QoS::AtMostOnce {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        };
        let status = vec![rmqtt_codec::v3::SubscribeReturnCode::Success(granted)];
        self.expect(Packet::SubscribeAck {
            packet_id: id(9),
            status,
        })
        .await;
    }

    pub async fn closed(&mut self) {
        assert_eq!(self.next().await, None);
    }

    /// Proves that the connection is alive and everything sent before was handled.
    pub async fn ping(&mut self) {
        self.send(Packet::PingRequest).await;
        self.expect(Packet::PingResponse).await;
    }
}
