//! Drives operations while this region leads the control plane: every step is recorded before the next begins, so whoever leads
//! next goes on from the record.

use crate::clock::monotonic_ms;
use crate::engine::{Answer as EngineAnswer, Handover, HubRole, Refusal, Role};
use crate::facts;
use crate::peer::{self, Call, Facts, Return};
use crate::region::Region;
use crate::returns;
use crate::{drills, plans};
use control::details::{
    CommitDetail, Handover as RecordedHandover, HandoverDetail, LeaseDetail, OpenDetail,
    ReverseDetail, UnfenceDetail, WarmDetail, read, record,
};
use control::divergence::Position;
use control::failover::{Action, Timings, next_action, warm_enough};
use control::model::OperationKind;
use control::report::{ReportFacts, report};
use control::{Command, Hub, Operation, StepName};
use link::Class;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use types::{Epoch, HubId, Lsn, PartitionId, RegionName, Sequence};

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Another region than the one that should drives an operation after it has not moved for so long.
const DEPUTY_AFTER: Duration = Duration::from_millis(2500);
const AGAIN: Duration = Duration::from_millis(20);
const STEP_TIMEOUT: Duration = Duration::from_secs(2);
const FACTS_TIMEOUT: Duration = Duration::from_secs(1);
/// After the commit, how long the report waits for the old primary to follow.
const REVERSE_MS_MAX: i64 = 10_000;
/// How long a deletion waits for the regions to drop the data; one that is away drops it when it is back.
const DELETE_MS_MAX: i64 = 10_000;

/// Looks for operations to drive, as long as the region runs.
pub async fn run(region: Arc<Region>) {
    let mut driven: HashMap<String, JoinHandle<()>> = HashMap::new();
    let mut changed = region.plane.watch();
    let mut stalled = Stalled::default();
    loop {
        driven.retain(|_, task| !task.is_finished());
        let (first, deputy) = (region.plane.drives(), region.plane.may_drive());
        if region.ready() && (first || deputy) {
            let running: Vec<(String, usize)> = region.plane.with(|state| {
                let running = state.running_operations();
                running.map(|op| (op.id.clone(), op.steps.len())).collect()
            });
            stalled.look(&running);
            let running: Vec<String> = running
                .into_iter()
                .map(|(id, _)| id)
                .filter(|id| first || stalled.moves_no_more(id))
                .collect();
            let away: Vec<HubId> = region.plane.with(|state| {
                let away = state.hubs.values().filter(|hub| hub.away().is_some());
                away.map(|hub| hub.id).collect()
            });
            let drills: Vec<String> = region.plane.with(|state| {
                let running = state.drills.values().filter(|drill| drill.is_running());
                running.map(|drill| drill.id.clone()).collect()
            });
            for id in drills {
                driven
                    .entry(format!("drill:{id}"))
                    .or_insert_with(|| tokio::spawn(drills::drive(region.clone(), id, !first)));
            }
            let plans: Vec<String> = region
                .plane
                .with(|state| state.running_plans().map(|plan| plan.id.clone()).collect());
            for id in plans {
                driven
                    .entry(format!("plan:{id}"))
                    .or_insert_with(|| tokio::spawn(plans::drive(region.clone(), id, !first)));
            }
            for hub in away {
                driven
                    .entry(format!("return:{hub}"))
                    .or_insert_with(|| tokio::spawn(returns::watch(region.clone(), hub, !first)));
            }
            for id in running {
                driven.entry(id.clone()).or_insert_with(|| {
                    let driver = Driver {
                        region: region.clone(),
                        id,
                        sockets: None,
                        lease_since: None,
                        deputy: !first,
                    };
                    tokio::spawn(driver.drive())
                });
            }
        }
        let _ = tokio::time::timeout(LOOK_EVERY, changed.changed()).await;
    }
}

/// Operations with as many steps as when they were looked at first, and when that was.
#[derive(Default)]
struct Stalled(HashMap<String, (usize, Instant)>);

