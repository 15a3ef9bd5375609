//! Who this region is for each hub, as the control plane says.

use super::commit::refuse;
use super::follower::Following;
use super::handover::{HubRole, Role};
use super::partition::{Partition, Serving};
use super::refill::Refill;
use super::{Engine, HubRuntime, Output, Refusal, Touched};
use hub::command::RegistryCommand;
use hub::{Command, Reply};
use replication::Body;
use std::collections::BTreeSet;
use types::{Epoch, HubId, PartitionId, PartitionKey, Sequence, UnixMillis};

impl<T> Engine<T> {
    /// Takes the control plane's word on who this region is for each hub.
    pub(super) fn roles(
        &mut self,
        roles: Vec<HubRole>,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let named: BTreeSet<HubId> = roles.iter().map(|role| role.settings.id).collect();
        let gone: Vec<HubId> = self
            .hubs
            .keys()
            .filter(|id| !named.contains(id))
            .copied()
            .collect();
        for hub in gone {
            self.drop_hub(hub, out);
        }
        for role in roles {
            self.role(role, now, touched, out);
        }
        self.started = true;
    }

    /// Forgets data of hubs that are no longer there; called once after the first trusted roles.
    pub(super) fn drop_unknown(&mut self, out: &mut Vec<Output<T>>) {
        let stored = match self.store.partitions() {
            Ok(stored) => stored,
            Err(error) => {
                out.push(Output::Alarm {
                    at: None,
                    text: error.to_string(),
                });
                return;
            }
        };
        self.discard_salvages(|hub| !self.hubs.contains_key(&hub), out);
        let unknown = stored
            .into_iter()
            .filter(|at| !self.hubs.contains_key(&at.hub));
        for at in unknown {
            if let Err(error) = self.store.clear(at) {
                out.push(Output::Alarm {
                    at: Some(at),
                    text: error.to_string(),
                });
            }
        }
    }

    fn drop_hub(&mut self, hub: HubId, out: &mut Vec<Output<T>>) {
        self.hubs.remove(&hub);
        self.refuse_steps(hub, "the hub was deleted", out);
        self.discard_salvages(|of| of == hub, out);
        for at in self.keys_of(hub) {
            self.unsettled.remove(&at);
            self.copies.forget(at);
            if let Some(mut partition) = self.partitions.remove(&at) {
                partition.refuse_waiting("the hub was deleted", out);
                let refusal = Refusal::NotPrimary { epoch: Epoch(0) };
                refuse(partition.turn_failed().replies, &refusal, out);
            }
            out.push(Output::Visible {
                at,
                next: Sequence(0),
                epoch: None,
            });
            if let Err(error) = self.store.clear(at) {
                out.push(Output::Alarm {
                    at: Some(at),
                    text: error.to_string(),
                });
            }
        }
    }

    pub(super) fn role(
        &mut self,
        role: HubRole,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let hub = role.settings.id;
        let before = self.hubs.get(&hub).map(|runtime| &runtime.role);
        let known = before.map(|role| (role.epoch, role.role));
        if known.is_some_and(|(epoch, _)| epoch > role.epoch) {
            return;
        }
        let changed = known != Some((role.epoch, role.role));
        let suspends = before.is_some_and(|before| before.suspended != role.suspended);
        let devices = self.hubs.get(&hub).map_or(0, |runtime| runtime.devices);
        let runtime = HubRuntime {
            role: role.clone(),
            devices,
        };
        self.hubs.insert(hub, runtime);
        if !self.open_partitions(&role, out) {
            return;
        }
        if !changed {
            self.settings_changed(hub, suspends, now, out);
            return;
        }
        self.refuse_steps(hub, "the hub's roles changed", out);
        for at in self.keys_of(hub) {
            match role.role {
                Role::Primary if self.must_ask(at, &role, known.is_none()) => {
                    self.unsettled.insert(at);
                    self.begin_refill(at, now);
                }
                Role::Primary => self.become_primary(at, role.epoch, now, touched, out),
                Role::Secondary => self.become_secondary(at, role.epoch, out),
            }
        }
        if role.role == Role::Primary {
            self.count_devices(hub, now);
        }
    }

    /// Opens what is not open yet; gives false when the store does not let it.
    fn open_partitions(&mut self, role: &HubRole, out: &mut Vec<Output<T>>) -> bool {
        let settings = &role.settings;
        for number in 0..settings.partition_count {
            let at = PartitionKey {
                hub: settings.id,
                partition: PartitionId(number),
            };
            self.store.set_retention(at, settings.retention_days);
            if self.partitions.contains_key(&at) {
                continue;
            }
            match Partition::open(at, &*self.store) {
                Ok(partition) => {
                    if let Some(why) = &partition.broken {
                        out.push(Output::Alarm {
                            at: Some(at),
                            text: format!("stopped: {why}"),
                        });
                    }
                    self.partitions.insert(at, partition);
                }
                Err(error) => {
                    self.failed = Some(error.to_string());
                    out.push(Output::Alarm {
                        at: Some(at),
                        text: error.to_string(),
                    });
                    return false;
                }
            }
        }
        true
    }

