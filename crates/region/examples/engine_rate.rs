//! How fast the engine is on this machine: telemetry of 1,000 attached devices, real fsyncs, one thread.
//!
//! `cargo run --release -p castling-region --example engine_rate -- [seconds per case] [folder]`

use bytes::Bytes;
use hub::command::{
    AuthMethod, EventOrigin, IfMatch, Message as Telemetry, RegistryCommand, SessionCommand,
    TelemetryCommand,
};
use hub::{Command, Reply};
use region::engine::{Answer, Engine, HubRole, Input, Message, Output, Role};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{FjallStore, Options};
use types::{
    CloudToDevice, ConnectionId, DeviceId, Epoch, HubId, HubName, HubSettings, PartitionKey,
    RegionName, Replication, UnixMillis, partition_of,
};

const DEVICES: usize = 1000;
const PARTITIONS: u16 = 4;
const BODY_BYTES: usize = 256;
const HUB: HubId = HubId(1);
const START: i64 = 1_700_000_000_000;

struct Side {
    engine: Engine<usize>,
    name: RegionName,
}

struct Bench {
    primary: Side,
    follower: Option<Side>,
    begun: Instant,
    replies: Vec<Result<Answer, region::engine::Refusal>>,
    to_primary: Vec<Message>,
    to_follower: Vec<Message>,
}

struct Device {
    at: PartitionKey,
    send: Arc<Command>,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().and_then(|s| s.parse().ok()).unwrap_or(4.0);
    let folder = args.next();
    println!(
        "{:<18}{:>6}{:>12}{:>12}{:>12}{:>9}{:>12}{:>12}",
        "", "batch", "outstanding", "commands/s", "events/s", "turns/s", "thread µs", "process µs"
    );
    for follower in [false, true] {
        for batch in [1, 16] {
            for outstanding in [64, DEVICES] {
                let base = match &folder {
                    Some(folder) => tempfile::tempdir_in(folder),
                    None => tempfile::tempdir(),
                };
                let base = base.expect("a temporary folder");
                measure(base.path(), follower, batch, outstanding, seconds);
            }
        }
    }
}

fn measure(base: &Path, follower: bool, batch: usize, outstanding: usize, seconds: f64) {
    let mut bench = Bench::open(base, follower);
    let devices = bench.attach(batch);
    let mut next = 0;
    let mut round = |bench: &mut Bench| {
        let inputs = (0..outstanding).map(|n| {
            let device = &devices[(next + n) % DEVICES];
            Input::Command {
                at: device.at,
                command: device.send.clone(),
                reply: n,
            }
        });
        bench.turn(&mut inputs.collect::<Vec<_>>().into_iter());
        next = (next + outstanding) % DEVICES;
        assert_eq!(bench.replies.len(), outstanding);
        assert!(bench.replies.drain(..).all(|reply| reply.is_ok()));
    };
    let warm = Instant::now();
    while warm.elapsed() < Duration::from_millis(500) {
        round(&mut bench);
    }
    let (thread, process, begun) = (thread_micros(), process_micros(), Instant::now());
    let mut turns = 0_u32;
    while begun.elapsed().as_secs_f64() < seconds {
        round(&mut bench);
        turns += 1;
    }
    let took = begun.elapsed().as_secs_f64();
    let commands = f64::from(turns) * outstanding as f64;
    let events = commands * batch as f64;
    println!(
        "{:<18}{batch:>6}{outstanding:>12}{:>12.0}{:>12.0}{:>9.0}{:>12.2}{:>12.2}",
        if follower { "with a follower" } else { "alone" },
        commands / took,
        events / took,
        f64::from(turns) / took,
        (thread_micros() - thread) / events,
        (process_micros() - process) / events,
    );
}

impl Bench {
    fn open(base: &Path, follower: bool) -> Bench {
        let mut bench = Bench {
            primary: Side::open(base, "west"),
            follower: follower.then(|| Side::open(base, "east")),
            begun: Instant::now(),
            replies: Vec::new(),
            to_primary: Vec::new(),
            to_follower: Vec::new(),
        };
        let now = bench.now();
        let mut out = Vec::new();
        let sides = std::iter::once(&mut bench.primary).chain(&mut bench.follower);
        for side in sides {
            let (role, other) = match side.name.as_str() {
                "west" => (Role::Primary, region("east")),
                _ => (Role::Secondary, region("west")),
            };
            let role = HubRole {
                settings: Arc::new(settings()),
                role,
                epoch: Epoch(1),
                peer: follower.then(|| other.clone()),
                suspended: false,
                alone: false,
            };
            let link = Input::Link {
                peer: other,
                up: true,
            };
            let inputs = [
                Input::Roles(vec![]),
                link,
                Input::Roles(vec![role]),
                Input::Lease { until: u64::MAX },
                Input::Tick,
            ];
            side.engine.turn(&mut inputs.into_iter(), now, &mut out);
        }
        for output in out.drain(..) {
            if let Output::Send { message, .. } = output {
                bench.to_primary.push(message);
            }
        }
        bench
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(START + self.begun.elapsed().as_millis() as i64)
    }

