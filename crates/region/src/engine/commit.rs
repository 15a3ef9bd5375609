//! The end of a turn: one fsync for everything it changed; then, and only then, answers and effects leave.

use super::handover::HubRole;
use super::message::Message;
use super::partition::{AddressedEffect, Held, Partition, Serving, Turn, Waiting};
use super::{Answer, Engine, Output, Refusal, Role, Touched};
use std::collections::BTreeMap;
use store::StoreError;
use types::{Epoch, HubId, Lsn, PartitionKey, Sequence, UnixMillis, limits};

/// The answer to a failover step, given once its turn is durable.
pub(super) struct StepAnswer<T> {
    pub hub: HubId,
    pub reply: T,
    pub answer: Answer,
}

impl<T> Engine<T> {
    pub(super) fn commit(
        &mut self,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let failure = self
            .seal_all(now, touched, out)
            .or_else(|| self.store_all(touched));
        match failure {
            None => {
                self.stats.disk_full = false;
                for at in std::mem::take(&mut touched.partitions) {
                    self.release(at, touched, now, out);
                }
                let answers = self.steps.drain(..);
                out.extend(answers.map(|step| Output::Reply(step.reply, Ok(step.answer))));
            }
            Some(failure) => self.commit_failed(failure, now, touched, out),
        }
    }

    /// Makes the turn's last records. A partition whose bytes are wrong stops alone.
    fn seal_all(
        &mut self,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) -> Option<Failure> {
        let mut corrupt = Vec::new();
        for at in &touched.partitions {
            let Some(partition) = self.partitions.get_mut(at) else {
                continue;
            };
            match partition.seal(&*self.store, now) {
                Ok(()) => {}
                Err(error @ StoreError::Corrupt { .. }) => corrupt.push((*at, error.to_string())),
                Err(error) => return Some(Failure::before(error)),
            }
        }
        for (at, why) in corrupt {
            self.stop_partition(at, why, touched, now, out);
        }
        None
    }

    fn store_all(&mut self, touched: &Touched) -> Option<Failure> {
        let mut commits = Vec::with_capacity(touched.partitions.len());
        for at in &touched.partitions {
            let commit = self
                .partitions
                .get_mut(at)
                .and_then(Partition::commit_of_turn);
            if let Some(commit) = commit {
                self.stats.records += commit.records.len() as u64;
                self.stats.bytes += commit
                    .records
                    .iter()
                    .map(|r| r.bytes.len() as u64)
                    .sum::<u64>();
                commits.push((*at, commit));
            }
        }
        if commits.is_empty() {
            return None;
        }
        self.stats.commits += 1;
        self.store.commit(commits).err().map(Failure::of_commit)
    }

    fn release(
        &mut self,
        at: PartitionKey,
        touched: &Touched,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        let (Some(hub), Some(partition)) = (self.hubs.get(&at.hub), self.partitions.get_mut(&at))
        else {
            return;
        };
        let before = partition.head;
        let turn = partition.turn_committed(now);
        if partition.shipper.connected() {
            self.shippable.insert(at);
        }
        if turn.head.lsn > before.lsn && touched.applied.contains(&at) {
            confirm(partition, &hub.role, out);
        }
        if partition.serving == Serving::No && turn.replies.is_empty() {
            return;
        }
        let epoch = (partition.serving != Serving::No).then_some(partition.head.epoch);
        let silent = turn.head.next_sequence == before.next_sequence
            && turn.replies.is_empty()
            && turn.effects.is_empty();
        let must_wait =
            hub.role.is_sync_primary() && partition.shipper.confirmed() < partition.head.lsn;
        if turn.opens && (silent || must_wait) {
            let next = before.next_sequence;
            out.push(Output::Visible { at, next, epoch });
        }
        if silent {
            return;
        }
        let visible = turn.head.next_sequence;
        let Turn {
            replies, effects, ..
        } = turn;
        if must_wait {
            partition.wait(Waiting {
                lsn: partition.head.lsn,
                visible,
                since: now,
                replies,
                effects,
            });
        } else {
            give_out(at, visible, epoch, replies, effects, out);
        }
    }

