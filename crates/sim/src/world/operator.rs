//! The operator: looks with a dry run, starts failovers, planned and forced, sometimes cancels them.

use super::World;
use super::event::{Happening, Node, Submitter};
use super::gather::{Gathered, Question};
use crate::fault::Fault;
use crate::history::{Entry, RegionId};
use control::checks::CheckReport;
use control::{AcceptedLoss, Answer, Command, LossEstimate, RefusalCode, State};
use region::peer::Facts;
use serde_json::Value;
use types::{PartitionId, UnixMillis};

/// Something that happened so long before a dry run may still be felt in it.
const LINGERS_MS: i64 = 7000;
const CHECK_TIMEOUT_MS: i64 = 2000;

/// A dry run, until the real checks are there.
pub struct DryRun {
    pub ready: bool,
    pub why: String,
    /// When it began.
    pub began: i64,
    /// The policy lets it pass later: its verdict changes with time alone.
    pub too_soon: bool,
    pub forced: bool,
}

impl World {
    /// Begins with a dry run, if no failover runs.
    pub(super) fn operate(&mut self) {
        if self.phase != super::Phase::Storm {
            return;
        }
        let next = self.rng.range(self.operator_ms.0, self.operator_ms.1);
        self.after(next, Happening::Operator);
        let forced = if self.primary_is_troubled() {
            self.rng.chance(self.forced_percent)
        } else {
            self.rng.chance(self.forced_percent / 10)
        };
        self.look_before(forced);
    }

    /// Somebody told the operator that the primary is lost.
    pub(super) fn force(&mut self) {
        if self.phase != super::Phase::Storm {
            return;
        }
        let running = self.plane.state.running_operations().next();
        match running.map(|operation| (operation.id.clone(), operation.can_cancel())) {
            None => self.look_before(true),
            Some((_, false)) => {}
            Some((operation, true)) => {
                self.cancel(operation);
                let again = self.rng.range(200, 1500);
                self.after(again, Happening::Force);
            }
        }
    }

    /// A member through which the operator can act.
    pub(super) fn operators_node(&mut self) -> Option<Node> {
        let able: Vec<Node> = (0..2)
            .filter(|region| self.awake(*region))
            .filter(|region| self.seat_of(*region).is_some_and(|seat| seat.trusted))
            .collect();
        (!able.is_empty()).then(|| *self.rng.pick(&able))
    }

    /// What an operator would see on a dashboard, and be alarmed.
    fn primary_is_troubled(&self) -> bool {
        let Some(hub) = self.plane.state.hub(super::HUB) else {
            return false;
        };
        let primary = self.region_id(&hub.primary);
        let process = self.regions[primary].process.as_ref();
        let lapsed = process.is_none_or(|p| p.lease_until <= self.monotonic(primary));
        lapsed || !self.reaches_leader(primary)
    }

    /// The dry run of a failover to the present secondary.
    pub(super) fn look_before(&mut self, forced: bool) {
        let Some(node) = self.operators_node() else {
            return;
        };
        let view = self.seat_of(node).expect("it is able").view.clone();
        let Some(hub) = view.hub(super::HUB).filter(|hub| hub.operation.is_none()) else {
            return;
        };
        let Some(secondary) = hub.secondary() else {
            return;
        };
        let sides: [RegionId; 2] = [self.region_id(&hub.primary), self.region_id(secondary)];
        self.operations += 1;
        let operation = format!("f{}", self.operations);
        let dry_run = DryRun {
            ready: false,
            why: String::new(),
            began: self.now,
            too_soon: false,
            forced,
        };
        self.dry_runs.insert(operation.clone(), dry_run);
        let then = Gathered::DryRun { operation };
        self.gather(node, hub.id, &sides, CHECK_TIMEOUT_MS, then);
    }

