//! The coordinator: next action → ask a region → record. Parallel to `region::coordinator`, without sockets to count.

use super::World;
use super::event::{Happening, Life, Node, Submitter};
use super::gather::{Gathered, Question};
use super::voters::WITNESS;
use crate::fault::Fault;
use crate::history::RegionId;
use control::details::{
    CommitDetail, Handover as RecordedHandover, HandoverDetail, LeaseDetail, OpenDetail,
    ReverseDetail, UnfenceDetail, WarmDetail, read, record,
};
use control::divergence::Position;
use control::failover::{Action, Timings, next_action, warm_enough};
use control::model::OperationKind;
use control::report::{ReportFacts, report};
use control::{Command, Hub, Operation, StepName};
use region::engine::{Answer, Handover, HubRole, Role};
use region::lease::LeaseTimes;
use region::peer::{Call, Facts};
use std::sync::Arc;
use types::{Lsn, PartitionId, RegionName, Sequence, UnixMillis};

const AGAIN_MS: i64 = 20;
/// As `region::coordinator`: a deputy goes on with what nobody moved for so long.
const STALLED_MS: i64 = 2500;
const STEP_TIMEOUT_MS: i64 = 2000;
const FACTS_TIMEOUT_MS: i64 = 1000;
const CHECK_TIMEOUT_MS: i64 = 2000;
const REVERSE_MS_MAX: i64 = 10_000;

/// What a member's driver waits for. One hub, so there is one operation at a time.
#[derive(Default)]
pub struct Driver {
    tokens: u64,
    waits: Option<(u64, Awaited)>,
    /// The forced failover whose lease step this member's copy has, and since when on its monotonic clock.
    suspended: Option<(String, u64)>,
    /// The operation with its number of steps, and since when that has not changed.
    stalled: Option<((String, usize), i64)>,
}

/// What goes on when the answer is there: the record as it was when it was asked.
pub enum Awaited {
    Check(Box<(Operation, Hub)>),
    Warm(Box<(Operation, Hub)>),
    Activate(Box<(Operation, Hub)>),
    Reverse(Box<(Operation, Hub)>),
    Step(Box<(Operation, Hub)>, StepName),
    /// Whether the region that is about to lead can.
    Commit(Box<(Operation, Hub)>),
    /// Whether the old primary of a forced failover follows again.
    Return(Box<Hub>),
    Submit,
    Sleep,
}

impl World {
    /// Goes on with the running operation, if this member leads and waits for nothing.
    pub(super) fn coordinate(&mut self, node: Node, life: Life) {
        let Some(seat) = self.living_seat(node, life) else {
            return;
        };
        if !seat.trusted || seat.driver.waits.is_some() {
            return;
        }
        let found = seat.view.running_operations().next().cloned();
        let (first, deputy) = (self.drives(node), self.may_drive(node));
        if !first && !deputy {
            return;
        }
        let Some(operation) = found else {
            return self.watch_return(node);
        };
        if !self.moves_no_more(node, &operation) && !first {
            return;
        }
        let seat = self.seat_of(node).expect("it lives");
        let Some(hub) = operation.hub.and_then(|hub| seat.view.hub(hub)).cloned() else {
            return;
        };
        match operation.kind {
            OperationKind::Failover { .. } | OperationKind::Forced { .. } => {
                self.failover(node, operation, hub)
            }
            _ => {
                let primary = self.region_id(&hub.primary);
                let hub_id = hub.id;
                let token = self.wait_for(node, Awaited::Activate(Box::new((operation, hub))));
                self.gather(
                    node,
                    hub_id,
                    &[primary],
                    FACTS_TIMEOUT_MS,
                    Gathered::Driver { token },
                );
            }
        }
    }

    pub(super) fn wait_for(&mut self, node: Node, awaited: Awaited) -> u64 {
        let driver = &mut self.seat(node).expect("its driver runs").driver;
        driver.tokens += 1;
        driver.waits = Some((driver.tokens, awaited));
        driver.tokens
    }

    /// What the driver waited for with this token; `None`: it waits for something else by now.
    fn waited(&mut self, node: Node, token: u64) -> Option<Awaited> {
        let driver = &mut self.seat(node)?.driver;
        driver
            .waits
            .take_if(|(waits, _)| *waits == token)
            .map(|(_, awaited)| awaited)
    }

    pub(super) fn driver_records(&mut self, node: Node, command: Command) {
        let token = self.wait_for(node, Awaited::Submit);
        let life = self.life(node).expect("its driver runs");
        self.submit(Submitter::Driver { node, life, token }, command);
    }