impl Stalled {
    fn look(&mut self, running: &[(String, usize)]) {
        self.0
            .retain(|id, (steps, _)| running.contains(&(id.clone(), *steps)));
        for (id, steps) in running {
            self.0
                .entry(id.clone())
                .or_insert_with(|| (*steps, Instant::now()));
        }
    }

    fn moves_no_more(&self, id: &str) -> bool {
        self.0
            .get(id)
            .is_some_and(|(_, since)| since.elapsed() >= DEPUTY_AFTER)
    }
}

/// Drives one operation while this region leads.
struct Driver {
    region: Arc<Region>,
    id: String,
    /// Device sockets, sessions ended and requests parked, over all regions, before the fence.
    sockets: Option<Sockets>,
    /// It drives what another region should, and does not.
    deputy: bool,
    /// When this driver saw first that the old primary's lease is to be waited out, on the monotonic clock.
    lease_since: Option<u64>,
}

#[derive(Clone, Copy, Default)]
struct Sockets {
    open: u64,
    closed: u64,
    parked: u64,
}

/// What one action came to.
enum Outcome {
    Record(Box<Command>),
    /// It was recorded on the way.
    Recorded,
    /// Not yet, or not this time: look again after a moment.
    Again(String),
}

impl Outcome {
    fn record(command: Command) -> Outcome {
        Outcome::Record(Box::new(command))
    }
}

impl Driver {
    async fn drive(mut self) {
        self.steps().await;
        self.region.note_wait(&self.id, None);
    }

    fn drives(&self) -> bool {
        self.region.plane.drives() || self.deputy && self.region.plane.may_drive()
    }

