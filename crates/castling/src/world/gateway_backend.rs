//! The gateways' way into their region.

use arm::HubTokenError;
use gateway::backend::{
    Backend, BearerError, BoxFuture, CallError, Divergence, EventPage, From, HubView, Permit,
    SendError, Session, SessionHandle, Standing,
};
use hub::telemetry::{Events, StoredEvent};
use hub::{Command, Effect, Reply};
use region::peer::{EventRun, ReadFrom};
use region::{Region, Route, SessionPort};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use types::{
    ConnectionId, DeviceId, Epoch, HubId, PartitionId, PartitionKey, RegionName, UnixMillis,
};

pub struct GatewayBackend {
    region: Arc<Region>,
    next_connection: AtomicU64,
}

impl GatewayBackend {
    pub fn new(region: Arc<Region>) -> Self {
        // Numbers of two runs and of two gateways must not meet: they begin at a random place.
        let mut seed = [0; 8];
        region::fill_random(&mut seed);
        let first = u64::from_be_bytes(seed) | 1;
        GatewayBackend {
            region,
            next_connection: AtomicU64::new(first),
        }
    }
}

impl Backend for GatewayBackend {
    fn bearer(&self, token: &str, hub: HubId, action: &'static str) -> Result<(), BearerError> {
        let state = self.region.plane.state();
        let Some(hub) = state.hub(hub) else {
            return Err(BearerError::Unproven("The IoT hub is gone.".into()));
        };
        arm::verify_for_hub(&state, token, hub, action, self.region.clock.now()).map_err(|error| {
            match error {
                HubTokenError::Unproven(why) => BearerError::Unproven(why),
                HubTokenError::NotAllowed(why) => BearerError::NotAllowed(why),
            }
        })
    }

    fn region(&self) -> &RegionName {
        &self.region.me
    }

    fn now(&self) -> UnixMillis {
        self.region.clock.now()
    }

    fn connection_id(&self) -> ConnectionId {
        ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed).max(1))
    }

    fn hub(&self, name: &str) -> Option<Arc<HubView>> {
        Some(self.view(&*self.region.router.by_name(name)?))
    }

    fn hub_by_id(&self, id: HubId) -> Option<Arc<HubView>> {
        Some(self.view(&*self.region.router.by_id(id)?))
    }

    fn only_hub(&self) -> Option<Arc<HubView>> {
        Some(self.view(&*self.region.router.only()?))
    }

    fn standing(&self) -> Standing {
        standing(&self.region)
    }

    fn permit(&self, hub: HubId) -> Permit {
        let route = self.region.router.by_id(hub);
        Permit {
            hub,
            epoch: route.as_ref().map_or(Epoch(0), |route| route.epoch),
            here: route.is_none_or(|route| route.primary == self.region.me),
            term: self.region.lease.answering_term(),
        }
    }

    fn may_answer(&self, permit: Permit) -> bool {
        let route = self.region.router.by_id(permit.hub);
        let (forced, epoch, here) = match &route {
            Some(route) => (route.forced, route.epoch, route.primary == self.region.me),
            None => (Epoch(0), Epoch(0), true),
        };
        // Led elsewhere all the time: that region's lease counted, and its answer came over the link.
        let elsewhere = !permit.here && !here && permit.epoch == epoch;
        forced <= permit.epoch && (elsewhere || self.region.lease.term() == Some(permit.term))
    }

    fn stale_call(
        &self,
        hub: HubId,
        partition: PartitionId,
        command: Command,
    ) -> BoxFuture<'_, Result<Reply, CallError>> {
        Box::pin(async move {
            self.region
                .router
                .stale_read(PartitionKey { hub, partition }, command)
                .await
                .map_err(of_region)
        })
    }

    fn call(
        &self,
        hub: HubId,
        partition: PartitionId,
        command: Command,
    ) -> BoxFuture<'_, Result<Reply, CallError>> {
        Box::pin(async move {
            self.region
                .router
                .call(PartitionKey { hub, partition }, command)
                .await
                .map_err(of_region)
        })
    }

    fn read_events(
        &self,
        hub: HubId,
        partition: PartitionId,
        from: From,
        max: usize,
        wait_ms: u64,
    ) -> BoxFuture<'_, Result<EventPage, CallError>> {
        let from = match from {
            From::Sequence(sequence) => ReadFrom::Sequence(sequence),
            From::Time(time) => ReadFrom::Time(time),
            From::Earliest => ReadFrom::Earliest,
            From::Latest => ReadFrom::Latest,
        };
        Box::pin(async move {
            let at = PartitionKey { hub, partition };
            let page = self
                .region
                .router
                .read_events(at, from, max, wait_ms)
                .await
                .map_err(of_region)?;
            let mut events = Vec::new();
            for run in page.runs {
                events.extend(decode(run)?);
            }
            Ok(EventPage {
                events,
                next: page.next,
                epoch: page.epoch,
            })
        })
    }

    fn session_opened(&self, session: SessionHandle) {
        self.region.router.session_opened(region::Session {
            at: PartitionKey {
                hub: session.hub,
                partition: session.partition,
            },
            device: session.device,
            connection: session.connection,
            since: session.since,
            port: Arc::new(Port(session.session)),
        });
    }

    fn session_closed(&self, hub: HubId, device: &DeviceId, connection: ConnectionId) {
        let Some(route) = self.region.router.by_id(hub) else {
            return;
        };
        let partition = types::partition_of(device, route.settings.partition_count);
        self.region
            .router
            .session_closed(PartitionKey { hub, partition }, device, connection);
    }
}

