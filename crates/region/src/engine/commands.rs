//! Clients' commands: decide against this turn's view, add what changes to the turn, hold the answer until it is durable.

use super::partition::{AddressedEffect, Live, Partition, Serving, TurnView};
use super::{Answer, Engine, Output, Refusal, Touched};
use hub::command::C2dCommand;
use hub::decision::PresenceChange;
use hub::{Command, Context, Decision, Effect, Presence, Refused, Reply};
use types::{DeviceId, PartitionKey, UnixMillis, limits};

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
        if let Err(refusal) = self.may_serve(at) {
            out.push(Output::Reply(reply, Err(refusal)));
            return;
        }
        touched.partitions.insert(at);
        let answer = match self.decide(at, command, now) {
            Ok(decision) => Ok(Answer::Reply(self.perform(at, decision, now, touched))),
            Err(Refused::Reject(reject)) => Err(Refusal::Reject(reject)),
            Err(Refused::View(error)) => {
                out.push(Output::Alarm {
                    at: Some(at),
                    text: error.to_string(),
                });
                Err(Refusal::Unavailable(error.to_string()))
            }
        };
        let partition = self.partitions.get_mut(&at).expect("may_serve saw it");
        partition.turn.replies.push((reply, answer));
    }

    /// Only an open primary with a working store decides.
    fn may_serve(&self, at: PartitionKey) -> Result<(), Refusal> {
        if let Some(why) = &self.failed {
            return Err(Refusal::Unavailable(why.clone()));
        }
        let Some(hub) = self.hubs.get(&at.hub) else {
            return Err(Refusal::NotPrimary {
                epoch: types::Epoch(0),
            });
        };
        let Some(partition) = self.partitions.get(&at) else {
            return Err(Refusal::Unavailable(format!(
                "the hub has no partition {}",
                at.partition
            )));
        };
        match partition.serving {
            Serving::No => match &partition.broken {
                Some(why) if hub.role.role == super::Role::Primary => {
                    Err(Refusal::Unavailable(why.clone()))
                }
                _ => Err(Refusal::NotPrimary {
                    epoch: hub.role.epoch,
                }),
            },
            Serving::Fenced => Err(Refusal::FailingOver),
            Serving::Open if partition.waiting.len() >= limits::SYNC_WAITING_MAX => Err(
                Refusal::Unavailable("too many answers wait for the partner region".into()),
            ),
            Serving::Open => Ok(()),
        }
    }

    pub(super) fn decide(
        &self,
        at: PartitionKey,
        command: &Command,
        now: UnixMillis,
    ) -> Result<Decision, Refused> {
        let hub = &self.hubs[&at.hub];
        let partition = &self.partitions[&at];
        let presence = |device: &DeviceId| {
            partition
                .live
                .get(device)
                .and_then(|live| live.presence.clone())
        };
        let activity =
            |device: &DeviceId| partition.live.get(device).and_then(|live| live.activity);
        let context = Context {
            now: now.max(partition.turn.head.time),
            settings: &hub.role.settings,
            partition: at.partition,
            epoch: partition.head.epoch,
            devices_in_hub: hub.devices,
            presence: &presence,
            last_activity: &activity,
            random: &*self.random,
        };
        let view = TurnView {
            at,
            store: &*self.store,
            turn: &partition.turn,
        };
        hub::decide(&view, &context, command)
    }

    /// Adds a decision to the turn.
    fn perform(
        &mut self,
        at: PartitionKey,
        decision: Decision,
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
        self.devices_changed(at.hub, devices_delta, touched);
        let partition = self.partitions.get_mut(&at).expect("decided here");
        let time = now.max(partition.turn.head.time);
        for (key, value) in writes.state {
            touched.bytes += key.len() + value.as_ref().map_or(0, bytes::Bytes::len);
            partition.turn.put(key, value);
        }
        self.stats.events += writes.events.len() as u64;
        for event in &writes.events {
            touched.bytes += event.bag.len() + event.body.len() + 64;
            partition.turn.event(event, time);
        }
        // A close is for the connection that was there before this decision, everything else for the one after it.
        let (closes, others): (Vec<_>, Vec<_>) = effects
            .into_iter()
            .partition(|e| matches!(e, Effect::Close { .. }));
        address(partition, closes);
        for change in presence {
            apply_presence(partition, change);
        }
        address(partition, others);
        if let Reply::Statistics { connected, .. } = &mut reply {
            *connected = partition.connected();
        }
        reply
    }

    /// Expires and unlocks cloud-to-device messages that are due.
    pub(super) fn sweep(
        &mut self,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let open: Vec<PartitionKey> = self
            .partitions
            .values()
            .filter(|p| p.serving == Serving::Open)
            .map(|p| p.at)
            .collect();
        for at in open {
            if self.may_serve(at).is_err() {
                continue;
            }
            match self.decide(at, &Command::C2d(C2dCommand::Sweep { max: SWEEP_MAX }), now) {
                Ok(decision) if decision.writes.is_empty() && decision.effects.is_empty() => {}
                Ok(decision) => {
                    touched.partitions.insert(at);
                    self.perform(at, decision, now, touched);
                }
                Err(Refused::Reject(_)) => {}
                Err(Refused::View(error)) => out.push(Output::Alarm {
                    at: Some(at),
                    text: error.to_string(),
                }),
            }
        }
    }
}

/// Finds the gateway and connection an effect is for; one for a device that is not connected has nobody to go to.
fn address<T>(partition: &mut Partition<T>, effects: Vec<Effect>) {
    for effect in effects {
        let (device, only) = match &effect {
            Effect::C2dWaiting { device } | Effect::DesiredChanged { device, .. } => (device, None),
            Effect::Close {
                device, connection, ..
            } => (device, Some(*connection)),
        };
        let Some(presence) = partition
            .live
            .get(device)
            .and_then(|live| live.presence.clone())
        else {
            continue;
        };
        let connection = only.unwrap_or(presence.connection);
        partition.turn.effects.push(AddressedEffect {
            gateway: presence.gateway,
            connection,
            effect,
        });
    }
}

/// Changes the volatile directory of who is connected.
pub(super) fn apply_presence<T>(partition: &mut Partition<T>, change: PresenceChange) {
    match change {
        PresenceChange::Connected {
            device,
            connection,
            gateway,
            since,
        } => {
            let live = partition.live.entry(device).or_default();
            live.presence = Some(Presence {
                connection,
                gateway,
                since,
            });
            live.activity = Some(live.activity.unwrap_or(since).max(since));
        }
        PresenceChange::Disconnected { device, connection } => {
            if let Some(live) = partition.live.get_mut(&device) {
                if live
                    .presence
                    .as_ref()
                    .is_some_and(|p| p.connection == connection)
                {
                    live.presence = None;
                }
            }
        }
        PresenceChange::Dropped { device } => {
            partition.live.remove(&device);
        }
        PresenceChange::Activity { device, at } => match partition.live.get_mut(&device) {
            Some(live) => live.activity = Some(at),
            None => {
                partition.live.insert(
                    device,
                    Live {
                        presence: None,
                        activity: Some(at),
                    },
                );
            }
        },
    }
}
