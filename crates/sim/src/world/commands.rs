//! The commands that ask clients' questions.

use super::World;
use super::clients::{Kind, device_id, group_of};
use super::gateway::Payload;
use super::reading::body_of;
use super::replies::PROPERTY;
use crate::history::{Asked, EventId, Stand};
use hub::Command;
use hub::command::{
    AuthMethod, C2dCommand, C2dMessage, ConsumerCommand, EventOrigin, IfMatch, LockOwner, Message,
    RegistryCommand, SessionCommand, StoredOffset, TelemetryCommand, TwinCommand,
};
use std::sync::Arc;
use types::{PartitionKey, Sequence};

impl World {
    /// The command that asks this, and the partition it is for.
    pub(super) fn payload(&mut self, index: usize, asked: &Asked) -> (PartitionKey, Payload) {
        let command = match asked {
            Asked::ReadEvents { at, from, .. } => return (*at, Payload::Read(*from)),
            Asked::CommitOffset { consumer, at, next } => {
                return (*at, of_offset(*consumer, Some(*next)));
            }
            Asked::GetOffset { consumer, at } => return (*at, of_offset(*consumer, None)),
            Asked::Telemetry(id) => self.telemetry(index, *id),
            Asked::SetReported { .. } | Asked::SetDesired { .. } | Asked::GetTwin { .. } => {
                Command::Twin(of_twin(asked))
            }
            Asked::Register { .. } | Asked::Unregister { .. } | Asked::GetIdentity { .. } => {
                Command::Registry(of_registry(asked))
            }
            Asked::Identify { device } => Command::Session(SessionCommand::Identity {
                device: device_id(*device),
            }),
            Asked::SendMessage { .. }
            | Asked::LockMessages { .. }
            | Asked::CompleteMessage { .. }
            | Asked::AbandonMessage { .. } => Command::C2d(self.of_message(index, asked)),
        };
        let at = self.partition_of(device_of(asked));
        (at, Payload::Command(Arc::new(command)))
    }

    fn telemetry(&self, index: usize, id: EventId) -> Command {
        let generation = match &self.clients[index].kind {
            Kind::Sender { generation, .. } => generation.clone(),
            _ => self.generations.get(&id.device).cloned(),
        };
        let origin = Arc::new(EventOrigin {
            generation: generation.unwrap_or_default(),
            auth_method: AuthMethod::DeviceSas,
        });
        let message = Message {
            bag: Default::default(),
            body: body_of(id).into(),
        };
        Command::Telemetry(TelemetryCommand::Send {
            device: device_id(id.device),
            connection: None,
            origin,
            messages: vec![message],
        })
    }

    fn of_message(&mut self, index: usize, asked: &Asked) -> C2dCommand {
        let device = device_id(device_of(asked));
        let client = &mut self.clients[index];
        match asked {
            Asked::SendMessage {
                message, expiry, ..
            } => C2dCommand::Send {
                device,
                message: C2dMessage {
                    message_id: format!("m{message}"),
                    expiry: Some(*expiry),
                    ..C2dMessage::default()
                },
            },
            Asked::LockMessages { .. } => {
                let audit = matches!(client.kind, Kind::Auditor { .. });
                let max = if audit {
                    100
                } else {
                    client.rng.range(1, 4) as usize
                };
                C2dCommand::Lock {
                    device,
                    max,
                    owner: LockOwner::Http,
                    lock_ms: client.rng.range(1000, 3000),
                }
            }
            _ => {
                let held = match &client.kind {
                    Kind::MessageDevice { held, .. } => held.front(),
                    _ => None,
                };
                let lock_token = held.map(|(_, token)| token.clone()).unwrap_or_default();
                match asked {
                    Asked::CompleteMessage { .. } => C2dCommand::Complete { device, lock_token },
                    _ => C2dCommand::Abandon { device, lock_token },
                }
            }
        }
    }
}

/// Stores a consumer's offset, or asks for it.
fn of_offset(consumer: u32, next: Option<Stand>) -> Payload {
    let group = group_of(consumer);
    let command = match next {
        Some((epoch, next)) => ConsumerCommand::Commit {
            group,
            offset: StoredOffset {
                next: Sequence(next),
                epoch,
            },
        },
        None => ConsumerCommand::Get { group },
    };
    Payload::Command(Arc::new(Command::Consumer(command)))
}

fn of_twin(asked: &Asked) -> TwinCommand {
    let device = device_id(device_of(asked));
    match asked {
        Asked::SetReported { value, .. } => TwinCommand::PatchReported {
            device,
            body: format!(r#"{{"{PROPERTY}":{value}}}"#).into(),
            base: None,
        },
        Asked::SetDesired { value, .. } => TwinCommand::Patch {
            device,
            body: format!(r#"{{"properties":{{"desired":{{"{PROPERTY}":{value}}}}}}}"#).into(),
            if_match: IfMatch::Any,
        },
        _ => TwinCommand::Get { device },
    }
}

fn of_registry(asked: &Asked) -> RegistryCommand {
    let number = device_of(asked);
    let device = device_id(number);
    match asked {
        Asked::Register { value, create, .. } => RegistryCommand::Put {
            device,
            body: format!(r#"{{"deviceId":"d{number}","statusReason":"{value}"}}"#).into(),
            if_match: if *create {
                IfMatch::Absent
            } else {
                IfMatch::Any
            },
        },
        Asked::Unregister { .. } => RegistryCommand::Delete {
            device,
            if_match: IfMatch::Any,
        },
        _ => RegistryCommand::Get { device },
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
