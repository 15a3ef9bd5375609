//! The device side of MQTT 3.1.1, as little as sending telemetry needs.

use bytes::{Bytes, BytesMut};
use rmqtt_codec::types::Publish;
use rmqtt_codec::v3::{Codec, Connect, ConnectAckReason, Packet, QoS};
use rustls::pki_types::ServerName;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::{Decoder, Encoder};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const KEEP_ALIVE_S: u16 = 60;
/// No packet a device gets here is larger.
const PACKET_BYTES_MAX: u32 = 512 * 1024;

/// Who connects, to which hub.
pub struct Login<'a> {
    pub host: &'a str,
    pub device: &'a str,
    pub token: String,
}

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// Worth another try.
    Passing(String),
    /// The hub knows better: another try changes nothing.
    Refused(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Passing(why) | Fault::Refused(why) => f.write_str(why),
        }
    }
}

/// An open MQTT connection of a device.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    codec: Codec,
    incoming: BytesMut,
}

impl Connection {
    /// Opens TCP and TLS, sends CONNECT, and waits for its answer.
    ///
    /// # Errors
    /// [`Fault::Refused`] when the hub refuses the identity.
    pub async fn open(
        address: SocketAddr,
        tls: &Arc<rustls::ClientConfig>,
        login: &Login<'_>,
    ) -> Result<Connection, Fault> {
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, Connection::dial(address, tls, login));
        opened.await.unwrap_or_else(|_| {
            Err(Fault::Passing(format!(
                "{address} did not answer within {} s",
                CONNECT_TIMEOUT.as_secs()
            )))
        })
    }

    async fn dial(
        address: SocketAddr,
        tls: &Arc<rustls::ClientConfig>,
        login: &Login<'_>,
    ) -> Result<Connection, Fault> {
        let passing = |error: std::io::Error| Fault::Passing(format!("{address}: {error}"));
        let name = ServerName::try_from(login.host.to_owned())
            .map_err(|_| Fault::Refused(format!("`{}` is not a host name", login.host)))?;
        let stream = TcpStream::connect(address).await.map_err(passing)?;
        stream.set_nodelay(true).map_err(passing)?;
        let stream = TlsConnector::from(tls.clone())
            .connect(name, stream)
            .await
            .map_err(passing)?;
        let mut connection = Connection {
            stream,
            codec: Codec::new(PACKET_BYTES_MAX),
            incoming: BytesMut::new(),
        };
        connection
            .send(vec![connect(login)])
            .await
            .map_err(passing)?;
        match connection.next().await.map_err(passing)? {
            Packet::ConnectAck(ack) => accepted(ack.return_code).map(|()| connection),
            other => Err(Fault::Passing(format!(
                "{address} answered CONNECT with {other:?}"
            ))),
        }
    }

    /// Sends packets in one write.
    pub async fn send(&mut self, packets: Vec<Packet>) -> std::io::Result<()> {
        let mut bytes = BytesMut::new();
        for packet in packets {
            self.codec
                .encode(packet, &mut bytes)
                .map_err(std::io::Error::other)?;
        }
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }

    /// Waits for a packet; may be dropped while it waits.
    pub async fn next(&mut self) -> std::io::Result<Packet> {
        loop {
            if let Some((packet, _)) = self
                .codec
                .decode(&mut self.incoming)
                .map_err(std::io::Error::other)?
            {
                return Ok(packet);
            }
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn accepted(code: ConnectAckReason) -> Result<(), Fault> {
    let number: u8 = code.into();
    match number {
        0 => Ok(()),
        // Only 3 means trouble on the hub's side (data-plane notes section 3.1).
        3 => Err(Fault::Passing("the hub is not available".into())),
        _ => Err(Fault::Refused(format!(
            "the hub refuses the device (CONNACK {number})"
        ))),
    }
}

fn connect(login: &Login<'_>) -> Packet {
    let user = format!(
        "{}/{}/?api-version=2021-04-12&DeviceClientType=castling",
        login.host, login.device
    );
    let connect = Connect {
        clean_session: true,
        keep_alive: KEEP_ALIVE_S,
        client_id: login.device.to_owned().into(),
        username: Some(user.into()),
        password: Some(login.token.clone().into()),
        ..Connect::default()
    };
    Packet::Connect(Box::new(connect))
}

/// A telemetry message of a device, JSON, to be acknowledged.
pub fn telemetry(device: &str, packet_id: NonZeroU16, body: Bytes, again: bool) -> Packet {
    Packet::Publish(Box::new(Publish {
        dup: again,
        retain: false,
        qos: QoS::AtLeastOnce,
        topic: format!("devices/{device}/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8")
            .into(),
        packet_id: Some(packet_id),
        payload: body,
        properties: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unavailable_hub_is_tried_again() {
        let check = |code: u8| accepted(ConnectAckReason::try_from(code).unwrap());
        assert_eq!(check(0), Ok(()));
        assert!(matches!(check(3), Err(Fault::Passing(_))));
        for refused in [1, 2, 4, 5] {
            assert!(
                matches!(check(refused), Err(Fault::Refused(_))),
                "{refused}"
            );
        }
    }

    #[test]
    fn what_is_sent_is_understood_by_the_hub() {
        let login = Login {
            host: "h.castling.localhost",
            device: "d-1",
            token: "t".into(),
        };
        let Packet::Connect(connect) = connect(&login) else {
            panic!("not CONNECT")
        };
        let user = connect.username.unwrap();
        let identity = wire::mqtt_identity::MqttIdentity::parse(&connect.client_id, &user).unwrap();
        assert_eq!(
            (identity.host.as_str(), identity.device.as_str()),
            ("h.castling.localhost", "d-1")
        );
        let mut bytes = BytesMut::new();
        let packet = telemetry("d-1", NonZeroU16::MIN, "{}".into(), true);
        Codec::new(0).encode(packet.clone(), &mut bytes).unwrap();
        assert_eq!(Codec::new(0).decode(&mut bytes).unwrap().unwrap().0, packet);
    }
}
