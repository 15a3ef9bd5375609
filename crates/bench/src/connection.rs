//! One connection: TCP or TLS, opened up to the CONNACK.

use crate::packet::{self, FromServer};
use crate::target::Way;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const OPEN_TIME: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 8 * 1024;

/// Plain or TLS.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// An accepted connection with what was read of it and not yet looked at.
pub struct Connection {
    pub device: String,
    /// When the transport was there: TCP, and TLS if there is any.
    pub secured: Instant,
    /// The TLS session is one of before.
    pub resumed: bool,
    stream: Stream,
    buffer: Vec<u8>,
}

/// Why a connection could not be opened.
pub enum Refused {
    /// The server says no; asking again would not help.
    Code(u8),
    /// The network, or a server that is not ready.
    Trouble(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Code(code) => write!(f, "CONNACK {code}"),
            Refused::Trouble(why) => f.write_str(why),
        }
    }
}

impl Connection {
    /// Opens and signs in.
    ///
    /// # Errors
    /// [`Refused`]; CONNACK 3 (not ready) counts as trouble.
    pub async fn open(way: &Way, connect: &[u8]) -> Result<Connection, Refused> {
        match tokio::time::timeout(OPEN_TIME, Connection::open_untimed(way, connect)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Refused::Trouble(format!(
                "{}: not connected after {OPEN_TIME:?}",
                way.address()
            ))),
        }
    }

    async fn open_untimed(way: &Way, connect: &[u8]) -> Result<Connection, Refused> {
        let trouble = |error: io::Error| Refused::Trouble(format!("{}: {error}", way.address()));
        let tcp = TcpStream::connect(way.address()).await.map_err(trouble)?;
        tcp.set_nodelay(true).map_err(trouble)?;
        let mut stream = match way.tls().map_err(Refused::Trouble)? {
            None => Stream::Plain(tcp),
            Some((connector, name)) => Stream::Tls(Box::new(
                connector.connect(name, tcp).await.map_err(trouble)?,
            )),
        };
        let (secured, resumed) = (Instant::now(), stream.is_resumed());
        stream.write_all(connect).await.map_err(trouble)?;
        stream.flush().await.map_err(trouble)?;
        let mut connection = Connection {
            device: way.device.clone(),
            secured,
            resumed,
            stream,
            buffer: Vec::new(),
        };
        loop {
            let mut answer = None;
            connection
                .receive(|packet| answer = answer.or(Some(packet)))
                .await
                .map_err(trouble)?;
            match answer {
                Some(FromServer::Connack(0)) => return Ok(connection),
                Some(FromServer::Connack(3)) => {
                    return Err(Refused::Trouble("CONNACK 3: not ready".into()));
                }
                Some(FromServer::Connack(code)) => return Err(Refused::Code(code)),
                Some(other) => {
                    return Err(Refused::Trouble(format!("{other:?} instead of CONNACK")));
                }
                None => {}
            }
        }
    }

    /// Sends bytes at once.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        if let Stream::Tls(tls) = &mut self.stream {
            tls.flush().await?;
        }
        Ok(())
    }

    /// Waits for bytes, and hands over each whole packet in them. May be cancelled while it waits.
    ///
    /// # Errors
    /// When the connection is gone or does not speak MQTT.
    pub async fn receive(&mut self, mut each: impl FnMut(FromServer)) -> io::Result<()> {
        let mut fresh = [0; READ_BYTES];
        let count = self.stream.read(&mut fresh).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The common case: whole packets only, nothing kept from before.
        if self.buffer.is_empty() {
            let mut rest = &fresh[..count];
            while let Some(packet) = packet::take(&mut rest).map_err(io::Error::other)? {
                each(packet);
            }
            self.buffer.extend_from_slice(rest);
            return Ok(());
        }
        self.buffer.extend_from_slice(&fresh[..count]);
        let whole = std::mem::take(&mut self.buffer);
        let mut rest = whole.as_slice();
        while let Some(packet) = packet::take(&mut rest).map_err(io::Error::other)? {
            each(packet);
        }
        self.buffer = rest.to_vec();
        Ok(())
    }

    /// Leaves as a client should: DISCONNECT, then the end of the stream.
    pub async fn close(mut self) {
        // Nobody waits for the outcome: the server notices either way.
        let _ = self.send(&[0xe0, 0]).await;
        let _ = self.stream.shutdown().await;
    }
}

impl Stream {
    fn is_resumed(&self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => {
                stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
