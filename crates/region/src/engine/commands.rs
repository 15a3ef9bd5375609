//! Clients' commands: decide against this turn's view, add what changes to the turn, hold the answer until it is durable.

use super::lease;
use super::partition::{AddressedEffect, Held, Partition, Serving};
use super::refill::Refill;
use super::view::{StoredView, TurnView};
use super::{Answer, Engine, HubRuntime, Output, Random, Refusal, Role, Touched};
use hub::command::{C2dCommand, ConsumerCommand, RegistryCommand, SessionCommand, TwinCommand};
use hub::decision::PresenceChange;
use hub::{Command, Context, Decision, Effect, Refused, Reply, View};
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
        let leased = self.holds_lease();
        let (hub, partition) = match may_serve(
            &self.failed,
            leased,
            self.hubs.get_mut(&at.hub),
            self.partitions.get_mut(&at),
        ) {
            Ok(found) => found,
            Err(refusal) => return out.push(Output::Reply(reply, Err(refusal))),
        };
        touched.partitions.insert(at);
        let decided = decide(&*self.store, &self.random, hub, partition, command, now);
        let mut wrote = false;
        let answer = match decided {
            Ok(decision) => {
                wrote = changes(&decision);
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
        partition.turn.replies.push(Held {
            asker: reply,
            answer,
            wrote,
        });
    }

    /// Answers a read from what is on disk here, whether this region is the primary or not: it may be old, and says so
    /// nowhere, so the asker must.
    pub(super) fn stale_read(
        &self,
        at: PartitionKey,
        command: &Command,
        now: UnixMillis,
    ) -> Result<Answer, Refusal> {
        if !reads_only(command) {
            let why = "only what changes nothing is answered from a copy";
            return Err(Refusal::Unavailable(why.into()));
        }
        if let Some(why) = &self.failed {
            return Err(Refusal::Unavailable(why.clone()));
        }
        let Some(hub) = self.hubs.get(&at.hub) else {
            return Err(Refusal::NotPrimary { epoch: Epoch(0) });
        };
        let Some(partition) = self.partitions.get(&at) else {
            return Err(Refusal::Unavailable("the hub has no such partition".into()));
        };
        if let Some(why) = partition.why_not_whole() {
            return Err(Refusal::Unavailable(why));
        }
        let view = StoredView {
            at,
            store: &*self.store,
        };
        match decide_on(
            &view,
            &partition.head,
            &self.random,
            hub,
            partition,
            command,
            now,
        ) {
            Ok(mut decision) => {
                count_connected(partition, &mut decision.reply);
                Ok(Answer::Reply(decision.reply))
            }
            Err(Refused::Reject(reject)) => Err(Refusal::Reject(reject)),
            Err(Refused::View(error)) => Err(Refusal::Unavailable(error.to_string())),
        }
    }

    /// Expires and unlocks cloud-to-device messages that are due.
    pub(super) fn sweep(
        &mut self,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let command = Command::C2d(C2dCommand::Sweep { max: SWEEP_MAX });
        let leased = self.holds_lease();
        for (at, partition) in &mut self.partitions {
            let hub = self.hubs.get_mut(&at.hub);
            let Ok((hub, partition)) = may_serve(&self.failed, leased, hub, Some(partition)) else {
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

/// Only an open primary with a lease and a working store decides.
fn may_serve<'a, T>(
    failed: &Option<String>,
    leased: bool,
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
        Serving::Open if lease::quiet(&hub.role, leased).is_some() => {
            Err(lease::quiet(&hub.role, leased)
                .expect("just seen")
                .refusal())
        }
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
        _ => match partition.returning() {
            Some(why) if role.role == Role::Primary => Refusal::Unavailable(why),
            _ => Refusal::NotPrimary { epoch: role.epoch },
        },
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
    let view = TurnView {
        at: partition.at,
        store,
        turn: &partition.turn,
    };
    decide_on(
        &view,
        &partition.turn.head,
        random,
        hub,
        partition,
        command,
        now,
    )
}

fn decide_on<T>(
    view: &dyn View,
    head: &replication::Head,
    random: &Random,
    hub: &HubRuntime,
    partition: &Partition<T>,
    command: &Command,
    now: UnixMillis,
) -> Result<Decision, Refused> {
    let presence = |device: &DeviceId| partition.live.presence(device).cloned();
    let activity = |device: &DeviceId| partition.live.activity(device);
    let context = Context {
        now: now.max(head.time),
        settings: &hub.role.settings,
        partition: partition.at.partition,
        epoch: head.epoch,
        devices_in_hub: hub.devices,
        presence: &presence,
        last_activity: &activity,
        random: &**random,
    };
    hub::decide(view, &context, command)
}

/// Commands whose decision never changes anything and that need no current answer.
fn reads_only(command: &Command) -> bool {
    matches!(
        command,
        Command::Registry(
            RegistryCommand::Get { .. }
                | RegistryCommand::List { .. }
                | RegistryCommand::Statistics
        ) | Command::Twin(TwinCommand::Get { .. })
            | Command::Consumer(ConsumerCommand::Get { .. })
    )
}

fn changes(decision: &Decision) -> bool {
    !decision.writes.is_empty() || !decision.effects.is_empty() || !decision.presence.is_empty()
}

fn count_connected<T>(partition: &Partition<T>, reply: &mut Reply) {
    if let Reply::Statistics { connected, .. } = reply {
        *connected = partition.live.connected();
    }
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
    count_connected(partition, &mut reply);
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
