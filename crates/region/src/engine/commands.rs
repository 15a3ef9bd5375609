//! Clients' commands: decide against this turn's view, add what changes to the turn, hold the answer until it is durable.

use super::partition::{AddressedEffect, Partition, Serving};
use super::refill::Refill;
use super::view::TurnView;
use super::{Answer, Engine, HubRuntime, Output, Random, Refusal, Role, Touched};
use hub::command::{C2dCommand, SessionCommand};
use hub::decision::PresenceChange;
use hub::{Command, Context, Decision, Effect, Refused, Reply};
use store::Store;
use types::{ConnectionId, DeviceId, Epoch, PartitionKey, RegionName, UnixMillis};

/// Messages expired or unlocked per partition and second.
const SWEEP_MAX: usize = 1000;

impl<T> Engine<T> {
    pub(super) fn command(
        &mut self,
        at: PartitionKey,
        command: &Command,
        reply: T,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        self.stats.commands += 1;
        let (hub, partition) = match may_serve(
            &self.failed,
            self.hubs.get_mut(&at.hub),
            self.partitions.get_mut(&at),
        ) {
            Ok(found) => found,
            Err(refusal) => return out.push(Output::Reply(reply, Err(refusal))),
        };
        touched.partitions.insert(at);
        let decided = decide(&*self.store, &self.random, hub, partition, command, now);
        let answer = match decided {
            Ok(decision) => {
                self.stats.events += decision.writes.events.len() as u64;
                let asker = asker(command);
                let reply = perform(hub, partition, decision, asker, now, touched);
                if partition.turn.is_full() {
                    // An error stays with the turn, whose commit then fails.
                    let _ = partition.seal(&*self.store, now);
                }
                Ok(Answer::Reply(reply))
            }
            Err(Refused::Reject(reject)) => Err(Refusal::Reject(reject)),
            Err(Refused::View(error)) => {
                out.push(Output::Alarm {
                    at: Some(at),
                    text: error.to_string(),
                });
                Err(Refusal::Unavailable(error.to_string()))
            }
        };
        partition.turn.replies.push((reply, answer));
    }

    /// Expires and unlocks cloud-to-device messages that are due.
    pub(super) fn sweep(
        &mut self,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let command = Command::C2d(C2dCommand::Sweep { max: SWEEP_MAX });
        for (at, partition) in &mut self.partitions {
            let hub = self.hubs.get_mut(&at.hub);
            let Ok((hub, partition)) = may_serve(&self.failed, hub, Some(partition)) else {
                continue;
            };
            match decide(&*self.store, &self.random, hub, partition, &command, now) {
                Ok(decision) if decision.writes.is_empty() && decision.effects.is_empty() => {}
                Ok(decision) => {
                    touched.partitions.insert(*at);
                    perform(hub, partition, decision, None, now, touched);
                }
                Err(Refused::Reject(_)) => {}
                Err(Refused::View(error)) => out.push(Output::Alarm {
                    at: Some(*at),
                    text: error.to_string(),
                }),
            }
        }
    }
}

/// Only an open primary with a working store decides.
fn may_serve<'a, T>(
    failed: &Option<String>,
    hub: Option<&'a mut HubRuntime>,
    partition: Option<&'a mut Partition<T>>,
) -> Result<(&'a mut HubRuntime, &'a mut Partition<T>), Refusal> {
    if let Some(why) = failed {
        return Err(Refusal::Unavailable(why.clone()));
    }
    let Some(hub) = hub else {
        return Err(Refusal::NotPrimary { epoch: Epoch(0) });
    };
    let Some(partition) = partition else {
        return Err(Refusal::Unavailable("the hub has no such partition".into()));
    };
    match partition.serving {
        Serving::No => Err(why_not(hub, partition)),
        Serving::Fenced => Err(Refusal::FailingOver),
        Serving::Open if partition.waits_too_much() => Err(Refusal::Unavailable(
            "too many answers wait for the partner region".into(),
        )),
        Serving::Open => Ok((hub, partition)),
    }
}

fn why_not<T>(hub: &HubRuntime, partition: &Partition<T>) -> Refusal {
    let role = &hub.role;
    match (&partition.broken, &partition.refill, &role.peer) {
        (Some(why), _, _) if role.role == Role::Primary => Refusal::Unavailable(why.clone()),
        (None, Refill::Pulling { .. }, Some(peer)) => {
            Refusal::Unavailable(format!("refilling from {peer}"))
        }
        _ => Refusal::NotPrimary { epoch: role.epoch },
    }
}

