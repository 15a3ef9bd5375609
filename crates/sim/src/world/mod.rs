//! The simulated world: one queue of happenings in true time, drawn from one seed.

mod calls;
pub mod clients;
mod clock;
mod commands;
mod coordinator;
mod event;
mod faulty;
mod finals;
mod gateway;
mod gather;
mod logs;
mod net;
mod notes;
mod operator;
mod pause;
mod phases;
mod plane;
mod process;
mod questions;
mod reading;
mod replies;
mod returns;
mod roles;
mod script;
mod seat;
mod set_up;
mod timed;
mod trouble;
mod voters;
mod words;

use crate::fault::Fault;
use crate::history::{Delivered, Entry, History, OpId, TraceHash, TwinSeen};
use crate::rng::Rng;
use clients::Client;
use event::Happening;
use gateway::Open;
use net::Link;
use operator::DryRun;
use plane::Plane;
use process::Region;
use script::Script;
use seat::Witness;
use std::collections::{BTreeMap, BTreeSet};
use store::MemoryOptions;
use trouble::{AtStep, Mix, Trouble};
use types::{HubId, PartitionKey};
use voters::{NODES, Voters};

/// The hub of the run: the first one that the control plane makes.
pub const HUB: HubId = HubId(1);

pub use set_up::Plan;

/// How a run goes: troubles, then only healing, then only answers, then the last questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Founding,
    Storm,
    Calm,
    Draining,
    Audit,
    Over,
}

/// Everything there is.
pub struct World {
    now: i64,
    queue: BTreeMap<(i64, u64), Happening>,
    queued: u64,
    rng: Rng,
    fault: Option<Fault>,
    regions: Vec<Region>,
    witness: Witness,
    /// Nothing happens in a member before.
    paused_until: [i64; NODES],
    link: Link,
    plane: Plane,
    voters: Voters,
    clients: Vec<Client>,
    partitions: Vec<PartitionKey>,
    sync: bool,
    disk: MemoryOptions,
    phase: Phase,
    storm_until: i64,
    phase_since: i64,
    healed: i64,
    at_steps: Vec<AtStep>,
    mix: Mix,
    disasters: Vec<(i64, Trouble)>,
    /// The higher, the longer clients wait between two questions.
    client_haste: i64,
    operator_ms: (i64, i64),
    cancel_percent: u64,
    /// How often the operator of a troubled primary forces a failover, and how often too little loss is accepted.
    forced_percent: u64,
    accept_span_percent: u64,
    accept_nothing_percent: u64,
    trouble_ms: Option<(i64, i64)>,
    /// What is enumerated, if this run is no random one.
    script: Option<Script>,
    resumed: bool,
    dry_runs: BTreeMap<String, DryRun>,
    /// Operations of which the history says already that they began by force, or where they parted.
    noted: BTreeSet<(String, &'static str)>,
    last_disturbed: i64,
    last_answer: i64,
    clock_error_ms: i64,
    ops: BTreeMap<OpId, Open>,
    generations: BTreeMap<u32, String>,
    // Counters that name things.
    op_ids: OpId,
    call_ids: u64,
    gathers: u64,
    submissions: u64,
    operations: u64,
    turns: u64,
    new_messages: u64,
    telemetry_seen: u64,
    // Memories of faults.
    old_twins: BTreeMap<u32, TwinSeen>,
    delivered: Vec<Delivered>,
    history: History,
    hash: TraceHash,
    happened: u64,
    lines: Option<Vec<String>>,
}

/// A finished run.
pub struct Run {
    pub history: History,
    /// Equal for two runs of the same seed.
    pub trace_hash: u64,
    pub happened: u64,
    /// The trace, if it was asked for.
    pub lines: Vec<String>,
    /// Whether what is enumerated came to pass; `None`: a random run.
    pub struck: Option<bool>,
}

/// Happenings of one run: a world that goes round in circles is stopped.
const HAPPENED_MAX: u64 = 2_000_000;

impl World {
    pub(super) fn at(&mut self, at: i64, happening: Happening) {
        self.queued += 1;
        self.queue
            .insert((at.max(self.now), self.queued), happening);
    }

