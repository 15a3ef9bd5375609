//! A region's engine: one writer for all its partitions, one group commit per turn.
//!
//! No thread, no clock, no socket: a turn takes inputs and `now`, decides and applies them, commits once, and gives outputs to
//! perform. The runtime drives it from one thread with the real store; the simulation drives it with a crash-honest one.

mod commands;
mod follower;
mod handover;
mod message;
mod partition;
mod source;

pub use follower::Following;
pub use handover::{Handover, HubRole, PartitionFacts, Role};
pub use message::Message;
pub use partition::{Live, Serving};

use handover::CatchUp;
use hub::decision::PresenceChange;
use hub::{Command, Effect, Reply};
use partition::{Partition, Turn, Waiting};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Store, StoreError};
use types::{
    ConnectionId, Epoch, HubId, PartitionId, PartitionKey, RegionName, Reject, Replication,
    Sequence, UnixMillis, limits,
};

/// Source of random bytes: the operating system's, or a seeded one in simulation.
pub type Random = Box<dyn Fn(&mut [u8]) + Send>;

/// Why an input has no answer of the usual kind.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Refusal {
    /// The hub says no; nothing changed.
    Reject(Reject),
    /// This region is not the hub's primary, as far as it knows at `epoch`. Nothing was done.
    NotPrimary { epoch: Epoch },
    /// The hub is changing its primary. Nothing was done.
    FailingOver,
    /// The region cannot (disk full, partition stopped, too much waits). Nothing was done.
    Unavailable(String),
    /// It may have been done: the disk failed under it, or the partner did not confirm in time.
    OutcomeUnknown(String),
    /// A failover step cannot be done as asked, and why.
    Step(String),
}

/// What the engine answers.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Answer {
    Reply(Reply),
    /// The fence holds: where each partition ended.
    Fenced(Vec<Handover>),
    /// Everything up to the handover is here and on disk: this region's own positions and digests.
    CaughtUp(Vec<Handover>),
    Opened,
    Facts(Vec<PartitionFacts>),
}

/// Something for the engine to do; `T` is whatever the caller needs to find the asker again.
pub enum Input<T> {
    Command {
        at: PartitionKey,
        command: Arc<Command>,
        reply: T,
    },
    /// All hubs this region holds, with their roles. Roles of a lower epoch than known are ignored.
    Roles(Vec<HubRole>),
    Message {
        from: RegionName,
        message: Message,
    },
    /// A message could not be queued to `to`: its partition's stream is broken off.
    Unsent {
        to: RegionName,
        at: PartitionKey,
    },
    Link {
        peer: RegionName,
        up: bool,
    },
    /// Step 3: stop acknowledging at `epoch`, write handover records.
    Fence {
        hub: HubId,
        epoch: Epoch,
        reply: T,
    },
    /// Roll-back of step 3.
    Unfence {
        hub: HubId,
        epoch: Epoch,
        reply: T,
    },
    /// Step 4: answer once everything up to `handovers` is applied here and on disk.
    CatchUp {
        hub: HubId,
        handovers: Vec<Handover>,
        reply: T,
    },
    /// Step 6: acknowledge at `role.epoch`, which the control plane has committed.
    Open {
        role: HubRole,
        reply: T,
    },
    Facts {
        hub: HubId,
        reply: T,
    },
    /// What a gateway tells the secondary about its connections: volatile, no answer.
    Presence {
        at: PartitionKey,
        change: PresenceChange,
    },
    /// After the first trusted roles: data of hubs that are no longer there goes.
    DropUnknown,
    /// About once in 100 ms: time-outs, expiry, retries.
    Tick,
}

/// Something to perform after a turn.
#[derive(Debug)]
pub enum Output<T> {
    Reply(T, Result<Answer, Refusal>),
    Effect {
        gateway: RegionName,
        hub: HubId,
        connection: ConnectionId,
        effect: Effect,
    },
    Send {
        to: RegionName,
        message: Message,
    },
    /// Events before `next` may be read from this region's log; `epoch` is `None` where it is not the primary.
    Visible {
        at: PartitionKey,
        next: Sequence,
        epoch: Option<Epoch>,
    },
    /// Something a person must know.
    Alarm {
        at: Option<PartitionKey>,
        text: String,
    },
}

