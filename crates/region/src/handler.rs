//! What this region does with what other regions send.

use crate::engine::{Answer, Input, Refusal};
use crate::membership;
use crate::peer::{self, Call, Cast, Return, Submitted};
use crate::region::{CallFuture, Region};
use crate::relay;
use crate::salvage;
use bytes::Bytes;
use hub::decision::PresenceChange;
use link::{Class, Handler};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use types::{ConnectionId, HubId, RegionName, limits};

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
                    Some(&peer::RAFT) => membership::raft_failed("this region is starting"),
                    _ => peer::encode_return(&Return::Malformed("this region is starting".into())),
                };
            };
            match body.first() {
                Some(&peer::RAFT) => membership::receive(&region.plane, &body).await,
                Some(&relay::RELAY) => relay::pass_on(&region.links, &body).await,
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
            forced,
        } => region.route_moved(hub, epoch, &primary, forced),
        Cast::Words { words } => region.heard.take(words),
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
        Call::Standing => Return::Standing(membership::standing(&region.plane, region.held_data)),
        Call::Barrier => Return::Barrier(region.plane.leaders_barrier().await),
        Call::Renew {
            region: asker,
            words,
        } => {
            region.plane.renewal_asked(&asker);
            region.heard.take(words);
            Return::Barrier(region.plane.leaders_barrier().await)
        }
        Call::Words { hub } => Return::Words(region.words_heard(hub)),
        Call::Facts { hub } => Return::Facts(Box::new(region.facts(hub).await)),
        Call::Fence {
            hub,
            epoch,
            operation,
        } => fence(region, hub, epoch, &operation).await,
        Call::Unfence {
            hub,
            epoch,
            operation,
        } => unfence(region, hub, epoch, &operation).await,
        Call::CatchUp { hub, handovers } => {
            engine(region, |reply| Input::CatchUp {
                hub,
                handovers,
                reply,
            })
            .await
        }
        Call::Salvages { hub } => {
            Return::Salvages(blocking(region, move |store| salvage::own_segments(store, hub)).await)
        }
        Call::SalvagePage { id, from } => Return::SalvagePage(
            blocking(region, move |store| salvage::own_page(store, &id, from)).await,
        ),
        Call::SalvageEvents { id, from } => Return::SalvageEvents(
            blocking(region, move |store| salvage::own_events(store, &id, from)).await,
        ),
        Call::SalvageDiscard { id } => Return::SalvageDiscarded(
            blocking(region, move |store| {
                store
                    .discard_salvage(&id)
                    .map_err(|error| error.to_string())
            })
            .await,
        ),
        Call::Values { at, keys } => Return::Values(
            blocking(region, move |store| salvage::own_values(store, at, &keys)).await,
        ),
        Call::Drain { rate } => {
            region.drain(rate);
            Return::Done(Ok(()))
        }
        Call::Open { role, forced } => {
            let (hub, epoch) = (role.settings.id, role.epoch);
            let done = engine(region, |reply| Input::Open { role, reply }).await;
            announced(region, hub, epoch, forced, done)
        }
    }
}

fn announced(
    region: &Region,
    hub: HubId,
    epoch: types::Epoch,
    forced: bool,
    done: Return,
) -> Return {
    if matches!(done, Return::Engine(Ok(Answer::Opened(_)))) {
        region.announce(hub, epoch, forced);
    }
    done
}

/// A fence may come late, after its operation was rolled back: the control plane is asked, beside the fence, which costs the
/// hub nothing if it stands and a moment if it does not. Fences of one hub are set and lifted one after the other.
async fn fence(region: &Arc<Region>, hub: HubId, epoch: types::Epoch, operation: &str) -> Return {
    let refuse = |why: String| Return::Engine(Err(Refusal::Step(why)));
    let stands = || {
        region
            .plane
            .with(|state| control::failover::fence_stands(state, hub, operation, epoch))
    };
    let one_by_one = region.fences_of(hub);
    let _one = one_by_one.lock().await;
    if !stands() {
        return refuse("the operation was rolled back".into());
    }
    let fenced = engine(region, |reply| Input::Fence { hub, epoch, reply });
    let (asked, fenced) = tokio::join!(region.plane.barrier(), fenced);
    match asked {
        Ok(()) if stands() => fenced,
        Ok(()) => {
            region.lift_fence(hub, epoch, operation).await;
            refuse("the operation was rolled back".into())
        }
        // It may stand: the step is asked for again, or the roll-back lifts it.
        Err(why) => refuse(why),
    }
}

/// Lifts a fence for a roll-back that is under way, as far as the control plane knows now: a call that comes late must not lift
/// the fence of a later failover.
async fn unfence(region: &Arc<Region>, hub: HubId, epoch: types::Epoch, operation: &str) -> Return {
    let refuse = |why: String| Return::Engine(Err(Refusal::Step(why)));
    let one_by_one = region.fences_of(hub);
    let _one = one_by_one.lock().await;
    if let Err(why) = region.plane.barrier().await {
        return refuse(why);
    }
    if !region.may_lift(hub, operation) {
        return refuse("its roll-back is not under way".into());
    }
    let done = engine(region, |reply| Input::Unfence { hub, epoch, reply }).await;
    announced(region, hub, epoch, false, done)
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

/// Reads the store where blocking is allowed.
async fn blocking<R: Send + 'static>(
    region: &Region,
    read: impl FnOnce(&dyn store::Store) -> Result<R, String> + Send + 'static,
) -> Result<R, String> {
    let store = region.store.clone();
    let done = tokio::task::spawn_blocking(move || read(&*store)).await;
    done.map_err(|error| error.to_string())?
}