    fn commit_failed(
        &mut self,
        failure: Failure,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let Failure {
            error,
            nothing_done,
        } = failure;
        self.stats.commit_failures += 1;
        let first = !self.stats.disk_full && self.failed.is_none();
        if first {
            out.push(Output::Alarm {
                at: None,
                text: error.to_string(),
            });
        }
        self.stats.disk_full = matches!(error, StoreError::DiskFull { .. });
        if matches!(error, StoreError::Failed(_)) {
            self.failed = Some(error.to_string());
        }
        let refusal = if nothing_done {
            Refusal::Unavailable(error.to_string())
        } else {
            Refusal::OutcomeUnknown(error.to_string())
        };
        for at in std::mem::take(&mut touched.partitions) {
            if let Some(partition) = self.partitions.get_mut(&at) {
                if touched.applied.contains(&at) {
                    partition.following.ask_again();
                    partition.refill.ask_again();
                }
                refuse(partition.turn_failed().replies, &refusal, out);
            }
            self.serve_as_stored(at);
        }
        for step in self.steps.drain(..) {
            let refusal = Refusal::Step(error.to_string());
            out.push(Output::Reply(step.reply, Err(refusal)));
        }
        for (hub, delta) in std::mem::take(&mut touched.devices) {
            if let Some(hub) = self.hubs.get_mut(&hub) {
                hub.devices = hub.devices.saturating_add_signed(-delta);
            }
        }
        if let StoreError::Corrupt { partition, .. } = &error {
            self.stop_partition(*partition, error.to_string(), touched, now, out);
        }
    }

    /// A partition whose stored bytes are wrong: its turn is taken back, the others of the hub go on.
    fn stop_partition(
        &mut self,
        at: PartitionKey,
        why: String,
        touched: &mut Touched,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        touched.partitions.remove(&at);
        touched.devices.remove(&at.hub);
        self.refuse_steps(at.hub, &why, out);
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        partition.serving = Serving::No;
        let replies = partition.turn_failed().replies;
        refuse(replies, &Refusal::Unavailable(why.clone()), out);
        out.push(Output::Alarm {
            at: Some(at),
            text: format!("stopped: {why}"),
        });
        partition.broken = Some(why);
        out.push(Output::Visible {
            at,
            next: partition.head.next_sequence,
            epoch: None,
        });
        self.count_devices(at.hub, now);
    }

    /// After the store failed: reopens it and reads every head again, since the last commit may or may not be there.
    pub(super) fn recover(
        &mut self,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        let Some(failed) = self.failed.clone() else {
            return;
        };
        if let Err(error) = self.store.recover() {
            self.failed = Some(error.to_string());
            return;
        }
        let roles: Vec<HubRole> = self.hubs.values().map(|hub| hub.role.clone()).collect();
        let mut live = BTreeMap::new();
        for (at, mut partition) in std::mem::take(&mut self.partitions) {
            partition.refuse_waiting("the store was reopened", out);
            // What this turn decided before was not committed, and will not be.
            let replies = partition.turn_failed().replies;
            refuse(replies, &Refusal::Unavailable(failed.clone()), out);
            live.insert(at, partition.live);
        }
        for step in self.steps.drain(..) {
            out.push(Output::Reply(
                step.reply,
                Err(Refusal::Step(failed.clone())),
            ));
        }
        *touched = Touched::default();
        self.hubs.clear();
        self.copies.clear();
        self.failed = None;
        out.push(Output::Alarm {
            at: None,
            text: "the store works again".into(),
        });
        self.roles(roles, now, touched, out);
        for (at, live) in live {
            if let Some(partition) = self.partitions.get_mut(&at) {
                partition.live = live;
            }
        }
    }

    /// Refuses answers to steps of a hub that were to leave with this turn.
    pub(super) fn refuse_steps(&mut self, hub: HubId, why: &str, out: &mut Vec<Output<T>>) {
        let refused = self.steps.extract_if(.., |step| step.hub == hub);
        out.extend(
            refused.map(|step| Output::Reply(step.reply, Err(Refusal::Step(why.to_owned())))),
        );
    }

    /// A `sync` hub's answers that the partner did not confirm in time: their outcome is not known to the asker.
    pub(super) fn expire_waiting(&mut self, now: UnixMillis, out: &mut Vec<Output<T>>) {
        for partition in self.partitions.values_mut() {
            partition.expire_waiting(now, out);
        }
    }
}

/// Why a turn is not durable.
struct Failure {
    error: StoreError,
    /// Surely nothing of it is on the disk.
    nothing_done: bool,
}

