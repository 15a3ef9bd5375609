//! Roles and the steps of a planned failover inside one region: fence, catch up, open, and the way back.

use super::partition::{Partition, Serving, Turn};
use super::{Answer, Engine, HubRuntime, Output, Refusal, Touched, give_out};
use hub::command::RegistryCommand;
use hub::{Command, Reply};
use replication::{Body, Head, StateDigest};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use types::{
    Epoch, HubId, HubSettings, Lsn, PartitionId, PartitionKey, RegionName, Sequence, UnixMillis,
};

/// What a region is for a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Primary,
    Secondary,
}

/// A hub's settings and this region's part in it, as the control plane says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HubRole {
    pub settings: Arc<HubSettings>,
    pub role: Role,
    pub epoch: Epoch,
    /// The hub's other region; `None`: no pair.
    pub peer: Option<RegionName>,
}

/// Where a partition ended when its primary was fenced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    pub partition: PartitionId,
    /// The handover record.
    pub lsn: Lsn,
    pub crc: u32,
    pub next_sequence: Sequence,
    pub chain: u64,
    /// Hex of the state digest (it does not fit a JSON number).
    pub state: String,
}

/// A follower's promise to answer once it has everything.
pub(super) struct CatchUp<T> {
    pub hub: HubId,
    pub handovers: Vec<Handover>,
    pub reply: T,
}

/// One partition as this region has it, for checks, reports and people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionFacts {
    pub partition: PartitionId,
    pub primary: bool,
    pub open: bool,
    pub fenced: bool,
    pub epoch: Epoch,
    pub lsn: Lsn,
    pub next_sequence: Sequence,
    pub chain: u64,
    pub state: String,
    pub confirmed: Lsn,
    pub lag_records: u64,
    pub lag_ms: i64,
    pub follower_connected: bool,
    /// As a follower: what it is doing.
    pub following: String,
    pub broken: Option<String>,
    pub devices_connected: u64,
}

impl Handover {
    fn of(partition: PartitionId, head: &Head) -> Self {
        Handover {
            partition,
            lsn: head.lsn,
            crc: head.crc,
            next_sequence: head.next_sequence,
            chain: head.chain,
            state: format!("{:032x}", head.state),
        }
    }
}