    pub(super) fn dry_run_has_facts(
        &mut self,
        node: Node,
        operation: String,
        asked: UnixMillis,
        found: Vec<Option<Facts>>,
    ) {
        let Some(seat) = self.seat_of(node) else {
            return;
        };
        let view = seat.view.clone();
        let Some(hub) = view.hub(super::HUB) else {
            return;
        };
        let Some(to) = hub.secondary().cloned() else {
            return;
        };
        let forced = self
            .dry_runs
            .get(&operation)
            .is_some_and(|dry_run| dry_run.forced);
        let mut question = Question {
            hub,
            to: &to,
            asked,
            found: &found,
            operation: None,
            forced,
            accept: None,
        };
        let Some(first) = self.evaluate(node, &question) else {
            return;
        };
        let accept = self.accepts(first.loss.as_ref());
        question.accept = Some(&accept);
        let report = self
            .evaluate(node, &question)
            .expect("it was just evaluated");
        let lies = self.fault == Some(Fault::DryRunLies);
        if let Some(dry_run) = self.dry_runs.get_mut(&operation) {
            dry_run.ready = report.ready != lies;
            dry_run.why = report.why_not();
            dry_run.too_soon = report.earliest.is_some();
        }
        let (hub, reason) = (hub.id, "simulated".to_owned());
        let command = if forced {
            Command::StartForcedFailover {
                hub,
                to,
                operation: operation.clone(),
                reason,
                excluded: false,
                accept,
                shown: report.loss.unwrap_or_else(|| nothing_known(&view)),
            }
        } else {
            Command::StartFailover {
                hub,
                to,
                operation: operation.clone(),
                reason,
                excluded: false,
                drill: None,
            }
        };
        self.script_hears(&command);
        let Some(life) = self.life(node) else { return };
        let from = Submitter::Operator {
            node,
            life,
            operation,
        };
        self.submit(from, command);
    }

    /// The loss that the operator accepts, having seen the estimate: sometimes too little.
    fn accepts(&mut self, shown: Option<&LossEstimate>) -> AcceptedLoss {
        let nothing = AcceptedLoss::default();
        match (self.rng.below(100), shown) {
            (n, Some(shown)) if n < self.accept_span_percent => AcceptedLoss {
                span_ms: Some(shown.span_ms + self.rng.range(-200, 2000)),
                ..nothing
            },
            (n, _) if n >= 100 - self.accept_nothing_percent => AcceptedLoss {
                records: Some(0),
                ..nothing
            },
            _ => AcceptedLoss {
                all: true,
                ..nothing
            },
        }
    }

    pub(super) fn failover_asked(&mut self, operation: &str, answer: Option<Answer>) {
        match answer {
            // Another failover began meanwhile: that is a change.
            Some(Answer::Refused(refusal)) if refusal.code == RefusalCode::HubNotActive => {
                drop(self.dry_runs.remove(operation))
            }
            Some(Answer::Refused(refusal)) => {
                self.compare_dry_run(operation, false, refusal.message)
            }
            Some(_) if self.rng.chance(self.cancel_percent) => {
                let late = self.rng.range(0, 1500);
                self.after(
                    late,
                    Happening::Cancel {
                        operation: operation.to_owned(),
                    },
                );
            }
            _ => {}
        }
    }

    pub(super) fn cancel(&mut self, operation: String) {
        let Some(node) = (0..2).find(|region| self.awake(*region)) else {
            return;
        };
        let life = self.life(node).expect("it is awake");
        let from = Submitter::Nobody { node, life };
        self.submit(from, Command::CancelFailover { operation });
    }

    /// The check step of the real failover has ended.
    pub(super) fn real_checks(&mut self, operation: &str, detail: &Value) {
        if let Ok(report) = serde_json::from_value::<CheckReport>(detail.clone()) {
            self.compare_dry_run(operation, report.ready, report.why_not());
        }
    }

    fn compare_dry_run(&mut self, operation: &str, real: bool, why_not: String) {
        let Some(dry_run) = self.dry_runs.remove(operation) else {
            return;
        };
        // Two regions that do not reach each other see different things.
        let parted = !self.link.is_up();
        let changed =
            parted || dry_run.too_soon || self.last_disturbed >= dry_run.began - LINGERS_MS;
        let why = format!("dry run: '{}'; real: '{why_not}'", dry_run.why);
        self.record(Entry::DryRun {
            operation: operation.to_owned(),
            ready: dry_run.ready,
            real,
            changed,
            why,
        });
    }
}

/// The estimate when the secondary cannot be asked: nothing is known of any partition.
fn nothing_known(view: &State) -> LossEstimate {
    let count = view.hub(super::HUB).map_or(0, |hub| hub.partition_count);
    LossEstimate {
        unknown: (0..count).map(PartitionId).collect(),
        ..LossEstimate::default()
    }
}
