//! From a TCP connection to an established link: TLS, then one hello each way.

use super::LinkTls;
use super::connection::text;
use super::frame::{self, Frame, Kind};
use super::hello::{Hello, VERSIONS, Versions};
use crate::Class;
use crate::pki::{region_dns_name, region_of};
use bytes::{Bytes, BytesMut};
use rustls::pki_types::{CertificateDer, ServerName};
use std::{fmt, io};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use types::{RegionName, limits};

/// TLS reads its records in small pieces; the buffer saves system calls.
pub(crate) type Stream = TlsStream<BufReader<TcpStream>>;

const SOCKET_READ_BYTES: usize = 128 * 1024;
/// Ciphertext that TLS holds before it waits for the socket.
const TLS_WRITE_BYTES: usize = 256 * 1024;
/// Bytes in the kernel that were not sent yet: what a control frame waits for besides the write before it.
const UNSENT_BYTES: u32 = 256 * 1024;

/// A connection whose two ends know and accept each other.
pub(crate) struct Established {
    pub stream: Stream,
    /// What came after the peer's hello.
    pub rest: BytesMut,
    /// Version of the peer's program, if it tells.
    pub software: Option<String>,
}

/// Why a connection did not become a link.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The peer was told, or could not be.
    Refused(String),
    /// The connection failed, or the peer refused.
    Broken(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Refused(why) => write!(f, "refused: {why}"),
            Failed::Broken(why) => f.write_str(why),
        }
    }
}

/// Makes a link over a connection to a region that we dialled.
pub(crate) async fn dial(
    tls: &LinkTls,
    tcp: TcpStream,
    me: &RegionName,
    peer: &RegionName,
) -> Result<Established, Failed> {
    prepare(&tcp)?;
    let name = ServerName::try_from(region_dns_name(peer)).map_err(broken("naming the peer"))?;
    let buffered = BufReader::with_capacity(SOCKET_READ_BYTES, tcp);
    let mut stream = tls
        .connector
        .connect(name, buffered)
        .await
        .map_err(not_shaken)?;
    stream.get_mut().1.set_buffer_limit(Some(TLS_WRITE_BYTES));
    let certificate = named(stream.get_ref().1.peer_certificates())?;
    let mut stream = Stream::from(stream);
    let ours = hello(tls, me, peer);
    send(&mut stream, Kind::Hello, ours.encode()).await?;
    let mut rest = BytesMut::new();
    let theirs = receive(&mut stream, &mut rest).await?;
    match judge(&ours, &theirs, &certificate) {
        Ok(software) => Ok(Established {
            stream,
            rest,
            software,
        }),
        Err(why) => Err(refuse(&mut stream, why).await),
    }
}

/// Makes a link over a connection that somebody dialled; `allowed` says whether a region may.
pub(crate) async fn accept(
    tls: &LinkTls,
    tcp: TcpStream,
    me: &RegionName,
    allowed: impl Fn(&RegionName) -> Result<(), String>,
) -> Result<(RegionName, Established), Failed> {
    prepare(&tcp)?;
    let buffered = BufReader::with_capacity(SOCKET_READ_BYTES, tcp);
    let mut stream = tls.acceptor.accept(buffered).await.map_err(not_shaken)?;
    stream.get_mut().1.set_buffer_limit(Some(TLS_WRITE_BYTES));
    let certificate = named(stream.get_ref().1.peer_certificates());
    let mut stream = Stream::from(stream);
    let peer = match certificate.map_err(|why| why.to_string()) {
        Ok(peer) => match allowed(&peer) {
            Ok(()) => peer,
            Err(why) => return Err(refuse(&mut stream, why).await),
        },
        Err(why) => return Err(refuse(&mut stream, why).await),
    };
    let mut rest = BytesMut::new();
    let theirs = receive(&mut stream, &mut rest).await?;
    let ours = hello(tls, me, &peer);
    let software = match judge(&ours, &theirs, &peer) {
        Ok(software) => software,
        Err(why) => return Err(refuse(&mut stream, why).await),
    };
    send(&mut stream, Kind::Hello, ours.encode()).await?;
    let established = Established {
        stream,
        rest,
        software,
    };
    Ok((peer, established))
}

