//! A hub in memory: devices with keys, kept subscriptions, queues and twins; it can hold its answers back.

use crate::backend::{
    Backend, BearerError, BoxFuture, CallError, EventPage, From, HubView, Permit, SessionHandle,
    Standing,
};
use bytes::Bytes;
use hub::command::*;
use hub::decision::CloseReason;
use hub::{Command, Effect, Reply};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use tokio::sync::watch;
use types::*;

pub const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
pub const OTHER_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
pub const NOW_S: i64 = 1_700_000_000;

#[derive(Default)]
pub struct Device {
    pub disabled: bool,
    pub subscriptions: Vec<(String, u8)>,
    pub queue: VecDeque<LockedMessage>,
    pub desired_version: u64,
    pub current: Option<ConnectionId>,
    pub reported: u64,
}

#[derive(Default)]
pub struct State {
    pub devices: BTreeMap<DeviceId, Device>,
    pub sessions: Vec<SessionHandle>,
    pub telemetry: Vec<(Option<ConnectionId>, Message)>,
    pub completed: Vec<String>,
    pub closed: Vec<ConnectionId>,
    /// Answers every command but identity look-ups with this.
    pub failure: Option<CallError>,
    /// Every connection that opens is taken over in the same commit.
    pub contested: bool,
}

pub struct Fake {
    region: RegionName,
    hub: Arc<HubView>,
    now: AtomicI64,
    connections: AtomicU64,
    pub state: Mutex<State>,
    /// False: telemetry and twin commands wait.
    pub open: watch::Sender<bool>,
    pub standing: Mutex<Standing>,
    /// Counts up whenever the lease lapsed; 0: none is held.
    pub term: AtomicU64,
}

pub fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

impl Fake {
    pub fn new() -> Arc<Fake> {
        Fake::with(HubAccess::default())
    }

    /// One whose hub lets in who `access` says.
    pub fn with(access: HubAccess) -> Arc<Fake> {
        let rights = |device_connect| Rights {
            device_connect,
            service_connect: true,
            ..Rights::default()
        };
        let policy = |name: &str, device_connect| Policy {
            name: name.into(),
            primary_key: KEY.into(),
            secondary_key: OTHER_KEY.into(),
            rights: rights(device_connect),
        };
        let settings = HubSettings {
            id: HubId(1),
            name: HubName::parse("myhub").unwrap(),
            partition_count: 4,
            retention_days: 1,
            replication: Replication::Async,
            partner_away: types::PartnerAway::Wait,
            lag_max_ms: None,
            cloud_to_device: CloudToDevice::default(),
            policies: vec![policy("device", true), policy("service", false)],
            consumer_groups: vec!["$Default".into()],
            routing: None,
            access,
        };
        let region = RegionName::parse("westus2").unwrap();
        let hub = Arc::new(HubView {
            settings,
            primary: region.clone(),
            epoch: Epoch(1),
            divergences: Arc::default(),
            divergences_until: Epoch(1),
        });
        let mut state = State::default();
        for id in ["d1", "d2", "disabled"] {
            state.devices.insert(
                device(id),
                Device {
                    disabled: id == "disabled",
                    ..Device::default()
                },
            );
        }
        Arc::new(Fake {
            region,
            hub,
            now: AtomicI64::new(NOW_S * 1000),
            connections: AtomicU64::new(0),
            state: Mutex::new(state),
            open: watch::Sender::new(true),
            standing: Mutex::new(Standing::Serving),
            term: AtomicU64::new(1),
        })
    }

    pub fn queue(&self, id: &str, token: &str, redelivered: bool) {
        let message = C2dMessage {
            message_id: format!("id-{token}"),
            body: Bytes::from(token.to_owned()),
            ..Default::default()
        };
        let locked = LockedMessage {
            lock_token: token.into(),
            sequence: 1,
            enqueued: UnixMillis(0),
            expiry: UnixMillis(i64::MAX),
            delivery_count: 1,
            redelivered,
            message,
        };
        self.state
            .lock()
            .devices
            .get_mut(&device(id))
            .unwrap()
            .queue
            .push_back(locked);
        self.deliver(id, |device| Effect::C2dWaiting { device });
    }

    pub fn desired(&self, id: &str, version: u64) {
        let body = Bytes::from(format!("{{\"$version\":{version}}}"));
        self.deliver(id, |device| Effect::DesiredChanged {
            device,
            version,
            body,
        });
    }

    pub fn deliver(&self, id: &str, effect: impl FnOnce(DeviceId) -> Effect) {
        let device = device(id);
        let session = self
            .state
            .lock()
            .sessions
            .iter()
            .rfind(|session| session.device == device)
            .cloned();
        if let Some(session) = session {
            session.session.deliver(effect(device));
        }
    }

    pub fn bodies(&self) -> Vec<String> {
        let state = self.state.lock();
        state
            .telemetry
            .iter()
            .map(|(_, message)| String::from_utf8_lossy(&message.body).into_owned())
            .collect()
    }