/// A hub this region holds.
struct HubRuntime {
    role: HubRole,
    /// Devices in all its partitions; counted while this region is the primary.
    devices: u64,
}

/// The engine of one region.
pub struct Engine<T> {
    store: Arc<dyn Store>,
    random: Random,
    hubs: BTreeMap<HubId, HubRuntime>,
    partitions: BTreeMap<PartitionKey, Partition<T>>,
    links: BTreeMap<RegionName, bool>,
    catch_ups: Vec<CatchUp<T>>,
    /// Answers to failover steps of this turn, given once it is durable.
    steps: Vec<(T, Answer)>,
    copies: source::Copies,
    /// The store failed: nothing is served until it was reopened.
    failed: Option<String>,
    last_sweep: UnixMillis,
    pub stats: Stats,
}

/// Figures for `/metrics` and checks.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub turns: u64,
    pub commits: u64,
    pub commands: u64,
    pub events: u64,
    pub records: u64,
    pub bytes: u64,
    pub commit_failures: u64,
    pub disk_full: bool,
}

impl<T> Engine<T> {
    pub fn new(store: Arc<dyn Store>, random: Random) -> Self {
        Engine {
            store,
            random,
            hubs: BTreeMap::new(),
            partitions: BTreeMap::new(),
            links: BTreeMap::new(),
            catch_ups: Vec::new(),
            steps: Vec::new(),
            copies: source::Copies::default(),
            failed: None,
            last_sweep: UnixMillis(0),
            stats: Stats::default(),
        }
    }

    /// Takes inputs in order and commits once. Stops taking when the turn is full: what is left stays in `inputs`.
    ///
    /// Gives true when there is more to ship and the next turn should follow at once, even without input.
    pub fn turn(
        &mut self,
        inputs: &mut dyn Iterator<Item = Input<T>>,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) -> bool {
        self.stats.turns += 1;
        let mut touched = Touched::default();
        for _ in 0..limits::ENGINE_TURN_COMMANDS_MAX {
            if touched.bytes >= limits::ENGINE_TURN_BYTES_MAX {
                break;
            }
            let Some(input) = inputs.next() else { break };
            self.take(input, now, &mut touched, out);
        }
        self.commit(now, &mut touched, out);
        self.answer_catch_ups(out);
        self.ship_all(out)
    }

    fn take(
        &mut self,
        input: Input<T>,
        now: UnixMillis,
        touched: &mut Touched,
        out: &mut Vec<Output<T>>,
    ) {
        match input {
            Input::Command { at, command, reply } => {
                self.command(at, &command, reply, now, touched, out)
            }
            Input::Roles(roles) => self.roles(roles, now, touched, out),
            Input::Message { from, message } => self.message(from, message, now, touched, out),
            Input::Unsent { to, at } => self.unsent(&to, at),
            Input::Link { peer, up } => self.link(peer, up, out),
            Input::Fence { hub, epoch, reply } => self.fence(hub, epoch, reply, now, touched, out),
            Input::Unfence { hub, epoch, reply } => {
                self.unfence(hub, epoch, reply, now, touched, out)
            }
            Input::CatchUp {
                hub,
                handovers,
                reply,
            } => self.catch_ups.push(CatchUp {
                hub,
                handovers,
                reply,
            }),
            Input::Open { role, reply } => self.open(role, reply, now, touched, out),
            Input::Facts { hub, reply } => out.push(Output::Reply(
                reply,
                Ok(Answer::Facts(self.facts(hub, now))),
            )),
            Input::Presence { at, change } => {
                if let Some(partition) = self.partitions.get_mut(&at) {
                    commands::apply_presence(partition, change);
                }
            }
            Input::DropUnknown => self.drop_unknown(out),
            Input::Tick => self.tick(now, touched, out),
        }
    }

