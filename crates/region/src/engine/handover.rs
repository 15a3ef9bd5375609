//! The steps of a planned failover inside one region: fence, catch up, open, and the way back.

use super::commit::StepAnswer;
use super::follower::Following;
use super::lag::Together;
use super::ledger::Ledger;
use super::message::{SourceWord, Tail};
use super::partition::{Partition, Serving};
use super::{Answer, Engine, Output, Refusal, Touched};
use replication::{Body, Head, StateDigest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{
    Epoch, HubId, HubSettings, Lsn, PartitionId, PartitionKey, RegionName, Replication, Sequence,
    UnixMillis, limits,
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
    /// A forced failover away from this primary waits for its lease: it acknowledges nothing, unless that is taken back.
    #[serde(default)]
    pub suspended: bool,
    /// A forced failover left the other region behind, and it has not returned: answers do not wait for it, whatever the
    /// hub's settings, or the failover would have been for nothing.
    #[serde(default)]
    pub alone: bool,
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
    pub since: UnixMillis,
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
    /// Enqueued time of the last record here.
    pub time: UnixMillis,
    /// As a secondary: the primary's last word and how long ago it came, in milliseconds.
    pub word: Option<(SourceWord, i64)>,
    /// As a primary: what only this region has.
    pub tail: Tail,
    /// As a primary: answers leave, or left, without a partner that does not confirm; losing this region loses the tail.
    pub degraded: bool,
    /// As a returning follower: records it set aside, and what it is doing about the rest. It cannot lead meanwhile.
    pub returning: Option<String>,
}

impl HubRole {
    pub(super) fn is_sync_primary(&self) -> bool {
        self.role == Role::Primary
            && self.peer.is_some()
            && self.settings.replication == Replication::Sync
    }
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
    pub(super) fn fence(
        &mut self,
        hub: HubId,
        epoch: Epoch,
        reply: T,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        if let Err(why) = self.step_allowed(hub, epoch) {
            out.push(Output::Reply(reply, Err(Refusal::Step(why))));
            return;
        }
        let keys = self.keys_of(hub);
        let mut handovers = Vec::with_capacity(keys.len());
        for at in &keys {
            let partition = self.partitions.get_mut(at).expect("listed");
            let written = match partition.serving {
                Serving::Open => {
                    touched.partitions.insert(*at);
                    write_handover(partition, epoch, &*self.store, now).map_err(|e| e.to_string())
                }
                Serving::Fenced => Ok(()),
                Serving::No => Err(partition.why_not_serving()),
            };
            if let Err(why) = written {
                // What was fenced so far stays so until the step is repeated or rolled back.
                let why = format!("partition {at}: {why}");
                out.push(Output::Reply(reply, Err(Refusal::Step(why))));
                return;
            }
            partition.serving = Serving::Fenced;
            handovers.push(Handover::of(at.partition, &partition.turn.head));
        }
        self.answer_step(hub, reply, Answer::Fenced(handovers));
    }

    /// Steps at the old primary are for exactly the epoch it leads.
    fn step_allowed(&self, hub: HubId, epoch: Epoch) -> Result<(), String> {
        let known = self
            .hubs
            .get(&hub)
            .map(|runtime| (runtime.role.role, runtime.role.epoch));
        if known != Some((Role::Primary, epoch)) {
            return Err(format!(
                "not the primary at epoch {epoch} (known: {known:?})"
            ));
        }
        match &self.failed {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
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
        if let Err(why) = self.step_allowed(hub, epoch) {
            out.push(Output::Reply(reply, Err(Refusal::Step(why))));
            return;
        }
        for at in self.keys_of(hub) {
            let partition = self.partitions.get_mut(&at).expect("listed");
            if partition.serving != Serving::Fenced {
                continue;
            }
            touched.partitions.insert(at);
            partition.turn.head.fenced = Epoch(0);
            if let Err(error) = partition.mark(Body::Resume, &*self.store, now) {
                out.push(Output::Reply(reply, Err(Refusal::Step(error.to_string()))));
                return;
            }
            partition.serving = Serving::Open;
        }
        self.answer_step(hub, reply, Answer::Opened(Vec::new()));
    }

    pub(super) fn open(
        &mut self,
        role: HubRole,
        reply: T,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let (hub, epoch) = (role.settings.id, role.epoch);
        let before = self.heads_before(hub, epoch);
        let count = usize::from(role.settings.partition_count);
        if role.role != Role::Primary {
            let why = "only a primary can be opened".into();
            out.push(Output::Reply(reply, Err(Refusal::Step(why))));
            return;
        }
        let known = self.hubs.get(&hub).map(|known| &known.role);
        if known.is_some_and(|known| (known.role, known.epoch) == (Role::Primary, epoch)) {
            // What else the control plane said of this role (suspended, alone) stands: the step may be late.
            self.retry_open(now, touched, out);
        } else {
            self.role(role, now, touched, out);
        }
        let keys = self.keys_of(hub);
        let closed = keys.iter().find_map(|at| {
            let partition = &self.partitions[at];
            let open = partition.serving == Serving::Open && partition.turn.head.epoch == epoch;
            (!open).then(|| format!("partition {at}: {}", partition.why_not_serving()))
        });
        let why = match (closed, &self.failed) {
            (_, Some(why)) => why.clone(),
            (Some(why), None) => why,
            (None, None) if keys.len() == count => {
                let opened = self.opened_at(&keys, epoch, before, out);
                self.answer_step(hub, reply, Answer::Opened(opened));
                return;
            }
            (None, None) => format!("{} of {count} partitions are here", keys.len()),
        };
        let refusal = Refusal::Step(format!("cannot open at epoch {epoch}: {why}"));
        out.push(Output::Reply(reply, Err(refusal)));
    }

    /// Where the hub's partitions stand that are not yet open at `epoch`.
    fn heads_before(&self, hub: HubId, epoch: Epoch) -> BTreeMap<PartitionId, Handover> {
        let heads = self.keys_of(hub).into_iter().filter_map(|at| {
            let head = &self.partitions[&at].turn.head;
            let handover = Handover::of(at.partition, head);
            (head.epoch < epoch).then_some((at.partition, handover))
        });
        heads.collect()
    }

    /// Where each partition stood before it opened at `epoch`. For one that was open already it is read from the record that
    /// opened it, without digests; one whose record is no longer kept is not named.
    fn opened_at(
        &self,
        keys: &[PartitionKey],
        epoch: Epoch,
        mut before: BTreeMap<PartitionId, Handover>,
        out: &mut Vec<Output<T>>,
    ) -> Vec<Handover> {
        let mut opened = Vec::with_capacity(keys.len());
        for at in keys {
            if let Some(handover) = before.remove(&at.partition) {
                opened.push(handover);
                continue;
            }
            match self.partitions[at].opening_record(epoch, &*self.store) {
                Ok(record) => opened.extend(record.map(|record| Handover {
                    partition: at.partition,
                    lsn: Lsn(record.lsn.0 - 1),
                    crc: record.previous_crc,
                    next_sequence: record.first_sequence,
                    chain: 0,
                    state: String::new(),
                })),
                Err(error) => out.push(Output::Alarm {
                    at: Some(*at),
                    text: format!("where it opened cannot be read: {error}"),
                }),
            }
        }
        opened
    }

    /// A step's answer leaves once this turn is durable. Steps do not wait for the partner, also on `sync` hubs: they are
    /// what moves it along.
    fn answer_step(&mut self, hub: HubId, reply: T, answer: Answer) {
        self.steps.push(StepAnswer { hub, reply, answer });
    }

    /// Nobody waits longer than a failover may pause a hub.
    pub(super) fn expire_catch_ups(&mut self, now: UnixMillis, out: &mut Vec<Output<T>>) {
        let late =
            |wait: &mut CatchUp<T>| now.since(wait.since) >= limits::FAILOVER_PAUSE_CEILING_MS;
        for wait in self.catch_ups.extract_if(.., late) {
            let why = "the handover did not arrive in time".into();
            out.push(Output::Reply(wait.reply, Err(Refusal::Step(why))));
        }
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
        let named: Vec<PartitionId> = catch_up.handovers.iter().map(|h| h.partition).collect();
        let held: Vec<PartitionId> = self
            .keys_of(catch_up.hub)
            .iter()
            .map(|at| at.partition)
            .collect();
        if named != held {
            return wrong("the handover does not name every partition of the hub once".into());
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
        let suspended = self.hubs.get(&hub).is_some_and(|hub| hub.role.suspended);
        let mut facts: Vec<PartitionFacts> = keys
            .iter()
            .map(|at| partition_facts(&self.partitions[at], now, (self.monotonic)()))
            .collect();
        for facts in &mut facts {
            facts.open &= !suspended;
        }
        facts
    }
}

fn partition_facts<T>(partition: &Partition<T>, now: UnixMillis, clock: u64) -> PartitionFacts {
    let leads = partition.serving != Serving::No;
    let confirmed = partition.shipper.confirmed();
    let age = |heard: u64| i64::try_from(clock.saturating_sub(heard)).unwrap_or(i64::MAX);
    let progress = partition.shipper.progress(partition.head.lsn, now);
    PartitionFacts {
        partition: partition.at.partition,
        primary: leads,
        open: partition.serving == Serving::Open,
        fenced: partition.serving == Serving::Fenced,
        epoch: partition.head.epoch,
        lsn: partition.head.lsn,
        next_sequence: partition.head.next_sequence,
        chain: partition.head.chain,
        state: format!("{:032x}", partition.head.state),
        confirmed,
        lag_records: progress.lag_records,
        lag_ms: progress.lag_ms,
        follower_connected: partition.shipper.connected(),
        following: match partition.refill.under_way() {
            true => "refilling".into(),
            false => partition.following.name().into(),
        },
        broken: partition.broken.clone(),
        devices_connected: partition.live.connected(),
        time: partition.head.time,
        word: partition
            .word
            .as_ref()
            .map(|(word, heard)| (word.clone(), age(*heard))),
        tail: match leads {
            true => partition.ledger.tail(confirmed, partition.head.lsn),
            false => Tail::default(),
        },
        degraded: partition.together != Together::InStep,
        returning: partition.returning(),
    }
}

impl<T> Partition<T> {
    /// From now on this region leads it: what it knew as the secondary, or of its former follower, does not count any more.
    pub(super) fn leads_anew(&mut self) {
        self.shipper = replication::Shipper::default();
        self.together = Together::default();
        self.visible = self.head.next_sequence;
        self.ledger = Ledger::new(self.turn.head.lsn, self.turn.head.time);
        self.word = None;
    }

    /// Why what is stored here is not a state that the partition ever had, or not one to be shown.
    pub(super) fn why_not_whole(&self) -> Option<String> {
        let copying = matches!(self.following, Following::Copying { .. });
        match &self.broken {
            Some(why) => Some(why.clone()),
            None if copying => Some("a copy of it is being taken".into()),
            None => self.returning(),
        }
    }

    fn why_not_serving(&self) -> String {
        match &self.broken {
            Some(why) => why.clone(),
            None if self.refill.under_way() => "its partner is asked for what is missing".into(),
            None if self.serving == Serving::Fenced => "it is fenced".into(),
            None => self
                .returning()
                .unwrap_or_else(|| "it is not served".into()),
        }
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
