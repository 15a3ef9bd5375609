//! Hubs in memory behind the gateway's contract: the real core decides, a map per partition keeps.

use super::KEY;
use crate::backend::{
    Backend, BearerError, BoxFuture, CallError, Divergence, EventPage, From as Start, HubView,
    Permit, SendError, SessionHandle, Standing,
};
use bytes::Bytes;
use hub::telemetry::StoredEvent;
use hub::{Command, Context, MemoryView, Refused, Reply};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use types::{
    CloudToDevice, ConnectionId, DeviceId, Epoch, HubId, HubName, HubSettings, PartitionId, Policy,
    RegionName, Replication, Rights, Sequence, UnixMillis,
};

const START: i64 = 1_795_403_045_678;

pub(in crate::http) struct World {
    region: RegionName,
    hubs: Mutex<Vec<Arc<HubView>>>,
    /// The epoch in which events are read.
    epoch: AtomicU64,
    pub(in crate::http) standing: Mutex<Standing>,
    /// Counts up whenever the lease lapsed; 0: none is held.
    pub(in crate::http) term: AtomicU64,
    /// From now on commands are carried out, but the lease lapses meanwhile.
    pub(in crate::http) lapses: std::sync::atomic::AtomicBool,
    partitions: Mutex<BTreeMap<(HubId, PartitionId), Partition>>,
    now: AtomicI64,
    random: AtomicU64,
    devices: AtomicI64,
    /// What calls to a partition (all when `None`) fail with.
    trouble: Mutex<Option<(Option<PartitionId>, SendError)>>,
}

#[derive(Default)]
struct Partition {
    view: MemoryView,
    events: Vec<StoredEvent>,
}

pub(in crate::http) const PARTITIONS: u16 = 4;

fn settings(id: u32, name: &str) -> HubSettings {
    let policy = |name: &str, rights: &str| Policy {
        name: name.to_owned(),
        primary_key: KEY.to_owned(),
        secondary_key: super::OTHER_KEY.to_owned(),
        rights: Rights {
            registry_read: rights.contains('r'),
            registry_write: rights.contains('w'),
            service_connect: rights.contains('s'),
            device_connect: rights.contains('d'),
        },
    };
    HubSettings {
        id: HubId(id),
        name: HubName::parse(name).unwrap(),
        partition_count: PARTITIONS,
        retention_days: 1,
        replication: Replication::Async,
        partner_away: types::PartnerAway::Wait,
        lag_max_ms: None,
        cloud_to_device: CloudToDevice::default(),
        policies: vec![
            policy("iothubowner", "rwsd"),
            policy("service", "s"),
            policy("device", "d"),
            policy("registryRead", "r"),
            policy("registryReadWrite", "rw"),
        ],
        consumer_groups: vec!["$Default".into(), "cg1".into()],
        routing: None,
        access: Default::default(),
    }
}

impl World {
    pub(in crate::http) fn with_hubs(names: &[&str]) -> World {
        let hubs = names.iter().zip(1..).map(|(name, id)| {
            let primary = RegionName::parse("westus2").unwrap();
            Arc::new(HubView {
                settings: settings(id, name),
                primary,
                epoch: Epoch(1),
                divergences: Arc::default(),
                divergences_until: Epoch(1),
            })
        });
        World {
            region: RegionName::parse("westus2").unwrap(),
            hubs: Mutex::new(hubs.collect()),
            epoch: AtomicU64::new(1),
            standing: Mutex::new(Standing::Serving),
            term: AtomicU64::new(1),
            lapses: std::sync::atomic::AtomicBool::new(false),
            partitions: Mutex::default(),
            now: AtomicI64::new(START),
            random: AtomicU64::new(1),
            devices: AtomicI64::new(0),
            trouble: Mutex::new(None),
        }
    }

    /// From now on every hub lets in who `access` says.
    pub(in crate::http) fn set_access(&self, access: &types::HubAccess) {
        for hub in self.hubs.lock().iter_mut() {
            let mut settings = hub.settings.clone();
            settings.access = access.clone();
            *hub = Arc::new(HubView {
                settings,
                primary: hub.primary.clone(),
                epoch: hub.epoch,
                divergences: hub.divergences.clone(),
                divergences_until: hub.divergences_until,
            });
        }
    }