impl<T> Engine<T> {
    /// Takes the control plane's word on who this region is for each hub.
    pub(super) fn roles(
        &mut self,
        roles: Vec<HubRole>,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let gone: Vec<HubId> = self
            .hubs
            .keys()
            .filter(|id| !roles.iter().any(|role| role.settings.id == **id))
            .copied()
            .collect();
        for hub in gone {
            self.drop_hub(hub, out);
        }
        for role in roles {
            self.role(role, now, touched, out);
        }
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
        for at in stored
            .into_iter()
            .filter(|at| !self.hubs.contains_key(&at.hub))
        {
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
        for at in self.keys_of(hub) {
            if let Some(partition) = self.partitions.remove(&at) {
                refuse_held(partition, Epoch(0), out);
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

    fn role(
        &mut self,
        role: HubRole,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let hub = role.settings.id;
        let known = self
            .hubs
            .get(&hub)
            .map(|runtime| (runtime.role.epoch, runtime.role.role));
        if known.is_some_and(|(epoch, _)| epoch > role.epoch) {
            return;
        }
        let changed = known != Some((role.epoch, role.role));
        let settings = role.settings.clone();
        let devices = self.hubs.get(&hub).map_or(0, |runtime| runtime.devices);
        self.hubs.insert(
            hub,
            HubRuntime {
                role: role.clone(),
                devices,
            },
        );
        for number in 0..settings.partition_count {
            let at = PartitionKey {
                hub,
                partition: PartitionId(number),
            };
            self.store.set_retention(at, settings.retention_days);
            if !self.partitions.contains_key(&at) {
                match Partition::open(at, &*self.store) {
                    Ok(partition) => self.partitions.insert(at, partition),
                    Err(error) => {
                        self.failed = Some(error.to_string());
                        out.push(Output::Alarm {
                            at: Some(at),
                            text: error.to_string(),
                        });
                        return;
                    }
                };
                self.announce_broken(at, out);
            }
        }
        if !changed {
            return;
        }
        for at in self.keys_of(hub) {
            match role.role {
                Role::Primary => self.become_primary(at, role.epoch, now, touched, out),
                Role::Secondary => self.become_secondary(at, role.epoch, out),
            }
        }
        if role.role == Role::Primary {
            self.count_devices(hub, now);
        }
    }

    fn announce_broken(&self, at: PartitionKey, out: &mut Vec<Output<T>>) {
        if let Some(why) = &self.partitions[&at].broken {
            out.push(Output::Alarm {
                at: Some(at),
                text: format!("stopped: {why}"),
            });
        }
    }

    fn become_primary(
        &mut self,
        at: PartitionKey,
        epoch: Epoch,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let partition = self.partitions.get_mut(&at).expect("just opened");
        if partition.broken.is_some() {
            return;
        }
        partition.following = super::Following::default();
        if partition.head.fenced == epoch {
            partition.serving = Serving::Fenced;
            return;
        }
        if partition.turn.head.epoch < epoch {
            partition.turn.head.epoch = epoch;
            partition.turn.head.fenced = Epoch(0);
            touched.partitions.insert(at);
            if let Err(error) = partition.mark(Body::Open, &*self.store, now) {
                self.failed = Some(error.to_string());
                out.push(Output::Alarm {
                    at: Some(at),
                    text: error.to_string(),
                });
                return;
            }
        }
        partition.serving = Serving::Open;
        partition.shipper = replication::Shipper::default();
        out.push(Output::Visible {
            at,
            next: partition.head.next_sequence,
            epoch: Some(epoch),
        });
    }

    fn become_secondary(&mut self, at: PartitionKey, epoch: Epoch, out: &mut Vec<Output<T>>) {
        let partition = self.partitions.get_mut(&at).expect("just opened");
        partition.serving = Serving::No;
        partition.shipper = replication::Shipper::default();
        partition.following.ask_again();
        for waiting in partition.waiting.drain(..) {
            for (reply, _) in waiting.replies {
                let why = "the hub moved to its other region before the partner's word came";
                out.push(Output::Reply(
                    reply,
                    Err(Refusal::OutcomeUnknown(why.into())),
                ));
            }
        }
        let turn: Turn<T> = partition.turn_failed();
        for (reply, _) in turn.replies {
            out.push(Output::Reply(reply, Err(Refusal::NotPrimary { epoch })));
        }
        out.push(Output::Visible {
            at,
            next: partition.head.next_sequence,
            epoch: None,
        });
    }

    /// After a turn that failed: serving is again what the stored head allows.
    pub(super) fn serve_as_stored(&mut self, at: PartitionKey) {
        let Some(role) = self
            .hubs
            .get(&at.hub)
            .map(|runtime| (runtime.role.role, runtime.role.epoch))
        else {
            return;
        };
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        partition.serving = match role {
            (Role::Primary, epoch) if partition.head.fenced == epoch => Serving::Fenced,
            (Role::Primary, epoch)
                if partition.head.epoch == epoch && partition.broken.is_none() =>
            {
                Serving::Open
            }
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
                && partition.broken.is_none();
            wanted.then_some((partition.at, role.epoch))
        };
        let late: Vec<_> = self.partitions.values().filter_map(late).collect();
        for (at, epoch) in late {
            self.become_primary(at, epoch, now, touched, out);
        }
    }

    /// Counts the hub's devices anew from each partition's own statistics.
    fn count_devices(&mut self, hub: HubId, now: UnixMillis) {
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

    pub(super) fn fence(
        &mut self,
        hub: HubId,
        epoch: Epoch,
        reply: T,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let refuse = |why: String| Err(Refusal::Step(why));
        let known = self
            .hubs
            .get(&hub)
            .map(|runtime| (runtime.role.role, runtime.role.epoch));
        if known != Some((Role::Primary, epoch)) {
            out.push(Output::Reply(
                reply,
                refuse(format!(
                    "not the primary at epoch {epoch} (known: {known:?})"
                )),
            ));
            return;
        }
        if let Some(why) = self.failed.clone() {
            out.push(Output::Reply(reply, refuse(why)));
            return;
        }
        let keys = self.keys_of(hub);
        if let Some(at) = keys
            .iter()
            .find(|at| self.partitions[at].serving == Serving::No)
        {
            let why = self.partitions[at]
                .broken
                .clone()
                .unwrap_or_else(|| "not serving".into());
            out.push(Output::Reply(
                reply,
                refuse(format!("partition {at}: {why}")),
            ));
            return;
        }
        let mut handovers = Vec::new();
        for at in &keys {
            let partition = self.partitions.get_mut(at).expect("listed");
            if partition.serving == Serving::Open {
                touched.partitions.insert(*at);
                if let Err(error) = write_handover(partition, epoch, &*self.store, now) {
                    self.failed = Some(error.to_string());
                    out.push(Output::Reply(reply, refuse(error.to_string())));
                    return;
                }
                partition.serving = Serving::Fenced;
            }
            handovers.push(Handover::of(at.partition, &partition.turn.head));
        }
        self.answer_step(reply, Answer::Fenced(handovers));
    }

    pub(super) fn unfence(
        &mut self,
        hub: HubId,
        epoch: Epoch,
        reply: T,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let known = self
            .hubs
            .get(&hub)
            .map(|runtime| (runtime.role.role, runtime.role.epoch));
        if known != Some((Role::Primary, epoch)) {
            out.push(Output::Reply(
                reply,
                Err(Refusal::Step(format!(
                    "not the primary at epoch {epoch} (known: {known:?})"
                ))),
            ));
            return;
        }
        let keys = self.keys_of(hub);
        for at in &keys {
            let partition = self.partitions.get_mut(at).expect("listed");
            if partition.serving != Serving::Fenced {
                continue;
            }
            touched.partitions.insert(*at);
            partition.turn.head.fenced = Epoch(0);
            if let Err(error) = partition.mark(Body::Resume, &*self.store, now) {
                self.failed = Some(error.to_string());
                out.push(Output::Reply(reply, Err(Refusal::Step(error.to_string()))));
                return;
            }
            partition.serving = Serving::Open;
        }
        self.answer_step(reply, Answer::Opened);
    }

    pub(super) fn open(
        &mut self,
        role: HubRole,
        reply: T,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let hub = role.settings.id;
        let epoch = role.epoch;
        self.role(role, now, touched, out);
        let keys = self.keys_of(hub);
        let open = !keys.is_empty()
            && keys.iter().all(|at| {
                let partition = &self.partitions[at];
                partition.serving == Serving::Open && partition.turn.head.epoch == epoch
            });
        if open {
            self.answer_step(reply, Answer::Opened);
        } else {
            out.push(Output::Reply(
                reply,
                Err(Refusal::Step(format!("cannot open at epoch {epoch}"))),
            ));
        }
    }

    /// A step's answer leaves once this turn is durable. Steps do not wait for the partner, also on `sync` hubs: they are
    /// what moves it along.
    fn answer_step(&mut self, reply: T, answer: Answer) {
        self.steps.push((reply, answer));
    }

    pub(super) fn answer_catch_ups(&mut self, out: &mut Vec<Output<T>>) {
        let mut waiting = Vec::new();
        for catch_up in std::mem::take(&mut self.catch_ups) {
            match self.caught_up(&catch_up) {
                Some(answer) => out.push(Output::Reply(catch_up.reply, answer)),
                None => waiting.push(catch_up),
            }
        }
        self.catch_ups = waiting;
    }

    fn caught_up(&self, catch_up: &CatchUp<T>) -> Option<Result<Answer, Refusal>> {
        let wrong = |why: String| Some(Err(Refusal::Step(why)));
        match self.hubs.get(&catch_up.hub) {
            None => return wrong("this region does not hold the hub".into()),
            Some(runtime) if runtime.role.role == Role::Primary => {
                return wrong("this region is the primary already".into());
            }
            Some(_) => {}
        }
        let mut reached = Vec::new();
        for handover in &catch_up.handovers {
            let at = PartitionKey {
                hub: catch_up.hub,
                partition: handover.partition,
            };
            let Some(partition) = self.partitions.get(&at) else {
                return wrong(format!("no partition {at}"));
            };
            if let Some(why) = &partition.broken {
                return wrong(format!("partition {at} is stopped: {why}"));
            }
            if partition.head.lsn < handover.lsn {
                return None;
            }
            if partition.head.lsn > handover.lsn {
                return wrong(format!(
                    "partition {at} is past the handover: the primary went on"
                ));
            }
            let own = Handover::of(handover.partition, &partition.head);
            if own != *handover {
                return wrong(format!("partition {at}: the regions' digests differ"));
            }
            reached.push(own);
        }
        Some(Ok(Answer::CaughtUp(reached)))
    }

    pub(super) fn facts(&self, hub: HubId, now: UnixMillis) -> Vec<PartitionFacts> {
        let keys = self.keys_of(hub);
        keys.iter()
            .map(|at| partition_facts(&self.partitions[at], now))
            .collect()
    }
}

fn partition_facts<T>(partition: &Partition<T>, now: UnixMillis) -> PartitionFacts {
    let progress = partition.shipper.progress(partition.head.lsn, now);
    PartitionFacts {
        partition: partition.at.partition,
        primary: partition.serving != Serving::No,
        open: partition.serving == Serving::Open,
        fenced: partition.serving == Serving::Fenced,
        epoch: partition.head.epoch,
        lsn: partition.head.lsn,
        next_sequence: partition.head.next_sequence,
        chain: partition.head.chain,
        state: format!("{:032x}", partition.head.state),
        confirmed: partition.shipper.confirmed(),
        lag_records: progress.lag_records,
        lag_ms: progress.lag_ms,
        follower_connected: partition.shipper.connected(),
        following: partition.following.name().into(),
        broken: partition.broken.clone(),
        devices_connected: partition.connected(),
    }
}

fn write_handover<T>(
    partition: &mut Partition<T>,
    epoch: Epoch,
    store: &dyn store::Store,
    now: UnixMillis,
) -> Result<(), store::StoreError> {
    partition.seal(store, now)?;
    let head = partition.turn.head;
    let body = Body::Handover {
        state: StateDigest(head.state),
        chain: head.chain,
    };
    partition.mark(body, store, now)?;
    partition.turn.head.fenced = epoch;
    partition.touch_head();
    Ok(())
}

/// Answers that can no longer be given for a partition that goes away.
fn refuse_held<T>(mut partition: Partition<T>, epoch: Epoch, out: &mut Vec<Output<T>>) {
    let waiting = partition.waiting.drain(..).flat_map(|w| w.replies);
    out.extend(waiting.map(|(reply, _)| {
        Output::Reply(
            reply,
            Err(Refusal::OutcomeUnknown("the hub was deleted".into())),
        )
    }));
    let turn = partition.turn_failed();
    out.extend(
        turn.replies
            .into_iter()
            .map(|(reply, _)| Output::Reply(reply, Err(Refusal::NotPrimary { epoch }))),
    );
}

pub(super) fn release_confirmed<T>(partition: &mut Partition<T>, out: &mut Vec<Output<T>>) {
    let epoch = (partition.serving != Serving::No).then_some(partition.head.epoch);
    while partition
        .waiting
        .front()
        .is_some_and(|w| w.lsn <= partition.shipper.confirmed())
    {
        let waiting = partition.waiting.pop_front().expect("just seen");
        give_out(
            partition.at,
            waiting.visible,
            epoch,
            waiting.replies,
            waiting.effects,
            out,
        );
    }
}
