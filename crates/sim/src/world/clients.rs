//! Clients: each asks one thing at a time, through the gateway of either region.

use super::World;
use super::event::Happening;
use super::gateway::Payload;
use super::reading::body_of;
use super::replies::PROPERTY;
use crate::history::{Asked, Entry, EventId, Got, Outcome, Stand};
use crate::rng::Rng;
use hub::Command;
use hub::command::{
    AuthMethod, C2dCommand, C2dMessage, ConsumerCommand, EventOrigin, IfMatch, LockOwner, Message,
    RegistryCommand, SessionCommand, StoredOffset, TelemetryCommand, TwinCommand,
};
use std::collections::VecDeque;
use std::sync::Arc;
use types::{DeviceId, PartitionKey, Sequence, partition_of};

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

    fn next_question(&mut self, index: usize) -> Option<Asked> {
        self.new_messages += 1;
        let message = self.new_messages;
        let wall = super::clock::EPOCH_MS + self.now;
        let client = &mut self.clients[index];
        let rng = &mut client.rng;
        Some(match &mut client.kind {
            Kind::Founder { devices } => Asked::Register {
                device: *devices.last()?,
                value: 0,
                create: true,
            },
            Kind::Sender {
                device,
                counter,
                attempt,
                generation,
            } => match generation {
                None => Asked::Identify { device: *device },
                Some(_) => Asked::Telemetry(EventId {
                    device: *device,
                    counter: *counter,
                    attempt: *attempt,
                }),
            },
            Kind::TwinDevice { device, value } | Kind::TwinService { device, value }
                if rng.chance(30) =>
            {
                let _ = value;
                Asked::GetTwin { device: *device }
            }
            Kind::TwinDevice { device, value } => {
                *value += 1;
                Asked::SetReported {
                    device: *device,
                    value: *value,
                }
            }
            Kind::TwinService { device, value } => {
                *value += 1;
                Asked::SetDesired {
                    device: *device,
                    value: *value,
                }
            }
            Kind::Registrar { device, value } => {
                let device = *device;
                match rng.below(10) {
                    0..=2 => Asked::GetIdentity { device },
                    3 => Asked::Unregister { device },
                    n => {
                        *value += 1;
                        Asked::Register {
                            device,
                            value: *value,
                            create: n < 7,
                        }
                    }
                }
            }
            Kind::MessageService { device } => {
                let life = if rng.chance(35) {
                    rng.range(1500, 9000)
                } else {
                    20 * 60_000
                };
                Asked::SendMessage {
                    device: *device,
                    message,
                    expiry: types::UnixMillis(wall + life),
                }
            }
            Kind::MessageDevice { device, held } => match held.front() {
                Some((message, _)) if rng.chance(75) => Asked::CompleteMessage {
                    device: *device,
                    message: *message,
                },
                Some((message, _)) => Asked::AbandonMessage {
                    device: *device,
                    message: *message,
                },
                None => Asked::LockMessages { device: *device },
            },
            Kind::Consumer {
                consumer,
                at,
                stands,
                reads,
                ..
            } => match stands {
                Stands::Lost => Asked::GetOffset {
                    consumer: *consumer,
                    at: *at,
                },
                Stands::At(Some(next)) if *reads >= 3 => Asked::CommitOffset {
                    consumer: *consumer,
                    at: *at,
                    next: *next,
                },
                Stands::At(from) => Asked::ReadEvents {
                    consumer: *consumer,
                    at: *at,
                    from: *from,
                },
            },
            Kind::Auditor { questions, done } => match questions.front() {
                Some(asked) => asked.clone(),
                None => {
                    *done = true;
                    return None;
                }
            },
        })
    }

    /// The command that asks this.
    fn payload(&mut self, index: usize, asked: &Asked) -> (PartitionKey, Payload) {
        let command = match asked {
            Asked::ReadEvents { at, from, .. } => return (*at, Payload::Read(*from)),
            Asked::CommitOffset { consumer, at, next } => {
                let offset = StoredOffset {
                    next: Sequence(next.1),
                    epoch: next.0,
                };
                let command = ConsumerCommand::Commit {
                    group: group_of(*consumer),
                    offset,
                };
                return (*at, Payload::Command(Arc::new(Command::Consumer(command))));
            }
            Asked::GetOffset { consumer, at } => {
                let command = ConsumerCommand::Get {
                    group: group_of(*consumer),
                };
                return (*at, Payload::Command(Arc::new(Command::Consumer(command))));
            }
            Asked::Identify { device } => Command::Session(SessionCommand::Identity {
                device: device_id(*device),
            }),
            Asked::Telemetry(id) => {
                let generation = match &self.clients[index].kind {
                    Kind::Sender { generation, .. } => generation.clone().unwrap_or_default(),
                    _ => self
                        .generations
                        .get(&id.device)
                        .cloned()
                        .unwrap_or_default(),
                };
                let origin = Arc::new(EventOrigin {
                    generation,
                    auth_method: AuthMethod::DeviceSas,
                });
                let message = Message {
                    bag: Default::default(),
                    body: body_of(*id).into(),
                };
                Command::Telemetry(TelemetryCommand::Send {
                    device: device_id(id.device),
                    connection: None,
                    origin,
                    messages: vec![message],
                })
            }
            Asked::SetReported { device, value } => Command::Twin(TwinCommand::PatchReported {
                device: device_id(*device),
                body: format!(r#"{{"{PROPERTY}":{value}}}"#).into(),
                base: None,
            }),
            Asked::SetDesired { device, value } => Command::Twin(TwinCommand::Patch {
                device: device_id(*device),
                body: format!(r#"{{"properties":{{"desired":{{"{PROPERTY}":{value}}}}}}}"#).into(),
                if_match: IfMatch::Any,
            }),
            Asked::GetTwin { device } => Command::Twin(TwinCommand::Get {
                device: device_id(*device),
            }),
            Asked::Register {
                device,
                value,
                create,
            } => Command::Registry(RegistryCommand::Put {
                device: device_id(*device),
                body: format!(r#"{{"deviceId":"d{device}","statusReason":"{value}"}}"#).into(),
                if_match: if *create {
                    IfMatch::Absent
                } else {
                    IfMatch::Any
                },
            }),
            Asked::Unregister { device } => Command::Registry(RegistryCommand::Delete {
                device: device_id(*device),
                if_match: IfMatch::Any,
            }),
            Asked::GetIdentity { device } => Command::Registry(RegistryCommand::Get {
                device: device_id(*device),
            }),
            Asked::SendMessage {
                device,
                message,
                expiry,
            } => {
                let message = C2dMessage {
                    message_id: format!("m{message}"),
                    expiry: Some(*expiry),
                    ..C2dMessage::default()
                };
                Command::C2d(C2dCommand::Send {
                    device: device_id(*device),
                    message,
                })
            }
            Asked::LockMessages { device } => {
                let audit = matches!(self.clients[index].kind, Kind::Auditor { .. });
                let max = if audit {
                    100
                } else {
                    self.clients[index].rng.range(1, 4) as usize
                };
                let lock_ms = self.clients[index].rng.range(1000, 3000);
                Command::C2d(C2dCommand::Lock {
                    device: device_id(*device),
                    max,
                    owner: LockOwner::Http,
                    lock_ms,
                })
            }
            Asked::CompleteMessage { device, .. } | Asked::AbandonMessage { device, .. } => {
                let lock_token = match &self.clients[index].kind {
                    Kind::MessageDevice { held, .. } => held
                        .front()
                        .map(|(_, token)| token.clone())
                        .unwrap_or_default(),
                    _ => String::new(),
                };
                let device = device_id(*device);
                Command::C2d(match asked {
                    Asked::CompleteMessage { .. } => C2dCommand::Complete { device, lock_token },
                    _ => C2dCommand::Abandon { device, lock_token },
                })
            }
        };
        let at = self.partition_of(device_of(asked));
        (at, Payload::Command(Arc::new(command)))
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
            } => match (asked, outcome) {
                (Asked::Identify { .. }, Outcome::Acked(Got::Generation(found))) => {
                    self.generations.insert(*device, found.clone());
                    *generation = Some(found);
                }
                (Asked::Telemetry(_), Outcome::Acked(_)) => {
                    *counter += 1;
                    *attempt = 0;
                }
                (Asked::Telemetry(_), Outcome::Rejected(_)) => {
                    *attempt += 1;
                    *generation = None;
                }
                (Asked::Telemetry(_), _) => *attempt += 1,
                _ => {}
            },
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

fn device_of(asked: &Asked) -> u32 {
    match asked {
        Asked::Telemetry(id) => id.device,
        Asked::Identify { device }
        | Asked::SetReported { device, .. }
        | Asked::SetDesired { device, .. }
        | Asked::GetTwin { device }
        | Asked::Register { device, .. }
        | Asked::Unregister { device }
        | Asked::GetIdentity { device }
        | Asked::SendMessage { device, .. }
        | Asked::LockMessages { device }
        | Asked::CompleteMessage { device, .. }
        | Asked::AbandonMessage { device, .. } => *device,
        Asked::CommitOffset { .. } | Asked::GetOffset { .. } | Asked::ReadEvents { .. } => 0,
    }
}
