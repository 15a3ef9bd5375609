//! A world from a seed: who is there, how far apart, and what will go wrong.

use super::clients::{Client, Kind, Stands};
use super::clock::{Clock, Monotonic, RATE_PPM_MAX};
use super::event::Happening;
use super::net::Link;
use super::plane::Plane;
use super::process::Region;
use super::script::Script;
use super::seat::Witness;
use super::timed::TurnTime;
use super::trouble::{AtStep, DISASTERS, Mix, Trouble};
use super::voters::{NODES, Voters};
use super::{HUB, Phase, World};
use crate::cases::Case;
use crate::fault::Fault;
use crate::history::{Entry, History, TraceHash};
use crate::rng::Rng;
use control::command::HubSpec;
use control::model::{Deployment, FailoverPolicy, Principal, Subscription};
use control::{Answer, Command, Request, State};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use store::{MemoryOptions, MemoryStore};
use types::{
    CloudToDevice, PartitionId, PartitionKey, Policy, RegionName, Replication, Rights, UnixMillis,
};

const REGIONS: [&str; 2] = ["westus2", "westcentralus"];
const SUBSCRIPTION: &str = "simulated";
/// Telemetry devices; twins belong to the first two, messages to the last two.
const DEVICES: u32 = 5;
const SCRATCH_DEVICE: u32 = 100;
/// 32 bytes as base64.
const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const STEPS: [&str; 9] = [
    "check", "warm", "fence", "catchup", "lease", "commit", "open", "reverse", "rollback",
];

/// What a run is made from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    pub seed: u64,
    pub fault: Option<Fault>,
    pub trace: bool,
    /// What is enumerated; `None`: a random run.
    pub case: Option<Case>,
    /// Copies are taken, and go wrong, all the time.
    pub copies: bool,
}

impl World {
    pub fn new(plan: Plan) -> World {
        let mut world = World::random(&plan);
        if plan.copies {
            world.mix = Mix::of_copies();
            world.trouble_ms = Some((300, 1500));
            world.disasters.clear();
            world.disk.segment_bytes_max = 1_000;
            for region in &mut world.regions {
                region.store = MemoryStore::new(world.disk);
            }
        }
        if let Some(case) = plan.case {
            world.follow_script(case);
        }
        world.begin();
        world
    }

    /// Nothing goes wrong besides what the script says, and nobody does anything else.
    fn follow_script(&mut self, case: Case) {
        self.record(Entry::Trouble(format!("{case}")));
        self.script = Some(Script::new(case));
        self.storm_until = 90_000;
        self.trouble_ms = None;
        self.disasters.clear();
        self.at_steps.clear();
        self.cancel_percent = 0;
        self.accept_span_percent = 0;
        self.accept_nothing_percent = 0;
        self.client_haste = 6;
        self.link = Link::new(5, 2);
    }

