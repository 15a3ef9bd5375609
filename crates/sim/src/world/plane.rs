//! The control plane: one state that stands for the consensus, which each region sees late. As `region::plane` and the parts of
//! `region::region` that follow it.

use super::World;
use super::clients::group_of;
use super::event::{AfterBarrier, Asker, Happening, Life, Submitter};
use super::gateway::Route;
use crate::history::{Entry, RegionId};
use control::failover::fence_stands;
use control::model::{HubState, OperationStatus};
use control::{Answer, Command, Request, State};
use region::engine::{self, HubRole, Input, Refusal, Role};
use std::sync::Arc;
use types::{Epoch, HubId, RegionName};

const SUBMIT_MS_MAX: i64 = 5000;
const BARRIER_MS_MAX: i64 = 2000;

pub struct Plane {
    pub state: Arc<State>,
    pub index: u64,
    pub leader: Option<RegionId>,
    /// Regions that cannot reach the majority.
    pub cut: [bool; 2],
}

impl Plane {
    fn reached_by(&self, region: RegionId) -> bool {
        self.leader.is_some() && !self.cut[region]
    }
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
        let (region, _) = from.region();
        if !self.plane.reached_by(region) {
            if self.now < deadline {
                self.after(
                    50,
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
        }
        let request = Request {
            now: self.regions[region].clock.at(self.now),
            by: format!("castling:{}", self.regions[region].name),
            id,
            command: *command,
        };
        let mut state = State::clone(&self.plane.state);
        let answer = state.apply(&request);
        if self.rng.chance(5) {
            // A retry after a lost answer.
            let again = state.apply(&request);
            assert_eq!(again, answer, "a request that comes twice has one answer");
        }
        thin(&mut state, &request.command);
        self.plane.state = Arc::new(state);
        self.plane.index += 1;
        self.note_command(&request.command, &answer);
        self.spread();
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

    /// Every region's copy gets the new state in its own time.
    fn spread(&mut self) {
        for region in 0..2 {
            let life = self.regions[region].life;
            let late = if self.rng.chance(5) {
                self.rng.range(200, 2000)
            } else {
                self.rng.range(1, 2 * self.link.delay_ms + 10)
            };
            let (index, state) = (self.plane.index, self.plane.state.clone());
            self.after(
                late,
                Happening::View {
                    region,
                    life,
                    index,
                    state,
                },
            );
        }
    }

    pub(super) fn plane_answers(&mut self, to: Submitter, answer: Option<Box<Answer>>, index: u64) {
        let (region, life) = to.region();
        if self.living(region, life).is_none() {
            return;
        }
        if answer.is_some() && self.plane.index >= index {
            self.see_latest(region);
        }
        match to {
            Submitter::Driver { token, .. } => {
                self.driver_submitted(region, token, answer.map(|answer| *answer))
            }
            Submitter::Operator { operation, .. } => {
                self.failover_asked(&operation, answer.map(|answer| *answer))
            }
            Submitter::Nobody { .. } => {}
        }
    }

    /// A copy of the control plane's state arrives, if the region can be reached.
    pub(super) fn view(&mut self, region: RegionId, life: Life, index: u64, state: Arc<State>) {
        if self.plane.cut[region] {
            self.after(
                100,
                Happening::View {
                    region,
                    life,
                    index,
                    state,
                },
            );
            return;
        }
        let Some(process) = self.living(region, life) else {
            return;
        };
        if process.view_index >= index {
            return;
        }
        process.view_index = index;
        process.view = state;
        if process.trusted {
            self.roles_follow(region);
        }
    }

    fn see_latest(&mut self, region: RegionId) {
        let (life, index, state) = (
            self.regions[region].life,
            self.plane.index,
            self.plane.state.clone(),
        );
        self.view(region, life, index, state);
    }

    /// Engine and routes learn what the copy says.
    fn roles_follow(&mut self, region: RegionId) {
        let me = self.regions[region].name.clone();
        let Some(process) = self.process(region) else {
            return;
        };
        let roles = roles_of(&process.view, &me);
        if let Some(hub) = process.view.hub(super::HUB) {
            let fresh = Route {
                primary: hub.primary.clone(),
                epoch: hub.epoch,
            };
            if process
                .route
                .as_ref()
                .is_none_or(|known| known.epoch <= fresh.epoch)
            {
                process.route = Some(fresh);
            }
        }
        self.tell(region, Input::Roles(roles));
        self.wake_parked(region);
        let life = self.regions[region].life;
        self.after(0, Happening::Coordinate { region, life });
    }

    pub(super) fn route_moved(
        &mut self,
        region: RegionId,
        hub: HubId,
        epoch: Epoch,
        primary: &RegionName,
    ) {
        let Some(process) = self.process(region) else {
            return;
        };
        match &mut process.route {
            Some(known) if hub == super::HUB && known.epoch < epoch => {
                *known = Route {
                    primary: primary.clone(),
                    epoch,
                }
            }
            _ => {}
        }
        self.wake_parked(region);
    }

    /// Reads the control plane before going on.
    pub(super) fn barrier(&mut self, region: RegionId, then: AfterBarrier) {
        let life = self.regions[region].life;
        let delay = self.rng.range(1, 2 * self.link.delay_ms + 5);
        self.after(
            delay,
            Happening::Barrier {
                region,
                life,
                deadline: self.now + BARRIER_MS_MAX,
                then,
            },
        );
    }

    pub(super) fn barrier_reached(
        &mut self,
        region: RegionId,
        life: Life,
        deadline: i64,
        then: AfterBarrier,
    ) {
        if self.living(region, life).is_none() {
            return;
        }
        if !self.plane.reached_by(region) {
            let late = self.now >= deadline && !matches!(then, AfterBarrier::Trust);
            match then {
                AfterBarrier::Fence { asker, .. } if late => {
                    self.answered(
                        region,
                        asker,
                        Err(Refusal::Step("the control plane cannot be read".into())),
                    );
                }
                AfterBarrier::LiftFences if late => {}
                then => self.after(
                    50,
                    Happening::Barrier {
                        region,
                        life,
                        deadline,
                        then,
                    },
                ),
            }
            return;
        }
        self.see_latest(region);
        match then {
            AfterBarrier::Trust => {
                self.process(region).expect("it lives").trusted = true;
                self.roles_follow(region);
                self.tell(region, Input::DropUnknown);
            }
            AfterBarrier::Fence {
                asker,
                hub,
                epoch,
                operation,
            } => self.fence_if_it_stands(region, asker, (hub, epoch), &operation),
            AfterBarrier::LiftFences => self.look_for_stale_fences(region),
        }
    }

    fn fence_if_it_stands(
        &mut self,
        region: RegionId,
        asker: Asker,
        (hub, epoch): (HubId, Epoch),
        operation: &str,
    ) {
        let view = self.process(region).expect("it lives").view.clone();
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

    /// As `Region::lift_stale_fences`.
    fn look_for_stale_fences(&mut self, region: RegionId) {
        let process = self.regions[region].process.as_ref().expect("it lives");
        let Some(found) = process.view.hub(super::HUB) else {
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
            self.record(Entry::Trouble(format!(
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
        if process.trusted {
            self.barrier(region, AfterBarrier::LiftFences);
        }
        self.after(2000, Happening::WatchFences { region, life });
    }

    /// Somebody who can be reached leads; the others hear of it late.
    pub(super) fn elect(&mut self) {
        if self.plane.leader.is_some() {
            return;
        }
        let able: Vec<RegionId> = (0..2)
            .filter(|r| self.regions[*r].process.is_some() && !self.plane.cut[*r])
            .collect();
        if able.is_empty() {
            self.after(300, Happening::Elect);
            return;
        }
        let leader = *self.rng.pick(&able);
        self.plane.leader = Some(leader);
        self.disturbed();
        for region in 0..2 {
            let late = self.rng.range(0, 500);
            self.after(
                late,
                Happening::Believe {
                    region,
                    leads: region == leader,
                },
            );
        }
    }

    pub(super) fn believe(&mut self, region: RegionId, leads: bool) {
        let life = self.regions[region].life;
        let Some(process) = self.process(region) else {
            return;
        };
        process.leads = leads;
        self.after(0, Happening::Coordinate { region, life });
    }

    fn note_command(&mut self, command: &Command, answer: &Answer) {
        if matches!(answer, Answer::Refused(_)) {
            return;
        }
        match command {
            Command::StartFailover { operation, .. } => self.record(Entry::Asked {
                operation: operation.clone(),
            }),
            Command::StepStarted { operation, step } => {
                self.step_noted(operation, step.name(), false)
            }
            Command::StepEnded {
                operation,
                step,
                detail,
            } => {
                if *step == control::StepName::Check {
                    self.real_checks(operation, detail);
                }
                self.step_noted(operation, step.name(), true);
            }
            Command::RollBack { operation, .. } => self.step_noted(operation, "rollback", false),
            Command::CommitFailover { operation, .. } => {
                if let Answer::Epoch(epoch) = answer {
                    self.record(Entry::Committed {
                        operation: operation.clone(),
                        epoch: *epoch,
                    });
                }
                self.step_noted(operation, "commit", true);
            }
            Command::Finish { operation, .. } => {
                let status = self
                    .plane
                    .state
                    .operations
                    .get(operation)
                    .map_or("gone", |op| status_name(op.status));
                self.record(Entry::Ended {
                    operation: operation.clone(),
                    status,
                });
                if self.phase == super::Phase::Founding {
                    let (region, life) = (0, self.regions[0].life);
                    let command = Command::PutConsumerGroup {
                        hub: super::HUB,
                        name: group_of(1),
                    };
                    self.submit(Submitter::Nobody { region, life }, command);
                }
            }
            _ => {}
        }
    }

    fn step_noted(&mut self, operation: &str, step: &'static str, ended: bool) {
        self.record(Entry::Step {
            operation: operation.to_owned(),
            step,
            ended,
        });
        self.trouble_at_step(step, ended);
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

pub fn status_name(status: OperationStatus) -> &'static str {
    match status {
        OperationStatus::Running => "running",
        OperationStatus::Succeeded => "succeeded",
        OperationStatus::RolledBack => "rolled back",
        OperationStatus::Cancelled => "cancelled",
        OperationStatus::Failed => "failed",
    }
}

/// As `region::region::roles_of`.
fn roles_of(state: &State, me: &RegionName) -> Vec<HubRole> {
    let mine = state
        .hubs
        .values()
        .filter(|hub| hub.state != HubState::Deleting);
    mine.filter_map(|hub| {
        let role = if hub.primary == *me {
            Role::Primary
        } else if hub.secondary() == Some(me) {
            Role::Secondary
        } else {
            return None;
        };
        let peer = if role == Role::Primary {
            hub.secondary().cloned()
        } else {
            Some(hub.primary.clone())
        };
        Some(HubRole {
            settings: Arc::new(hub.settings()),
            role,
            epoch: hub.epoch,
            peer,
        })
    })
    .collect()
}