    /// One fsync for everything this turn changed; then, and only then, answers and effects leave.
    fn commit(&mut self, now: UnixMillis, touched: &mut Touched, out: &mut Vec<Output<T>>) {
        let keys: Vec<PartitionKey> = touched.partitions.iter().copied().collect();
        let mut commits = Vec::new();
        let mut failure = None;
        for at in &keys {
            let Some(partition) = self.partitions.get_mut(at) else {
                continue;
            };
            if let Err(error) = partition.seal(&*self.store, now) {
                failure = Some(error);
                break;
            }
            if let Some(commit) = partition.commit_of_turn() {
                self.stats.records += commit.records.len() as u64;
                self.stats.bytes += commit
                    .records
                    .iter()
                    .map(|r| r.bytes.len() as u64)
                    .sum::<u64>();
                commits.push((*at, commit));
            }
        }
        if failure.is_none() && !commits.is_empty() {
            self.stats.commits += 1;
            failure = self.store.commit(commits).err();
        }
        match failure {
            None => {
                self.stats.disk_full = false;
                for at in keys {
                    self.release(at, touched, now, out);
                }
                out.extend(
                    self.steps
                        .drain(..)
                        .map(|(reply, answer)| Output::Reply(reply, Ok(answer))),
                );
            }
            Some(error) => self.commit_failed(&keys, &error, touched, out),
        }
    }

    fn release(
        &mut self,
        at: PartitionKey,
        touched: &Touched,
        now: UnixMillis,
        out: &mut Vec<Output<T>>,
    ) {
        let Some(hub) = self.hubs.get(&at.hub) else {
            return;
        };
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let before = partition.head;
        let turn = partition.turn_committed(now);
        if turn.head.lsn > before.lsn && touched.applied.contains(&at) {
            if let Some(primary) = &hub.role.peer {
                out.push(Output::Send {
                    to: primary.clone(),
                    message: Message::Acked {
                        at,
                        lsn: partition.head.lsn,
                    },
                });
            }
        }
        let silent = turn.head.next_sequence == before.next_sequence
            && turn.replies.is_empty()
            && turn.effects.is_empty();
        if silent || (partition.serving == Serving::No && turn.replies.is_empty()) {
            return;
        }
        let visible = turn.head.next_sequence;
        let must_wait =
            hub.role.is_sync_primary() && partition.shipper.confirmed() < partition.head.lsn;
        if must_wait {
            let Turn {
                replies, effects, ..
            } = turn;
            let lsn = partition.head.lsn;
            partition.waiting.push_back(Waiting {
                lsn,
                visible,
                since: now,
                replies,
                effects,
            });
        } else {
            let epoch = (partition.serving != Serving::No).then_some(partition.head.epoch);
            give_out(at, visible, epoch, turn.replies, turn.effects, out);
        }
    }

    fn commit_failed(
        &mut self,
        keys: &[PartitionKey],
        error: &StoreError,
        touched: &Touched,
        out: &mut Vec<Output<T>>,
    ) {
        self.stats.commit_failures += 1;
        let nothing_done = matches!(error, StoreError::DiskFull { .. } | StoreError::Invalid(_));
        let first = !self.stats.disk_full && self.failed.is_none();
        if first {
            out.push(Output::Alarm {
                at: None,
                text: error.to_string(),
            });
        }
        self.stats.disk_full = matches!(error, StoreError::DiskFull { .. });
        if !nothing_done {
            self.failed = Some(error.to_string());
        }
        for at in keys {
            let Some(partition) = self.partitions.get_mut(at) else {
                continue;
            };
            if touched.applied.contains(at) {
                partition.following.ask_again();
            }
            for (reply, _) in partition.turn_failed().replies {
                let refusal = if nothing_done {
                    Refusal::Unavailable(error.to_string())
                } else {
                    Refusal::OutcomeUnknown(error.to_string())
                };
                out.push(Output::Reply(reply, Err(refusal)));
            }
        }
        for (reply, _) in self.steps.drain(..) {
            out.push(Output::Reply(reply, Err(Refusal::Step(error.to_string()))));
        }
        for at in keys {
            self.serve_as_stored(*at);
        }
        for (hub, delta) in &touched.devices {
            if let Some(hub) = self.hubs.get_mut(hub) {
                hub.devices = hub.devices.saturating_add_signed(-delta);
            }
        }
    }