    fn decide(&self, command: Command) -> Result<Reply, CallError> {
        let mut state = self.state.lock();
        if let (Some(failure), false) = (
            &state.failure,
            matches!(command, Command::Session(SessionCommand::Identity { .. })),
        ) {
            return Err(failure.clone());
        }
        match command {
            Command::Session(command) => self.session(&mut state, command),
            Command::Telemetry(TelemetryCommand::Send {
                connection,
                messages,
                ..
            }) => {
                state
                    .telemetry
                    .extend(messages.into_iter().map(|message| (connection, message)));
                Ok(Reply::Done)
            }
            Command::Twin(TwinCommand::DeviceGet { .. }) => Ok(Reply::Json {
                body: Bytes::from_static(b"{\"desired\":{}}"),
                etag: String::new(),
            }),
            Command::Twin(TwinCommand::PatchReported { device, body, .. }) => {
                if serde_json::from_slice::<serde_json::Value>(&body).is_err() {
                    return Err(Reject::new(ErrorCode::ArgumentInvalid, "not JSON").into());
                }
                let device = known(&mut state, &device)?;
                device.reported += 1;
                Ok(Reply::ReportedVersion(device.reported))
            }
            Command::C2d(C2dCommand::Lock { device, max, .. }) => {
                let queue = &mut known(&mut state, &device)?.queue;
                let count = max.min(queue.len());
                Ok(Reply::C2dMessages(queue.drain(..count).collect()))
            }
            Command::C2d(C2dCommand::Complete { lock_token, .. }) => {
                state.completed.push(lock_token);
                Ok(Reply::Done)
            }
            other => panic!("a gateway for devices does not send {other:?}"),
        }
    }

    fn session(&self, state: &mut State, command: SessionCommand) -> Result<Reply, CallError> {
        match command {
            SessionCommand::Identity { device } => {
                let enabled = !known(state, &device)?.disabled;
                let keys = DeviceKeys::Sas {
                    primary: KEY.into(),
                    secondary: OTHER_KEY.into(),
                };
                Ok(Reply::Identity(Identity {
                    generation: "g1".into(),
                    enabled,
                    keys,
                }))
            }
            SessionCommand::Open {
                device,
                connection,
                clean,
                ..
            } => {
                let entry = known(state, &device)?;
                if clean {
                    entry.subscriptions.clear();
                }
                let before = entry.current.replace(connection);
                let opened = Reply::SessionOpened {
                    present: !entry.subscriptions.is_empty(),
                    subscriptions: entry.subscriptions.clone(),
                    desired_version: entry.desired_version,
                };
                let before = if state.contested {
                    Some(connection)
                } else {
                    before
                };
                if let Some(old) = state
                    .sessions
                    .iter()
                    .find(|session| Some(session.connection) == before)
                {
                    old.session.deliver(Effect::Close {
                        device,
                        connection: old.connection,
                        why: CloseReason::TakenOver,
                    });
                }
                Ok(opened)
            }
            SessionCommand::Close { connection, .. } => {
                state.closed.push(connection);
                Ok(Reply::Done)
            }
            SessionCommand::Subscribe { device, filters } => {
                let entry = known(state, &device)?;
                let granted = filters.iter().map(|(_, qos)| *qos).collect();
                for (filter, qos) in filters {
                    entry.subscriptions.retain(|(other, _)| *other != filter);
                    entry.subscriptions.push((filter, qos));
                }
                Ok(Reply::Subscribed {
                    granted,
                    desired_version: entry.desired_version,
                })
            }
            SessionCommand::Unsubscribe { device, filters } => {
                known(state, &device)?
                    .subscriptions
                    .retain(|(filter, _)| !filters.contains(filter));
                Ok(Reply::Done)
            }
            SessionCommand::Restate { .. } => panic!("restating is the region's"),
        }
    }
}

fn known<'a>(state: &'a mut State, device: &DeviceId) -> Result<&'a mut Device, CallError> {
    state
        .devices
        .get_mut(device)
        .ok_or_else(|| Reject::new(ErrorCode::DeviceNotFound, "no such device").into())
}

impl Backend for Fake {
    fn bearer(&self, _: &str, _: HubId, _: &'static str) -> Result<(), BearerError> {
        Err(BearerError::Unproven("none is expected here".into()))
    }

    fn region(&self) -> &RegionName {
        &self.region
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.now.load(SeqCst))
    }

    fn connection_id(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, SeqCst) + 1)
    }

    fn hub(&self, name: &str) -> Option<Arc<HubView>> {
        name.eq_ignore_ascii_case("myhub").then(|| self.hub.clone())
    }

    fn hub_by_id(&self, id: HubId) -> Option<Arc<HubView>> {
        (id == HubId(1)).then(|| self.hub.clone())
    }

    fn only_hub(&self) -> Option<Arc<HubView>> {
        Some(self.hub.clone())
    }

    fn standing(&self) -> Standing {
        *self.standing.lock()
    }

    fn permit(&self, hub: HubId) -> Permit {
        Permit {
            hub,
            epoch: self.hub.epoch,
            here: true,
            term: self.term.load(SeqCst),
        }
    }

    fn may_answer(&self, permit: Permit) -> bool {
        permit.term > 0 && self.permit(permit.hub) == permit
    }

    fn stale_call(
        &self,
        _: HubId,
        _: PartitionId,
        command: Command,
    ) -> BoxFuture<'_, Result<Reply, CallError>> {
        panic!("devices get nothing stale: {command:?}")
    }

    fn call(
        &self,
        _: HubId,
        _: PartitionId,
        command: Command,
    ) -> BoxFuture<'_, Result<Reply, CallError>> {
        Box::pin(async move {
            if matches!(command, Command::Telemetry(_) | Command::Twin(_)) {
                self.open
                    .subscribe()
                    .wait_for(|open| *open)
                    .await
                    .expect("the sender is ours");
            }
            self.decide(command)
        })
    }

    fn read_events(
        &self,
        _: HubId,
        _: PartitionId,
        _: From,
        _: usize,
        _: u64,
    ) -> BoxFuture<'_, Result<EventPage, CallError>> {
        Box::pin(async { Ok(EventPage::default()) })
    }

    fn session_opened(&self, session: SessionHandle) {
        self.state.lock().sessions.push(session);
    }

    fn session_closed(&self, _: HubId, _: &DeviceId, connection: ConnectionId) {
        self.state
            .lock()
            .sessions
            .retain(|session| session.connection != connection);
    }
}
