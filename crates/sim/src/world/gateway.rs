//! A region's gateway: sends clients' questions to the primary, parks what was surely not done. As `region::router`.

use super::World;
use super::event::{Asker, Asking, Happening, Waiting, Wire};
use super::reading::{Page, Put, put};
use crate::fault::Fault;
use crate::history::{Asked, Entry, Got, OpId, Outcome, RegionId, Stand};
use hub::Command;
use hub::command::{ConsumerCommand, RegistryCommand, TwinCommand};
use region::engine::{Answer, Refusal};
use region::peer::Call;
use std::sync::Arc;
use types::{Epoch, PartitionKey, RegionName, Sequence, limits};

const LOOK_AGAIN_MS: i64 = 100;
const REMOTE_TIMEOUT_MS: i64 = limits::PARK_MS_MAX as i64 + 5_000;

/// Where the hub is served, as this region knows it.
#[derive(Clone, Debug)]
pub struct Route {
    pub primary: RegionName,
    pub epoch: Epoch,
    /// The last epoch that began by force; 0: none did.
    pub forced: Epoch,
}

#[derive(Clone)]
pub enum Payload {
    Command(Arc<Command>),
    Read(Option<Stand>),
}

/// A client's question on its way.
pub struct Request {
    pub at: PartitionKey,
    pub payload: Payload,
    pub parked: bool,
    /// It was parked at least once: the parking time runs.
    pub was_parked: bool,
    pub in_flight: bool,
    /// An attempt may have been done.
    pub maybe_done: bool,
    /// The consumer that asks was put back, from where to where.
    pub rewound: Option<(Sequence, Sequence)>,
}

/// A question that has no answer yet.
pub struct Open {
    pub client: usize,
    pub at: PartitionKey,
    pub asked: Asked,
    /// Its client has gone on without an answer.
    pub given_up: bool,
}

impl World {
    /// A client asks this region's gateway, which is up and knows its roles.
    pub(super) fn request(
        &mut self,
        client: usize,
        region: RegionId,
        at: PartitionKey,
        asked: Asked,
        payload: Payload,
    ) -> OpId {
        self.op_ids += 1;
        let op = self.op_ids;
        self.record(Entry::Invoked {
            op,
            client,
            asked: asked.clone(),
        });
        let open = Open {
            client,
            at,
            asked,
            given_up: false,
        };
        self.ops.insert(op, open);
        let request = Request {
            at,
            payload,
            parked: false,
            was_parked: false,
            in_flight: false,
            maybe_done: false,
            rewound: None,
        };
        let process = self
            .process(region)
            .expect("clients ask regions that are up");
        process.requests.insert(op, request);
        self.attempt(region, op);
        op
    }

    fn attempt(&mut self, region: RegionId, op: OpId) {
        let me = self.regions[region].name.clone();
        let Some(process) = self.process(region) else {
            return;
        };
        let Some(route) = process.route.clone() else {
            return self.finish_request(region, op, Outcome::NotDone);
        };
        let Some(request) = process.requests.get_mut(&op) else {
            return;
        };
        request.parked = false;
        request.in_flight = true;
        let (at, payload) = (request.at, request.payload.clone());
        if route.primary == me {
            match payload {
                Payload::Command(command) => {
                    self.command_arrives(region, Asker::Gateway(op), at, command)
                }
                Payload::Read(from) => {
                    let page = self.read_events(region, at, from.map(|from| Sequence(from.1)));
                    self.events_answered_request(region, op, page);
                }
            }
            return;
        }
        let body = match payload {
            Payload::Command(command) => Asking::Call(Box::new(Call::Command {
                at,
                command: Command::clone(&command),
            })),
            Payload::Read(from) => Asking::Read {
                at,
                from: from.map(|from| Sequence(from.1)),
            },
        };
        let call = self.new_call();
        if !self.send(
            region,
            Wire::Call {
                call,
                op: Some(op),
                body,
            },
        ) {
            return self.park(region, op);
        }
        let life = self.regions[region].life;
        let seat = self.seat(region).expect("it sends");
        seat.calls.insert(call, Waiting::Gateway(op));
        let late = Happening::CallTimedOut {
            node: region,
            life,
            call,
        };
        self.after(REMOTE_TIMEOUT_MS, late);
    }

