//! Drives operations while this region leads the control plane: every step is recorded before the next begins, so whoever leads
//! next goes on from the record.

use crate::engine::{Answer as EngineAnswer, Handover, HubRole, Refusal, Role};
use crate::facts;
use crate::peer::{self, Call, Facts, Return};
use crate::region::Region;
use control::details::{
    CommitDetail, Handover as RecordedHandover, HandoverDetail, OpenDetail, ReverseDetail,
    UnfenceDetail, WarmDetail, read, record,
};
use control::failover::{Action, Timings, next_action, warm_enough};
use control::model::OperationKind;
use control::report::{ReportFacts, report};
use control::{Command, Hub, Operation, StepName};
use link::Class;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinHandle;
use types::{Epoch, Lsn, PartitionId, RegionName, Sequence};

const LOOK_EVERY: Duration = Duration::from_millis(250);
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
    loop {
        driven.retain(|_, task| !task.is_finished());
        if region.ready() && region.plane.is_leader() {
            let running: Vec<String> = region
                .plane
                .with(|state| state.running_operations().map(|op| op.id.clone()).collect());
            for id in running {
                driven.entry(id.clone()).or_insert_with(|| {
                    let driver = Driver {
                        region: region.clone(),
                        id,
                        sockets: None,
                    };
                    tokio::spawn(driver.drive())
                });
            }
        }
        let _ = tokio::time::timeout(LOOK_EVERY, changed.changed()).await;
    }
}

/// Drives one operation while this region leads.
struct Driver {
    region: Arc<Region>,
    id: String,
    /// Device sockets, sessions ended and requests parked, over all regions, before the fence.
    sockets: Option<Sockets>,
}

#[derive(Clone, Copy, Default)]
struct Sockets {
    open: u64,
    closed: u64,
    parked: u64,
}

/// What one action came to.
enum Outcome {
    Record(Command),
    /// Not yet, or not this time: look again after a moment.
    Again(String),
}

impl Driver {
    async fn drive(mut self) {
        let mut said = String::new();
        while self.region.plane.is_leader() {
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
                (OperationKind::Failover { .. }, Some(hub)) => {
                    self.failover(&operation, &hub).await
                }
                (OperationKind::CreateHub | OperationKind::UpdateHub, Some(hub)) => {
                    self.activate(&hub).await
                }
                (OperationKind::DeleteHub, Some(hub)) => self.delete(&operation, &hub).await,
                (OperationKind::DeleteGroup, _) => self.delete_group().await,
                (_, None) => Outcome::Record(self.finish(None, None)),
            };
            match outcome {
                Outcome::Record(command) => self.submit(command).await,
                Outcome::Again(why) => {
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
        Outcome::Record(Command::StepEnded {
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
            Outcome::Record(self.finish(None, None))
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
        Outcome::Record(self.finish(None, None))
    }

    /// The control plane itself knows whether all hubs of the group are gone; it refuses to finish before.
    async fn delete_group(&self) -> Outcome {
        tokio::time::sleep(AGAIN).await;
        Outcome::Record(self.finish(None, None))
    }

    async fn failover(&mut self, operation: &Operation, hub: &Hub) -> Outcome {
        let now = self
            .region
            .clock
            .now()
            .max(self.region.plane.with(|state| state.time));
        let action = next_action(operation, hub, now, &Timings::default());
        if let (true, Some(step)) = (action.needs_start(operation), action.step()) {
            return Outcome::Record(Command::StepStarted {
                operation: self.id.clone(),
                step,
            });
        }
        let Some(switch) = operation.switch() else {
            return Outcome::Again("not a failover".into());
        };
        let (from, to, epoch) = (switch.from.clone(), switch.to.clone(), switch.epoch);
        match action {
            Action::GatherFacts => self.check(hub, &to).await,
            Action::Warm => self.warm(hub, &from).await,
            Action::Fence => self.fence(hub, &from, epoch).await,
            Action::CatchUp => self.catch_up(operation, hub, &to).await,
            Action::Commit => {
                let detail = record(&CommitDetail {
                    epoch: epoch.next(),
                    primary: to,
                });
                Outcome::Record(Command::CommitFailover {
                    operation: self.id.clone(),
                    detail,
                })
            }
            Action::Open => self.open(hub, &from, &to, epoch.next()).await,
            Action::Reverse => self.reverse(operation, hub, &to).await,
            Action::Unfence => self.unfence(hub, &from, epoch).await,
            Action::RollBack { code, why } => {
                tracing::warn!(operation = %self.id, %code, %why, "rolling back");
                Outcome::Record(Command::RollBack {
                    operation: self.id.clone(),
                    code,
                    why,
                })
            }
            Action::Finish { error } => self.end(operation, hub, error).await,
            Action::Wait { why } => Outcome::Again(why),
        }
    }

    async fn check(&self, hub: &Hub, to: &RegionName) -> Outcome {
        let found = facts::evaluate(&self.region, hub, to, Some(&self.id)).await;
        self.ended(StepName::Check, record(&found))
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

    async fn fence(&self, hub: &Hub, from: &RegionName, epoch: Epoch) -> Outcome {
        match self
            .step(
                from,
                Call::Fence {
                    hub: hub.id,
                    epoch,
                    operation: self.id.clone(),
                },
            )
            .await
        {
            Ok(EngineAnswer::Fenced(handovers)) => {
                let partitions = handovers.iter().map(recorded).collect();
                self.ended(StepName::Fence, record(&HandoverDetail { partitions }))
            }
            other => Outcome::Again(format!("fencing {from}: {}", describe(other))),
        }
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

    async fn open(&self, hub: &Hub, from: &RegionName, to: &RegionName, epoch: Epoch) -> Outcome {
        let role = HubRole {
            settings: Arc::new(hub.settings()),
            role: Role::Primary,
            epoch,
            peer: Some(from.clone()),
        };
        match self.step(to, Call::Open { role }).await {
            Ok(EngineAnswer::Opened) => {}
            other => return Outcome::Again(format!("opening {to}: {}", describe(other))),
        }
        let mut detail = OpenDetail::default();
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
        match self.step(from, Call::Unfence { hub: hub.id, epoch }).await {
            Ok(EngineAnswer::Opened) => self.ended(
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
        Outcome::Record(self.finish(Some(report(operation, hub, &facts)), error))
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
}
