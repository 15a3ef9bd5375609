//! The end of a turn: one fsync for everything it changed; then, and only then, answers and effects leave.

use super::handover::HubRole;
use super::lease::{self, Quiet};
use super::ledger::Made;
use super::message::Message;
use super::partition::{Held, Partition, Serving, Turn, Waiting};
use super::{Answer, Engine, Output, Refusal, Role, Touched};
use std::collections::BTreeMap;
use store::StoreError;
use types::{HubId, Lsn, PartitionKey, Sequence, UnixMillis, limits};

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
        let leased = self.watch_lease(out);
        let (Some(hub), Some(partition)) = (self.hubs.get(&at.hub), self.partitions.get_mut(&at))
        else {
            return;
        };
        let before = partition.head;
        let mut turn = partition.turn_committed(now);
        if partition.shipper.connected() {
            self.shippable.insert(at);
        }
        if turn.head.lsn > before.lsn && touched.applied.contains(&at) {
            confirm(partition, &hub.role, out);
        }
        if partition.serving == Serving::No && turn.replies.is_empty() {
            return;
        }
        partition.note(std::mem::take(&mut turn.made), hub.role.peer.is_some());
        let quiet = lease::quiet(&hub.role, leased);
        let silent = turn.head.next_sequence == before.next_sequence
            && turn.replies.is_empty()
            && turn.effects.is_empty();
        let through = partition.answered_through(&hub.role, now);
        let must_wait = through < partition.head.lsn;
        if turn.opens && (silent || must_wait) {
            partition.show(before.next_sequence, quiet, out);
        }
        if silent {
            return;
        }
        let mut waiting = partition.waiting_of(turn, now);
        if let Some(quiet) = quiet {
            // What changed is here: readers and devices learn of it when the lease is held again.
            quiet.refuse(std::mem::take(&mut waiting.replies), out);
            partition.wait(waiting);
        } else if !must_wait {
            partition.give_out(waiting, out);
        } else if hub.role.is_sync_primary() {
            partition.wait(waiting);
        } else {
            // Beyond the hub's bound only those who wrote wait: that slows them down.
            let wrote = waiting.replies.extract_if(.., |held| held.wrote).collect();
            let slowed = Waiting {
                replies: wrote,
                effects: Vec::new(),
                ..waiting
            };
            partition.give_out(waiting, out);
            partition.wait(slowed);
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
    /// Keeps in mind what was made here, for the estimate of a forced failover's loss.
    fn note(&mut self, made: Vec<Made>, paired: bool) {
        if !paired {
            return self.ledger.skip(self.head.lsn, self.head.time);
        }
        for made in made {
            self.ledger.made(made);
        }
    }

    fn waiting_of(&self, turn: Turn<T>, now: UnixMillis) -> Waiting<T> {
        Waiting {
            lsn: self.head.lsn,
            visible: self.head.next_sequence,
            since: now,
            replies: turn.replies,
            effects: turn.effects,
        }
    }

    fn wait(&mut self, waiting: Waiting<T>) {
        self.held += waiting.held();
        self.waiting.push_back(waiting);
    }

    /// Too many answers wait for the partner: no more is taken.
    pub fn waits_too_much(&self) -> bool {
        self.held.max(self.waiting.len()) >= limits::SYNC_WAITING_MAX
    }

    /// Gives out what waits and needed the partner's word on no more than `through`. A primary that may not acknowledge
    /// refuses these answers instead, and keeps the rest for when it may.
    pub fn release_waiting(
        &mut self,
        through: Lsn,
        quiet: Option<Quiet>,
        out: &mut Vec<Output<T>>,
    ) {
        if let Some(quiet) = quiet {
            for waiting in self.waiting.iter_mut().take_while(|w| w.lsn <= through) {
                self.held -= waiting.replies.len();
                quiet.refuse(std::mem::take(&mut waiting.replies), out);
            }
            return;
        }
        while self.waiting.front().is_some_and(|w| w.lsn <= through) {
            let waiting = self.waiting.pop_front().expect("just seen");
            self.held -= waiting.held();
            self.give_out(waiting, out);
        }
    }

    fn give_out(&mut self, waiting: Waiting<T>, out: &mut Vec<Output<T>>) {
        self.show(waiting.visible, None, out);
        let replies = waiting.replies.into_iter();
        out.extend(replies.map(|held| Output::Reply(held.asker, held.answer)));
        let effects = waiting.effects.into_iter();
        out.extend(effects.map(|e| Output::Effect {
            gateway: e.gateway,
            hub: self.at.hub,
            connection: e.connection,
            effect: e.effect,
        }));
    }

    /// Lets events before `next` be read, if this region may show anything; none that may be read already is taken back.
    fn show(&mut self, next: Sequence, quiet: Option<Quiet>, out: &mut Vec<Output<T>>) {
        self.visible = self.visible.max(next);
        let shown = self.serving != Serving::No && quiet.is_none();
        out.push(Output::Visible {
            at: self.at,
            next: self.visible,
            epoch: shown.then_some(self.head.epoch),
        });
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
    pub(super) fn expire_waiting(&mut self, now: UnixMillis, out: &mut Vec<Output<T>>) {
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
    out.extend(refused.map(|held| Output::Reply(held.asker, Err(refusal.clone()))));
}
