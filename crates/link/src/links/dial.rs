//! Keeps the link to a region with a larger name: dials, serves, waits, dials again.

use super::handshake::{self, Established};
use super::peer::Peer;
use super::{Shared, stopped};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use types::limits;

const RETRY_MIN: Duration = Duration::from_millis(limits::LINK_RETRY_MS_MIN);
const RETRY_MAX: Duration = Duration::from_millis(limits::LINK_RETRY_MS_MAX);
const HANDSHAKE: Duration = Duration::from_millis(limits::LINK_HANDSHAKE_MS_MAX);

pub(super) async fn keep(shared: Arc<Shared>, peer: Arc<Peer>, stop: watch::Receiver<bool>) {
    let mut wait = RETRY_MIN;
    loop {
        let dialled = tokio::select! {
            dialled = timeout(HANDSHAKE, dial(&shared, &peer)) => dialled,
            _ = stopped(stop.clone()) => return,
        };
        match dialled {
            Ok(Ok(established)) => {
                let begun = Instant::now();
                peer.serve(established, &shared.handler, stopped(stop.clone()))
                    .await;
                // A link that breaks at once is no reason to dial faster.
                if begun.elapsed() >= RETRY_MAX {
                    wait = RETRY_MIN;
                }
            }
            Ok(Err(why)) => peer.stays_down(why),
            Err(_) => peer.stays_down(format!("no link within {HANDSHAKE:?}")),
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stopped(stop.clone()) => return,
        }
        wait = next_wait(wait);
    }
}

fn next_wait(wait: Duration) -> Duration {
    (wait * 2).min(RETRY_MAX)
}

async fn dial(shared: &Shared, peer: &Peer) -> Result<Established, String> {
    let tcp = TcpStream::connect(peer.address.as_str()).await;
    let tcp = tcp.map_err(|why| format!("cannot connect to {}: {why}", peer.address))?;
    let established = handshake::dial(&shared.tls(), tcp, &shared.me, &peer.name).await;
    established.map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_second() {
        let waits = std::iter::successors(Some(RETRY_MIN), |wait| Some(next_wait(*wait)));
        let ms: Vec<u128> = waits.take(7).map(|wait| wait.as_millis()).collect();
        assert_eq!(ms, [50, 100, 200, 400, 800, 1000, 1000]);
    }
}