    fn random(plan: &Plan) -> World {
        let Plan {
            seed, fault, trace, ..
        } = *plan;
        let mut rng = Rng::new(seed);
        let partition_count = rng.range(2, 3) as u16;
        let replication = if rng.chance(30) {
            Replication::Sync
        } else {
            Replication::Async
        };
        // Some runs are calm, so that steps and dry runs are seen undisturbed; some are stormy.
        let trouble_ms = match rng.below(4) {
            0 => None,
            1 => Some((4000, 9000)),
            2 => Some((1500, 5000)),
            _ => Some((300, 2500)),
        };
        let disk = MemoryOptions {
            segment_bytes_max: *rng.pick(&[2_000, 8_000, 1 << 30]),
            ..MemoryOptions::default()
        };
        let regions = REGIONS.map(|name| region(name, disk, &mut rng));
        let mix = Mix::random(&mut rng);
        let delay_ms = *rng.pick(&[1, 5, 20, 40, 80]);
        let jitter_ms = rng.range(0, delay_ms / 2 + 2);
        let mut world = World {
            now: 0,
            queue: BTreeMap::new(),
            queued: 0,
            fault,
            regions: regions.into(),
            link: Link::new(delay_ms, jitter_ms),
            witness: Witness {
                name: RegionName::parse("witness").expect("a valid name"),
                clock: clock(&mut rng),
                monotonic: monotonic(&mut rng),
                life: 0,
                seat: None,
            },
            paused_until: [0; NODES],
            plane: Plane {
                state: Arc::new(founded(partition_count, replication)),
                index: 1,
            },
            voters: Voters::founded(1),
            clients: Vec::new(),
            partitions: (0..partition_count)
                .map(|n| PartitionKey {
                    hub: HUB,
                    partition: PartitionId(n),
                })
                .collect(),
            sync: replication == Replication::Sync,
            disk,
            phase: Phase::Founding,
            storm_until: rng.range(8_000, 26_000),
            phase_since: 0,
            healed: 0,
            at_steps: at_steps(&mut rng, trouble_ms.is_some(), &mix),
            mix,
            disasters: disasters(&mut rng),
            operator_ms: *rng.pick(&[(50, 600), (500, 2500), (2000, 6000), (7000, 12_000)]),
            cancel_percent: *rng.pick(&[0, 20, 50]),
            forced_percent: *rng.pick(&[0, 50, 90]),
            accept_span_percent: *rng.pick(&[0, 30, 60]),
            accept_nothing_percent: *rng.pick(&[0, 0, 20]),
            trouble_ms,
            script: None,
            resumed: false,
            client_haste: rng.range(2, 6),
            dry_runs: BTreeMap::new(),
            noted: BTreeSet::new(),
            last_disturbed: 0,
            last_answer: 0,
            clock_error_ms: 0,
            ops: BTreeMap::new(),
            generations: BTreeMap::new(),
            op_ids: 0,
            call_ids: 0,
            gathers: 0,
            submissions: 0,
            operations: 0,
            turns: 0,
            new_messages: 0,
            telemetry_seen: 0,
            old_twins: BTreeMap::new(),
            delivered: Vec::new(),
            history: History::default(),
            hash: TraceHash::default(),
            happened: 0,
            lines: trace.then(Vec::new),
            rng,
        };
        let about = format!(
            "seed {seed}: {partition_count} partitions, {replication:?}, {delay_ms}+{jitter_ms} ms, troubles {trouble_ms:?}"
        );
        world.record(Entry::Trouble(about));
        world
    }

    fn begin(&mut self) {
        self.clients = self.clients_of_the_run();
        self.note_clock_error();
        for node in 0..NODES {
            self.at(0, Happening::Start { node });
        }
        self.at(100, Happening::Phase);
        self.at(500, Happening::Client { client: 0 });
    }

    fn clients_of_the_run(&mut self) -> Vec<Client> {
        let mut kinds = vec![Kind::Founder {
            devices: (0..DEVICES).rev().collect(),
        }];
        kinds.extend((0..DEVICES).map(|device| Kind::Sender {
            device,
            counter: 0,
            attempt: 0,
            generation: None,
        }));
        for device in 0..2 {
            kinds.push(Kind::TwinDevice { device, value: 0 });
            kinds.push(Kind::TwinService { device, value: 0 });
            kinds.push(Kind::Registrar {
                device: SCRATCH_DEVICE + device,
                value: 0,
            });
        }
        for device in DEVICES - 2..DEVICES {
            kinds.push(Kind::MessageService { device });
            kinds.push(Kind::MessageDevice {
                device,
                held: VecDeque::new(),
            });
        }
        for consumer in 0..2 {
            let group = |at: &PartitionKey| Kind::Consumer {
                consumer,
                at: *at,
                stands: Stands::Lost,
                reads: 0,
            };
            kinds.extend(self.partitions.iter().map(group));
        }
        let busy = self.client_haste;
        let client = |kind, rng: &mut Rng| {
            let least = rng.range(5, 60) * busy;
            let slow = if matches!(kind, Kind::MessageService { .. }) {
                300
            } else {
                0
            };
            let pause_ms = if matches!(kind, Kind::Founder { .. }) {
                (1, 5)
            } else {
                (least + slow, least * 3 + slow)
            };
            Client {
                gateway: rng.below(2) as usize,
                rng: rng.fork(),
                busy: false,
                pause_ms,
                kind,
                retired: false,
            }
        };
        kinds
            .into_iter()
            .map(|kind| client(kind, &mut self.rng))
            .collect()
    }
}

fn clock(rng: &mut Rng) -> Clock {
    let offset_ms = if rng.chance(70) {
        rng.range(-50, 50)
    } else {
        rng.range(-1500, 1500)
    };
    Clock {
        offset_ms,
        drift_ppm: rng.range(-200, 200),
    }
}

