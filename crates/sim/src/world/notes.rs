//! What the history says of the control plane's commands, and what strikes at a failover's steps.

use super::World;
use super::clients::group_of;
use super::event::Submitter;
use crate::fault::Fault;
use crate::history::{Entry, Shown};
use control::model::OperationStatus;
use control::{AcceptedLoss, Answer, Command, LossEstimate, Position};
use types::PartitionKey;

impl World {
    pub(super) fn note_command(&mut self, command: &Command, answer: &Answer) {
        if matches!(answer, Answer::Refused(_)) {
            return;
        }
        match command {
            Command::StartFailover { operation, .. } => self.record(Entry::Asked {
                operation: operation.clone(),
            }),
            Command::StartForcedFailover {
                operation,
                shown,
                accept,
                ..
            } => self.forced_noted(operation, shown, accept),
            Command::Returned {
                operation,
                partitions,
                ..
            } => {
                self.disturbed();
                self.script_sees_return("returned");
                let ranges = partitions.iter().map(|range| {
                    let at = PartitionKey {
                        hub: super::HUB,
                        partition: range.partition,
                    };
                    (at, range.from, range.to, range.records, range.events)
                });
                self.record(Entry::Returned {
                    operation: operation.clone(),
                    ranges: ranges.collect(),
                });
            }
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
                if *step == control::StepName::Open {
                    self.divergence_noted(operation);
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
                if status != "succeeded" {
                    self.script_sees("rollback", true);
                }
                if self.phase == super::Phase::Founding {
                    let (node, life) = (0, self.regions[0].life);
                    let command = Command::PutConsumerGroup {
                        hub: super::HUB,
                        name: group_of(1),
                    };
                    self.submit(Submitter::Nobody { node, life }, command);
                }
            }
            _ => {}
        }
    }

    fn forced_noted(&mut self, operation: &str, shown: &LossEstimate, accept: &AcceptedLoss) {
        let Some(switch) = self
            .plane
            .state
            .operations
            .get(operation)
            .and_then(|op| op.switch())
        else {
            return;
        };
        let (from, epoch) = (self.region_id(switch.from), switch.epoch);
        let operation = operation.to_owned();
        if !self.noted.insert((operation.clone(), "forced")) {
            return;
        }
        self.record(Entry::Asked {
            operation: operation.clone(),
        });
        let mut seen = Shown {
            records: shown.records,
            span_ms: shown.span_ms,
            age_ms: shown.age_ms,
            worst_ms: shown.worst_ms,
            old_ms: self.plane.state.time.since(shown.at).max(0),
            unknown: shown.unknown.len(),
        };
        if self.fault == Some(Fault::LossHidden) {
            seen = Shown::default();
        }
        self.record(Entry::Forced {
            operation,
            from,
            epoch,
            shown: seen,
            accepted: (!accept.all).then_some((accept.span_ms, accept.records)),
        });
    }

    /// The open step of a forced failover has ended: where the histories part is known.
    fn divergence_noted(&mut self, operation: &str) {
        let Some(hub) = self.plane.state.hub(super::HUB) else {
            return;
        };
        let parted = hub
            .divergences
            .iter()
            .find(|parted| parted.operation == *operation);
        let Some(parted) = parted.cloned() else {
            return;
        };
        if !self.noted.insert((operation.to_owned(), "parted")) {
            return;
        }
        let place = |position: &Position| {
            let at = PartitionKey {
                hub: super::HUB,
                partition: position.partition,
            };
            (at, position.lsn, position.next_sequence)
        };
        self.record(Entry::Diverged {
            operation: parted.operation,
            from: self.region_id(&parted.from),
            epoch: parted.epoch,
            positions: parted.partitions.iter().map(place).collect(),
        });
    }

    fn step_noted(&mut self, operation: &str, step: &'static str, ended: bool) {
        self.record(Entry::Step {
            operation: operation.to_owned(),
            step,
            ended,
        });
        self.trouble_at_step(step, ended);
        self.script_sees(step, ended);
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