    fn driver_sleeps(&mut self, node: Node) {
        self.driver_sleeps_for(node, AGAIN_MS);
    }

    pub(super) fn driver_sleeps_for(&mut self, node: Node, ms: i64) {
        let token = self.wait_for(node, Awaited::Sleep);
        let life = self.life(node).expect("its driver runs");
        self.after(ms, Happening::DriverWakes { node, life, token });
    }

    pub(super) fn driver_wakes(&mut self, node: Node, life: Life, token: u64) {
        if self.living_seat(node, life).is_some() && self.waited(node, token).is_some() {
            self.coordinate(node, life);
        }
    }

    pub(super) fn driver_submitted(
        &mut self,
        node: Node,
        token: u64,
        answer: Option<control::Answer>,
    ) {
        if self.waited(node, token).is_none() {
            return;
        }
        if matches!(answer, Some(control::Answer::Refused(_))) {
            self.driver_sleeps(node);
        } else if let Some(life) = self.life(node) {
            self.after(0, Happening::Coordinate { node, life });
        }
    }

    fn ended(
        &mut self,
        node: Node,
        operation: &Operation,
        step: StepName,
        detail: serde_json::Value,
    ) {
        let operation = operation.id.clone();
        let command = Command::StepEnded {
            operation,
            step,
            detail,
        };
        self.driver_records(node, command);
    }

    fn failover(&mut self, node: Node, operation: Operation, hub: Hub) {
        let time = self.seat(node).expect("its driver runs").view.time;
        let now = self.wall(node).max(time);
        let action = next_action(&operation, &hub, now, &Timings::default());
        if let (true, Some(step)) = (action.needs_start(&operation), action.step()) {
            let operation = operation.id.clone();
            return self.driver_records(node, Command::StepStarted { operation, step });
        }
        if operation.switch().is_none() {
            return self.driver_sleeps(node);
        }
        match action {
            Action::GatherFacts | Action::Warm | Action::Reverse => {
                self.failover_looks(node, action, operation, hub)
            }
            Action::Fence | Action::CatchUp | Action::Open | Action::Unfence => {
                self.failover_asks(node, action, operation, hub)
            }
            Action::AwaitLease => self.await_lease(node, &operation),
            Action::Commit if operation.is_forced() => {
                self.look_before_commit(node, operation, hub)
            }
            Action::Commit | Action::RollBack { .. } | Action::Finish { .. } => {
                self.failover_records(node, action, &operation, &hub)
            }
            Action::Wait { .. } => self.driver_sleeps(node),
        }
    }

    /// Actions that begin with regions' facts.
    fn failover_looks(&mut self, node: Node, action: Action, operation: Operation, hub: Hub) {
        let (from, to) = self.sides(&operation);
        let hub_id = hub.id;
        if action == Action::Warm && self.fault == Some(Fault::OpenWithoutCatchUp) {
            // So that there is something to catch up with.
            self.link.stalled_until[to] = self.now + 600;
            let detail = record(&WarmDetail::default());
            return self.ended(node, &operation, StepName::Warm, detail);
        }
        let known = Box::new((operation, hub));
        let (awaited, whom, timeout_ms) = match action {
            Action::GatherFacts => (Awaited::Check(known), vec![from, to], CHECK_TIMEOUT_MS),
            Action::Warm => (Awaited::Warm(known), vec![from], FACTS_TIMEOUT_MS),
            _ => (Awaited::Reverse(known), vec![to], FACTS_TIMEOUT_MS),
        };
        let token = self.wait_for(node, awaited);
        self.gather(node, hub_id, &whom, timeout_ms, Gathered::Driver { token });
    }

