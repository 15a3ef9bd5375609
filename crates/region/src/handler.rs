//! What this region does with what other regions send.

use crate::engine::{Answer, Input, Refusal};
use crate::peer::{self, Call, Cast, Return, Submitted};
use crate::region::{CallFuture, Region};
use bytes::Bytes;
use hub::decision::PresenceChange;
use link::{Class, Handler};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use types::{ConnectionId, HubId, RegionName, limits};

pub const RAFT_OK: u8 = 0;
const RAFT_FAILED: u8 = 1;

/// Links exist before the region does: until it is attached, calls are refused and casts dropped (all of them are repeated).
#[derive(Default)]
pub struct Peers {
    region: OnceLock<Weak<Region>>,
}

impl Peers {
    pub fn attach(&self, region: &Arc<Region>) {
        if self.region.set(Arc::downgrade(region)).is_err() {
            tracing::error!("a region was attached twice");
        }
    }

    fn region(&self) -> Option<Arc<Region>> {
        self.region.get()?.upgrade()
    }

    pub fn deliver(&self, connection: ConnectionId, effect: hub::Effect) {
        if let Some(region) = self.region() {
            region.router.sessions.deliver(connection, effect);
        }
    }
}

impl Handler for Peers {
    fn call(&self, from: RegionName, _class: Class, body: Bytes) -> CallFuture<'_> {
        let region = self.region();
        Box::pin(async move {
            let Some(region) = region else {
                return match body.first() {
                    Some(&peer::RAFT) => raft_failed("this region is starting"),
                    _ => peer::encode_return(&Return::Malformed("this region is starting".into())),
                };
            };
            match body.first() {
                Some(&peer::RAFT) => {
                    match region.plane.consensus().receive(body.slice(1..)).await {
                        Ok(answer) => {
                            let mut framed = Vec::with_capacity(answer.len() + 1);
                            framed.push(RAFT_OK);
                            framed.extend_from_slice(&answer);
                            framed.into()
                        }
                        Err(why) => raft_failed(&why),
                    }
                }
                _ => peer::encode_return(&answer(&region, &from, &body).await),
            }
        })
    }

    fn cast(&self, from: RegionName, _class: Class, body: Bytes) {
        let Some(region) = self.region() else { return };
        match peer::decode::<Cast>(&body) {
            Ok(cast) => take(&region, from, cast),
            Err(why) => tracing::warn!(%from, %why, "a message was not understood"),
        }
    }

    fn changed(&self, peer: RegionName, up: bool) {
        let Some(region) = self.region() else { return };
        tracing::info!(region = %region.me, %peer, up, "link");
        region.engine().tell(Input::Link {
            peer: peer.clone(),
            up,
        });
        if up {
            // Whatever effects or presence the peer missed while it was away, it learns now.
            for route in region.router.routes.all() {
                if route.primary == peer {
                    region.spawn(region.router.clone().restate(route.settings.id));
                } else if route.secondary.as_ref() == Some(&peer) {
                    region.router.tell_sessions(route.settings.id);
                }
            }
        }
    }
}

fn raft_failed(why: &str) -> Bytes {
    let mut framed = vec![RAFT_FAILED];
    framed.extend_from_slice(why.as_bytes());
    framed.into()
}

fn take(region: &Arc<Region>, from: RegionName, cast: Cast) {
    match cast {
        Cast::Engine(message) => region.engine().tell(Input::Message { from, message }),
        Cast::Effect {
            connection, effect, ..
        } => region.router.sessions.deliver(connection, effect),
        Cast::Route {
            hub,
            epoch,
            primary,
        } => region.route_moved(hub, epoch, &primary),
        Cast::Connected {
            at,
            device,
            connection,
            since,
        } => {
            region.router.presence(
                at,
                PresenceChange::Connected {
                    device,
                    connection,
                    gateway: from,
                    since,
                },
            );
        }
        Cast::Disconnected {
            at,
            device,
            connection,
        } => {
            region
                .router
                .presence(at, PresenceChange::Disconnected { device, connection });
        }
    }
}

async fn answer(region: &Arc<Region>, from: &RegionName, body: &[u8]) -> Return {
    let call = match peer::decode::<Call>(body) {
        Ok(call) => call,
        Err(why) => {
            tracing::warn!(%from, %why, "a call was not understood");
            return Return::Malformed(why);
        }
    };
    match call {
        Call::Command { at, command } => {
            let command = Arc::new(command);
            engine(region, |reply| Input::Command { at, command, reply }).await
        }
        Call::ReadEvents {
            at,
            from,
            max,
            wait_ms,
        } => {
            let wait = Duration::from_millis(wait_ms.min(limits::READ_WAIT_MS_MAX));
            Return::Events(region.router.events.read(at, from, max, wait).await)
        }
        Call::Submit { request } => Return::Submitted(submit(region, request).await),
        Call::Barrier => Return::Barrier(
            region
                .plane
                .consensus()
                .barrier()
                .await
                .map_err(|error| error.to_string()),
        ),
        Call::Facts { hub } => Return::Facts(Box::new(region.facts(hub).await)),
        Call::Fence {
            hub,
            epoch,
            operation,
        } => fence(region, hub, epoch, &operation).await,
        Call::Unfence { hub, epoch } => {
            let done = engine(region, |reply| Input::Unfence { hub, epoch, reply }).await;
            announced(region, hub, epoch, done)
        }
        Call::CatchUp { hub, handovers } => {
            engine(region, |reply| Input::CatchUp {
                hub,
                handovers,
                reply,
            })
            .await
        }
        Call::Open { role } => {
            let (hub, epoch) = (role.settings.id, role.epoch);
            let done = engine(region, |reply| Input::Open { role, reply }).await;
            announced(region, hub, epoch, done)
        }
    }
}

fn announced(region: &Region, hub: HubId, epoch: types::Epoch, done: Return) -> Return {
    if matches!(done, Return::Engine(Ok(Answer::Opened))) {
        region.announce(hub, epoch);
    }
    done
}

/// A fence may come late, after its operation was rolled back: the control plane is asked first. One that slips in between is
/// lifted by [`Region::lift_stale_fences`].
async fn fence(region: &Arc<Region>, hub: HubId, epoch: types::Epoch, operation: &str) -> Return {
    let refuse = |why: String| Return::Engine(Err(Refusal::Step(why)));
    if let Err(why) = region.plane.barrier().await {
        return refuse(why);
    }
    if !region
        .plane
        .with(|state| control::failover::fence_stands(state, hub, operation, epoch))
    {
        return refuse("the operation was rolled back".into());
    }
    engine(region, |reply| Input::Fence { hub, epoch, reply }).await
}

async fn submit(region: &Region, request: Bytes) -> Submitted {
    region.plane.submit_here(request).await
}

async fn engine(
    region: &Region,
    input: impl FnOnce(crate::runtime::Asker) -> Input<crate::runtime::Asker>,
) -> Return {
    let stopped = Refusal::OutcomeUnknown("the region is stopping".into());
    Return::Engine(region.engine().ask(input).await.unwrap_or(Err(stopped)))
}