    async fn steps(&mut self) {
        let mut said = String::new();
        while self.drives() {
            let id = &self.id;
            let found = self.region.plane.with(|state| {
                let operation = state
                    .operations
                    .get(id)
                    .filter(|op| op.is_running())?
                    .clone();
                let hub = operation.hub.and_then(|hub| state.hub(hub)).cloned();
                Some((operation, hub))
            });
            let Some((operation, hub)) = found else {
                return;
            };
            let outcome = match (&operation.kind, hub) {
                (OperationKind::Failover { .. } | OperationKind::Forced { .. }, Some(hub)) => {
                    self.failover(&operation, &hub).await
                }
                (OperationKind::CreateHub | OperationKind::UpdateHub, Some(hub)) => {
                    self.activate(&hub).await
                }
                (OperationKind::DeleteHub, Some(hub)) => self.delete(&operation, &hub).await,
                (OperationKind::DeleteGroup, _) => self.delete_group().await,
                (_, None) => Outcome::record(self.finish(None, None)),
            };
            match outcome {
                Outcome::Record(command) => {
                    self.region.note_wait(&self.id, None);
                    self.submit(*command).await;
                }
                Outcome::Recorded => self.region.note_wait(&self.id, None),
                Outcome::Again(why) => {
                    self.region.note_wait(&self.id, Some(&why));
                    if why != said {
                        tracing::info!(operation = %self.id, %why, "waiting");
                        said = why;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    async fn submit(&self, command: Command) {
        let by = format!("castling:{}", self.region.me);
        match self.region.plane.submit(&by, command).await {
            Ok(control::Answer::Refused(refusal)) => {
                // Out of order, most likely: another leader was faster. The record decides.
                tracing::debug!(operation = %self.id, %refusal, "a step was refused");
                tokio::time::sleep(AGAIN).await;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(operation = %self.id, why = %error.why, "the control plane did not answer")
            }
        }
    }

    fn finish(
        &self,
        report: Option<serde_json::Value>,
        error: Option<(String, String)>,
    ) -> Command {
        Command::Finish {
            operation: self.id.clone(),
            report,
            error,
        }
    }

    fn ended(&self, step: StepName, detail: serde_json::Value) -> Outcome {
        Outcome::record(Command::StepEnded {
            operation: self.id.clone(),
            step,
            detail,
        })
    }

    /// A new hub is active once its primary has opened every partition.
    async fn activate(&self, hub: &Hub) -> Outcome {
        let Some(facts) = self.facts(&hub.primary, hub).await else {
            return Outcome::Again(format!("region {} does not answer", hub.primary));
        };
        let open = facts
            .partitions
            .iter()
            .filter(|p| p.open && p.epoch == hub.epoch)
            .count();
        if open == usize::from(hub.partition_count) {
            Outcome::record(self.finish(None, None))
        } else {
            Outcome::Again(format!(
                "{open} of {} partitions are open in {}",
                hub.partition_count, hub.primary
            ))
        }
    }

    async fn delete(&self, operation: &Operation, hub: &Hub) -> Outcome {
        let waited = self.region.clock.now().since(operation.started);
        for region in std::iter::once(&hub.primary).chain(hub.secondary()) {
            let gone = self
                .facts(region, hub)
                .await
                .is_some_and(|facts| facts.partitions.is_empty());
            if !gone && waited < DELETE_MS_MAX {
                return Outcome::Again(format!("region {region} still holds the hub's data"));
            }
        }
        Outcome::record(self.finish(None, None))
    }

    /// The control plane itself knows whether all hubs of the group are gone; it refuses to finish before.
    async fn delete_group(&self) -> Outcome {
        tokio::time::sleep(AGAIN).await;
        Outcome::record(self.finish(None, None))
    }

    async fn failover(&mut self, operation: &Operation, hub: &Hub) -> Outcome {
        let now = self
            .region
            .clock
            .now()
            .max(self.region.plane.with(|state| state.time));
        let action = next_action(operation, hub, now, &Timings::default());
        if let (true, Some(step)) = (action.needs_start(operation), action.step()) {
            return Outcome::record(Command::StepStarted {
                operation: self.id.clone(),
                step,
            });
        }
        let Some(switch) = operation.switch() else {
            return Outcome::Again("not a failover".into());
        };
        let (from, to, epoch) = (switch.from.clone(), switch.to.clone(), switch.epoch);
        let forced = switch.forced;
        match action {
            Action::GatherFacts => self.check(operation, hub, &to).await,
            Action::Warm => self.warm(hub, &from).await,
            Action::Fence => self.fence(hub, &from, &to, epoch).await,
            Action::CatchUp => self.catch_up(operation, hub, &to).await,
            Action::AwaitLease => self.await_lease(&from),
            Action::Commit if forced && self.cannot_lead(hub, &to).await => {
                Outcome::record(Command::RollBack {
                    operation: self.id.clone(),
                    code: "SecondaryNotReady".into(),
                    why: format!("{to} cannot lead now: it has not taken back everything yet"),
                })
            }
            Action::Commit => {
                let detail = record(&CommitDetail {
                    epoch: epoch.next(),
                    primary: to,
                });
                Outcome::record(Command::CommitFailover {
                    operation: self.id.clone(),
                    detail,
                    caught_up: None,
                })
            }
            Action::Open => self.open(hub, &from, &to, epoch.next(), forced).await,
            Action::Reverse => self.reverse(operation, hub, &to).await,
            Action::Unfence => self.unfence(hub, &from, epoch).await,
            Action::RollBack { code, why } => {
                tracing::warn!(operation = %self.id, %code, %why, "rolling back");
                Outcome::record(Command::RollBack {
                    operation: self.id.clone(),
                    code,
                    why,
                })
            }
            Action::Finish { error } => self.end(operation, hub, error).await,
            Action::Wait { why } => Outcome::Again(why),
        }
    }

    async fn check(&self, operation: &Operation, hub: &Hub, to: &RegionName) -> Outcome {
        let found = match &operation.kind {
            OperationKind::Forced { accept, .. } => {
                facts::evaluate_forced(&self.region, hub, to, Some(&self.id), Some(accept)).await
            }
            _ => facts::evaluate(&self.region, hub, to, Some(&self.id)).await,
        };
        self.ended(StepName::Check, record(&found))
    }

    /// Whether the region that is about to lead is known to be unable to: it was checked before the lease was waited out.
    async fn cannot_lead(&self, hub: &Hub, to: &RegionName) -> bool {
        let facts = self.facts(to, hub).await;
        facts.is_some_and(|facts| {
            let mut partitions = facts.partitions.iter();
            partitions.any(|p| p.returning.is_some() || p.broken.is_some())
        })
    }

    /// Waits until the old primary can hold no lease. A leader knows when it asked for one last, or that it did not since this
    /// one leads; one that was silent for long is not waited for. Others count from when their own copy has the step's start,
    /// also when they take over (docs/adr/0013).
    fn await_lease(&mut self, from: &RegionName) -> Outcome {
        let now = monotonic_ms();
        let mut since = *self.lease_since.get_or_insert(now);
        if let Some(silent) = self.region.plane.not_renewed_since(from) {
            since = since.min(silent);
        }
        let (waited, wait) = (now.saturating_sub(since), self.region.times.wait_ms());
        if waited < wait {
            return Outcome::Again(format!("waiting out the lease of {from}"));
        }
        let begun = self.lease_since.unwrap_or(now);
        let detail = LeaseDetail {
            waited_ms: i64::try_from(now.saturating_sub(begun)).unwrap_or(i64::MAX),
            confirmed: false,
        };
        self.ended(StepName::Lease, record(&detail))
    }

    async fn warm(&mut self, hub: &Hub, from: &RegionName) -> Outcome {
        let Some(facts) = self.facts(from, hub).await else {
            return Outcome::Again(format!("region {from} does not answer"));
        };
        let lag_records = facts.partitions.iter().map(|p| p.lag_records).sum();
        let lag_ms = facts
            .partitions
            .iter()
            .map(|p| p.lag_ms)
            .max()
            .unwrap_or_default();
        let rtt = facts.links.iter().find_map(|(name, _, rtt)| {
            (Some(name.as_str()) == hub.secondary().map(RegionName::as_str)).then_some(*rtt)?
        });
        let followed = facts.partitions.iter().all(|p| p.follower_connected);
        if !followed || !warm_enough(lag_records, lag_ms, rtt.unwrap_or_default() as i64) {
            return Outcome::Again(format!(
                "the secondary is {lag_records} records ({lag_ms} ms) behind"
            ));
        }
        self.sockets = Some(self.count_sockets(hub).await);
        self.ended(
            StepName::Warm,
            record(&WarmDetail {
                lag_records,
                lag_ms,
            }),
        )
    }

    /// The pause. What can be done beside the record of the fence is: the other region catches up meanwhile, and the commit goes
    /// into the entry that records it. Whatever fails on the way is taken up again from the record, step by step.
    async fn fence(&self, hub: &Hub, from: &RegionName, to: &RegionName, epoch: Epoch) -> Outcome {
        let call = Call::Fence {
            hub: hub.id,
            epoch,
            operation: self.id.clone(),
        };
        let handovers = match self.step(from, call).await {
            Ok(EngineAnswer::Fenced(handovers)) => handovers,
            other => return Outcome::Again(format!("fencing {from}: {}", describe(other))),
        };
        let partitions: Vec<RecordedHandover> = handovers.iter().map(recorded).collect();
        let ended = Command::StepEnded {
            operation: self.id.clone(),
            step: StepName::Fence,
            detail: record(&HandoverDetail {
                partitions: partitions.clone(),
            }),
        };
        let call = Call::CatchUp {
            hub: hub.id,
            handovers,
        };
        let ((), reached) = tokio::join!(self.submit(ended), self.step(to, call));
        let reached: Vec<RecordedHandover> = match reached {
            Ok(EngineAnswer::CaughtUp(reached)) => reached.iter().map(recorded).collect(),
            other => return Outcome::Again(format!("{to} catching up: {}", describe(other))),
        };
        if reached != partitions {
            return Outcome::Recorded;
        }
        Outcome::record(Command::CommitFailover {
            operation: self.id.clone(),
            detail: record(&CommitDetail {
                epoch: epoch.next(),
                primary: to.clone(),
            }),
            caught_up: Some(record(&HandoverDetail {
                partitions: reached,
            })),
        })
    }

    async fn catch_up(&self, operation: &Operation, hub: &Hub, to: &RegionName) -> Outcome {
        let Some(fenced) = read::<HandoverDetail>(operation, StepName::Fence) else {
            return Outcome::Again("the fence step recorded no handover".into());
        };
        let handovers: Option<Vec<Handover>> = fenced.partitions.iter().map(restored).collect();
        let Some(handovers) = handovers else {
            return Outcome::Again("the recorded handover cannot be read".into());
        };
        match self
            .step(
                to,
                Call::CatchUp {
                    hub: hub.id,
                    handovers,
                },
            )
            .await
        {
            Ok(EngineAnswer::CaughtUp(reached)) => {
                let partitions = reached.iter().map(recorded).collect();
                self.ended(StepName::CatchUp, record(&HandoverDetail { partitions }))
            }
            other => Outcome::Again(format!("{to} catching up: {}", describe(other))),
        }
    }

    async fn open(
        &self,
        hub: &Hub,
        from: &RegionName,
        to: &RegionName,
        epoch: Epoch,
        forced: bool,
    ) -> Outcome {
        let role = HubRole {
            settings: Arc::new(hub.settings()),
            role: Role::Primary,
            epoch,
            peer: Some(from.clone()),
            suspended: false,
            alone: forced,
        };
        let stood = match self.step(to, Call::Open { role, forced }).await {
            Ok(EngineAnswer::Opened(stood)) => stood,
            other => return Outcome::Again(format!("opening {to}: {}", describe(other))),
        };
        let mut detail = OpenDetail::default();
        if forced {
            detail.opened = stood.iter().map(position).collect();
        }
        if let Some(before) = self.sockets {
            let after = self.count_sockets(hub).await;
            detail.sockets_before = Some(before.open);
            detail.sockets_kept = Some(
                before
                    .open
                    .saturating_sub(after.closed.saturating_sub(before.closed)),
            );
            detail.requests_parked = after.parked.saturating_sub(before.parked);
        }
        self.ended(StepName::Open, record(&detail))
    }

    async fn reverse(&self, operation: &Operation, hub: &Hub, to: &RegionName) -> Outcome {
        let opened = operation
            .step(StepName::Open)
            .and_then(|step| step.ended)
            .unwrap_or(operation.started);
        let waited = self.region.clock.now().since(opened);
        let facts = self.facts(to, hub).await;
        let following = facts.map_or(0, |facts| {
            facts
                .partitions
                .iter()
                .filter(|p| p.follower_connected)
                .count()
        });
        if following < usize::from(hub.partition_count) && waited < REVERSE_MS_MAX {
            return Outcome::Again(format!(
                "{following} of {} partitions are followed",
                hub.partition_count
            ));
        }
        self.ended(
            StepName::Reverse,
            record(&ReverseDetail {
                partitions_following: following as u16,
            }),
        )
    }

    async fn unfence(&self, hub: &Hub, from: &RegionName, epoch: Epoch) -> Outcome {
        match self
            .step(
                from,
                Call::Unfence {
                    hub: hub.id,
                    epoch,
                    operation: self.id.clone(),
                },
            )
            .await
        {
            Ok(EngineAnswer::Opened(_)) => self.ended(
                StepName::RollBack,
                record(&UnfenceDetail {
                    partitions_released: hub.partition_count,
                }),
            ),
            other => Outcome::Again(format!("opening {from} again: {}", describe(other))),
        }
    }

    async fn end(
        &self,
        operation: &Operation,
        hub: &Hub,
        error: Option<(String, String)>,
    ) -> Outcome {
        if let Some(pause) = operation.pause_ms() {
            let pauses = &self.region.pauses;
            pauses.count.fetch_add(1, Ordering::Relaxed);
            pauses
                .sum_ms
                .fetch_add(pause.max(0) as u64, Ordering::Relaxed);
            pauses.last_ms.store(pause.max(0) as u64, Ordering::Relaxed);
        }
        let devices = facts::devices(&self.region, hub).await;
        let facts = ReportFacts {
            at: self.region.clock.now(),
            devices,
        };
        Outcome::record(self.finish(Some(report(operation, hub, &facts)), error))
    }

    async fn count_sockets(&self, hub: &Hub) -> Sockets {
        let names = self
            .region
            .plane
            .with(|state| state.deployment.regions.clone());
        let asked = names.iter().map(|name| self.facts(name, hub));
        let all = futures_util::future::join_all(asked).await;
        let mut sum = Sockets::default();
        for facts in all.into_iter().flatten() {
            sum.open += facts.sessions_of_hub;
            sum.closed += facts.sessions_closed;
            sum.parked += facts.parked;
        }
        sum
    }

    async fn facts(&self, of: &RegionName, hub: &Hub) -> Option<Facts> {
        facts::ask(&self.region, of, hub.id, FACTS_TIMEOUT).await
    }

    /// Asks a region for a failover step.
    async fn step(&self, of: &RegionName, call: Call) -> Result<EngineAnswer, String> {
        let body = peer::encode(peer::CALL, &call);
        let bytes = self
            .region
            .links
            .call(of, Class::Control, body, STEP_TIMEOUT)
            .await
            .map_err(|error| error.to_string())?;
        match peer::decode::<Return>(&bytes)? {
            Return::Engine(Ok(answer)) => Ok(answer),
            Return::Engine(Err(Refusal::Step(why))) => Err(why),
            other => Err(format!("{other:?}")),
        }
    }
}

fn position(stood: &Handover) -> Position {
    Position {
        partition: stood.partition,
        lsn: stood.lsn,
        next_sequence: stood.next_sequence,
    }
}

fn describe(answer: Result<EngineAnswer, String>) -> String {
    match answer {
        Ok(answer) => format!("unexpected answer {answer:?}"),
        Err(why) => why,
    }
}

/// All that must be equal in the other region, as one text.
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
    let handover = Handover {
        partition: PartitionId(recorded.partition.0),
        lsn: Lsn(recorded.end.0),
        state: parts.next()?.to_owned(),
        chain: u64::from_str_radix(parts.next()?, 16).ok()?,
        crc: u32::from_str_radix(parts.next()?, 16).ok()?,
        next_sequence: Sequence(parts.next()?.parse().ok()?),
    };
    parts.next().is_none().then_some(handover)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_handover_can_be_asked_for_again() {
        let handover = Handover {
            partition: PartitionId(3),
            lsn: Lsn(99),
            crc: 0xdead_beef,
            next_sequence: Sequence(1234),
            chain: 42,
            state: format!("{:032x}", 7u128 << 99),
        };
        assert_eq!(restored(&recorded(&handover)), Some(handover));
        assert_eq!(
            restored(&RecordedHandover {
                partition: PartitionId(0),
                end: Lsn(1),
                digest: "x".into()
            }),
            None
        );
    }

    #[test]
    fn an_operation_is_stalled_once_it_has_kept_its_steps_for_a_while() {
        let mut stalled = Stalled::default();
        let running = |steps| vec![("op".to_owned(), steps)];
        stalled.look(&running(2));
        assert!(!stalled.moves_no_more("op"));
        let long_ago = Instant::now().checked_sub(DEPUTY_AFTER).unwrap();
        stalled.0.get_mut("op").unwrap().1 = long_ago;
        stalled.look(&running(2));
        assert!(stalled.moves_no_more("op"));
        stalled.look(&running(3));
        assert!(!stalled.moves_no_more("op"), "it moved");
        stalled.look(&[]);
        assert!(!stalled.moves_no_more("op"), "it ended");
    }
}