    pub(in crate::http) fn seconds(&self) -> i64 {
        self.now.load(Relaxed) / 1000
    }

    pub(in crate::http) fn advance(&self, millis: i64) {
        self.now.fetch_add(millis, Relaxed);
    }

    /// From now on commands to `partition` (all: `None`) fail.
    pub(in crate::http) fn fail(&self, partition: Option<PartitionId>, error: SendError) {
        *self.trouble.lock() = Some((partition, error));
    }

    /// The primary reads and writes in this epoch now.
    pub(in crate::http) fn enter(&self, epoch: u64) {
        self.epoch.store(epoch, Relaxed);
    }

    /// This region's copy of the control plane knows of these divergences and of everything up to `epoch`.
    pub(in crate::http) fn learn(&self, epoch: u64, divergences: Vec<Divergence>) {
        for hub in &mut *self.hubs.lock() {
            *hub = Arc::new(HubView {
                settings: hub.settings.clone(),
                primary: hub.primary.clone(),
                epoch: Epoch(epoch),
                divergences: divergences.clone().into(),
                divergences_until: Epoch(epoch),
            });
        }
    }

    /// A forced failover lost the events of `partition` from `next` on.
    pub(in crate::http) fn lose(&self, hub: HubId, partition: PartitionId, next: u64) {
        let mut partitions = self.partitions.lock();
        let kept = partitions.entry((hub, partition)).or_default();
        kept.events.truncate(next as usize);
    }

    /// Every stored event, by partition.
    pub(in crate::http) fn events(&self) -> Vec<StoredEvent> {
        self.partitions
            .lock()
            .values()
            .flat_map(|partition| partition.events.clone())
            .collect()
    }

    fn check_trouble(&self, partition: PartitionId) -> Result<(), CallError> {
        match &*self.trouble.lock() {
            Some((only, error)) if only.is_none_or(|only| only == partition) => {
                Err(CallError::Send(error.clone()))
            }
            _ => Ok(()),
        }
    }

    fn decide(
        &self,
        hub: HubId,
        partition: PartitionId,
        command: &Command,
    ) -> Result<Reply, CallError> {
        self.check_trouble(partition)?;
        let known = self.hub_by_id(hub).expect("tests ask known hubs");
        let mut partitions = self.partitions.lock();
        let kept = partitions.entry((hub, partition)).or_default();
        let random = |out: &mut [u8]| {
            for byte in out {
                *byte = (self
                    .random
                    .fetch_add(1, Relaxed)
                    .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                    >> 56) as u8;
            }
        };
        let context = Context {
            now: self.now(),
            settings: &known.settings,
            partition,
            epoch: known.epoch,
            devices_in_hub: self.devices.load(Relaxed) as u64,
            presence: &|_| None,
            last_activity: &|_| None,
            random: &random,
        };
        let decision =
            hub::decide(&kept.view, &context, command).map_err(|refused| match refused {
                Refused::Reject(reject) => CallError::Reject(reject),
                Refused::View(error) => panic!("the store is memory: {error}"),
            })?;
        kept.view.apply(&decision.writes);
        self.devices.fetch_add(decision.devices_delta, Relaxed);
        for event in decision.writes.events {
            kept.events.push(StoredEvent {
                sequence: Sequence(kept.events.len() as u64),
                enqueued: self.now(),
                device: event.device,
                generation: event.origin.generation.clone(),
                auth_method: event.origin.auth_method,
                bag: event.bag,
                body: event.body,
            });
        }
        Ok(decision.reply)
    }