/// Whether a region's gateways serve devices.
pub(super) fn standing(region: &Region) -> Standing {
    if !region.holds_lease() {
        // One that never had a lease lacks it since it started.
        let since_ms = region.isolated_ms();
        return Standing::NoLease {
            since_ms: since_ms.unwrap_or_else(|| region.uptime_ms()),
        };
    }
    match *region.draining().borrow() {
        Some(rate_per_s) => Standing::Draining { rate_per_s },
        None => Standing::Serving,
    }
}

impl GatewayBackend {
    fn view(&self, route: &Route) -> Arc<HubView> {
        let (divergences, divergences_until) = self.region.plane.with(|state| {
            let Some(hub) = state.hub(route.settings.id) else {
                return (Vec::new(), Epoch(0));
            };
            // A forced failover writes down its divergence when it has opened, which is after its epoch began.
            let running = hub
                .operation
                .as_ref()
                .and_then(|id| state.operations.get(id));
            let until = match running.and_then(control::Operation::switch) {
                Some(switch) if switch.forced => switch.epoch.min(hub.epoch),
                _ => hub.epoch,
            };
            (hub.divergences.iter().map(divergence).collect(), until)
        });
        Arc::new(HubView {
            settings: (*route.settings).clone(),
            primary: route.primary.clone(),
            epoch: route.epoch,
            divergences: divergences.into(),
            divergences_until,
        })
    }
}

fn divergence(known: &control::Divergence) -> Divergence {
    Divergence {
        epoch: known.epoch,
        partitions: known
            .partitions
            .iter()
            .map(|cut| (cut.partition, cut.next_sequence))
            .collect(),
    }
}

struct Port(Arc<dyn Session>);

impl SessionPort for Port {
    fn deliver(&self, effect: Effect) {
        self.0.deliver(effect);
    }

    fn interests(&self) -> (bool, Option<u64>) {
        self.0.interests()
    }
}

fn decode(run: EventRun) -> Result<Vec<StoredEvent>, CallError> {
    let corrupt = |error: hub::telemetry::CorruptEvents| {
        CallError::Send(SendError::Unavailable {
            why: error.to_string(),
            retry_after_ms: 1000,
        })
    };
    let mut events = Events::new(run.first, run.count, run.bytes);
    events.skip_events(run.skip).map_err(corrupt)?;
    events
        .take(run.take as usize)
        .map(|event| event.map_err(corrupt))
        .collect()
}

fn of_region(error: region::CallError) -> CallError {
    match error {
        region::CallError::Reject(reject) => CallError::Reject(reject),
        region::CallError::FailingOver { retry_after_ms } => {
            CallError::Send(SendError::FailingOver { retry_after_ms })
        }
        region::CallError::Unavailable {
            why,
            retry_after_ms,
        } => CallError::Send(SendError::Unavailable {
            why,
            retry_after_ms,
        }),
        region::CallError::OutcomeUnknown { why } => {
            CallError::Send(SendError::OutcomeUnknown { why })
        }
    }
}
