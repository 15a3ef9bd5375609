//! The coordinator: next action → ask a region → record. Parallel to `region::coordinator`, without sockets to count.

use super::World;
use super::event::{Happening, Life, Submitter};
use super::gather::Gathered;
use crate::fault::Fault;
use crate::history::RegionId;
use control::details::{
    CommitDetail, Handover as RecordedHandover, HandoverDetail, OpenDetail, ReverseDetail,
    UnfenceDetail, WarmDetail, read, record,
};
use control::failover::{Action, Timings, next_action, warm_enough};
use control::model::OperationKind;
use control::report::{ReportFacts, report};
use control::{Command, Hub, Operation, StepName};
use region::engine::{Answer, Handover, HubRole, Role};
use region::peer::{Call, Facts};
use std::sync::Arc;
use types::{Lsn, PartitionId, RegionName, Sequence, UnixMillis};

const AGAIN_MS: i64 = 20;
const STEP_TIMEOUT_MS: i64 = 2000;
const FACTS_TIMEOUT_MS: i64 = 1000;
const CHECK_TIMEOUT_MS: i64 = 2000;
const REVERSE_MS_MAX: i64 = 10_000;

/// What a region's driver waits for. One hub, so there is one operation at a time.
#[derive(Default)]
pub struct Driver {
    tokens: u64,
    waits: Option<(u64, Awaited)>,
}

/// What goes on when the answer is there: the record as it was when it was asked.
pub enum Awaited {
    Check(Box<(Operation, Hub)>),
    Warm(Box<(Operation, Hub)>),
    Activate(Box<(Operation, Hub)>),
    Reverse(Box<(Operation, Hub)>),
    Step(Box<(Operation, Hub)>, StepName),
    Submit,
    Sleep,
}

impl World {
    /// Goes on with the running operation, if this region leads and waits for nothing.
    pub(super) fn coordinate(&mut self, region: RegionId, life: Life) {
        let Some(process) = self.living(region, life) else {
            return;
        };
        if !process.trusted || !process.leads || process.driver.waits.is_some() {
            return;
        }
        let found = process.view.running_operations().next().cloned();
        let Some(operation) = found else { return };
        let Some(hub) = operation.hub.and_then(|hub| process.view.hub(hub)).cloned() else {
            return;
        };
        match operation.kind {
            OperationKind::Failover { .. } => self.failover(region, operation, hub),
            _ => {
                let primary = self.region_id(&hub.primary);
                let hub_id = hub.id;
                let token = self.wait_for(region, Awaited::Activate(Box::new((operation, hub))));
                self.gather(
                    region,
                    hub_id,
                    &[primary],
                    FACTS_TIMEOUT_MS,
                    Gathered::Driver { token },
                );
            }
        }
    }

    fn wait_for(&mut self, region: RegionId, awaited: Awaited) -> u64 {
        let driver = &mut self.process(region).expect("its driver runs").driver;
        driver.tokens += 1;
        driver.waits = Some((driver.tokens, awaited));
        driver.tokens
    }

    /// What the driver waited for with this token; `None`: it waits for something else by now.
    fn waited(&mut self, region: RegionId, token: u64) -> Option<Awaited> {
        let driver = &mut self.process(region)?.driver;
        driver
            .waits
            .take_if(|(waits, _)| *waits == token)
            .map(|(_, awaited)| awaited)
    }

    fn driver_records(&mut self, region: RegionId, command: Command) {
        let token = self.wait_for(region, Awaited::Submit);
        let life = self.regions[region].life;
        self.submit(
            Submitter::Driver {
                region,
                life,
                token,
            },
            command,
        );
    }

    fn driver_sleeps(&mut self, region: RegionId) {
        let token = self.wait_for(region, Awaited::Sleep);
        let life = self.regions[region].life;
        self.after(
            AGAIN_MS,
            Happening::DriverWakes {
                region,
                life,
                token,
            },
        );
    }

    pub(super) fn driver_wakes(&mut self, region: RegionId, life: Life, token: u64) {
        if self.living(region, life).is_some() && self.waited(region, token).is_some() {
            self.coordinate(region, life);
        }
    }

    pub(super) fn driver_submitted(
        &mut self,
        region: RegionId,
        token: u64,
        answer: Option<control::Answer>,
    ) {
        if self.waited(region, token).is_none() {
            return;
        }
        if matches!(answer, Some(control::Answer::Refused(_))) {
            self.driver_sleeps(region);
        } else {
            let life = self.regions[region].life;
            self.after(0, Happening::Coordinate { region, life });
        }
    }

    fn ended(
        &mut self,
        region: RegionId,
        operation: &Operation,
        step: StepName,
        detail: serde_json::Value,
    ) {
        self.driver_records(
            region,
            Command::StepEnded {
                operation: operation.id.clone(),
                step,
                detail,
            },
        );
    }

