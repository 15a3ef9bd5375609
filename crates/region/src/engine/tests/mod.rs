//! Two engines joined in memory, with disks in memory and a clock that only the test moves.

mod commits;
mod copies;
mod follows;
mod lag;
mod leases;
mod presence;
mod refills;
mod rewinds;
mod roles;
mod steps;
mod sync;
mod words;

use super::{Answer, Engine, Handover, HubRole, Input, Message, Output, PartitionFacts, Refusal};
use super::{Role, Serving};
use bytes::Bytes;
use hub::command::{
    AuthMethod, EventOrigin, IfMatch, Message as Telemetry, RegistryCommand, SessionCommand,
    TelemetryCommand,
};
use hub::{Command, Effect, Reply};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store::{MemoryOptions, MemoryStore, Store};
use types::{
    CloudToDevice, ConnectionId, DeviceId, Epoch, HubId, HubName, HubSettings, Lsn, PartitionId,
    PartitionKey, RegionName, Replication, Sequence, UnixMillis,
};

const WEST: usize = 0;
const EAST: usize = 1;
const HUB: HubId = HubId(7);
const START: UnixMillis = UnixMillis(1_700_000_000_000);
const PARTITIONS: u16 = 2;
/// End of the lease that a region gets as it starts, on its monotonic clock, which stands at 0 unless a test moves it.
const LEASE: u64 = 1_000_000;

type Outcome = Result<Answer, Refusal>;

struct Node {
    store: MemoryStore,
    engine: Engine<u64>,
    monotonic: Arc<AtomicU64>,
    inbox: VecDeque<Message>,
    /// All it sent, delivered or not.
    sent: Vec<Message>,
    effects: Vec<(RegionName, ConnectionId, Effect)>,
    alarms: Vec<String>,
    visible: BTreeMap<PartitionKey, (Sequence, Option<Epoch>)>,
}

struct World {
    now: UnixMillis,
    nodes: [Node; 2],
    up: bool,
    /// What the link swallows.
    loses: fn(&Message) -> bool,
    asked: u64,
    answers: BTreeMap<u64, Outcome>,
    replication: Replication,
}

fn region(who: usize) -> RegionName {
    RegionName::parse(["west", "east"][who]).unwrap()
}

fn key(partition: u16) -> PartitionKey {
    PartitionKey {
        hub: HUB,
        partition: PartitionId(partition),
    }
}

fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

fn engine(store: &MemoryStore, monotonic: &Arc<AtomicU64>) -> Engine<u64> {
    let drawn = std::sync::atomic::AtomicU8::new(1);
    let random = move |bytes: &mut [u8]| {
        for byte in bytes {
            *byte = drawn.fetch_add(1, Ordering::Relaxed);
        }
    };
    let monotonic = monotonic.clone();
    let monotonic = Box::new(move || monotonic.load(Ordering::Relaxed));
    Engine::new(Arc::new(store.clone()), Box::new(random), monotonic)
}

impl Node {
    fn new(store: MemoryStore) -> Node {
        let monotonic = Arc::new(AtomicU64::new(0));
        Node {
            engine: engine(&store, &monotonic),
            store,
            monotonic,
            inbox: VecDeque::new(),
            sent: Vec::new(),
            effects: Vec::new(),
            alarms: Vec::new(),
            visible: BTreeMap::new(),
        }
    }

    fn was_told(&self, text: &str) -> bool {
        self.alarms.iter().any(|alarm| alarm.contains(text))
    }
}

impl World {
    /// Two regions that run, without a hub.
    fn bare(replication: Replication, options: MemoryOptions) -> World {
        let mut world = World {
            now: START,
            nodes: [WEST, EAST].map(|_| Node::new(MemoryStore::new(options))),
            up: false,
            loses: |_| false,
            asked: 0,
            answers: BTreeMap::new(),
            replication,
        };
        for who in [WEST, EAST] {
            world.give(who, vec![Input::Roles(vec![])]);
            world.grant(who, LEASE);
        }
        world.link(true);
        world
    }

    /// A hub whose primary is west at epoch 1, followed by east.
    fn with(replication: Replication) -> World {
        let mut world = World::bare(replication, MemoryOptions::default());
        world.lead(WEST, 1);
        world.run(300);
        world
    }

