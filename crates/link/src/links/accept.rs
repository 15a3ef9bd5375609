//! Takes links from regions with smaller names, and refuses everybody else before handling a frame.

use super::handshake::{self, Established};
use super::peer::Peer;
use super::{Refusal, Shared, stopped};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use types::{RegionName, limits};

const HANDSHAKE: Duration = Duration::from_millis(limits::LINK_HANDSHAKE_MS_MAX);
/// After a failed accept (no file descriptors left, say) the listener rests this long.
const REST: Duration = Duration::from_millis(50);

/// Where accepted links of each dialling peer go.
pub(super) type Inbound = BTreeMap<RegionName, mpsc::Sender<Established>>;

pub(super) async fn listen(
    shared: Arc<Shared>,
    listener: TcpListener,
    inbound: Inbound,
    stop: watch::Receiver<bool>,
) {
    let inbound = Arc::new(inbound);
    let handshakes = Arc::new(Semaphore::new(limits::LINK_HANDSHAKES_MAX));
    loop {
        let next = async {
            let permit = handshakes
                .clone()
                .acquire_owned()
                .await
                .expect("it is never closed");
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            _ = stopped(stop.clone()) => return,
        };
        let (tcp, address) = match accepted {
            Ok(accepted) => accepted,
            Err(why) => {
                tracing::warn!(%why, "accepting a link failed");
                sleep(REST).await;
                continue;
            }
        };
        let (shared, inbound, stop) = (shared.clone(), inbound.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = greet(&shared, &inbound, tcp, address) => {}
                _ = stopped(stop) => {}
            }
            drop(permit);
        });
    }
}

async fn greet(shared: &Shared, inbound: &Inbound, tcp: TcpStream, address: SocketAddr) {
    let allowed = |peer: &RegionName| allowed(shared, inbound, peer);
    let tls = shared.tls();
    let greeting = handshake::accept(&tls, tcp, &shared.me, allowed);
    let why = match timeout(HANDSHAKE, greeting).await {
        Ok(Ok((peer, established))) => {
            if let Some(sender) = inbound.get(&peer) {
                // Fails only while shutting down.
                let _closing = sender.send(established).await;
            }
            return;
        }
        Ok(Err(why)) => why.to_string(),
        Err(_) => format!("no hello within {HANDSHAKE:?}"),
    };
    tracing::warn!(%address, why, "a connection did not become a link");
    shared.note_refusal(Refusal { address, why });
}

fn allowed(shared: &Shared, inbound: &Inbound, peer: &RegionName) -> Result<(), String> {
    if inbound.contains_key(peer) {
        return Ok(());
    }
    Err(if shared.peers.contains_key(peer) {
        format!("{} dials {peer}, not the other way round", shared.me)
    } else {
        format!("{} knows no region {peer}", shared.me)
    })
}

/// Serves the links that one peer dials, one at a time.
///
/// The newest wins: a peer dials again only when its end of the older one is gone.
pub(super) async fn keep(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    mut links: mpsc::Receiver<Established>,
    stop: watch::Receiver<bool>,
) {
    let mut newer: Option<Established> = None;
    loop {
        let established = match newer.take() {
            Some(established) => Some(established),
            None => tokio::select! {
                established = links.recv() => established,
                _ = stopped(stop.clone()) => None,
            },
        };
        let Some(established) = established else {
            return;
        };
        let ended = async {
            tokio::select! {
                Some(next) = links.recv() => {
                    newer = Some(next);
                    "the peer dialled anew".to_owned()
                }
                why = stopped(stop.clone()) => why,
            }
        };
        peer.serve(established, &shared.handler, ended).await;
    }
}
