//! A partition in memory for tests of registry, sessions and twins: applies decisions as a region does.

use crate::command::{
    BulkEntry, BulkError, C2dCommand, C2dMessage, IfMatch, RegistryCommand, SessionCommand,
    TwinCommand,
};
use crate::decision::PresenceChange;
use crate::{Command, Context, Decision, MemoryView, Presence, Refused, Reply, View, keys};
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeMap;
use types::{
    CloudToDevice, ConnectionId, DeviceId, Epoch, ErrorCode, HubId, HubName, HubSettings,
    PartitionId, RegionName, UnixMillis,
};

pub(crate) struct Partition {
    pub view: MemoryView,
    pub now: UnixMillis,
    pub settings: HubSettings,
    pub present: BTreeMap<DeviceId, Presence>,
    pub activity: BTreeMap<DeviceId, UnixMillis>,
    pub devices_in_hub: u64,
    random: Cell<u64>,
}

pub(crate) fn id(text: &str) -> DeviceId {
    DeviceId::parse(text).unwrap()
}

pub(crate) fn etag(text: &str) -> IfMatch {
    IfMatch::Etag(text.to_owned())
}

/// Any connection, from the gateway of `westus2`.
pub(crate) fn presence(number: u64, since: i64) -> Presence {
    Presence {
        connection: ConnectionId(number),
        gateway: RegionName::parse("westus2").unwrap(),
        since: UnixMillis(since),
    }
}

impl Partition {
    pub(crate) fn new() -> Self {
        Partition {
            view: MemoryView::default(),
            now: UnixMillis(1_700_000_000_000),
            settings: HubSettings {
                id: HubId(1),
                name: HubName::parse("test-hub").unwrap(),
                partition_count: 4,
                retention_days: 1,
                replication: Default::default(),
                partner_away: types::PartnerAway::Wait,
                lag_max_ms: None,
                cloud_to_device: CloudToDevice::default(),
                policies: Vec::new(),
                consumer_groups: vec!["$Default".into()],
                routing: None,
                access: Default::default(),
            },
            present: BTreeMap::new(),
            activity: BTreeMap::new(),
            devices_in_hub: 0,
            random: Cell::new(1),
        }
    }

    /// A partition with the given devices.
    pub(crate) fn with(devices: &[&str]) -> Self {
        let mut partition = Partition::new();
        for device in devices {
            partition.put(device, "{}", IfMatch::Absent).unwrap();
        }
        partition
    }

    /// Decides without applying.
    pub(crate) fn decide(&self, command: &Command) -> Result<Decision, Refused> {
        let random = |out: &mut [u8]| {
            for byte in out {
                let next = self
                    .random
                    .get()
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                self.random.set(next);
                *byte = (next >> 56) as u8;
            }
        };
        let context = Context {
            now: self.now,
            settings: &self.settings,
            partition: PartitionId(0),
            epoch: Epoch(1),
            devices_in_hub: self.devices_in_hub,
            presence: &|device| self.present.get(device).cloned(),
            last_activity: &|device| self.activity.get(device).copied(),
            random: &random,
        };
        crate::decide(&self.view, &context, command)
    }

    /// Decides and applies; an unreadable state fails the test.
    pub(crate) fn run(&mut self, command: Command) -> Result<Decision, ErrorCode> {
        match self.decide(&command) {
            Ok(decision) => {
                self.apply(&decision);
                Ok(decision)
            }
            Err(Refused::Reject(reject)) => {
                assert!(!reject.message.is_empty());
                Err(reject.code)
            }
            Err(Refused::View(error)) => panic!("{command:?}: {error}"),
        }
    }

    fn apply(&mut self, decision: &Decision) {
        self.view.apply(&decision.writes);
        self.devices_in_hub = self
            .devices_in_hub
            .checked_add_signed(decision.devices_delta)
            .unwrap();
        for change in decision.presence.iter().cloned() {
            match change {
                PresenceChange::Connected {
                    device,
                    connection,
                    gateway,
                    since,
                } => {
                    self.present.insert(
                        device,
                        Presence {
                            connection,
                            gateway,
                            since,
                        },
                    );
                }
                PresenceChange::Disconnected { device, connection } => {
                    self.present
                        .retain(|present, it| *present != device || it.connection != connection);
                }
                PresenceChange::Dropped { device } => drop(self.present.remove(&device)),
                PresenceChange::Activity { device, at } => drop(self.activity.insert(device, at)),
            }
        }
        self.check_statistics();
    }