    pub(super) fn after(&mut self, millis: i64, happening: Happening) {
        self.at(self.now + millis.max(0), happening);
    }

    pub(super) fn record(&mut self, entry: Entry) {
        let entry = if self.fault.is_some() {
            self.faulty_entry(entry)
        } else {
            entry
        };
        self.hash.add((self.now, &entry));
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>7} {entry:?}", self.now));
        }
        self.history.entries.push((self.now, entry));
    }

    /// Something changed that a check may see.
    pub(super) fn disturbed(&mut self) {
        self.last_disturbed = self.now;
    }

    pub(super) fn note_clock_error(&mut self) {
        let worst = self
            .regions
            .iter()
            .map(|region| region.clock.error(self.now).abs())
            .max();
        self.clock_error_ms = self.clock_error_ms.max(worst.unwrap_or(0));
    }

    /// Lets everything happen that follows from the seed.
    pub fn run(mut self) -> Run {
        while self.phase != Phase::Over && self.happened < HAPPENED_MAX {
            let Some(((at, _), happening)) = self.queue.pop_first() else {
                break;
            };
            self.now = at;
            self.happened += 1;
            self.hash.add((at, happening.kind()));
            if let Some(happening) = self.put_off(happening) {
                self.happen(happening);
            }
        }
        self.note_clock_error();
        self.history.finals = self.finals();
        let struck = self.script_struck();
        Run {
            history: self.history,
            trace_hash: std::hash::Hasher::finish(&self.hash),
            happened: self.happened,
            lines: self.lines.unwrap_or_default(),
            struck,
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Turn { region, life } => self.turn(region, life),
            Happening::Perform {
                region,
                life,
                outputs,
            } => self.perform(region, life, outputs),
            Happening::Tick { region, life } => self.tick(region, life),
            Happening::Arrive { to, link, wire } => self.arrive(to, link, wire),
            Happening::LinkNoticed { region, link, up } => self.link_noticed(region, link, up),
            Happening::LinkMade => self.make_link(),
            Happening::CallTimedOut { node, life, call } => {
                if self.living_seat(node, life).is_some() {
                    self.call_failed(node, call, "timed out");
                }
            }
            Happening::GatherTimedOut { node, life, gather } => {
                if self.living_seat(node, life).is_some() {
                    self.gathered(node, gather);
                }
            }
            Happening::LookAgain { region, life, op } => self.look_again(region, life, op),
            Happening::ParkingEnds { region, life, op } => self.parking_ends(region, life, op),
            Happening::Coordinate { node, life } => self.coordinate(node, life),
            Happening::DriverWakes { node, life, token } => self.driver_wakes(node, life, token),
            Happening::Submitted {
                from,
                command,
                deadline,
                id,
            } => self.submitted(from, command, deadline, id),
            Happening::PlaneAnswers { to, answer, index } => self.plane_answers(to, answer, index),
            Happening::View {
                node,
                life,
                index,
                state,
            } => self.view(node, life, index, state),
            Happening::BarrierAsked {
                node,
                life,
                deadline,
                then,
            } => self.barrier_asked(node, life, deadline, then),
            Happening::BarrierAnswered {
                node,
                life,
                deadline,
                index,
                then,
            } => self.barrier_answered(node, life, deadline, index, then),
            Happening::Renew { region, life } => self.renew(region, life),
            Happening::Awake { node } => self.awake_again(node),
            Happening::Silence { region } => self.silence(region),
            Happening::ClientGivesUp { region, op } => self.client_gives_up(region, op),
            Happening::Elect => self.elect(),
            Happening::Believe { node, leader } => self.believe(node, leader),
            Happening::WatchFences { region, life } => self.watch_fences(region, life),
            Happening::Start { node } => self.start(node),
            Happening::Client { client } => self.client_turn(client),
            Happening::Operator => self.operate(),
            Happening::Force => self.force(),
            Happening::Script => self.script_goes_on(),
            Happening::ScriptStrikes => self.script_strikes(),
            Happening::Cancel { operation } => self.cancel(operation),
            Happening::Trouble(trouble) => self.strike(trouble),
            Happening::Mend(mend) => self.mend(mend),
            Happening::Phase => self.look_at_phase(),
        }
    }
}
