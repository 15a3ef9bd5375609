//! A partition in memory for tests: runs commands one after the other and checks the queue's indexes after each.

use super::queue::Queue;
use crate::command::{
    Ack, C2dCommand, C2dMessage, FeedbackBatch, FeedbackCommand, IfMatch, LockOwner, LockedMessage,
    RegistryCommand,
};
use crate::{Command, Context, Decision, MemoryView, Presence, Refused, Reply, View, keys};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use types::{
    CloudToDevice, ConnectionId, DeviceId, Epoch, ErrorCode, HubId, HubName, HubSettings,
    PartitionId, RegionName, UnixMillis,
};

pub(crate) const START: i64 = 1_700_000_000_000;

pub(crate) struct World {
    pub view: MemoryView,
    pub now: UnixMillis,
    pub settings: HubSettings,
    pub present: BTreeMap<DeviceId, Presence>,
    random: Cell<u64>,
}

pub(crate) fn device(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

pub(crate) fn connection(number: u64) -> LockOwner {
    LockOwner::Connection(ConnectionId(number))
}

pub(crate) fn message(text: &str) -> C2dMessage {
    C2dMessage {
        message_id: text.into(),
        ack: Ack::Full,
        body: text.as_bytes().to_vec().into(),
        ..C2dMessage::default()
    }
}

impl World {
    /// An empty partition.
    pub(crate) fn empty() -> World {
        let settings = HubSettings {
            id: HubId(1),
            name: HubName::parse("test-hub").unwrap(),
            partition_count: 4,
            retention_days: 1,
            replication: Default::default(),
            partner_away: types::PartnerAway::Wait,
            lag_max_ms: None,
            cloud_to_device: CloudToDevice::default(),
            policies: Vec::new(),
            consumer_groups: vec!["$Default".into(), "Billing".into()],
            routing: None,
            access: Default::default(),
        };
        World {
            view: MemoryView::default(),
            now: UnixMillis(START),
            settings,
            present: BTreeMap::new(),
            random: Cell::new(0),
        }
    }

    /// A partition with the device `d1`.
    pub(crate) fn new() -> World {
        let mut world = World::empty();
        world.register("d1", "enabled");
        world
    }

    pub(crate) fn register(&mut self, id: &str, status: &str) {
        let body = format!(r#"{{"deviceId":"{id}","status":"{status}"}}"#)
            .into_bytes()
            .into();
        let put = RegistryCommand::Put {
            device: device(id),
            body,
            if_match: IfMatch::Absent,
        };
        self.run(Command::Registry(put)).unwrap();
    }

    pub(crate) fn connect(&mut self, id: &str, number: u64) {
        let presence = Presence {
            connection: ConnectionId(number),
            gateway: RegionName::parse("westus2").unwrap(),
            since: self.now,
        };
        self.present.insert(device(id), presence);
    }

    pub(crate) fn advance(&mut self, millis: i64) {
        self.now = self.now.plus(millis);
    }

    /// Decides without applying.
    pub(crate) fn decide(&self, command: &Command) -> Result<Decision, Refused> {
        self.decide_in(&self.view, command)
    }

    /// Decides against another state.
    pub(crate) fn decide_in(
        &self,
        view: &dyn View,
        command: &Command,
    ) -> Result<Decision, Refused> {
        let random = |out: &mut [u8]| {
            for byte in out {
                // A full-period generator: every eight bytes in a row differ from those before.
                self.random.set(
                    self.random
                        .get()
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407),
                );
                *byte = (self.random.get() >> 56) as u8;
            }
        };
        let context = Context {
            now: self.now,
            settings: &self.settings,
            partition: PartitionId(0),
            epoch: Epoch(1),
            devices_in_hub: 0,
            presence: &|device| self.present.get(device).cloned(),
            last_activity: &|_| None,
            random: &random,
        };
        crate::decide(view, &context, command)
    }

    /// Decides, applies and checks; a view error fails the test.
    pub(crate) fn run(&mut self, command: Command) -> Result<Decision, ErrorCode> {
        let decision = self.run_unchecked(command);
        self.check_indexes();
        decision
    }

    /// As [`World::run`], for many commands in a row.
    pub(crate) fn run_unchecked(&mut self, command: Command) -> Result<Decision, ErrorCode> {
        match self.decide(&command) {
            Ok(decision) => {
                self.view.apply(&decision.writes);
                Ok(decision)
            }
            Err(Refused::Reject(reject)) => Err(reject.code),
            Err(Refused::View(error)) => panic!("{command:?}: {error}"),
        }
    }

    pub(crate) fn c2d(&mut self, command: C2dCommand) -> Result<Decision, ErrorCode> {
        self.run(Command::C2d(command))
    }

    pub(crate) fn send(&mut self, message: C2dMessage) -> Result<(String, u64), ErrorCode> {
        match self
            .c2d(C2dCommand::Send {
                device: device("d1"),
                message,
            })?
            .reply
        {
            Reply::C2dQueued {
                message_id,
                sequence,
            } => Ok((message_id, sequence)),
            other => panic!("{other:?}"),
        }
    }

    /// Locks for a minute.
    pub(crate) fn lock(&mut self, max: usize, owner: LockOwner) -> Vec<LockedMessage> {
        match self
            .c2d(C2dCommand::Lock {
                device: device("d1"),
                max,
                owner,
                lock_ms: 60_000,
            })
            .unwrap()
            .reply
        {
            Reply::C2dMessages(messages) => messages,
            other => panic!("{other:?}"),
        }
    }

    /// Locks the next message, which is there.
    pub(crate) fn lock_one(&mut self, owner: LockOwner) -> LockedMessage {
        self.lock(1, owner).pop().expect("a message waits")
    }

    pub(crate) fn complete(&mut self, token: &str) -> Result<(), ErrorCode> {
        self.c2d(C2dCommand::Complete {
            device: device("d1"),
            lock_token: token.into(),
        })
        .map(drop)
    }

    pub(crate) fn reject(&mut self, token: &str) -> Result<(), ErrorCode> {
        self.c2d(C2dCommand::Reject {
            device: device("d1"),
            lock_token: token.into(),
        })
        .map(drop)
    }

    pub(crate) fn abandon(&mut self, token: &str) -> Result<(), ErrorCode> {
        self.c2d(C2dCommand::Abandon {
            device: device("d1"),
            lock_token: token.into(),
        })
        .map(drop)
    }

    pub(crate) fn sweep(&mut self) -> Decision {
        self.c2d(C2dCommand::Sweep { max: 100 }).unwrap()
    }

    pub(crate) fn feedback_batch(&mut self) -> Option<FeedbackBatch> {
        match self
            .run(Command::Feedback(FeedbackCommand::Lock))
            .unwrap()
            .reply
        {
            Reply::Feedback(batch) => batch,
            other => panic!("{other:?}"),
        }
    }

    /// Reads and completes all feedback: (message id, status).
    pub(crate) fn feedback(&mut self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        while let Some(batch) = self.feedback_batch() {
            let records: Vec<serde_json::Value> = serde_json::from_slice(&batch.body).unwrap();
            let text =
                |record: &serde_json::Value, name: &str| record[name].as_str().unwrap().to_owned();
            all.extend(
                records
                    .iter()
                    .map(|r| (text(r, "originalMessageId"), text(r, "statusCode"))),
            );
            self.run(Command::Feedback(FeedbackCommand::Complete {
                lock_token: batch.lock_token,
            }))
            .unwrap();
        }
        all
    }

    /// Messages and due index hold exactly what the queues name.
    pub(crate) fn check_indexes(&self) {
        let keys_of = |letter: u8| -> BTreeSet<Vec<u8>> {
            self.view
                .0
                .keys()
                .filter(|key| key.first() == Some(&letter))
                .map(|key| key.to_vec())
                .collect()
        };
        let (mut messages, mut dues) = (BTreeSet::new(), BTreeSet::new());
        for key in keys_of(b'q') {
            let device = device(std::str::from_utf8(&key[1..key.len() - 1]).unwrap());
            let queue = Queue::load(&self.view, &device).unwrap();
            assert!(queue.messages.len() <= types::limits::C2D_QUEUE_DEPTH_MAX);
            assert!(queue.messages.is_sorted_by_key(|entry| entry.sequence));
            for entry in &queue.messages {
                messages.insert(keys::c2d_message(&device, entry.sequence));
                dues.insert(keys::due(entry.due(), &device, entry.sequence));
            }
        }
        assert_eq!(keys_of(b'c'), messages);
        assert_eq!(keys_of(b'x'), dues);
    }
}