    pub(super) fn engine_answered_request(
        &mut self,
        region: RegionId,
        op: OpId,
        result: Result<Answer, Refusal>,
    ) {
        let Some(request) = self
            .process(region)
            .and_then(|process| process.requests.get_mut(&op))
        else {
            return;
        };
        request.in_flight = false;
        let repeatable =
            matches!(&request.payload, Payload::Command(command) if repeatable(command));
        match result {
            Ok(Answer::Reply(reply)) => {
                let Some(open) = self.ops.get(&op) else {
                    return;
                };
                let outcome = match super::replies::got(&open.asked, reply) {
                    Some(got) => Outcome::Acked(self.faulty_answer(op, got)),
                    None => Outcome::Unknown,
                };
                self.finish_request(region, op, outcome);
            }
            Ok(_) | Err(Refusal::Step(_)) => self.finish_request(region, op, Outcome::Unknown),
            Err(Refusal::Reject(reject)) => {
                self.finish_request(region, op, Outcome::Rejected(reject.code))
            }
            Err(Refusal::NotPrimary { .. } | Refusal::FailingOver | Refusal::NoLease) => {
                self.park(region, op)
            }
            Err(Refusal::Unavailable(_)) => self.not_done(region, op),
            Err(Refusal::OutcomeUnknown(_)) if repeatable => self.park_unknown(region, op),
            Err(Refusal::OutcomeUnknown(_)) => self.finish_request(region, op, Outcome::Unknown),
        }
    }

    pub(super) fn events_answered_request(
        &mut self,
        region: RegionId,
        op: OpId,
        page: Result<Page, String>,
    ) {
        match page {
            Ok(page) => self.page_found(region, op, page),
            Err(_) => self.park(region, op),
        }
    }

    /// A consumer that read what was lost is put back, and reads again.
    fn page_found(&mut self, region: RegionId, op: OpId, page: Page) {
        let forgets = self.fault == Some(Fault::SkipRewind);
        let Some(process) = self.process(region) else {
            return;
        };
        let Some(request) = process.requests.get_mut(&op) else {
            return;
        };
        let stand = match request.payload {
            Payload::Read(stand) => stand.filter(|_| !forgets),
            Payload::Command(_) => None,
        };
        let at = request.at;
        match stand.map(|stand| (stand, put(&process.seat.view, at, stand, page.epoch))) {
            Some((_, Put::Unknown)) => return self.park(region, op),
            Some((stand, Put::Back(to))) => {
                request.rewound = Some((Sequence(stand.1), to));
                request.payload = Payload::Read(Some((page.epoch, to.0)));
                return self.attempt(region, op);
            }
            Some((_, Put::There)) | None => {}
        }
        let got = Got::Events {
            events: page.events,
            next: page.next,
            epoch: page.epoch,
            rewound: request.rewound,
        };
        let got = self.faulty_answer(op, got);
        self.finish_request(region, op, Outcome::Acked(got));
    }

    /// The link broke under a call, or it took too long.
    pub(super) fn link_failed_request(&mut self, region: RegionId, op: OpId) {
        let Some(request) = self
            .process(region)
            .and_then(|process| process.requests.get_mut(&op))
        else {
            return;
        };
        request.in_flight = false;
        match &request.payload {
            Payload::Command(command) if !repeatable(command) => {
                self.finish_request(region, op, Outcome::Unknown)
            }
            Payload::Command(_) => self.park_unknown(region, op),
            Payload::Read(_) => self.park(region, op),
        }
    }

    fn park_unknown(&mut self, region: RegionId, op: OpId) {
        if let Some(request) = self
            .process(region)
            .and_then(|process| process.requests.get_mut(&op))
        {
            request.maybe_done = true;
        }
        self.park(region, op);
    }

