//! A simulated region: a disk that outlives crashes, and a process with its engine that does not.

use super::World;
use super::clock::{Clock, Monotonic};
use super::event::{Announce, Asker, EngineInput, Happening, Life, Returned, Ticket};
use super::gateway::{Request, Route};
use super::logs::Logged;
use super::seat::{Seat, Words};
use super::timed::{TimedStore, TurnTime};
use crate::fault::Fault;
use crate::history::{Entry, OpId, RegionId};
use crate::rng::byte_source;
use hub::Command;
use region::engine::{Answer, Engine, Input, Message, Output, Refusal};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use store::MemoryStore;
use types::{Epoch, Lsn, PartitionKey, RegionName, Sequence, UnixMillis};

pub const TICK_MS: i64 = 100;

/// A region of the world.
pub struct Region {
    pub name: RegionName,
    pub store: MemoryStore,
    pub clock: Clock,
    pub monotonic: Monotonic,
    pub time: TurnTime,
    pub life: Life,
    pub process: Option<Process>,
    /// A group commit takes up to so long.
    pub commit_ms_max: i64,
    /// The next failure of the disk takes the process with it; down for so long.
    pub dies_with_disk: Option<i64>,
    /// What of each log was recorded.
    pub logged: BTreeMap<PartitionKey, Logged>,
    pub started: i64,
    /// When its disk was first used; 0: as the run began.
    pub began: UnixMillis,
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
    pub seat: Seat,
    /// Revision of the control plane's state of which the engine was told.
    pub told: Option<u64>,
    /// As the engine was told, on the monotonic clock.
    pub lease_until: u64,
    /// What this engine said of what only it has.
    pub words: Words,
    pub requests: BTreeMap<OpId, Request>,
    pub parked: u64,
}

