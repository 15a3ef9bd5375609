//! Clients: each asks one thing at a time, through the gateway of either region.

use super::World;
use super::event::Happening;
use crate::history::{Asked, Entry, Got, Outcome, Stand};
use crate::rng::Rng;
use std::collections::VecDeque;
use types::{DeviceId, PartitionKey, partition_of};

/// A client and what it remembers.
pub struct Client {
    pub gateway: usize,
    pub rng: Rng,
    pub busy: bool,
    pub pause_ms: (i64, i64),
    pub kind: Kind,
    /// It starts nothing new any more.
    pub retired: bool,
}

pub enum Kind {
    /// Registers the devices of the run, then lets the others begin.
    Founder {
        devices: Vec<u32>,
    },
    Sender {
        device: u32,
        counter: u32,
        attempt: u32,
        generation: Option<String>,
    },
    TwinDevice {
        device: u32,
        value: u64,
    },
    TwinService {
        device: u32,
        value: u64,
    },
    Registrar {
        device: u32,
        value: u64,
    },
    MessageService {
        device: u32,
    },
    MessageDevice {
        device: u32,
        held: VecDeque<(u64, String)>,
    },
    Consumer {
        consumer: u32,
        at: PartitionKey,
        stands: Stands,
        reads: u32,
    },
    /// Asks the last questions, in order.
    Auditor {
        questions: VecDeque<Asked>,
        done: bool,
    },
}

/// Where a consumer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// It must ask for its stored offset first.
    Lost,
    /// `None`: at the oldest event.
    At(Option<Stand>),
}

pub fn device_id(device: u32) -> DeviceId {
    DeviceId::parse(&format!("d{device}")).expect("a letter and digits are a device id")
}

impl World {
    pub(super) fn partition_of(&self, device: u32) -> PartitionKey {
        PartitionKey {
            hub: super::HUB,
            partition: partition_of(&device_id(device), self.partitions.len() as u16),
        }
    }

    pub(super) fn client_turn(&mut self, index: usize) {
        if self.clients[index].busy || self.clients[index].retired {
            return;
        }
        let able = |world: &World, region: usize| {
            let place = &world.regions[region];
            let answers = |p: &super::process::Process| p.seat.trusted && p.route.is_some();
            world.awake(region) && place.process.as_ref().is_some_and(answers)
        };
        let founding = matches!(self.clients[index].kind, Kind::Founder { .. });
        let groups = self
            .plane
            .state
            .hub(super::HUB)
            .map_or(0, |hub| hub.consumer_groups.len());
        let mut gateway = self.clients[index].gateway;
        if founding && groups < 2 {
            self.after(50, Happening::Client { client: index });
            return;
        }
        if !able(self, gateway) {
            gateway = 1 - gateway;
        }
        if !able(self, gateway) {
            self.after(100, Happening::Client { client: index });
            return;
        }
        self.clients[index].gateway = gateway;
        let Some(asked) = self.next_question(index) else {
            return;
        };
        let (at, payload) = self.payload(index, &asked);
        self.clients[index].busy = true;
        self.request(index, gateway, at, asked, payload);
    }

    pub(super) fn client_answered(&mut self, index: usize, asked: Asked, outcome: Outcome) {
        let reset = self.fault == Some(crate::fault::Fault::ResetConsumer);
        let failed = matches!(outcome, Outcome::NotDone | Outcome::Unknown);
        let client = &mut self.clients[index];
        client.busy = false;
        if failed && client.rng.chance(40) {
            client.gateway = 1 - client.gateway;
        }
        let mut pause = client.rng.range(client.pause_ms.0, client.pause_ms.1);
        if failed {
            pause += client.rng.range(50, 400);
        }
        let mut positioned = None;
        match &mut client.kind {
            Kind::Founder { devices } => {
                if matches!(outcome, Outcome::Acked(_) | Outcome::Rejected(_)) {
                    devices.pop();
                }
                if devices.is_empty() && !client.retired {
                    client.retired = true;
                    self.founded();
                }
            }
            Kind::Sender {
                counter,
                attempt,
                generation,
                device,
            } => {
                let found = sender_answered((counter, attempt), generation, &asked, &outcome);
                if let Some(found) = found {
                    self.generations.insert(*device, found);
                }
            }
            Kind::MessageDevice { held, .. } => match (asked, outcome) {
                (Asked::LockMessages { .. }, Outcome::Acked(Got::Messages(messages))) => {
                    if messages.is_empty() {
                        pause += 200;
                    }
                    // Some it forgets: their locks time out.
                    let kept = messages.into_iter().filter(|_| client.rng.chance(85));
                    held.extend(kept.map(|message| (message.message, message.lock_token)));
                }
                (Asked::LockMessages { .. }, _) => {}
                _ => drop(held.pop_front()),
            },
            Kind::Consumer {
                consumer,
                at,
                stands,
                reads,
                ..
            } => match (asked, outcome) {
                (Asked::GetOffset { .. }, Outcome::Acked(Got::Offset(next))) => {
                    *stands = Stands::At(next);
                    *reads = 0;
                    positioned = Some((*consumer, *at, next));
                }
                (
                    Asked::ReadEvents { .. },
                    Outcome::Acked(Got::Events {
                        events,
                        next,
                        epoch,
                        rewound,
                    }),
                ) => {
                    *reads += 1;
                    if events.is_empty() {
                        pause += 150;
                    }
                    if !events.is_empty() || rewound.is_some() {
                        let skipped = if reset && client.rng.chance(10) { 5 } else { 0 };
                        *stands = Stands::At(Some((epoch, next.0 + skipped)));
                    }
                    if client.rng.chance(4) {
                        *stands = Stands::Lost;
                    }
                }
                (Asked::CommitOffset { .. }, _) => *reads = 0,
                _ => {}
            },
            Kind::Auditor { questions, .. } => {
                if !failed {
                    questions.pop_front();
                    pause = 0;
                } else if let Some(Asked::Telemetry(id)) = questions.front_mut() {
                    id.attempt += 1;
                }
            }
            Kind::TwinDevice { .. }
            | Kind::TwinService { .. }
            | Kind::Registrar { .. }
            | Kind::MessageService { .. } => {}
        }
        if let Some((consumer, at, next)) = positioned {
            self.record(Entry::Positioned { consumer, at, next });
        }
        self.after(pause, Happening::Client { client: index });
    }
}

pub fn group_of(consumer: u32) -> String {
    if consumer == 0 {
        "$Default".into()
    } else {
        format!("group{consumer}")
    }
}

/// The next event, or the same again as another attempt; gives the device's generation when it was found.
fn sender_answered(
    (counter, attempt): (&mut u32, &mut u32),
    generation: &mut Option<String>,
    asked: &Asked,
    outcome: &Outcome,
) -> Option<String> {
    match (asked, outcome) {
        (Asked::Identify { .. }, Outcome::Acked(Got::Generation(found))) => {
            *generation = Some(found.clone());
        }
        (Asked::Telemetry(_), Outcome::Acked(_)) => {
            *counter += 1;
            *attempt = 0;
            return None;
        }
        (Asked::Telemetry(_), Outcome::Rejected(_)) => {
            *attempt += 1;
            *generation = None;
        }
        (Asked::Telemetry(_), _) => *attempt += 1,
        _ => {}
    }
    generation
        .clone()
        .filter(|_| matches!(asked, Asked::Identify { .. }))
}
