//! A simulated region: a disk that outlives crashes, and a process with its engine that does not.

use super::World;
use super::clock::Clock;
use super::coordinator::Driver;
use super::event::{
    AfterBarrier, Asker, CallId, EngineInput, Gathering, Happening, Life, Returned, Ticket, Waiting,
};
use super::gateway::{Request, Route};
use crate::fault::Fault;
use crate::history::{Entry, OpId, RegionId};
use crate::rng::byte_source;
use control::State;
use hub::Command;
use region::engine::{Answer, Engine, Input, Output, Refusal};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use store::MemoryStore;
use types::{Epoch, HubId, Lsn, PartitionKey, RegionName, Sequence, UnixMillis};

pub const TICK_MS: i64 = 100;

/// A region of the world.
pub struct Region {
    pub name: RegionName,
    pub store: MemoryStore,
    pub clock: Clock,
    pub life: Life,
    pub process: Option<Process>,
    /// A group commit takes up to so long.
    pub commit_ms_max: i64,
    /// The next failure of the disk takes the process with it; down for so long.
    pub dies_with_disk: Option<i64>,
    /// How far the log was recorded.
    pub logged: BTreeMap<PartitionKey, Lsn>,
    pub started: i64,
    pub disk_full: bool,
}

/// What a crash takes with it.
pub struct Process {
    pub engine: Engine<Ticket>,
    pub inbox: VecDeque<EngineInput>,
    pub turn_is_due: bool,
    pub busy_until: i64,
    pub askers: BTreeMap<Ticket, Asker>,
    pub tickets: Ticket,
    /// When a client's command was decided.
    pub decided: BTreeMap<Ticket, Decided>,
    pub visible: BTreeMap<PartitionKey, (Sequence, Option<Epoch>)>,
    pub route: Option<Route>,
    /// Its roles were read from the control plane.
    pub trusted: bool,
    pub view: Arc<State>,
    pub view_index: u64,
    pub leads: bool,
    pub calls: BTreeMap<CallId, Waiting>,
    pub gathers: BTreeMap<u64, Gathering>,
    pub requests: BTreeMap<OpId, Request>,
    pub driver: Driver,
    pub parked: u64,
}

/// The turn in which a command was decided, at which epoch, and what the region's clock showed.
#[derive(Clone, Copy, Debug)]
pub struct Decided {
    turn: u64,
    epoch: Epoch,
    clock: UnixMillis,
}

impl World {
    pub(super) fn process(&mut self, region: RegionId) -> Option<&mut Process> {
        self.regions[region].process.as_mut()
    }

    /// The process, if it is still the one that was meant.
    pub(super) fn living(&mut self, region: RegionId, life: Life) -> Option<&mut Process> {
        let region = &mut self.regions[region];
        if region.life == life {
            region.process.as_mut()
        } else {
            None
        }
    }

    pub(super) fn start(&mut self, region: RegionId) {
        if self.regions[region].process.is_some() {
            return;
        }
        let seed = self.rng.next();
        let place = &mut self.regions[region];
        place.life += 1;
        place.store = place.store.reopen();
        place.started = self.now;
        let engine = Engine::new(Arc::new(place.store.clone()), byte_source(seed));
        let life = place.life;
        place.process = Some(Process {
            engine,
            inbox: VecDeque::new(),
            turn_is_due: false,
            busy_until: self.now,
            askers: BTreeMap::new(),
            tickets: 0,
            decided: BTreeMap::new(),
            visible: BTreeMap::new(),
            route: None,
            trusted: false,
            view: Arc::new(State::default()),
            view_index: 0,
            leads: false,
            calls: BTreeMap::new(),
            gathers: BTreeMap::new(),
            requests: BTreeMap::new(),
            driver: Driver::default(),
            parked: 0,
        });
        self.record(Entry::Trouble(format!("region {region} starts")));
        self.disturbed();
        self.after(TICK_MS, Happening::Tick { region, life });
        self.after(2000, Happening::WatchFences { region, life });
        self.barrier(region, AfterBarrier::Trust);
        self.after(20, Happening::LinkMade);
        let leads = self.plane.leader == Some(region);
        self.after(1, Happening::Believe { region, leads });
        if self.plane.leader.is_none() {
            self.after(300, Happening::Elect);
        }
    }

    /// The process dies at once; the disk stays.
    pub(super) fn crash(&mut self, region: RegionId, down_ms: i64) {
        let Some(process) = self.regions[region].process.take() else {
            return;
        };
        self.record(Entry::Trouble(format!("region {region} crashes")));
        self.disturbed();
        self.regions[region].life += 1;
        self.regions[region].dies_with_disk = None;
        self.link.known[region] = None;
        self.break_link(0);
        if self.plane.leader == Some(region) {
            self.plane.leader = None;
            let election = self.rng.range(300, 1500);
            self.after(election, Happening::Elect);
        }
        for (op, request) in process.requests {
            self.client_left_alone(op, &request);
        }
        self.after(down_ms, Happening::Start { region });
    }