    fn park(&mut self, region: RegionId, op: OpId) {
        let life = self.regions[region].life;
        let Some(process) = self.process(region) else {
            return;
        };
        let Some(request) = process.requests.get_mut(&op) else {
            return;
        };
        request.in_flight = false;
        request.parked = true;
        let first = !std::mem::replace(&mut request.was_parked, true);
        process.parked += u64::from(first);
        if first {
            self.after(
                limits::PARK_MS_MAX as i64,
                Happening::ParkingEnds { region, life, op },
            );
        }
        self.after(LOOK_AGAIN_MS, Happening::LookAgain { region, life, op });
    }

    pub(super) fn look_again(&mut self, region: RegionId, life: u64, op: OpId) {
        let Some(process) = self.living(region, life) else {
            return;
        };
        if process
            .requests
            .get(&op)
            .is_some_and(|request| request.parked)
        {
            self.attempt(region, op);
        }
    }

    pub(super) fn parking_ends(&mut self, region: RegionId, life: u64, op: OpId) {
        let Some(process) = self.living(region, life) else {
            return;
        };
        match process.requests.get(&op) {
            Some(request) if request.parked => self.not_done(region, op),
            // An attempt that is under way is waited for.
            Some(_) => self.after(LOOK_AGAIN_MS, Happening::ParkingEnds { region, life, op }),
            None => {}
        }
    }

    /// Routes changed: everybody who waits tries again at once.
    pub(super) fn wake_parked(&mut self, region: RegionId) {
        let Some(process) = self.process(region) else {
            return;
        };
        let parked: Vec<OpId> = process
            .requests
            .iter()
            .filter(|(_, r)| r.parked)
            .map(|(op, _)| *op)
            .collect();
        for op in parked {
            self.attempt(region, op);
        }
    }

    fn not_done(&mut self, region: RegionId, op: OpId) {
        let request = self
            .process(region)
            .and_then(|process| process.requests.get(&op));
        let outcome = if request.is_some_and(|request| request.maybe_done) {
            Outcome::Unknown
        } else {
            Outcome::NotDone
        };
        self.finish_request(region, op, outcome);
    }

    fn finish_request(&mut self, region: RegionId, op: OpId, outcome: Outcome) {
        if self
            .process(region)
            .and_then(|process| process.requests.remove(&op))
            .is_some()
        {
            self.completed(op, outcome);
        }
    }

    /// The gateway died with the question: only the client knows that it asked.
    pub(super) fn client_left_alone(&mut self, op: OpId, _request: &Request) {
        self.completed(op, Outcome::Unknown);
    }

    /// The gateway has been silent for long: the client asks elsewhere from now on. The question may still be answered.
    pub(super) fn client_gives_up(&mut self, region: RegionId, op: OpId) {
        if self.awake(region) {
            return;
        }
        let Some(open) = self.ops.get_mut(&op).filter(|open| !open.given_up) else {
            return;
        };
        open.given_up = true;
        let (client, asked) = (open.client, open.asked.clone());
        let outcome = Outcome::Unknown;
        self.record(Entry::Completed {
            op,
            outcome: outcome.clone(),
        });
        self.client_answered(client, asked, outcome);
    }

    fn completed(&mut self, op: OpId, outcome: Outcome) {
        self.last_answer = self.now;
        let Some(open) = self.ops.remove(&op).filter(|open| !open.given_up) else {
            return;
        };
        self.record(Entry::Completed {
            op,
            outcome: outcome.clone(),
        });
        self.client_answered(open.client, open.asked, outcome);
    }
}

/// As `region::router::repeatable`.
fn repeatable(command: &Command) -> bool {
    match command {
        Command::Registry(command) => {
            matches!(
                command,
                RegistryCommand::Get { .. }
                    | RegistryCommand::List { .. }
                    | RegistryCommand::Statistics
            )
        }
        Command::Session(_) => true,
        Command::Twin(command) => matches!(
            command,
            TwinCommand::Get { .. } | TwinCommand::DeviceGet { .. }
        ),
        Command::Consumer(
            ConsumerCommand::Get { .. }
            | ConsumerCommand::Commit { .. }
            | ConsumerCommand::Forget { .. },
        ) => true,
        Command::Telemetry(_) | Command::C2d(_) | Command::Feedback(_) => false,
    }
}
