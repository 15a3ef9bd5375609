//! A region's engine: one writer for all its partitions, one group commit per turn.
//!
//! No thread, no clock, no socket: a turn takes inputs and `now`, decides and applies them, commits once, and gives outputs to
//! perform. The runtime drives it from one thread with the real store; the simulation drives it with a crash-honest one.

mod commands;
mod commit;
mod follower;
mod handover;
mod lag;
mod lease;
mod ledger;
mod message;
mod partition;
mod presence;
mod refill;
mod rewind;
mod roles;
mod source;
mod tail;
mod view;

pub use follower::Following;
pub use handover::{Handover, HubRole, PartitionFacts, Role};
pub use message::{Message, SourceWord, Tail};
pub use partition::Serving;
pub use presence::Live;

use commit::StepAnswer;
use handover::CatchUp;
use hub::decision::PresenceChange;
use hub::{Command, Effect, Reply};
use partition::Partition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use store::Store;
use types::{
    ConnectionId, Epoch, HubId, PartitionId, PartitionKey, RegionName, Reject, Sequence,
    UnixMillis, limits,
};

/// Source of random bytes: the operating system's, or a seeded one in simulation.
pub type Random = Box<dyn Fn(&mut [u8]) + Send>;

/// Milliseconds on a clock that never jumps and does not stop while the process does.
pub type Monotonic = Box<dyn Fn() -> u64 + Send>;

/// Why an input has no answer of the usual kind.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Refusal {
    /// The hub says no; nothing changed.
    Reject(Reject),
    /// This region is not the hub's primary, as far as it knows at `epoch`. Nothing was done.
    NotPrimary { epoch: Epoch },
    /// The hub is changing its primary. Nothing was done.
    FailingOver,
    /// The region does not hold its lease: it cannot know that it still is the primary. Nothing was done.
    NoLease,
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
    /// Where each partition stood just before it opened.
    Opened(Vec<Handover>),
    Facts(Vec<PartitionFacts>),
}

/// Something for the engine to do; `T` is whatever the caller needs to find the asker again.
pub enum Input<T> {
    Command {
        at: PartitionKey,
        command: Arc<Command>,
        reply: T,
    },
    /// A command that only reads, answered from what is on disk here, primary or not: the answer may be old.
    StaleRead {
        at: PartitionKey,
        command: Arc<Command>,
        reply: T,
    },
    /// All hubs this region holds, with their roles. Roles of a lower epoch than known are ignored.
    Roles(Vec<HubRole>),
    /// This region may acknowledge until `until` of the monotonic clock. It comes after the roles known at that grant.
    Lease {
        until: u64,
    },
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
    monotonic: Monotonic,
    /// On the monotonic clock; 0: there never was a lease.
    lease_until: u64,
    /// The lease was held at the last look: readers were told so.
    lease_seen: bool,
    hubs: BTreeMap<HubId, HubRuntime>,
    partitions: BTreeMap<PartitionKey, Partition<T>>,
    links: BTreeMap<RegionName, bool>,
    catch_ups: Vec<CatchUp<T>>,
    /// Answers to failover steps of this turn, given once it is durable.
    steps: Vec<StepAnswer<T>>,
    copies: source::Copies,
    /// Partitions whose follower may want records that are committed.
    shippable: BTreeSet<PartitionKey>,
    /// Roles were taken since the process started.
    started: bool,
    /// Partitions this region leads and whose partner was not asked yet, since the process started.
    unsettled: BTreeSet<PartitionKey>,
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
    /// Records that were set aside, and bytes that came in their place.
    pub salvaged_records: u64,
    pub rewind_bytes: u64,
    pub disk_full: bool,
}

impl<T> Engine<T> {
    pub fn new(store: Arc<dyn Store>, random: Random, monotonic: Monotonic) -> Self {
        Engine {
            store,
            random,
            monotonic,
            lease_until: 0,
            lease_seen: false,
            hubs: BTreeMap::new(),
            partitions: BTreeMap::new(),
            links: BTreeMap::new(),
            catch_ups: Vec::new(),
            steps: Vec::new(),
            copies: source::Copies::default(),
            shippable: BTreeSet::new(),
            started: false,
            unsettled: BTreeSet::new(),
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
        self.watch_lease(out);
        let mut touched = Touched::default();
        for _ in 0..limits::ENGINE_TURN_COMMANDS_MAX {
            if touched.bytes >= limits::ENGINE_TURN_BYTES_MAX {
                break;
            }
            let Some(input) = inputs.next() else { break };
            self.take(input, now, &mut touched, out);
        }
        self.commit(now, &mut touched, out);
        if !self.catch_ups.is_empty() {
            self.answer_catch_ups(out);
        }
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
            Input::StaleRead { at, command, reply } => {
                let answer = self.stale_read(at, &command, now);
                out.push(Output::Reply(reply, answer));
            }
            Input::Lease { until } => self.extend_lease(until, now, out),
            Input::Message { from, message } => self.message(from, message, now, touched, out),
            Input::Unsent { to, at } => self.unsent(&to, at),
            Input::Link { peer, up } => self.link(peer, up),
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
                since: now,
                reply,
            }),
            Input::Open { role, reply } => self.open(role, reply, now, touched, out),
            Input::Facts { hub, reply } => out.push(Output::Reply(
                reply,
                Ok(Answer::Facts(self.facts(hub, now))),
            )),
            Input::Presence { at, change } => {
                if let Some(partition) = self.partitions.get_mut(&at) {
                    partition.live.told(change);
                }
            }
            Input::DropUnknown => self.drop_unknown(out),
            Input::Tick => self.tick(now, touched, out),
        }
    }

    fn tick(&mut self, now: UnixMillis, touched: &mut Touched, out: &mut Vec<Output<T>>) {
        self.recover(now, touched, out);
        if self.failed.is_none() {
            self.go_on_refilling(now, touched, out);
            self.retry_open(now, touched, out);
        }
        self.copies.forget_idle(now);
        self.follow_up(now, out);
        self.tend_waiting(now, out);
        self.say_words(now, out);
        self.expire_catch_ups(now, out);
        if now.since(self.last_sweep) >= 1000 {
            self.last_sweep = now;
            self.sweep(now, touched, out);
        }
    }

    /// A reading command's reply, as the region itself needs it.
    fn ask(&self, at: PartitionKey, command: &Command, now: UnixMillis) -> Option<Reply> {
        let (hub, partition) = (self.hubs.get(&at.hub)?, self.partitions.get(&at)?);
        let decided = commands::decide(&*self.store, &self.random, hub, partition, command, now);
        decided.ok().map(|decision| decision.reply)
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
    partitions: BTreeSet<PartitionKey>,
    /// Partitions to which records of the other region were applied.
    applied: BTreeSet<PartitionKey>,
    devices: BTreeMap<HubId, i64>,
    bytes: usize,
}

#[cfg(test)]
mod tests;