    /// Actions that a region performs.
    fn failover_asks(&mut self, node: Node, action: Action, operation: Operation, hub: Hub) {
        let switch = operation.switch().expect("the caller saw it");
        let (epoch, peer, forced) = (switch.epoch, switch.from.clone(), switch.forced);
        let (from, to) = self.sides(&operation);
        let hub_id = hub.id;
        match (action, self.fault) {
            (Action::Fence, Some(Fault::SkipFence)) => {
                self.pretend_fence(node, from, &operation, &hub)
            }
            (Action::Open, Some(Fault::NeverFinish)) => self.driver_sleeps(node),
            (Action::Unfence, Some(Fault::NeverUnfence)) => self.driver_sleeps(node),
            (Action::Fence, _) => {
                let call = Call::Fence {
                    hub: hub_id,
                    epoch,
                    operation: operation.id.clone(),
                };
                self.step(node, from, operation, hub, StepName::Fence, call);
            }
            (Action::CatchUp, _) => self.catch_up(node, to, operation, hub),
            (Action::Unfence, _) => {
                let call = Call::Unfence {
                    hub: hub_id,
                    epoch,
                    operation: operation.id.clone(),
                };
                self.step(node, from, operation, hub, StepName::RollBack, call);
            }
            _ => {
                let role = HubRole {
                    settings: Arc::new(hub.settings()),
                    role: Role::Primary,
                    epoch: epoch.next(),
                    peer: Some(peer),
                    suspended: false,
                    alone: forced,
                };
                let call = Call::Open { role, forced };
                self.step(node, to, operation, hub, StepName::Open, call);
            }
        }
    }

    /// Actions that are only recorded.
    fn failover_records(&mut self, node: Node, action: Action, operation: &Operation, hub: &Hub) {
        let switch = operation.switch().expect("the caller saw it");
        let id = operation.id.clone();
        let command = match action {
            Action::RollBack { code, why } => Command::RollBack {
                operation: id,
                code,
                why,
            },
            Action::Finish { error } => {
                let facts = ReportFacts {
                    at: self.wall(node),
                    devices: None,
                };
                Command::Finish {
                    operation: id,
                    report: Some(report(operation, hub, &facts)),
                    error,
                }
            }
            _ => Command::CommitFailover {
                operation: id,
                detail: record(&CommitDetail {
                    epoch: switch.epoch.next(),
                    primary: switch.to.clone(),
                }),
                caught_up: None,
            },
        };
        self.driver_records(node, command);
    }

    /// The region that is to lead was checked before the lease was waited out: it is asked again.
    fn look_before_commit(&mut self, node: Node, operation: Operation, hub: Hub) {
        let (_, to) = self.sides(&operation);
        let hub_id = hub.id;
        let token = self.wait_for(node, Awaited::Commit(Box::new((operation, hub))));
        let then = Gathered::Driver { token };
        self.gather(node, hub_id, &[to], FACTS_TIMEOUT_MS, then);
    }

    fn looked_before_commit(
        &mut self,
        node: Node,
        operation: &Operation,
        hub: &Hub,
        found: &[Option<Facts>],
    ) {
        let facts = found.first().and_then(Option::as_ref);
        let unable = facts.is_some_and(|facts| {
            let mut partitions = facts.partitions.iter();
            partitions.any(|p| p.returning.is_some() || p.broken.is_some())
        });
        let action = if unable {
            Action::RollBack {
                code: "SecondaryNotReady".into(),
                why: "it cannot lead now: it has not taken back everything yet".into(),
            }
        } else {
            Action::Commit
        };
        self.failover_records(node, action, operation, hub);
    }

    /// The old primary's lease is waited out from the moment at which this member's own copy has the lease step, on its
    /// monotonic clock; whoever goes on after another waits the whole time again.
    fn await_lease(&mut self, node: Node, operation: &Operation) {
        let now = self.monotonic(node);
        let wait = match self.fault {
            Some(Fault::ShortWait) => 0,
            _ => LeaseTimes::default().wait_ms(),
        };
        let driver = &mut self.seat(node).expect("its driver runs").driver;
        let since = match &driver.suspended {
            Some((known, since)) if *known == operation.id => *since,
            _ => {
                driver.suspended = Some((operation.id.clone(), now));
                now
            }
        };
        let waited = now.saturating_sub(since);
        if waited < wait {
            return self.driver_sleeps_for(node, ((wait - waited) as i64).clamp(1, 100));
        }
        let detail = LeaseDetail {
            waited_ms: waited as i64,
            confirmed: false,
        };
        self.ended(node, operation, StepName::Lease, record(&detail));
    }

    /// As `Plane::drives`: the leader, or for a witness that leads the first region that has a link to this one.
    pub(super) fn drives(&self, node: Node) -> bool {
        match self.seat_of(node).and_then(|seat| seat.leader) {
            Some(WITNESS) => node == 0 || node == 1 && self.link.known[1].is_none(),
            leader => leader == Some(node),
        }
    }

    /// As `Plane::may_drive`: a witness leads, and is heard here.
    fn may_drive(&self, node: Node) -> bool {
        let leader = self.seat_of(node).and_then(|seat| seat.leader);
        leader == Some(WITNESS) && node != WITNESS && self.linked_directly(node, WITNESS)
    }

