//! Links over real sockets: two regions, or one region and a peer played by the test.

mod faults;
mod refusals;
mod service;

use super::frame::{self, Frame, HEADER, Kind};
use super::handshake::{self, Established, Failed, Stream};
use super::*;
use crate::BoxFuture;
use crate::pki::{Authority, Purpose};
use bytes::BytesMut;
use std::future::Future;
use std::time::SystemTime;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LONG: Duration = Duration::from_secs(30);

/// An authority, and where every region listens.
struct World {
    _folder: TempDir,
    authority: Authority,
    addresses: BTreeMap<RegionName, SocketAddr>,
    listeners: Mutex<BTreeMap<RegionName, TcpListener>>,
}

/// A region of the world with what its handler saw.
struct Node {
    links: Links,
    casts: tokio::sync::Mutex<mpsc::UnboundedReceiver<(RegionName, Class, Bytes)>>,
    changes: tokio::sync::Mutex<mpsc::UnboundedReceiver<(RegionName, bool)>>,
    hanging: tokio::sync::Mutex<mpsc::UnboundedReceiver<()>>,
}

struct Recorder {
    casts: mpsc::UnboundedSender<(RegionName, Class, Bytes)>,
    changes: mpsc::UnboundedSender<(RegionName, bool)>,
    hanging: mpsc::UnboundedSender<()>,
}

impl Handler for Recorder {
    fn call(&self, from: RegionName, class: Class, body: Bytes) -> BoxFuture<'_, Bytes> {
        Box::pin(async move {
            match &body[..] {
                b"who" => Bytes::from(format!("{from} {class:?}")),
                b"hang" => {
                    self.hanging.send(()).unwrap();
                    std::future::pending().await
                }
                b"panic" => panic!("as asked by the test"),
                b"too much" => Bytes::from(vec![0; limits::LINK_FRAME_BYTES_MAX]),
                _ => body,
            }
        })
    }

    fn cast(&self, from: RegionName, class: Class, body: Bytes) {
        let _test_is_over = self.casts.send((from, class, body));
    }

    fn changed(&self, peer: RegionName, up: bool) {
        let _test_is_over = self.changes.send((peer, up));
    }
}

fn region(name: &str) -> RegionName {
    RegionName::parse(name).unwrap()
}

fn authority() -> (TempDir, Authority) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca");
    let authority = Authority::load_or_make(&path, Purpose::Regions, SystemTime::now()).unwrap();
    (folder, authority)
}

async fn world(names: &[&str]) -> World {
    let (_folder, authority) = authority();
    let (mut addresses, mut listeners) = (BTreeMap::new(), BTreeMap::new());
    for name in names {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.insert(region(name), listener.local_addr().unwrap());
        listeners.insert(region(name), listener);
    }
    World {
        _folder,
        authority,
        addresses,
        listeners: Mutex::new(listeners),
    }
}

impl World {
    fn config(&self, name: &str) -> LinkConfig {
        let me = region(name);
        let mut addresses = self.addresses.clone();
        let listen = addresses.remove(&me).unwrap_or(([127, 0, 0, 1], 0).into());
        let text = |(name, address): (RegionName, SocketAddr)| (name, address.to_string());
        let peers = addresses.into_iter().map(text).collect();
        LinkConfig {
            identity: self.authority.issue_region(&me, SystemTime::now()).unwrap(),
            roots: Arc::new(self.authority.roots().unwrap()),
            deployment: "test".to_owned(),
            speaks: Speaks {
                payloads: (1, 1),
                software: "test".to_owned(),
            },
            me,
            listen,
            peers,
        }
    }

    async fn start(&self, name: &str) -> Node {
        self.start_as(self.config(name)).await
    }

    async fn start_as(&self, config: LinkConfig) -> Node {
        let kept = self.listeners.lock().remove(&config.me);
        let listener = match kept {
            Some(listener) => listener,
            None => TcpListener::bind(config.listen).await.unwrap(),
        };
        let (cast, casts) = mpsc::unbounded_channel();
        let (change, changes) = mpsc::unbounded_channel();
        let (hang, hanging) = mpsc::unbounded_channel();
        let handler = Recorder {
            casts: cast,
            changes: change,
            hanging: hang,
        };
        let links = Links::start(config, listener, Arc::new(handler))
            .await
            .unwrap();
        Node {
            links,
            casts: casts.into(),
            changes: changes.into(),
            hanging: hanging.into(),
        }
    }

    /// Two regions whose link is up.
    async fn pair(&self) -> (Node, Node) {
        let (a, b) = (self.start("a").await, self.start("b").await);
        assert!(soon(a.links.wait_up(&region("b"))).await);
        assert!(soon(b.links.wait_up(&region("a"))).await);
        (a, b)
    }

    /// Plays region `me` towards `peer`, up to the hellos.
    async fn play(&self, me: &str, peer: &str) -> Result<Established, Failed> {
        let config = self.config(me);
        let tls = link_tls(&config);
        let tcp = TcpStream::connect(self.addresses[&region(peer)])
            .await
            .unwrap();
        soon(handshake::dial(&tls, tcp, &config.me, &region(peer))).await
    }

    /// Starts `b` and plays its peer `a`, up to "link up".
    async fn played(&self) -> (Stream, Node) {
        let node = self.start("b").await;
        let played = self.play("a", "b").await.unwrap();
        assert!(soon(node.links.wait_up(&region("a"))).await);
        (played.stream, node)
    }
}

impl Node {
    async fn ask(&self, to: &str, body: &'static [u8]) -> Result<Bytes, LinkError> {
        self.links
            .call(&region(to), Class::Client, Bytes::from_static(body), LONG)
            .await
    }

    async fn next_change(&self) -> (RegionName, bool) {
        soon(self.changes.lock().await.recv()).await.unwrap()
    }

    async fn next_cast(&self) -> (RegionName, Class, Bytes) {
        soon(self.casts.lock().await.recv()).await.unwrap()
    }

    fn why_down(&self, peer: &str) -> String {
        let status = self
            .links
            .peers()
            .into_iter()
            .find(|status| status.name == region(peer));
        status.unwrap().why_down.unwrap_or_default()
    }
}

fn link_tls(config: &LinkConfig) -> LinkTls {
    LinkTls::new(
        &config.identity,
        config.roots.clone(),
        config.deployment.clone(),
        config.speaks.clone(),
    )
    .unwrap()
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(LONG, work).await.expect("it happens soon")
}

/// Waits for what nothing announces.
async fn eventually(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

fn frame(kind: Kind, class: Class, id: u64, body: &[u8]) -> Frame {
    Frame {
        kind,
        class,
        id,
        body: Bytes::copy_from_slice(body),
    }
}

async fn write(stream: &mut Stream, frame: Frame) {
    let bytes = [frame.header().as_slice(), &frame.body].concat();
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
}

/// The next frame that is no ping or pong.
async fn read(stream: &mut Stream, buffer: &mut BytesMut) -> Frame {
    soon(async {
        loop {
            match frame::take(buffer, limits::LINK_FRAME_BYTES_MAX).unwrap() {
                Some(Frame {
                    kind: Kind::Ping | Kind::Pong,
                    ..
                }) => {}
                Some(frame) => return frame,
                None => assert!(
                    stream.read_buf(buffer).await.unwrap() > 0,
                    "the link is open"
                ),
            }
        }
    })
    .await
}

/// Reads until the other side closes or resets the connection.
async fn closed(stream: &mut Stream) {
    soon(async {
        let mut buffer = vec![0; 64 * 1024];
        while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
    })
    .await
}