    /// Hands something to the engine.
    pub(super) fn tell(&mut self, region: RegionId, input: EngineInput) {
        let now = self.now;
        let life = self.regions[region].life;
        let Some(process) = self.process(region) else {
            return;
        };
        process.inbox.push_back(input);
        if !process.turn_is_due {
            process.turn_is_due = true;
            let at = process.busy_until.max(now);
            self.at(at, Happening::Turn { region, life });
        }
    }

    /// Hands something to the engine and remembers who asked.
    pub(super) fn ask(
        &mut self,
        region: RegionId,
        asker: Asker,
        input: impl FnOnce(Ticket) -> EngineInput,
    ) {
        let Some(process) = self.process(region) else {
            return;
        };
        process.tickets += 1;
        let ticket = process.tickets;
        process.askers.insert(ticket, asker);
        self.tell(region, input(ticket));
    }

    /// A client's command has reached the region that should decide it.
    pub(super) fn command_arrives(
        &mut self,
        region: RegionId,
        asker: Asker,
        at: PartitionKey,
        command: Arc<Command>,
    ) {
        if matches!(*command, Command::Telemetry(_)) {
            self.telemetry_seen += 1;
            if self.fault == Some(Fault::AcknowledgeBeforeCommit)
                && self.telemetry_seen.is_multiple_of(40)
            {
                self.answered(region, asker, Ok(Answer::Reply(hub::Reply::Done)));
                self.crash(region, 1000);
                return;
            }
            if self.fault == Some(Fault::DoubleEvent) && self.telemetry_seen.is_multiple_of(40) {
                let command = command.clone();
                self.ask(region, Asker::Nobody, |reply| Input::Command {
                    at,
                    command,
                    reply,
                });
            }
        }
        self.ask(region, asker, |reply| Input::Command { at, command, reply });
    }

    /// One turn of the engine with everything that waits.
    pub(super) fn turn(&mut self, region: RegionId, life: Life) {
        let clock = self.regions[region].clock.at(self.now);
        let commit_ms_max = self.regions[region].commit_ms_max;
        let Some(process) = self.living(region, life) else {
            return;
        };
        process.turn_is_due = false;
        let mut taken: VecDeque<EngineInput> = std::mem::take(&mut process.inbox);
        let commands: Vec<(Ticket, PartitionKey)> = taken
            .iter()
            .filter_map(|input| match input {
                Input::Command { at, reply, .. } => Some((*reply, *at)),
                _ => None,
            })
            .collect();
        let commits = process.engine.stats.commits;
        let mut outputs = Vec::new();
        let more = process.engine.turn(
            &mut std::iter::from_fn(|| taken.pop_front()),
            clock,
            &mut outputs,
        );
        let committed = process.engine.stats.commits > commits;
        let failed = process.engine.trouble().is_some();
        for left in taken.into_iter().rev() {
            process.inbox.push_front(left);
        }
        self.turns += 1;
        let turn = self.turns;
        let process = self.process(region).expect("it has just had its turn");
        for (ticket, at) in commands {
            let epoch = process.engine.head(at).map_or(Epoch(0), |head| head.epoch);
            process
                .decided
                .insert(ticket, Decided { turn, epoch, clock });
        }
        let again = more || !process.inbox.is_empty();
        self.record_log(region);
        if let (true, Some(down_ms)) = (failed, self.regions[region].dies_with_disk) {
            self.crash(region, down_ms);
            return;
        }
        let commit_ms = if committed {
            self.rng.range(1, commit_ms_max)
        } else {
            0
        };
        let until = self.now + commit_ms;
        let process = self.process(region).expect("it did not crash");
        process.busy_until = until;
        if again && !process.turn_is_due {
            process.turn_is_due = true;
            self.at(until, Happening::Turn { region, life });
        }
        if commit_ms == 0 {
            self.perform(region, life, outputs);
        } else {
            self.at(
                until,
                Happening::Perform {
                    region,
                    life,
                    outputs,
                },
            );
        }
    }