    /// The counters say what counting all identities says.
    fn check_statistics(&self) {
        let (from, until) = keys::devices_after(None);
        let stored = self.view.scan(&from, &until, usize::MAX).unwrap();
        let is_enabled =
            |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(r#""status":"enabled""#);
        let counted = stored.iter().filter(|(_, bytes)| is_enabled(bytes)).count() as u64;
        match self
            .decide(&Command::Registry(RegistryCommand::Statistics))
            .unwrap()
            .reply
        {
            Reply::Statistics {
                total,
                enabled,
                disabled,
                ..
            } => {
                assert_eq!(
                    (total, enabled, disabled),
                    (stored.len() as u64, counted, stored.len() as u64 - counted)
                );
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn advance(&mut self, millis: i64) {
        self.now = self.now.plus(millis);
    }

    pub(crate) fn registry(&mut self, command: RegistryCommand) -> Result<Decision, ErrorCode> {
        self.run(Command::Registry(command))
    }

    pub(crate) fn session(&mut self, command: SessionCommand) -> Result<Decision, ErrorCode> {
        self.run(Command::Session(command))
    }

    pub(crate) fn twin(&mut self, command: TwinCommand) -> Result<Decision, ErrorCode> {
        self.run(Command::Twin(command))
    }

    pub(crate) fn put(
        &mut self,
        device: &str,
        body: &str,
        if_match: IfMatch,
    ) -> Result<Value, ErrorCode> {
        let body = body.as_bytes().to_vec().into();
        self.registry(RegistryCommand::Put {
            device: id(device),
            body,
            if_match,
        })
        .map(|decision| json_of(&decision))
    }

    pub(crate) fn get(&mut self, device: &str) -> Result<Value, ErrorCode> {
        self.registry(RegistryCommand::Get { device: id(device) })
            .map(|decision| json_of(&decision))
    }

    pub(crate) fn delete(
        &mut self,
        device: &str,
        if_match: IfMatch,
    ) -> Result<Decision, ErrorCode> {
        self.registry(RegistryCommand::Delete {
            device: id(device),
            if_match,
        })
    }

    pub(crate) fn bulk(&mut self, entries: &[(&str, &str)]) -> (Decision, Vec<BulkError>) {
        let entry = |(device, body): &(&str, &str)| BulkEntry {
            device: id(device),
            body: body.as_bytes().to_vec().into(),
        };
        let entries = entries.iter().map(entry).collect();
        let decision = self.registry(RegistryCommand::Bulk { entries }).unwrap();
        match decision.reply.clone() {
            Reply::Bulk { errors } => (decision, errors),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn twin_of(&mut self, device: &str) -> Value {
        json_of(&self.twin(TwinCommand::Get { device: id(device) }).unwrap())
    }

    pub(crate) fn send_c2d(&mut self, device: &str) {
        let message = C2dMessage {
            body: "hello".into(),
            ..C2dMessage::default()
        };
        self.run(Command::C2d(C2dCommand::Send {
            device: id(device),
            message,
        }))
        .unwrap();
    }

    /// State keys that belong to a device, by their first letter.
    pub(crate) fn letters_of(&self, device: &str) -> String {
        let named = |key: &[u8]| {
            key.windows(device.len())
                .any(|part| part == device.as_bytes())
        };
        self.view
            .0
            .keys()
            .filter(|key| named(key))
            .map(|key| char::from(key[0]))
            .collect()
    }
}

pub(crate) fn json_of(decision: &Decision) -> Value {
    match &decision.reply {
        Reply::Json { body, .. } => serde_json::from_slice(body).unwrap(),
        other => panic!("{other:?}"),
    }
}
