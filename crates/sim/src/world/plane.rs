//! The control plane: one committed state that stands for the consensus of three voters, which each of them sees late. As
//! `region::plane` and the parts of `region::region` that follow it.

use super::World;
use super::event::{AfterBarrier, Asker, Happening, Life, Node, Submitter};
use crate::history::RegionId;
use control::failover::fence_stands;
use control::model::HubState;
use control::{Answer, Command, Request, State};
use region::engine::{self, Input, Refusal};
use std::sync::Arc;
use types::{Epoch, HubId, limits};

const SUBMIT_MS_MAX: i64 = 10_000;
pub const BARRIER_MS_MAX: i64 = 2000;
/// As `region::plane::RENEW_TIMEOUT`.
const RENEW_MS_MAX: i64 = 1500;
const RETRY_MS: i64 = 50;
/// Between two tries of a renewal that fails. As `region::lease`.
const RENEW_AGAIN_MS: i64 = limits::LEASE_RENEW_MS as i64 / 5;

pub struct Plane {
    /// Everything that was committed.
    pub state: Arc<State>,
    pub index: u64,
}

/// Something that waits until this member's copy has an entry.
pub struct Awaiting {
    index: u64,
    deadline: i64,
    then: AfterBarrier,
}

impl World {
    pub(super) fn submit(&mut self, from: Submitter, command: Command) {
        self.submissions += 1;
        let id = format!("r{}", self.submissions);
        let delay = self.rng.range(1, 2 * self.link.delay_ms + 5);
        let deadline = self.now + SUBMIT_MS_MAX;
        self.after(
            delay,
            Happening::Submitted {
                from,
                command: Box::new(command),
                deadline,
                id,
            },
        );
    }

    pub(super) fn submitted(
        &mut self,
        from: Submitter,
        command: Box<Command>,
        deadline: i64,
        id: String,
    ) {
        let (node, life) = from.node();
        // What is still in a process that died was never proposed.
        if self.life(node) != Some(life) {
            return;
        }
        let leader = self
            .working_leader()
            .filter(|leader| self.linked(node, *leader));
        let Some(leader) = leader else {
            if self.now < deadline {
                self.after(
                    RETRY_MS,
                    Happening::Submitted {
                        from,
                        command,
                        deadline,
                        id,
                    },
                );
            } else {
                self.plane_answers(from, None, 0);
            }
            return;
        };
        let request = Request {
            now: self.wall(node),
            by: format!("castling:{}", self.name_of(node)),
            id,
            command: *command,
            origin: Default::default(),
        };
        let answer = self.propose(leader, &request);
        let delay = if self.rng.chance(2) {
            2000
        } else {
            self.rng.range(0, self.link.delay_ms + 5)
        };
        let lost = delay == 2000;
        let index = self.plane.index;
        let answer = (!lost).then(|| Box::new(answer));
        self.after(
            delay,
            Happening::PlaneAnswers {
                to: from,
                answer,
                index,
            },
        );
    }

    /// An entry of the log, committed by this leader.
    fn propose(&mut self, leader: Node, request: &Request) -> Answer {
        let mut state = State::clone(&self.plane.state);
        let answer = state.apply(request);
        if self.rng.chance(5) {
            // A retry after a lost answer.
            let again = state.apply(request);
            assert_eq!(again, answer, "a request that comes twice has one answer");
        }
        thin(&mut state, &request.command);
        self.plane.state = Arc::new(state);
        self.plane.index += 1;
        self.entry_committed(leader);
        self.spread(leader);
        self.note_command(&request.command, &answer);
        answer
    }

    /// Every member's copy gets the new state in its own time.
    fn spread(&mut self, leader: Node) {
        for node in 0..super::voters::NODES {
            let Some(life) = self.life(node) else {
                continue;
            };
            let late = if node == leader {
                self.rng.range(0, 3)
            } else if self.rng.chance(5) {
                self.rng.range(200, 2000)
            } else {
                self.rng.range(1, 2 * self.link.delay_ms + 10)
            };
            let (index, state) = (self.plane.index, self.plane.state.clone());
            self.after(
                late,
                Happening::View {
                    node,
                    life,
                    index,
                    state,
                },
            );
        }
    }

    pub(super) fn plane_answers(&mut self, to: Submitter, answer: Option<Box<Answer>>, index: u64) {
        let (node, life) = to.node();
        if self.living_seat(node, life).is_none() {
            return;
        }
        if answer.is_some() && self.plane.index >= index {
            self.see_latest(node);
        }
        match to {
            Submitter::Driver { token, .. } => {
                self.driver_submitted(node, token, answer.map(|answer| *answer))
            }
            Submitter::Operator { operation, .. } => {
                self.failover_asked(&operation, answer.map(|answer| *answer))
            }
            Submitter::Nobody { .. } => {}
        }
    }