    pub(super) fn perform(&mut self, region: RegionId, life: Life, outputs: Vec<Output<Ticket>>) {
        for output in outputs {
            let Some(process) = self.living(region, life) else {
                return;
            };
            match output {
                Output::Reply(ticket, result) => {
                    let asker = process.askers.remove(&ticket).unwrap_or(Asker::Nobody);
                    let decided = process.decided.remove(&ticket);
                    self.note_answer(region, &asker, decided, &result);
                    self.answered(region, asker, result);
                }
                Output::Send { message, .. } => {
                    let at = message.partition();
                    if !self.send(region, super::event::Wire::Engine(message)) {
                        let to = self.regions[1 - region].name.clone();
                        self.tell(region, Input::Unsent { to, at });
                    }
                }
                Output::Visible { at, next, epoch } => {
                    process.visible.insert(at, (next, epoch));
                }
                Output::Alarm { at, text } => self.record(Entry::Alarm { region, at, text }),
                // No sessions are simulated: nobody is connected, so there is nobody to tell.
                Output::Effect { .. } => {}
            }
        }
    }

    fn note_answer(
        &mut self,
        region: RegionId,
        asker: &Asker,
        decided: Option<Decided>,
        result: &Result<Answer, Refusal>,
    ) {
        let op = match asker {
            Asker::Gateway(op) | Asker::Remote { op: Some(op), .. } => *op,
            _ => return,
        };
        let (Some(Decided { turn, epoch, clock }), Ok(Answer::Reply(_))) = (decided, result) else {
            return;
        };
        let Some(asked) = self.ops.get(&op) else {
            return;
        };
        let at = asked.at;
        self.record(Entry::Answered {
            op,
            region,
            at,
            epoch,
            turn,
            clock,
        });
    }

    /// Gives an engine's answer to whoever asked.
    pub(super) fn answered(
        &mut self,
        region: RegionId,
        asker: Asker,
        result: Result<Answer, Refusal>,
    ) {
        match asker {
            Asker::Gateway(op) => self.engine_answered_request(region, op, result),
            Asker::Remote {
                call,
                link,
                announce,
                ..
            } => {
                self.announce_if_open(region, announce, &result);
                if self.link.known[region] == Some(link) {
                    self.send(
                        region,
                        super::event::Wire::Return {
                            call,
                            body: Returned::Engine(result),
                        },
                    );
                }
            }
            Asker::Step { call, announce } => {
                self.announce_if_open(region, announce, &result);
                self.returned(region, call, Returned::Engine(result));
            }
            Asker::Facts { to } => {
                let partitions = match result {
                    Ok(Answer::Facts(partitions)) => partitions,
                    _ => Vec::new(),
                };
                let facts = self.facts_of(region, partitions);
                self.facts_found(region, to, facts);
            }
            Asker::Fences { hub, epoch } => self.fences_found(region, hub, epoch, result),
            Asker::Lift { hub, epoch } => {
                self.announce_if_open(region, Some((hub, epoch)), &result)
            }
            Asker::Nobody => {}
        }
    }

    fn announce_if_open(
        &mut self,
        region: RegionId,
        announce: Option<(HubId, Epoch)>,
        result: &Result<Answer, Refusal>,
    ) {
        let (Some((hub, epoch)), Ok(Answer::Opened)) = (announce, result) else {
            return;
        };
        let primary = self.regions[region].name.clone();
        self.send(
            region,
            super::event::Wire::Route {
                hub,
                epoch,
                primary: primary.clone(),
            },
        );
        self.route_moved(region, hub, epoch, &primary);
    }

    pub(super) fn tick(&mut self, region: RegionId, life: Life) {
        if self.living(region, life).is_none() {
            return;
        }
        self.tell(region, Input::Tick);
        self.after(0, Happening::Coordinate { region, life });
        self.after(TICK_MS, Happening::Tick { region, life });
    }

    /// Records what a region's log has got since the last look.
    fn record_log(&mut self, region: RegionId) {
        for at in self.partitions.clone() {
            let place = &self.regions[region];
            let Some(head) = place
                .process
                .as_ref()
                .and_then(|process| process.engine.head(at))
            else {
                continue;
            };
            let known = place.logged.get(&at).copied().unwrap_or_default();
            if head.lsn == known {
                continue;
            }
            let from = if head.lsn < known {
                self.record(Entry::Reset { region, at });
                Lsn(1)
            } else {
                known.next()
            };
            self.regions[region].logged.insert(at, head.lsn);
            let stored = super::reading::all_records(&self.regions[region].store, at, from)
                .unwrap_or_default();
            for record in stored
                .into_iter()
                .filter(|record| record.lsn <= head.lsn && record.event_count > 0)
            {
                match super::reading::events_of(&record) {
                    Ok((epoch, events)) => {
                        for (sequence, event) in events {
                            self.record(Entry::Logged {
                                region,
                                at,
                                sequence,
                                epoch,
                                event,
                            });
                        }
                    }
                    Err(text) => self.record(Entry::Alarm {
                        region,
                        at: Some(at),
                        text,
                    }),
                }
            }
        }
    }
}
