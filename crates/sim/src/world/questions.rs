//! What each kind of client asks next.

use super::World;
use super::clients::{Kind, Stands};
use crate::history::{Asked, EventId};
use crate::rng::Rng;
use std::collections::VecDeque;
use types::{PartitionKey, UnixMillis};

impl World {
    pub(super) fn next_question(&mut self, index: usize) -> Option<Asked> {
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
            Kind::TwinDevice { device, .. } | Kind::TwinService { device, .. }
                if rng.chance(30) =>
            {
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
            Kind::Registrar { device, value } => registrar(*device, value, rng),
            Kind::MessageService { device } => Asked::SendMessage {
                device: *device,
                message,
                expiry: expiry(wall, rng),
            },
            Kind::MessageDevice { device, held } => message_device(*device, held, rng),
            Kind::Consumer {
                consumer,
                at,
                stands,
                reads,
            } => consumer_asks(*consumer, *at, *stands, *reads),
            Kind::Auditor { questions, done } => match questions.front() {
                Some(asked) => asked.clone(),
                None => {
                    *done = true;
                    return None;
                }
            },
        })
    }
}

fn registrar(device: u32, value: &mut u64, rng: &mut Rng) -> Asked {
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

/// Some expire while the run goes on, most long after it.
fn expiry(wall: i64, rng: &mut Rng) -> UnixMillis {
    let life = if rng.chance(35) {
        rng.range(1500, 9000)
    } else {
        20 * 60_000
    };
    UnixMillis(wall + life)
}

fn message_device(device: u32, held: &VecDeque<(u64, String)>, rng: &mut Rng) -> Asked {
    match held.front() {
        Some((message, _)) if rng.chance(75) => Asked::CompleteMessage {
            device,
            message: *message,
        },
        Some((message, _)) => Asked::AbandonMessage {
            device,
            message: *message,
        },
        None => Asked::LockMessages { device },
    }
}

fn consumer_asks(consumer: u32, at: PartitionKey, stands: Stands, reads: u32) -> Asked {
    match stands {
        Stands::Lost => Asked::GetOffset { consumer, at },
        Stands::At(Some(next)) if reads >= 3 => Asked::CommitOffset { consumer, at, next },
        Stands::At(from) => Asked::ReadEvents { consumer, at, from },
    }
}