    /// One turn of the primary, and one of the follower with what it was sent.
    fn turn(&mut self, inputs: &mut dyn Iterator<Item = Input<usize>>) {
        let now = self.now();
        let mut out = Vec::new();
        let from = region("east");
        let messages = self.to_primary.drain(..).map(|message| Input::Message {
            from: from.clone(),
            message,
        });
        let mut inputs = messages.collect::<Vec<_>>().into_iter().chain(inputs);
        while self.primary.engine.turn(&mut inputs, now, &mut out) {}
        for output in out.drain(..) {
            match output {
                Output::Reply(_, answer) => self.replies.push(answer),
                Output::Send { message, .. } => self.to_follower.push(message),
                Output::Effect { .. } | Output::Visible { .. } | Output::Alarm { .. } => {}
            }
        }
        let Some(follower) = &mut self.follower else {
            return;
        };
        let from = region("west");
        let messages = self.to_follower.drain(..).map(|message| Input::Message {
            from: from.clone(),
            message,
        });
        let messages: Vec<_> = messages.collect();
        let mut messages = messages.into_iter();
        follower.engine.turn(&mut messages, now, &mut out);
        for output in out {
            if let Output::Send { message, .. } = output {
                self.to_primary.push(message);
            }
        }
    }

    fn ask(&mut self, at: PartitionKey, command: Command) -> Reply {
        let input = Input::Command {
            at,
            command: Arc::new(command),
            reply: 0,
        };
        self.turn(&mut std::iter::once(input));
        match self.replies.pop() {
            Some(Ok(Answer::Reply(reply))) => reply,
            other => panic!("no reply: {other:?}"),
        }
    }

    /// Registers and connects the devices; gives what each of them sends.
    fn attach(&mut self, batch: usize) -> Vec<Device> {
        let mut devices = Vec::with_capacity(DEVICES);
        for n in 0..DEVICES {
            let device = DeviceId::parse(&format!("device-{n}")).expect("a device id");
            let at = PartitionKey {
                hub: HUB,
                partition: partition_of(&device, PARTITIONS),
            };
            let body = Bytes::from(format!("{{\"deviceId\":\"{}\"}}", device.as_str()));
            self.ask(
                at,
                Command::Registry(RegistryCommand::Put {
                    device: device.clone(),
                    body,
                    if_match: IfMatch::Absent,
                }),
            );
            let asked = SessionCommand::Identity {
                device: device.clone(),
            };
            let Reply::Identity(identity) = self.ask(at, Command::Session(asked)) else {
                panic!("no identity");
            };
            let connection = ConnectionId(n as u64 + 1);
            self.ask(
                at,
                Command::Session(SessionCommand::Open {
                    device: device.clone(),
                    generation: identity.generation.clone(),
                    connection,
                    gateway: region("west"),
                    since: self.now(),
                    clean: false,
                }),
            );
            let origin = Arc::new(EventOrigin {
                generation: identity.generation,
                auth_method: AuthMethod::DeviceSas,
            });
            let message = Telemetry {
                bag: Bytes::new(),
                body: Bytes::from(vec![b'x'; BODY_BYTES]),
            };
            let send = Command::Telemetry(TelemetryCommand::Send {
                device,
                connection: Some(connection),
                origin,
                messages: vec![message; batch],
            });
            devices.push(Device {
                at,
                send: Arc::new(send),
            });
        }
        devices
    }
}

impl Side {
    fn open(base: &Path, name: &str) -> Side {
        let store = FjallStore::open(base.join(name), Options::default()).expect("a store");
        Side {
            engine: Engine::new(
                Arc::new(store),
                Box::new(region::fill_random),
                Box::new(|| 0),
            ),
            name: region(name),
        }
    }
}

fn region(name: &str) -> RegionName {
    RegionName::parse(name).expect("a region's name")
}

fn settings() -> HubSettings {
    HubSettings {
        id: HUB,
        name: HubName::parse("bench-hub").expect("a hub's name"),
        partition_count: PARTITIONS,
        retention_days: 1,
        replication: Replication::Async,
        partner_away: types::PartnerAway::Wait,
        lag_max_ms: None,
        cloud_to_device: CloudToDevice::default(),
        policies: Vec::new(),
        consumer_groups: vec!["$Default".into()],
        routing: None,
        access: Default::default(),
    }
}

/// CPU time of this thread, in microseconds.
fn thread_micros() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    nanos.unwrap_or(f64::NAN) / 1000.0
}

/// CPU time of all threads, in microseconds.
fn process_micros() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|t| t.parse::<f64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => (user + system) * 10_000.0,
        _ => f64::NAN,
    }
}