    /// As `region::coordinator::Stalled`: nobody has moved the operation for a while.
    fn moves_no_more(&mut self, node: Node, operation: &Operation) -> bool {
        let now = self.now;
        let seen = (operation.id.clone(), operation.steps.len());
        let stalled = &mut self.seat(node).expect("it lives").driver.stalled;
        match stalled {
            Some((known, since)) if *known == seen => now - *since >= STALLED_MS,
            _ => {
                *stalled = Some((seen, now));
                false
            }
        }
    }

    /// The old and the new primary.
    fn sides(&self, operation: &Operation) -> (RegionId, RegionId) {
        let switch = operation.switch().expect("the caller saw it");
        (self.region_id(switch.from), self.region_id(switch.to))
    }

    fn step(
        &mut self,
        region: Node,
        of: RegionId,
        operation: Operation,
        hub: Hub,
        step: StepName,
        call: Call,
    ) {
        let token = self.wait_for(region, Awaited::Step(Box::new((operation, hub)), step));
        self.call_step(region, of, call, token, STEP_TIMEOUT_MS);
    }

    fn catch_up(&mut self, region: Node, to: RegionId, operation: Operation, hub: Hub) {
        let Some(fenced) = read::<HandoverDetail>(&operation, StepName::Fence) else {
            return self.driver_sleeps(region);
        };
        if matches!(
            self.fault,
            Some(Fault::OpenWithoutCatchUp | Fault::SkipFence)
        ) {
            return self.ended(region, &operation, StepName::CatchUp, record(&fenced));
        }
        let handovers: Option<Vec<Handover>> = fenced.partitions.iter().map(restored).collect();
        let Some(handovers) = handovers else {
            return self.driver_sleeps(region);
        };
        let hub_id = hub.id;
        self.step(
            region,
            to,
            operation,
            hub,
            StepName::CatchUp,
            Call::CatchUp {
                hub: hub_id,
                handovers,
            },
        );
    }

    pub(super) fn driver_has_answer(
        &mut self,
        region: Node,
        token: u64,
        answer: Result<Answer, String>,
    ) {
        let Some(Awaited::Step(known, step)) = self.waited(region, token) else {
            return;
        };
        let (operation, hub) = *known;
        let detail = match (step, answer) {
            (StepName::Fence, Ok(Answer::Fenced(handovers)))
            | (StepName::CatchUp, Ok(Answer::CaughtUp(handovers))) => record(&HandoverDetail {
                partitions: handovers.iter().map(recorded).collect(),
            }),
            (StepName::Open, Ok(Answer::Opened(handovers))) => record(&OpenDetail {
                opened: handovers.iter().map(position).collect(),
                ..OpenDetail::default()
            }),
            (StepName::RollBack, Ok(Answer::Opened(_))) => record(&UnfenceDetail {
                partitions_released: hub.partition_count,
            }),
            _ => return self.driver_sleeps(region),
        };
        self.ended(region, &operation, step, detail);
    }

    pub(super) fn driver_has_facts(
        &mut self,
        region: Node,
        token: u64,
        asked: UnixMillis,
        found: Vec<Option<Facts>>,
    ) {
        match self.waited(region, token) {
            Some(Awaited::Check(known)) => {
                let (operation, hub) = *known;
                let Some(to) = operation.switch().map(|switch| switch.to.clone()) else {
                    return;
                };
                let accept = match &operation.kind {
                    OperationKind::Forced { accept, .. } => Some(accept),
                    _ => None,
                };
                let question = Question {
                    hub: &hub,
                    to: &to,
                    asked,
                    found: &found,
                    operation: Some(&operation.id),
                    forced: accept.is_some(),
                    accept,
                };
                match self.evaluate(region, &question) {
                    Some(report) => {
                        self.ended(region, &operation, StepName::Check, record(&report))
                    }
                    None => self.driver_sleeps(region),
                }
            }
            Some(Awaited::Warm(known)) => self.warmed(region, &known.0, &found),
            Some(Awaited::Activate(known)) => {
                let (operation, hub) = *known;
                let facts = found.into_iter().next().flatten();
                let open = facts.map_or(0, |f| {
                    f.partitions
                        .iter()
                        .filter(|p| p.open && p.epoch == hub.epoch)
                        .count()
                });
                if open == usize::from(hub.partition_count) {
                    self.driver_records(
                        region,
                        Command::Finish {
                            operation: operation.id,
                            report: None,
                            error: None,
                        },
                    );
                } else {
                    self.driver_sleeps(region);
                }
            }
            Some(Awaited::Reverse(known)) => self.reversed(region, &known.0, &known.1, &found),
            Some(Awaited::Commit(known)) => {
                self.looked_before_commit(region, &known.0, &known.1, &found)
            }
            Some(Awaited::Return(hub)) => self.looked_for_return(region, &hub, &found),
            Some(Awaited::Step(..) | Awaited::Submit | Awaited::Sleep) | None => {}
        }
    }