    /// After the store failed: reopen it and read every head again, since the last commit may or may not be there.
    fn recover(&mut self, now: UnixMillis, touched: &mut Touched, out: &mut Vec<Output<T>>) {
        if self.failed.is_none() {
            return;
        }
        if let Err(error) = self.store.recover() {
            self.failed = Some(error.to_string());
            return;
        }
        let roles: Vec<HubRole> = self.hubs.values().map(|hub| hub.role.clone()).collect();
        for partition in std::mem::take(&mut self.partitions).into_values() {
            let waiting = partition.waiting.into_iter().flat_map(|w| w.replies);
            out.extend(waiting.map(|(reply, _)| {
                Output::Reply(
                    reply,
                    Err(Refusal::OutcomeUnknown("the store was reopened".into())),
                )
            }));
        }
        self.hubs.clear();
        self.failed = None;
        out.push(Output::Alarm {
            at: None,
            text: "the store works again".into(),
        });
        self.roles(roles, now, touched, out);
    }

    fn tick(&mut self, now: UnixMillis, touched: &mut Touched, out: &mut Vec<Output<T>>) {
        self.recover(now, touched, out);
        if self.failed.is_none() {
            self.retry_open(now, touched, out);
        }
        self.copies.forget_idle(now);
        self.follow_up(now, out);
        self.expire_waiting(now, out);
        if now.since(self.last_sweep) >= 1000 {
            self.last_sweep = now;
            self.sweep(now, touched, out);
        }
    }

    /// A `sync` hub's answers that the partner did not confirm in time: their outcome is not known to the asker.
    fn expire_waiting(&mut self, now: UnixMillis, out: &mut Vec<Output<T>>) {
        for partition in self.partitions.values_mut() {
            for waiting in &mut partition.waiting {
                if now.since(waiting.since) < limits::PARK_MS_MAX as i64 {
                    break;
                }
                let why = "the partner region did not confirm in time";
                for (reply, _) in waiting.replies.drain(..) {
                    out.push(Output::Reply(
                        reply,
                        Err(Refusal::OutcomeUnknown(why.into())),
                    ));
                }
            }
        }
    }

    fn devices_changed(&mut self, hub: HubId, delta: i64, touched: &mut Touched) {
        if delta == 0 {
            return;
        }
        *touched.devices.entry(hub).or_default() += delta;
        if let Some(hub) = self.hubs.get_mut(&hub) {
            hub.devices = hub.devices.saturating_add_signed(delta);
        }
    }

    /// A reading command's reply, as the region itself needs it.
    fn ask(&self, at: PartitionKey, command: &Command, now: UnixMillis) -> Option<Reply> {
        self.decide(at, command, now)
            .ok()
            .map(|decision| decision.reply)
    }

    fn keys_of(&self, hub: HubId) -> Vec<PartitionKey> {
        let first = PartitionKey {
            hub,
            partition: PartitionId(0),
        };
        let last = PartitionKey {
            hub,
            partition: PartitionId(u16::MAX),
        };
        self.partitions
            .range(first..=last)
            .map(|(at, _)| *at)
            .collect()
    }

    /// The store this engine writes to.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// A partition's head after its last durable commit, for checkers and tests.
    pub fn head(&self, at: PartitionKey) -> Option<replication::Head> {
        self.partitions.get(&at).map(|partition| partition.head)
    }

    /// Why the engine serves nothing, if so.
    pub fn trouble(&self) -> Option<&str> {
        self.failed.as_deref()
    }
}

/// What one turn touched.
#[derive(Default)]
struct Touched {
    partitions: std::collections::BTreeSet<PartitionKey>,
    /// Partitions to which records of the primary were applied.
    applied: std::collections::BTreeSet<PartitionKey>,
    devices: BTreeMap<HubId, i64>,
    bytes: usize,
}

fn give_out<T>(
    at: PartitionKey,
    next: Sequence,
    epoch: Option<Epoch>,
    replies: Vec<partition::Held<T>>,
    effects: Vec<partition::AddressedEffect>,
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

impl HubRole {
    fn is_sync_primary(&self) -> bool {
        self.role == Role::Primary
            && self.peer.is_some()
            && self.settings.replication == Replication::Sync
    }
}