impl Failure {
    /// It did not come to a commit.
    fn before(error: StoreError) -> Self {
        Failure {
            error,
            nothing_done: true,
        }
    }

    fn of_commit(error: StoreError) -> Self {
        let nothing_done = !matches!(error, StoreError::Failed(_));
        Failure {
            error,
            nothing_done,
        }
    }
}

/// Tells where records came from that they are on disk here, or asks for those that are still missing.
fn confirm<T>(partition: &Partition<T>, role: &HubRole, out: &mut Vec<Output<T>>) {
    let Some(peer) = role.peer.clone() else {
        return;
    };
    let (at, lsn) = (partition.at, partition.head.lsn);
    let message = match role.role {
        Role::Secondary => Message::Acked { at, lsn },
        Role::Primary if partition.refill.lacks(lsn) => Message::Refill {
            at,
            lsn,
            crc: partition.head.crc,
        },
        Role::Primary => return,
    };
    out.push(Output::Send { to: peer, message });
}

impl<T> Partition<T> {
    fn wait(&mut self, waiting: Waiting<T>) {
        self.held += waiting.held();
        self.waiting.push_back(waiting);
    }

    /// Too many answers wait for the partner: no more is taken.
    pub fn waits_too_much(&self) -> bool {
        self.held.max(self.waiting.len()) >= limits::SYNC_WAITING_MAX
    }

    /// Gives out what waits and needed the partner's word on no more than `confirmed`.
    pub fn release_waiting(&mut self, confirmed: Lsn, out: &mut Vec<Output<T>>) {
        let epoch = (self.serving != Serving::No).then_some(self.head.epoch);
        while self.waiting.front().is_some_and(|w| w.lsn <= confirmed) {
            let waiting = self.waiting.pop_front().expect("just seen");
            self.held -= waiting.held();
            let (replies, effects) = (waiting.replies, waiting.effects);
            give_out(self.at, waiting.visible, epoch, replies, effects, out);
        }
    }

    /// Answers that the partner's word will not release any more.
    pub fn refuse_waiting(&mut self, why: &str, out: &mut Vec<Output<T>>) {
        self.held = 0;
        let refusal = Refusal::OutcomeUnknown(why.to_owned());
        for waiting in self.waiting.drain(..) {
            refuse(waiting.replies, &refusal, out);
        }
    }

    /// Answers what waited too long. Its effects and events still wait, as one entry: memory does not grow while the partner
    /// is away.
    fn expire_waiting(&mut self, now: UnixMillis, out: &mut Vec<Output<T>>) {
        let late = |w: &&Waiting<T>| now.since(w.since) >= limits::PARK_MS_MAX as i64;
        let count = self.waiting.iter().take_while(late).count();
        if count == 0 {
            return;
        }
        let mut all: Option<Waiting<T>> = None;
        let refusal =
            Refusal::OutcomeUnknown("the partner region did not confirm in time".to_owned());
        for mut waiting in self.waiting.drain(..count) {
            self.held -= waiting.replies.len();
            refuse(std::mem::take(&mut waiting.replies), &refusal, out);
            match &mut all {
                None => all = Some(waiting),
                Some(all) => {
                    all.lsn = waiting.lsn;
                    all.visible = waiting.visible;
                    all.effects.append(&mut waiting.effects);
                }
            }
        }
        if let Some(all) = all {
            self.waiting.push_front(all);
        }
    }
}

pub(super) fn refuse<T>(replies: Vec<Held<T>>, refusal: &Refusal, out: &mut Vec<Output<T>>) {
    let refused = replies.into_iter();
    out.extend(refused.map(|(reply, _)| Output::Reply(reply, Err(refusal.clone()))));
}

fn give_out<T>(
    at: PartitionKey,
    next: Sequence,
    epoch: Option<Epoch>,
    replies: Vec<Held<T>>,
    effects: Vec<AddressedEffect>,
    out: &mut Vec<Output<T>>,
) {
    out.push(Output::Visible { at, next, epoch });
    out.extend(
        replies
            .into_iter()
            .map(|(reply, answer)| Output::Reply(reply, answer)),
    );
    out.extend(effects.into_iter().map(|e| Output::Effect {
        gateway: e.gateway,
        hub: at.hub,
        connection: e.connection,
        effect: e.effect,
    }));
}