    /// A hub that is suspended shows nothing; one that no longer waits for its partner gives out what waited.
    fn settings_changed(
        &mut self,
        hub: HubId,
        suspends: bool,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        let keys = self.keys_of(hub);
        if suspends {
            self.tell_readers(&keys, out);
        }
        for at in keys {
            self.release_confirmed(at, now, out);
        }
    }

    /// Must the partner be asked what it has before this region leads the partition? Only as the process starts: at a failover
    /// the regions have just compared digests, and a hub that comes later is new. A fence needs no word of anybody.
    fn must_ask(&self, at: PartitionKey, role: &HubRole, first: bool) -> bool {
        let partition = &self.partitions[&at];
        let starting = first && !self.started || self.unsettled.contains(&at);
        starting
            && role.peer.is_some()
            && partition.broken.is_none()
            && partition.head.fenced != role.epoch
    }

    pub(super) fn become_primary(
        &mut self,
        at: PartitionKey,
        epoch: Epoch,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let readable = self.readable(at.hub);
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        if partition.broken.is_some() {
            return;
        }
        if matches!(partition.following, Following::Searching { .. }) {
            // Nothing was given up yet: as the primary it has nobody to compare its history with.
            partition.following = Following::default();
        }
        if let Some(why) = partition.returning() {
            partition.serving = Serving::No;
            out.push(Output::Alarm {
                at: Some(at),
                text: format!("not served: {why}"),
            });
            return;
        }
        partition.following = Following::default();
        if partition.turn.head.epoch > epoch {
            out.push(Output::Alarm {
                at: Some(at),
                text: format!(
                    "not served: its log is at epoch {}, the control plane says {epoch}",
                    partition.turn.head.epoch
                ),
            });
            return;
        }
        partition.leads_anew();
        if partition.head.fenced == epoch {
            partition.serving = Serving::Fenced;
            return;
        }
        if partition.turn.head.epoch < epoch {
            touched.partitions.insert(at);
            let opened = partition.seal(&*self.store, now).and_then(|()| {
                partition.turn.head.before = partition.turn.head.epoch;
                partition.turn.head.epoch = epoch;
                partition.turn.head.fenced = Epoch(0);
                partition.mark(Body::Open, &*self.store, now)
            });
            if opened.is_err() {
                // The turn's commit says why; the next tick tries again.
                return;
            }
            partition.turn.opens = true;
        } else {
            out.push(Output::Visible {
                at,
                next: partition.head.next_sequence,
                epoch: readable.then_some(epoch),
            });
        }
        partition.serving = Serving::Open;
    }

    fn become_secondary(&mut self, at: PartitionKey, epoch: Epoch, out: &mut Vec<Output<T>>) {
        self.unsettled.remove(&at);
        self.copies.forget(at);
        let partition = self.partitions.get_mut(&at).expect("just opened");
        partition.serving = Serving::No;
        partition.shipper = replication::Shipper::default();
        partition.refill = Refill::No;
        partition.live.keep_connected();
        partition.word = None;
        if !matches!(partition.following, Following::Copying { .. }) {
            partition.following.ask_again();
        }
        let why = "the hub moved to its other region before the partner's word came";
        partition.refuse_waiting(why, out);
        // What the turn holds was decided in the former role: it is not committed.
        let refusal = Refusal::NotPrimary { epoch };
        refuse(partition.turn_failed().replies, &refusal, out);
        out.push(Output::Visible {
            at,
            next: partition.head.next_sequence,
            epoch: None,
        });
    }

    /// After a turn that failed: serving is again what the stored head allows.
    pub(super) fn serve_as_stored(&mut self, at: PartitionKey) {
        let Some((role, epoch)) = self
            .hubs
            .get(&at.hub)
            .map(|runtime| (runtime.role.role, runtime.role.epoch))
        else {
            return;
        };
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let leads = role == Role::Primary
            && partition.broken.is_none()
            && partition.returning().is_none()
            && !partition.refill.under_way();
        partition.serving = match leads {
            true if partition.head.fenced == epoch => Serving::Fenced,
            true if partition.head.epoch == epoch => Serving::Open,
            _ => Serving::No,
        };
    }

    /// Opens what could not be opened when its role came (disk full).
    pub(super) fn retry_open(
        &mut self,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let late = |partition: &Partition<T>| {
            let role = &self.hubs.get(&partition.at.hub)?.role;
            let wanted = role.role == Role::Primary
                && partition.serving == Serving::No
                && partition.broken.is_none()
                && partition.returning().is_none()
                && !partition.refill.under_way()
                && partition.head.epoch <= role.epoch;
            wanted.then_some((partition.at, role.epoch))
        };
        let late: Vec<_> = self.partitions.values().filter_map(late).collect();
        for (at, epoch) in late {
            self.become_primary(at, epoch, now, touched, out);
        }
    }

    /// Counts the hub's devices anew from each partition's own statistics.
    pub(super) fn count_devices(&mut self, hub: HubId, now: UnixMillis) {
        let mut devices = 0;
        for at in self.keys_of(hub) {
            if let Some(Reply::Statistics { total, .. }) =
                self.ask(at, &Command::Registry(RegistryCommand::Statistics), now)
            {
                devices += total;
            }
        }
        if let Some(runtime) = self.hubs.get_mut(&hub) {
            runtime.devices = devices;
        }
    }
}