    fn page(
        &self,
        hub: HubId,
        partition: PartitionId,
        from: Start,
        max: usize,
    ) -> Result<EventPage, CallError> {
        self.check_trouble(partition)?;
        let mut partitions = self.partitions.lock();
        let events = &partitions.entry((hub, partition)).or_default().events;
        let first = match from {
            Start::Earliest => 0,
            Start::Latest => events.len(),
            Start::Sequence(sequence) => (sequence.0 as usize).min(events.len()),
            Start::Time(at) => events
                .iter()
                .take_while(|event| event.enqueued < at)
                .count(),
        };
        let events: Vec<_> = events.iter().skip(first).take(max).cloned().collect();
        let next = Sequence((first + events.len()) as u64);
        Ok(EventPage {
            events,
            next,
            epoch: Epoch(self.epoch.load(Relaxed)),
        })
    }

    /// Puts an event in as it is, also one that no gateway would have let through.
    pub(in crate::http) fn store(
        &self,
        hub: HubId,
        partition: PartitionId,
        bag: &str,
        body: &[u8],
    ) {
        let mut partitions = self.partitions.lock();
        let events = &mut partitions.entry((hub, partition)).or_default().events;
        events.push(StoredEvent {
            sequence: Sequence(events.len() as u64),
            enqueued: self.now(),
            device: DeviceId::parse("stored").unwrap(),
            generation: "1".into(),
            auth_method: hub::command::AuthMethod::DeviceSas,
            bag: Bytes::copy_from_slice(bag.as_bytes()),
            body: Bytes::copy_from_slice(body),
        });
    }
}

impl Backend for World {
    /// A token is a list of what its holder may do.
    fn bearer(&self, token: &str, _: HubId, action: &'static str) -> Result<(), BearerError> {
        let Some(actions) = token.strip_prefix("may:") else {
            return Err(BearerError::Unproven(
                "The access token is malformed.".into(),
            ));
        };
        let allowed = actions.split(',').any(|allowed| allowed == action);
        allowed
            .then_some(())
            .ok_or_else(|| BearerError::NotAllowed(format!("No role allows '{action}'.")))
    }

    fn region(&self) -> &RegionName {
        &self.region
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.now.load(Relaxed))
    }

    fn connection_id(&self) -> ConnectionId {
        ConnectionId(self.random.fetch_add(1, Relaxed))
    }

    fn hub(&self, name: &str) -> Option<Arc<HubView>> {
        self.hubs
            .lock()
            .iter()
            .find(|hub| hub.settings.name.as_str().eq_ignore_ascii_case(name))
            .cloned()
    }

    fn hub_by_id(&self, id: HubId) -> Option<Arc<HubView>> {
        self.hubs
            .lock()
            .iter()
            .find(|hub| hub.settings.id == id)
            .cloned()
    }

    fn only_hub(&self) -> Option<Arc<HubView>> {
        match self.hubs.lock().as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    fn standing(&self) -> Standing {
        *self.standing.lock()
    }

    fn permit(&self, hub: HubId) -> Permit {
        Permit {
            hub,
            epoch: Epoch(self.epoch.load(Relaxed)),
            here: true,
            term: self.term.load(Relaxed),
        }
    }

    fn may_answer(&self, permit: Permit) -> bool {
        permit.term > 0 && self.permit(permit.hub) == permit
    }

    fn stale_call(
        &self,
        hub: HubId,
        partition: PartitionId,
        command: Command,
    ) -> BoxFuture<'_, Result<Reply, CallError>> {
        Box::pin(async move { self.decide(hub, partition, &command) })
    }

    fn call(
        &self,
        hub: HubId,
        partition: PartitionId,
        command: Command,
    ) -> BoxFuture<'_, Result<Reply, CallError>> {
        Box::pin(async move {
            if self.standing().is_isolated() {
                panic!("an isolated region asked its hub {command:?}");
            }
            let reply = self.decide(hub, partition, &command);
            if self.lapses.load(Relaxed) {
                self.term.fetch_add(1, Relaxed);
            }
            reply
        })
    }

    fn read_events(
        &self,
        hub: HubId,
        partition: PartitionId,
        from: Start,
        max: usize,
        _wait_ms: u64,
    ) -> BoxFuture<'_, Result<EventPage, CallError>> {
        Box::pin(async move { self.page(hub, partition, from, max) })
    }

    fn session_opened(&self, _session: SessionHandle) {}

    fn session_closed(&self, _hub: HubId, _device: &DeviceId, _connection: ConnectionId) {}
}