fn monotonic(rng: &mut Rng) -> Monotonic {
    let rate_ppm = if rng.chance(50) {
        0
    } else {
        rng.range(-RATE_PPM_MAX, RATE_PPM_MAX)
    };
    Monotonic {
        start_ms: rng.range(0, 1 << 40),
        rate_ppm,
    }
}

fn region(name: &str, disk: MemoryOptions, rng: &mut Rng) -> Region {
    Region {
        name: RegionName::parse(name).expect("the names of the run are valid"),
        store: MemoryStore::new(disk),
        clock: clock(rng),
        monotonic: monotonic(rng),
        time: TurnTime::default(),
        life: 0,
        process: None,
        commit_ms_max: 4,
        dies_with_disk: None,
        logged: BTreeMap::new(),
        started: 0,
        began: UnixMillis(0),
        disk_full: false,
    }
}

fn at_steps(rng: &mut Rng, stormy: bool, mix: &Mix) -> Vec<AtStep> {
    let count = if stormy { rng.below(4) } else { 0 };
    (0..count)
        .map(|_| AtStep {
            step: STEPS[rng.below(STEPS.len() as u64) as usize],
            ended: rng.chance(60),
            within_ms: rng.range(0, 120),
            trouble: mix.draw(rng),
        })
        .collect()
}

/// When something befalls the primary, in milliseconds of the storm.
fn disasters(rng: &mut Rng) -> Vec<(i64, Trouble)> {
    let count = *rng.pick(&[0, 1, 1, 2]);
    let mut at = 0;
    (0..count)
        .map(|_| {
            at += rng.range(1500, 9000);
            let trouble = Trouble::Disaster {
                kind: *rng.pick(&DISASTERS),
                ms: rng.range(1000, 14_000),
                told_ms: rng.range(200, 3000),
            };
            (at, trouble)
        })
        .collect()
}

/// The control plane as it is after the operator has made the hub.
fn founded(partition_count: u16, replication: Replication) -> State {
    let mut state = State::default();
    let regions: Vec<RegionName> = REGIONS
        .iter()
        .map(|name| RegionName::parse(name).expect("valid"))
        .collect();
    let principal = Principal {
        client_id: "operator".into(),
        object_id: "operator".into(),
        secret_sha256: "none".into(),
        salt: "none".into(),
    };
    let deployment = Deployment {
        tenant: "simulated".into(),
        domain: "hubs.localhost".into(),
        regions: regions.clone(),
        policy: FailoverPolicy {
            cooldown_ms: 0,
            per_day: 1000,
            second_approver: false,
        },
        principals: vec![principal],
        administrator: None,
        limits: Default::default(),
    };
    let subscription = Subscription {
        id: SUBSCRIPTION.into(),
        display_name: "simulated".into(),
    };
    let rights = Rights {
        registry_read: true,
        registry_write: true,
        service_connect: true,
        device_connect: true,
    };
    let policy = Policy {
        name: "iothubowner".into(),
        primary_key: KEY.into(),
        secondary_key: KEY.into(),
        rights,
    };
    let spec = HubSpec {
        subscription: SUBSCRIPTION.into(),
        group: "group".into(),
        name: "simulated-hub".parse().expect("a valid name"),
        location: regions[0].clone(),
        partner: Some(regions[1].clone()),
        sku_name: "S1".into(),
        sku_capacity: 1,
        tags: BTreeMap::new(),
        partition_count: Some(partition_count),
        retention_days: Some(1),
        replication: Some(replication),
        partner_away: None,
        lag_max_ms: None,
        cloud_to_device: Some(CloudToDevice {
            max_delivery_count: 100,
            ..CloudToDevice::default()
        }),
        policies: None,
        default_policies: vec![policy],
        stored_properties: serde_json::json!({}),
        if_match: None,
    };
    let commands = [
        Command::Deploy {
            deployment,
            subscriptions: vec![subscription],
        },
        Command::PutGroup {
            subscription: SUBSCRIPTION.into(),
            name: "group".into(),
            location: regions[0].clone(),
            tags: BTreeMap::new(),
        },
        Command::PutHub {
            operation: "create".into(),
            spec: Box::new(spec),
        },
    ];
    for command in commands {
        let answer = state.apply(&Request {
            now: UnixMillis(super::clock::EPOCH_MS),
            by: "operator".into(),
            id: String::new(),
            command,
            origin: Default::default(),
        });
        assert!(
            !matches!(answer, Answer::Refused(_)),
            "founding the run: {answer:?}"
        );
    }
    state
}