    /// A copy of the control plane's state arrives, if the leader reaches the member.
    pub(super) fn view(&mut self, node: Node, life: Life, index: u64, state: Arc<State>) {
        if self.living_seat(node, life).is_none() {
            return;
        }
        if !self.reaches_leader(node) {
            let again = Happening::View {
                node,
                life,
                index,
                state,
            };
            self.after(100, again);
            return;
        }
        self.copy_is(node, index, state);
    }

    fn copy_is(&mut self, node: Node, index: u64, state: Arc<State>) {
        self.log_reaches(node, index);
        let seat = self.seat(node).expect("the caller saw it");
        if seat.view_index >= index {
            return;
        }
        seat.view_index = index;
        seat.view = state;
        if node == super::voters::WITNESS {
            seat.trusted = true;
        }
        self.routes_follow(node);
        if self.seat(node).is_some_and(|seat| seat.trusted) {
            self.tell_roles(node);
        }
        self.go_on_awaiting(node);
        if let Some(life) = self.life(node) {
            self.after(0, Happening::Coordinate { node, life });
        }
    }

    fn see_latest(&mut self, node: Node) {
        let (index, state) = (self.plane.index, self.plane.state.clone());
        self.copy_is(node, index, state);
    }

    /// Reads the control plane before going on: the leader names the last entry, and this member waits until it has it.
    pub(super) fn barrier(&mut self, node: Node, patience_ms: i64, then: AfterBarrier) {
        let Some(life) = self.life(node) else { return };
        let delay = self.rng.range(1, self.link.delay_ms + 3);
        let deadline = self.now + patience_ms;
        self.after(
            delay,
            Happening::BarrierAsked {
                node,
                life,
                deadline,
                then,
            },
        );
    }

    pub(super) fn barrier_asked(
        &mut self,
        node: Node,
        life: Life,
        deadline: i64,
        then: AfterBarrier,
    ) {
        if self.living_seat(node, life).is_none() {
            return;
        }
        let leader = self
            .working_leader()
            .filter(|leader| self.linked(node, *leader));
        let Some(leader) = leader else {
            if self.now >= deadline {
                return self.barrier_failed(node, then);
            }
            let again = Happening::BarrierAsked {
                node,
                life,
                deadline,
                then,
            };
            self.after(RETRY_MS, again);
            return;
        };
        if matches!(then, AfterBarrier::Renewed { .. }) {
            self.leader_hears(leader, node);
        }
        let index = self.plane.index;
        let delay = self.rng.range(1, self.link.delay_ms + 3);
        self.after(
            delay,
            Happening::BarrierAnswered {
                node,
                life,
                deadline,
                index,
                then,
            },
        );
    }

    pub(super) fn barrier_answered(
        &mut self,
        node: Node,
        life: Life,
        deadline: i64,
        index: u64,
        then: AfterBarrier,
    ) {
        if self.living_seat(node, life).is_none() {
            return;
        }
        if self.now >= deadline || !self.reaches_leader(node) {
            return self.barrier_failed(node, then);
        }
        let waits = Awaiting {
            index,
            deadline,
            then,
        };
        self.seat(node).expect("it lives").awaiting.push(waits);
        self.go_on_awaiting(node);
    }

    /// Whatever waited for an entry that is here now.
    fn go_on_awaiting(&mut self, node: Node) {
        let Some(seat) = self.seat(node) else { return };
        let have = seat.view_index;
        let passed: Vec<Awaiting> = seat
            .awaiting
            .extract_if(.., |waits| waits.index <= have)
            .collect();
        for waits in passed {
            self.barrier_passed(node, waits.then);
        }
    }

    pub(super) fn expire_awaiting(&mut self, node: Node) {
        let now = self.now;
        let Some(seat) = self.seat(node) else { return };
        let late: Vec<Awaiting> = seat
            .awaiting
            .extract_if(.., |waits| waits.deadline <= now)
            .collect();
        for waits in late {
            self.barrier_failed(node, waits.then);
        }
    }

    fn barrier_passed(&mut self, region: RegionId, then: AfterBarrier) {
        match then {
            AfterBarrier::Renewed { asked } => self.lease_renewed(region, asked),
            AfterBarrier::Fence {
                asker,
                hub,
                epoch,
                operation,
            } => self.fence_if_it_stands(region, asker, (hub, epoch), &operation),
            AfterBarrier::Unfence {
                asker,
                hub,
                epoch,
                operation,
            } => self.unfence_if_it_may(region, asker, (hub, epoch), &operation),
            AfterBarrier::LiftFences => self.look_for_stale_fences(region),
        }
    }