fn hello(tls: &LinkTls, me: &RegionName, peer: &RegionName) -> Hello {
    let deployment = tls.deployment.clone();
    Hello {
        versions: VERSIONS,
        deployment,
        from: me.clone(),
        to: peer.clone(),
        payloads: Versions {
            min: tls.speaks.payloads.0,
            max: tls.speaks.payloads.1,
        },
        software: Some(tls.speaks.software.clone()),
    }
}

/// Gives the version of the peer's program, if it tells.
fn judge(ours: &Hello, theirs: &Bytes, certificate: &RegionName) -> Result<Option<String>, String> {
    let agreed = Hello::decode(theirs).and_then(|theirs| {
        ours.agree(&theirs, certificate)
            .map(|_only_version| theirs.software)
    });
    agreed.map_err(|why| why.to_string())
}

/// The region in the certificate that TLS has verified.
fn named(certificates: Option<&[CertificateDer<'static>]>) -> Result<RegionName, Failed> {
    let first = certificates.and_then(|chain| chain.first());
    let first = first.ok_or_else(|| Failed::Refused("no certificate was shown".to_owned()))?;
    region_of(first).map_err(|why| Failed::Refused(why.to_string()))
}

fn prepare(tcp: &TcpStream) -> Result<(), Failed> {
    tcp.set_nodelay(true)
        .map_err(broken("setting TCP_NODELAY"))?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(tcp)
        .set_tcp_notsent_lowat(UNSENT_BYTES)
        .map_err(broken("setting TCP_NOTSENT_LOWAT"))?;
    Ok(())
}

async fn send(stream: &mut Stream, kind: Kind, body: Bytes) -> Result<(), Failed> {
    let frame = Frame {
        kind,
        class: Class::Control,
        id: 0,
        body,
    };
    let bytes = [frame.header().as_slice(), &frame.body].concat();
    stream
        .write_all(&bytes)
        .await
        .map_err(broken("sending the hello failed"))?;
    stream
        .flush()
        .await
        .map_err(broken("sending the hello failed"))
}

/// Waits for the peer's hello; a refusal in its place is an error with the peer's reason.
async fn receive(stream: &mut Stream, rest: &mut BytesMut) -> Result<Bytes, Failed> {
    loop {
        let frame = frame::take(rest, limits::LINK_HELLO_BYTES_MAX);
        match frame.map_err(broken("no hello came"))? {
            Some(Frame {
                kind: Kind::Hello,
                body,
                ..
            }) => return Ok(body),
            Some(Frame {
                kind: Kind::Refuse,
                body,
                ..
            }) => {
                return Err(Failed::Broken(format!("the peer refused: {}", text(&body))));
            }
            Some(other) => {
                return Err(Failed::Broken(format!(
                    "no hello came but a {:?}",
                    other.kind
                )));
            }
            None => {}
        }
        if stream
            .read_buf(rest)
            .await
            .map_err(broken("waiting for the hello failed"))?
            == 0
        {
            return Err(Failed::Broken(
                "the peer closed the connection without a hello".to_owned(),
            ));
        }
    }
}

/// Tells the peer why it is refused, as far as it listens.
async fn refuse(stream: &mut Stream, why: String) -> Failed {
    let told = async {
        send(stream, Kind::Refuse, Bytes::from(why.clone())).await?;
        stream.shutdown().await.map_err(broken("closing failed"))?;
        // Bytes left unread would make the kernel reset the connection, and the peer might never see the reason.
        let mut unread = BytesMut::with_capacity(limits::LINK_HELLO_BYTES_MAX);
        let read = stream.read_buf(&mut unread).await;
        read.map(|_bytes| ()).map_err(broken("closing failed"))
    };
    if let Err(error) = told.await {
        tracing::debug!(%error, "the peer may not know why it was refused");
    }
    Failed::Refused(why)
}

/// Says in our words what goes wrong most often.
fn not_shaken(why: io::Error) -> Failed {
    let text = why.to_string();
    let hint = if text.contains("UnknownIssuer") || text.contains("UnknownCA") {
        ": the certificate is of another authority; it comes from another `castling init`"
    } else if text.contains("Expired") {
        ": a certificate has ended, see `castling init renew`, or a clock is wrong"
    } else if text.contains("NotValidForName") {
        ": another node answers at this address"
    } else {
        ""
    };
    Failed::Broken(format!("the TLS handshake failed: {text}{hint}"))
}

fn broken<E: fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> Failed {
    move |why| Failed::Broken(format!("{doing}: {why}"))
}