    fn failover(&mut self, region: RegionId, operation: Operation, hub: Hub) {
        let time = self.process(region).expect("its driver runs").view.time;
        let now = self.regions[region].clock.at(self.now).max(time);
        let action = next_action(&operation, &hub, now, &Timings::default());
        let id = operation.id.clone();
        if let (true, Some(step)) = (action.needs_start(&operation), action.step()) {
            return self.driver_records(
                region,
                Command::StepStarted {
                    operation: id,
                    step,
                },
            );
        }
        let Some(switch) = operation.switch() else {
            return self.driver_sleeps(region);
        };
        let (from, to, epoch) = (switch.from.clone(), switch.to.clone(), switch.epoch);
        let (from_id, to_id) = (self.region_id(&from), self.region_id(&to));
        let hub_id = hub.id;
        match action {
            Action::GatherFacts => {
                let token = self.wait_for(region, Awaited::Check(Box::new((operation, hub))));
                self.gather(
                    region,
                    hub_id,
                    &[from_id, to_id],
                    CHECK_TIMEOUT_MS,
                    Gathered::Driver { token },
                );
            }
            Action::Warm if self.fault == Some(Fault::OpenWithoutCatchUp) => {
                self.ended(
                    region,
                    &operation,
                    StepName::Warm,
                    record(&WarmDetail::default()),
                );
            }
            Action::Warm => {
                let token = self.wait_for(region, Awaited::Warm(Box::new((operation, hub))));
                self.gather(
                    region,
                    hub_id,
                    &[from_id],
                    FACTS_TIMEOUT_MS,
                    Gathered::Driver { token },
                );
            }
            Action::Fence if self.fault == Some(Fault::SkipFence) => {
                self.pretend_fence(region, from_id, &operation, &hub)
            }
            Action::Fence => self.step(
                region,
                from_id,
                operation,
                hub,
                StepName::Fence,
                Call::Fence {
                    hub: hub_id,
                    epoch,
                    operation: id,
                },
            ),
            Action::CatchUp => self.catch_up(region, to_id, operation, hub),
            Action::Commit => {
                let detail = record(&CommitDetail {
                    epoch: epoch.next(),
                    primary: to,
                });
                self.driver_records(
                    region,
                    Command::CommitFailover {
                        operation: id,
                        detail,
                    },
                );
            }
            Action::Open if self.fault == Some(Fault::NeverFinish) => self.driver_sleeps(region),
            Action::Open => {
                let role = HubRole {
                    settings: Arc::new(hub.settings()),
                    role: Role::Primary,
                    epoch: epoch.next(),
                    peer: Some(from),
                };
                self.step(
                    region,
                    to_id,
                    operation,
                    hub,
                    StepName::Open,
                    Call::Open { role },
                );
            }
            Action::Reverse => {
                let token = self.wait_for(region, Awaited::Reverse(Box::new((operation, hub))));
                self.gather(
                    region,
                    hub_id,
                    &[to_id],
                    FACTS_TIMEOUT_MS,
                    Gathered::Driver { token },
                );
            }
            Action::Unfence if self.fault == Some(Fault::NeverUnfence) => {
                self.driver_sleeps(region)
            }
            Action::Unfence => self.step(
                region,
                from_id,
                operation,
                hub,
                StepName::RollBack,
                Call::Unfence { hub: hub_id, epoch },
            ),
            Action::RollBack { code, why } => self.driver_records(
                region,
                Command::RollBack {
                    operation: id,
                    code,
                    why,
                },
            ),
            Action::Finish { error } => {
                let facts = ReportFacts {
                    at: self.regions[region].clock.at(self.now),
                    devices: None,
                };
                let report = Some(report(&operation, &hub, &facts));
                self.driver_records(
                    region,
                    Command::Finish {
                        operation: id,
                        report,
                        error,
                    },
                );
            }
            Action::Wait { .. } => self.driver_sleeps(region),
        }
    }

    fn step(
        &mut self,
        region: RegionId,
        of: RegionId,
        operation: Operation,
        hub: Hub,
        step: StepName,
        call: Call,
    ) {
        let token = self.wait_for(region, Awaited::Step(Box::new((operation, hub)), step));
        self.call_step(region, of, call, token, STEP_TIMEOUT_MS);
    }

    fn catch_up(&mut self, region: RegionId, to: RegionId, operation: Operation, hub: Hub) {
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
        region: RegionId,
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
            (StepName::Open, Ok(Answer::Opened)) => record(&OpenDetail::default()),
            (StepName::RollBack, Ok(Answer::Opened)) => record(&UnfenceDetail {
                partitions_released: hub.partition_count,
            }),
            _ => return self.driver_sleeps(region),
        };
        self.ended(region, &operation, step, detail);
    }

    pub(super) fn driver_has_facts(
        &mut self,
        region: RegionId,
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
                match self.evaluate(region, (&hub, &to), asked, &found, Some(&operation.id)) {
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
            Some(Awaited::Step(..) | Awaited::Submit | Awaited::Sleep) | None => {}
        }
    }

    fn warmed(&mut self, region: RegionId, operation: &Operation, found: &[Option<Facts>]) {
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
        region: RegionId,
        operation: &Operation,
        hub: &Hub,
        found: &[Option<Facts>],
    ) {
        let opened = operation
            .step(StepName::Open)
            .and_then(|step| step.ended)
            .unwrap_or(operation.started);
        let waited = self.regions[region].clock.at(self.now).since(opened);
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
    fn pretend_fence(
        &mut self,
        region: RegionId,
        from: RegionId,
        operation: &Operation,
        hub: &Hub,
    ) {
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