    fn new() -> World {
        World::with(Replication::Async)
    }

    fn settings(&self) -> HubSettings {
        HubSettings {
            id: HUB,
            name: HubName::parse("test-hub").unwrap(),
            partition_count: PARTITIONS,
            retention_days: 1,
            replication: self.replication,
            partner_away: types::PartnerAway::Wait,
            lag_max_ms: None,
            cloud_to_device: CloudToDevice::default(),
            policies: Vec::new(),
            consumer_groups: vec!["$Default".into()],
            routing: None,
            access: Default::default(),
        }
    }

    fn role(&self, who: usize, role: Role, epoch: u64) -> HubRole {
        HubRole {
            settings: Arc::new(self.settings()),
            role,
            epoch: Epoch(epoch),
            peer: Some(region(1 - who)),
            suspended: false,
            alone: false,
        }
    }

    fn roles(&mut self, who: usize, role: Role, epoch: u64) {
        let role = self.role(who, role, epoch);
        self.give(who, vec![Input::Roles(vec![role])]);
    }

    fn grant(&mut self, who: usize, until: u64) {
        self.give(who, vec![Input::Lease { until }]);
    }

    /// Sets a region's monotonic clock.
    fn clock(&mut self, who: usize, millis: u64) {
        self.nodes[who].monotonic.store(millis, Ordering::Relaxed);
    }

    /// The control plane names `who` primary; both regions learn it.
    fn lead(&mut self, who: usize, epoch: u64) {
        self.roles(who, Role::Primary, epoch);
        self.roles(1 - who, Role::Secondary, epoch);
    }

    /// One region's turns until all inputs are taken and nothing is left to ship.
    fn give(&mut self, who: usize, inputs: Vec<Input<u64>>) {
        let mut inputs: VecDeque<_> = inputs.into();
        loop {
            let mut out = Vec::new();
            let mut taken = std::iter::from_fn(|| inputs.pop_front());
            let more = self.nodes[who].engine.turn(&mut taken, self.now, &mut out);
            for output in out {
                if let Some(unsent) = self.perform(who, output) {
                    inputs.push_back(unsent);
                }
            }
            if inputs.is_empty() && !more {
                return;
            }
        }
    }

    fn perform(&mut self, who: usize, output: Output<u64>) -> Option<Input<u64>> {
        let node = &mut self.nodes[who];
        match output {
            Output::Reply(asker, outcome) => {
                let before = self.answers.insert(asker, outcome);
                assert!(before.is_none(), "question {asker} was answered twice");
            }
            Output::Effect {
                gateway,
                connection,
                effect,
                ..
            } => node.effects.push((gateway, connection, effect)),
            Output::Send { to, message } => {
                assert_eq!(to, region(1 - who));
                node.sent.push(message.clone());
                if !self.up {
                    if matches!(message, Message::Word { .. }) {
                        return None;
                    }
                    let at = message.partition();
                    return Some(Input::Unsent { to, at });
                }
                if !(self.loses)(&message) {
                    self.nodes[1 - who].inbox.push_back(message);
                }
            }
            Output::Visible { at, next, epoch } => {
                let before = node.visible.insert(at, (next, epoch));
                let back = before.is_some_and(|(n, e)| e.is_some() && e == epoch && n > next);
                assert!(!back, "{at}: {before:?}, then {next}");
            }
            Output::Alarm { text, .. } => node.alarms.push(text),
        }
        None
    }

    fn link(&mut self, up: bool) {
        self.up = up;
        for who in [WEST, EAST] {
            self.nodes[who].inbox.clear();
            let peer = region(1 - who);
            self.give(who, vec![Input::Link { peer, up }]);
        }
    }

    /// Delivers messages until both regions are quiet.
    fn deliver(&mut self) {
        for _ in 0..10_000 {
            let mut quiet = true;
            for who in [WEST, EAST] {
                if let Some(message) = self.nodes[who].inbox.pop_front() {
                    let from = region(1 - who);
                    self.give(who, vec![Input::Message { from, message }]);
                    quiet = false;
                }
            }
            if quiet {
                return;
            }
        }
        panic!("the regions never become quiet");
    }

