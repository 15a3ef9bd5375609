//! The gateways' way into their region.

use gateway::backend::{
    Backend, BoxFuture, CallError, EventPage, From, HubView, SendError, Session, SessionHandle,
};
use hub::telemetry::{Events, StoredEvent};
use hub::{Command, Effect, Reply};
use region::peer::{EventRun, ReadFrom};
use region::{Region, Route, SessionPort};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use types::{ConnectionId, DeviceId, HubId, PartitionId, PartitionKey, RegionName, UnixMillis};

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
        self.region.router.by_name(name).map(view)
    }

    fn hub_by_id(&self, id: HubId) -> Option<Arc<HubView>> {
        self.region.router.by_id(id).map(view)
    }

    fn only_hub(&self) -> Option<Arc<HubView>> {
        self.region.router.only().map(view)
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

struct Port(Arc<dyn Session>);

impl SessionPort for Port {
    fn deliver(&self, effect: Effect) {
        self.0.deliver(effect);
    }

    fn interests(&self) -> (bool, Option<u64>) {
        self.0.interests()
    }
}

fn view(route: Arc<Route>) -> Arc<HubView> {
    Arc::new(HubView {
        settings: (*route.settings).clone(),
        primary: route.primary.clone(),
        epoch: route.epoch,
    })
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