/// The turn in which a command was decided, at which epoch, and what the region's clock showed.
#[derive(Clone, Copy, Debug)]
pub struct Decided {
    turn: u64,
    epoch: Epoch,
    clock: UnixMillis,
    /// What it wrote stands between these records.
    after: Lsn,
    upto: Lsn,
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
        if region == super::voters::WITNESS {
            return self.start_witness();
        }
        if self.regions[region].process.is_some() {
            return;
        }
        let seed = self.rng.next();
        let engine = self.engine_of(region, seed);
        let place = &mut self.regions[region];
        place.life += 1;
        place.started = self.now;
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
            seat: Seat::default(),
            told: None,
            lease_until: 0,
            words: Words::new(),
            requests: BTreeMap::new(),
            parked: 0,
        });
        self.record(Entry::Trouble(format!("region {region} starts")));
        self.disturbed();
        self.after(TICK_MS, Happening::Tick { region, life });
        self.after(2000, Happening::WatchFences { region, life });
        self.after(1, Happening::Renew { region, life });
        self.after(20, Happening::LinkMade);
        self.take_seat(region);
    }

    fn engine_of(&mut self, region: RegionId, seed: u64) -> Engine<Ticket> {
        let ignores_lease = self.fault == Some(Fault::IgnoreLease);
        let place = &mut self.regions[region];
        place.store = place.store.reopen();
        let store = TimedStore {
            disk: place.store.clone(),
            time: place.time.clone(),
        };
        let time = place.time.clone();
        let monotonic = move || if ignores_lease { 0 } else { time.now() };
        Engine::new(Arc::new(store), byte_source(seed), Box::new(monotonic))
    }

    /// The process dies at once; the disk stays.
    pub(super) fn crash(&mut self, region: RegionId, down_ms: i64) {
        if region == super::voters::WITNESS {
            return self.crash_witness(down_ms);
        }
        let Some(process) = self.regions[region].process.take() else {
            return;
        };
        self.record(Entry::Trouble(format!("region {region} crashes")));
        self.disturbed();
        self.regions[region].life += 1;
        self.regions[region].dies_with_disk = None;
        self.paused_until[region] = self.now;
        self.link.known[region] = None;
        self.break_link(0);
        self.doubt_leader();
        for (op, request) in process.requests {
            self.client_left_alone(op, &request);
        }
        self.after(down_ms, Happening::Start { node: region });
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
        let commit_ms = self.rng.range(1, self.regions[region].commit_ms_max);
        let monotonic = self.monotonic(region);
        let time = self.regions[region].time.clone();
        time.begin(monotonic, commit_ms);
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
        let before = heads(&process.engine, &commands);
        let mut outputs = Vec::new();
        let more = process.engine.turn(
            &mut std::iter::from_fn(|| taken.pop_front()),
            clock,
            &mut outputs,
        );
        let (spent_ms, paused) = time.spent();
        let failed = process.engine.trouble().is_some();
        for left in taken.into_iter().rev() {
            process.inbox.push_front(left);
        }
        self.turns += 1;
        let turn = self.turns;
        let process = self.process(region).expect("it has just had its turn");
        for (ticket, at) in commands {
            let head = process.engine.head(at).unwrap_or_default();
            let decided = Decided {
                turn,
                epoch: head.epoch,
                clock,
                after: before.get(&at).copied().unwrap_or_default(),
                upto: head.lsn,
            };
            process.decided.insert(ticket, decided);
        }
        let again = more || !process.inbox.is_empty();
        self.record_log(region);
        if let (true, Some(down_ms)) = (failed, self.regions[region].dies_with_disk) {
            self.crash(region, down_ms);
            return;
        }
        let until = self.now + spent_ms;
        if paused {
            self.pause(region, spent_ms);
        }
        let process = self.process(region).expect("it did not crash");
        process.busy_until = until;
        if again && !process.turn_is_due {
            process.turn_is_due = true;
            self.at(until, Happening::Turn { region, life });
        }
        if spent_ms == 0 {
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
                    let word = matches!(message, Message::Word { .. });
                    self.hears_itself(region, &message);
                    // A word that is not sent breaks no stream: the next one says all of it again.
                    if !self.send(region, super::event::Wire::Engine(message)) && !word {
                        let to = self.regions[1 - region].name.clone();
                        self.tell(region, Input::Unsent { to, at });
                    }
                }
                Output::Visible { at, next, epoch } => {
                    let before = process.visible.insert(at, (next, epoch));
                    let before = before.and_then(|(_, epoch)| epoch);
                    if let Some(epoch) = epoch.filter(|_| before != epoch) {
                        self.record(Entry::Serves { region, at, epoch });
                    }
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
        let (Some(decided), Ok(Answer::Reply(_)) | Err(Refusal::Reject(_))) = (decided, result)
        else {
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
            epoch: decided.epoch,
            turn: decided.turn,
            clock: decided.clock,
            after: decided.after,
            upto: decided.upto,
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
                let body = Returned::Engine(result);
                self.send_back(region, link, super::event::Wire::Return { call, body });
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
                let announce = Announce {
                    hub,
                    epoch,
                    forced: false,
                };
                self.announce_if_open(region, Some(announce), &result)
            }
            Asker::Nobody => {}
        }
    }

    fn announce_if_open(
        &mut self,
        region: RegionId,
        announce: Option<Announce>,
        result: &Result<Answer, Refusal>,
    ) {
        let (Some(announce), Ok(Answer::Opened(_))) = (announce, result) else {
            return;
        };
        let Announce { hub, epoch, forced } = announce;
        let primary = self.regions[region].name.clone();
        let route = super::event::Wire::Route {
            hub,
            epoch,
            primary: primary.clone(),
            forced,
        };
        self.send(region, route);
        self.route_moved(region, hub, epoch, &primary, forced);
    }

    pub(super) fn tick(&mut self, region: RegionId, life: Life) {
        if self.living(region, life).is_none() {
            return;
        }
        self.tell(region, Input::Tick);
        self.expire_awaiting(region);
        self.after(0, Happening::Coordinate { node: region, life });
        self.after(TICK_MS, Happening::Tick { region, life });
    }
}

fn heads(
    engine: &Engine<Ticket>,
    commands: &[(Ticket, PartitionKey)],
) -> BTreeMap<PartitionKey, Lsn> {
    let of = |at: PartitionKey| Some((at, engine.head(at)?.lsn));
    commands.iter().filter_map(|(_, at)| of(*at)).collect()
}