    /// Lets time pass, with ticks, and everything be delivered.
    fn run(&mut self, millis: i64) {
        let end = self.now.plus(millis);
        self.deliver();
        while self.now < end {
            self.now = self.now.plus(100);
            for who in [WEST, EAST] {
                self.give(who, vec![Input::Tick]);
            }
            self.deliver();
        }
    }

    /// The process of a region ends and starts anew on the same disk; its roles come with [`World::roles`].
    fn restart(&mut self, who: usize) {
        let store = self.nodes[who].store.reopen();
        self.replace(who, store);
    }

    fn replace(&mut self, who: usize, store: MemoryStore) {
        let up = self.up;
        self.link(false);
        self.nodes[who] = Node::new(store);
        self.grant(who, LEASE);
        if up {
            self.link(true);
        }
    }

    fn next(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    fn command(&mut self, partition: u16, command: Command) -> (u64, Input<u64>) {
        let reply = self.next();
        let input = Input::Command {
            at: key(partition),
            command: Arc::new(command),
            reply,
        };
        (reply, input)
    }

    /// Asks and gives the number of the question; the answer may come later.
    fn ask(&mut self, who: usize, partition: u16, command: Command) -> u64 {
        let (reply, input) = self.command(partition, command);
        self.give(who, vec![input]);
        reply
    }

    fn answer(&self, question: u64) -> Option<&Outcome> {
        self.answers.get(&question)
    }

    fn reply(&mut self, who: usize, partition: u16, command: Command) -> Reply {
        let question = self.ask(who, partition, command);
        match self.answer(question) {
            Some(Ok(Answer::Reply(reply))) => reply.clone(),
            other => panic!("no reply: {other:?}"),
        }
    }

    fn refusal(&mut self, who: usize, partition: u16, command: Command) -> Refusal {
        let question = self.ask(who, partition, command);
        match self.answer(question) {
            Some(Err(refusal)) => refusal.clone(),
            other => panic!("not refused: {other:?}"),
        }
    }

    fn step(&mut self, who: usize, input: impl FnOnce(u64) -> Input<u64>) -> u64 {
        let reply = self.next();
        self.give(who, vec![input(reply)]);
        reply
    }

    fn fence(&mut self, who: usize, epoch: u64) -> Result<Vec<Handover>, Refusal> {
        let epoch = Epoch(epoch);
        let question = self.step(who, |reply| Input::Fence {
            hub: HUB,
            epoch,
            reply,
        });
        match self.answer(question) {
            Some(Ok(Answer::Fenced(handovers))) => Ok(handovers.clone()),
            Some(Err(refusal)) => Err(refusal.clone()),
            other => panic!("fence: {other:?}"),
        }
    }

    fn catch_up(&mut self, who: usize, handovers: Vec<Handover>) -> u64 {
        self.step(who, |reply| Input::CatchUp {
            hub: HUB,
            handovers,
            reply,
        })
    }

    fn open(&mut self, who: usize, epoch: u64) -> Outcome {
        let role = self.role(who, Role::Primary, epoch);
        let question = self.step(who, |reply| Input::Open { role, reply });
        self.answer(question).expect("an open is answered").clone()
    }

    /// A planned failover as the coordinator drives it.
    fn fail_over(&mut self, from: usize, epoch: u64) {
        let to = 1 - from;
        let handovers = self.fence(from, epoch).unwrap();
        let question = self.catch_up(to, handovers.clone());
        self.deliver();
        assert_eq!(
            self.answer(question),
            Some(&Ok(Answer::CaughtUp(handovers)))
        );
        assert!(matches!(self.open(to, epoch + 1), Ok(Answer::Opened(_))));
        self.lead(to, epoch + 1);
    }

    fn facts(&mut self, who: usize) -> Vec<PartitionFacts> {
        let question = self.step(who, |reply| Input::Facts { hub: HUB, reply });
        match self.answer(question) {
            Some(Ok(Answer::Facts(facts))) => facts.clone(),
            other => panic!("facts: {other:?}"),
        }
    }

    fn fact(&mut self, who: usize, partition: u16) -> PartitionFacts {
        self.facts(who).swap_remove(usize::from(partition))
    }

    fn head(&self, who: usize, partition: u16) -> replication::Head {
        self.nodes[who].engine.head(key(partition)).unwrap()
    }

    fn serving(&self, who: usize, partition: u16) -> Serving {
        self.nodes[who].engine.partitions[&key(partition)].serving
    }

    fn stored_digest(&self, who: usize, partition: u16) -> u128 {
        super::follower::stored_digest(&self.nodes[who].store, key(partition)).unwrap()
    }

    /// Both regions hold the same, and each holds what its head says.
    fn assert_equal(&self) {
        for partition in 0..PARTITIONS {
            let (west, east) = (self.head(WEST, partition), self.head(EAST, partition));
            let place = |head: &replication::Head| (head.lsn, head.crc, head.chain, head.state);
            assert_eq!(place(&west), place(&east), "partition {partition}");
            for who in [WEST, EAST] {
                assert_eq!(self.stored_digest(who, partition), west.state);
            }
        }
    }

    fn assert_all_answered(&self) {
        for question in 1..=self.asked {
            assert!(self.answers.contains_key(&question), "question {question}");
        }
    }

    fn register(&mut self, who: usize, partition: u16, name: &str) {
        self.reply(who, partition, put(name));
    }

    fn generation(&mut self, who: usize, partition: u16, name: &str) -> String {
        let device = device(name);
        let asked = Command::Session(SessionCommand::Identity { device });
        match self.reply(who, partition, asked) {
            Reply::Identity(identity) => identity.generation,
            other => panic!("{other:?}"),
        }
    }

    /// A session command of a new connection.
    fn session(&mut self, who: usize, partition: u16, name: &str, connection: u64) -> Command {
        Command::Session(SessionCommand::Open {
            device: device(name),
            generation: self.generation(who, partition, name),
            connection: ConnectionId(connection),
            gateway: region(who),
            since: self.now,
            clean: false,
        })
    }

    /// Registers and connects a device.
    fn attach(&mut self, who: usize, partition: u16, name: &str, connection: u64) {
        self.register(who, partition, name);
        let open = self.session(who, partition, name, connection);
        self.reply(who, partition, open);
    }
}

fn put(name: &str) -> Command {
    Command::Registry(RegistryCommand::Put {
        device: device(name),
        body: Bytes::from(format!("{{\"deviceId\":\"{name}\"}}")),
        if_match: IfMatch::Absent,
    })
}

fn get(name: &str) -> Command {
    Command::Registry(RegistryCommand::Get {
        device: device(name),
    })
}

fn telemetry(name: &str, connection: u64, count: usize, bytes: usize) -> Command {
    let origin = EventOrigin {
        generation: "1".into(),
        auth_method: AuthMethod::DeviceSas,
    };
    Command::Telemetry(TelemetryCommand::Send {
        device: device(name),
        connection: Some(ConnectionId(connection)),
        origin: Arc::new(origin),
        messages: vec![
            Telemetry {
                bag: Bytes::new(),
                body: Bytes::from(vec![b'x'; bytes]),
            };
            count
        ],
    })
}

fn log_of(store: &MemoryStore, partition: u16) -> Vec<store::LogRecord> {
    let at = key(partition);
    let Some(bounds) = store.log_bounds(at).unwrap() else {
        return Vec::new();
    };
    store.read_log(at, bounds.first_lsn, usize::MAX).unwrap()
}

/// What is in the log of a store that was written by hand is cut after `last`: an older image of the disk.
fn cut_after(store: &MemoryStore, last: Lsn) -> MemoryStore {
    let cut = store
        .crash_images()
        .into_iter()
        .rev()
        .map(|(_, image)| image)
        .find(|image| {
            let bounds = image.log_bounds(key(0)).unwrap();
            bounds.map_or(Lsn(0), |bounds| bounds.last_lsn) == last
        });
    cut.expect("the disk was at that record once")
}

fn recording() -> MemoryOptions {
    MemoryOptions {
        record_steps: true,
        ..MemoryOptions::default()
    }
}