    fn barrier_failed(&mut self, region: RegionId, then: AfterBarrier) {
        match then {
            AfterBarrier::Renewed { .. } => {
                let life = self.regions[region].life;
                self.after(RENEW_AGAIN_MS, Happening::Renew { region, life });
            }
            AfterBarrier::Fence { asker, .. } | AfterBarrier::Unfence { asker, .. } => {
                let why = "the control plane cannot be read".into();
                self.answered(region, asker, Err(Refusal::Step(why)));
            }
            AfterBarrier::LiftFences => {}
        }
    }

    /// As `region::lease::keep`.
    pub(super) fn renew(&mut self, region: RegionId, life: Life) {
        if self.living(region, life).is_none() {
            return;
        }
        let asked = self.monotonic(region);
        self.barrier(region, RENEW_MS_MAX, AfterBarrier::Renewed { asked });
    }

    fn lease_renewed(&mut self, region: RegionId, asked: u64) {
        let took = self.monotonic(region).saturating_sub(asked) as i64;
        self.tell_roles(region);
        let life = self.regions[region].life;
        let process = self.process(region).expect("its seat is there");
        if !std::mem::replace(&mut process.seat.trusted, true) {
            self.disturbed();
        }
        let until = asked + limits::LEASE_MS;
        self.tell(region, Input::Lease { until });
        self.process(region).expect("it was told").lease_until = until;
        self.tell_words(region);
        let next = (limits::LEASE_RENEW_MS as i64 - took).max(1);
        self.after(next, Happening::Renew { region, life });
    }

    fn fence_if_it_stands(
        &mut self,
        region: RegionId,
        asker: Asker,
        (hub, epoch): (HubId, Epoch),
        operation: &str,
    ) {
        let view = self.seat(region).expect("it lives").view.clone();
        if fence_stands(&view, hub, operation, epoch) {
            self.ask(region, asker, |reply| Input::Fence { hub, epoch, reply });
        } else {
            self.answered(
                region,
                asker,
                Err(Refusal::Step("the operation was rolled back".into())),
            );
        }
    }

    /// As `Region::may_lift`: nothing else runs on the hub, and this does not go forward.
    fn unfence_if_it_may(
        &mut self,
        region: RegionId,
        asker: Asker,
        (hub, epoch): (HubId, Epoch),
        operation: &str,
    ) {
        let state = &self.seat_of(region).expect("it lives").view;
        let running = state.hub(hub).and_then(|hub| hub.operation.as_ref());
        let may = running.is_none_or(|id| {
            let op = state.operations.get(id);
            id == operation && op.is_none_or(|op| op.is_rolling_back() || !op.is_running())
        });
        if may {
            self.ask(region, asker, |reply| Input::Unfence { hub, epoch, reply });
        } else {
            let why = "its roll-back is not under way".into();
            self.answered(region, asker, Err(Refusal::Step(why)));
        }
    }

    /// As `Region::lift_stale_fences`.
    fn look_for_stale_fences(&mut self, region: RegionId) {
        let seat = self.seat_of(region).expect("it lives");
        let Some(found) = seat.view.hub(super::HUB) else {
            return;
        };
        let settled = found.primary == self.regions[region].name
            && found.state == HubState::Active
            && found.operation.is_none();
        if settled {
            let (hub, epoch) = (found.id, found.epoch);
            self.ask(region, Asker::Fences { hub, epoch }, |reply| Input::Facts {
                hub,
                reply,
            });
        }
    }

    pub(super) fn fences_found(
        &mut self,
        region: RegionId,
        hub: HubId,
        epoch: Epoch,
        result: Result<engine::Answer, Refusal>,
    ) {
        let Ok(engine::Answer::Facts(partitions)) = result else {
            return;
        };
        if partitions
            .iter()
            .any(|partition| partition.fenced && partition.epoch == epoch)
        {
            self.record(crate::history::Entry::Trouble(format!(
                "region {region} lifts a stale fence"
            )));
            self.ask(region, Asker::Lift { hub, epoch }, |reply| Input::Unfence {
                hub,
                epoch,
                reply,
            });
        }
    }

    pub(super) fn watch_fences(&mut self, region: RegionId, life: Life) {
        let Some(process) = self.living(region, life) else {
            return;
        };
        if process.seat.trusted {
            self.barrier(region, BARRIER_MS_MAX, AfterBarrier::LiftFences);
        }
        self.after(2000, Happening::WatchFences { region, life });
    }
}

/// Lets go of what nobody reads any more of failovers that have ended: every region's copy is a copy, and copies cost time.
fn thin(state: &mut State, command: &Command) {
    let Command::StartFailover { .. } = command else {
        return;
    };
    for operation in state
        .operations
        .values_mut()
        .filter(|operation| !operation.is_running())
    {
        operation.report = None;
        for step in &mut operation.steps {
            step.detail = serde_json::Value::Null;
        }
    }
}