/// Decides a command against this turn's view.
///
/// # Errors
/// As [`hub::decide`].
pub(super) fn decide<T>(
    store: &dyn Store,
    random: &Random,
    hub: &HubRuntime,
    partition: &Partition<T>,
    command: &Command,
    now: UnixMillis,
) -> Result<Decision, Refused> {
    let presence = |device: &DeviceId| partition.live.presence(device).cloned();
    let activity = |device: &DeviceId| partition.live.activity(device);
    let context = Context {
        now: now.max(partition.turn.head.time),
        settings: &hub.role.settings,
        partition: partition.at.partition,
        epoch: partition.turn.head.epoch,
        devices_in_hub: hub.devices,
        presence: &presence,
        last_activity: &activity,
        random: &**random,
    };
    let view = TurnView {
        at: partition.at,
        store,
        turn: &partition.turn,
    };
    hub::decide(&view, &context, command)
}

/// Adds a decision to the turn.
fn perform<T>(
    hub: &mut HubRuntime,
    partition: &mut Partition<T>,
    decision: Decision,
    asker: Option<(ConnectionId, &RegionName)>,
    now: UnixMillis,
    touched: &mut Touched,
) -> Reply {
    let Decision {
        writes,
        mut reply,
        effects,
        presence,
        devices_delta,
    } = decision;
    if devices_delta != 0 {
        *touched.devices.entry(partition.at.hub).or_default() += devices_delta;
        hub.devices = hub.devices.saturating_add_signed(devices_delta);
    }
    let time = now.max(partition.turn.head.time);
    for (key, value) in writes.state {
        touched.bytes += key.len() + value.as_ref().map_or(0, bytes::Bytes::len);
        partition.turn.put(key, value);
    }
    for event in &writes.events {
        touched.bytes += event.bag.len() + event.body.len() + 64;
        partition.turn.event(event, time);
    }
    // A close is for the connection that was there before this decision, everything else for the one after it.
    let (closes, others): (Vec<_>, Vec<_>) = effects
        .into_iter()
        .partition(|e| matches!(e, Effect::Close { .. }));
    address(partition, closes, asker);
    for change in presence {
        if let Some(device) = moves(&change) {
            let before = partition.live.presence(device).cloned();
            partition.turn.undo.push((device.clone(), before));
        }
        partition.live.decided(change);
    }
    address(partition, others, asker);
    if let Reply::Statistics { connected, .. } = &mut reply {
        *connected = partition.live.connected();
    }
    reply
}

/// The device that a change lets come or go.
fn moves(change: &PresenceChange) -> Option<&DeviceId> {
    match change {
        PresenceChange::Connected { device, .. }
        | PresenceChange::Disconnected { device, .. }
        | PresenceChange::Dropped { device } => Some(device),
        PresenceChange::Activity { .. } => None,
    }
}

/// The connection a command speaks for, and its gateway: it may be turned away without ever having been the device's own.
fn asker(command: &Command) -> Option<(ConnectionId, &RegionName)> {
    match command {
        Command::Session(
            SessionCommand::Restate {
                connection,
                gateway,
                ..
            }
            | SessionCommand::Open {
                connection,
                gateway,
                ..
            },
        ) => Some((*connection, gateway)),
        _ => None,
    }
}

/// Finds the gateway and connection an effect is for; one for a device that is not connected has nobody to go to.
fn address<T>(
    partition: &mut Partition<T>,
    effects: Vec<Effect>,
    asker: Option<(ConnectionId, &RegionName)>,
) {
    for effect in effects {
        let (device, only) = match &effect {
            Effect::C2dWaiting { device } | Effect::DesiredChanged { device, .. } => (device, None),
            Effect::Close {
                device, connection, ..
            } => (device, Some(*connection)),
        };
        let asking = asker.filter(|(connection, _)| only == Some(*connection));
        let addressed = match (asking, partition.live.presence(device)) {
            (Some((connection, gateway)), _) => Some((gateway.clone(), connection)),
            (None, Some(there)) => Some((there.gateway.clone(), only.unwrap_or(there.connection))),
            (None, None) => None,
        };
        if let Some((gateway, connection)) = addressed {
            partition.turn.effects.push(AddressedEffect {
                gateway,
                connection,
                effect,
            });
        }
    }
}