    fn warmed(&mut self, region: Node, operation: &Operation, found: &[Option<Facts>]) {
        let Some(facts) = found.first().and_then(Option::as_ref) else {
            return self.driver_sleeps(region);
        };
        let lag_records = facts.partitions.iter().map(|p| p.lag_records).sum();
        let lag_ms = facts
            .partitions
            .iter()
            .map(|p| p.lag_ms)
            .max()
            .unwrap_or_default();
        let rtt = facts
            .links
            .iter()
            .find_map(|(_, _, rtt)| *rtt)
            .unwrap_or_default();
        let followed = facts.partitions.iter().all(|p| p.follower_connected);
        if !followed || !warm_enough(lag_records, lag_ms, rtt as i64) {
            return self.driver_sleeps(region);
        }
        self.ended(
            region,
            operation,
            StepName::Warm,
            record(&WarmDetail {
                lag_records,
                lag_ms,
            }),
        );
    }

    fn reversed(
        &mut self,
        region: Node,
        operation: &Operation,
        hub: &Hub,
        found: &[Option<Facts>],
    ) {
        let opened = operation
            .step(StepName::Open)
            .and_then(|step| step.ended)
            .unwrap_or(operation.started);
        let waited = self.wall(region).since(opened);
        let facts = found.first().and_then(Option::as_ref);
        let following = facts.map_or(0, |f| {
            f.partitions.iter().filter(|p| p.follower_connected).count()
        });
        if following < usize::from(hub.partition_count) && waited < REVERSE_MS_MAX {
            return self.driver_sleeps(region);
        }
        self.ended(
            region,
            operation,
            StepName::Reverse,
            record(&ReverseDetail {
                partitions_following: following as u16,
            }),
        );
    }

    /// [`Fault::SkipFence`]: where the partitions happen to be, without stopping them.
    fn pretend_fence(&mut self, region: Node, from: RegionId, operation: &Operation, hub: &Hub) {
        let Some(process) = &self.regions[from].process else {
            return self.driver_sleeps(region);
        };
        let heads = self
            .partitions
            .iter()
            .filter_map(|at| Some((at.partition, process.engine.head(*at)?)));
        let partitions = heads
            .map(|(partition, head)| {
                recorded(&Handover {
                    partition,
                    lsn: head.lsn,
                    crc: head.crc,
                    next_sequence: head.next_sequence,
                    chain: head.chain,
                    state: format!("{:032x}", head.state),
                })
            })
            .collect::<Vec<_>>();
        let detail = record(&HandoverDetail {
            partitions: partitions.clone(),
        });
        debug_assert_eq!(partitions.len(), usize::from(hub.partition_count));
        self.ended(region, operation, StepName::Fence, detail);
    }

    pub(super) fn region_id(&self, name: &RegionName) -> RegionId {
        usize::from(self.regions[0].name != *name)
    }
}

fn position(handover: &Handover) -> Position {
    Position {
        partition: handover.partition,
        lsn: handover.lsn,
        next_sequence: handover.next_sequence,
    }
}

fn recorded(handover: &Handover) -> RecordedHandover {
    let digest = format!(
        "{}-{:016x}-{:08x}-{}",
        handover.state, handover.chain, handover.crc, handover.next_sequence
    );
    RecordedHandover {
        partition: handover.partition,
        end: handover.lsn,
        digest,
    }
}

fn restored(recorded: &RecordedHandover) -> Option<Handover> {
    let mut parts = recorded.digest.split('-');
    Some(Handover {
        partition: PartitionId(recorded.partition.0),
        lsn: Lsn(recorded.end.0),
        state: parts.next()?.to_owned(),
        chain: u64::from_str_radix(parts.next()?, 16).ok()?,
        crc: u32::from_str_radix(parts.next()?, 16).ok()?,
        next_sequence: Sequence(parts.next()?.parse().ok()?),
    })
}
